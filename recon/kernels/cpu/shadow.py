"""Voxel-driven backprojection for FBP and FDK: every voxel reads its shadow on the detector.

Equal to `recon.kernels.reference.backproject` to rounding. A job owns one line of voxel columns (fixed y); a
column's heights share what does not depend on z, which for an untilted scanner is the detector column and the
weight. Values come padded by one zero on each side, so that reading clamps instead of testing. Such scanners have a
kernel of their own in float32, `steady_backprojection`, with explicit lanes along z (DERIVATIONS.md, section 5).
"""

# mypy: disable-error-code="call-arg,var-annotated"
# Numba passes the first argument of intrinsics, and knows their types.

import math

import numpy as np

from recon.kernels.cpu.compile import inline, kernel
from recon.kernels.cpu.resample import MARGIN, SCRATCH, add_lines, arc_tangent, clear
from recon.kernels.cpu.simd import (
    as_floats,
    fill,
    fill_ints,
    first,
    lane,
    lane_numbers,
    last,
    load,
    local_doubles,
    local_floats,
    local_ints,
    maximum,
    minimum,
    pick,
    store,
    truncated,
)

STRIP = 16  # lines of pixels per job where lanes run along x
_VIEWS = 16  # views that a tile of voxel columns reads while both are in the cache


@inline
def read(line, row, share, rows, column_step, weight):
    """Read a padded view bilinearly; `line` starts at the lower of two columns, `share` is the upper one's part."""
    row = min(max(row, -1.0), float(rows))
    i = int(row + 1.0)
    i = min(i, rows)
    f = row + 1.0 - i
    low = line[i] + f * (line[i + 1] - line[i])
    high = line[column_step + i] + f * (line[column_step + i + 1] - line[column_step + i])
    return weight * (low + share * (high - low))


@inline
def place(column, columns):
    """Return the lower padded column and the upper one's part, with everything outside moved onto the zeros."""
    column = min(max(column, -1.0), float(columns))
    j = min(int(column + 1.0), columns)
    return j, column + 1.0 - j


@inline
def find(m, view, z, y, x, arc, scale, shift, middle):
    """Return row, column and weight of one voxel."""
    a = m[view, 0, 0] * z + m[view, 0, 1] * y + m[view, 0, 2] * x + m[view, 0, 3]
    b = m[view, 1, 0] * z + m[view, 1, 1] * y + m[view, 1, 2] * x + m[view, 1, 3]
    c = m[view, 2, 0] * z + m[view, 2, 1] * y + m[view, 2, 2] * x + m[view, 2, 3]
    if arc:
        w = math.sqrt(b * b + c * c)
        return a / w + shift[view], math.atan2(b, c) * scale + middle, 1.0 / (w * w)
    w = 1.0 / c
    return a * w, b * w, w * w


@inline
def rise(m, view, y, x, weight, arc):
    """Return by how many rows the shadow moves from one height to the next where it stays on a detector column."""
    slope = m[view, 0, 0] * math.sqrt(weight)
    if not arc and m[view, 2, 1] * y + m[view, 2, 2] * x + m[view, 2, 3] < 0:  # behind the source
        slope = -slope
    return slope


@inline
def add_column(total, flat, row, slope, share, rows, column_step, weight):
    """Add one view to a column of voxels whose shadows move evenly along one detector column."""
    heights = len(total)
    first, last = 0, heights
    if slope > 0:  # beyond these heights the shadow leaves the detector and its zeros
        first = max(0, int(math.ceil((-1.0 - row) / slope)))
        last = min(heights, int(math.ceil((rows - row) / slope)))
    low, high = weight * (1 - share), weight * share
    for z in range(first, last):
        at = min(max(row + slope * z + 1.0, 0.0), rows + 1.0)
        i = min(int(at), rows)
        f = at - i
        a = low * flat[i] + high * flat[column_step + i]
        b = low * flat[i + 1] + high * flat[column_step + i + 1]
        total[z] += a + f * (b - a)


@kernel
def shadow_backprojection(job0, job1, padded, matrices, arc, scale, shift, middle, rows, columns, out):
    """Fill out (batch, y, x, z) from padded values (batch, view, column + 2 · row + 2)."""
    _, ny, nx, nz = out.shape
    views, step = padded.shape[1], rows + 2
    for job in range(job0, job1):
        item, y = job // ny, job % ny
        for x in range(nx):
            total = out[item, y, x]
            for z in range(nz):
                total[z] = 0
            for view in range(views):
                steady = matrices[view, 1, 0] == 0.0 and matrices[view, 2, 0] == 0.0
                row, column, weight = find(matrices, view, 0.0, y, x, arc, scale, shift, middle)
                if steady:
                    if column <= -1.0 or column >= columns:
                        continue
                    j, share = place(column, columns)
                    slope = rise(matrices, view, y, x, weight, arc)
                    if nz == 1:
                        total[0] += read(padded[item, view, j * step :], row, share, rows, step, weight)
                    else:
                        add_column(total, padded[item, view, j * step :], row, slope, share, rows, step, weight)
                    continue
                for z in range(nz):
                    row, column, weight = find(matrices, view, z, y, x, arc, scale, shift, middle)
                    j, share = place(column, columns)
                    total[z] += read(padded[item, view, j * step :], row, share, rows, step, weight)


