"""What the GPU kernels for cone beams are told about rays: float64 until a whole number is taken off."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from recon.kernels import upright
from recon.kernels.gpu.cone_kernels import COLUMNS
from recon.kernels.lines import Lines
from recon.kernels.plans import Kept
from recon.kernels.upright import DLEAP, DP, DRISE, FLAT, LEAP, MAIN, P

_FINE = 1024.0  # parts of a voxel in which slopes are split: these times whole lines are exact in float32


@dataclass(frozen=True, kw_only=True)
class Side:
    """The rays whose main axis is y, or x: k counts its lines, i voxels along the other axis in the plane."""

    lines: int
    across: int  # how many voxels there are along i
    runs: Tensor  # (run, 3): view, first column, end of the columns of a run of neighbours
    shadows: Tensor  # (run, 7): two affine functions of (k, i) whose quotient is the column, and its uncertainty
    groups: Tensor  # (group, 5): view, first column, count of columns, first line, end of the lines
    run_of: tuple[int, ...]  # first run of each view, and of the view after the last one
    group_of: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Tables:
    """All that the kernels need, on the device."""

    rays: Tensor  # (view, column, 8): p and Λ, each at the middle line and per line, in a coarse and a fine part
    views: Tensor  # (view, 6): height and row of the source, each whole and rest, lowest and highest voxel seen
    flat: Tensor  # (view, column) length in the plane between two lines of voxels, mm
    rise: Tensor  # (view, column) rise between two lines from row to row, mm
    sides: tuple[Side, Side]
    heights: int  # how many slices the volume has
    window: int  # how many rows can reach a voxel
    least: float  # a height between rows that no voxel reaches
    bow: float  # columns per rad of an arc, 0 if flat


def _halves(value: Tensor) -> tuple[Tensor, Tensor]:
    """Split into what float32 holds, and the rest."""
    coarse = value.float().double()
    return coarse, value - coarse


@Kept
def tables(lines: Lines, device: torch.device) -> Tables:
    """Return the tables of rays that `upright.applies` to."""
    table, _ = upright.rays(lines)
    begin, end = _crossings(lines, table)
    low, high = _leaps(table, begin, end)
    on_x = table[..., MAIN] > 0
    middle = torch.where(on_x, (lines.grid_shape[2] - 1) / 2, (lines.grid_shape[1] - 1) / 2)
    place, slope = table[..., P] + table[..., DP] * middle, (table[..., DP] * _FINE).round() / _FINE
    leap = table[..., LEAP] + table[..., DLEAP] * middle
    whole = place.round()
    rays = [whole, place - whole, slope, table[..., DP] - slope, *_halves(leap), *_halves(table[..., DLEAP])]
    bow = _bow(lines)
    return Tables(
        rays=torch.stack(rays, dim=-1).float().to(device),
        views=_views(lines, low, high).float().to(device),
        flat=table[..., FLAT].sqrt().float().to(device),
        rise=table[..., DRISE].float().to(device),
        sides=(
            _side(lines, ~on_x, begin, end, bow, device, upwards=True),
            _side(lines, on_x, begin, end, bow, device, upwards=False),
        ),
        heights=lines.grid_shape[0],
        window=_window(low),
        least=0.5 * low,
        bow=bow,
    )


def _crossings(lines: Lines, table: Tensor) -> tuple[Tensor, Tensor]:
    """Return the stretch of k on which each column's rays are nearer than one voxel to the grid."""
    _, y, x = lines.grid_shape
    on_x = table[..., MAIN] > 0
    count, across = torch.where(on_x, x, y).double(), torch.where(on_x, y, x).double()
    slope = table[..., DP]
    steep = slope.abs() > 1e-12
    safe = torch.where(steep, slope, 1.0)
    one, other = (-1 - table[..., P]) / safe, (across - table[..., P]) / safe
    inside = (table[..., P] > -1) & (table[..., P] < across)
    begin = torch.where(steep, torch.minimum(one, other), torch.where(inside, 0.0, 1.0))
    end = torch.where(steep, torch.maximum(one, other), torch.where(inside, count - 1, 0.0))
    return begin.clamp(min=0), torch.minimum(end, count - 1)


def _leaps(table: Tensor, begin: Tensor, end: Tensor) -> tuple[float, float]:
    """Return the least and the greatest distance between rows, in voxels, within the grid."""
    meets = begin <= end
    if not bool(meets.any()):
        return 1.0, 1.0
    leaps = torch.stack([table[..., LEAP] + table[..., DLEAP] * k for k in (begin, end)])[:, meets]
    return float(leaps.min()), float(leaps.max())


def _window(low: float) -> int:
    """Return how many rows can reach a voxel: those in an open interval of two voxels (DERIVATIONS.md, section 7)."""
    return max(2, math.ceil(2 / low - 1e-6))


