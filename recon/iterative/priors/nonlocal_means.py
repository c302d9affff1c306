"""Non-local penalty: voxels whose surroundings look alike in a guide image should have alike values."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional

from recon import checks, memory
from recon.errors import ShapeError
from recon.iterative.priors.base import SLAB, Index, Prior, cell, checked_corner

_KEPT_BYTES = 1 << 30  # weights are kept up to this size, and computed anew beyond

Offset = tuple[int, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class NonLocal(Prior):
    """Penalise differences to voxels of a window, each by how alike the two are in a guide image.

    It is strength · Σ volume · (mean over the window of w ψ(difference)), with w = exp(-d²/scale²), d² the mean
    squared difference of the guide over the patches around the two voxels, and ψ Huber's function, or half the square
    without a corner. The weights stay as the guide has made them, so that the penalty is convex.

    Args:
        guide: image (z, y, x) in 1/mm that shows what is alike, such as FBP with a Hann window.
        scale: root mean squared difference of patches in 1/mm beyond which voxels count as different; about one
            standard deviation of the noise in the guide, times √2.
        corner: difference in 1/mm above which a pair counts as an edge all the same; None for no edges.
        search: half width of the window in mm.
        patch: half width of a patch in mm.
        strength: how much the prior counts; differences are in 1/mm, so that it is in 1/mm³ over the data's unit.
        spacing: step between voxel centres (z, y, x) in mm; `on(grid)` sets it.

    Raises:
        ConfigError: settings out of range.
        ShapeError: a guide that is not (z, y, x), or, in use, one of another shape than the image.

    Source:
        Buades, Coll and Morel 2005, Multiscale Modeling and Simulation 4(2): 490-530 (weights); Lou, Zhang, Osher and
        Bertozzi 2010, Journal of Scientific Computing 42: 185-197 (as a penalty of a reconstruction).
    """

    guide: Tensor
    scale: float
    corner: float | None = None
    search: float = 4.0
    patch: float = 2.0
    _weights: dict[Offset, Tensor] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.all_finite("guide", checks.floating("guide", self.guide))
        if self.guide.ndim != len(self.spacing):
            raise ShapeError(f"guide: expected an image (z, y, x) without batch axes, got {tuple(self.guide.shape)}")
        checked_corner(self.scale, "a large one is a quadratic prior over the window", name="scale", unit="1/mm")
        if self.corner is not None:
            checked_corner(self.corner, "take None for no edges", unit="1/mm")
        for name in ("search", "patch"):
            object.__setattr__(self, name, checks.positive(name, getattr(self, name), unit="mm"))

    def value(self, x: Tensor) -> Tensor:
        """Return the penalty."""
        total = x.new_zeros((), dtype=torch.float64)
        for near, far, weight in self._pairs(x):
            total = total + (weight * self._potential(x[far] - x[near])).sum(dtype=torch.float64)
        return total

    def gradient(self, x: Tensor) -> Tensor:
        """Return the penalty's gradient."""
        out = memory.like(x, fill=0)
        for near, far, weight in self._pairs(x):
            gap = x[far] - x[near]
            force = weight * gap if self.corner is None else weight * gap * self._bend(gap)
            out[far] += force
            out[near] -= force
        return out

    def curvature(self, x: Tensor, *, everywhere: bool = False) -> Tensor:
        """Return twice the weighted sum of the bends to all voxels of the window."""
        out = memory.like(x, fill=0)
        for near, far, weight in self._pairs(x):
            bend = 2 * weight if everywhere else 2 * weight * self._bend(x[far] - x[near])
            out[far] += bend
            out[near] += bend
        return out

    def _potential(self, gap: Tensor) -> Tensor:
        if self.corner is None:
            return 0.5 * gap**2
        size = gap.abs()
        inner = size.clamp(max=self.corner)
        return inner * (size - 0.5 * inner)

    def _bend(self, gap: Tensor) -> Tensor:
        return torch.ones_like(gap) if self.corner is None else self.corner / gap.abs().clamp(min=self.corner)

    def _pairs(self, x: Tensor) -> Iterator[tuple[Index, Index, Tensor]]:
        """Yield pairs, slab by slab: where their ends lie, and strength · volume · what they weigh."""
        shape = self._shape(x)
        if shape != tuple(self.guide.shape):
            raise ShapeError(f"guide: expected the image's shape {shape}, got {tuple(self.guide.shape)}; resample it")
        offsets = self._offsets(shape)
        factor = self.strength * cell(shape, self.spacing) / max(1, len(offsets))
        guide = self.guide.to(x)
        kept = guide.nbytes * len(offsets) <= _KEPT_BYTES
        for slab in _slabs(shape):
            for offset in offsets:
                near = tuple(
                    slice(max(0, -step, first), min(n, n - step, last))
                    for n, step, (first, last) in zip(shape, offset, slab, strict=True)
                )
                if any(part.stop <= part.start for part in near):
                    continue
                far = tuple(slice(p.start + step, p.stop + step) for p, step in zip(near, offset, strict=True))
                weight = self._weight(guide, offset, near, keep=kept)
                yield (..., *near), (..., *far), factor * weight
            memory.release_after(x)

    def _weight(self, guide: Tensor, offset: Offset, near: tuple[slice, ...], *, keep: bool) -> Tensor:
        """Return how alike voxels are to those at an offset."""
        if not keep:
            return self._alike(guide, offset, near)
        found = self._weights.get(offset)
        if found is None or found.dtype != guide.dtype or found.device != guide.device:
            every = tuple(slice(max(0, -o), min(n, n - o)) for n, o in zip(guide.shape, offset, strict=True))
            found = self._weights[offset] = self._alike(guide, offset, every)
        return found[tuple(slice(p.start - max(0, -o), p.stop - max(0, -o)) for p, o in zip(near, offset, strict=True))]

    def _alike(self, guide: Tensor, offset: Offset, near: tuple[slice, ...]) -> Tensor:
        """Compare patches around the voxels of a box with those at an offset; patches are cut off at the borders."""
        radii = self._radii(guide.shape, self.patch, least=0)
        wide = tuple(
            slice(max(p.start - r, 0, -o), min(p.stop + r, n, n - o))
            for p, r, o, n in zip(near, radii, offset, guide.shape, strict=True)
        )
        far = tuple(slice(p.start + o, p.stop + o) for p, o in zip(wide, offset, strict=True))
        square = (guide[far] - guide[wide]).square_()
        mean = _box_mean(square, radii)
        inner = tuple(slice(p.start - w.start, p.stop - w.start) for p, w in zip(near, wide, strict=True))
        return mean[inner].div_(-(self.scale**2)).exp_()

    def _offsets(self, shape: tuple[int, ...]) -> list[Offset]:
        """Return one of each pair of opposite steps within the window."""
        radii = self._radii(shape, self.search, least=1)
        steps = product(*(range(-r, r + 1) for r in radii))
        return [step for step in steps if step > (0,) * len(shape)]

    def _radii(self, shape: tuple[int, ...], length: float, *, least: int) -> list[int]:
        return [
            min(n - 1, max(least, round(length / step))) if n > 1 else 0
            for n, step in zip(shape, self.spacing, strict=True)
        ]


def _slabs(shape: tuple[int, ...]) -> Iterator[tuple[tuple[int, int], ...]]:
    """Cut an image into slabs along its first axis with more than one voxel: first and end per axis."""
    axis = next((i for i, n in enumerate(shape) if n > 1), 0)
    thick = max(1, SLAB * shape[axis] // math.prod(shape))
    for first in range(0, shape[axis], thick):
        ends = [(0, n) for n in shape]
        ends[axis] = (first, min(first + thick, shape[axis]))
        yield tuple(ends)


def _box_mean(values: Tensor, radii: list[int]) -> Tensor:
    """Average (z, y, x) over boxes of so many voxels on either side, cut off at the borders, an axis at a time."""
    for axis, radius in enumerate(radii):
        if radius:
            rows = values.movedim(axis, -1)
            flat = rows.reshape(-1, 1, rows.shape[-1])
            mean = functional.avg_pool1d(flat, 2 * radius + 1, stride=1, padding=radius, count_include_pad=False)
            values = mean.reshape(rows.shape).movedim(-1, axis)
    return values