@kernel
def steady_backprojection(job0, job1, space, framed, matrices, arc, scale, shift, middle, rows, columns, tile, out):
    """Fill out (batch, z, y, x) from views (batch, view · column + 2 · row) framed by zeros, none of which tilts."""
    _, nz, ny, nx = out.shape
    views, lanes = len(matrices), (nz + 31) & -32
    stride = framed.shape[1] // (views * (columns + 2))
    tiles_y, tiles_x = (ny + tile - 1) // tile, (nx + tile - 1) // tile
    one, other, start, slope = local_ints(_VIEWS), local_ints(_VIEWS), local_doubles(_VIEWS), local_doubles(_VIEWS)
    low, high = local_floats(_VIEWS), local_floats(_VIEWS)
    for job in range(job0, job1):
        item, y0, x0 = job // (tiles_y * tiles_x), job // tiles_x % tiles_y * tile, job % tiles_x * tile
        y1, x1 = min(ny, y0 + tile), min(nx, x0 + tile)
        scratch, sums, source = space[:SCRATCH], space[SCRATCH : SCRATCH + tile * tile * lanes], framed[item]
        clear(sums)
        for begin in range(0, views, _VIEWS):
            for y in range(y0, y1):
                for x in range(x0, x1):
                    n = 0
                    for view in range(begin, min(views, begin + _VIEWS)):
                        row, column, weight = find(matrices, view, 0.0, y, x, arc, scale, shift, middle)
                        if -1.0 < column < columns:
                            j, share = place(column, columns)
                            one[n] = (view * (columns + 2) + j) * stride + MARGIN
                            other[n] = one[n] + stride
                            low[n], high[n] = weight * (1.0 - share), weight * share
                            start[n], slope[n] = row, matrices[view, 0, 0] * math.sqrt(weight)
                            n += 1
                    at = ((y - y0) * tile + x - x0) * lanes
                    add_lines(source, one, other, low, high, start, slope, n, rows, sums[at : at + lanes], scratch)
        for z in range(nz):
            for y in range(y0, y1):
                for x in range(x0, x1):
                    out[item, z, y, x] = sums[((y - y0) * tile + x - x0) * lanes + z]


@kernel
def parallel_backprojection(job0, job1, space, framed, matrices, rows, columns, out):
    """Fill out (batch, z, y, x) from framed rows of parallel views (batch, view · row + 2 · column), lanes along x.

    The rows follow once more, columns reversed, so that places always rise with x.
    """
    _, nz, ny, nx = out.shape
    views, lanes = len(matrices), (nx + 31) & -32
    stride = framed.shape[1] // (2 * views * (rows + 2))
    strips = (ny + STRIP - 1) // STRIP
    one, other, start, slope = local_ints(_VIEWS), local_ints(_VIEWS), local_doubles(_VIEWS), local_doubles(_VIEWS)
    low, high = local_floats(_VIEWS), local_floats(_VIEWS)
    for job in range(job0, job1):
        item, z, y0 = job // (nz * strips), job // strips % nz, job % strips * STRIP
        y1 = min(ny, y0 + STRIP)
        scratch, sums, source = space[:SCRATCH], space[SCRATCH : SCRATCH + STRIP * lanes], framed[item]
        clear(sums)
        for begin in range(0, views, _VIEWS):
            for y in range(y0, y1):
                n = 0
                for view in range(begin, min(views, begin + _VIEWS)):
                    row = matrices[view, 0, 0] * z + matrices[view, 0, 3]
                    if -1.0 < row < rows:
                        j, share = place(row, rows)
                        start[n], slope[n] = matrices[view, 1, 1] * y + matrices[view, 1, 3], matrices[view, 1, 2]
                        line = view * (rows + 2) + j
                        if slope[n] < 0:
                            line += views * (rows + 2)
                            start[n], slope[n] = columns - 1 - start[n], -slope[n]
                        one[n], other[n] = line * stride + MARGIN, (line + 1) * stride + MARGIN
                        low[n], high[n] = 1.0 - share, share
                        n += 1
                at = (y - y0) * lanes
                add_lines(source, one, other, low, high, start, slope, n, columns, sums[at : at + lanes], scratch)
        for y in range(y0, y1):
            for x in range(nx):
                out[item, z, y, x] = sums[(y - y0) * lanes + x]


