"""Joseph's projector for cone beams whose detector rows are parallel to z, forward and exact adjoint.

Equal to `recon.kernels.reference` to rounding in float32 (DERIVATIONS.md, sections 5 and 6). What all rows of a
detector column share is arithmetic on single numbers; tensors run along z or along the rows and nowhere else, so that
each load of a warp is one short stretch of memory in every version of Triton. Rays along y and along x are two
launches of the same kernel on volumes (line, voxel of the line, z).
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from recon.kernels import upright
from recon.kernels.gpu.cone_tables import TOGETHER, Side, Tables, tables
from recon.kernels.gpu.launch import INTERPRETED, cdiv, launch
from recon.kernels.lines import Lines
from recon.kernels.plans import Kept

_MARGIN = tl.constexpr(2)  # zeros before a column of voxels, and at least as many after it
_MAGIC = tl.constexpr(12582912.0)  # 1.5 · 2^23: adding it rounds to whole numbers, which are then in its low bits
_MAGIC_BITS = tl.constexpr(0x4B400000)
_UNROLLED = tl.constexpr(9)  # the widest window that is written out
_COLUMNS = tl.constexpr(4)  # voxels of a line that one program of the adjoint sums
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
    length = cdiv(heights + 2 * _MARGIN.value, 16) * 16
    framed = volume.new_zeros(lines, across + 2, length)
    framed[:, 1:-1, _MARGIN.value : _MARGIN.value + heights] = volume
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
        rays = triton.next_power_of_2(min(1024, TOGETHER * (end - begin) or 1))
        grid: tuple[int, ...] = (cdiv(rows, size), cdiv(TOGETHER * (end - begin), rays))
        kernel: Any = _project_wide
        constants = {"RAYS": rays, "ROWS": size}
    else:
        size = _block(rows)
        grid = (cdiv(rows, size) * (end - begin),)
        kernel, constants = _project_columns, {"ROWS": size}
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
        kernel: Any = _spread_wide
        constants = {"VOXELS": voxels, "HEIGHTS": size}
    else:
        size = _block(heights)
        grid = (cdiv(heights, size), cdiv(side.across, _COLUMNS.value), cdiv(side.lines, 2))
        kernel, constants = _spread_columns, {"HEIGHTS": size}
    launch(
        kernel, grid, framed, known.rays, known.views, side.runs, side.shadows, sums, *numbers, known.least, known.bow,
        warps=1, WINDOW=known.window, ARC=known.bow != 0, **constants,
    )  # fmt: skip


@triton.jit
def _place(whole, rest, steep, slope, k):
    """Return where rays cross line k: the voxel before, and how far after it."""
    near = tl.fma(steep, k, whole)  # exact, see cone_tables
    voxel = tl.floor(near)
    rest = tl.fma(slope, k, rest) + (near - voxel)
    more = tl.floor(rest)
    return voxel + more, rest - more


@triton.jit
def _read(columns, share, height, row, rest, low, high, PITCH: tl.constexpr):
    """Return what rows read between two columns of voxels; `columns` is where the first holds the source's height."""
    t = tl.fma(height, row, rest - 0.5)
    t = tl.minimum(tl.maximum(t, low), high)
    rounded = t + _MAGIC
    away = t - (rounded - _MAGIC)
    at = columns + rounded.to(tl.int32, bitcast=True)
    one, other = tl.load(at), tl.load(at + PITCH)
    above, other_above = tl.load(at + 1), tl.load(at + PITCH + 1)
    below = tl.fma(other - one, share, one)
    above = tl.fma(other_above - above, share, above)
    return tl.fma(above - below, away + 0.5, below)


