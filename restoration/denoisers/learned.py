"""Denoising by a network that was trained on simulated patients."""

import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from recon.errors import CheckpointError
from restoration.denoisers.denoiser import Plane, Slicewise
from restoration.denoisers.noise_level import noise_level
from restoration.weights.store import SHIPPED, load_weights, read_card

_TILE: Final = 896  # pixels along a side that are denoised at once, a multiple of what any network halves
_HALO: Final = 64  # pixels around them that the networks look at
_LEAST: Final = 32  # pixels along a side; smaller images are continued


#: What a shipped network is called in tables, and where it is from.
_ABOUT: Final = {
    "unet": ("U-Net, trained on phantoms", "Ronneberger, Fischer and Brox 2015, MICCAI: 234-241; weights of our own"),
    "red-cnn": (
        "RED-CNN, trained on phantoms",
        "Chen et al. 2017, IEEE Transactions on Medical Imaging 36(12): 2524-2535; weights of our own",
    ),
}
_PATIENT: Final = re.compile(r"anatomy of a \w+ (\d+)")


class Learned(Slicewise):
    """A trained network as a denoiser of CT images.

    It was trained on reconstructions of phantoms only; its card says how much it gains on them and on real slices.

    Args:
        name: of the weights, such as "unet" or "red-cnn" in the folder that raymend ships.
        folder: where the weights are.
    """

    def __init__(self, name: str = "unet", folder: Path = SHIPPED) -> None:
        self.name, self.folder = name, Path(folder)
        self.label, self.source = _ABOUT.get(name, (f"network {name}", "the user's own"))

    @property
    def path(self) -> Path:
        """Where the weights are."""
        return self.folder / f"{self.name}.safetensors"

    @property
    def card(self) -> dict[str, Any]:
        """What the weights are: network, recipe, training patients, scores.

        Raises:
            CheckpointError: it is missing or damaged.
        """
        return read_card(self.path)

    @property
    def identity(self) -> dict[str, Any]:
        """What its images depend on: the checksum of the weights."""
        return {} if self.missing() else {"sha256": self.card["sha256"]}

    @property
    def note(self) -> str:
        """How much it gains on patients of the kind it was trained on, and on real slices."""
        scores = {} if self.missing() else self.card.get("scores", {})
        if "drop" not in scores:
            return ""
        inside, outside = (100 * scores[f"cut {domain}"] for domain in ("in domain", "out of domain"))
        return (
            f"trained on random patients only: takes {inside:.0f} % off the RMSE of other such patients, "
            f"{outside:.0f} % off that of real slices at the same dose (a drop by the factor {scores['drop']:.2f})"
        )

    def missing(self) -> str:
        """Say why it cannot run, or nothing if it can."""
        try:
            self._loaded(torch.device("cpu"))
        except CheckpointError as error:
            return str(error)
        return ""

    def trained_on(self, patient: str) -> bool:
        """Tell whether a patient, in the words of a comparison, was seen in training."""
        number = _PATIENT.fullmatch(patient)
        if number is None or self.missing():
            return False
        first, last = self.card["training patients"]["seeds"]
        return bool(first <= int(number[1]) <= last)

    def __call__(self, image: Tensor, *, noise: float | None = None, strength: float = 1.0) -> Tensor:
        """Return the image with less noise; see `Slicewise`.

        Raises:
            CheckpointError: weights that are missing or damaged.
        """
        self._loaded(torch.device("cpu"))
        return super().__call__(image, noise=noise, strength=strength)

    def _plane(self, plane: Plane, noise: float | None, strength: float) -> Tensor:
        """Denoise a slice; the strength scales the level a network is told, or else what it takes away."""
        model, unit = self._loaded(torch.device("cpu"))
        image, told = torch.from_numpy(plane), bool(model.level)
        measured = noise_level(image) if noise is None else noise
        if measured == 0:
            return image  # there is nothing to take away
        found = _tiled(model, image / unit, measured * strength / unit if told else 0.0) * unit
        return found if told or strength == 1 else image + strength * (found - image)

    def _denoised(self, plane: Plane, noise: float) -> Tensor:
        return self._plane(plane, noise, 1.0)

    def _loaded(self, device: torch.device) -> tuple[nn.Module, float]:
        stamp = tuple(_stamp(path) for path in (self.path, self.path.with_suffix(".json")))
        return _kept(self.path, stamp, device)


def _stamp(path: Path) -> tuple[int, int]:
    """Return what changes when a file does."""
    try:
        about = path.stat()
    except OSError:
        return 0, 0
    return about.st_mtime_ns, about.st_size


@lru_cache(maxsize=8)
def _kept(path: Path, stamp: object, device: torch.device) -> tuple[nn.Module, float]:
    model, card = load_weights(path)
    return model.to(device), float(card["unit"])


def _tiled(model: nn.Module, plane: Tensor, level: float) -> Tensor:
    """Denoise a plane (y, x), in tiles if it is large, which changes nothing but the memory it takes."""
    out = torch.empty_like(plane)
    for rows, inner_rows, y in _tiles(plane.shape[0]):
        for columns, inner_columns, x in _tiles(plane.shape[1]):
            out[y, x] = _denoised(model, plane[rows, columns], level)[inner_rows, inner_columns]
    return out


def _tiles(length: int) -> Iterator[tuple[slice, slice, slice]]:
    """Return what to look at along an axis, what of its result to keep, and where that goes."""
    if length <= _TILE + 2 * _HALO:
        yield slice(0, length), slice(0, length), slice(0, length)
        return
    for start in range(0, length, _TILE):
        stop, low = min(start + _TILE, length), max(0, start - _HALO)
        yield slice(low, min(stop + _HALO, length)), slice(start - low, stop - low), slice(start, stop)


def _denoised(model: nn.Module, plane: Tensor, level: float) -> Tensor:
    y, x = plane.shape
    fill = (0, max(0, _LEAST - x), 0, max(0, _LEAST - y))
    whole = nn.functional.pad(plane[None, None], fill, mode="replicate")
    with torch.inference_mode():
        found: Tensor = model(whole, torch.full((1,), level, dtype=plane.dtype, device=plane.device))
    return found[0, 0, :y, :x].clone()
