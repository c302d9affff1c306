"""From derivatives along rays to derivatives by the vectors that place them: what all ray gradients end with."""

import torch
from torch import Tensor

from recon.kernels.lines import Lines
from recon.kernels.reference import main_axis

_OTHERS = ((1, 2), (0, 2), (0, 1))  # p and q of main axis z, y, x


def chain(lines: Lines, views: slice, sums: Tensor) -> Tensor:
    """Differentiate by source, centre, v, u and depth of some views: (view, 5, 3), float64.

    On the CPU; recon.kernels.gpu.slopes has a kernel that does the same.

    Args:
        lines: the rays.
        views: the views that `sums` belong to.
        sums: per ray (view, row, column, 5), times the ray's projection value and summed over the batch: S, Gp, Hp,
            Gq, Hq of DERIVATIONS.md, section 9, with the length between planes left out.

    Source:
        DERIVATIONS.md, eq. 19 to 22.
    """
    origin, direction = rays(lines, views)
    by_origin, by_direction = _by_ray(lines, origin, direction, sums.double())
    # Of parallel rays the pixel is the point and `source` the direction; others run from the source to the pixel.
    by_pixel, by_source = (by_origin, by_direction) if lines.parallel else (by_direction, by_origin - by_direction)
    rows, along, bend = row_steps(lines), lines.along, lines.bend
    each_row, each_column = by_pixel.sum(2), by_pixel.sum(1)
    found = (
        by_source.sum((1, 2)),
        each_row.sum(1),
        (rows[:, None] * each_row).sum(1),
        (along[:, None] * each_column).sum(1),
        (bend[:, None] * each_column).sum(1),
    )
    return torch.stack(found, dim=1)


def row_steps(lines: Lines) -> Tensor:
    """Return rows counted from the middle."""
    return torch.arange(lines.rows, dtype=torch.float64) - (lines.rows - 1) / 2


def rays(lines: Lines, views: slice) -> tuple[Tensor, Tensor]:
    """Return a point on, and the direction of, each ray of some views in voxels: two tensors (view, row, column, 3)."""
    source, centre, v, u, depth = (
        vectors[views, None, None] for vectors in (lines.source, lines.centre, lines.v, lines.u, lines.depth)
    )
    rows, along, bend = (steps[..., None] for steps in (row_steps(lines)[:, None], lines.along, lines.bend))
    pixel = centre + rows * v + along * u + bend * depth
    if lines.parallel:
        return pixel, source.expand_as(pixel)
    return source.expand_as(pixel), pixel - source


def _by_ray(lines: Lines, origin: Tensor, direction: Tensor, sums: Tensor) -> tuple[Tensor, Tensor]:
    """Differentiate by the point on, and the direction of, each ray (DERIVATIONS.md, eq. 20 and 21)."""
    main = main_axis(direction)[..., None]
    p, q = (torch.tensor(axes)[main] for axes in zip(*_OTHERS, strict=True))
    spacing = torch.tensor(lines.spacing, dtype=torch.float64)
    middle = (torch.tensor(lines.grid_shape, dtype=torch.float64) - 1) / 2
    d = direction.gather(-1, main)
    slope_p, slope_q = direction.gather(-1, p) / d, direction.gather(-1, q) / d
    length = (direction * spacing).norm(dim=-1, keepdim=True) / d.abs()
    total, *across = sums.split(1, dim=-1)
    ahead = middle[main] - origin.gather(-1, main)
    by_origin, by_direction = torch.zeros_like(direction), torch.zeros_like(direction)
    along_o, along_d = torch.zeros_like(d), torch.zeros_like(d)
    for axis, slope, g, h in ((p, slope_p, *across[:2]), (q, slope_q, *across[2:])):
        by_slope = (length * (h + ahead * g) + total * spacing[axis] ** 2 * slope / length) / d
        by_origin.scatter_(-1, axis, length * g)
        by_direction.scatter_(-1, axis, by_slope)
        along_o, along_d = along_o - length * g * slope, along_d - by_slope * slope
    return by_origin.scatter_(-1, main, along_o), by_direction.scatter_(-1, main, along_d)
