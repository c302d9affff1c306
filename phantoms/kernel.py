"""Line integrals and pictures of many solids, compiled: `Shape.chords` and `Shape.contains` are the plain twins."""

import math

from recon.kernels.cpu.compile import inline, kernel
from recon.kernels.cpu.simd import local_doubles

# Columns of the table of solids: centre, matrix into the own frame, profile, caps, bounding sphere, box, density.
# 0-2        3-11                       12-15    16-18 19               20-22 23
RADIUS, BOX, DENSITY = 19, 20, 23


@inline
def _chord(solid, clips, first, last, pz, py, px, dz, dy, dx):  # type: ignore[no-untyped-def]
    """Intersect one line, given by a point relative to the centre, with one solid; missed if leave <= enter."""
    fz = solid[3] * dz + solid[4] * dy + solid[5] * dx
    fy = solid[6] * dz + solid[7] * dy + solid[8] * dx
    fx = solid[9] * dz + solid[10] * dy + solid[11] * dx
    qz = solid[3] * pz + solid[4] * py + solid[5] * px
    qy = solid[6] * pz + solid[7] * py + solid[8] * px
    qx = solid[9] * pz + solid[10] * py + solid[11] * px
    enter, leave = -math.inf, math.inf
    if solid[12] != 0.0:
        curve, middle, slope = solid[13], solid[14], solid[15]
        width, rate = middle + slope * qz, slope * fz
        a = curve * fz * fz + fy * fy + fx * fx - rate * rate
        b = curve * qz * fz + qy * fy + qx * fx - width * rate
        c = curve * qz * qz + qy * qy + qx * qx - width * width
        square = b * b - a * c
        if a == 0.0:
            if b == 0.0:
                if c > 0.0:
                    return 0.0, 0.0
            elif b > 0.0:
                leave = -c / (2 * b)
            else:
                enter = -c / (2 * b)
        else:
            if a > 0.0 and square <= 0.0:
                return 0.0, 0.0
            big = -(b + math.copysign(math.sqrt(max(square, 0.0)), b))
            one = big / a
            two = 0.0 if big == 0.0 else c / big
            low, high = min(one, two), max(one, two)
            if a > 0.0:
                enter, leave = low, high
            elif rate > 0.0:
                enter = high
            else:
                leave = low
    for axis in range(3):
        if solid[16 + axis] != 0.0:
            q = qz if axis == 0 else (qy if axis == 1 else qx)
            f = fz if axis == 0 else (fy if axis == 1 else fx)
            if f == 0.0:
                if abs(q) > 1.0:
                    return 0.0, 0.0
            else:
                one, two = (-1.0 - q) / f, (1.0 - q) / f
                enter, leave = max(enter, min(one, two)), min(leave, max(one, two))
    for k in range(first, last):
        rate = clips[k, 0] * dz + clips[k, 1] * dy + clips[k, 2] * dx
        room = clips[k, 3] - (clips[k, 0] * pz + clips[k, 1] * py + clips[k, 2] * px)
        if rate > 0.0:
            leave = min(leave, room / rate)
        elif rate < 0.0:
            enter = max(enter, room / rate)
        elif room < 0.0:
            return 0.0, 0.0
    if leave <= enter:
        return 0.0, 0.0
    return enter, leave


@inline
def _visible(enter, leave, density, hits, low, high):  # type: ignore[no-untyped-def]
    """Integrate over overlapping intervals, each of which hides those before it."""
    total, covered = 0.0, 0
    for k in range(hits - 1, -1, -1):
        start, end = enter[k], leave[k]
        seen, j = end - start, 0
        while j < covered:  # what is covered stays disjoint, so growing by one interval meets no other
            overlap = min(leave[k], high[j]) - max(enter[k], low[j])
            if overlap > 0.0:
                seen -= overlap
                start, end = min(start, low[j]), max(end, high[j])
                covered -= 1
                low[j], high[j] = low[covered], high[covered]
            else:
                j += 1
        total += density[k] * seen
        low[covered], high[covered] = start, end
        covered += 1
    return total


