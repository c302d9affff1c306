"""What priors share: a strength, lengths in mm so that voxels may change size, and work slab by slab."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from recon import checks, memory
from recon.errors import ConfigError
from recon.grid import VolumeGrid
from recon.iterative.terms import SmoothTerm

SLAB = 1 << 19  # voxels that are worked on at a time, so that temporary arrays stay in a near cache
_THINNEST = 8  # slices, as each slab also looks at its neighbours

Index = tuple[Any, ...]


@dataclass(frozen=True, kw_only=True)
class Prior(SmoothTerm):
    """A smooth penalty that approximates an integral over the volume (the area, for one slice).

    Strength and corners keep their meaning when the voxels change size.

    Args:
        strength: how much the prior counts; the data term is dimensionless.
        spacing: step between voxel centres (z, y, x) in mm; `on(grid)` sets it.

    Raises:
        ConfigError: a strength below 0, or steps that are no lengths.
    """

    strength: float = 1.0
    spacing: tuple[float, ...] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "strength", checked_strength(self.strength))
        object.__setattr__(self, "spacing", checks.lengths("spacing", self.spacing, len(self.spacing)))

    def on(self, grid: VolumeGrid) -> Self:
        """Return the prior for images on a grid."""
        return replace(self, spacing=grid.spacing)

    def stronger(self, factor: float) -> Self:
        """Return the prior with another strength, a multiple of its own."""
        return replace(self, strength=self.strength * factor)

    def _shape(self, x: Tensor) -> tuple[int, ...]:
        """Return the shape of the image without batch axes."""
        return tuple(x.shape[x.ndim - len(self.spacing) :])

    def _scale(self, x: Tensor) -> float:
        """Return strength times the volume of a voxel."""
        return self.strength * cell(self._shape(x), self.spacing)

    def _slab_axis(self, x: Tensor) -> int:
        """Return the first axis of the image along which there is more than one voxel."""
        first = x.ndim - len(self.spacing)
        return next((axis for axis in range(first, x.ndim) if x.shape[axis] > 1), first)

    def _added(self, x: Tensor, add: Callable[[Tensor, Tensor], None]) -> Tensor:
        """Return what `add` gives every voxel, slab by slab, so that nothing but the result is large."""
        out, axis = memory.like(x), self._slab_axis(x)
        for core, wide, inner in slabs(x.shape, axis, before=1):
            part = x[wide]
            given = torch.zeros_like(part)
            add(part, given)
            out[core] = given[inner]
            memory.release_after(x)
        return out


def slabs(shape: Sequence[int], axis: int, *, before: int) -> Iterator[tuple[Index, Index, Index]]:
    """Yield slabs along an axis: where each lies, where it lies with a neighbour on either side, and it in that."""
    head, count = (slice(None),) * axis, shape[axis]
    thick = max(_THINNEST, SLAB * count // math.prod(shape))
    for first in range(0, count, thick):
        last = min(first + thick, count)
        begin = max(first - before, 0)
        core, wide = slice(first, last), slice(begin, min(last + 1, count))
        yield (*head, core), (*head, wide), (*head, slice(first - begin, last - begin))


def cell(shape: Sequence[int], spacing: Sequence[float]) -> float:
    """Return the volume of a voxel in mm³, or its area in mm² if the image is one slice."""
    return math.prod(step for n, step in zip(shape, spacing, strict=True) if n > 1)


def checked_strength(value: float) -> float:
    """Return a strength of 0 or more."""
    if checks.finite("strength", value) < 0:
        raise ConfigError(f"strength: expected 0 or more, got {value}; 0 switches the prior off")
    return float(value)


def checked_corner(value: float, advice: str, *, name: str = "corner", unit: str = "1/mm²") -> float:
    """Return a corner above 0, or say what to take instead."""
    if not checks.finite(name, value, unit=unit) > 0:
        raise ConfigError(f"{name}: expected a number above 0 in {unit}, got {value}; {advice}")
    return float(value)
