"""Denoising by a network that was trained on simulated patients."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from recon import checks
from recon.errors import CheckpointError, ConfigError, ShapeError
from restoration.denoisers.noise_level import noise_level
from restoration.weights.store import SHIPPED, load_weights, read_card

_TILE: Final = 896  # pixels along a side that are denoised at once, a multiple of what any network halves
_HALO: Final = 64  # pixels around them that the networks look at
_LEAST: Final = 32  # pixels along a side; smaller images are continued


@dataclass(frozen=True)
class Learned:
    """A trained network as a denoiser of CT images.

    It was trained on reconstructions of phantoms only; its card says how much it gains on them and on real slices.

    Args:
        name: of the weights: "unet-ldct" or "red-cnn" in the folder that raymend ships.
        folder: where the weights are.
    """

    name: str = "unet-ldct"
    folder: Path = SHIPPED

    @property
    def path(self) -> Path:
        """Where the weights are."""
        return Path(self.folder) / f"{self.name}.safetensors"

    @property
    def card(self) -> dict[str, Any]:
        """What the weights are: network, recipe, training patients, scores.

        Raises:
            CheckpointError: it is missing or damaged.
        """
        return read_card(self.path)

    def missing(self) -> str:
        """Say why it cannot run, or nothing if it can."""
        try:
            self._loaded(torch.device("cpu"))
        except CheckpointError as error:
            return str(error)
        return ""

    def __call__(self, image: Tensor, noise: float | None = None, strength: float = 1.0) -> Tensor:
        """Denoise slice by slice.

        Args:
            image: HU, float32 (z, y, x).
            noise: standard deviation of the noise in HU, as `noise_level` tells it; None asks it of each slice.
            strength: factor on the level that the U-Net is told; on what RED-CNN, which is told none, takes away.

        Returns:
            HU, of the shape of the image, on its device.

        Raises:
            ShapeError: an image of other axes or another type.
            NumericalError: NaN or Inf.
            ConfigError: a negative noise or strength.
            CheckpointError: weights that are missing or damaged.
        """
        checks.all_finite("image", checks.floating("image", image))
        if image.ndim != 3 or image.dtype != torch.float32:
            raise ShapeError(f"image: expected float32 (z, y, x), got {image.dtype} {tuple(image.shape)}")
        for name, value in (("noise", noise), ("strength", strength)):
            if value is not None and checks.finite(name, value) < 0:
                raise ConfigError(f"{name}: expected 0 or more, got {value}")
        model, unit = self._loaded(image.device)
        slices = [self._slice(model, unit, one, noise, strength) for one in image]
        return torch.stack(slices) if slices else image.clone()

    def _slice(self, model: nn.Module, unit: float, plane: Tensor, noise: float | None, strength: float) -> Tensor:
        told = bool(model.level)
        level = (noise_level(plane) if noise is None else noise) * strength / unit if told else 0.0
        found = _tiled(model, plane / unit, level) * unit
        return found if told or strength == 1 else plane + strength * (found - plane)

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