def _views(lines: Lines, low: float, high: float) -> Tensor:
    source, pitch = lines.source[:, 0], lines.v[:, 0]
    row = (lines.rows - 1) / 2 - (lines.centre[:, 0] - source) / pitch  # of the source's height
    ends = [(r - row) * leap for r in (0, lines.rows - 1) for leap in (low, high)]
    ends = [torch.stack(ends).amin(0) + source - 2, torch.stack(ends).amax(0) + source + 2]
    return torch.stack([source.round(), source - source.round(), row.round(), row - row.round(), *ends], dim=1)


def _bow(lines: Lines) -> float:
    if not bool(lines.bend.any()):
        return 0.0
    bend = float(lines.bend[-1])
    return float(lines.along[-1]) / math.sqrt(-bend * (2 + bend))


def _side(
    lines: Lines, taken: Tensor, begin: Tensor, end: Tensor, bow: float, device: torch.device, *, upwards: bool
) -> Side:
    _, y, x = lines.grid_shape
    count, across = (y, x) if upwards else (x, y)
    first = taken & ~torch.nn.functional.pad(taken, (1, 0))[:, :-1]
    last = taken & ~torch.nn.functional.pad(taken, (0, 1))[:, 1:]
    view, left = first.nonzero(as_tuple=True)
    runs = torch.stack([view, left, last.nonzero(as_tuple=True)[1] + 1], dim=1)
    groups = _groups(taken, first, begin, end)
    views = torch.arange(len(taken) + 1)
    return Side(
        lines=count,
        across=across,
        runs=runs.int().to(device),
        shadows=_shadows(lines, bow, upwards=upwards)[view].float().to(device),
        groups=groups.int().to(device),
        run_of=tuple(torch.searchsorted(view, views).tolist()),
        group_of=tuple(torch.searchsorted(groups[:, 0].contiguous(), views).tolist()),
    )


def _groups(taken: Tensor, first: Tensor, begin: Tensor, end: Tensor) -> Tensor:
    """Cut runs into groups of COLUMNS columns, each with the lines that any of them crosses within the grid."""
    views, columns = taken.shape
    number = torch.arange(columns).expand(views, columns)
    start = torch.where(first, number, 0).cummax(dim=1).values
    view, left = (taken & ((number - start) % COLUMNS == 0)).nonzero(as_tuple=True)
    each = left[:, None] + torch.arange(COLUMNS)
    belongs = (each < columns) & taken[view[:, None], each.clamp(max=columns - 1)]
    belongs = belongs & (start[view[:, None], each.clamp(max=columns - 1)] == start[view, left][:, None])
    each = each.clamp(max=columns - 1)
    meets = belongs & (begin <= end)[view[:, None], each]
    low = torch.where(meets, begin[view[:, None], each].floor(), math.inf).amin(1)
    high = torch.where(meets, end[view[:, None], each].ceil() + 1, -math.inf).amax(1)
    none = ~meets.any(1)
    low, high = low.masked_fill(none, 0.0), high.masked_fill(none, 0.0)
    return torch.stack([view, left, belongs.sum(1), low.long(), high.long()], dim=1)


def _shadows(lines: Lines, bow: float, *, upwards: bool) -> Tensor:
    """Return (view, 7): numerator and denominator, each (constant, per k, per i), and a bound on what rounding does.

    Places count from the middle of the grid; the quotient is the column counted from the detector's middle, on an arc
    its tangent (DERIVATIONS.md, eq. 12).
    """
    _, y, x = lines.grid_shape
    to = (lines.centre - lines.source)[:, 1:]
    u, away = lines.u[:, 1:], torch.tensor([(y - 1) / 2, (x - 1) / 2], dtype=torch.float64) - lines.source[:, 1:]
    scale = to[:, 0] * u[:, 1] - to[:, 1] * u[:, 0]
    parts = torch.stack([torch.stack([-to[:, 1], to[:, 0]], 1), torch.stack([u[:, 1], -u[:, 0]], 1)], dim=1)
    parts = parts / scale[:, None, None]  # (view, 2, 2): numerator and denominator, per y and per x
    constant = (parts * away[:, None]).sum(-1, keepdim=True)
    half = torch.tensor([(y + 9) / 2, (x + 9) / 2], dtype=torch.float64)
    reach = constant.abs().squeeze(-1) + (parts.abs() * half).sum(-1)
    near = (constant.squeeze(-1) - (parts.abs() * half).sum(-1))[:, 1].clamp(min=1e-3)
    farthest = bow * 10 if bow else float(lines.along.abs().max()) + 2
    doubt = 1e-3 + 1e-6 * (reach[:, 0] + farthest * reach[:, 1]) / near
    if not upwards:
        parts = parts.flip(-1)
    return torch.cat([torch.cat([constant, parts], dim=-1).flatten(1), doubt[:, None]], dim=1)
