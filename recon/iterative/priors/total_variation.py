"""Total variation, exactly by its proximal map, and rounded at its corner so that it has a gradient."""

import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from recon import checks, memory
from recon.grid import VolumeGrid
from recon.iterative.priors.base import Prior, cell, checked_corner, checked_strength, slabs
from recon.iterative.terms import Box, ProximableTerm
from recon.operators import Gradient, gradient_norm


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
        object.__setattr__(self, "strength", checked_strength(self.strength))
        object.__setattr__(self, "spacing", checks.lengths("spacing", self.spacing, len(self.spacing)))
        checks.counts("iterations", (self.iterations,), 1)

    def on(self, grid: VolumeGrid) -> "TotalVariation":
        """Return the prior for images on a grid."""
        return replace(self, spacing=grid.spacing)

    def stronger(self, factor: float, box: Box | None = None) -> "TotalVariation":
        """Return the prior with a multiple of its strength and, where one is given, another box."""
        return replace(self, strength=self.strength * factor, box=self.box if box is None else box)

    def value(self, x: Tensor) -> Tensor:
        """Return strength · ∫|∇x|, or infinity outside the box."""
        slopes: Tensor = self.operator(x)(x)
        length = slopes.norm(dim=-len(self.spacing) - 1).sum(dtype=torch.float64)
        total: Tensor = self.box.value(x) + self.bound(x) * length
        return total

    def prox(self, x: Tensor, step: float) -> Tensor:
        """Return the minimiser of ½‖z - x‖² + step · value(z)."""
        amount, gradient = step * self.bound(x), self.operator(x)
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

    def operator(self, x: Tensor) -> Gradient:
        """Return the gradient of images like one, in 1/mm."""
        return Gradient(x.shape[x.ndim - len(self.spacing) :], self.spacing)

    def bound(self, x: Tensor) -> float:
        """Return strength times the volume of a voxel: how long the dual vectors may be."""
        return self.strength * cell(x.shape[x.ndim - len(self.spacing) :], self.spacing)


@dataclass(frozen=True, kw_only=True)
class RoundedTV(Prior):
    """Penalise the length of the gradient, rounded where it is short: total variation that has a gradient itself.

    It is strength · ∫ (√(|∇x|² + corner²) - corner), isotropic, and comes the closer to `TotalVariation` of the same
    strength the smaller the corner is; then it also takes more iterations.

    Args:
        strength: how much the prior counts, as for `TotalVariation`.
        spacing: step between voxel centres (z, y, x) in mm; `on(grid)` sets it.
        corner: slope in 1/mm² below which the penalty is quadratic.

    Raises:
        ConfigError: a corner or strength that cannot be used; a corner of 0 is `TotalVariation`.

    Source:
        Acar and Vogel 1994, Inverse Problems 10(6): 1217-1229 (rounding); the parabolas above it as for the lagged
        diffusivity of Vogel and Oman 1996, SIAM Journal on Scientific Computing 17(1): 227-238.
    """

    corner: float = 1e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "corner", checked_corner(self.corner, "0 is TotalVariation"))

    def value(self, x: Tensor) -> Tensor:
        """Return strength · Σ volume · (√(|∇x|² + corner²) - corner)."""
        total = x.new_zeros((), dtype=torch.float64)
        for _, wide, inner in slabs(x.shape, self._slab_axis(x), before=0):
            length = self._length(x[wide])[inner]
            total = total + (length - self.corner).sum(dtype=torch.float64)
            memory.release_after(x)
        return self._scale(x) * total

    def gradient(self, x: Tensor) -> Tensor:
        """Return the penalty's gradient."""
        scale = self._scale(x)

        def forces(part: Tensor, out: Tensor) -> None:
            length = self._length(part)
            for axis, step in self._axes(part):
                short = part.shape[axis] - 1
                force = part.diff(dim=axis).mul_(scale / step**2).div_(length.narrow(axis, 0, short))
                out.narrow(axis, 1, short).add_(force)
                out.narrow(axis, 0, short).sub_(force)

        return self._added(x, forces)

    def curvature(self, x: Tensor, *, everywhere: bool = False) -> Tensor:
        """Return twice the sum of the bends, one over the rounded length of the gradient, of a voxel's differences."""
        scale = self._scale(x)

        def bends(part: Tensor, out: Tensor) -> None:
            bend = torch.full_like(part, 1 / self.corner) if everywhere else 1 / self._length(part)
            for axis, step in self._axes(part):
                short = part.shape[axis] - 1
                share = bend.narrow(axis, 0, short) * (2 * scale / step**2)
                out.narrow(axis, 1, short).add_(share)
                out.narrow(axis, 0, short).add_(share)

        return self._added(x, bends)

    def _length(self, part: Tensor) -> Tensor:
        """Return √(|∇x|² + corner²) of all voxels but those at the far end of a slab that goes on."""
        square = torch.full_like(part, self.corner**2)
        for axis, step in self._axes(part):
            short = part.shape[axis] - 1
            square.narrow(axis, 0, short).add_(part.diff(dim=axis).div_(step).square_())
        return square.sqrt_()

    def _axes(self, part: Tensor) -> list[tuple[int, float]]:
        """Return the axes of the image along which there is a neighbour, and the steps along them."""
        first = part.ndim - len(self.spacing)
        every = ((first + number, step) for number, step in enumerate(self.spacing))
        return [(axis, step) for axis, step in every if part.shape[axis] > 1]


def _into_ball(dual: Tensor, axis: int) -> Tensor:
    """Shorten vectors to length 1 at most."""
    length: Tensor = dual.norm(dim=axis, keepdim=True)
    return dual / length.clamp(min=1)
