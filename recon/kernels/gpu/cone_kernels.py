"""Triton kernels for cone beams whose detector rows are parallel to z (DERIVATIONS.md, section 7).

What the rows of a detector column share is arithmetic on single numbers, done in every thread and spread over the
rows or voxels it holds. Tensors run along z or along the rows and nowhere else, so that each load of a warp is one
short stretch of memory in every version of Triton. The wide kernels do the same for Triton's interpreter, many
columns at once, with the same bodies.
"""

import triton
import triton.language as tl

MARGIN = 2  # zeros before a column of voxels, and at least as many after it
COLUMNS = 4  # of a detector in the forward kernel, and of voxels in the adjoint, that one program follows

# Sizes compile nothing anew, and outputs of unknown alignment keep neighbouring voxels in neighbouring threads.
_SIZES = ["first", "begin", "end", "rows", "columns", "length", "border", "lines", "across", "heights"]
_PROJECT = {"do_not_specialize": [name for name in _SIZES if name not in ("length", "border")]}
_SPREAD = {"do_not_specialize": [name for name in _SIZES if name != "rows"]}

_MARGIN = tl.constexpr(MARGIN)
_MAGIC = tl.constexpr(12582912.0)  # 1.5 · 2^23: adding it rounds to whole numbers, which are then in its low bits
_MAGIC_BITS = tl.constexpr(0x4B400000)
_UNROLLED = tl.constexpr(9)  # the widest window that is written out


@triton.jit
def _unit(x):
    """Confine to [0, 1]: no instruction of its own on most GPUs, but part of the one before."""
    return tl.minimum(tl.maximum(x, 0.0), 1.0)


@triton.jit
def _hat(x):
    return _unit(1.0 - tl.abs(x))


@triton.jit
def _ray(rays, at):
    """Load what the rays of a column share: place and height between rows, at the middle line and per line."""
    at = rays + at * 8
    place, slope = (tl.load(at), tl.load(at + 1)), (tl.load(at + 2), tl.load(at + 3))
    return place, slope, (tl.load(at + 4), tl.load(at + 5)), (tl.load(at + 6), tl.load(at + 7))


@triton.jit
def _place(ray, k):
    """Return where rays cross line k: the voxel before, and how far after it."""
    near = tl.fma(ray[1][0], k, ray[0][0])  # exact, see cone_tables
    voxel = tl.floor(near)
    rest = tl.fma(ray[1][1], k, ray[0][1]) + (near - voxel)
    more = tl.floor(rest)
    return voxel + more, rest - more


@triton.jit
def _leap(ray, k):
    """Return the height between rows on line k, and what float32 leaves of it."""
    leap = tl.fma(ray[3][0], k, ray[2][0])
    return leap, tl.fma(ray[3][0], k, ray[2][0] - leap) + tl.fma(ray[3][1], k, ray[2][1])


@triton.jit
def _scene(views, view):
    """Load where the source of a view is: its height and its row, each whole and rest."""
    at = views + view * 6
    return tl.load(at), tl.load(at + 1), tl.load(at + 2), tl.load(at + 3)


@triton.jit
def _read(columns, share, leap, leap_rest, row, from_row, scene, heights, PITCH: tl.constexpr):
    """Return what rows read between two columns of voxels; `columns` is where the first has the source's height.

    Rows are `from_row` away from the one in the middle of the block, which lies `row` over the source. Places are
    confined to the zeros around the voxels.
    """
    low, count = -_MARGIN - scene[0], heights + _MARGIN
    inverse = 1.0 / count
    magic = tl.fma(leap, row - scene[3], scene[1]) + _MAGIC
    voxel = magic - _MAGIC  # near the middle row; exact from here on
    near = tl.fma(leap, row, -voxel) + tl.fma(-leap, scene[3], tl.fma(leap_rest, row, scene[1]))
    part = _unit(tl.fma(from_row, leap * inverse, (voxel - (low + 0.5) + near) * inverse))
    rounded = tl.fma(part, count, low + _MAGIC)
    above = tl.fma(leap, from_row, magic - rounded) + tl.fma(leap_rest, from_row, near)
    at = columns + rounded.to(tl.int32, bitcast=True)
    one, other, one_up, other_up = tl.load(at), tl.load(at + PITCH), tl.load(at + 1), tl.load(at + PITCH + 1)
    one, one_up = tl.fma(other - one, share, one), tl.fma(other_up - one_up, share, one_up)
    return tl.fma(one_up - one, above, one)