@triton.jit
def _line(volume, k, middle, across, ray0, ray1, ray2, ray3, ray4, ray5, row, source, rest, low, high,
          PITCH: tl.constexpr):  # fmt: skip
    """Return what the rays of a column read on line k."""
    from_middle = k - middle
    voxel, share = _place(ray0, ray1, ray2, ray3, from_middle)
    share = tl.where(voxel < -1, 0.0, tl.where(voxel > across - 1, 1.0, share))
    voxel = tl.minimum(tl.maximum(voxel, -1.0), across - 1.0).to(tl.int32) + 1
    columns = volume + (k.to(tl.int64) * (across + 2) + voxel) * PITCH + (source - _MAGIC_BITS)
    return _read(columns, share, tl.fma(ray5, from_middle, ray4), row, rest, low, high, PITCH)


@triton.jit
def _ray(rays, at):
    """Load what the rays of a column share."""
    at = rays + at * 6
    return tl.load(at), tl.load(at + 1), tl.load(at + 2), tl.load(at + 3), tl.load(at + 4), tl.load(at + 5)


@triton.jit(do_not_specialize_on_alignment=["sums"])
def _project_columns(volume, rays, views, groups, sums, first, begin, end, rows, columns, lines, across, heights,
                     PITCH: tl.constexpr, ROWS: tl.constexpr):  # fmt: skip
    """Sum along the rays of a group of columns, ROWS of each."""
    blocks = tl.cdiv(rows, ROWS)
    group = groups + (begin + tl.program_id(0) // blocks) * 5
    view, column, count = tl.load(group), tl.load(group + 1), tl.load(group + 2)
    start, stop = tl.load(group + 3), tl.load(group + 4)
    source, rest = tl.load(views + view * 6), tl.load(views + view * 6 + 1)
    number = tl.program_id(0) % blocks * ROWS + tl.arange(0, ROWS)
    row = number.to(tl.float32) - tl.load(views + view * 6 + 2) - tl.load(views + view * 6 + 3)
    low, high, source = -1.5 - source, heights - 0.5 - source, source.to(tl.int32) + _MARGIN
    middle = (lines - 1) * 0.5
    at = view * columns + column
    a0, a1, a2, a3, a4, a5 = _ray(rays, at)
    b0, b1, b2, b3, b4, b5 = _ray(rays, at + tl.minimum(1, count - 1))
    c0, c1, c2, c3, c4, c5 = _ray(rays, at + tl.minimum(2, count - 1))
    d0, d1, d2, d3, d4, d5 = _ray(rays, at + tl.minimum(3, count - 1))
    a = tl.zeros((ROWS,), tl.float32)
    b, c, d = a, a, a
    for n in range(0, stop - start):
        k = start + n
        a += _line(volume, k, middle, across, a0, a1, a2, a3, a4, a5, row, source, rest, low, high, PITCH)
        b += _line(volume, k, middle, across, b0, b1, b2, b3, b4, b5, row, source, rest, low, high, PITCH)
        c += _line(volume, k, middle, across, c0, c1, c2, c3, c4, c5, row, source, rest, low, high, PITCH)
        d += _line(volume, k, middle, across, d0, d1, d2, d3, d4, d5, row, source, rest, low, high, PITCH)
    out = sums + ((view - first) * columns + column) * rows + number
    tl.store(out, a, mask=number < rows)
    tl.store(out + rows, b, mask=number < tl.where(count > 1, rows, 0))
    tl.store(out + 2 * rows, c, mask=number < tl.where(count > 2, rows, 0))
    tl.store(out + 3 * rows, d, mask=number < tl.where(count > 3, rows, 0))


@triton.jit
def _project_wide(volume, rays, views, groups, sums, first, begin, end, rows, columns, lines, across, heights,
                  PITCH: tl.constexpr, RAYS: tl.constexpr, ROWS: tl.constexpr):  # fmt: skip
    """Do as `_project_columns` for many columns at once."""
    number = tl.program_id(1) * RAYS + tl.arange(0, RAYS)[:, None]
    group = tl.minimum(begin + number // 4, end - 1)
    view, column, count = tl.load(groups + group * 5), tl.load(groups + group * 5 + 1), tl.load(groups + group * 5 + 2)
    column += tl.minimum(number % 4, count - 1)
    source, rest = tl.load(views + view * 6), tl.load(views + view * 6 + 1)
    line = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[None, :]
    row = line.to(tl.float32) - tl.load(views + view * 6 + 2) - tl.load(views + view * 6 + 3)
    low, high, source = -1.5 - source, heights - 0.5 - source, source.to(tl.int32) + _MARGIN
    middle = (lines - 1) * 0.5
    a0, a1, a2, a3, a4, a5 = _ray(rays, view * columns + column)
    a = tl.zeros((RAYS, ROWS), tl.float32)
    for n in range(0, lines):
        k = tl.program_id(0) * 0 + n
        a += _line(volume, k, middle, across, a0, a1, a2, a3, a4, a5, row, source, rest, low, high, PITCH)
    inside = (number % 4 < count) & (number // 4 < end - begin) & (line < rows)
    tl.store(sums + ((view - first) * columns + column) * rows + line, a, mask=inside)


@triton.jit
def _arc_tangent(x):
    """Return atan(x) within 1e-7."""
    size = tl.abs(x)
    y = tl.where(size > 1, 1.0 / tl.maximum(size, 1.0), size)
    s = y * y
    p = -0.00174372291 * s + 0.0106808521
    p = p * s - 0.0307178326
    p = p * s + 0.0574639758
    p = p * s - 0.0837209527
    p = p * s + 0.109402129
    p = p * s - 0.142615773
    p = p * s + 0.199982311
    p = p * s - 0.333332823
    p = (p * s + 1.0) * y
    p = tl.where(size > 1, 1.5707963 - p, p)
    return tl.where(x < 0, -p, p)


@triton.jit
def _shadow(at, k, low, high, count, bow, ARC: tl.constexpr):
    """Return the columns [first, end) of a run whose rays may pass between two places on line k (and k + count - 1)."""
    n0, nk, ni = tl.load(at), tl.load(at + 1), tl.load(at + 2)
    m0, mk, mi = tl.load(at + 3), tl.load(at + 4), tl.load(at + 5)
    n, m, doubt = n0 + nk * k, m0 + mk * k, tl.load(at + 6)
    ma, mb = m + mi * low, m + mi * high
    nearest, a, b = tl.minimum(ma, mb), (n + ni * low) / ma, (n + ni * high) / mb
    least, most = tl.minimum(a, b), tl.maximum(a, b)
    if count > 1:
        ma, mb, n = ma + mk, mb + mk, n + nk
        a, b = (n + ni * low) / ma, (n + ni * high) / mb
        nearest = tl.minimum(nearest, tl.minimum(ma, mb))
        least, most = tl.minimum(least, tl.minimum(a, b)), tl.maximum(most, tl.maximum(a, b))
    if ARC:
        least, most = _arc_tangent(least / bow) * bow, _arc_tangent(most / bow) * bow
    ahead = nearest > 1e-3
    return tl.where(ahead, least - doubt, -1e9), tl.where(ahead, most + doubt, 1e9)


@triton.jit
def _gather(projections, leap, inverse, height, rest, low, high, WINDOW: tl.constexpr):
    """Return what a column of voxels gets from a detector column; `projections` is where the row of the source lies."""
    t = tl.fma(height, inverse, rest if WINDOW % 2 else rest - 0.5)
    t = tl.minimum(tl.maximum(t, low), high)
    rounded = t + _MAGIC
    away = tl.fma(-leap, (rounded - _MAGIC) - rest, height)  # from the nearest row, or from the one below
    at = projections + rounded.to(tl.int32, bitcast=True)
    if WINDOW > _UNROLLED:
        found = tl.zeros_like(away)
        for j in range(0, WINDOW):
            j -= (WINDOW - 1) // 2
            found += tl.maximum(1.0 - tl.abs(away - leap * j), 0.0) * tl.load(at + j)
        return found
    if WINDOW % 2:
        found = (1.0 - tl.abs(away)) * tl.load(at)
    else:
        found = tl.maximum(1.0 - away, 0.0) * tl.load(at)
        found += tl.maximum((1.0 - leap) + away, 0.0) * tl.load(at + 1)
    for j in tl.static_range(1, (WINDOW + 1) // 2):
        found += tl.maximum((1.0 - j * leap) - away, 0.0) * tl.load(at - j)
        up: tl.constexpr = j + 1 - WINDOW % 2
        found += tl.maximum((1.0 - up * leap) + away, 0.0) * tl.load(at + up)
    return found


@triton.jit
def _line_back(projections, k, i, ray0, ray1, ray2, ray3, ray4, ray5, least, height, rest, low, high,
               WINDOW: tl.constexpr):  # fmt: skip
    """Return what rays give to all voxels they pass on line k, and where they are, counted from voxel i."""
    leap = tl.maximum(tl.fma(ray5, k, ray4), least)
    found = _gather(projections, leap, 1.0 / leap, height, rest, low, high, WINDOW)
    return found, tl.fma(ray2, k, ray0 - i) + tl.fma(ray3, k, ray1)


@triton.jit
def _row_range(border, length, whole, WINDOW: tl.constexpr):
    """Return between which rows, counted from row `whole`, a window reads nothing beyond the border of zeros."""
    return (WINDOW - 1) // 2 - border - whole, length - border - 1 - WINDOW // 2 - whole


@triton.jit
def _clip(least, most, left, right, columns):
    """Return the columns [first, end) of a run between two places, counted from the detector's middle."""
    middle = (columns - 1) * 0.5
    first = tl.minimum(tl.maximum(tl.ceil(least + middle), left.to(tl.float32)), right.to(tl.float32))
    end = tl.minimum(tl.maximum(tl.floor(most + middle) + 1, left.to(tl.float32)), right.to(tl.float32))
    return first.to(tl.int32), end.to(tl.int32)


@triton.jit
def _add(sums, a0, a1, a2, a3, k, i, z, lines, across, heights):
    """Add four columns of sums to those of line k from voxel i on."""
    out = sums + (k.to(tl.int64) * across + i) * heights + z
    inside = tl.where(k < lines, heights, 0)
    mask = z < inside
    tl.store(out, tl.load(out, mask=mask, other=0.0) + a0, mask=mask)
    mask = z < tl.where(i + 1 < across, inside, 0)
    tl.store(out + heights, tl.load(out + heights, mask=mask, other=0.0) + a1, mask=mask)
    mask = z < tl.where(i + 2 < across, inside, 0)
    tl.store(out + 2 * heights, tl.load(out + 2 * heights, mask=mask, other=0.0) + a2, mask=mask)
    mask = z < tl.where(i + 3 < across, inside, 0)
    tl.store(out + 3 * heights, tl.load(out + 3 * heights, mask=mask, other=0.0) + a3, mask=mask)


@triton.jit(do_not_specialize_on_alignment=["sums"])
def _spread_columns(projections, rays, views, runs, shadows, sums, first, begin, end, columns, length, border, lines,
                    across, heights, least, bow, WINDOW: tl.constexpr, ARC: tl.constexpr,
                    HEIGHTS: tl.constexpr):  # fmt: skip
    """Add what a run of rays gives to two times four columns of voxels, HEIGHTS of each."""
    z = tl.program_id(0) * HEIGHTS + tl.arange(0, HEIGHTS)
    bottom = (tl.program_id(0) * HEIGHTS).to(tl.float32)
    k, i = tl.program_id(2) * 2, tl.program_id(1) * 4
    line, voxel = k - (lines - 1) * 0.5, i - (across - 1) * 0.5
    zf = z.to(tl.float32)
    a0 = tl.zeros((HEIGHTS,), tl.float32)
    a1, a2, a3, b0, b1, b2, b3 = a0, a0, a0, a0, a0, a0, a0
    for run in range(begin, end):
        view, left, right = tl.load(runs + run * 3), tl.load(runs + run * 3 + 1), tl.load(runs + run * 3 + 2)
        at = views + view * 6
        height = (zf - tl.load(at)) - tl.load(at + 1)
        whole, rest = tl.load(at + 2), tl.load(at + 3)
        low, high = _row_range(border, length, whole, WINDOW)
        seen = (bottom <= tl.load(at + 5)) & (bottom + HEIGHTS > tl.load(at + 4))
        least_column, most = _shadow(shadows + run * 7, line, voxel - 1, voxel + 4, 2, bow, ARC)
        c0, c1 = _clip(least_column, most, left, right, columns)
        c1 = tl.where(seen, c1, c0)
        base = projections + (border + whole.to(tl.int32) - _MAGIC_BITS)
        for c in range(c0, c1):
            r0, r1, r2, r3, r4, r5 = _ray(rays, view * columns + c)
            column = base + ((view - first) * columns + c).to(tl.int64) * length
            found, p = _line_back(column, line, i, r0, r1, r2, r3, r4, r5, least, height, rest, low, high, WINDOW)
            a0 += tl.maximum(1.0 - tl.abs(p), 0.0) * found
            a1 += tl.maximum(1.0 - tl.abs(p - 1), 0.0) * found
            a2 += tl.maximum(1.0 - tl.abs(p - 2), 0.0) * found
            a3 += tl.maximum(1.0 - tl.abs(p - 3), 0.0) * found
            found, p = _line_back(column, line + 1, i, r0, r1, r2, r3, r4, r5, least, height, rest, low, high, WINDOW)
            b0 += tl.maximum(1.0 - tl.abs(p), 0.0) * found
            b1 += tl.maximum(1.0 - tl.abs(p - 1), 0.0) * found
            b2 += tl.maximum(1.0 - tl.abs(p - 2), 0.0) * found
            b3 += tl.maximum(1.0 - tl.abs(p - 3), 0.0) * found
    _add(sums, a0, a1, a2, a3, k, i, z, lines, across, heights)
    _add(sums, b0, b1, b2, b3, k + 1, i, z, lines, across, heights)


@triton.jit
def _spread_wide(projections, rays, views, runs, shadows, sums, first, begin, end, columns, length, border, lines,
                 across, heights, least, bow, WINDOW: tl.constexpr, ARC: tl.constexpr, VOXELS: tl.constexpr,
                 HEIGHTS: tl.constexpr):  # fmt: skip
    """Do as `_spread_columns` for many columns of voxels at once."""
    z = tl.program_id(0) * HEIGHTS + tl.arange(0, HEIGHTS)[None, :]
    number = tl.program_id(1) * VOXELS + tl.arange(0, VOXELS)[:, None]
    line = number // across - (lines - 1) * 0.5
    i = number % across
    voxel = i - (across - 1) * 0.5
    zf = z.to(tl.float32)
    sum_ = tl.zeros((VOXELS, HEIGHTS), tl.float32)
    for run in range(begin, end):
        view, left, right = tl.load(runs + run * 3), tl.load(runs + run * 3 + 1), tl.load(runs + run * 3 + 2)
        at = views + view * 6
        height = (zf - tl.load(at)) - tl.load(at + 1)
        whole, rest = tl.load(at + 2), tl.load(at + 3)
        low, high = _row_range(border, length, whole, WINDOW)
        least_column, most = _shadow(shadows + run * 7, line, voxel - 1, voxel + 1, 1, bow, ARC)
        c0, c1 = _clip(least_column, most, left, right, columns)
        c1 = tl.where(number < lines * across, c1, c0)
        base = projections + (border + whole.to(tl.int32) - _MAGIC_BITS)
        for n in range(0, tl.max(c1 - c0)):
            c = tl.minimum(c0 + n, columns - 1)
            r0, r1, r2, r3, r4, r5 = _ray(rays, view * columns + c)
            column = base + ((view - first) * columns + c).to(tl.int64) * length
            found, p = _line_back(column, line, i, r0, r1, r2, r3, r4, r5, least, height, rest, low, high, WINDOW)
            sum_ += tl.where(c0 + n < c1, tl.maximum(1.0 - tl.abs(p), 0.0), 0.0) * found
    out = sums + number * heights + z
    inside = (number < lines * across) & (z < heights)
    tl.store(out, tl.load(out, mask=inside, other=0.0) + sum_, mask=inside)
