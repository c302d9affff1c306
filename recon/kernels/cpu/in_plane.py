"""The fast path for rays that keep their height: which kernel, and how slices and detector rows relate.

A row at height z sees the slices below and above it with the weights of a hat, in every view and on every step of
its rays. So this is done once, on the smaller of volume and projections, and what remains are plane images.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from recon.kernels.cpu import plane, stack
from recon.kernels.cpu.tables import Tables, in_plane, row_heights, tabulate
from recon.kernels.lines import Lines
from recon.kernels.plans import Kept

STACKED = 8  # images from which `stack` is faster than `plane` one by one


@dataclass(frozen=True)
class Plan:
    """Ray tables, and the slices that the rows see: `below` with weight `down`, `above` with weight `up`."""

    tables: Tables
    slices: int
    below: Tensor
    above: Tensor
    down: Tensor
    up: Tensor
    aligned: bool  # every row sees the slice of its own number alone

    @property
    def blend_first(self) -> bool:
        """Tell whether rows are fewer than slices."""
        return len(self.below) <= self.slices

    def blend(self, slices: Tensor) -> Tensor:
        """Turn a stack of slices (batch, slice, ...) into what the rows see (batch, row, ...)."""
        if self.aligned:
            return slices
        return slices[:, self.below] * self.down + slices[:, self.above] * self.up

    def unblend(self, rows: Tensor) -> Tensor:
        """Apply the transpose of `blend`."""
        if self.aligned:
            return rows
        out = rows.new_zeros(len(rows), self.slices, *rows.shape[2:])
        return out.index_add_(1, self.below, rows * self.down).index_add_(1, self.above, rows * self.up)


def applies(lines: Lines, x: Tensor) -> bool:
    """Tell whether these rays keep their height; only single precision has fast kernels."""
    return x.dtype == torch.float32 and _plan(lines) is not None


def forward(lines: Lines, volume: Tensor) -> Tensor:
    """Integrate volumes (batch, z, y, x) along every ray: (batch, view, row, column)."""
    plan = _known(lines)
    volume = volume.detach()
    images = plan.blend(volume) if plan.blend_first else volume
    values = _project(plan.tables, images.flatten(0, 1)).unflatten(0, images.shape[:2])
    return (values if plan.blend_first else plan.blend(values)).transpose(1, 2).contiguous()


def adjoint(lines: Lines, projections: Tensor) -> Tensor:
    """Spread projections (batch, view, row, column) back over the voxels with the weights of `forward`."""
    plan = _known(lines)
    rows = projections.detach().transpose(1, 2)
    values = rows if plan.blend_first else plan.unblend(rows)
    images = _spread(plan.tables, values.flatten(0, 1)).unflatten(0, values.shape[:2])
    return plan.unblend(images) if plan.blend_first else images


def _project(tables: Tables, images: Tensor) -> Tensor:
    if len(images) >= STACKED:
        return stack.forward(tables, images)
    out = images.new_empty(len(images), len(tables.maps), tables.columns)
    for image, target in zip(images, out, strict=True):
        plane.forward(tables, image, target)
    return out


def _spread(tables: Tables, values: Tensor) -> Tensor:
    if len(values) >= STACKED or not tables.gather:
        return stack.adjoint(tables, values)
    out = values.new_empty(len(values), *tables.image)
    for value, target in zip(values, out, strict=True):
        plane.adjoint(tables, value, target)
    return out


def _known(lines: Lines) -> Plan:
    plan = _plan(lines)
    assert plan is not None  # `applies` said so
    return plan


@Kept
def _plan(lines: Lines) -> Plan | None:
    """Return the plan of some lines; None if they are not in plane."""
    return _made(lines) if in_plane(lines) else None


def _made(lines: Lines) -> Plan:
    slices = lines.grid_shape[0]
    heights = row_heights(lines).clamp(-1.0, slices)
    below = heights.floor()
    share = heights - below

    def weights(at: Tensor, weight: Tensor) -> Tensor:
        inside = (at >= 0) & (at < slices)
        return torch.where(inside, weight, 0.0).float()[:, None, None]

    return Plan(
        tables=tabulate(lines),
        slices=slices,
        below=below.clamp(0, slices - 1).long(),
        above=(below + 1).clamp(0, slices - 1).long(),
        down=weights(below, 1 - share),
        up=weights(below + 1, share),
        aligned=len(heights) == slices
        and math.isclose(float((heights - torch.arange(slices)).abs().max()), 0.0, abs_tol=1e-9),
    )
