"""Checkpoints of iterations: all of a solution in one safetensors file, written whole or not at all."""

import hashlib
import json
import os
import struct
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from recon import memory
from recon.errors import CheckpointError, CTError, FormatError, Status
from recon.io.atomic import atomic_write
from recon.io.limits import regular_file
from recon.iterative.solve import Solution
from recon.iterative.solvers import SOLVERS, Solver

_FORMAT = "raymend-checkpoint 1"
_KINDS = {torch.float32: "F32", torch.float64: "F64"}


def save_checkpoint(path: "str | os.PathLike[str]", solution: Solution) -> None:
    """Write a solution so that `load_checkpoint` gives back the same bits.

    Args:
        path: where to write; an old file is replaced at the end, in one go.
        solution: what `solve` returned, or what a callback was given.

    Raises:
        ConfigError: a target that cannot be written.
        ResourceError: the disk is full.
    """
    tensors, numbers = solution.state.parts()
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    about = {
        "solver": type(solution.solver).__name__,
        "settings": {f.name: getattr(solution.solver, f.name) for f in fields(solution.solver)},  # type: ignore[arg-type]
        "numbers": numbers,
        "history": solution.history,
        "status": solution.status.name,
        "detail": solution.detail,
        "problem": solution.problem,
    }
    text = json.dumps(about, sort_keys=True)
    with atomic_write(path) as temporary:
        _write(temporary, stored, {"format": _FORMAT, "about": text, "sha256": _digest(stored, text)})


def load_checkpoint(path: "str | os.PathLike[str]", *, device: str = "cpu") -> Solution:
    """Read a solution to pass to `solve` as `resume`.

    Args:
        path: a file by `save_checkpoint`.
        device: where its tensors shall live: that of the data.

    Raises:
        CheckpointError: the file is damaged, of another kind, or from another version.
    """
    name = os.fspath(path)
    tensors, about = _read(name)
    try:
        solver = _solver(about)
        state = solver.state_type.from_parts({k: t.to(device) for k, t in tensors.items()}, about["numbers"])
        history = {key: [float(v) for v in values] for key, values in about["history"].items()}
        return Solution(
            image=state.image,
            status=Status[about["status"]],
            history=history,
            state=state,
            solver=solver,
            problem=str(about["problem"]),
            detail=str(about["detail"]),
        )
    except CTError as error:
        raise CheckpointError(f"{name}: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{name}: expected a solution, but {error!r} does not fit; start anew") from error


def _write(path: Path, tensors: Mapping[str, Tensor], labels: Mapping[str, str]) -> None:
    """Write a safetensors file piece by piece; the library's own writer copies every tensor."""
    head: dict[str, Any] = {"__metadata__": dict(labels)}
    end = 0
    for name, tensor in tensors.items():
        begin, end = end, end + tensor.nbytes
        head[name] = {"dtype": _KINDS[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors.values():
            file.write(tensor.cpu().numpy().data)
            memory.release()


def _tensor(file: Any, name: str) -> Tensor:
    """Read a tensor to where the budget of memory has room for it."""
    stored = file.get_slice(name)
    shape = stored.get_shape()
    if not shape:
        whole: Tensor = file.get_tensor(name)
        return whole
    kinds = {text: kind for kind, text in _KINDS.items()}
    out = memory.empty(shape, dtype=kinds[stored.get_dtype()], name=name)
    for part in memory.parts(shape):
        out[part] = stored[part]
        memory.release_after(out)
    return out


def _read(name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and the rest, if they are what was written."""
    try:
        with safe_open(regular_file(name), framework="pt") as file:
            labels = file.metadata() or {}
            if labels.get("format") != _FORMAT:
                raise CheckpointError(f"{name}: expected {_FORMAT!r}, got {labels.get('format')!r}; start anew")
            tensors = {key: _tensor(file, key) for key in file.keys()}  # noqa: SIM118
        about = json.loads(labels.get("about", ""))
    except (SafetensorError, FormatError, OSError, ValueError, KeyError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{name}: expected a checkpoint, but it cannot be read ({error}); start anew") from error
    if _digest(tensors, labels["about"]) != labels.get("sha256"):
        raise CheckpointError(f"{name}: expected the sha256 it was written with, got another; the file is damaged")
    return tensors, about


def _solver(about: Mapping[str, Any]) -> Solver[Any]:
    if about["solver"] not in SOLVERS:
        raise CheckpointError(f"solver: expected one of {', '.join(SOLVERS)}, got {about['solver']!r}")
    return SOLVERS[about["solver"]](**about["settings"])


def _digest(tensors: Mapping[str, Tensor], about: str) -> str:
    digest = hashlib.sha256(about.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.numpy().data)
    return digest.hexdigest()
