"""What a scanner sees: the cylinder about the z axis that can be reconstructed, and a grid that covers it."""

import math
import warnings

import numpy as np
import torch
from torch import Tensor

from recon.errors import CTWarning
from recon.geometry.base import ScanGeometry, across
from recon.geometry.coverage import coverage
from recon.geometry.free import FreeBeam
from recon.grid import VolumeGrid

_HEIGHTS = 1025  # positions along the axis at which coverage is counted


def field_of_view(geometry: ScanGeometry) -> tuple[float, float]:
    """Measure the cylinder about the z axis that the scan covers.

    A line through the object must be measured from one side at least: after a full turn the wider side of the
    detector decides (half-fan set-ups), after a shorter arc the narrower one. Along the axis a height counts when it
    is seen over half a turn, which trims the ends of a helix.

    Args:
        geometry: any geometry; free trajectories are measured about the z axis, with a warning that says so.

    Returns:
        Radius and half the height on the axis, both in mm.
    """
    if isinstance(geometry, FreeBeam):
        message = "field of view: measured about the z axis for free trajectories; state the grid to be sure"
        warnings.warn(message, CTWarning, stacklevel=2)
    bottom, top = axial_range(geometry)
    return _radius(geometry), (top - bottom) / 2


def axial_range(geometry: ScanGeometry) -> tuple[float, float]:
    """Return the lowest and highest z in mm that the scan covers on the axis."""
    bottoms, tops = _axis_heights(geometry)
    heights = torch.linspace(float(bottoms.min()), float(tops.max()), _HEIGHTS, dtype=torch.float64)
    seen = (bottoms[:, None] <= heights + 1e-9) & (heights - 1e-9 <= tops[:, None])
    turn = torch.from_numpy(np.unwrap(_azimuths(geometry).numpy()))[:, None]
    first = torch.where(seen, turn, math.inf).amin(0)
    last = torch.where(seen, turn, -math.inf).amax(0)
    step = float(turn.max() - turn.min()) / max(1, len(geometry) - 1)
    wanted = min(math.pi, float(turn.max() - turn.min()) + step) - step - 1e-6
    enough = heights[last - first >= wanted]
    return (float(enough[0]), float(enough[-1])) if len(enough) else (float(heights[0]), float(heights[-1]))


def default_grid(geometry: ScanGeometry) -> VolumeGrid:
    """Choose a grid that covers the field of view with voxels of the detector's pitch as seen at the axis.

    Returns:
        A square grid of slices; one slice for a detector of one row that stays in its plane.
    """
    radius, half = field_of_view(geometry)
    bottom, top = axial_range(geometry)
    return _covering(radius, half, (bottom + top) / 2, pitch_at_axis(geometry))


def grid_of(
    geometry: ScanGeometry,
    *,
    shape: int | tuple[int, int, int] | None = None,
    spacing: float | tuple[float, float, float] | None = None,
) -> VolumeGrid:
    """Complete what is known about a grid from the field of view.

    Args:
        geometry: the scan's geometry.
        shape: voxels (z, y, x), or one number for y and x; the slices then follow from the height.
        spacing: voxel step (z, y, x) in mm, or one number; by default the field of view is divided by the shape.

    Returns:
        A grid in the middle of the field of view.
    """
    whole = default_grid(geometry)
    if spacing is not None:
        whole = _with_spacing(whole, spacing)
    elif shape is not None:
        counts = (None, shape, shape) if isinstance(shape, int) else shape
        whole = _divided(whole, counts)
    if shape is None:
        return whole
    kept = (whole.shape[0], shape, shape) if isinstance(shape, int) else shape
    return VolumeGrid(shape=kept, spacing=whole.spacing, centre=whole.centre)


def outside_fraction(geometry: ScanGeometry, grid: VolumeGrid) -> float:
    """Return the fraction of a grid's voxel centres that lie outside the field of view."""
    radius, bottom, top = _radius(geometry), *axial_range(geometry)
    z, y, x = grid.axes()
    disc = (y[:, None] ** 2 + x**2 <= radius**2).double().mean()
    slab = ((z >= bottom - 1e-9) & (z <= top + 1e-9)).double().mean()
    return 1 - float(disc * slab)


def warn_outside(geometry: ScanGeometry, grid: VolumeGrid) -> None:
    """Warn when a grid reaches beyond the box around the field of view; corners of that box are expected."""
    radius, bottom, top = _radius(geometry), *axial_range(geometry)
    over = [abs(c) + e / 2 - radius - d for c, e, d in zip(grid.centre, grid.extent, grid.spacing, strict=True)]
    low, high = grid.centre[0] - grid.extent[0] / 2, grid.centre[0] + grid.extent[0] / 2
    along = max(bottom - low, high - top) - grid.spacing[0]
    if max(along, *over[1:]) > 0:
        warnings.warn(
            f"volume outside the field of view: {100 * outside_fraction(geometry, grid):.0f} % of the voxels lie "
            f"outside the cylinder of radius {radius:.1f} mm and z from {bottom:.1f} to {top:.1f} mm that the scan "
            "covers; values there are not reliable",
            CTWarning,
            stacklevel=2,
        )


