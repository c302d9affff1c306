"""Linear interpolation along contiguous columns, sixteen results at a time: what cone kernels and FDK share.

`add_lines` reads: sums[m] += c(start + slope m) for many blended columns c, sums staying in registers. `add_back` is
its transpose for one line. Columns carry zeros around them, so that reading clamps instead of testing.
"""

# mypy: disable-error-code="call-arg,var-annotated"
# Numba passes the first argument of intrinsics, and knows their types.

import math

import numpy as np

from recon.kernels.cpu.compile import inline
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

MARGIN = 16  # zeros before a column that `add_lines` reads; as many follow, shared with the next column
BORDER = 80  # zeros around a column that `add_back` reads
LINES = 16  # the most lines at a time
_ROWS = 384  # the most sums that lines are blended for at a time: all lines then fit into the nearest cache
_SPAN = 784  # floats that a line takes of the working space: _ROWS times the steepest slope, and a register's width
SCRATCH = LINES * _SPAN  # floats of working space for `add_lines`
_NARROW, _WIDE = 1.9, 3.9  # slopes up to which sixteen places lie within the windows of `pick` and `pick_wide`
_ATAN = (
    1.0, -0.333332823, 0.199982311, -0.142615773, 0.109402129, -0.0837209527, 0.0574639758, -0.0307178326,
    0.0106808521, -0.00174372291,
)  # fmt: skip


