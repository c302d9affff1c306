"""Joseph's projector for cone beams whose detector rows are parallel to z, forward and exact adjoint.

Equal to `recon.kernels.reference` to rounding in float32 (DERIVATIONS.md, sections 5 and 7). Rays along y and along x
are two launches of the same kernel, on volumes (line, voxel of the line, z) and projections (view, column, row).
"""

from typing import Any

import torch
from torch import Tensor

from recon.kernels import upright
from recon.kernels.gpu.cone_kernels import COLUMNS, MARGIN, project_columns, project_wide, spread_columns, spread_wide
from recon.kernels.gpu.cone_tables import Side, Tables, tables
from recon.kernels.gpu.launch import INTERPRETED, cdiv, launch
from recon.kernels.lines import Lines
from recon.kernels.plans import Kept

_AXES = (1, 2, 0), (2, 1, 0)  # of volumes for rays along y, and along x
_COPY = 2**28  # bytes of projections that are kept in a second order at a time


def applies(lines: Lines, tensor: Tensor) -> bool:
    """Tell whether this path takes these rays."""
    return tensor.dtype == torch.float32 and _taken(lines)


@Kept
def _taken(lines: Lines) -> bool:
    return upright.applies(lines)


def forward(lines: Lines, volume: Tensor) -> Tensor:
    """Integrate volumes (batch, z, y, x) along every ray: (batch, view, row, column)."""
    out = volume.new_zeros(len(volume), *lines.shape)
    known = tables(lines, volume.device)
    for item, result in zip(volume.detach(), out, strict=True):
        for side, axes in zip(known.sides, _AXES, strict=True):
            _project(known, side, _framed(item.permute(axes)), result)
    return out


def adjoint(lines: Lines, projections: Tensor) -> Tensor:
    """Spread projections (batch, view, row, column) back over the voxels with the weights of `forward`."""
    out = projections.new_zeros(len(projections), *lines.grid_shape)
    known = tables(lines, projections.device)
    for item, result in zip(projections.detach(), out, strict=True):
        for side, axes in zip(known.sides, _AXES, strict=True):
            ordered = result.permute(axes)
            ordered += _spread(known, side, item, ordered.shape)
    return out


def _chunks(starts: tuple[int, ...], size: int) -> list[tuple[int, int]]:
    """Cut views, each of a size in bytes, into ranges that do not take more memory than they may.

    Ranges are left out in which nothing starts; views start `starts[view + 1] - starts[view]` things.
    """
    views, step = len(starts) - 1, max(1, _COPY // size)
    ranges = [(first, min(views, first + step)) for first in range(0, views, step)]
    return [(first, last) for first, last in ranges if starts[first] < starts[last]]


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


def _power(count: int, most: int) -> int:
    """Return a power of two that holds a count, or the most there may be."""
    return min(most, 1 << (count - 1).bit_length())


def _block(count: int) -> int:
    """Return how many places one program takes: many, but few beyond the end."""
    return next(size for size in (256, 128, 64, 32) if cdiv(count, size) * size <= 1.15 * cdiv(count, 32) * 32)


def _project(known: Tables, side: Side, volume: Tensor, out: Tensor) -> None:
    """Add the integrals of a framed volume along the rays of one side to (view, row, column)."""
    _, rows, columns = out.shape
    for first, last in _chunks(side.group_of, 4 * rows * columns):
        begin, end = side.group_of[first], side.group_of[last]
        sums = out.new_zeros(last - first, columns, rows)
        numbers = (first, begin, end, rows, columns, side.lines, side.across, known.heights)
        kernel: Any
        if INTERPRETED:
            size, rays = _power(rows, 128), _power(COLUMNS * (end - begin), 1024)
            grid: tuple[int, ...] = (cdiv(rows, size), cdiv(COLUMNS * (end - begin), rays))
            kernel, constants = project_wide, {"RAYS": rays, "ROWS": size}
        else:
            size = _block(rows)
            grid = (cdiv(rows, size) * (end - begin),)
            kernel, constants = project_columns, {"ROWS": size}
        launch(
            kernel, grid, volume, known.rays, known.views, side.groups, sums, *numbers,
            warps=1, PITCH=volume.shape[2], **constants,
        )  # fmt: skip
        out[first:last].addcmul_(sums.mT, _lengths(known, rows, first, last).mT)


def _spread(known: Tables, side: Side, projections: Tensor, shape: torch.Size) -> Tensor:
    """Return what the rays of one side give to a volume (line, across, z)."""
    _, rows, columns = projections.shape
    border, heights = known.window + 1, known.heights
    length = rows + 2 * border
    sums = projections.new_zeros(shape)
    for first, last in _chunks(side.run_of, 4 * columns * length):
        framed = projections.new_zeros(last - first, columns, length)
        values = framed[:, :, border : border + rows]
        torch.mul(projections[first:last].mT, _lengths(known, rows, first, last), out=values)
        numbers = (first, side.run_of[first], side.run_of[last], columns, length, border)
        kernel: Any
        if INTERPRETED:
            size, voxels = _power(heights, 128), _power(side.lines * side.across, 2048)
            grid: tuple[int, ...] = (cdiv(heights, size), cdiv(side.lines * side.across, voxels))
            kernel, constants = spread_wide, {"VOXELS": voxels, "HEIGHTS": size}
        else:
            size = _block(heights)
            grid = (cdiv(heights, size), cdiv(side.across, COLUMNS), cdiv(side.lines, 2))
            kernel, constants = spread_columns, {"HEIGHTS": size}
        launch(
            kernel, grid, framed, known.rays, known.views, side.runs, side.shadows, sums, *numbers,
            side.lines, side.across, heights, known.least, known.bow,
            warps=1, WINDOW=known.window, ARC=known.bow != 0, **constants,
        )  # fmt: skip
    return sums