def pitch_at_axis(geometry: ScanGeometry) -> tuple[float, float]:
    """Return the detector's pitch (v, u) in mm as it appears at the axis: the median over the views."""
    source, centre, v, u = geometry.rays().unbind(1)
    shrink = torch.ones(len(geometry), dtype=torch.float64)
    if not geometry.parallel:
        shrink = source[:, 1:].norm(dim=1) / _depth(centre - source, v, u)
    return float((v.norm(dim=1) * shrink).median()), float((u.norm(dim=1) * shrink).median())


def _with_spacing(grid: VolumeGrid, spacing: float | tuple[float, float, float]) -> VolumeGrid:
    """Cover the same box; a single slice keeps its thickness."""
    flat = grid.shape[0] == 1 and isinstance(spacing, int | float)
    return grid.resampled((grid.spacing[0], spacing, spacing) if flat else spacing)  # type: ignore[arg-type]


def _divided(grid: VolumeGrid, counts: tuple[int | None, int, int]) -> VolumeGrid:
    """Divide the box by counts; slices without a count are as thick as the pixels are wide."""
    y, x = (length / n for length, n in zip(grid.extent[1:], counts[1:], strict=True))
    z = grid.extent[0] / counts[0] if counts[0] else max(y, grid.extent[0] if grid.shape[0] == 1 else 0.0)
    return _with_spacing(grid, (z, y, x))


def _covering(radius: float, half: float, middle: float, pitch: tuple[float, float]) -> VolumeGrid:
    """Fit whole voxels into the field of view, to a thousandth of a voxel."""
    slices, across = (
        max(1, math.floor(2 * size / step + 1e-3)) for size, step in zip((half, radius), pitch, strict=True)
    )
    centre = (middle if abs(middle) > 1e-9 else 0.0, 0.0, 0.0)
    return VolumeGrid(shape=(slices, across, across), spacing=(pitch[0], pitch[1], pitch[1]), centre=centre)


def _radius(geometry: ScanGeometry) -> float:
    """Find the distance from the axis of the outermost rays: of the wider side if every line has its opposite."""
    sides = torch.stack([_edge_distance(geometry, side) for side in (-1.0, 1.0)]).abs()
    per_view = sides.amax(0) if _full_turn(geometry) else sides.amin(0)
    return float(per_view.median())


def _edge_distance(geometry: ScanGeometry, side: float) -> Tensor:
    """Return the signed distance in mm, per view, between the axis and the ray through the detector's edge."""
    point, direction = _ray(geometry, 0.0, side * geometry.detector.shape[1] / 2)
    (_, y, x), (_, dy, dx) = point.unbind(1), direction.unbind(1)
    return (x * dy - y * dx) / torch.hypot(dx, dy).clamp_min(1e-12)


def _axis_heights(geometry: ScanGeometry) -> tuple[Tensor, Tensor]:
    """Return, per view, the lowest and highest z in mm that the detector sees on the axis."""
    ends = []
    for side in (-1.0, 1.0):
        point, direction = _ray(geometry, side * geometry.detector.shape[0] / 2, _column_of_axis(geometry))
        flat = (direction[:, 1:] ** 2).sum(1).clamp_min(1e-24)
        ends.append(point[:, 0] - (point[:, 1:] * direction[:, 1:]).sum(1) / flat * direction[:, 0])
    low, high = torch.stack(ends).sort(0).values
    return low, high


def _column_of_axis(geometry: ScanGeometry) -> float:
    """Return the column, counted from the detector's middle, in whose ray the axis lies: the median over the views."""
    source, centre, v, u = geometry.rays().unbind(1)
    column = -_cross(source, centre) / _cross(source, u)
    if geometry.arc_detector:
        steps = across(centre - source, v).norm(dim=1) / u.norm(dim=1)
        column = (column / steps).atan() * steps
    return float(column.median())


def _depth(reach: Tensor, v: Tensor, u: Tensor) -> Tensor:
    """Return the distance along the normal of the detector, per view."""
    normal = torch.linalg.cross(v, u)
    depth: Tensor = (reach * normal).sum(1).abs() / normal.norm(dim=1)
    return depth


def _cross(a: Tensor, b: Tensor) -> Tensor:
    """Return the z component of the cross product."""
    return a[:, 2] * b[:, 1] - a[:, 1] * b[:, 2]


def _ray(geometry: ScanGeometry, row: float, column: float) -> tuple[Tensor, Tensor]:
    """Return a point and the direction, per view, of the ray `row` and `column` steps from the detector's middle."""
    source, centre, v, u = geometry.rays().unbind(1)
    if geometry.arc_detector:
        away = across(centre - source, v)
        radius = away.norm(dim=1, keepdim=True)
        length = u.norm(dim=1, keepdim=True)
        gamma = column * length / radius
        pixel = centre + away * (gamma.cos() - 1) + u * (radius / length) * gamma.sin() + row * v
    else:
        pixel = centre + row * v + column * u
    return (pixel, source) if geometry.parallel else (source, pixel - source)


def _azimuths(geometry: ScanGeometry) -> Tensor:
    """Return the angle of the viewing direction in the plane of rotation, per view, in rad."""
    _, direction = _ray(geometry, 0.0, 0.0)
    return torch.atan2(direction[:, 1], direction[:, 2])


def _full_turn(geometry: ScanGeometry) -> bool:
    """Tell whether the views surround the object."""
    return len(geometry) > 1 and coverage(_azimuths(geometry)).full
