"""What the in-plane kernels are told, tabulated in float64: rays in blocks, rays by bin, and which bins a tile sees.

A ray crosses line k, counted from the image's middle line, at whole + part + slope · k pixels from the first one, where
`whole` is a whole number: in single precision only slope · k is rounded, and only once positions are near the pixel.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from recon.kernels.gpu.launch import INTERPRETED
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
from recon.kernels.plans import Kept

PAD = 64  # bins without a value before and after each view's
TURNED = 2.0**20  # added to `whole` in `Bins` where x is the main axis
_FAR = 2.0**18  # pixels; rays farther from the image than this are nowhere near it
_MOST_TAPS = 16  # rays that can touch one pixel, beyond which no window is read
_NEAREST = 1e-6  # of the denominators of columns, relative to the image's middle, that is told from 0
_LEEWAY = 1e-4  # bins, above rounding
_HALF_TURN = math.pi / 2 - 0.01  # rad off the axis; a curved detector that reaches further sees lines twice
_PAIRS = 1 << 22  # of view and tile looked at together, to bound temporary memory
_LISTED = 1 << 25  # chunks of bins listed at a time, for the same reason


@dataclass(frozen=True)
class Sizes:
    """What one program takes."""

    rays: int  # of one image
    stacked: int  # rays of a stack
    views: int | None  # neighbouring views whose rays share programs; None for all
    pixels: tuple[int, int]  # of one image, along y and x
    tile: int  # pixels of a stack along y and x
    chunk: int  # bins at a time
    widths: tuple[int, ...]  # images of a stack, the widest first


ON_GPU = Sizes(rays=64, stacked=32, views=4, pixels=(4, 32), tile=8, chunk=16, widths=(128, 64, 32, 16))
# The interpreter wants few programs.
IN_INTERPRETER = Sizes(rays=1024, stacked=512, views=None, pixels=(64, 128), tile=32, chunk=64, widths=(64, 32, 16))
_sizes = IN_INTERPRETER if INTERPRETED else ON_GPU


def sizes() -> Sizes:
    """Return what one program takes where this runs."""
    return _sizes


@dataclass(frozen=True)
class Blocks:
    """Rays in blocks of one main axis: `size` entries each, those that only fill a block with ray -1."""

    size: int
    whole: Tensor
    part: Tensor
    slope: Tensor
    length: Tensor  # mm per line
    ray: Tensor  # view · columns + column
    y_main: Tensor  # (block,)
    begin: Tensor  # (block,) lines [begin, end) that any of its rays touches
    end: Tensor


@dataclass(frozen=True)
class Bins:
    """Rays by view and bin, flat, with PAD entries on both sides of each view, and where pixels find them.

    To `whole`, TURNED is added where x is the main axis.
    """

    stride: int  # bins of a view with those beside it
    whole: Tensor
    part: Tensor
    slope: Tensor
    length: Tensor  # (view, column), mm per line
    maps: Tensor  # (view, 8): numerator and denominator of a pixel's column over (1, y, x), rays per pixel, 0
    taps: int  # rays that can touch a pixel, in any view; 0 if they cannot be found from `maps`
    slack: float  # rays by which a column found in single precision may be off
    arc: float  # columns per radian of a curved detector, 0 for a flat one


def _places(lines: Lines) -> tuple[Array, Array, Array, Array, Array]:
    """Return y_main, whole, part, slope and length of every ray, flat."""
    ny, nx = lines.grid_shape[1:]
    y_main, at, slope, length = crossings(lines)
    count = np.where(y_main, ny, nx)
    at = at + slope * (count // 2 - (count - 1) / 2)
    whole = np.clip(np.floor(at), -_FAR, _FAR)
    return y_main, whole, np.clip(at - whole, 0.0, 1.0), slope, length


@Kept
def blocks(lines: Lines, device: torch.device, size: int, views: int) -> Blocks:
    """Sort rays into blocks, together with those of so many neighbouring views, which read the same pixels."""
    ny, nx = lines.grid_shape[1:]
    y_main, whole, part, slope, length = _places(lines)
    ray = np.arange(len(whole))
    view, column = np.divmod(ray, lines.shape[2])
    group = view // views * 2 + y_main
    order = np.lexsort((view, column, group))
    starts = np.flatnonzero(np.append(True, np.diff(group[order]) != 0))
    counts = np.diff(np.append(starts, len(order)))
    padded = -(-counts // size) * size
    within = np.arange(padded.sum()) - np.repeat(np.cumsum(padded) - padded, padded)
    real = within < np.repeat(counts, padded)
    entry = order[np.repeat(starts, padded) + np.minimum(within, np.repeat(counts - 1, padded))]

    total, breadth = np.where(y_main, ny, nx), np.where(y_main, nx, ny)
    at = whole + part - slope * (total // 2 - (total - 1) / 2)
    first, last = (ends[entry].reshape(-1, size) for ends in lines_within(at, slope, -1.0, breadth, total))
    begin = np.where(first < last, first, math.inf).min(1)
    end = np.where(first < last, last, 0).max(1)

    def there(values: Array, dtype: torch.dtype) -> Tensor:
        return torch.from_numpy(values).to(device, dtype)

    return Blocks(
        size=size,
        **{
            name: there(values[entry], torch.float32)
            for name, values in (("whole", whole), ("part", part), ("slope", slope), ("length", length))
        },
        ray=there(np.where(real, ray[entry], -1), torch.int32),
        y_main=there(y_main[entry][::size], torch.int32),
        begin=there(np.minimum(begin, end), torch.int32),
        end=there(end, torch.int32),
    )


@Kept
def bins(lines: Lines, device: torch.device) -> Bins:
    """Lay out rays by view and bin, and work out how many of them can touch a pixel."""
    views, _, columns = lines.shape
    ny, nx = lines.grid_shape[1:]
    stride = columns + 2 * PAD
    y_main, whole, part, slope, length = _places(lines)

    def padded(values: Array) -> Tensor:
        out = torch.zeros(views, stride)
        out[:, PAD : PAD + columns] = torch.from_numpy(values).view(views, columns)
        return out.to(device)

    maps, (arc, fan) = column_maps(lines), curvature(lines)
    density = rays_per_pixel(maps, ny, nx)
    slack = 1e-3 + 2e-6 * columns + 3e-6 * arc
    found = facing(maps, ny, nx, 1) and fan <= WIDEST
    taps = int(2 * density.max() + 2 * slack + 1e-3) + 1 if found else 0
    table = np.concatenate([maps.reshape(views, 6), density[:, None], np.zeros((views, 1))], 1)
    return Bins(
        stride=stride,
        whole=padded(np.where(y_main, whole, whole + TURNED)),
        part=padded(part),
        slope=padded(slope),
        length=torch.from_numpy(length).view(views, columns).to(device, torch.float32),
        maps=torch.from_numpy(table).to(device, torch.float32),
        taps=taps if taps <= _MOST_TAPS else 0,
        slack=slack,
        arc=arc,
    )


@dataclass(frozen=True)
class Work:
    """For each tile of some rows of tiles, where in the tables of `Bins` its chunks of bins begin."""

    row: int  # the first row of tiles
    tiles: int
    first: Tensor  # (tile + 1,) in `chunks`
    chunks: Tensor


def work(lines: Lines, device: torch.device) -> Iterator[Work]:
    """List the chunks of bins that any ray through a tile falls into: all of the view where that cannot be bounded.

    Lists that are not large are made once.
    """
    size = sizes()
    ny, nx = (-(-n // size.tile) for n in lines.grid_shape[1:])
    rows = max(1, int(_LISTED // (lines.shape[0] * nx * _chunks_per_tile(lines, size))))
    if rows >= ny:
        yield _kept_work(lines, device, size, 0, ny)
        return
    for row in range(0, ny, rows):
        yield _work(lines, device, size, row, min(ny, row + rows))


@Kept
def _chunks_per_tile(lines: Lines, size: Sizes) -> float:
    """Return about how many chunks of bins a tile sees in the worst of views."""
    most = 2 * size.tile * float(rays_per_pixel(column_maps(lines), *lines.grid_shape[1:]).max())
    return min(most if curvature(lines)[1] < _HALF_TURN else math.inf, lines.shape[2]) / size.chunk + 1


def _work(lines: Lines, device: torch.device, size: Sizes, row: int, end: int) -> Work:
    views, _, columns = lines.shape
    tiles = (end - row) * -(-lines.grid_shape[2] // size.tile)
    maps = torch.from_numpy(column_maps(lines)).to(device)
    first, counts = torch.empty(2, tiles, views, dtype=torch.int32, device=device)
    step = max(1, _PAIRS // tiles)
    for view in range(0, views, step):
        part = slice(view, min(views, view + step))
        low, high = _bins_seen(lines, maps[part], size.tile, row, end)
        start = PAD + torch.arange(part.start, part.stop, device=device)[:, None] * (columns + 2 * PAD)
        first[:, part] = (start + low).T
        counts[:, part] = torch.where(high < low, 0, (high - low) // size.chunk + 1).T
    ends = counts.view(-1).cumsum(0)
    chunks = first.view(-1).repeat_interleave(counts.view(-1))
    within = torch.arange(len(chunks), device=device) - (ends - counts.view(-1)).repeat_interleave(counts.view(-1))
    starts = torch.cat([ends.new_zeros(1), ends.view(tiles, views)[:, -1]])
    return Work(row=row, tiles=tiles, first=starts.int(), chunks=(chunks + size.chunk * within).int())


_kept_work = Kept(_work)


def _bins_seen(lines: Lines, maps: Tensor, tile: int, row: int, end: int) -> tuple[Tensor, Tensor]:
    """Return the first and the last bin (view, tile) whose rays can touch a tile; the last may be before the first.

    A ray touches a pixel where it crosses that pixel's row or column less than one pixel away. On one side of the
    source, columns are a quotient of affine functions: largest and smallest at corners.
    """
    columns, (arc, fan) = lines.shape[2], curvature(lines)
    top, bottom, left, right = _edges(lines, tile, row, end, maps.device)
    corners = [(y, x) for y in (top - 1, bottom + 1) for x in (left, right)]
    corners += [(y, x) for y in (top, bottom) for x in (left - 1, right + 1)]
    low, high, near, far = (torch.empty(0),) * 4
    for i, (y, x) in enumerate(corners):
        above, below = (
            (part[:, 0, None, None] + part[:, 1, None, None] * y[:, None] + part[:, 2, None, None] * x).flatten(1)
            for part in maps.unbind(1)
        )
        column = above / below
        low, high = (column, column) if i == 0 else (torch.minimum(low, column), torch.maximum(high, column))
        near, far = (below, below) if i == 0 else (torch.minimum(near, below), torch.maximum(far, below))
    if arc:
        low, high = torch.atan(low / arc) * arc, torch.atan(high / arc) * arc
    bounded = ((near > _NEAREST) | (far < -_NEAREST)) & (fan < _HALF_TURN)
    middle = (columns - 1) / 2
    first = torch.where(bounded, (low + middle - _LEEWAY).ceil().clamp(0, columns), 0)
    last = torch.where(bounded, (high + middle + _LEEWAY).floor().clamp(-1, columns - 1), columns - 1)
    return first.long(), last.long()


def _edges(lines: Lines, tile: int, row: int, end: int, device: torch.device) -> list[Tensor]:
    """Return the first and last y of each row of tiles, the first and last x of each column, from the middle."""
    out = []
    for n, begin, stop in ((lines.grid_shape[1], row, end), (lines.grid_shape[2], 0, -(-lines.grid_shape[2] // tile))):
        first = torch.arange(begin, stop, dtype=torch.float64, device=device) * tile
        out += [first - (n - 1) / 2, (first + tile - 1).clamp(max=n - 1) - (n - 1) / 2]
    return out
