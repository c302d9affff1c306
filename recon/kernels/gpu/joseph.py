"""Any rays: Joseph's projector and its transpose, a gather over the rays that can touch each voxel."""

import math
from collections.abc import Iterator, Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from recon.kernels.gpu.launch import INTERPRETED, cdiv, launch
from recon.kernels.gpu.rays import LANES, LENGTH, Table, pick, tables, tile
from recon.kernels.gpu.windows import MAP_FIELDS, lane_axis, window, windows
from recon.kernels.lines import Lines

_BORDER = 2  # voxels of 0 around a volume, where positions beyond the grid are held
_COPIES = 1 << 28  # bytes of volumes, or of projections, copied at a time; at least one
_VOXELS = 4096 if INTERPRETED else 128  # of a program of the adjoint


def forward(lines: Lines, volume: Tensor) -> Tensor:
    """Integrate volumes (batch, z, y, x) along every ray: (batch, view, row, column)."""
    volume = volume.detach()
    out = volume.new_empty(len(volume), *lines.shape)
    for first, padded in bordered(lines, volume):
        for table in tables(lines, volume):
            launch(
                _forward,
                grid(lines, table, len(padded)),
                table.data,
                padded,
                out[first:],
                table.views.start,
                table.length,
                *lines.shape,
                *lines.grid_shape,
                *padded.stride(),
                **shape_of_program(lines, table, padded),
            )
    return out


