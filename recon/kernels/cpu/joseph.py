"""Joseph's projector for any ray, forward and exact adjoint: the same walk, reading or adding.

The walk follows DERIVATIONS.md, section 1, and equals `recon.kernels.reference` to rounding. Forward jobs own
detector rows; adjoint jobs own slabs of the volume and visit every ray in the same order, so the result does not
depend on the number of threads and needs no atomics.
"""

import math

from recon.kernels.cpu.compile import inline, kernel

_TIE = 1 + 1e-9  # rays at 45 degrees take y before x before z whatever the rounding


@inline
def span(first, slope, low, high, begin, end):
    """Return the steps k in [begin, end) with low <= first + slope k <= high, as a half-open range."""
    if slope == 0.0:
        if low <= first <= high:
            return begin, end
        return begin, begin
    a, b = (low - first) / slope, (high - first) / slope
    if a > b:
        a, b = b, a
    # Both bounds on both sides: a slope of 1e-17 gives steps that no integer holds.
    a, b = min(max(a, begin - 1.0), float(end)), max(min(b, float(end)), begin - 1.0)
    start, stop = max(begin, int(math.ceil(a))), min(end, int(math.floor(b)) + 1)
    # The division rounds; the steps returned keep the promise as the walk will evaluate them.
    while start < stop and not low <= first + slope * start <= high:
        start += 1
    while start < stop and not low <= first + slope * (stop - 1) <= high:
        stop -= 1
    return start, max(start, stop)


@inline
def choose_main(z, y, x):
    """Return the axis along which a ray crosses most voxels."""
    az, ay, ax = abs(z), abs(y), abs(x)
    main, most = 1, ay
    if ax > ay * _TIE:
        main, most = 2, ax
    if az > most * _TIE:
        main = 0
    return main


@inline
def walk(z0, y0, x0, dz, dy, dx, spacing):
    """Describe a ray as steps along its main axis.

    Returns main axis, the other axes p and q, positions at step 0 and slopes on both, and mm per step.
    """
    main = choose_main(dz, dy, dx)
    length_z, length_y, length_x = dz * spacing[0], dy * spacing[1], dx * spacing[2]
    length = math.sqrt(length_z * length_z + length_y * length_y + length_x * length_x)
    if main == 1:
        scale = 1.0 / dy
        p, q, dp, dq = 2, 0, dx * scale, dz * scale
        p0, q0 = x0 - y0 * dp, z0 - y0 * dq
    elif main == 2:
        scale = 1.0 / dx
        p, q, dp, dq = 1, 0, dy * scale, dz * scale
        p0, q0 = y0 - x0 * dp, z0 - x0 * dq
    else:
        scale = 1.0 / dz
        p, q, dp, dq = 2, 1, dx * scale, dy * scale
        p0, q0 = x0 - z0 * dp, y0 - z0 * dq
    return main, p, q, p0, dp, q0, dq, length * abs(scale)


@inline
def read_edge(flat, k0, k1, sm, sp, sq, p0, dp, q0, dq, np_, nq):
    """Sum bilinear samples on steps [k0, k1) where neighbours may lie outside."""
    total = 0.0
    for k in range(k0, k1):
        p, q = p0 + dp * k, q0 + dq * k
        i, j = int(math.floor(p)), int(math.floor(q))
        for a in range(2):
            for b in range(2):
                if 0 <= i + a < np_ and 0 <= j + b < nq:
                    weight = (1 - abs(p - (i + a))) * (1 - abs(q - (j + b)))
                    total += weight * flat[k * sm + (i + a) * sp + (j + b) * sq]
    return total


@inline
def read_inside(flat, k0, k1, sm, sp, sq, p0, dp, q0, dq):
    """Sum bilinear samples on steps [k0, k1) whose neighbours are all inside."""
    total = 0.0
    for k in range(k0, k1):
        p, q = p0 + dp * k, q0 + dq * k
        i, j = int(p), int(q)
        f, g = p - i, q - j
        at = k * sm + i * sp + j * sq
        low = flat[at] + f * (flat[at + sp] - flat[at])
        high = flat[at + sq] + f * (flat[at + sq + sp] - flat[at + sq])
        total += low + g * (high - low)
    return total


