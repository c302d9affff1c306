"""Texture: Gaussian random fields that any point in space can ask for, so that no grid is part of them."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates

from recon.random import generator

Plane = NDArray[np.floating[Any]]

_SIDE: Final = 64  # samples of the tile
_FINE: Final = 4.0  # samples per correlation length
_OCTAVES: Final = 3


@dataclass(frozen=True)
class Noise:
    """A random field of mean 0 and variance 1, drawn once from a seed and continued periodically.

    At length L its correlation over a distance d is exp(-(d/L)²) and its power falls as exp(-(π·f·L)²); it repeats
    after 16 L. Between samples, four to a length, it is linear, which takes 6 % off the variance.
    """

    seed: int

    @cached_property
    def _tile(self) -> Plane:
        rng = generator(self.seed)
        white = torch.randn((_SIDE, _SIDE, _SIDE), generator=rng, dtype=torch.float64).numpy()
        # white noise behind a Gaussian of deviation s is correlated as exp(-d²/4s²)
        smooth = gaussian_filter(white, _FINE / 2, mode="wrap")
        tile: Plane = ((smooth - smooth.mean()) / smooth.std()).astype(np.float32)
        return tile

    def at(self, z: Plane, y: Plane, x: Plane, length: float, channel: int = 0) -> Plane:
        """Return the field at points in mm, which broadcast, at a correlation length in mm.

        Channels start at different places of the same field, so that they look unrelated.
        """
        start = np.array([0.754877666, 0.569840291, 0.438579]) * _SIDE * (channel + 1)  # spread as evenly as can be
        points = np.broadcast_arrays(*(p * (_FINE / length) + s for p, s in zip((z, y, x), start, strict=True)))
        found: Plane = map_coordinates(self._tile, points, output=np.float32, order=1, mode="grid-wrap")
        return found

    def rough(self, z: Plane, y: Plane, x: Plane, length: float, channel: int = 0) -> Plane:
        """Return three octaves of the field, from `length` down to a quarter of it, each 0.7 as strong; variance 1."""
        strengths = 0.7 ** np.arange(_OCTAVES)
        layers = [self.at(z, y, x, length / 2**k, 7 * channel + 11 * k) * s for k, s in enumerate(strengths)]
        total: Plane = np.sum(layers, axis=0) / np.linalg.norm(strengths)
        return total