@triton.jit
def _line(voxels, k, across, ray, row, from_row, scene, heights, PITCH: tl.constexpr):
    """Return what the rays of a column read on line k, counted from the middle one, which begins at `voxels`."""
    voxel, share = _place(ray, k)
    inside = tl.minimum(tl.maximum(voxel, -1.0), across - 1.0)
    share = _unit(share + (voxel - inside))  # beyond the grid, all of the zeros around it
    leap, leap_rest = _leap(ray, k)
    return _read(
        voxels + (inside.to(tl.int32) + 1) * PITCH, share, leap, leap_rest, row, from_row, scene, heights, PITCH
    )


@triton.jit(**_PROJECT, do_not_specialize_on_alignment=["sums"])
def project_columns(volume, rays, views, groups, sums, first, begin, end, rows, columns, lines, across, heights,
                    PITCH: tl.constexpr, ROWS: tl.constexpr):  # fmt: skip
    """Sum along the rays of a group of columns, ROWS of each."""
    blocks = tl.cdiv(rows, ROWS)
    group = groups + (begin + tl.program_id(0) // blocks) * 5
    view, column, count = tl.load(group), tl.load(group + 1), tl.load(group + 2)
    start, stop = tl.load(group + 3), tl.load(group + 4)
    scene = _scene(views, view)
    bottom = tl.program_id(0) % blocks * ROWS
    from_row = (tl.arange(0, ROWS) - ROWS // 2).to(tl.float32)
    row = bottom + ROWS // 2 - scene[2]
    at = view * columns + column
    ray_a, ray_b = _ray(rays, at), _ray(rays, at + tl.minimum(1, count - 1))
    ray_c, ray_d = _ray(rays, at + tl.minimum(2, count - 1)), _ray(rays, at + tl.minimum(3, count - 1))
    pitch = (across + 2).to(tl.int64) * PITCH
    volume += scene[0].to(tl.int32) + _MARGIN - _MAGIC_BITS
    a = tl.zeros((ROWS,), tl.float32)
    b, c, d = a, a, a
    for n in range(0, stop - start):
        voxels, k = volume + (start + n) * pitch, start + n - (lines - 1) * 0.5
        a += _line(voxels, k, across, ray_a, row, from_row, scene, heights, PITCH)
        b += _line(voxels, k, across, ray_b, row, from_row, scene, heights, PITCH)
        c += _line(voxels, k, across, ray_c, row, from_row, scene, heights, PITCH)
        d += _line(voxels, k, across, ray_d, row, from_row, scene, heights, PITCH)
    number = bottom + tl.arange(0, ROWS)
    out = sums + ((view - first) * columns + column) * rows + number
    tl.store(out, a, mask=number < rows)
    tl.store(out + rows, b, mask=number < tl.where(count > 1, rows, 0))
    tl.store(out + 2 * rows, c, mask=number < tl.where(count > 2, rows, 0))
    tl.store(out + 3 * rows, d, mask=number < tl.where(count > 3, rows, 0))


@triton.jit
def project_wide(volume, rays, views, groups, sums, first, begin, end, rows, columns, lines, across, heights,
                 PITCH: tl.constexpr, RAYS: tl.constexpr, ROWS: tl.constexpr):  # fmt: skip
    """Do as `project_columns` for many columns at once."""
    number = tl.program_id(1) * RAYS + tl.arange(0, RAYS)[:, None]
    group = groups + tl.minimum(begin + number // 4, end - 1) * 5
    view, column, count = tl.load(group), tl.load(group + 1), tl.load(group + 2)
    column += tl.minimum(number % 4, count - 1)
    scene = _scene(views, view)
    bottom = tl.program_id(0) * ROWS
    from_row = (tl.arange(0, ROWS) - ROWS // 2).to(tl.float32)[None, :]
    ray = _ray(rays, view * columns + column)
    pitch = (across + 2).to(tl.int64) * PITCH
    voxels = volume + (scene[0].to(tl.int32) + _MARGIN - _MAGIC_BITS)
    k = 0 - (lines - 1) * 0.5
    a = tl.zeros((RAYS, ROWS), tl.float32)
    for _ in range(0, lines):
        a += _line(voxels, k, across, ray, bottom + ROWS // 2 - scene[2], from_row, scene, heights, PITCH)
        k += 1.0
        voxels += pitch
    row = bottom + tl.arange(0, ROWS)[None, :]
    inside = (number % 4 < count) & (number // 4 < end - begin) & (row < rows)
    tl.store(sums + ((view - first) * columns + column) * rows + row, a, mask=inside)


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
def _ends(n, m, n_step, m_step, low, high):
    """Return the quotients at two places of a line, the lesser first, and the lesser denominator."""
    one, other = m + m_step * low, m + m_step * high
    a, b = (n + n_step * low) / one, (n + n_step * high) / other
    return tl.minimum(a, b), tl.maximum(a, b), tl.minimum(one, other)


@triton.jit
def _seen(shadow, run, columns, k, low, high, LINES: tl.constexpr, bow, ARC: tl.constexpr):
    """Return which columns [first, end) of a run may pass between two places on one line, or on two."""
    n, m = tl.load(shadow) + tl.load(shadow + 1) * k, tl.load(shadow + 3) + tl.load(shadow + 4) * k
    n_step, m_step, doubt = tl.load(shadow + 2), tl.load(shadow + 5), tl.load(shadow + 6)
    least, most, nearest = _ends(n, m, n_step, m_step, low, high)
    if LINES > 1:
        a, b, c = _ends(n + tl.load(shadow + 1), m + tl.load(shadow + 4), n_step, m_step, low, high)
        least, most, nearest = tl.minimum(least, a), tl.maximum(most, b), tl.minimum(nearest, c)
    if ARC:
        least, most = _arc_tangent(least / bow) * bow, _arc_tangent(most / bow) * bow
    left, right, middle = tl.load(run + 1).to(tl.float32), tl.load(run + 2).to(tl.float32), (columns - 1) * 0.5
    ahead = nearest > 1e-3  # else the shadow may be anywhere
    first = tl.where(ahead, tl.minimum(tl.maximum(tl.ceil(least + middle - doubt), left), right), left)
    end = tl.where(ahead, tl.minimum(tl.maximum(tl.floor(most + middle + doubt) + 1, left), right), right)
    return first.to(tl.int32), end.to(tl.int32)


@triton.jit
def _gather(projections, leap, leap_rest, height, from_z, scene, border, length, WINDOW: tl.constexpr):
    """Return what a column of voxels gets from a detector column; `projections` is where the row of the source lies.

    Voxels are `from_z` away from the one in the middle of the block, which lies `height` over the source. Rows are
    confined to the border of zeros.
    """
    low, count = (WINDOW - 1) // 2 - border - scene[2], length - WINDOW + 0.0
    part, inverse = 1.0 / count, 1.0 / leap
    magic = tl.fma(height - scene[1], inverse, scene[3]) + _MAGIC
    row = magic - _MAGIC  # near the middle voxel; exact from here on
    near = tl.fma(-leap, row, height) + tl.fma(leap, scene[3], tl.fma(-leap_rest, row, -scene[1]))
    place = tl.fma(near, inverse, row - low) - (0.0 if WINDOW % 2 else 0.5)
    rounded = tl.fma(_unit(tl.fma(from_z, inverse * part, place * part)), count, low + _MAGIC)
    rows = magic - rounded
    away = tl.fma(leap, rows, from_z) + tl.fma(leap_rest, rows, near)  # from the nearest row, or from the one below
    at = projections + rounded.to(tl.int32, bitcast=True)
    found = _hat(away) * tl.load(at)
    if WINDOW > _UNROLLED:
        for j in range(1, WINDOW // 2 + 1):
            found += _hat(away - leap * j) * tl.load(at + j)
        for j in range(1, (WINDOW + 1) // 2):
            found += _hat(away + leap * j) * tl.load(at - j)
    else:
        if WINDOW % 2 == 0:
            found += _hat(away - leap) * tl.load(at + 1)
        for j in tl.static_range(1, (WINDOW + 1) // 2):
            found += _unit((1.0 - (j + 1 - WINDOW % 2) * leap) + away) * tl.load(at + (j + 1 - WINDOW % 2))
            found += _unit((1.0 - j * leap) - away) * tl.load(at - j)
    return found


@triton.jit
def _line_back(projections, k, i, ray, least, height, from_z, scene, border, length, WINDOW: tl.constexpr):
    """Return what rays give to all voxels they pass on line k, and where they are, counted from voxel i."""
    leap, leap_rest = _leap(ray, k)
    leap = tl.maximum(leap, least)
    found = _gather(projections, leap, leap_rest, height, from_z, scene, border, length, WINDOW)
    return found, tl.fma(ray[1][0], k, ray[0][0] - i) + tl.fma(ray[1][1], k, ray[0][1])


@triton.jit
def _add(sums, found, i, z, across, heights):
    """Add four columns of sums to those of a line from voxel i on."""
    for n in tl.static_range(4):
        out = sums + (i + n) * heights + z
        mask = z < tl.where(i + n < across, heights, 0)
        tl.store(out, tl.load(out, mask=mask, other=0.0) + found[n], mask=mask)


@triton.jit(**_SPREAD, do_not_specialize_on_alignment=["sums"])
def spread_columns(projections, rays, views, runs, shadows, sums, first, begin, end, columns, length, border, lines,
                   across, heights, least, bow, WINDOW: tl.constexpr, ARC: tl.constexpr,
                   HEIGHTS: tl.constexpr):  # fmt: skip
    """Add what runs of rays give to four columns of voxels on each of two lines, HEIGHTS of each."""
    bottom = tl.program_id(0) * HEIGHTS
    line, i = tl.program_id(2) * 2, tl.program_id(1) * 4
    k, low = line - (lines - 1) * 0.5, i - 1 - (across - 1) * 0.5
    middle = (bottom + HEIGHTS // 2).to(tl.float32)
    from_z = (tl.arange(0, HEIGHTS) - HEIGHTS // 2).to(tl.float32)
    a0 = tl.zeros((HEIGHTS,), tl.float32)
    a1, a2, a3, b0, b1, b2, b3 = a0, a0, a0, a0, a0, a0, a0
    for number in range(begin, end):
        view = tl.load(runs + number * 3)
        scene = _scene(views, view)
        height = middle - scene[0]
        left, right = _seen(shadows + number * 7, runs + number * 3, columns, k, low, low + 5, 2, bow, ARC)
        reached = (bottom <= tl.load(views + view * 6 + 5)) & (bottom + HEIGHTS > tl.load(views + view * 6 + 4))
        base = projections + (border + scene[2].to(tl.int32) - _MAGIC_BITS)
        base += (view - first) * columns.to(tl.int64) * length
        for column in range(left, tl.where(reached, right, left)):
            ray, row = _ray(rays, view * columns + column), base + column * length
            found, p = _line_back(row, k, i, ray, least, height, from_z, scene, border, length, WINDOW)
            a0 += _hat(p) * found
            a1 += _hat(p - 1) * found
            a2 += _hat(p - 2) * found
            a3 += _hat(p - 3) * found
            found, p = _line_back(row, k + 1, i, ray, least, height, from_z, scene, border, length, WINDOW)
            b0 += _hat(p) * found
            b1 += _hat(p - 1) * found
            b2 += _hat(p - 2) * found
            b3 += _hat(p - 3) * found
    z, out = bottom + tl.arange(0, HEIGHTS), sums + line.to(tl.int64) * across * heights
    _add(out, (a0, a1, a2, a3), i, z, across, heights)
    _add(out + across * heights, (b0, b1, b2, b3), i, z, tl.where(line + 1 < lines, across, 0), heights)


@triton.jit
def spread_wide(projections, rays, views, runs, shadows, sums, first, begin, end, columns, length, border, lines,
                across, heights, least, bow, WINDOW: tl.constexpr, ARC: tl.constexpr, VOXELS: tl.constexpr,
                HEIGHTS: tl.constexpr):  # fmt: skip
    """Do as `spread_columns` for many columns of voxels at once."""
    bottom = tl.program_id(0) * HEIGHTS
    voxel = tl.program_id(1) * VOXELS + tl.arange(0, VOXELS)[:, None]
    line, i = voxel // across, voxel % across
    k, low = line - (lines - 1) * 0.5, i - 1 - (across - 1) * 0.5
    middle = (bottom + HEIGHTS // 2).to(tl.float32)
    from_z = (tl.arange(0, HEIGHTS) - HEIGHTS // 2).to(tl.float32)[None, :]
    a = tl.zeros((VOXELS, HEIGHTS), tl.float32)
    for number in range(begin, end):
        view = tl.load(runs + number * 3)
        scene = _scene(views, view)
        left, right = _seen(shadows + number * 7, runs + number * 3, columns, k, low, low + 2, 1, bow, ARC)
        right = tl.where(line < lines, right, left)
        base = projections + (border + scene[2].to(tl.int32) - _MAGIC_BITS)
        base += (view - first) * columns.to(tl.int64) * length
        for n in range(0, tl.max(right - left)):
            column = tl.minimum(left + n, columns - 1)
            ray, row = _ray(rays, view * columns + column), base + column * length
            found, p = _line_back(row, k, i, ray, least, middle - scene[0], from_z, scene, border, length, WINDOW)
            a += tl.where(left + n < right, _hat(p), 0.0) * found
    z = bottom + tl.arange(0, HEIGHTS)[None, :]
    out, inside = sums + voxel * heights + z, (line < lines) & (z < heights)
    tl.store(out, tl.load(out, mask=inside, other=0.0) + a, mask=inside)
