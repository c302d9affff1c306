"""How the views of a scan cover the circle: the one place that tells a full turn from an open arc."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from recon.errors import GeometryError

_GAP = 4.0  # a gap this many times that of nine in ten others is a missing arc, not uneven sampling


@dataclass(frozen=True)
class Coverage:
    """How views cover the circle.

    Args:
        steps: angle in rad that each view stands for (view,).
        full: the views close the circle.
        span: covered arc in rad.
        start: the angle in rad at which an open arc begins.
    """

    steps: Tensor
    full: bool
    span: float
    start: float


def coverage(angles: Sequence[float] | Tensor, *, half_turn: bool = False) -> Coverage:
    """Find the arc that views cover and the share of it that each view stands for.

    Views may be uneven, unordered or repeated; the steps of a closed circle sum to the circle, which is π if
    opposite views are the same (`half_turn`).

    Args:
        angles: view angles in rad.
        half_turn: count angles modulo π.

    Raises:
        GeometryError: fewer than two different views.
    """
    circle = math.pi if half_turn else 2 * math.pi
    turned, order = torch.as_tensor(angles, dtype=torch.float64).remainder(circle).sort()
    gaps = torch.cat([turned.diff(), turned[:1] + circle - turned[-1:]])
    apart = gaps[gaps > 1e-9 * circle]
    if len(apart) < 2:
        raise GeometryError(f"angles: expected at least 2 different views, got {len(angles)} at one angle")
    widest = int(gaps.argmax())
    full = _closes(apart, circle)
    if not full:
        gaps[widest] = float(apart.median())
    steps = torch.empty_like(gaps)
    steps[order] = (gaps + gaps.roll(1)) / 2
    start = 0.0 if full else float(turned[(widest + 1) % len(turned)])
    return Coverage(steps=steps, full=full, span=float(gaps.sum()), start=start)


def _closes(gaps: Tensor, circle: float) -> bool:
    """Tell a circle sampled unevenly, at random or in bursts, from an arc that leaves a gap."""
    *others, widest = gaps.sort().values.tolist()
    usual = others[int(0.9 * (len(others) - 1) + 0.5)]
    return bool(widest <= 1.5 * usual or (widest <= _GAP * usual and widest <= circle / 3))
