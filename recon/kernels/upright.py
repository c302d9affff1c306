"""Cone beams whose detector rows are parallel to z: which rays these are, and what the rows of a column share.

See DERIVATIONS.md, section 5.
"""

import torch
from torch import Tensor

from recon.kernels.lines import Lines

_TIE = 1 + 1e-9  # as in the twin
_LEVEL = 1e-7  # voxels by which rows may lean over the whole detector
MAIN, P, DP, Q, DQ, LEAP, DLEAP, FLAT, RISE, DRISE, DY, DX = range(12)  # entries of a ray


def applies(lines: Lines) -> bool:
    """Tell whether these are such rays, and no ray crosses more voxels along z than across."""
    return not lines.parallel and _level(lines) and _ahead(lines) and _shallow(lines)


def _level(lines: Lines) -> bool:
    """Tell whether detector rows are parallel to z, and count upwards."""
    _, rows, columns = lines.shape
    lean = lines.v[:, 1:].abs().max() * rows + lines.u[:, 0].abs().max() * columns + lines.depth[:, 0].abs().max()
    return bool(lean < _LEVEL) and bool((lines.v[:, 0] > 0).all())


def _directions(lines: Lines) -> Tensor:
    """Return the directions (view, column, 2) of rays in the plane, y before x."""
    middle = (lines.centre - lines.source)[:, None, 1:]
    along, bend = lines.along[:, None], lines.bend[:, None]
    return middle + along * lines.u[:, None, 1:] + bend * lines.depth[:, None, 1:]


def _ahead(lines: Lines) -> bool:
    """Tell whether the whole grid and every pixel lie before the source, so that rays sort by angle."""
    _, y, x = lines.grid_shape
    corners = torch.tensor([(a, b) for a in (-2, y + 1) for b in (-2, x + 1)], dtype=torch.float64)
    depth = lines.depth[:, None, 1:]
    to_corner = ((corners - lines.source[:, None, 1:]) * depth).sum(-1)
    return bool((to_corner > 0).all()) and bool(((_directions(lines) * depth).sum(-1) > 0).all())


def _shallow(lines: Lines) -> bool:
    """Tell whether no ray crosses more voxels along z than across."""
    half = (lines.rows - 1) / 2 * lines.v[:, 0].abs()
    steepest = ((lines.centre - lines.source)[:, 0].abs() + half)[:, None]
    return bool((steepest <= _directions(lines).abs().amax(-1) * _TIE).all())


def rays(lines: Lines) -> tuple[Tensor, Tensor]:
    """Return per (view, column) what its rays share, and per view the source (y, x) and the sense of rotation.

    With k a line of the main axis (MAIN: 0 for y, 1 for x) and ρ a row counted from 0, rays cross it at P + DP k and
    at the height (Q + DQ k) + (LEAP + DLEAP k) ρ, and FLAT + (RISE + DRISE ρ)² is the square of the length of rays
    between two lines. DY and DX are the direction.
    """
    direction, source, spacing = _directions(lines), lines.source[:, None], torch.tensor(lines.spacing)
    y, x = direction.unbind(-1)
    along_x = x.abs() > y.abs() * _TIE
    main, other = torch.where(along_x, x, y), torch.where(along_x, y, x)
    source_main = torch.where(along_x, source[..., 2], source[..., 1])
    source_other = torch.where(along_x, source[..., 1], source[..., 2])
    rise = (lines.centre[:, 0] - (lines.rows - 1) / 2 * lines.v[:, 0] - lines.source[:, 0])[:, None] / main
    leap = lines.v[:, :1] / main
    flat = ((direction * spacing[1:]) ** 2).sum(-1) / main**2
    table = [along_x.double(), source_other - source_main * other / main, other / main]
    table += [source[..., 0] - source_main * rise, rise, -source_main * leap, leap]
    table += [flat, rise * spacing[0], leap * spacing[0], y, x]
    first, last = direction[:, 0], direction[:, -1]
    sense = torch.sign(first[:, 1] * last[:, 0] - first[:, 0] * last[:, 1])
    views = torch.cat([lines.source[:, 1:], sense[:, None]], dim=1)
    return torch.stack(table, dim=-1).contiguous(), views
