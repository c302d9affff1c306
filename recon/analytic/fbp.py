"""Filtered backprojection: parallel and fan (`fbp`), circular cone (`fdk`), in 1/mm whatever the sampling."""

import math
import warnings

import torch
from torch import Tensor

from recon import checks, memory
from recon.analytic.differentiable import reconstruct, refuse_functional
from recon.analytic.filters import WINDOWS
from recon.analytic.recipe import Advance, AnyBeam, Recipe
from recon.analytic.truncation import warn_truncation
from recon.analytic.weights import redundancy
from recon.errors import CTWarning, GeometryError
from recon.field_of_view import axial_range
from recon.geometry import ConeBeam, ParallelBeam, ScanGeometry
from recon.grid import VolumeGrid
from recon.scan import Scan

PADDINGS = ("zero", "edge")


def fbp(
    scan: Scan,
    grid: VolumeGrid,
    *,
    window: str = "ram-lak",
    cutoff: float = 1.0,
    padding: str = "zero",
    limited_angle: bool = False,
    precision: str = "single",
    progress: Advance | None = None,
) -> Tensor:
    """Reconstruct a parallel or fan-beam scan by filtered backprojection.

    Cosine, short-scan (Parker) and offset-detector weights follow from the geometry. Uneven, repeated and
    unordered views are weighted by the angle they stand for. Poses of the scan are honoured in backprojection.
    The image has a gradient with respect to values and poses that require one.

    Args:
        scan: line integrals with a `ParallelBeam`, or a `ConeBeam` of one detector row.
        grid: where to reconstruct; any region of interest at any spacing.
        window: "ram-lak", "shepp-logan", "cosine", "hamming" or "hann".
        cutoff: highest frequency kept, as a share of the detector's Nyquist frequency.
        padding: "zero", or "edge" to continue truncated projections beyond the detector as ellipses.
        limited_angle: accept a scan that misses part of the arc an exact image needs.
        precision: "single", or "half" to store filtered projections so on a GPU (about 1e-4 of the largest value).
        progress: called with the number of finished blocks of views and that of all, before each.

    Returns:
        Attenuation in 1/mm, (z, y, x), in the scan's dtype and on its device; inside `recon.memory.limit`, on the
        disk if memory is not to be filled with it.

    Raises:
        GeometryError: a geometry without an FBP formula, or too short an arc.
        ConfigError: an unknown window or padding, a cut-off outside (0, 1].

    Source:
        Kak and Slaney 1988, Principles of Computerized Tomographic Imaging, sections 3.3 and 3.4.
    """
    geometry = scan.geometry
    if isinstance(geometry, ConeBeam) and geometry.detector.shape[0] > 1:
        raise GeometryError(f"scan: expected one detector row for fbp, got {geometry.detector.shape[0]}; use fdk")
    recipe = prepare(
        scan, grid, window=window, cutoff=cutoff, padding=padding, limited_angle=limited_angle, precision=precision
    )
    return reconstruct(recipe, scan, progress=progress)


def fdk(
    scan: Scan,
    grid: VolumeGrid,
    *,
    window: str = "ram-lak",
    cutoff: float = 1.0,
    padding: str = "zero",
    limited_angle: bool = False,
    precision: str = "single",
    progress: Advance | None = None,
) -> Tensor:
    """Reconstruct a circular cone-beam scan by the method of Feldkamp, Davis and Kress.

    Exact in the plane of the source, approximate beyond it. Arguments, result and errors are those of `fbp`; the
    geometry is a circular `ConeBeam`, flat or arc.

    Source:
        Feldkamp, Davis and Kress 1984, Journal of the Optical Society of America A 1(6): 612-619.
    """
    if not isinstance(scan.geometry, ConeBeam):
        raise GeometryError(f"scan: expected a ConeBeam for fdk, got {type(scan.geometry).__name__}; use fbp or sirt")
    recipe = prepare(
        scan, grid, window=window, cutoff=cutoff, padding=padding, limited_angle=limited_angle, precision=precision
    )
    return reconstruct(recipe, scan, progress=progress)


def prepare(
    scan: Scan,
    grid: VolumeGrid,
    *,
    window: str = "ram-lak",
    cutoff: float = 1.0,
    padding: str = "zero",
    limited_angle: bool = False,
    precision: str = "single",
) -> Recipe:
    """Check and prepare what `fbp` or `fdk` does, to be done slab by slab: ``recipe.slab(scan, slices)``.

    Arguments and errors are those of `fbp`.
    """
    refuse_functional()
    checks.choice("window", window, WINDOWS)
    checks.choice("padding", padding, PADDINGS)
    checks.choice("precision", precision, ("single", "half"))
    geometry = _supported(scan.geometry)
    geometry.check_grid(grid)
    memory.check_room("volume", math.prod(grid.shape) * scan.dtype.itemsize, scan.empty(0).device)
    weights = redundancy(geometry, limited_angle=limited_angle)
    _warn_order(geometry)
    _warn_unseen(geometry, grid)
    if padding == "zero":
        warn_truncation(scan)
    recipe = Recipe.of(
        geometry, grid, weights, window=window, cutoff=cutoff, padding=padding, poses=scan.poses, precision=precision
    )
    recipe.slabs()  # refuses a budget of memory that is too small, before anything is read
    return recipe


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
