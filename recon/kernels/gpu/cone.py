"""Joseph's projector for cone beams whose detector rows are parallel to z, forward and exact adjoint.

Equal to `recon.kernels.reference` to rounding in float32 (DERIVATIONS.md, sections 5 and 6). Rays along y and along x
are two launches of the same kernel, on volumes (line, voxel of the line, z) and projections (view, column, row).
"""

from typing import Any

import torch
import triton
from torch import Tensor

from recon.kernels import upright
from recon.kernels.gpu.cone_kernels import COLUMNS, MARGIN, project_columns, project_wide, spread_columns, spread_wide
from recon.kernels.gpu.cone_tables import Side, Tables, tables
from recon.kernels.gpu.launch import INTERPRETED, cdiv, launch
from recon.kernels.lines import Lines
from recon.kernels.plans import Kept

_COPY = 2**28  # bytes of projections that are kept in a second order at a time


def applies(lines: Lines, tensor: Tensor) -> bool:
    """Tell whether this path takes these rays."""
    return tensor.dtype == torch.float32 and _taken(lines)


@Kept
def _taken(lines: Lines) -> bool:
    return upright.applies(lines)


def forward(lines: Lines, volume: Tensor) -> Tensor:
    """Integrate volumes (batch, z, y, x) along every ray: (batch, view, row, column)."""
    out = volume.new_empty(len(volume), *lines.shape)
    known = tables(lines, volume.device)
    views, rows, columns = lines.shape
    for item, result in zip(volume.detach(), out, strict=True):
        framed = [_framed(item.permute(axes)) for axes in ((1, 2, 0), (2, 1, 0))]
        for first, last in _chunks(views, 4 * rows * columns):
            sums = volume.new_empty(last - first, columns, rows)
            for side, columns_of_voxels in zip(known.sides, framed, strict=True):
                _project(known, side, columns_of_voxels, sums, first, last, lines.grid_shape[0])
            torch.mul(sums.mT, _lengths(known, rows, first, last).mT, out=result[first:last])
    return out


def adjoint(lines: Lines, projections: Tensor) -> Tensor:
    """Spread projections (batch, view, row, column) back over the voxels with the weights of `forward`."""
    out = projections.new_empty(len(projections), *lines.grid_shape)
    known = tables(lines, projections.device)
    views, rows, columns = lines.shape
    border = known.window + 1
    for item, result in zip(projections.detach(), out, strict=True):
        sums = [item.new_zeros(side.lines, side.across, lines.grid_shape[0]) for side in known.sides]
        for first, last in _chunks(views, 4 * columns * (rows + 2 * border)):
            framed = item.new_zeros(last - first, columns, rows + 2 * border)
            values = framed[:, :, border : border + rows]
            torch.mul(item[first:last].mT, _lengths(known, rows, first, last), out=values)
            for side, sum_ in zip(known.sides, sums, strict=True):
                _spread(known, side, framed, sum_, first, last, border)
        torch.add(sums[0].permute(2, 0, 1), sums[1].permute(2, 1, 0), out=result)
    return out


def _chunks(views: int, size: int) -> list[tuple[int, int]]:
    """Cut views, each of a size in bytes, into ranges that do not take more memory than they may."""
    step = max(1, _COPY // size)
    return [(first, min(views, first + step)) for first in range(0, views, step)]


def _framed(volume: Tensor) -> Tensor:
    """Return columns of voxels (line, across, z) between zeros."""
    lines, across, heights = volume.shape
    length = cdiv(heights + 2 * MARGIN, 16) * 16
    framed = volume.new_zeros(lines, across + 2, length)
    framed[:, 1:-1, MARGIN : MARGIN + heights] = volume
    return framed


def _lengths(known: Tables, rows: int, first: int, last: int) -> Tensor:
    """Return the lengths (view, column, row) of rays between two lines of voxels, mm."""
    whole, rest = known.views[first:last, 2, None], known.views[first:last, 3, None]
    row = torch.arange(rows, device=whole.device, dtype=whole.dtype) - whole - rest
    return torch.hypot(known.flat[first:last, :, None], known.rise[first:last, :, None] * row[:, None])


def _block(count: int) -> int:
    """Return how many places one program takes: many, but few beyond the end."""
    return next(size for size in (256, 128, 64, 32) if cdiv(count, size) * size <= 1.15 * cdiv(count, 32) * 32)


def _project(known: Tables, side: Side, volume: Tensor, sums: Tensor, first: int, last: int, heights: int) -> None:
    begin, end = side.group_of[first], side.group_of[last]
    rows, columns = sums.shape[2], sums.shape[1]
    numbers = (first, begin, end, rows, columns, side.lines, side.across, heights)
    if INTERPRETED:
        size = min(128, triton.next_power_of_2(rows))
        rays = triton.next_power_of_2(min(1024, COLUMNS * (end - begin) or 1))
        grid: tuple[int, ...] = (cdiv(rows, size), cdiv(COLUMNS * (end - begin), rays))
        kernel: Any = project_wide
        constants = {"RAYS": rays, "ROWS": size}
    else:
        size = _block(rows)
        grid = (cdiv(rows, size) * (end - begin),)
        kernel, constants = project_columns, {"ROWS": size}
    launch(
        kernel, grid, volume, known.rays, known.views, side.groups, sums, *numbers,
        warps=1, PITCH=volume.shape[2], **constants,
    )  # fmt: skip


def _spread(known: Tables, side: Side, framed: Tensor, sums: Tensor, first: int, last: int, border: int) -> None:
    heights, (columns, length) = sums.shape[2], framed.shape[1:]
    begin, end = side.run_of[first], side.run_of[last]
    numbers = (first, begin, end, columns, length, border, side.lines, side.across, heights)
    if INTERPRETED:
        size = min(128, triton.next_power_of_2(heights))
        voxels = triton.next_power_of_2(min(2048, side.lines * side.across))
        grid: tuple[int, ...] = (cdiv(heights, size), cdiv(side.lines * side.across, voxels))
        kernel: Any = spread_wide
        constants = {"VOXELS": voxels, "HEIGHTS": size}
    else:
        size = _block(heights)
        grid = (cdiv(heights, size), cdiv(side.across, COLUMNS), cdiv(side.lines, 2))
        kernel, constants = spread_columns, {"HEIGHTS": size}
    launch(
        kernel, grid, framed, known.rays, known.views, side.runs, side.shadows, sums, *numbers, known.least, known.bow,
        warps=1, WINDOW=known.window, ARC=known.bow != 0, **constants,
    )  # fmt: skip