def padded(size):
    """Return the length of a column of some size with the zeros that `add_lines` needs, the next one's counting."""
    length = MARGIN + -(-(size + 2) // 16) * 16
    return length if length % 32 else length + 16  # even multiples would share few cache sets


@inline
def clear(values):
    """Set all values to zero."""
    for i in range(len(values)):
        values[i] = np.float32(0.0)


@inline
def blend(source, one, other, share, other_share, scratch, at, count):
    """Write a weighted sum of two columns."""
    a, b = fill(share), fill(other_share)
    for m in range(0, count, 16):
        store(scratch, at + m, a * load(source, one + m) + b * load(source, other + m))


@inline
def read(scratch, at, t, low, high):
    """Return sixteen interpolated values; places outside [low, high] hold zeros."""
    t = maximum(minimum(t, high), low)
    i = truncated(t)
    f = t - as_floats(i)
    base = first(i)
    i = i - fill_ints(base)
    a = pick(scratch, at + base, i, 0)
    return f * (pick(scratch, at + base, i, 1) - a) + a


@inline
def read_wide(scratch, at, t, low, high):
    """Do as `read` for places further apart."""
    t = maximum(minimum(t, high), low)
    i = truncated(t)
    f = t - as_floats(i)
    base = first(i)
    i = i - fill_ints(base)
    a = pick_wide(scratch, at + base, i, 0)
    return f * (pick_wide(scratch, at + base, i, 1) - a) + a


@inline
def window(t, reach, size):
    """Return where a run of places from t to t + reach begins, in whole groups of sixteen, and how many it takes."""
    begin = max(int(max(t, -1.0) + 16.0) - 16, -1) & -16
    end = min(int(t + reach) + 2, size + 2)
    return begin, (end - begin + 15) & -16


@inline
def add_rows(source, one, other, share, other_share, start, slope, count, size, sums, begin, end, scratch):
    """Add at most LINES lines to sums[begin : end], at most _ROWS and an even number of sixteens.

    All are blended before the first is read: a read takes its values from two stores, and must wait until these have
    left the processor's buffer.
    """
    n = 0
    place, pitch, least, most = local_floats(LINES), local_floats(LINES), local_floats(LINES), local_floats(LINES)
    for k in range(count):
        s = slope[k]
        t, reach = start[k] + s * begin, s * (end - begin - 1)
        if t + reach > -1.0 and t < size:
            left, needed = window(t, reach, size)
            blend(source, one[k] + left, other[k] + left, share[k], other_share[k], scratch, n * _SPAN, needed)
            place[n], pitch[n], least[n], most[n] = t - left, s, -1.0 - left, size - left
            n += 1
    rows, half, whole = lane_numbers(), fill(np.float32(16.0)), fill(np.float32(32.0))
    for at in range(begin, end, 32):
        a, b = load(sums, at), load(sums, at + 16)
        for k in range(n):
            p, q, low, high = fill(pitch[k]), fill(place[k]), fill(least[k]), fill(most[k])
            a = a + read(scratch, k * _SPAN, rows * p + q, low, high)
            b = b + read(scratch, k * _SPAN, (rows + half) * p + q, low, high)
        store(sums, at, a)
        store(sums, at + 16, b)
        rows = rows + whole


@inline
def add_sixteen(source, one, other, share, other_share, start, slope, count, size, sums, at, scratch):
    """Add every line to sums[at : at + 16], at any slope."""
    total = load(sums, at)
    for k in range(count):
        s = slope[k]
        t = start[k] + s * at
        if t + s * 15 <= -1.0 or t >= size:
            continue
        if s > _WIDE:
            store(sums, at, total)
            for m in range(16):
                add_one(source, one[k], other[k], share[k], other_share[k], t + s * m, size, sums, at + m)
            total = load(sums, at)
            continue
        begin, needed = window(t, s * 15, size)
        blend(source, one[k] + begin, other[k] + begin, share[k], other_share[k], scratch, 0, needed)
        low, high = fill(np.float32(-1.0 - begin)), fill(np.float32(size - begin))
        x = fill(np.float32(s)) * lane_numbers() + fill(np.float32(t - begin))
        total = total + (read(scratch, 0, x, low, high) if s <= _NARROW else read_wide(scratch, 0, x, low, high))
    store(sums, at, total)


@inline
def add_one(source, one, other, share, other_share, t, size, sums, at):
    """Add one line to one sum."""
    if -1.0 < t < size:
        i = int(t + 1.0) - 1
        f = np.float32(t - i)
        low = share * source[one + i] + other_share * source[other + i]
        high = share * source[one + i + 1] + other_share * source[other + i + 1]
        sums[at] += low + f * (high - low)


@inline
def add_lines(source, one, other, share, other_share, start, slope, count, size, sums, scratch):
    """Add `count` lines to sums: line k reads share · source[one + t] + other_share · source[other + t], linearly.

    The place of sum m is t = start + slope m with slope > 0. Columns hold `size` values and MARGIN zeros before them.
    The number of sums is a multiple of 32.
    """
    steepest, low, high = 0.0, float(len(sums)), 0.0
    for k in range(count):
        inverse = 1.0 / slope[k]
        steepest = max(steepest, slope[k])
        low, high = min(low, (-1.0 - start[k]) * inverse), max(high, (size - start[k]) * inverse)
    begin, end = int(max(low, 0.0)) & -32, min(len(sums), int(high) + 32 & -32)
    if steepest <= _NARROW:
        for at in range(begin, end, _ROWS):
            till = min(end, at + _ROWS)
            add_rows(source, one, other, share, other_share, start, slope, count, size, sums, at, till, scratch)
        return
    for at in range(begin, end, 16):
        add_sixteen(source, one, other, share, other_share, start, slope, count, size, sums, at, scratch)


@inline
def hat(values, at, i, j, e, slope):
    """Return sixteen values times how much of their hats a place away from them by e + j slope sees."""
    w = fill(np.float32(1.0)) - absolute(e + fill(np.float32(j)) * slope)
    return maximum(w, fill(np.float32(0.0))) * pick(values, at, i, j)


@inline
def hat_wide(values, at, i, j, e, slope):
    """Do as `hat` for values closer together."""
    w = fill(np.float32(1.0)) - absolute(e + fill(np.float32(j)) * slope)
    return maximum(w, fill(np.float32(0.0))) * pick_wide(values, at, i, j)


@inline
def add_back(values, at, rows, start, slope, sums, one, other, share, other_share, heights, line):
    """Transpose one line of `add_lines`: place start + slope r gives values[at + r] to the sums around it.

    Two columns of sums, at `one` and `other`, take their shares. Values lie between BORDER zeros.
    """
    z = max(0, int(max(start - 1.0, -1.0) + 1.0) - 1) & -16
    end = min(heights, int(max(start + slope * (rows - 1) + 2.0, 0.0)))
    if z >= end:
        return
    a, b = fill(share), fill(other_share)
    if slope < 0.3:
        scatter(values, at, rows, start, slope, heights, line, z, end)
        while z < end:
            found = load(line, z)
            store(sums, one + z, load(sums, one + z) + a * found)
            store(sums, other + z, load(sums, other + z) + b * found)
            z += 16
        return
    inverse = 1.0 / slope
    reach = int(math.ceil(2.0 * inverse - 1e-9))
    step, shrink, lanes = fill(np.float32(slope)), fill(np.float32(inverse)), lane_numbers()
    while z < end:
        t = (z - 1.0 - start) * inverse
        row = int(math.floor(t))
        i = truncated(shrink * lanes + fill(np.float32(t - row)))
        e = step * as_floats(i) - lanes + fill(np.float32(start + slope * (row + 1.0) - z))
        here = at + row + 1
        if reach <= 2:
            found = hat(values, here, i, 0, e, step) + hat(values, here, i, 1, e, step)
        elif reach == 3:
            found = hat(values, here, i, 0, e, step) + hat(values, here, i, 1, e, step)
            found = found + hat(values, here, i, 2, e, step)
        else:
            found = fill(np.float32(0.0))
            for j in range(reach):
                if slope >= 0.6:
                    found = found + hat(values, here, i, j, e, step)
                else:
                    found = found + hat_wide(values, here, i, j, e, step)
        store(sums, one + z, load(sums, one + z) + a * found)
        store(sums, other + z, load(sums, other + z) + b * found)
        z += 16


@inline
def scatter(values, at, rows, start, slope, heights, line, z, end):
    """Write into line[z : end] what places closer together than windows can hold give to their neighbours."""
    for k in range(z, (end + 15) & -16):
        line[k] = np.float32(0.0)
    for r in range(rows):
        t = start + slope * r
        if -1.0 < t < heights:
            i = int(t + 1.0) - 1
            f = np.float32(t - i)
            if i >= 0:
                line[i] += (np.float32(1.0) - f) * values[at + r]
            if i + 1 < heights:
                line[i + 1] += f * values[at + r]


@inline
def arc_tangent(x):
    """Return atan(x) for -1 <= x <= 1, within 6e-8 of itself; outside, that of the nearer end."""
    x = minimum(maximum(x, fill(np.float32(-1.0))), fill(np.float32(1.0)))
    y = x * x
    p = fill(np.float32(_ATAN[9]))
    p = p * y + fill(np.float32(_ATAN[8]))
    p = p * y + fill(np.float32(_ATAN[7]))
    p = p * y + fill(np.float32(_ATAN[6]))
    p = p * y + fill(np.float32(_ATAN[5]))
    p = p * y + fill(np.float32(_ATAN[4]))
    p = p * y + fill(np.float32(_ATAN[3]))
    p = p * y + fill(np.float32(_ATAN[2]))
    p = p * y + fill(np.float32(_ATAN[1]))
    p = p * y + fill(np.float32(_ATAN[0]))
    return p * x
