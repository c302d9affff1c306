"""Penalties on slopes between neighbours, a potential each: smooth everywhere, or with edges that survive."""

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from recon import checks, memory
from recon.errors import ConfigError
from recon.iterative.priors.base import Index, Prior, cell, checked_corner, slabs

Offset = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class NeighbourPrior(Prior):
    """Penalise slopes between neighbouring voxels: strength · Σ volume · share · ψ(difference / distance).

    The shares of the directions add up as those of the axes alone.

    Args:
        strength: how much the prior counts; the data term is dimensionless, slopes are in 1/mm².
        spacing: step between voxel centres (z, y, x) in mm; `on(grid)` sets it.
        diagonals: include neighbours across edges and corners (26 instead of 6): smoother, at four times the cost.
    """

    diagonals: bool = False

    @abstractmethod
    def potential(self, slope: Tensor) -> Tensor:
        """Return ψ of slopes in 1/mm²."""

    @abstractmethod
    def bend(self, slope: Tensor) -> Tensor:
        """Return ψ'(t)/t, which is 1 at 0 and never rises with |t|."""

    def value(self, x: Tensor) -> Tensor:
        """Return the penalty."""
        total, axis = x.new_zeros((), dtype=torch.float64), self._slab_axis(x)
        for core, wide, _ in slabs(x.shape, axis, before=0):
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

    def _pairs(self, x: Tensor) -> Iterator[tuple[Index, Index, float, float]]:
        """Yield, per direction: where its two ends lie, their distance in mm, and strength · volume · share."""
        shape = self._shape(x)
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
        object.__setattr__(self, "corner", checked_corner(self.corner, "0 is TotalVariation"))

    def potential(self, slope: Tensor) -> Tensor:
        """Return t²/2 up to the corner c, then c|t| - c²/2."""
        size = slope.abs()
        inner = size.clamp(max=self.corner)
        return inner * (size - 0.5 * inner)

    def bend(self, slope: Tensor) -> Tensor:
        """Return 1 up to the corner c, then c/|t|."""
        return self.corner / slope.abs().clamp(min=self.corner)


@dataclass(frozen=True, kw_only=True)
class GeneralisedGaussian(NeighbourPrior):
    """Penalise small slopes by their square and large ones by a power q: edges survive, texture is rounded off.

    This is the q-generalised Gaussian Markov random field with p = 2, convex for q from 1 on.

    Args:
        strength: how much the prior counts, as for `Huber`.
        corner: slope in 1/mm² around which the square turns into the power.
        exponent: q, from 1 (like Huber) to below 2 (like Quadratic).

    Raises:
        ConfigError: a corner, exponent or strength that cannot be used.

    Source:
        Thibault, Sauer, Bouman and Hsieh 2007, Medical Physics 34(11): 4526-4544, eq. 6.
    """

    strength: float = 1e6
    corner: float = 5e-4
    exponent: float = 1.2

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "corner", checked_corner(self.corner, "0 is TotalVariation"))
        if not 1 <= checks.finite("exponent", self.exponent) < 2:
            raise ConfigError(f"exponent: expected 1 or more and below 2, got {self.exponent}; 2 is Quadratic")

    def potential(self, slope: Tensor) -> Tensor:
        """Return t²/2 / (1 + |t/c|^(2 - q))."""
        return 0.5 * slope**2 / (1 + self._rise(slope))

    def bend(self, slope: Tensor) -> Tensor:
        """Return (1 + q/2 u) / (1 + u)² with u = |t/c|^(2 - q)."""
        rise = self._rise(slope)
        return (1 + 0.5 * self.exponent * rise) / (1 + rise) ** 2

    def _rise(self, slope: Tensor) -> Tensor:
        # The tiny share keeps the derivative of a power below 1 finite where the slope is 0.
        floor = self.corner * torch.finfo(slope.dtype).eps
        return (slope.abs().clamp_min(floor) / self.corner) ** (2 - self.exponent)


@dataclass(frozen=True, kw_only=True)
class AnisotropicDiffusion(NeighbourPrior):
    """Penalise slopes less and less as they grow, so that edges do not only survive but sharpen.

    Its gradient is the anisotropic diffusion of Perona and Malik. It is not convex: where iterations end depends on
    where they start, so start from a smooth image such as FBP with a Hann window.

    Args:
        strength: how much the prior counts, as for `Huber`.
        corner: slope K in 1/mm² at which diffusion has fallen to half.

    Raises:
        ConfigError: a corner or strength that cannot be used.

    Source:
        Perona and Malik 1990, IEEE TPAMI 12(7): 629-639 (second diffusivity); the potential is the Lorentzian of
        Black, Sapiro, Marimont and Heeger 1998, IEEE TIP 7(3): 421-432.
    """

    strength: float = 1e6
    corner: float = 5e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "corner", checked_corner(self.corner, "a large one is Quadratic"))

    def potential(self, slope: Tensor) -> Tensor:
        """Return K²/2 log(1 + (t/K)²)."""
        return 0.5 * self.corner**2 * torch.log1p((slope / self.corner) ** 2)

    def bend(self, slope: Tensor) -> Tensor:
        """Return 1 / (1 + (t/K)²)."""
        return 1 / (1 + (slope / self.corner) ** 2)


def _offsets(shape: Sequence[int], diagonals: bool) -> list[Offset]:
    """Return one of each pair of opposite steps to a neighbour, along axes with two voxels or more."""
    steps = product(*((-1, 0, 1) if n > 1 else (0,) for n in shape))
    half = [offset for offset in steps if offset > (0,) * len(shape)]
    return [offset for offset in half if diagonals or sum(map(abs, offset)) == 1]


def _end(offset: Offset, sign: int) -> Index:
    """Return where the voxels with a neighbour at `offset` (sign -1), or those neighbours (sign 1), lie."""
    part = {0: slice(None), 1: slice(1, None), -1: slice(None, -1)}
    return (..., *(part[sign * o] for o in offset))