@inline
def read_plane(flat, k0, k1, sm, sp, at_q, p0, dp, np_):
    """Sum linear samples within one plane of constant q on steps [k0, k1)."""
    i0, i1 = span(p0, dp, 0.0, np_ - 1.0 - 1e-9, k0, k1)
    total = 0.0
    for k in range(k0, k1):
        p = p0 + dp * k
        if i0 <= k < i1:
            i = int(p)
            at = at_q + k * sm + i * sp
            total += flat[at] + (p - i) * (flat[at + sp] - flat[at])
        else:
            i = int(math.floor(p))
            if 0 <= i < np_:
                total += (1 - (p - i)) * flat[at_q + k * sm + i * sp]
            if 0 <= i + 1 < np_:
                total += (p - i) * flat[at_q + k * sm + (i + 1) * sp]
    return total


@inline
def integrate(flat, shape, strides, spacing, z0, y0, x0, dz, dy, dx):
    """Integrate one ray through one volume, in mm times the volume's unit."""
    main, p, q, p0, dp, q0, dq, length = walk(z0, y0, x0, dz, dy, dx, spacing)
    np_, nq = shape[p], shape[q]
    k0, k1 = span(p0, dp, -1.0, float(np_), 0, shape[main])
    sm, sp, sq = strides[main], strides[p], strides[q]
    if dq == 0.0:
        j = int(math.floor(q0))
        total = 0.0
        for b in range(2):
            share = 1 - abs(q0 - (j + b))
            if 0 <= j + b < nq and share > 0:
                total += share * read_plane(flat, k0, k1, sm, sp, (j + b) * sq, p0, dp, np_)
        return total * length
    k0, k1 = span(q0, dq, -1.0, float(nq), k0, k1)
    i0, i1 = span(p0, dp, 0.0, np_ - 1.0 - 1e-9, k0, k1)
    i0, i1 = span(q0, dq, 0.0, nq - 1.0 - 1e-9, i0, i1)
    if i0 >= i1:
        return length * read_edge(flat, k0, k1, sm, sp, sq, p0, dp, q0, dq, np_, nq)
    total = read_edge(flat, k0, i0, sm, sp, sq, p0, dp, q0, dq, np_, nq)
    total += read_inside(flat, i0, i1, sm, sp, sq, p0, dp, q0, dq)
    total += read_edge(flat, i1, k1, sm, sp, sq, p0, dp, q0, dq, np_, nq)
    return total * length


@inline
def add_step(flat, value, at, i, j, p, q, sp, sq, box, pa, qa):
    """Add one step's value to its four neighbours, as far as they lie in the box.

    Rounded exactly as the inner loop of `spread`, so that the result does not depend on the slabs.
    """
    for a in range(2):
        for b in range(2):
            if box[pa, 0] <= i + a < box[pa, 1] and box[qa, 0] <= j + b < box[qa, 1]:
                f, g = p - i, q - j
                share = value * (f if a == 1 else 1 - f) * (g if b == 1 else 1 - g)
                flat[at + (i + a) * sp + (j + b) * sq] += share


@inline
def spread(flat, box, strides, spacing, value, z0, y0, x0, dz, dy, dx):
    """Add one ray's value to the voxels of a box, with the weights of `integrate`."""
    main, p, q, p0, dp, q0, dq, length = walk(z0, y0, x0, dz, dy, dx, spacing)
    value *= length
    k0, k1 = span(p0, dp, box[p, 0] - 1.0, float(box[p, 1]), box[main, 0], box[main, 1])
    k0, k1 = span(q0, dq, box[q, 0] - 1.0, float(box[q, 1]), k0, k1)
    i0, i1 = span(p0, dp, float(box[p, 0]), box[p, 1] - 1.0 - 1e-9, k0, k1)
    sm, sp, sq = strides[main], strides[p], strides[q]
    if dq == 0.0:
        j = int(math.floor(q0))
        for b in range(2):
            share = value * (1 - abs(q0 - (j + b)))
            if share != 0.0 and box[q, 0] <= j + b < box[q, 1]:
                spread_plane(flat, k0, k1, i0, i1, sm, sp, (j + b) * sq, p0, dp, share, box[p, 0], box[p, 1])
        return
    i0, i1 = span(q0, dq, float(box[q, 0]), box[q, 1] - 1.0 - 1e-9, i0, i1)
    for k in range(k0, k1):
        at_p, at_q = p0 + dp * k, q0 + dq * k
        if i0 <= k < i1:
            i, j = int(at_p), int(at_q)
            f, g = at_p - i, at_q - j
            at = k * sm + i * sp + j * sq
            flat[at] += value * (1 - f) * (1 - g)
            flat[at + sp] += value * f * (1 - g)
            flat[at + sq] += value * (1 - f) * g
            flat[at + sp + sq] += value * f * g
        else:
            i, j = int(math.floor(at_p)), int(math.floor(at_q))
            add_step(flat, value, k * sm, i, j, at_p, at_q, sp, sq, box, p, q)


