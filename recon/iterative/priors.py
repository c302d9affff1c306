"""What images look like: penalties on differences between neighbours, in mm, so that voxels may change size."""

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any, Self

import torch
from torch import Tensor

from recon import checks, memory
from recon.errors import ConfigError
from recon.grid import VolumeGrid
from recon.iterative.terms import Box, ProximableTerm, SmoothTerm
from recon.operators import Gradient, gradient_norm

_SLAB = 1 << 19  # voxels that are worked on at a time, so that temporary arrays stay in a near cache
_THINNEST = 8  # slices, as each slab also looks at its neighbours

Offset = tuple[int, ...]
Index = tuple[Any, ...]


@dataclass(frozen=True, kw_only=True)
class NeighbourPrior(SmoothTerm):
    """Penalise slopes between neighbouring voxels: strength · Σ volume · share · ψ(difference / distance).

    The sum approximates an integral over the volume (the area, for one slice), so that strength and corner keep
    their meaning when the voxels change size. The shares of the directions add up as those of the axes alone.

    Args:
        strength: how much the prior counts; the data term is dimensionless, slopes are in 1/mm².
        spacing: step between voxel centres (z, y, x) in mm; `on(grid)` sets it.
        diagonals: include neighbours across edges and corners (26 instead of 6): smoother, at four times the cost.
    """

    strength: float = 1.0
    spacing: tuple[float, ...] = (1.0, 1.0, 1.0)
    diagonals: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "strength", _strength(self.strength))
        object.__setattr__(self, "spacing", checks.lengths("spacing", self.spacing, len(self.spacing)))

    @abstractmethod
    def potential(self, slope: Tensor) -> Tensor:
        """Return ψ of slopes in 1/mm²."""

    @abstractmethod
    def bend(self, slope: Tensor) -> Tensor:
        """Return ψ'(t)/t, which is 1 at 0 and never rises with |t|."""

    def on(self, grid: VolumeGrid) -> Self:
        """Return the prior for images on a grid."""
        return replace(self, spacing=grid.spacing)

    def value(self, x: Tensor) -> Tensor:
        """Return the penalty."""
        total, axis = x.new_zeros((), dtype=torch.float64), self._slab_axis(x)
        for core, wide, _ in _slabs(x.shape, axis, before=0):
            for near, far, length, scale in self._pairs(x):
                across = near[axis - x.ndim] != slice(None)  # pairs belong to the slab of their nearer end
                part = x[wide] if across else x[core]
                total = total + scale * self.potential((part[far] - part[near]) / length).sum(dtype=torch.float64)
            memory.release_after(x)
        return total

    def gradient(self, x: Tensor) -> Tensor:
        """Return the penalty's gradient."""

        def forces(part: Tensor, out: Tensor) -> None:
            for near, far, length, scale in self._pairs(x):
                slope = (part[far] - part[near]) / length
                force = slope.mul_(self.bend(slope)).mul_(scale / length)
                out[far] += force
                out[near] -= force

        return self._added(x, forces)

    def curvature(self, x: Tensor, *, everywhere: bool = False) -> Tensor:
        """Return twice the sum of the bends to all neighbours.

        Source:
            Huber 1981, Robust Statistics, chapter 7 (bends); De Pierro 1995, IEEE TMI 14(1): 132-137 (separation).
        """

        def bends(part: Tensor, out: Tensor) -> None:
            for near, far, length, scale in self._pairs(x):
                bend = 1.0 if everywhere else self.bend((part[far] - part[near]) / length)
                out[far] += bend * (2 * scale / length**2)
                out[near] += bend * (2 * scale / length**2)

        return self._added(x, bends)

    def _added(self, x: Tensor, add: Callable[[Tensor, Tensor], None]) -> Tensor:
        """Return what `add` gives every voxel, slab by slab, so that nothing but the result is large."""
        out, axis = memory.like(x), self._slab_axis(x)
        for core, wide, inner in _slabs(x.shape, axis, before=1):
            part = x[wide]
            given = torch.zeros_like(part)
            add(part, given)
            out[core] = given[inner]
            memory.release_after(x)
        return out

    def _slab_axis(self, x: Tensor) -> int:
        """Return the first axis of the image along which there is more than one voxel."""
        first = x.ndim - len(self.spacing)
        return next((axis for axis in range(first, x.ndim) if x.shape[axis] > 1), first)

    def _pairs(self, x: Tensor) -> Iterator[tuple[Index, Index, float, float]]:
        """Yield, per direction: where its two ends lie, their distance in mm, and strength · volume · share."""
        shape = x.shape[x.ndim - len(self.spacing) :]
        offsets = _offsets(shape, self.diagonals)
        lengths = [math.hypot(*(o * s for o, s in zip(offset, self.spacing, strict=True))) for offset in offsets]
        axes = sum(n > 1 for n in shape)
        total = sum(1 / length**2 for length in lengths) if self.diagonals else axes
        for offset, length in zip(offsets, lengths, strict=True):
            share = axes / length**2 / total if self.diagonals else 1.0
            yield _end(offset, -1), _end(offset, 1), length, self.strength * cell(shape, self.spacing) * share