def adjoint(lines: Lines, projections: Tensor) -> Tensor:
    """Spread projections (batch, view, row, column) back over the voxels with the weights of `forward`."""
    projections = projections.detach()
    batch, (views, rows, columns) = len(projections), lines.shape
    out = projections.new_empty(batch, *lines.grid_shape)
    if 0 in (views, rows, columns):
        return out.zero_()
    maps, arc, tall = windows(lines, projections.dtype, projections.device)
    axis = lane_axis(lines)
    length = lines.grid_shape[axis]
    others = out[0].numel() // length if batch else 0
    lanes = _VOXELS * 4 // projections.element_size()  # of twice the size as many fill the registers
    along = min(triton.next_power_of_2(length), lanes if INTERPRETED else 32)
    for table in tables(lines, projections):
        for first, values in _weighted(table, projections):
            launch(
                _adjoint,
                (cdiv(others, lanes // along), cdiv(length, along), len(values)),
                table.data,
                values,
                maps[table.views],
                out[first:],
                table.length,
                rows,
                columns,
                *lines.grid_shape,
                AXIS=axis,
                ARC=arc,
                MORE=table.views.start > 0,
                PITCH=table.pitch,
                MAP=MAP_FIELDS,
                AT_ONCE=tall,
                ALONG=along,
                LANES=lanes,
                warps=1,
            )
    return out


def bordered(lines: Lines, volume: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Copy volumes with a border of zeros, the axis along detector rows fastest: pairs of first one and copies."""
    axis = lane_axis(lines)
    shape = [size + 2 * _BORDER for size in lines.grid_shape]
    order = [*(other for other in range(3) if other != axis), axis]
    step = _at_a_time(shape, volume)
    inner = slice(_BORDER, -_BORDER)
    for first in range(0, len(volume), step):
        part = volume[first : first + step]
        copy = volume.new_zeros(len(part), *(shape[other] for other in order))
        placed = copy.permute(0, *(1 + order.index(other) for other in range(3)))
        placed[:, inner, inner, inner] = part
        yield first, placed


def _at_a_time(shape: Sequence[int], like: Tensor) -> int:
    """Return how many copies of a shape to make at a time: no more than a launch has programs on an axis."""
    return min(max(1, _COPIES // (math.prod(shape) * like.element_size())), 65535)


def _weighted(table: Table, projections: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Lay projections times the length between planes out as their rays: pairs of first one and copies."""
    rows, columns = projections.shape[2:]
    shape = (table.length, columns + 2, table.pitch)
    step = _at_a_time(shape, projections)
    length = table.data[:, 1:-1, LENGTH, 1 : rows + 1]
    for first in range(0, len(projections), step):
        part = projections[first : first + step, table.views]
        copy = projections.new_zeros(len(part), *shape)
        torch.mul(part.transpose(2, 3), length, out=copy[:, :, 1:-1, 1 : rows + 1])
        yield first, copy


def grid(lines: Lines, table: Table, items: int) -> tuple[int, int, int]:
    """Return how many programs cover the rays of a table for some volumes."""
    _, rows, columns = lines.shape
    across = tile(rows)
    return cdiv(table.length * columns, LANES // across), cdiv(rows, across), items


def shape_of_program(lines: Lines, table: Table, padded: Tensor) -> dict[str, int | bool]:
    """Return the constants of a kernel that walks along rays."""
    return {
        "AXIS": lane_axis(lines),
        "PITCH": table.pitch,
        "FAR": padded[0].numel() >= 1 << 31,
        "ACROSS": tile(lines.rows),
        "LANES": LANES,
    }


@triton.jit
def first_and_last(a, b, middle, count, low, high):
    """Return the planes between which a ray may be within a voxel of the grid on one axis, one plane more each."""
    slow = tl.abs(b) < 0.001  # the quotient would be too rough
    safe = tl.where(slow, 1.0, b)
    one, other = (low - a) / safe + middle, (high - a) / safe + middle
    near = (a + tl.abs(b) * count > low - 1.0) & (a - tl.abs(b) * count < high + 1.0)
    first = tl.where(slow, tl.where(near, 0.0, count), tl.minimum(one, other) - 2.0)
    last = tl.where(slow, tl.where(near, count, 0.0), tl.maximum(one, other) + 3.0)
    # Held in float: what is far outside fits no integer.
    first, last = tl.minimum(tl.maximum(first, 0.0), count), tl.minimum(tl.maximum(last, 0.0), count)
    return first.to(tl.int32), last.to(tl.int32)


@triton.jit
def swapped(main, AXIS: tl.constexpr):
    """Tell for which rays p, the first of the two axes across the main one, lies fastest in memory."""
    if AXIS == 0:
        swap = main != 0.0
    elif AXIS == 1:
        swap = main == 0.0
    else:
        swap = main > 5.0  # never
    return swap


@triton.jit
def ray(table, group, row, columns, nz, ny, nx, stride_z, stride_y, stride_x, exists,
        AXIS: tl.constexpr, PITCH: tl.constexpr, FAR: tl.constexpr):  # fmt: skip
    """Read rays with all that a walk needs; q is the axis that lies fastest in memory unless that is the main one.

    Returns:
        Position and slope on p and on q, bounds of both, mm between planes, main axis, its middle, first and last
        plane, and the strides of the main axis, p and q, and the place of the middle of plane 0.
    """
    at = table + (group // columns * (columns + 2) + group % columns + 1).to(tl.int64) * (6 * PITCH) + row + 1
    a_p, b_p = tl.load(at, mask=exists, other=1e9), tl.load(at + PITCH, mask=exists, other=0.0)
    a_q, b_q = tl.load(at + 2 * PITCH, mask=exists, other=1e9), tl.load(at + 3 * PITCH, mask=exists, other=0.0)
    length, main = tl.load(at + 4 * PITCH, mask=exists, other=0.0), tl.load(at + 5 * PITCH, mask=exists, other=1.0)
    kind = table.dtype.element_ty
    along_z, along_x = main == 0.0, main == 2.0
    count = pick(along_z, along_x, nz, ny, nx)
    n_p, n_q = tl.where(along_z, ny, nz), tl.where(along_x, ny, nx)
    step = pick(along_z, along_x, stride_z, stride_y, stride_x)
    step_p, step_q = tl.where(along_z, stride_y, stride_z), tl.where(along_x, stride_y, stride_x)
    if FAR:
        step, step_p, step_q = step.to(tl.int64), step_p.to(tl.int64), step_q.to(tl.int64)
    start = 2 * step + (n_p // 2 + 2) * step_p + (n_q // 2 + 2) * step_q
    # The fastest axis is p of the rays whose p it is: change places.
    swap = swapped(main, AXIS)
    a_p, a_q = tl.where(swap, a_q, a_p), tl.where(swap, a_p, a_q)
    b_p, b_q = tl.where(swap, b_q, b_p), tl.where(swap, b_p, b_q)
    n_p, n_q = tl.where(swap, n_q, n_p), tl.where(swap, n_p, n_q)
    step_p, step_q = tl.where(swap, step_q, step_p), tl.where(swap, step_p, step_q)
    low_p, low_q = (-(n_p // 2)).to(kind) - 1.0, (-(n_q // 2)).to(kind) - 1.0
    high_p, high_q = (n_p - n_p // 2).to(kind), (n_q - n_q // 2).to(kind)
    middle = (count - 1).to(kind) * 0.5
    first_p, last_p = first_and_last(a_p, b_p, middle, count.to(kind), low_p, high_p)
    first_q, last_q = first_and_last(a_q, b_q, middle, count.to(kind), low_q, high_q)
    first, last = tl.maximum(first_p, first_q), tl.minimum(last_p, last_q)
    first = tl.where(exists & (first < last), first, 2147483647)
    last = tl.where(exists & (first < last), last, 0)
    return (
        a_p, b_p, a_q, b_q, low_p, high_p, low_q, high_q, length, main, middle, first, last, count,
        step, step_p, step_q, start,
    )  # fmt: skip


@triton.jit
def corners(volume, at, a_p, b_p, a_q, b_q, low_p, high_p, low_q, high_q, step_p, step_q, dk):
    """Read the four neighbours of a crossing: (i, j), (i, j + 1), (i + 1, j), (i + 1, j + 1), and the fractions."""
    # Held between the two voxels of the border: beyond the grid all four are 0, and so is the slope.
    p = tl.minimum(tl.maximum(a_p + b_p * dk, low_p - 0.5), high_p + 0.5)
    q = tl.minimum(tl.maximum(a_q + b_q * dk, low_q - 0.5), high_q + 0.5)
    i, j = tl.floor(p), tl.floor(q)
    below = volume + (at + i.to(tl.int32) * step_p + j.to(tl.int32) * step_q)
    above = below + step_p
    return tl.load(below), tl.load(below + step_q), tl.load(above), tl.load(above + step_q), p - i, q - j


@triton.jit
def _forward(
    table, volume, out, view0, chunk, views, rows, columns, nz, ny, nx, item, stride_z, stride_y, stride_x,
    AXIS: tl.constexpr, PITCH: tl.constexpr, FAR: tl.constexpr, ACROSS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    lane = tl.arange(0, LANES)
    group = tl.program_id(0) * (LANES // ACROSS) + lane // ACROSS
    row = tl.program_id(1) * ACROSS + lane % ACROSS
    exists = (group < chunk * columns) & (row < rows)
    (
        a_p, b_p, a_q, b_q, low_p, high_p, low_q, high_q, length, main, middle, first, last, count,
        step, step_p, step_q, start,
    ) = ray(
        table, group, row, columns, nz, ny, nx, stride_z, stride_y, stride_x, exists, AXIS, PITCH, FAR
    )  # fmt: skip
    volume += tl.program_id(2).to(tl.int64) * item
    begin, end = tl.min(first), tl.max(last)
    total = tl.zeros((LANES,), table.dtype.element_ty)
    # Where q lies fastest for all rays, and planes are as many for all, addresses take fewer instructions.
    plain = (tl.max(tl.where(main == AXIS, 1, 0)) == 0) & (tl.max(count) == tl.min(count))
    if plain:
        for k in range(begin, end):
            dk = k - middle
            c00, c01, c10, c11, f, g = corners(
                volume, start + k * step, a_p, b_p, a_q, b_q, low_p, high_p, low_q, high_q, step_p, 1, dk
            )
            low, high = c00 + g * (c01 - c00), c10 + g * (c11 - c10)
            total += low + f * (high - low)
    else:
        for k in range(begin, end):
            dk = k - middle
            c00, c01, c10, c11, f, g = corners(
                volume, start + tl.minimum(k, count) * step,
                a_p, b_p, a_q, b_q, low_p, high_p, low_q, high_q, step_p, step_q, dk
            )  # fmt: skip
            low, high = c00 + g * (c01 - c00), c10 + g * (c11 - c10)
            total += low + f * (high - low)
    pixel = (tl.program_id(2).to(tl.int64) * views + view0 + group // columns) * rows + row
    tl.store(out + pixel * columns + group % columns, total * length, mask=exists)


@triton.jit
def place(AXIS: tl.constexpr, ALONG: tl.constexpr, LANES: tl.constexpr, nz, ny, nx):
    """Return the indices z, y, x of the voxels of a program, and which of them exist; others repeat the last ones."""
    lane = tl.arange(0, LANES)
    along = tl.program_id(1) * ALONG + lane % ALONG
    other = tl.program_id(0) * (LANES // ALONG) + lane // ALONG
    if AXIS == 0:
        z, y, x = along, other // nx, other % nx
    elif AXIS == 1:
        z, y, x = other // nx, along, other % nx
    else:
        z, y, x = other // ny, other % ny, along
    exists = (z < nz) & (y < ny) & (x < nx)
    return tl.minimum(z, nz - 1), tl.minimum(y, ny - 1), tl.minimum(x, nx - 1), exists


@triton.jit
def touched(at, value_at, height_z, height_y, height_x, z, y, x, PITCH: tl.constexpr, AT_ONCE: tl.constexpr):
    """Return the sum over rays of any main axes, neighbours in memory, of their value times the hats (eq. 4) of voxels.

    Voxels lie at `height` over the middle planes and at (z, y, x) from the whole number near the middle.
    """
    total = tl.zeros(z.shape, at.dtype.element_ty)
    for i in tl.static_range(AT_ONCE):
        main = tl.load(at + (5 * PITCH + i))
        along_z, along_x = main == 0.0, main == 2.0
        dk = pick(along_z, along_x, height_z, height_y, height_x)
        p = tl.load(at + i) + tl.load(at + (PITCH + i)) * dk - tl.where(along_z, y, z)
        q = tl.load(at + (2 * PITCH + i)) + tl.load(at + (3 * PITCH + i)) * dk - tl.where(along_x, y, x)
        hats = tl.maximum(1.0 - tl.abs(p), 0.0) * tl.maximum(1.0 - tl.abs(q), 0.0)
        total += hats * tl.load(value_at + i)
    return total


@triton.jit
def touched_from_afar(at, value_at, scale, from_p, from_q, PITCH: tl.constexpr, AT_ONCE: tl.constexpr):
    """Do the same for rays of one main axis that meet in one point, or nowhere: their slopes follow from places.

    A ray crosses the plane of a voxel at place · scale + from, counted from the voxel (DERIVATIONS.md, eq. 18).
    """
    total = tl.zeros(scale.shape, at.dtype.element_ty)
    for i in tl.static_range(AT_ONCE):
        p = tl.abs(tl.load(at + i) * scale + from_p)
        q = tl.abs(tl.load(at + (2 * PITCH + i)) * scale + from_q)
        total += tl.maximum(1.0 - p, 0.0) * tl.maximum(1.0 - q, 0.0) * tl.load(value_at + i)
    return total


@triton.jit
def _adjoint(
    table, values, maps, out, views, rows, columns, nz, ny, nx,
    AXIS: tl.constexpr, ARC: tl.constexpr, MORE: tl.constexpr, PITCH: tl.constexpr, MAP: tl.constexpr,
    AT_ONCE: tl.constexpr, ALONG: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    z, y, x, exists = place(AXIS, ALONG, LANES, nz, ny, nx)
    kind = table.dtype.element_ty
    item = tl.program_id(2).to(tl.int64)
    values += item * views * (columns + 2) * PITCH
    cz, cy, cx = (z - nz // 2).to(kind), (y - ny // 2).to(kind), (x - nx // 2).to(kind)
    # An even number of planes has its middle half a voxel below the whole number.
    height_z, height_y, height_x = cz + (1 - nz % 2) * 0.5, cy + (1 - ny % 2) * 0.5, cx + (1 - nx % 2) * 0.5
    at = out + item * nz * ny * nx + (z.to(tl.int64) * ny + y) * nx + x
    total = tl.zeros((LANES,), kind)
    if MORE:  # go on where the last chunk of views ended: the sum rounds as if there was one chunk
        total += tl.load(at, mask=exists, other=0.0)
    for view in range(views):
        here = maps + view * MAP
        row, last_row, column, last_column = window(here, cz, cy, cx, rows, columns, ARC)
        tall, wide = tl.max(last_row - row) + 1, tl.max(last_column - column) + 1
        group0 = view * (columns + 2) + 1
        main = tl.load(here + 28)
        if main == 3.0:
            for right in range(wide):
                group = group0 + tl.minimum(column + right, columns)
                for down in range(0, tall, AT_ONCE):
                    slot = tl.minimum(row + down, rows) + 1
                    total += touched(
                        table + (group * (6 * PITCH) + slot), values + (group * PITCH + slot),
                        height_z, height_y, height_x, cz, cy, cx, PITCH, AT_ONCE
                    )  # fmt: skip
        else:
            along_z, along_x = main == 0.0, main == 2.0
            dk = pick(along_z, along_x, height_z, height_y, height_x)
            scale = 1.0 + tl.load(here + 29) * dk
            slope_z, slope_y, slope_x = tl.load(here + 30), tl.load(here + 31), tl.load(here + 32)
            from_p = tl.where(along_z, slope_y, slope_z) * dk - tl.where(along_z, cy, cz)
            from_q = tl.where(along_x, slope_y, slope_x) * dk - tl.where(along_x, cy, cx)
            for right in range(wide):
                group = group0 + tl.minimum(column + right, columns)
                for down in range(0, tall, AT_ONCE):
                    slot = tl.minimum(row + down, rows) + 1
                    total += touched_from_afar(
                        table + (group * (6 * PITCH) + slot), values + (group * PITCH + slot),
                        scale, from_p, from_q, PITCH, AT_ONCE
                    )  # fmt: skip
    tl.store(at, total, mask=exists)
