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
import torch
from torch import Tensor

from recon.kernels.lines import Lines
from recon.kernels.reference import main_axis

LANES = 16
EDGE = 32  # zeros to the left of each line of a framed image, twice as many to its right
FAST, CLAMPED, WIDE, SLOW = range(4)  # how to read sixteen rays: by `pick`, kept in reach, `pick_wide`, one by one
_LEVEL = 1e-7  # voxels by which rays may leave their plane and still count as in-plane
_MOST_RAYS = 3.5  # per pixel, so that sixteen pixels see fewer than 64 rays
_WIDEST = 0.75  # rad off the axis up to which `plane` inverts a curved detector

Array = np.ndarray[Any, Any]


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


def in_plane(lines: Lines) -> bool:
    """Tell whether every ray keeps its height z, and rows keep theirs in all views."""
    reach = max(lines.grid_shape)
    if lines.parallel:
        rise = (lines.source[:, 0].abs() / lines.source[:, 1:].abs().amax(1)).max() * reach
    else:
        rise = (lines.source[:, 0] - lines.centre[:, 0]).abs().max() if lines.shape[1] == 1 else torch.tensor(math.inf)
    upright = lines.v[:, 1:].abs().max() if lines.shape[1] > 1 else torch.tensor(0.0)
    across = (lines.u[:, 0].abs() * lines.along.abs().max()).max() + lines.depth[:, 0].abs().max()
    heights = _heights(lines)
    drift = (heights - heights[:1]).abs().max()
    return all(float(x) < _LEVEL for x in (rise, upright * lines.rows, across, drift))


def row_heights(lines: Lines) -> Tensor:
    """Return the z of each detector row in voxels, which an in-plane scan has in all views."""
    return _heights(lines)[0]


def _heights(lines: Lines) -> Tensor:
    rows = torch.arange(lines.rows, dtype=torch.float64) - (lines.rows - 1) / 2
    rise = lines.v[:, :1] if lines.rows > 1 else torch.zeros_like(lines.v[:, :1])
    return lines.centre[:, :1] + rows * rise


def tabulate(lines: Lines) -> Tables:
    """Compute the tables of an in-plane scan."""
    ny, nx = lines.grid_shape[1:]
    views, columns = lines.shape[0], lines.shape[2]
    origin, direction = _rays(lines)
    level = direction * torch.tensor([0.0, 1.0, 1.0], dtype=torch.float64)
    main = (main_axis(level) == 1).numpy().reshape(-1)
    position, slope, length = _crossings(origin, direction, main, lines)
    total, breadth = np.where(main, ny, nx), np.where(main, nx, ny)
    touched = _lines_within(position, slope, -1.0, breadth, total)
    starts = np.flatnonzero(np.append(True, main[1:] != main[:-1]) | (np.arange(main.size) % columns == 0))
    counts = np.diff(np.append(starts, main.size))
    maps, arc, fan = _maps(lines), *_curvature(lines)
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
    facing = _facing(maps, ny, nx)
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
        gather=bool(ordered.all()) and facing and fan <= _WIDEST and _rays_per_pixel(maps, ny, nx) <= _MOST_RAYS,
        mapped=facing and fan < math.pi / 2 - 0.01,
    )


def _curvature(lines: Lines) -> tuple[float, float]:
    """Return columns per radian of a curved detector and its widest angle off the axis, or zeros for a flat one."""
    if not bool(lines.bend.any()):
        return 0.0, 0.0
    spacing = torch.tensor(lines.spacing, dtype=torch.float64)
    arc = float((lines.depth[0] * spacing).norm() / (lines.u[0] * spacing).norm())
    return arc, float(torch.atan2(lines.along / arc, 1 + lines.bend).abs().max())


def _rays(lines: Lines) -> tuple[Tensor, Tensor]:
    """Return a point on, and the direction of, every ray of the middle row: (view, column, 3)."""
    pixel = lines.centre[:, None] + lines.along[:, None] * lines.u[:, None] + lines.bend[:, None] * lines.depth[:, None]
    source = lines.source[:, None].expand_as(pixel)
    return (pixel, source) if lines.parallel else (source, pixel - source)


