"""Fingerprints of terms, so that a stored state is never mixed with other data or settings."""

import hashlib
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recon.iterative.terms import Term, Terms
from recon.kernels.lines import Lines
from recon.operators import LinearOperator
from recon.operators.blocks import Blocks


def fingerprint(terms: Terms) -> str:
    """Return the SHA-256 of all that terms are made of: data, weights, operators, settings."""
    digest = hashlib.sha256()
    for term in terms:
        digest.update(type(term).__name__.encode())
        for name, part in _settings(term):
            digest.update(name.encode())
            _add(digest, part)
    return digest.hexdigest()


def _settings(term: Term) -> Iterable[tuple[str, Any]]:
    """Name what a term is made of; attributes of a plain class count unless they begin with an underscore."""
    if is_dataclass(term):
        return ((f.name, getattr(term, f.name)) for f in fields(term) if f.init)
    return ((name, part) for name, part in sorted(vars(term).items()) if not name.startswith("_"))


def _add(digest: Any, part: Any) -> None:
    if isinstance(part, Tensor):
        digest.update(f"{part.dtype}{tuple(part.shape)}".encode())
        digest.update(part.detach().cpu().contiguous().numpy().data)
    elif isinstance(part, np.ndarray):
        _add(digest, torch.from_numpy(part))
    elif isinstance(part, LinearOperator):
        digest.update(type(part).__name__.encode())
        for name, inner in sorted(part.__getstate__().items()):  # what makes a copy equal to it
            _add(digest, name)
            _add(digest, inner)
    # A projector makes its lines and blocks on first use: they follow from the rest and must not count.
    elif part is not None and not isinstance(part, Lines | Blocks):
        digest.update(repr(part).encode())