@inline
def add_fan(line, t, weight, columns, sums, x, spare):
    """Add one view, read at sixteen columns t from the middle, to sixteen pixels.

    `line` starts MARGIN zeros before the first column, and ends as many after the last.
    """
    middle = np.float32((columns - 1) / 2.0)
    edge = fill(middle + np.float32(1.0))
    t = minimum(maximum(t, fill(np.float32(0.0)) - edge), edge)
    # Rounded to whole columns on the detector, yet subtracted from the middle, where floats are finest.
    i = truncated(t + fill(middle + np.float32(MARGIN)))
    f = t - (as_floats(i) - fill(middle + np.float32(MARGIN)))
    base = min(first(i), last(i))
    half = max(abs(lane(i, 7) - first(i)), abs(last(i) - lane(i, 8)))
    if half < 16 and max(first(i), last(i)) - base < 31:
        i = i - fill_ints(base)
        low = pick(line, base, i, 0)
        found = f * (pick(line, base, i, 1) - low) + low
        store(sums, x, load(sums, x) + found * weight)
        return
    store(spare, 0, as_floats(i))
    store(spare, 16, f)
    store(spare, 32, weight)
    for k in range(16):
        j = int(spare[k])
        sums[x + k] += (line[j] + spare[16 + k] * (line[j + 1] - line[j])) * spare[32 + k]


@inline
def add_flat(line, b, c, b_step, c_step, columns, sums, at, lanes, spare):
    """Add one flat view to a line of pixels, whose columns from the middle are (b + b_step x) / (c + c_step x)."""
    for x in range(0, lanes, 16):
        w = fill(np.float32(c + c_step * x)) + fill(np.float32(c_step)) * lane_numbers()
        w = fill(np.float32(1.0)) / w
        t = (fill(np.float32(b + b_step * x)) + fill(np.float32(b_step)) * lane_numbers()) * w
        add_fan(line, t, w * w, columns, sums, at + x, spare)


@inline
def add_arc(line, b, c, b_step, c_step, scale, columns, sums, at, lanes, spare):
    """Add one arc view to a line of pixels at angles atan2(b + b_step k, c + c_step k), k pixels from its middle.

    From the middle's angle they differ by atan(k turn / (1 + k stretch)), which is small, so that floats do.
    """
    square = b * b + c * c
    turn, stretch = (b_step * c - c_step * b) / square, (b_step * b + c_step * c) / square
    bend = (b_step * b_step + c_step * c_step) / square
    centre = fill(np.float32(math.atan2(b, c) * scale))
    one, weight = fill(np.float32(1.0)), fill(np.float32(1.0 / square))
    for x in range(0, lanes, 16):
        k = fill(np.float32(x - (lanes - 1) / 2.0)) + lane_numbers()
        along = fill(np.float32(stretch)) * k
        t = arc_tangent(fill(np.float32(turn)) * k / (one + along)) * fill(np.float32(scale)) + centre
        w = weight / (one + along + along + fill(np.float32(bend)) * k * k)
        add_fan(line, t, w, columns, sums, at + x, spare)


@kernel
def fan_backprojection(job0, job1, space, framed, matrices, arc, scale, columns, out):
    """Fill out (batch, y, x) from framed fan views (batch, view, column) of one row, lanes along x."""
    _, ny, nx = out.shape
    views, lanes = len(matrices), (nx + 15) & -16
    strips, middle = (ny + STRIP - 1) // STRIP, (columns - 1) / 2.0
    spare = local_floats(48)
    for job in range(job0, job1):
        item, y0 = job // strips, job % strips * STRIP
        y1 = min(ny, y0 + STRIP)
        sums = space[: STRIP * lanes]
        clear(sums)
        for view in range(views):
            m, line = matrices[view], framed[item, view]
            for y in range(y0, y1):
                b, c, b_step, c_step = m[1, 1] * y + m[1, 3], m[2, 1] * y + m[2, 3], m[1, 2], m[2, 2]
                at = (y - y0) * lanes
                if arc:
                    x = (lanes - 1) / 2.0
                    add_arc(
                        line, b + b_step * x, c + c_step * x, b_step, c_step, scale, columns, sums, at, lanes, spare
                    )
                else:
                    add_flat(line, b - middle * c, c, b_step - middle * c_step, c_step, columns, sums, at, lanes, spare)
        for y in range(y0, y1):
            for x in range(nx):
                out[item, y, x] = sums[(y - y0) * lanes + x]
