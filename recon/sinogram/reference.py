"""Penalised smoothing of projections in plain torch, on any device: the specification of the compiled kernels.

Arrays are (plane, view, column); views close the circle if `periodic`, and are repeated beyond the ends if not, as
columns are. A weight is the inverse variance of a value; 0 marks one that was not measured.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

_PAIRS = ((0, 1), (1, 0), (1, 1), (-1, 1))  # (view, column): directions of which the opposite ones are taken along


def shifted(q: Tensor, view: int, column: int, periodic: bool) -> Tensor:
    """Return at each point the value some views and columns further on."""
    views, columns = torch.arange(q.shape[1]) + view, torch.arange(q.shape[2]) + column
    views = views % q.shape[1] if periodic else views.clamp(0, q.shape[1] - 1)
    columns = columns.clamp(0, q.shape[2] - 1)
    return q[:, views.to(q.device)][:, :, columns.to(q.device)]


def colours(q: Tensor, periodic: bool) -> Iterator[Tensor]:
    """Return masks (view, column) that hold no two neighbours each and all points together, in the order of a sweep.

    A chessboard has two. An odd number of views that closes the circle would put like beside like, so its last view
    has two of its own.
    """
    views, columns = torch.arange(q.shape[1])[:, None], torch.arange(q.shape[2])
    last = (views == q.shape[1] - 1) & (periodic and q.shape[1] % 2 == 1)
    for part in (~last, last):
        for colour in (0, 1):
            mask = part & ((views + columns + colour) % 2 == 0)
            if bool(mask.any()):
                yield mask.to(q.device)


def sweep(q: Tensor, y: Tensor, w: Tensor, right: Tensor, below: Tensor, strength: float, periodic: bool) -> Tensor:
    """Return q after each point has been solved for once, its neighbours held.

    Args:
        q: current estimate.
        y: measured values.
        w: their weights.
        right: weight of the edge to the next column.
        below: weight of the edge to the next view.
        strength: factor on all edges.
        periodic: the views close the circle.
    """
    right, below = right.clone(), below.clone()
    right[..., -1] = 0
    if not periodic:
        below[:, -1] = 0
    left, above = right.roll(1, 2), below.roll(1, 1)
    hold = w + strength * (left + right + above + below)
    for mask in colours(q, periodic):
        pull = right * shifted(q, 0, 1, periodic) + left * shifted(q, 0, -1, periodic)
        pull = pull + below * shifted(q, 1, 0, periodic) + above * shifted(q, -1, 0, periodic)
        q = torch.where(mask & (hold > 0), (w * y + strength * pull) / hold, q)
    return q


def diffusivity(q: Tensor, corner: float, periodic: bool) -> Tensor:
    """Return one over the rounded size of the slope, (D_b² + D_v² + corner²)^(-1/2)."""
    b, v = shifted(q, 0, 1, periodic) - q, shifted(q, 1, 0, periodic) - q
    return (b * b + v * v + corner * corner).rsqrt()


def diffuse(
    q: Tensor, y: Tensor, w: Tensor, strength: float, threshold: float, step: float, mode: tuple[float, float],
    diagonals: bool, periodic: bool,
) -> Tensor:  # fmt: skip
    """Return q after one semi-implicit step of anisotropic diffusion towards sub-pixel samples.

    Args:
        q: current estimate.
        y: measured values.
        w: their weights.
        strength: how much a neighbour counts against the measured value.
        threshold: slope that stops the diffusion, in standard deviations of the value.
        step: distance of the samples as a share of the distance to the neighbour.
        mode: how much first and second differences count in what stops the diffusion.
        diagonals: diffuse along the diagonals, too, at half the rate.
        periodic: the views close the circle.
    """
    total, pull = torch.zeros_like(q), torch.zeros_like(q)
    edge = w / threshold**2
    for direction in _PAIRS if diagonals else _PAIRS[:2]:
        share = 0.5 if all(direction) else 1.0
        samples = [sample(q, sign * direction[0], sign * direction[1], step, periodic) for sign in (1, -1)]
        h = (samples[0] - 2 * q + samples[1]) / step
        for u in samples:
            g = (u - q) / step
            c = share / (1 + (mode[0] * g * g + mode[1] * h * h) * edge)
            total, pull = total + c, pull + c * u
    return (w * y + strength * pull) / (w + strength * total)


def sample(q: Tensor, view: int, column: int, step: float, periodic: bool) -> Tensor:
    """Interpolate linearly on an axis, or bilinearly on a diagonal, at a share of the way to a neighbour."""
    far = shifted(q, view, column, periodic)
    if view == 0 or column == 0:
        return (1 - step) * q + step * far
    sides = shifted(q, view, 0, periodic) + shifted(q, 0, column, periodic)
    return (1 - step) ** 2 * q + step * (1 - step) * sides + step**2 * far


def diffuse_across_rows(
    q: Tensor, y: Tensor, w: Tensor, strength: float, threshold: float, step: float, mode: tuple[float, float],
    diagonals: bool, periodic: bool,
) -> Tensor:  # fmt: skip
    """Return q after one step of `diffuse` whose neighbours are those of the next rows, too: 6, or 26 with diagonals.

    Samples lie at the same share of the way along each axis, between the eight corners, and count one over the number
    of axes that they move along.
    """
    total, pull = torch.zeros_like(q), torch.zeros_like(q)
    edge = w / threshold**2
    for direction in directions(diagonals):
        share = 1.0 / sum(map(abs, direction))
        samples = [corners(q, direction, sign, step, periodic) for sign in (1, -1)]
        h = (samples[0] - 2 * q + samples[1]) / step
        for u in samples:
            g = (u - q) / step
            c = share / (1 + (mode[0] * g * g + mode[1] * h * h) * edge)
            total, pull = total + c, pull + c * u
    return (w * y + strength * pull) / (w + strength * total)


def directions(diagonals: bool) -> list[tuple[int, int, int]]:
    """Return one of each two opposite directions (row, view, column), in the order of the kernels."""
    every = [(r, v, c) for r in (0, 1) for v in (-1, 0, 1) for c in (-1, 0, 1)]
    half = [one for one in every if one > (0, 0, 0)]
    return [one for one in half if diagonals or sum(map(abs, one)) == 1]


def corners(q: Tensor, direction: tuple[int, int, int], sign: int, step: float, periodic: bool) -> Tensor:
    """Interpolate linearly along each axis at a share of the way to a neighbour in any of the 26 directions."""
    row, view, column = (sign * one for one in direction)
    for axis, move in enumerate((row, view, column)):
        if move:
            shift = (view, 0) if axis == 1 else (0, column)
            far = _next_row(q, row) if axis == 0 else shifted(q, *shift, periodic)
            q = (1 - step) * q + step * far
    return q


def _next_row(q: Tensor, move: int) -> Tensor:
    """Return at each point the value of the next row or the one before, the outermost repeated."""
    rows = (torch.arange(q.shape[0]) + move).clamp(0, q.shape[0] - 1)
    return q[rows.to(q.device)]
