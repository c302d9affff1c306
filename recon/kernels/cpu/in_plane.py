"""The fast path for rays that keep their height: which kernel, and whether slices or projections are blended."""

from dataclasses import dataclass

import torch
from torch import Tensor

from recon.kernels.cpu import plane, stack
from recon.kernels.cpu.tables import Tables, tabulate
from recon.kernels.in_plane import Blend, blend, in_plane
from recon.kernels.lines import Lines
from recon.kernels.plans import Kept

STACKED = 8  # images from which `stack` is faster than `plane` one by one


@dataclass(frozen=True)
class Plan:
    """Ray tables, and the slices that the rows see."""

    tables: Tables
    slices: Blend


def applies(lines: Lines, x: Tensor) -> bool:
    """Tell whether these rays keep their height; only single precision has fast kernels."""
    return x.dtype == torch.float32 and _plan(lines) is not None


def forward(lines: Lines, volume: Tensor) -> Tensor:
    """Integrate volumes (batch, z, y, x) along every ray: (batch, view, row, column)."""
    plan = _known(lines)
    volume = volume.detach()
    images = plan.slices.blend(volume) if plan.slices.first else volume
    values = _project(plan.tables, images.flatten(0, 1)).unflatten(0, images.shape[:2])
    return (values if plan.slices.first else plan.slices.blend(values)).transpose(1, 2).contiguous()


def adjoint(lines: Lines, projections: Tensor) -> Tensor:
    """Spread projections (batch, view, row, column) back over the voxels with the weights of `forward`."""
    plan = _known(lines)
    rows = projections.detach().transpose(1, 2)
    values = rows if plan.slices.first else plan.slices.unblend(rows)
    images = _spread(plan.tables, values.flatten(0, 1)).unflatten(0, values.shape[:2])
    return plan.slices.unblend(images) if plan.slices.first else images


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
    return Plan(tabulate(lines), blend(lines)) if in_plane(lines) else None
