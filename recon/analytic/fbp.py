"""Filtered backprojection: parallel and fan (`fbp`), circular cone (`fdk`), in 1/mm whatever the sampling."""

import math
import warnings
from dataclasses import replace

import torch
from torch import Tensor

from recon import checks, kernels
from recon.analytic.filters import WINDOWS, filter_rows, ramp_response
from recon.analytic.truncation import continued, warn_truncation
from recon.analytic.weights import cosine, redundancy
from recon.errors import CTWarning, GeometryError
from recon.field_of_view import axial_range
from recon.geometry import ConeBeam, ParallelBeam, ScanGeometry
from recon.grid import VolumeGrid
from recon.kernels.maps import maps
from recon.scan import Scan

AnyBeam = ParallelBeam | ConeBeam

PADDINGS = ("zero", "edge")


def fbp(
    scan: Scan,
    grid: VolumeGrid,
    *,
    window: str = "ram-lak",
    cutoff: float = 1.0,
    padding: str = "zero",
    limited_angle: bool = False,
) -> Tensor:
    """Reconstruct a parallel or fan-beam scan by filtered backprojection.

    Cosine, short-scan (Parker) and offset-detector weights follow from the geometry. Uneven, repeated and
    unordered views are weighted by the angle they stand for. Poses of the scan are honoured in backprojection.

    Args:
        scan: line integrals with a `ParallelBeam`, or a `ConeBeam` of one detector row.
        grid: where to reconstruct; any region of interest at any spacing.
        window: "ram-lak", "shepp-logan", "cosine", "hamming" or "hann".
        cutoff: highest frequency kept, as a share of the detector's Nyquist frequency.
        padding: "zero", or "edge" to continue truncated projections beyond the detector as ellipses.
        limited_angle: accept a scan that misses part of the arc an exact image needs.

    Returns:
        Attenuation in 1/mm, (z, y, x), in the scan's dtype and on its device.

    Raises:
        GeometryError: a geometry without an FBP formula, or too short an arc.
        ConfigError: an unknown window or padding, a cut-off outside (0, 1].

    Source:
        Kak and Slaney 1988, Principles of Computerized Tomographic Imaging, sections 3.3 and 3.4.
    """
    geometry = scan.geometry
    if isinstance(geometry, ConeBeam) and geometry.detector.shape[0] > 1:
        raise GeometryError(f"scan: expected one detector row for fbp, got {geometry.detector.shape[0]}; use fdk")
    return _reconstruct(scan, grid, window, cutoff, padding, limited_angle)


def fdk(
    scan: Scan,
    grid: VolumeGrid,
    *,
    window: str = "ram-lak",
    cutoff: float = 1.0,
    padding: str = "zero",
    limited_angle: bool = False,
) -> Tensor:
    """Reconstruct a circular cone-beam scan by the method of Feldkamp, Davis and Kress.

    Exact in the plane of the source, approximate beyond it. Arguments, result and errors are those of `fbp`; the
    geometry is a circular `ConeBeam`, flat or arc.

    Source:
        Feldkamp, Davis and Kress 1984, Journal of the Optical Society of America A 1(6): 612-619.
    """
    if not isinstance(scan.geometry, ConeBeam):
        raise GeometryError(f"scan: expected a ConeBeam for fdk, got {type(scan.geometry).__name__}; use fbp or sirt")
    return _reconstruct(scan, grid, window, cutoff, padding, limited_angle)


def _reconstruct(scan: Scan, grid: VolumeGrid, window: str, cutoff: float, padding: str, limited_angle: bool) -> Tensor:
    checks.choice("window", window, WINDOWS)
    checks.choice("padding", padding, PADDINGS)
    geometry = _supported(scan.geometry)
    geometry.check_grid(grid)
    checks.fits_memory("volume", math.prod(grid.shape) * scan.values.itemsize)
    weights = _ray_weights(geometry, limited_angle)
    _warn_order(geometry)
    _warn_unseen(geometry, grid)
    if padding == "zero":
        warn_truncation(scan)
    geometry, weighted = _widened(geometry, scan.values * weights.to(scan.values))
    filtered = filtered_projections(weighted, geometry, window=window, cutoff=cutoff, padding=padding)
    if not _in_the_row(geometry, grid):
        geometry, filtered = _heightened(geometry, filtered)
    unit = geometry.source_to_axis if isinstance(geometry, ConeBeam) else 1.0
    where = maps(geometry, grid, unit=unit, poses=scan.poses)
    image: Tensor = kernels.find("backproject", filtered)(where, filtered[None])[0]
    return image


