"""Where the rays of an in-plane scan run, tabulated once in float64 (DERIVATIONS.md, section 4).

A ray whose main axis is y crosses line k of the image (fixed y) at x = at + slope · (k − middle); for the main axis x
the same holds with x and y exchanged. Neighbouring rays of one view with the same main axis form a run, sorted so
that `at` rises. Every in-plane geometry, flat or curved, fan or parallel, calibrated or moved, is such a table, and
forward and adjoint read the same one.
"""

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from recon.kernels.in_plane import (
    WIDEST,
    Array,
    column_maps,
    crossings,
    curvature,
    facing,
    lines_within,
    rays_per_pixel,
)
from recon.kernels.lines import Lines

LANES = 16
EDGE = 32  # zeros to the left of each line of a framed image, twice as many to its right
FAST, CLAMPED, WIDE, SLOW = range(4)  # how to read sixteen rays: by `pick`, kept in reach, `pick_wide`, one by one
_MOST_RAYS = 3.5  # per pixel, so that sixteen pixels see fewer than 64 rays


@dataclass(frozen=True)
class Tables:
    """Runs of rays. `at`, `slope` (float64) and `length` (float32) are flat; each run fills whole groups of sixteen.

    Rays that only fill a group continue their run evenly and have length 0.
    """

    image: tuple[int, int]  # (y, x)
    columns: int
    first_run: Array  # (view + 1,)
    runs: Array  # (run, 5): 1 if y is the main axis, first ray, rays, first column, step in columns (+1 or -1)
    ordered: Array  # (run,): whether positions rise wherever the run touches the image
    at: Array
    slope: Array
    length: Array  # mm per line
    ray: Array  # which of the (view, column) rays, counted flat, each entry is
    groups: Array  # (group, 5): lines [a, d) that touch the image, [b, c) without clamping, FAST, WIDE or SLOW
    maps: Array  # (view, 2, 3): numerator and denominator of the column of a pixel, over (1, y, x) from the middle
    arc: float  # columns per radian of a curved detector, 0 for a flat one
    slack: float  # rays by which a column found in float32 may be off
    gather: bool  # whether `plane` can gather: no more than _MOST_RAYS rays per pixel, and the maps hold everywhere
    mapped: bool  # whether the maps hold everywhere

    @functools.cached_property
    def rays_per_view(self) -> Array:
        """Entries (view,) that each view's runs take up together."""
        return np.diff(np.append(self.runs[self.first_run[:-1], 1], len(self.at)))