@inline
def _integral(table, clips, firsts, near, count, nested, oz, oy, ox, dz, dy, dx, work):  # type: ignore[no-untyped-def]
    """Integrate the attenuation of the solids numbered in near[:count] along one line."""
    square = dz * dz + dy * dy + dx * dx
    total, hits, room = 0.0, 0, len(work) // 5
    for k in range(count):
        n = int(near[k])
        solid = table[n]
        rz, ry, rx = solid[0] - oz, solid[1] - oy, solid[2] - ox
        start = (rz * dz + ry * dy + rx * dx) / square
        pz, py, px = start * dz - rz, start * dy - ry, start * dx - rx
        if pz * pz + py * py + px * px > solid[RADIUS] * solid[RADIUS]:
            continue
        enter, leave = _chord(solid, clips, firsts[n], firsts[n + 1], pz, py, px, dz, dy, dx)
        if leave <= enter:
            continue
        if nested:
            work[hits], work[room + hits], work[2 * room + hits] = start + enter, start + leave, solid[DENSITY]
            hits += 1
        else:
            total += solid[DENSITY] * (leave - enter)
    if nested:
        enters, leaves, densities = work[:room], work[room : 2 * room], work[2 * room : 3 * room]
        total = _visible(enters, leaves, densities, hits, work[3 * room : 4 * room], work[4 * room :])
    return total * math.sqrt(square)


@inline
def _square(vector):  # type: ignore[no-untyped-def]
    """Return the squared length of a vector."""
    return vector[0] * vector[0] + vector[1] * vector[1] + vector[2] * vector[2]


@inline
def _in_sheet(table, near, oz, oy, ox, first, middle, last):  # type: ignore[no-untyped-def]
    """List the solids that the flat sheet of rays of a detector row can touch; all if it is not flat."""
    n = len(table)
    nz = first[1] * last[2] - first[2] * last[1]
    ny = first[2] * last[0] - first[0] * last[2]
    nx = first[0] * last[1] - first[1] * last[0]
    norm = math.sqrt(nz * nz + ny * ny + nx * nx)
    size = math.sqrt(_square(first) * _square(last))
    flat = norm > 1e-6 * size
    if flat:
        nz, ny, nx = nz / norm, ny / norm, nx / norm
        tilt = abs(nz * middle[0] + ny * middle[1] + nx * middle[2])
        flat = tilt <= 1e-9 * math.sqrt(_square(middle))
    count = 0
    for k in range(n):
        away = 0.0
        if flat:
            away = abs(nz * (table[k, 0] - oz) + ny * (table[k, 1] - oy) + nx * (table[k, 2] - ox))
        if away <= table[k, RADIUS] + 1e-5:
            near[count] = k
            count += 1
    return count


