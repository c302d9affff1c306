"""Voxel-driven backprojection: which path takes which maps. Its transpose is in `recon.kernels.gpu.shadow_adjoint`."""

import functools

import torch
from torch import Tensor

from recon.kernels import forms
from recon.kernels.gpu import shadow_blocks, shadow_lines, shadow_stack, steady
from recon.kernels.gpu.shadow_tables import Images, half_factor
from recon.kernels.maps import Maps
from recon.kernels.plans import Kept

_FEWEST_SLICES = 16  # that fill enough lanes along z
_WHOLE = 1e-9  # rows from a whole one that are rounding


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
    out = values.new_empty(len(values), *maps.grid_shape)
    _plane(maps, functools.partial(_rows, maps, values), out.flatten(0, 1), shadow_lines.PARALLEL, storage, factor)
    return out


def _rows(maps: Maps, values: Tensor, views: slice) -> Tensor:
    """Read some views at the row of each slice: (batch · slice, view, column)."""
    values, parts = values[:, views], []
    every = torch.arange(values.shape[1], device=values.device)[:, None]
    for at, share in _shares(maps, values.device):
        read = values[:, every, at[views]]
        parts.append(read if share is None else read * share[views])
    if not parts:
        return values.new_zeros(len(values) * maps.grid_shape[0], values.shape[1], values.shape[3])
    return functools.reduce(torch.add, parts).transpose(1, 2).flatten(0, 1)


def _find_shares(maps: Maps, device: torch.device) -> list[tuple[Tensor, Tensor | None]]:
    """Return rows (view, slice) that slices read, and their shares (view, slice, 1) or None where these are all one."""
    rows, w = maps.detector_shape[0], maps.matrices[:, 2, 3]
    row = (maps.matrices[:, 0, :1] * torch.arange(maps.grid_shape[0]).double() + maps.matrices[:, 0, 3:]) / w[:, None]
    row = torch.where((row - row.round()).abs() < _WHOLE, row.round(), row)
    first = row.floor()
    found: list[tuple[Tensor, Tensor | None]] = []
    for i, share in ((first, first + 1 - row), (first + 1, row - first)):
        share = torch.where((i >= 0) & (i < rows), share, 0.0)
        if bool((share != 0).any()):
            at = i.clamp(0, rows - 1).long().to(device)
            found.append((at, None if bool((share == 1).all()) else share[..., None].float().to(device)))
    return found


_shares = Kept(_find_shares)


def _fan(maps: Maps, values: Tensor, storage: torch.dtype, factor: Tensor | None) -> Tensor:
    """Backproject slices seen by a detector row in their plane."""
    out = values.new_empty(len(values), *maps.grid_shape)
    beam = shadow_lines.ARC if maps.arc else shadow_lines.FLAT
    _plane(maps, lambda views: values[:, views, 0], out[:, 0], beam, storage, factor)
    return out


def _plane(maps: Maps, images: Images, out: Tensor, beam: int, storage: torch.dtype, factor: Tensor | None) -> None:
    """Fill out (image, y, x)."""
    if len(out) >= shadow_stack.FEWEST:
        shadow_stack.backproject(maps, images, out, storage, factor)
    else:
        shadow_lines.backproject(maps, images, out, beam, storage, factor)


_PATHS = {"parallel": _parallel, "fan": _fan, "steady": steady.backproject, "": shadow_blocks.backproject}
