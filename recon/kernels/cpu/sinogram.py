"""Penalised smoothing of projections: sweeps over edge weights, and one step of anisotropic diffusion.

Planes of projections (plane, view, column) lie flat in memory, and a job owns one view of one plane. What the twins of
`recon.sinogram.reference` say in whole arrays is said here point by point.
"""

import math

from recon.kernels.cpu.compile import inline, kernel

ALL, FIRST, LAST = 0, 1, 2  # which views a sweep visits: all, all but the last, the last alone


@inline
def neighbour(view, step, views, periodic):
    """Return the number of the view a step further on, round the turn or not beyond its end."""
    other = view + step
    if periodic:
        return other % views
    return min(max(other, 0), views - 1)


@kernel
def sweep(begin, end, q, y, w, right, below, strength, colour, which, views, columns, periodic):
    """Solve for the points of one colour, its neighbours held (Gauss-Seidel), in place."""
    for job in range(begin, end):
        view = job % views
        if (which == FIRST and view == views - 1) or (which == LAST and view != views - 1):
            continue
        start = job * columns
        up = start + (neighbour(view, -1, views, periodic) - view) * columns
        down = start + (neighbour(view, 1, views, periodic) - view) * columns
        above_is, below_is = up != start, down != start
        for j in range((view + colour) % 2, columns, 2):
            i = start + j
            total, pull = 0.0, 0.0
            if above_is:
                total += below[up + j]
                pull += below[up + j] * q[up + j]
            if below_is:
                total += below[i]
                pull += below[i] * q[down + j]
            if j > 0:
                total += right[i - 1]
                pull += right[i - 1] * q[i - 1]
            if j < columns - 1:
                total += right[i]
                pull += right[i] * q[i + 1]
            hold = w[i] + strength * total
            q[i] = (w[i] * y[i] + strength * pull) / hold if hold > 0.0 else y[i]


@kernel
def diffusivity(begin, end, q, out, corner, views, columns, periodic):
    """Return one over the rounded size of the slope at each point, along columns and views."""
    square = corner * corner
    for job in range(begin, end):
        view = job % views
        start = job * columns
        down = start + (neighbour(view, 1, views, periodic) - view) * columns
        for j in range(columns):
            i = start + j
            b = q[i + 1] - q[i] if j < columns - 1 else 0.0
            v = q[down + j] - q[i]
            out[i] = 1.0 / math.sqrt(b * b + v * v + square)


@inline
def pair(centre, plus, minus, first, second, edge):
    """Return the sum of two opposite coefficients, and that of coefficient times sample less centre."""
    gp, gm = plus - centre, minus - centre
    h = gp + gm
    bend = 1.0 + second * edge * h * h
    slope = first * edge
    cp, cm = 1.0 / (bend + slope * gp * gp), 1.0 / (bend + slope * gm * gm)
    return cp + cm, cp * gp + cm * gm


@inline
def diffused(q, up, here, down, left, j, right, y, w, strength, threshold, step, first, second, diagonals):
    """Return one point after one step."""
    centre = 1.0 * q[here + j]
    edge = w / (threshold * step) ** 2
    b0, b1 = 1.0 * q[here + left] - centre, 1.0 * q[here + right] - centre
    v0, v1 = 1.0 * q[up + j] - centre, 1.0 * q[down + j] - centre
    total, pull = pair(0.0, step * b1, step * b0, first, second, edge)
    more, drawn = pair(0.0, step * v1, step * v0, first, second, edge)
    total, pull = total + more, pull + drawn
    if diagonals:
        near, far = step * (1.0 - step), step * step
        p, m = near * (b1 + v1) + far * (q[down + right] - centre), near * (b0 + v0) + far * (q[up + left] - centre)
        more, drawn = pair(0.0, p, m, first, second, edge)
        total, pull = total + 0.5 * more, pull + 0.5 * drawn
        p, m = near * (b1 + v0) + far * (q[up + right] - centre), near * (b0 + v1) + far * (q[down + left] - centre)
        more, drawn = pair(0.0, p, m, first, second, edge)
        total, pull = total + 0.5 * more, pull + 0.5 * drawn
    return centre + (w * (y - centre) + strength * pull) / (w + strength * total)


