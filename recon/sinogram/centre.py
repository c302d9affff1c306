"""Where the rotation axis falls on the detector, found from the projections themselves."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from recon import checks
from recon.errors import GeometryError
from recon.geometry import ConeBeam, ParallelBeam
from recon.scan import Scan

Array = NDArray[np.floating]
Cost = Callable[[float], float]

_SMOOTHING = 1.0  # columns; keeps the noise that interpolation smooths from pulling the minimum to half columns
_ROWS = 5  # rows looked at in a parallel beam
_VIEWS = 120  # views of a full turn that are compared with their reverse


def find_centre(scan: Scan) -> float:
    """Find the detector's u offset in mm from rays that are measured twice, in opposite directions.

    A full turn compares every ray with its reverse. Half a turn of parallel rays is continued by its own mirror
    image: the axis for which the seam is smooth is refined by the energy outside the sinogram's double wedge.
    Good to about a tenth of a column where the object stays in view.

    Args:
        scan: parallel rays over half a turn or more, or a circular fan or cone over a full turn.

    Returns:
        The u offset for `Detector.offset` (see `with_centre`), within half the detector's half width.

    Raises:
        GeometryError: another geometry, or too few angles.

    Source:
        Vo, Drakopoulos, Atwood, Reinhard 2014, Optics Express 22, 19078 (double wedge).
    """
    geometry = scan.geometry
    if not isinstance(geometry, ParallelBeam | ConeBeam) or (isinstance(geometry, ConeBeam) and geometry.pitch != 0):
        raise GeometryError(
            f"scan: expected parallel rays or a circular scan, got {type(geometry).__name__}; state the offset"
        )
    if len(geometry) < 4:
        raise GeometryError(
            f"angles: expected at least 4 views to search for the axis, got {len(geometry)}; state the offset"
        )
    order = np.argsort(np.asarray(geometry.angles), kind="stable")
    angles = np.asarray(geometry.angles, dtype=np.float64)[order]
    rows = _rows(scan)[:, order]
    step = float(np.median(np.diff(angles)))
    covered = float(angles[-1] - angles[0]) + step
    if covered > 2 * math.pi - 0.5 * step:
        return _search(geometry, _reverse_cost(geometry, angles, rows), None)
    if isinstance(geometry, ParallelBeam) and covered > math.pi - 1.5 * step:
        half = rows[:, angles < angles[0] + math.pi - 0.5 * step]
        columns = _columns(geometry)
        return _search(geometry, lambda at: _seam(half, columns(at)), lambda at: _wedge(half, columns(at)))
    need = "half a turn of parallel rays" if isinstance(geometry, ParallelBeam) else "a full turn"
    raise GeometryError(f"angles: expected {need}, got {math.degrees(covered):.1f} degrees; state the offset instead")


def with_centre(scan: Scan, offset: float) -> Scan:
    """Return the scan with another detector offset along u (mm)."""
    geometry = scan.geometry
    if not isinstance(geometry, ParallelBeam | ConeBeam):
        raise GeometryError(f"scan: expected parallel rays or a circular scan, got {type(geometry).__name__}")
    u = checks.finite("offset", offset, error=GeometryError, unit="mm")
    detector = replace(geometry.detector, offset=(geometry.detector.offset[0], u))
    step = f"detector offset along u set to {u:.6g} mm"
    return scan.changed(geometry=replace(geometry, detector=detector), provenance=(*scan.provenance, step))


def _rows(scan: Scan) -> Array:
    """Return smoothed detector rows (row, view, column): a few for parallel rays, the middle one otherwise."""
    rows = scan.geometry.detector.shape[0]
    if scan.geometry.parallel:
        pick = np.unique(np.linspace(0, rows - 1, min(rows, _ROWS)).round().astype(int))
    else:
        v, _ = scan.geometry.detector.coordinates()
        pick = np.array([int(v.abs().argmin())])
    read = [scan.block(slice(None), slice(row, row + 1)) for row in pick.tolist()]
    values = torch.cat(read, dim=1).detach().cpu().double().numpy().transpose(1, 0, 2)
    from scipy.ndimage import gaussian_filter1d  # slow to import, and most scans state their centre

    smooth: Array = gaussian_filter1d(values, _SMOOTHING, axis=2)
    return smooth


def _columns(geometry: ParallelBeam | ConeBeam) -> Callable[[float], float]:
    """Return the column on which the axis falls for an offset in mm."""
    columns, pitch = geometry.detector.shape[1], geometry.detector.pitch[1]
    return lambda offset: (columns - 1) / 2 - offset / pitch


def _search(geometry: ParallelBeam | ConeBeam, coarse: Cost, fine: Cost | None) -> float:
    """Minimise over the offsets that leave at least half the columns with a mirror image."""
    columns, pitch = geometry.detector.shape[1], geometry.detector.pitch[1]
    reach = columns // 4
    best = _least(coarse, pitch * np.arange(-reach, reach + 1))
    for step in (0.25, 0.05):
        best = _least(fine or coarse, best + pitch * step * np.arange(-6, 7))
    return best


def _least(cost: Cost, offsets: Array) -> float:
    return float(offsets[int(np.argmin([cost(float(offset)) for offset in offsets]))])


def _mirrored(rows: Array, column: float) -> Array:
    """Mirror rows (row, view, column) at a column; NaN where nothing was measured."""
    k = np.arange(rows.shape[2], dtype=np.float64)
    source = 2 * column - k
    low = np.clip(np.floor(source).astype(int), 0, len(k) - 2)
    part = source - low
    values: Array = rows[..., low] * (1 - part) + rows[..., low + 1] * part
    values[..., (source < 0) | (source > len(k) - 1)] = np.nan
    return values


def _seam(rows: Array, column: float) -> float:
    """Measure the roughness in angle where half a turn meets its mirror image."""
    mirror = _mirrored(rows[:, :2], column)
    jump = -rows[:, -2] + 3 * rows[:, -1] - 3 * mirror[:, 0] + mirror[:, 1]
    seen = np.isfinite(jump)
    return float((jump[seen] ** 2).mean() / (rows[:, -1][seen].var() + rows[:, -2][seen].var() + 1e-30))


def _wedge(rows: Array, column: float) -> float:
    """Measure the share of energy outside the double wedge that a full turn's spectrum fills."""
    columns = rows.shape[2]
    half = int(min(column, columns - 1 - column))
    window = slice(round(column) - half + 1, round(column) + half)
    turn = np.concatenate([rows, _mirrored(rows, column)], axis=1)[..., window]
    power = np.abs(np.fft.rfft2(np.nan_to_num(turn) * np.hanning(turn.shape[2]), axes=(2, 1)))
    order = np.arange(power.shape[1])[:, None]
    edge = 2 * math.pi * np.abs(np.fft.fftfreq(turn.shape[2])) * turn.shape[2] / 2 + 4
    outside = (order > edge) & (order < 0.8 * (power.shape[1] - 1))
    return float(power[:, outside].sum() / power.sum()) if outside.any() else _seam(rows, column)


