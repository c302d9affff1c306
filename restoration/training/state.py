"""Tensors and what belongs to them in one safetensors file, written whole or not at all."""

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from recon.errors import CheckpointError
from recon.io.atomic import atomic_write

_FORMAT = "raymend-training 1"


def save_state(path: "str | os.PathLike[str]", tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write tensors, and numbers and texts about them.

    Args:
        path: where to write; an old file is replaced at the end, in one go.
        tensors: by name.
        about: what JSON can hold.

    Raises:
        ConfigError: a target that cannot be written.
        ResourceError: the disk is full.
    """
    stored = {name: tensors[name].detach().cpu().contiguous().clone() for name in sorted(tensors)}
    text = json.dumps(about, sort_keys=True)
    with atomic_write(path) as temporary:
        save_file(stored, temporary, metadata={"format": _FORMAT, "about": text, "sha256": _digest(stored, text)})


def load_state(path: "str | os.PathLike[str]") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_state` wrote.

    Args:
        path: the file.

    Raises:
        CheckpointError: the file is missing, damaged, of another kind, or from another version.
    """
    name = os.fspath(path)
    try:
        with safe_open(name, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{name}: expected a whole file of training, got {error}; train it again") from error
    if metadata.get("format") != _FORMAT:
        raise CheckpointError(f"{name}: expected {_FORMAT!r}, got {metadata.get('format')!r}; name another file")
    if metadata["sha256"] != _digest(tensors, metadata["about"]):
        raise CheckpointError(f"{name}: expected its checksum, got another; the file is damaged, train it again")
    return tensors, json.loads(metadata["about"])


def _digest(tensors: Mapping[str, Tensor], text: str) -> str:
    found = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