def filtered_projections(
    values: Tensor, geometry: AnyBeam, *, window: str, cutoff: float, padding: str = "zero"
) -> Tensor:
    """Apply the ramp filter at the sampling of the rotation axis: 1/mm after summing over rad (DERIVATIONS.md, 3)."""
    pitch = geometry.detector.pitch[1]
    if geometry.arc_detector:
        pitch /= geometry.source_to_detector  # type: ignore[union-attr]
    elif isinstance(geometry, ConeBeam):
        pitch /= geometry.magnification
    columns = values.shape[-1]
    extra = columns if padding == "edge" else 0
    response = ramp_response(columns + 2 * extra, pitch, window=window, cutoff=cutoff, angular=geometry.arc_detector)
    if geometry.arc_detector:
        response = response / geometry.source_to_axis  # type: ignore[union-attr]
    if extra:
        values = continued(values, geometry.detector.coordinates()[1], extra)
    return filter_rows(values, response)[..., extra : extra + columns]


def _ray_weights(geometry: AnyBeam, limited_angle: bool) -> Tensor:
    weights = redundancy(geometry, limited_angle=limited_angle)
    return weights * cosine(geometry) if isinstance(geometry, ConeBeam) else weights


def _widened(geometry: AnyBeam, values: Tensor) -> tuple[AnyBeam, Tensor]:
    """Add empty columns to the short side of an offset detector, where filtered values do not vanish."""
    detector = geometry.detector
    offset, pitch = detector.offset[1], detector.pitch[1]
    extra = math.ceil(2 * abs(offset) / pitch)
    if extra == 0:
        return geometry, values
    shift = -math.copysign(extra * pitch / 2, offset)
    wide = replace(
        detector, shape=(detector.shape[0], detector.shape[1] + extra), offset=(detector.offset[0], offset + shift)
    )
    sides = (extra, 0) if offset > 0 else (0, extra)
    return replace(geometry, detector=wide), torch.nn.functional.pad(values, sides)


def _in_the_row(geometry: AnyBeam, grid: VolumeGrid) -> bool:
    """Tell a single slice in the very plane of a single row, which needs no neighbours."""
    (v, _), pitch = geometry.detector.coordinates(), geometry.detector.pitch[0]
    return len(v) == grid.shape[0] == 1 and max(abs(float(v[0])), abs(grid.centre[0])) < 1e-6 * pitch


def _heightened(geometry: AnyBeam, values: Tensor) -> tuple[AnyBeam, Tensor]:
    """Repeat the outer rows once: a pixel has an extent, and half of it lies beyond its middle."""
    detector = replace(geometry.detector, shape=(geometry.detector.shape[0] + 2, geometry.detector.shape[1]))
    return replace(geometry, detector=detector), torch.cat([values[:, :1], values, values[:, -1:]], dim=1)


def _warn_unseen(geometry: AnyBeam, grid: VolumeGrid) -> None:
    """Say when slices lie beyond the rows of the detector, where there is nothing to reconstruct from."""
    bottom, top = axial_range(geometry)
    z, _, _ = grid.axes()
    unseen = int(((z < bottom - 1e-6) | (z > top + 1e-6)).sum())
    if unseen:
        warnings.warn(
            f"grid: {unseen} of {len(z)} slices lie outside z from {bottom:.2f} to {top:.2f} mm, which the detector's "
            "rows see at the axis; they are not reliable",
            CTWarning,
            stacklevel=5,
        )


def _supported(geometry: ScanGeometry) -> AnyBeam:
    if not isinstance(geometry, ParallelBeam | ConeBeam):
        raise GeometryError(f"scan: {type(geometry).__name__} has no filtered backprojection; use cgls or sirt")
    if isinstance(geometry, ConeBeam) and geometry.pitch:
        raise GeometryError("scan: a helical scan has no FDK formula; use cgls, sirt or os_sart")
    if len(geometry) < 2:
        raise GeometryError(f"scan: expected at least 2 views, got {len(geometry)}")
    return geometry


def _warn_order(geometry: AnyBeam) -> None:
    """Say when views repeat or run back and forth; each is weighted by the arc it stands for."""
    steps = torch.tensor(geometry.angles, dtype=torch.float64).diff()
    circle = 2 * torch.pi
    turned = torch.tensor(geometry.angles, dtype=torch.float64).remainder(circle).sort().values
    repeated = int((torch.cat([turned.diff(), turned[:1] + circle - turned[-1:]]) < 1e-9).sum())
    unordered = bool((steps > 0).any()) and bool((steps < 0).any())
    if repeated or unordered:
        found = f"{repeated} repeated view{'s' * (repeated > 1)}" if repeated else "views that are not in order"
        message = f"angles: {found}; each view is weighted by the arc it stands for"
        warnings.warn(message, CTWarning, stacklevel=4)