@kernel
def diffuse(
    begin, end, q, out, y, w, strength, threshold, step, first, second, diagonals, views, columns, periodic
):  # fmt: skip
    """Take one semi-implicit step of anisotropic diffusion from q into out."""
    last = columns - 1
    for job in range(begin, end):
        view = job % views
        here = job * columns
        up = here + (neighbour(view, -1, views, periodic) - view) * columns
        down = here + (neighbour(view, 1, views, periodic) - view) * columns
        out[here] = diffused(
            q, up, here, down, 0, 0, min(1, last), y[here], w[here],
            strength, threshold, step, first, second, diagonals)  # fmt: skip
        for j in range(1, last):
            out[here + j] = diffused(
                q, up, here, down, j - 1, j, j + 1, y[here + j], w[here + j],
                strength, threshold, step, first, second, diagonals)  # fmt: skip
        if last > 0:
            out[here + last] = diffused(
                q, up, here, down, last - 1, last, last, y[here + last], w[here + last],
                strength, threshold, step, first, second, diagonals)  # fmt: skip


@inline
def corner_mean(q, here, row, view, column, near, far):
    """Interpolate between a point and those at three offsets from it; an offset of 0 leaves its axis out."""
    a = near * q[here] + far * q[here + column] if column != 0 else 1.0 * q[here]
    if view != 0:
        b = near * q[here + view] + far * q[here + view + column] if column != 0 else 1.0 * q[here + view]
        a = near * a + far * b
    if row != 0:
        c = near * q[here + row] + far * q[here + row + column] if column != 0 else 1.0 * q[here + row]
        if view != 0:
            d = 1.0 * q[here + row + view]
            if column != 0:
                d = near * d + far * q[here + row + view + column]
            c = near * c + far * d
        a = near * a + far * c
    return a


@kernel
def diffuse_across_rows(
    begin, end, q, out, y, w, strength, threshold, step, first, second, diagonals, views, columns, rows, periodic
):  # fmt: skip
    """Take one semi-implicit step of anisotropic diffusion whose neighbours are those of the next rows, too."""
    plane, near = views * columns, 1.0 - step
    for job in range(begin, end):
        row, view = job // views, job % views
        start = job * columns
        above = -plane if row > 0 else 0
        below = plane if row < rows - 1 else 0
        back = (neighbour(view, -1, views, periodic) - view) * columns
        ahead = (neighbour(view, 1, views, periodic) - view) * columns
        for j in range(columns):
            i = start + j
            left, right = -1 if j > 0 else 0, 1 if j < columns - 1 else 0
            centre = 1.0 * q[i]
            edge = w[i] / (threshold * step) ** 2
            total, pull = 0.0, 0.0
            for direction in range(14, 27):
                dr, dv, dc = direction // 9 - 1, direction // 3 % 3 - 1, direction % 3 - 1
                axes = abs(dr) + abs(dv) + abs(dc)
                if axes > 1 and not diagonals:
                    continue
                u = corner_mean(
                    q, i, below if dr > 0 else 0, ahead if dv > 0 else (back if dv < 0 else 0),
                    right if dc > 0 else (left if dc < 0 else 0), near, step)  # fmt: skip
                v = corner_mean(
                    q, i, above if dr > 0 else 0, back if dv > 0 else (ahead if dv < 0 else 0),
                    left if dc > 0 else (right if dc < 0 else 0), near, step)  # fmt: skip
                more, drawn = pair(0.0, u - centre, v - centre, first, second, edge)
                total += more / axes
                pull += drawn / axes
            out[i] = centre + (w[i] * (y[i] - centre) + strength * pull) / (w[i] + strength * total)