@inline
def spread_plane(flat, k0, k1, i0, i1, sm, sp, at_q, p0, dp, value, low, high):
    """Add a value to the two neighbours on each step within one plane."""
    for k in range(k0, k1):
        p = p0 + dp * k
        if i0 <= k < i1:
            i = int(p)
            at = at_q + k * sm + i * sp
            flat[at] += value * (1 - (p - i))
            flat[at + sp] += value * (p - i)
        else:
            i = int(math.floor(p))
            if low <= i < high:
                flat[at_q + k * sm + i * sp] += value * (1 - (p - i))
            if low <= i + 1 < high:
                flat[at_q + k * sm + (i + 1) * sp] += value * (p - i)


@inline
def pixel_start(centre, v, row, rows, axis):
    """Return a coordinate of the middle of a detector row."""
    return centre[axis] + (row - (rows - 1) / 2.0) * v[axis]


@kernel
def forward_projection(job0, job1, flat, shape, source, centre, v, u, depth, along, bend, parallel, spacing, out):
    """Fill out (batch, view, row, column) with the line integrals of volumes of a shape (z, y, x), each flat."""
    batch, _, rows, columns = out.shape
    strides = (shape[1] * shape[2], shape[2], 1)
    for job in range(job0, job1):
        view, row = job // rows, job % rows
        s, m, w = source[view], u[view], depth[view]
        cz, cy, cx = (
            pixel_start(centre[view], v[view], row, rows, 0),
            pixel_start(centre[view], v[view], row, rows, 1),
            pixel_start(centre[view], v[view], row, rows, 2),
        )
        for column in range(columns):
            a, b = along[column], bend[column]
            z, y, x = cz + a * m[0] + b * w[0], cy + a * m[1] + b * w[1], cx + a * m[2] + b * w[2]
            for item in range(batch):
                if parallel:
                    value = integrate(flat[item], shape, strides, spacing, z, y, x, s[0], s[1], s[2])
                else:
                    value = integrate(
                        flat[item], shape, strides, spacing, s[0], s[1], s[2], z - s[0], y - s[1], x - s[2]
                    )
                out[item, view, row, column] = value


@kernel
def adjoint_projection(
    job0, job1, projections, source, centre, v, u, depth, along, bend, parallel, spacing, shape, boxes, flat
):  # fmt: skip
    """Add projections (batch, view, row, column) to volumes of a shape (z, y, x), each flat: the transpose.

    Each job adds to one of the boxes (box, axis, first and last + 1) that make up the volume.
    """
    _, views, rows, columns = projections.shape
    strides = (shape[1] * shape[2], shape[2], 1)
    for job in range(job0, job1):
        item, box = job // len(boxes), boxes[job % len(boxes)]
        for view in range(views):
            s, m, w = source[view], u[view], depth[view]
            for row in range(rows):
                cz = pixel_start(centre[view], v[view], row, rows, 0)
                cy = pixel_start(centre[view], v[view], row, rows, 1)
                cx = pixel_start(centre[view], v[view], row, rows, 2)
                for column in range(columns):
                    value = projections[item, view, row, column]
                    if value == 0:
                        continue
                    a, b = along[column], bend[column]
                    z, y, x = cz + a * m[0] + b * w[0], cy + a * m[1] + b * w[1], cx + a * m[2] + b * w[2]
                    if parallel:
                        spread(flat[item], box, strides, spacing, value, z, y, x, s[0], s[1], s[2])
                    else:
                        spread(
                            flat[item],
                            box,
                            strides,
                            spacing,
                            value,
                            s[0],
                            s[1],
                            s[2],
                            z - s[0],
                            y - s[1],
                            x - s[2],
                        )