def tabulate(lines: Lines) -> Tables:
    """Compute the tables of an in-plane scan."""
    ny, nx = lines.grid_shape[1:]
    views, columns = lines.shape[0], lines.shape[2]
    main, position, slope, length = crossings(lines)
    total, breadth = np.where(main, ny, nx), np.where(main, nx, ny)
    touched = lines_within(position, slope, -1.0, breadth, total)
    starts = np.flatnonzero(np.append(True, main[1:] != main[:-1]) | (np.arange(main.size) % columns == 0))
    counts = np.diff(np.append(starts, main.size))
    maps, arc, fan = column_maps(lines), *curvature(lines)
    step, ordered = _order(position, slope, touched, (total - 1) / 2, starts)
    lone = counts == 1
    step[lone] = _sense(
        maps[starts[lone] // columns], main[starts[lone]], [ends[starts[lone]] for ends in touched], ny, nx
    )

    sizes = -(-counts // LANES) * LANES
    offsets = np.append(0, np.cumsum(sizes))
    run = np.repeat(np.arange(len(starts)), sizes)
    within = np.arange(offsets[-1]) - offsets[run]
    beyond = np.maximum(within - (counts[run] - 1), 0)
    rising = step[run] > 0
    ray = starts[run] + np.where(rising, within - beyond, counts[run] - 1 - within + beyond)
    before = np.clip(ray - step[run], starts[run], (starts + counts - 1)[run])
    at, tilt = (
        values[ray] + beyond * (values[ray] - values[before]) if beyond.any() else values[ray]
        for values in (position, slope)
    )
    in_front = facing(maps, ny, nx, LANES)
    most = float(rays_per_pixel(maps, ny, nx).max())
    first = starts % columns + np.where(step > 0, 0, counts - 1)
    return Tables(
        image=(ny, nx),
        columns=columns,
        first_run=np.searchsorted(starts, np.arange(views + 1) * columns).astype(np.int64),
        runs=np.stack([main[starts], offsets[:-1], counts, first, step], 1).astype(np.int64),
        ordered=ordered,
        at=at,
        slope=tilt,
        length=np.where(beyond > 0, 0, length[ray]).astype(np.float32),
        ray=ray,
        groups=_groups(at, tilt, beyond == 0, ray, touched, total, breadth, ordered[run]),
        maps=maps.astype(np.float32),
        arc=arc,
        slack=1e-3 + 2e-6 * columns + (0.02 if arc else 0.0),
        gather=bool(ordered.all()) and in_front and fan <= WIDEST and most <= _MOST_RAYS,
        mapped=in_front and fan < math.pi / 2 - 0.01,
    )


def _order(
    position: Array, slope: Array, touched: tuple[Array, Array], middle: Array, starts: Array
) -> tuple[Any, Any]:
    """Return, per run, +1 or -1 as positions rise or fall over the columns, and if they do so wherever it matters.

    That is on the lines on which one of two neighbours touches the image; elsewhere, rays may meet.
    """
    begin, end = np.minimum(touched[0][:-1], touched[0][1:]), np.maximum(touched[1][:-1], touched[1][1:])
    matters = np.append(begin < end, False)
    matters[starts[1:] - 1] = False
    low, high = np.full(len(position), np.inf), np.full(len(position), -np.inf)
    for line in (begin, end - 1):
        step = np.diff(position) + np.diff(slope) * (line - middle[:-1])
        np.minimum(low[:-1], step, out=low[:-1], where=matters[:-1])
        np.maximum(high[:-1], step, out=high[:-1], where=matters[:-1])
    low, high = np.minimum.reduceat(low, starts), np.maximum.reduceat(high, starts)
    return np.where(high < 0, -1, 1), (low > 0) | (high < 0)


def _groups(
    at: Array,
    slope: Array,
    real: Array,
    ray: Array,
    touched: tuple[Array, Array],
    total: Array,
    breadth: Array,
    ordered: Array,
) -> Array:
    """Return, per sixteen rays, the lines that they touch, those on which none needs clamping, and how to read them."""
    lanes, total, breadth = (-1, LANES), total[ray], breadth[ray]
    touches = real & (touched[0] < touched[1])[ray]
    begin = np.where(touches, touched[0][ray], total).reshape(lanes).min(1)
    end = np.where(touches, touched[1][ray], 0).reshape(lanes).max(1)
    inner, outer = lines_within(at, slope, -EDGE + 1.0, breadth + EDGE - 2.0, total, sure=True)
    inner = np.clip(inner.reshape(lanes).max(1), begin, np.maximum(begin, end))
    outer = np.clip(outer.reshape(lanes).min(1), inner, np.maximum(inner, end))
    at, slope, middle = at.reshape(lanes), slope.reshape(lanes), (total[::LANES] - 1) / 2
    whole = half = np.zeros(len(begin))
    for line in (begin, end - 1):
        crossing = at + slope * (line - middle)[:, None]
        gaps = crossing[:, [15, 7, 15]] - crossing[:, [0, 0, 8]]
        whole, half = np.maximum(whole, gaps[:, 0]), np.maximum(half, gaps[:, 1:].max(1))
    kind = np.where((whole < 30) & (half < 14), FAST, np.where((whole < 62) & (half < 30), WIDE, SLOW))
    kind = np.where(ordered[::LANES], kind, SLOW)
    return np.stack([begin, inner, outer, end, kind], 1).astype(np.int64)


def _sense(maps: Array, main: Array, touched: list[Array], ny: int, nx: int) -> Array:
    """Return +1 or -1 as the column of a pixel rises or falls along the lines that a lone ray touches."""
    line = (touched[0] + touched[1] - 1) / 2 - (np.where(main, ny, nx) - 1) / 2
    across, along = np.where(main, 1, 2), np.where(main, 2, 1)
    number = np.arange(len(maps))
    top, bottom = (maps[:, part, 0] + maps[number, part, across] * line for part in (0, 1))
    return np.where(maps[number, 0, along] * bottom >= maps[number, 1, along] * top, 1, -1)