def _crossings(origin: Tensor, direction: Tensor, y_main: Array, lines: Lines) -> tuple[Array, Array, Array]:
    """Return position on the middle line, slope and mm per line of every ray, flat."""
    oy, ox, dy, dx = (part.numpy().reshape(-1) for part in (*origin.unbind(-1)[1:], *direction.unbind(-1)[1:]))
    hy, hx = (lines.grid_shape[1] - 1) / 2, (lines.grid_shape[2] - 1) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = np.where(y_main, dx / dy, dy / dx)
    position = np.where(y_main, ox + (hy - oy) * slope, oy + (hx - ox) * slope)
    _, sy, sx = lines.spacing
    length = np.where(y_main, np.hypot(sy, sx * slope), np.hypot(sx, sy * slope))
    return position, slope, length


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
    inner, outer = _lines_within(at, slope, -EDGE + 1.0, breadth + EDGE - 2.0, total, sure=True)
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


def _lines_within(
    at: Array, slope: Array, low: Any, high: Any, total: Array, sure: bool = False
) -> tuple[Array, Array]:
    """Return the lines [begin, end) with low < at + slope · (line - middle) < high: all such, or, if sure, no other."""
    middle, more = (total - 1) / 2, -1e-3 if sure else 1e-3
    flat = abs(slope) < 1e-9
    inverse = 1 / np.where(flat, 1.0, slope)
    a, b = (low - more - at) * inverse + middle, (high + more - at) * inverse + middle
    level = (at > low - more) & (at < high + more)
    begin = np.where(flat, np.where(level, 0.0, total), np.ceil(np.minimum(a, b)))
    end = np.where(flat, np.where(level, total, 0.0), np.floor(np.maximum(a, b)) + 1)
    return np.clip(begin, 0, total), np.clip(end, 0, total)


def _maps(lines: Lines) -> Array:
    """Return, per view, numerator and denominator of a pixel's column over (1, y, x) (DERIVATIONS.md, eq. 12)."""
    middle = torch.tensor([(lines.grid_shape[1] - 1) / 2, (lines.grid_shape[2] - 1) / 2], dtype=torch.float64)
    source, centre, u = lines.source[:, 1:], lines.centre[:, 1:] - middle, lines.u[:, 1:]
    if lines.parallel:
        top, start = torch.stack([source[:, 1], -source[:, 0]], 1), centre
        bottom, base = torch.zeros_like(u), (u * torch.stack([source[:, 1], -source[:, 0]], 1)).sum(1)
    else:
        start = source - middle
        central = centre - start
        top = torch.stack([-central[:, 1], central[:, 0]], 1)
        bottom = torch.stack([u[:, 1], -u[:, 0]], 1)
        base = -(bottom * start).sum(1)
    above = torch.cat([-(top * start).sum(1, keepdim=True), top], 1)
    below = torch.cat([base[:, None], bottom], 1)
    sign = torch.sign(below[:, :1])
    scale = below[:, :1].abs().clamp_min(1e-300)
    return torch.stack([above * sign / scale, below * sign / scale], 1).numpy()


def _sense(maps: Array, main: Array, touched: list[Array], ny: int, nx: int) -> Array:
    """Return +1 or -1 as the column of a pixel rises or falls along the lines that a lone ray touches."""
    line = (touched[0] + touched[1] - 1) / 2 - (np.where(main, ny, nx) - 1) / 2
    across, along = np.where(main, 1, 2), np.where(main, 2, 1)
    number = np.arange(len(maps))
    top, bottom = (maps[:, part, 0] + maps[number, part, across] * line for part in (0, 1))
    return np.where(maps[number, 0, along] * bottom >= maps[number, 1, along] * top, 1, -1)


def _facing(maps: Array, ny: int, nx: int) -> bool:
    """Tell whether every pixel of the image and sixteen around it lies well on the detector's side of the source."""
    return bool((maps[:, 1] @ _corners(ny + 2 * LANES + 2, nx + 2 * LANES + 2) > 1e-3).all())


def _rays_per_pixel(maps: Array, ny: int, nx: int) -> float:
    """Return the most rays per pixel along any line of either direction, in any view.

    Along a line, the rise of num / den is a constant over den squared, so it is steepest at one of its ends.
    """
    most = 0.0
    for along, across, lines, pixels in ((2, 1, ny, nx), (1, 2, nx, ny)):
        line = np.arange(-1, lines + 1) - (lines - 1) / 2
        top, bottom = (maps[:, part, :1] + maps[:, part, across, None] * line for part in (0, 1))
        rise = abs(maps[:, 0, along, None] * bottom - maps[:, 1, along, None] * top)
        least = bottom - abs(maps[:, 1, along, None]) * (pixels + 1) / 2
        most = max(most, float((rise / least**2).max()))
    return most


def _corners(ny: int, nx: int) -> Array:
    y, x = (ny - 1) / 2, (nx - 1) / 2
    return np.array([[1, a, b] for a in (-y, y) for b in (-x, x)]).T
