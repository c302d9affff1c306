"""Checkpoints of Noise2Inverse: weights and Adam's moments in one safetensors file, written whole or not at all."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from recon.errors import CheckpointError, FormatError
from recon.io.atomic import atomic_write
from recon.io.limits import regular_file

_FORMAT = "raymend-noise2inverse 1"
_MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(eq=False)
class Progressed:
    """A network, what trains it, and how many steps were done."""

    network: nn.Module
    adam: torch.optim.Adam
    step: int = 0

    def tensors(self) -> dict[str, Tensor]:
        """Return copies of the weights and of their moments, by name; no moments before the first step."""
        found: dict[str, Tensor] = {}
        for name, weight in self.network.named_parameters():
            found[name] = weight.detach().cpu().clone(memory_format=torch.contiguous_format)
            for moment in _MOMENTS if self.step else ():
                held = self.adam.state[weight][moment]
                found[f"{name}.{moment}"] = held.detach().cpu().clone(memory_format=torch.contiguous_format)
        return found

    def restore(self, tensors: dict[str, Tensor], step: int) -> None:
        """Take over weights, moments and the number of steps."""
        for name, weight in self.network.named_parameters():
            weight.data.copy_(tensors[name])
            if step:
                moments = {moment: torch.empty_like(weight).copy_(tensors[f"{name}.{moment}"]) for moment in _MOMENTS}
                self.adam.state[weight] = {"step": torch.tensor(float(step)), **moments}
        self.step = step


def fingerprint(images: Tensor, settings: dict[str, Any]) -> str:
    """Return what tells one training from another: its data and settings."""
    digest = hashlib.sha256(json.dumps([list(images.shape), settings], sort_keys=True).encode())
    digest.update(images.cpu().contiguous().numpy().data)
    return digest.hexdigest()


def save(path: Path, state: Progressed, problem: str) -> None:
    """Write a training so that `load` goes on with the same bits."""
    tensors = state.tensors()
    about = json.dumps({"step": state.step, "problem": problem}, sort_keys=True)
    with atomic_write(path) as temporary:
        save_file(tensors, temporary, {"format": _FORMAT, "about": about, "sha256": _digest(tensors, about)})


def load(path: Path, state: Progressed, problem: str) -> int:
    """Restore a training and return how many steps it had.

    Raises:
        CheckpointError: the file is damaged, of another kind, or of other data or settings.
    """
    tensors, about = _read(path)
    if about.get("problem") != problem:
        raise CheckpointError(
            f"{path}: expected a training on this scan, grid, splits, steps and seed, got another one; choose another "
            "file"
        )
    try:
        state.restore(tensors, int(about["step"]))
    except (KeyError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path}: expected a training, but {error!r} does not fit; start anew") from error
    return state.step


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(regular_file(path), framework="pt") as file:
            labels = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        about = json.loads(labels.get("about", "{}"))
    except (SafetensorError, FormatError, OSError, ValueError) as error:
        raise CheckpointError(f"{path}: expected a checkpoint, but it cannot be read ({error}); start anew") from error
    if labels.get("format") != _FORMAT or labels.get("sha256") != _digest(tensors, labels["about"]):
        raise CheckpointError(f"{path}: expected {_FORMAT!r} with its sha256, got another or damaged file; start anew")
    return tensors, about


def _digest(tensors: dict[str, Tensor], about: str) -> str:
    digest = hashlib.sha256(about.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.numpy().data)
    return digest.hexdigest()
