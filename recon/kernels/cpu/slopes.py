"""Derivatives of Joseph's projector by the rays: the walk of `joseph`, with the slopes of each sample.

Jobs own detector rows, as in the forward projection. A ray gives the five sums of DERIVATIONS.md, eq. 19, whose
derivatives by the vectors of a view `recon.kernels.slopes` works out. Places p and q stand a little `ahead`, so
that one which rounding put below a whole number has the slope beyond it.
"""

import math

from recon.kernels.cpu.compile import inline, kernel
from recon.kernels.cpu.joseph import pixel_start, span, walk


@inline
def voxel(flat, at, i, j, sp, sq, np_, nq):
    """Return a voxel of a plane, 0 outside."""
    return flat[at + i * sp + j * sq] if 0 <= i < np_ and 0 <= j < nq else 0.0


@inline
def edge(flat, k0, k1, h, sm, sp, sq, p0, dp, q0, dq, np_, nq, ahead):
    """Sum samples and slopes on steps [k0, k1) where neighbours may lie outside."""
    total, gp, hp, gq, hq = 0.0, 0.0, 0.0, 0.0, 0.0
    for k in range(k0, k1):
        p, q = p0 + dp * k, q0 + dq * k
        i, j = int(math.floor(p)), int(math.floor(q))
        f, g = p - i - ahead, q - j - ahead
        at = k * sm
        a, b = voxel(flat, at, i, j, sp, sq, np_, nq), voxel(flat, at, i + 1, j, sp, sq, np_, nq)
        c, d = voxel(flat, at, i, j + 1, sp, sq, np_, nq), voxel(flat, at, i + 1, j + 1, sp, sq, np_, nq)
        low, high = a + f * (b - a), c + f * (d - c)
        slope = (b - a) + g * ((d - c) - (b - a))
        total += low + g * (high - low)
        gp += slope
        hp += (k - h) * slope
        gq += high - low
        hq += (k - h) * (high - low)
    return total, gp, hp, gq, hq


@inline
def inside(flat, k0, k1, h, sm, sp, sq, p0, dp, q0, dq, ahead):
    """Sum samples and slopes on steps [k0, k1) whose neighbours are all inside."""
    total, gp, hp, gq, hq = 0.0, 0.0, 0.0, 0.0, 0.0
    for k in range(k0, k1):
        p, q = p0 + dp * k, q0 + dq * k
        i, j = int(p), int(q)
        f, g = p - i - ahead, q - j - ahead
        at = k * sm + i * sp + j * sq
        a, c = flat[at], flat[at + sq]
        by_low, by_high = flat[at + sp] - a, flat[at + sq + sp] - c
        low, high = a + f * by_low, c + f * by_high
        slope = by_low + g * (by_high - by_low)
        total += low + g * (high - low)
        gp += slope
        hp += (k - h) * slope
        gq += high - low
        hq += (k - h) * (high - low)
    return total, gp, hp, gq, hq


@inline
def plane(flat, k0, k1, h, sm, sp, at_q, p0, dp, np_, ahead):
    """Sum linear samples of one plane of constant q, and their slopes, each also times the step, on [k0, k1)."""
    i0, i1 = span(p0, dp, 0.0, np_ - 1.0 - 1e-9, k0, k1)
    total, moment, gp, hp = 0.0, 0.0, 0.0, 0.0
    for k in range(k0, k1):
        p = p0 + dp * k
        if i0 <= k < i1:
            i = int(p)
            at = at_q + k * sm + i * sp
            a, slope = flat[at], flat[at + sp] - flat[at]
        else:
            i = int(math.floor(p))
            at = at_q + k * sm + i * sp
            a = flat[at] if 0 <= i < np_ else 0.0
            slope = (flat[at + sp] if 0 <= i + 1 < np_ else 0.0) - a
        sample = a + (p - i - ahead) * slope
        total += sample
        moment += (k - h) * sample
        gp += slope
        hp += (k - h) * slope
    return total, moment, gp, hp


@inline
def level(flat, k0, k1, h, sm, sp, sq, p0, dp, q, np_, nq, ahead):
    """Sum samples and slopes of a ray that keeps its place between two planes."""
    j = int(math.floor(q))
    g = q - j - ahead
    total, gp, hp, gq, hq = 0.0, 0.0, 0.0, 0.0, 0.0
    for b in range(2):
        if 0 <= j + b < nq:
            share, sign = (g, 1.0) if b == 1 else (1.0 - g, -1.0)
            t, m, d, e = plane(flat, k0, k1, h, sm, sp, (j + b) * sq, p0, dp, np_, ahead)
            total += share * t
            gp += share * d
            hp += share * e
            gq += sign * t
            hq += sign * m
    return total, gp, hp, gq, hq


@inline
def differentiate(flat, shape, strides, spacing, z0, y0, x0, dz, dy, dx, ahead):
    """Return the sums of samples and slopes along one ray through one volume."""
    main, p, q, p0, dp, q0, dq, _ = walk(z0, y0, x0, dz, dy, dx, spacing)
    p0, q0 = p0 + ahead, q0 + ahead
    np_, nq, h = shape[p], shape[q], (shape[main] - 1) / 2.0
    k0, k1 = span(p0, dp, -1.0, float(np_), 0, shape[main])
    sm, sp, sq = strides[main], strides[p], strides[q]
    if dq == 0.0:
        return level(flat, k0, k1, h, sm, sp, sq, p0, dp, q0, np_, nq, ahead)
    k0, k1 = span(q0, dq, -1.0, float(nq), k0, k1)
    i0, i1 = span(p0, dp, 0.0, np_ - 1.0 - 1e-9, k0, k1)
    i0, i1 = span(q0, dq, 0.0, nq - 1.0 - 1e-9, i0, i1)
    if i0 >= i1:
        return edge(flat, k0, k1, h, sm, sp, sq, p0, dp, q0, dq, np_, nq, ahead)
    s, gp, hp, gq, hq = inside(flat, i0, i1, h, sm, sp, sq, p0, dp, q0, dq, ahead)
    for a, b in ((k0, i0), (i1, k1)):
        if a < b:
            t, du, eu, dw, ew = edge(flat, a, b, h, sm, sp, sq, p0, dp, q0, dq, np_, nq, ahead)
            s, gp, hp, gq, hq = s + t, gp + du, hp + eu, gq + dw, hq + ew
    return s, gp, hp, gq, hq


@kernel
def slopes_of_rays(
    job0, job1, flat, projections, shape, source, centre, v, u, depth, along, bend, parallel, spacing, ahead, out
):  # fmt: skip
    """Fill out (view, row, column, 5), float64: per ray S, Gp, Hp, Gq, Hq, summed over a batch of volumes, each flat.

    Projections are (batch, view, row, column); where they are 0, nothing is read.
    """
    batch, _, rows, columns = projections.shape
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
            total, gp, hp, gq, hq = 0.0, 0.0, 0.0, 0.0, 0.0
            for item in range(batch):
                value = projections[item, view, row, column]
                if value == 0:
                    continue
                if parallel:
                    sums = differentiate(flat[item], shape, strides, spacing, z, y, x, s[0], s[1], s[2], ahead)
                else:
                    sums = differentiate(
                        flat[item], shape, strides, spacing, s[0], s[1], s[2], z - s[0], y - s[1], x - s[2], ahead
                    )
                total += value * sums[0]
                gp += value * sums[1]
                hp += value * sums[2]
                gq += value * sums[3]
                hq += value * sums[4]
            place = out[view, row, column]
            place[0], place[1], place[2], place[3], place[4] = total, gq, hq, gp, hp  # `walk` names the axes backwards