@dataclass(frozen=True, kw_only=True)
class Quadratic(NeighbourPrior):
    """Penalise squared slopes: smooth everywhere, edges included."""

    def potential(self, slope: Tensor) -> Tensor:
        """Return t²/2."""
        return 0.5 * slope**2

    def bend(self, slope: Tensor) -> Tensor:
        """Return 1."""
        return torch.ones_like(slope)


@dataclass(frozen=True, kw_only=True)
class Huber(NeighbourPrior):
    """Penalise small slopes by their square and large ones linearly, so that edges survive.

    Args:
        strength: how much the prior counts; 1e5 to 1e7 suit inverse variances as weights, and as many times less
            suits weights that are as many times smaller, such as ones.
        corner: slope in 1/mm² above which a difference counts as an edge; 5e-4 is some 25 HU per mm.

    Raises:
        ConfigError: a corner or strength that cannot be used; a corner of 0 is `TotalVariation`.

    Source:
        Huber 1964, Annals of Mathematical Statistics 35(1): 73-101.
    """

    strength: float = 1e6
    corner: float = 5e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        if not checks.finite("corner", self.corner, unit="1/mm²") > 0:
            raise ConfigError(f"corner: expected a slope above 0 in 1/mm², got {self.corner}; 0 is TotalVariation")

    def potential(self, slope: Tensor) -> Tensor:
        """Return t²/2 up to the corner c, then c|t| - c²/2."""
        size = slope.abs()
        inner = size.clamp(max=self.corner)
        return inner * (size - 0.5 * inner)

    def bend(self, slope: Tensor) -> Tensor:
        """Return 1 up to the corner c, then c/|t|."""
        return self.corner / slope.abs().clamp(min=self.corner)


