"""Voxel-driven backprojection: which path takes which maps. Its transpose is in `recon.kernels.gpu.shadow_adjoint`."""

import torch
from torch import Tensor

from recon.kernels import forms
from recon.kernels.gpu import shadow_blocks, shadow_lines, shadow_stack, steady
from recon.kernels.gpu.shadow_tables import half_factor
from recon.kernels.maps import Maps
from recon.kernels.plans import Kept

_FEWEST_SLICES = 16  # that fill enough lanes along z


def backproject(maps: Maps, values: Tensor, precision: str = "single") -> Tensor:
    """Sum projections (batch, view, row, column) read at each voxel's shadow: (batch, z, y, x)."""
    values = values.detach()
    if values.numel() == 0:
        return values.new_zeros(len(values), *maps.grid_shape)
    half = precision == "half" and values.dtype == torch.float32
    storage, factor = (torch.float16, half_factor(values)) if half else (values.dtype, None)
    form = _form(maps) if values.dtype == torch.float32 else ""
    out = _PATHS[form](maps, values, storage, factor)
    return out if factor is None else out.div_(factor)


@Kept
def _form(maps: Maps) -> str:
    """Name the path that takes some maps; the general one has no name."""
    z, _, x = maps.grid_shape
    if forms.flat_stack(maps):
        return "parallel"
    if forms.one_plane(maps, x):
        return "fan"
    return "steady" if z >= _FEWEST_SLICES and forms.steady(maps) else ""


def _parallel(maps: Maps, values: Tensor, storage: torch.dtype, factor: Tensor | None) -> Tensor:
    """Backproject slices seen by parallel rays: each reads between two rows, and then columns."""
    images = _rows(maps, values).flatten(0, 1)
    out = _plane(maps, images, shadow_lines.PARALLEL, storage, factor)
    return out.unflatten(0, (len(values), maps.grid_shape[0]))


def _rows(maps: Maps, values: Tensor) -> Tensor:
    """Read projections at the row of each slice: (batch, slice, view, column)."""
    rows = maps.detector_shape[0]
    a, w = maps.matrices[:, 0], maps.matrices[:, 2, 3]
    row = (a[:, :1] * torch.arange(maps.grid_shape[0]).double() + a[:, 3:]) / w[:, None]
    first = row.floor()
    out = values.new_zeros(())
    for i, share in ((first, first + 1 - row), (first + 1, row - first)):
        share = torch.where((i >= 0) & (i < rows), share, 0.0)
        if bool((share != 0).any()):
            at = i.clamp(0, rows - 1).long().to(values.device)
            views = torch.arange(len(row), device=values.device)[:, None]
            out = out + values[:, views, at] * share[..., None].to(values)
    if out.ndim == 0:
        out = out.expand(len(values), len(row), row.shape[1], values.shape[3])
    return out.transpose(1, 2)


def _fan(maps: Maps, values: Tensor, storage: torch.dtype, factor: Tensor | None) -> Tensor:
    """Backproject slices seen by a detector row in their plane."""
    beam = shadow_lines.ARC if maps.arc else shadow_lines.FLAT
    return _plane(maps, values[:, :, 0], beam, storage, factor)[:, None]


def _plane(maps: Maps, images: Tensor, beam: int, storage: torch.dtype, factor: Tensor | None) -> Tensor:
    if len(images) >= shadow_stack.FEWEST:
        return shadow_stack.backproject(maps, images, storage, factor)
    return shadow_lines.backproject(maps, images, beam, storage, factor)


_PATHS = {"parallel": _parallel, "fan": _fan, "steady": steady.backproject, "": shadow_blocks.backproject}
