"""Which pixels can hold a ray that touches a voxel: a bound for any orbit, from a map per view.

The bound only chooses candidates, whose weights come from the table of rays; it must miss none (DERIVATIONS.md,
section 8). Where there is none, near the plane of the source say, it is the whole detector.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from recon.kernels.lines import Lines
from recon.kernels.plans import Kept
from recon.kernels.reference import main_axis

MAP_FIELDS = 33  # three affine functions of the voxel, their changes within a hat, `_margins` and `_bundle`
_MIXED = 3  # main axis of views whose rays do not have one in common
_CLEAR = 1e-6  # share by which a main axis must stand out to hold for all rays of a view
_ROUNDINGS = 6  # in a row, at most, in one evaluation of a map


@Kept
def lane_axis(lines: Lines) -> int:
    """Return the axis of the volume along which detector rows lie, most of all: neighbours in memory."""
    along = lines.v.abs()
    axis = int((along / along.sum(1, keepdim=True).clamp_min(1e-300)).sum(0).argmax())
    return axis if min(lines.rows, lines.grid_shape[axis]) >= 8 else 2


@Kept
def windows(lines: Lines, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, bool, int]:
    """Return maps (view, field), whether they are of an arc, and how many rows a window has, 2 to 4 at a time.

    Flat: row = a / c and column = b / c, counted from the middle, with a, b, c affine in the voxel counted from the
    whole number near the grid's middle. Arc: row = a / L - shift and column = scale · atan2(b, c), L = hypot(b, c).
    """
    arc = bool(lines.bend.any())
    functions, scale, shift, fits = (_arc if arc else _flat)(lines)
    centre = _centre(lines)
    functions[..., 3] += (functions[..., :3] * centre).sum(-1)
    functions[~fits] = 0.0  # no depth: the whole detector
    bundle = _bundle(lines)
    # A ray with main axis m touches within a voxel on the other two axes, at the voxel's own plane on m.
    changes = functions[..., :3] * (bundle[:, :1] != torch.arange(3))[:, None]
    margins = _margins(lines, functions, scale, shift, dtype)
    maps = torch.cat([functions.flatten(1), changes.flatten(1), margins, bundle], dim=1)
    return maps.to(dtype).to(device), arc, _at_once(functions[:, 1 if arc else 2 :], changes[:, 0])


def _centre(lines: Lines) -> Tensor:
    return torch.tensor([float(n // 2) for n in lines.grid_shape], dtype=torch.float64)


def _at_once(depth: Tensor, by_row: Tensor) -> int:
    """Choose how many rows of a window to read at a time so that fewest are read in vain in the grid's middle."""
    rows = 2 * by_row.abs().sum(1) / depth[..., 3].norm(dim=1).clamp_min(1e-300)
    tall = int(rows.median().clamp(0, 64)) + 1
    return min((4, 3, 2), key=lambda step: -(-tall // step) * step)


def _bundle(lines: Lines) -> Tensor:
    """Return per view the main axis, 3 if rays have none in common, and what places tell of slopes: (view, 5).

    With D from the source to the middle plane, A + B dk = A (1 + dk / D) - S dk / D (DERIVATIONS.md, eq. 18);
    parallel rays share B. A source between the first and the last plane leaves places without slopes: also 3.
    """
    main = _common_axis(lines)
    axis = main.clamp_max(2).long()[:, None]
    sizes = torch.tensor(lines.grid_shape, dtype=torch.float64)
    along = lines.source.gather(1, axis)
    if lines.parallel:
        slopes = torch.where(main[:, None] < _MIXED, lines.source / along, 0.0)
        return torch.cat([main[:, None], torch.zeros_like(along), slopes], dim=1)
    distance = ((sizes - 1) / 2)[axis] - along
    outside = distance.abs() > sizes[axis] / 2 + 1
    inverse = torch.where(outside, 1 / distance, 0.0)
    slopes = -(lines.source - _centre(lines)) * inverse
    return torch.cat([torch.where(outside, main[:, None], float(_MIXED)), inverse, slopes], dim=1)


def _flat(lines: Lines) -> tuple[Tensor, float, Tensor, Tensor]:
    """Solve X = S + t (D - S + row v + column u) for t, row and column (parallel: X = D + t S + ...)."""
    views, _, columns = lines.shape
    steps = torch.arange(columns, dtype=torch.float64) - (columns - 1) / 2
    ahead = lines.source if lines.parallel else lines.centre - lines.source
    functions, fits = _solve(lines.v, lines.u, ahead, lines.centre if lines.parallel else lines.source)
    if lines.parallel:
        functions[:, 2] = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=torch.float64)
    return functions, 0.0, torch.zeros(views, dtype=torch.float64), fits & torch.equal(lines.along, steps)


def _arc(lines: Lines) -> tuple[Tensor, float, Tensor, Tensor]:
    """Solve X = S + t (cos γ w + sin γ |w|/|u| u + (row + shift) v) for t times cos γ, sin γ and row + shift."""
    views, _, columns = lines.shape
    spacing = torch.tensor(lines.spacing, dtype=torch.float64)
    scale = float((lines.depth[0] * spacing).norm() / (lines.u[0] * spacing).norm())
    gamma = (torch.arange(columns, dtype=torch.float64) - (columns - 1) / 2) / scale
    regular = torch.allclose(lines.along, gamma.sin() * scale, rtol=1e-9, atol=1e-9)
    regular &= torch.allclose(lines.bend, gamma.cos() - 1, rtol=1e-9, atol=1e-9)
    functions, fits = _solve(lines.v, lines.u * scale, lines.depth, lines.source)
    rest = lines.centre - lines.source - lines.depth
    shift = (rest * lines.v).sum(1) / (lines.v * lines.v).sum(1)
    straight = (rest - shift[:, None] * lines.v).norm(dim=1) <= 1e-9 * lines.depth.norm(dim=1)
    # Beyond a right angle a line meets the arc twice.
    fits &= straight & (regular and not lines.parallel and float(gamma.abs().max()) < 0.49 * math.pi)
    return functions, scale, torch.where(fits, shift, torch.zeros(views, dtype=torch.float64)), fits


def _solve(v: Tensor, u: Tensor, ahead: Tensor, through: Tensor) -> tuple[Tensor, Tensor]:
    """Return the coordinates along v, u and ahead of X - through as functions (view, 3, 4), and where there are any."""
    matrix = torch.stack([v, u, ahead], dim=2)
    inverse, failed = torch.linalg.inv_ex(matrix)
    size = inverse.flatten(1).norm(dim=1) * matrix.flatten(1).norm(dim=1)
    fits = (failed == 0) & inverse.flatten(1).isfinite().all(1) & (size < 1e9)
    inverse = torch.where(fits[:, None, None], inverse, 0.0)
    return torch.cat([inverse, -(inverse @ through[..., None])], dim=2), fits


def _margins(lines: Lines, functions: Tensor, scale: float, shift: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the errors of a row's and a column's numerator, of the depth, of a row and a column; scale and shift.

    Twice the error of evaluating the maps in a type: windows widen by it.
    """
    size = torch.tensor([n / 2 + 2 for n in lines.grid_shape] + [1.0], dtype=torch.float64)
    unit = _ROUNDINGS * torch.finfo(dtype).eps
    error = unit * (functions.abs() * size).sum(-1)
    rows, columns = lines.rows / 2 + 2, len(lines.along) / 2 + 2
    steep = unit * functions[..., :3].abs().sum(-1)
    error = error + steep
    by_row, by_column = error[:, 0] + (rows + shift.abs()) * error[:, 2], error[:, 1] + columns * error[:, 2]
    if scale:
        by_row = error[:, 0] + (rows + shift.abs()) * (error[:, 1] + error[:, 2])
        by_column = error[:, 1] + error[:, 2]
    place = 1e-3 + unit * (rows + shift.abs()), torch.full_like(shift, 1e-3 + unit * columns + 2e-5 * scale)
    fields = by_row, by_column, error[:, 2], *place, torch.full_like(shift, scale), shift
    return torch.stack(fields, dim=1)


def _common_axis(lines: Lines) -> Tensor:
    """Return the main axis that all rays of each view clearly have, or 3.

    Along a detector row or column the direction is affine, so |d_m| > |d_p| at both ends, with d_m of one sign, holds
    between them; the columns of an arc are all looked at.
    """
    ends = [0, -1] if not bool(lines.bend.any()) else slice(None)
    return torch.cat([_common(_rim(lines, views, ends)) for views in torch.arange(lines.shape[0]).split(64)])


def _common(rim: Tensor) -> Tensor:
    """Return the main axis of some directions (view, ray, 3), 3 where they have none in common."""
    main = main_axis(rim[:, 0])
    along = rim.gather(2, main[:, None, None].expand(-1, rim.shape[1], 1))
    others = torch.arange(3) != main[:, None, None]
    clear = (along.abs() > (1 + _CLEAR) * (rim.abs() * others).amax(2, keepdim=True)).flatten(1).all(1)
    same_way = (along.flatten(1).sign().sum(1).abs() == rim.shape[1]) & clear
    return torch.where(same_way, main, _MIXED).double()


def _rim(lines: Lines, views: Tensor, ends: list[int] | slice) -> Tensor:
    """Return the directions (view, ray, 3) of pixels at the upper and lower end of some columns."""
    low = (lines.rows - 1) / 2
    rho = torch.tensor([[-low], [low]], dtype=torch.float64)[..., None]
    along, bend = lines.along[ends, None], lines.bend[ends, None]
    source, centre, v, u, depth = (
        vectors[views, None, None]
        for vectors in (lines.source, lines.centre, lines.v, lines.u, lines.depth)
    )  # fmt: skip
    pixel = centre + rho * v + along * u + bend * depth
    return (source.expand_as(pixel) if lines.parallel else pixel - source).flatten(1, 2)


@triton.jit
def window(at, z, y, x, rows, columns, ARC: tl.constexpr):
    """Return first and last row and column of the pixels whose rays can touch voxels, none as last before first."""
    a0, a1, a2 = tl.load(at + 12), tl.load(at + 13), tl.load(at + 14)
    b0, b1, b2 = tl.load(at + 15), tl.load(at + 16), tl.load(at + 17)
    c0, c1, c2 = tl.load(at + 18), tl.load(at + 19), tl.load(at + 20)
    by_row, by_column, by_depth = tl.load(at + 21), tl.load(at + 22), tl.load(at + 23)
    a, b, c = affine(at, z, y, x), affine(at + 4, z, y, x), affine(at + 8, z, y, x)
    reach = tl.abs(c0) + tl.abs(c1) + tl.abs(c2)
    if ARC:
        scale, shift = tl.load(at + 26), tl.load(at + 27)
        square, margin = b * b + c * c, (tl.abs(b) + tl.abs(c)) * by_column
        length, across = tl.sqrt(square), reach + tl.abs(b0) + tl.abs(b1) + tl.abs(b2)
        aside = tl.abs(b * c0 - c * b0) + tl.abs(b * c1 - c * b1) + tl.abs(b * c2 - c * b2) + margin
        nearer = tl.abs(b * b0 + c * c0) + tl.abs(b * b1 + c * c1) + tl.abs(b * b2 + c * c2) + margin
        safe = (c > 1.01 * reach + 2.0 * by_depth) & (length > 1.01 * across + 2.0 * by_column)
        safe = safe & (square > 1.05 * nearer)
        row_middle = a / tl.where(safe, length, 1.0)
        row_reach = tl.abs(a0) + tl.abs(a1) + tl.abs(a2) + by_row + tl.abs(row_middle) * across
        row_reach = row_reach / tl.where(safe, length - across - by_column, 1.0)
        column_middle = scale * arctangent(b, tl.where(safe, c, 1.0))
        column_reach = scale * aside / tl.where(safe, square - nearer, 1.0)
        row_middle -= shift
    else:
        safe = tl.abs(c) > 2.0 * (reach + by_depth)
        inverse = 1.0 / tl.where(safe, c, 1.0)
        size = tl.abs(inverse)
        # 1 / (|c| - t) <= (1 + 2 t / |c|) / |c| for t up to half of |c|.
        widest = size + 2.0 * (reach + by_depth) * size * size
        row_middle, column_middle = a * inverse, b * inverse
        row_reach = widest * (
            tl.abs(a0 - row_middle * c0) + tl.abs(a1 - row_middle * c1) + tl.abs(a2 - row_middle * c2) + by_row
        )
        column_reach = widest * (
            tl.abs(b0 - column_middle * c0)
            + tl.abs(b1 - column_middle * c1)
            + tl.abs(b2 - column_middle * c2)
            + by_column
        )
    row, last_row = ends(row_middle, row_reach + tl.load(at + 24), rows, safe)
    column, last_column = ends(column_middle, column_reach + tl.load(at + 25), columns, safe)
    return row, last_row, column, last_column


@triton.jit
def affine(at, z, y, x):
    """Evaluate an affine function."""
    return tl.load(at) * z + tl.load(at + 1) * y + tl.load(at + 2) * x + tl.load(at + 3)


@triton.jit
def ends(middle, reach, count, safe):
    """Return the first and the last pixel within reach of places on an axis, which hold a margin of 1e-3."""
    middle, reach = middle + (count - 1) * 0.5, tl.where(safe, reach, 1e9)
    first = tl.minimum(tl.maximum(middle - reach, 0.0), count)
    last = tl.minimum(tl.maximum(middle + reach, -1.0), count - 1)
    # Cut towards 0: of a first place a little above the whole number, and of a last one between -1 and 0, one more.
    return (first + 0.9999).to(tl.int32), last.to(tl.int32)


@triton.jit
def arctangent(b, c):
    """Return atan2(b, c) for positive c within 1e-5 (Abramowitz and Stegun 1964, 4.4.49)."""
    size = tl.abs(b)
    flat = size <= c
    t = tl.minimum(size, c) / tl.maximum(size, c)
    s = t * t
    angle = t * (0.9998660 + s * (-0.3302995 + s * (0.1801410 + s * (-0.0851330 + s * 0.0208351))))
    angle = tl.where(flat, angle, 1.5707963 - angle)
    return tl.where(b < 0.0, -angle, angle)