@kernel
def project(job0, job1, space, solids, views, along, bend, parallel, subrays, log, out):  # type: ignore[no-untyped-def]
    """Fill out (view, row, column) with line integrals averaged over the sub-rays of each pixel."""
    table, clips, firsts, nested = solids
    source, centre, v, u, depth = views
    subrows, subcolumns = subrays
    rows, columns = out.shape[1:]
    room, fine, count = len(table) + 1, columns * subcolumns, subrows * subcolumns
    near, work, values = space[:room], space[room : 6 * room], space[6 * room :]
    base, origin = local_doubles(3), local_doubles(3)
    first, middle, last = local_doubles(3), local_doubles(3), local_doubles(3)
    for task in range(job0, job1):
        view, row = task // rows, task % rows
        s, m, w = source[view], u[view], depth[view]
        for i in range(subrows):
            step = row * subrows + i - (rows * subrows - 1) / 2
            for axis in range(3):
                at = centre[view, axis] + step * v[view, axis]
                end = at + along[0] * m[axis] + bend[0] * w[axis]
                base[axis] = at
                origin[axis], first[axis] = (end, s[axis]) if parallel else (s[axis], end - s[axis])
                middle[axis] = at + along[fine // 2] * m[axis] + bend[fine // 2] * w[axis] - origin[axis]
                last[axis] = at + along[fine - 1] * m[axis] + bend[fine - 1] * w[axis] - origin[axis]
            seen = _in_sheet(table, near, origin[0], origin[1], origin[2], first, middle, last)
            for k in range(fine):
                pz = base[0] + along[k] * m[0] + bend[k] * w[0]
                py = base[1] + along[k] * m[1] + bend[k] * w[1]
                px = base[2] + along[k] * m[2] + bend[k] * w[2]
                if parallel:
                    value = _integral(table, clips, firsts, near, seen, nested, pz, py, px, s[0], s[1], s[2], work)
                else:
                    value = _integral(
                        table,
                        clips,
                        firsts,
                        near,
                        seen,
                        nested,
                        s[0],
                        s[1],
                        s[2],
                        pz - s[0],
                        py - s[1],
                        px - s[2],
                        work,
                    )
                values[k // subcolumns * count + i * subcolumns + k % subcolumns] = value
        for column in range(columns):
            out[view, row, column] = _mean(values[column * count : (column + 1) * count], log)


@inline
def _mean(values, log):  # type: ignore[no-untyped-def]
    """Average line integrals, or the transmissions they stand for."""
    total, least = 0.0, values[0]
    if log or len(values) == 1:
        for value in values:
            total += value
        return total / len(values)
    for value in values:
        least = min(least, value)
    for value in values:
        total += math.exp(least - value)
    return least - math.log(total / len(values))


@kernel
def rasterise(job0, job1, plane, solids, origin, step, samples, out):  # type: ignore[no-untyped-def]
    """Fill out (z, y, x) with the mean of samples[0]·samples[1]·samples[2] points per voxel.

    `origin` is the first sample, `step` the distance between samples, both (z, y, x) in mm.
    """
    table, clips, firsts, nested = solids
    oz, oy, ox = samples
    height, width = out.shape[1] * oy, out.shape[2] * ox
    for k in range(job0, job1):
        for i in range(oz):
            z = origin[0] + (k * oz + i) * step[0]
            for point in range(height * width):
                plane[point] = 0.0
            for n in range(len(table)):
                solid = table[n]
                if abs(z - solid[0]) <= solid[BOX]:
                    _paint(plane, height, width, solid, clips, firsts[n], firsts[n + 1], nested, z, origin, step)
            for y in range(height):
                for x in range(width):
                    out[k, y // oy, x // ox] += plane[y * width + x] / (oz * oy * ox)


@inline
def _paint(plane, height, width, solid, clips, first, last, nested, z, origin, step):  # type: ignore[no-untyped-def]
    """Paint the samples of one plane that a solid holds, a line of samples at a time."""
    low, high = 0, height
    if solid[BOX + 1] < math.inf:
        low = max(0, math.floor((solid[1] - solid[BOX + 1] - origin[1]) / step[1]))
        high = min(height, math.ceil((solid[1] + solid[BOX + 1] - origin[1]) / step[1]) + 1)
    for y in range(low, high):
        at = origin[1] + y * step[1]
        enter, leave = _chord(solid, clips, first, last, z - solid[0], at - solid[1], 0.0, 0.0, 0.0, 1.0)
        if leave <= enter:
            continue
        # Clamped before the cast: infinite solids have no whole-number ends.
        start = math.ceil(max(0.0, (solid[2] + enter - origin[2]) / step[2]))
        stop = math.floor(min(width - 1.0, (solid[2] + leave - origin[2]) / step[2]))
        for x in range(start, stop + 1):
            at_x = y * width + x
            plane[at_x] = solid[DENSITY] if nested else plane[at_x] + solid[DENSITY]