@dataclass(frozen=True, kw_only=True)
class TotalVariation(ProximableTerm):
    """Penalise the length of the gradient: flat regions with sharp edges between them.

    Args:
        strength: how much the prior counts.
        spacing: step between voxel centres (z, y, x) in mm; `on(grid)` sets it.
        box: bounds the image must keep, part of the same proximal map.
        iterations: most inner iterations of the proximal map.
        tolerance: relative change of the image at which the inner iterations end.

    Source:
        Rudin, Osher and Fatemi 1992, Physica D 60: 259-268; proximal map by the fast gradient projection of Beck and
        Teboulle 2009, IEEE Transactions on Image Processing 18(11): 2419-2434, section IV, here in mm.
    """

    strength: float
    spacing: tuple[float, ...] = (1.0, 1.0, 1.0)
    box: Box = field(default_factory=Box)
    iterations: int = 50
    tolerance: float = 1e-5

    def __post_init__(self) -> None:
        object.__setattr__(self, "strength", _strength(self.strength))
        object.__setattr__(self, "spacing", checks.lengths("spacing", self.spacing, len(self.spacing)))
        checks.counts("iterations", (self.iterations,), 1)

    def on(self, grid: VolumeGrid) -> "TotalVariation":
        """Return the prior for images on a grid."""
        return replace(self, spacing=grid.spacing)

    def value(self, x: Tensor) -> Tensor:
        """Return strength · ∫|∇x|, or infinity outside the box."""
        slopes: Tensor = self._gradient(x)(x)
        length = slopes.norm(dim=-len(self.spacing) - 1).sum(dtype=torch.float64)
        total: Tensor = self.box.value(x) + self._scale(x) * length
        return total

    def prox(self, x: Tensor, step: float) -> Tensor:
        """Return the minimiser of ½‖z - x‖² + step · value(z)."""
        amount, gradient = step * self._scale(x), self._gradient(x)
        size = gradient_norm(gradient.domain_shape, self.spacing)
        if amount == 0 or size == 0:
            return self.box.prox(x)
        dual = point = x.new_zeros(*x.shape[: x.ndim - len(self.spacing)], *gradient.range_shape)
        image, t = None, 1.0
        for _ in range(self.iterations):
            before, image = image, self.box.prox(x - amount * gradient.T(point))
            if before is not None and float((image - before).norm()) <= self.tolerance * float(image.norm()):
                break
            following = _into_ball(point + gradient(image) / (amount * size**2), -len(self.spacing) - 1)
            t, t_before = (1 + math.sqrt(1 + 4 * t * t)) / 2, t
            dual, point = following, following + (t_before - 1) / t * (following - dual)
        return self.box.prox(x - amount * gradient.T(dual))

    def _gradient(self, x: Tensor) -> Gradient:
        return Gradient(x.shape[x.ndim - len(self.spacing) :], self.spacing)

    def _scale(self, x: Tensor) -> float:
        return self.strength * cell(x.shape[x.ndim - len(self.spacing) :], self.spacing)


def _slabs(shape: Sequence[int], axis: int, *, before: int) -> Iterator[tuple[Index, Index, Index]]:
    """Yield slabs along an axis: where each lies, where it lies with a neighbour on either side, and it in that."""
    head, count = (slice(None),) * axis, shape[axis]
    thick = max(_THINNEST, _SLAB * count // math.prod(shape))
    for first in range(0, count, thick):
        last = min(first + thick, count)
        begin = max(first - before, 0)
        core, wide = slice(first, last), slice(begin, min(last + 1, count))
        yield (*head, core), (*head, wide), (*head, slice(first - begin, last - begin))


def cell(shape: Sequence[int], spacing: Sequence[float]) -> float:
    """Return the volume of a voxel in mm³, or its area in mm² if the image is one slice."""
    return math.prod(step for n, step in zip(shape, spacing, strict=True) if n > 1)


def _strength(value: float) -> float:
    if checks.finite("strength", value) < 0:
        raise ConfigError(f"strength: expected 0 or more, got {value}; 0 switches the prior off")
    return float(value)


def _offsets(shape: Sequence[int], diagonals: bool) -> list[Offset]:
    """Return one of each pair of opposite steps to a neighbour, along axes with two voxels or more."""
    steps = product(*((-1, 0, 1) if n > 1 else (0,) for n in shape))
    half = [offset for offset in steps if offset > (0,) * len(shape)]
    return [offset for offset in half if diagonals or sum(map(abs, offset)) == 1]


def _end(offset: Offset, sign: int) -> Index:
    """Return where the voxels with a neighbour at `offset` (sign -1), or those neighbours (sign 1), lie."""
    part = {0: slice(None), 1: slice(1, None), -1: slice(None, -1)}
    return (..., *(part[sign * o] for o in offset))


def _into_ball(dual: Tensor, axis: int) -> Tensor:
    """Shorten vectors to length 1 at most."""
    length: Tensor = dual.norm(dim=axis, keepdim=True)
    return dual / length.clamp(min=1)
