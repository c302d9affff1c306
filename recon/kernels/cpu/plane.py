"""Joseph's projector for one image, in plane: sixteen rays at a time forward, sixteen pixels at a time back.

Both directions read the ray tables of `tables` (DERIVATIONS.md, section 4). Forward, sixteen neighbouring rays walk
from line to line and pick their pixels out of one short run of memory. Back, sixteen neighbouring pixels of a line
find the first ray that can touch them and sum over a window of rays, each with the forward weight: jobs own lines,
so nothing is added concurrently and the result does not depend on the number of threads.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from recon.kernels.cpu.compile import inline, kernel
from recon.kernels.cpu.resample import arc_tangent, clear
from recon.kernels.cpu.simd import (
    absolute,
    as_floats,
    fill,
    fill_ints,
    first,
    lane_numbers,
    load,
    local_floats,
    maximum,
    minimum,
    pick,
    pick_wide,
    store,
    truncated,
)
from recon.kernels.cpu.tables import CLAMPED, EDGE, FAST, SLOW, WIDE, Tables

_LINES = 64  # of the image that all rays of a view cross before going on: they stay in a cache
_OWNED = 16  # lines per job of the adjoint
_MARGIN = 32  # zeros before the rays of a run, in the buffers of the adjoint
_BEYOND = 96  # and after them

f32 = np.float32


def forward(tables: Tables, image: Tensor, out: Tensor) -> None:
    """Fill out (view, column) with the integrals of an image (y, x) along every ray."""
    by_y, by_x = _framed(image), _framed(image.T)
    project_image(
        len(out), by_y, by_x, *tables.image, tables.first_run, tables.runs, tables.groups, tables.at, tables.slope,
        tables.length, out.numpy(), scratch=int(tables.rays_per_view.max()),
    )  # fmt: skip


def adjoint(tables: Tables, values: Tensor, out: Tensor) -> None:
    """Fill an image (y, x) from values (view, column) with the weights of `forward`, where `tables.gather` holds."""
    ny, nx = tables.image
    by_y, by_x = (values.new_empty(lines, -(-pixels // 16) * 16) for lines, pixels in ((ny, nx), (nx, ny)))
    weighted = np.where(tables.length > 0, values.numpy().reshape(-1)[tables.ray] * tables.length, f32(0))
    gather_image(
        2 * -(-max(ny, nx) // _OWNED), weighted, tables.first_run, tables.runs, tables.at.astype(f32),
        tables.slope.astype(f32), tables.maps, tables.columns, f32(tables.arc), f32(tables.slack), ny, nx,
        by_y.numpy().reshape(-1), by_x.numpy().reshape(-1), scratch=2 * (tables.columns + _MARGIN + _BEYOND + 16),
    )  # fmt: skip
    torch.add(by_y[:, :nx], by_x[:, :ny].T, out=out)


def _framed(image: Tensor) -> Any:
    out = image.new_zeros(image.shape[0], image.shape[1] + 3 * EDGE)
    out[:, EDGE : EDGE + image.shape[1]] = image
    return out.numpy().reshape(-1)


@inline
def place_group(at, slope, g, line, start):
    """Set start to sixteen positions on a line, from a whole number that is returned: rounded after it is taken off."""
    origin = np.int64(np.floor(at[g] + slope[g] * line)) - _LINES - 8
    for lane in range(16):
        start[lane] = f32(at[g + lane] + slope[g + lane] * line - origin)
    for lane in range(16):
        start[16 + lane] = f32(slope[g + lane])
    return origin


@inline
def read_fast(image, at_line, stride, start, lines, total, t):
    """Add sixteen rays on lines none of which needs clamping; the first is at image[at_line]."""
    position, slope = load(start, 0), load(start, 16)
    line, one, found = fill(f32(0)), fill(f32(1)), fill(f32(0))
    for k in range(lines):
        here = slope * line + position
        line = line + one
        whole = truncated(here)
        share = here - as_floats(whole)
        base = first(whole)
        index = whole - fill_ints(base)
        low = pick(image, at_line + k * stride + base, index, 0)
        found = found + low + share * (pick(image, at_line + k * stride + base, index, 1) - low)
    store(total, t, load(total, t) + found)


@inline
def read_clamped(image, at_line, stride, low_end, high_end, wide, start, lines, total, t):
    """Add sixteen rays wherever they are; those outside read the zeros beside the image, between the two ends."""
    position, slope = load(start, 0), load(start, 16)
    low_end_, high_end_, found = fill(low_end), fill(high_end), fill(f32(0))
    for k in range(lines):
        here = minimum(maximum(slope * fill(f32(k)) + position, low_end_), high_end_)
        whole = truncated(here)
        share = here - as_floats(whole)
        base = first(whole)
        index = whole - fill_ints(base)
        if wide:
            low = pick_wide(image, at_line + k * stride + base, index, 0)
            high = pick_wide(image, at_line + k * stride + base, index, 1)
        else:
            low = pick(image, at_line + k * stride + base, index, 0)
            high = pick(image, at_line + k * stride + base, index, 1)
        found = found + low + share * (high - low)
    store(total, t, load(total, t) + found)


@inline
def read_singly(image, stride, pixels, at, slope, g, middle, begin, end, total, t):
    """Add sixteen rays one by one, whatever their order and distance."""
    for lane in range(16):
        found = 0.0
        for k in range(begin, end):
            position = min(max(at[g + lane] + slope[g + lane] * (k - middle), -1.5), pixels + 0.5) + EDGE
            whole = np.int64(position)
            low = image[k * stride + whole]
            found += low + (position - whole) * (image[k * stride + whole + 1] - low)
        total[t + lane] += f32(found)


@inline
def read_lines(image, stride, pixels, kind, at, slope, g, middle, begin, end, start, total, t):
    """Add sixteen rays on at most `_LINES` lines; `kind` is FAST where no ray needs clamping."""
    if begin >= end:
        return
    origin = place_group(at, slope, g, begin - middle, start)
    at_line = begin * stride + EDGE + origin
    if kind == FAST:
        read_fast(image, at_line, stride, start, end - begin, total, t)
        return
    # Where the image is far away, its zeros are still within reach of a short integer.
    low_end, high_end = f32(-1.5 - origin), f32(pixels + 0.5 - origin)
    read_clamped(image, at_line, stride, low_end, high_end, kind == WIDE, start, end - begin, total, t)


@inline
def read_group(image, stride, lines, pixels, groups, at, slope, g, begin, end, start, total, t):
    """Add sixteen rays on the lines [begin, end), as fast as their distances allow."""
    middle = (lines - 1) / 2.0
    begin, end = max(begin, groups[g, 0]), min(end, groups[g, 3])
    kind = groups[g, 4]
    if begin >= end:
        return
    if kind == SLOW:
        read_singly(image, stride, pixels, at, slope, 16 * g, middle, begin, end, total, t)
        return
    inner = min(max(begin, groups[g, 1]), end) if kind == FAST else end
    outer = max(inner, min(end, groups[g, 2]))
    ends = (begin, inner, outer, end)
    for part in range(3):
        way = kind if kind == WIDE or part == 1 else CLAMPED
        read_lines(image, stride, pixels, way, at, slope, 16 * g, middle, ends[part], ends[part + 1], start, total, t)


@kernel
def project_image(job0, job1, total, by_y, by_x, ny, nx, first_run, runs, groups, at, slope, length, out):
    """Fill out (view, column) from an image framed by zeros, once in lines of fixed y and once of fixed x, flat."""
    lanes = local_floats(32)
    for view in range(job0, job1):
        start = runs[first_run[view], 1]
        stop = runs[first_run[view + 1] - 1, 1] + runs[first_run[view + 1] - 1, 2]
        clear(total[: stop - start])
        for begin in range(0, max(ny, nx), _LINES):
            for r in range(first_run[view], first_run[view + 1]):
                image, lines, pixels = (by_y, ny, nx) if runs[r, 0] == 1 else (by_x, nx, ny)
                stride, end = pixels + 3 * EDGE, begin + _LINES
                for g in range(runs[r, 1] // 16, (runs[r, 1] + runs[r, 2] + 15) // 16):
                    t = 16 * g - start
                    read_group(image, stride, lines, pixels, groups, at, slope, g, begin, end, lanes, total, t)
        for r in range(first_run[view], first_run[view + 1]):
            for i in range(runs[r, 2]):
                e = runs[r, 1] + i
                out[view, runs[r, 3] + runs[r, 4] * i] = total[e - start] * length[e]


@inline
def gather_line(place, value, top, rise, bottom, fall, arc, shift, limit, taps, wide, begin, end, image, at):
    """Add to pixels [begin, end) of a line, at image[at], the rays within one pixel of each.

    `place` and `value` hold the rays' positions on the line and their values. The ray at position x is number
    (top + rise x) / (bottom + fall x) + shift, on an arc of `arc` columns per radian the same bent.
    """
    one, zero = fill(f32(1)), fill(f32(0))
    top_, rise_, bottom_, fall_ = fill(top), fill(rise), fill(bottom), fill(fall)
    least, most, shift_, step = fill(f32(_MARGIN - 12)), fill(limit), fill(shift), fill(f32(16))
    x = lane_numbers() + fill(f32(begin))
    for i in range(begin, end, 16):
        before = x - one
        ray = (rise_ * before + top_) / (fall_ * before + bottom_)
        if arc > f32(0):
            ray = arc_tangent(ray / fill(arc)) * fill(arc)
        start = truncated(minimum(maximum(ray + shift_, least), most))
        base = first(start)
        index = start - fill_ints(base)
        total = load(image, at + i)
        if wide:
            for tap in range(taps):
                weight = maximum(one - absolute(pick_wide(place, base, index, tap) - x), zero)
                total = weight * pick_wide(value, base, index, tap) + total
        else:
            for tap in range(taps):
                weight = maximum(one - absolute(pick(place, base, index, tap) - x), zero)
                total = weight * pick(value, base, index, tap) + total
        store(image, at + i, total)
        x = x + step


@inline
def gather_run(weighted, run, at, slope, maps, columns, arc, slack, lines, pixels, k0, k1, place, value, image, stride):
    """Add one run of rays to the lines [k0, k1)."""
    main, e, count, column, step = run[0], run[1], run[2], run[3], run[4]
    across, along = (1, 2) if main == 1 else (2, 1)
    whole = (count + 15) // 16 * 16
    for i in range(0, whole, 16):
        store(value, _MARGIN + i, load(weighted, e + i))
    for i in range(whole, whole + _BEYOND - 16, 16):
        store(value, _MARGIN + i, fill(f32(0)))
    h = f32(pixels - 1) / f32(2)
    sign = f32(step)
    shift = sign * (f32(columns - 1) / f32(2) - f32(column)) + f32(_MARGIN + 1) - slack
    for k in range(k0, k1):
        y = f32(k) - f32(lines - 1) / f32(2)
        p0, p1 = f32(at[e] + slope[e] * y), f32(at[e + count - 1] + slope[e + count - 1] * y)
        if not (p0 < f32(pixels) and p1 > f32(-1) and p0 <= p1):
            continue
        begin, end = max(0, int(max(p0, f32(0)))), min(pixels, int(min(p1, f32(pixels))) + 2)
        line = fill(y)
        for i in range(0, whole, 16):
            store(place, _MARGIN + i, load(slope, e + i) * line + load(at, e + i))
        rise, fall = sign * maps[0, along], maps[1, along]
        top = sign * (maps[0, 0] + maps[0, across] * y) - rise * h
        bottom = maps[1, 0] + maps[1, across] * y - fall * h
        least = min(bottom + fall * f32(begin - 1), bottom + fall * f32(end))
        density = f32(1.001) * abs(rise * bottom - fall * top) / (least * least)
        taps = int(f32(2) * density + slack) + 1
        wide = f32(15) * density + f32(taps) > f32(30.9)
        gather_line(
            place, value, top, rise, bottom, fall, arc, shift, f32(whole + _MARGIN), taps, wide, begin // 16 * 16, end,
            image, k * stride,
        )  # fmt: skip


@kernel
def gather_image(
    job0, job1, space, weighted, first_run, runs, at, slope, maps, columns, arc, slack, ny, nx, by_y, by_x
):
    """Fill an image, in lines of fixed y and in lines of fixed x that the caller adds up, from weighted rays."""
    for job in range(job0, job1):
        main, k0 = 1 - job % 2, job // 2 * _OWNED
        lines, pixels, image = (ny, nx, by_y) if main == 1 else (nx, ny, by_x)
        k1 = min(lines, k0 + _OWNED)
        stride = (pixels + 15) // 16 * 16
        for i in range(k0 * stride, k1 * stride, 16):
            store(image, i, fill(f32(0)))
        clear(space)
        place, value = space[: len(space) // 2], space[len(space) // 2 :]
        for view in range(maps.shape[0]):
            for r in range(first_run[view], first_run[view + 1]):
                if runs[r, 0] == main:
                    gather_run(
                        weighted, runs[r], at, slope, maps[view], columns, arc, slack, lines, pixels, k0, k1, place,
                        value, image, stride,
                    )  # fmt: skip