def _reverse_cost(geometry: ParallelBeam | ConeBeam, angles: Array, rows: Array) -> Cost:
    """Compare every ray of a full turn with the one that runs the other way.

    A ray of view theta and fan angle gamma comes back at theta + pi - 2 gamma, -gamma (gamma = 0 in a parallel beam).
    """
    from scipy.ndimage import map_coordinates

    columns, pitch = geometry.detector.shape[1], geometry.detector.pitch[1]
    middle = (np.arange(columns) - (columns - 1) / 2) * pitch
    steps = np.append(angles, angles[0] + 2 * math.pi)
    wrapped = np.concatenate([rows, rows[:, :1]], axis=1)

    some = slice(None, None, max(1, len(angles) // _VIEWS))

    def cost(offset: float) -> float:
        gamma = _fan(geometry, middle + offset)
        column = (columns - 1) / 2 - (middle + 2 * offset) / pitch
        inside = (column >= 0) & (column <= columns - 1)
        view = (angles[some, None] + math.pi - 2 * gamma[inside] - angles[0]) % (2 * math.pi) + angles[0]
        at = np.stack([np.interp(view, steps, np.arange(len(steps))), np.broadcast_to(column[inside], view.shape)])
        here = rows[:, some][..., inside]
        there = np.stack([map_coordinates(row, at, order=1) for row in wrapped])
        return float(((here - there) ** 2).mean() / (here.var() + there.var() + 1e-30))

    return cost


def _fan(geometry: ParallelBeam | ConeBeam, u: Array) -> Array:
    if isinstance(geometry, ParallelBeam):
        return np.zeros_like(u)
    ratio = u / geometry.source_to_detector
    return ratio if geometry.arc_detector else np.arctan(ratio)
