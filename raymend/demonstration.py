"""The demonstration: one scan, reconstructed plainly, with low-dose filtering and carefully, and numbers."""

import functools
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch

from raymend.judging import Region, dense, noise, quiet_region, scores, steepness
from raymend.low_dose import low_dose
from raymend.reconstruction import ANALYTIC, default_method
from recon import ConeBeam, CTWarning, Detector, ParallelBeam, Scan, Status, VolumeGrid, noise_photons, to_hu
from recon.analytic.weights import redundancy
from recon.errors import GeometryError, NumericalError
from recon.field_of_view import grid_of
from recon.iterative import LeastSquares, Solution, balanced_huber, os_sart, pwls
from recon.iterative.oversampling import usual
from recon.operators import Projector
from recon.sinogram.restore import CANDIDATES

if TYPE_CHECKING:
    from torch import Tensor

CORNER = 1.6e-3  # steps between voxels above this share of dense material count as edges: 1.6 HU in tissue
BALANCE = 0.8  # prior's curvature over the data's; the best of 0.4 to 20 on simulated thoraces, seeds 3 and 5
ITERATIONS, SUBSETS = 15, 8
_BUDGET = 1e10  # voxels times rays that the careful method may visit on a user's scan
SHORT = tuple(one for one in CANDIDATES["spad"] if one.iterations <= 8)  # judged in a third of the time of all
_JUDGED, _RESTORED = 2e6, 2e7  # values of a user's scan up to which settings are chosen, and projections restored
_WIDEST = {1: 512, 3: 128}  # pixels across for one slice and for volumes of a user's scan

_MOST_PHOTONS = 1e8  # more than any scan has: what was measured is rounding

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large the simulated demonstration is: views, detector columns, voxel step in mm."""

    views: int
    columns: int
    step: float


SIZES = {"normal": Size(views=580, columns=672, step=1.0), "small": Size(views=120, columns=168, step=4.0)}
PHOTONS, ELECTRONIC, SEED = 2e4, 10.0, 3


@dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    """One reconstruction in HU, the words that explain it, and its numbers by name."""

    name: str
    note: str
    image: "Tensor"
    seconds: float
    numbers: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class Demonstration:
    """All that the pictures and the page show.

    Args:
        title: what was scanned.
        scan: the projections.
        grid: where the images are.
        truth: what the images should be in HU, or None for measured data.
        region: where noise is measured.
        results: reconstructions, the plain one first, the low-dose one before last, the careful one last.
        settings: what was done, as pairs of words.
        notes: what a reader should keep in mind.
        history: objective of the careful method per iteration.
    """

    title: str
    scan: Scan
    grid: VolumeGrid
    truth: "Tensor | None"
    region: Region
    results: tuple[Result, ...]
    settings: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    history: tuple[float, ...]


def simulated_case(size: Size, seed: int) -> tuple[Scan, VolumeGrid, "Tensor"]:
    """Simulate a low-dose thorax on the fan-beam scanner `somatom16`, with fewer views: scan, grid and truth in HU."""
    from phantoms import BowTie, Dose, simulate, thorax

    detector = Detector(shape=(1, size.columns), pitch=(1.407 * 672 / size.columns,) * 2, curve="arc")
    geometry = ConeBeam.circular(size.views, detector=detector, source_to_axis=570, source_to_detector=1040)
    body = thorax(seed=seed).moved(shift=(-20.0, 0.0, 0.0))  # a slice with nodules, vessels, heart and spine
    grid = VolumeGrid(shape=(1, round(240 / size.step), round(440 / size.step)), spacing=(size.step,) * 3)
    dose = Dose(photons=PHOTONS, electronic=ELECTRONIC, bowtie=BowTie())
    scan = simulate(body, geometry, dose=dose, seed=seed)
    return scan, grid, to_hu(body.rasterised(grid), scan.calibration.water)


def demonstrate(
    scan: Scan, grid: VolumeGrid, truth: "Tensor | None", *, title: str, progress: Progress | None = None
) -> Demonstration:
    """Reconstruct a scan plainly, by the low-dose method and carefully, and measure all."""
    quick = _quick(scan, grid)
    restored, chosen = _low_dose(scan, grid)
    careful, history, settings = _careful(scan, grid, quick[-1].image, progress)
    region = quiet_region(quick[-1].image, grid)
    results = (*quick, *restored, careful)
    measured = tuple(_measured(result, quick[0], quick[-1], truth, region) for result in results)
    return Demonstration(
        title=title, scan=scan, grid=grid, truth=truth, region=region, results=measured,
        settings=(*chosen, *settings), notes=_notes(truth), history=history,
    )  # fmt: skip


def user_grid(scan: Scan) -> VolumeGrid:
    """Choose a grid that fills the field of view and stays small enough for a demonstration."""
    whole = grid_of(scan.geometry)
    most = _WIDEST[1 if whole.shape[0] == 1 else 3]
    return whole if max(whole.shape) <= most else grid_of(scan.geometry, shape=min(most, whole.shape[1]))


def _quick(scan: Scan, grid: VolumeGrid) -> list[Result]:
    """Reconstruct by filtered backprojection with two windows, or by OS-SART where there is none."""
    method, _ = default_method(scan.geometry)
    water = scan.calibration.water
    if method not in ANALYTIC:
        return [_timed("OS-SART", "3 passes over all views", lambda: _passes(scan, grid), water)]
    windows = {"ram-lak": "full resolution, no smoothing", "hann": "smoothed by the filter's window"}
    assert isinstance(scan.geometry, ParallelBeam | ConeBeam)  # the only ones with an analytic method
    short = too_short(scan.geometry)
    make = functools.partial(ANALYTIC[method], scan, grid, limited_angle=short)
    return [
        _timed(f"{method.upper()} {window}", note, functools.partial(make, window=window), water)
        for window, note in windows.items()
    ]


def _passes(scan: Scan, grid: VolumeGrid) -> "Tensor":
    return _check("OS-SART", os_sart(scan, grid, iterations=3)).image


def _low_dose(scan: Scan, grid: VolumeGrid) -> tuple[list[Result], tuple[tuple[str, str], ...]]:
    """Smooth the projections as their noise asks before filtered backprojection, where both are possible."""
    method, _ = default_method(scan.geometry)
    noisy, level = noise_level(scan)
    if method not in ANALYTIC or noisy is None or scan.values.numel() > _RESTORED:
        return [], ()
    tune = "sure" if scan.values.numel() <= _JUDGED else "none"
    begun = time.perf_counter()
    done = low_dose(noisy, grid, method=SHORT if tune == "sure" else "spad", tune=tune, limited_angle=True)
    result = Result(
        name="PWLS-SPAD",
        note=f"smooths the projections as their noise asks, then {method.upper()}",
        image=to_hu(done.image, scan.calibration.water),
        seconds=time.perf_counter() - begun,
    )
    best = f"the best of {len(done.restored.scores)} by SURE" if done.restored.scores else "the defaults"
    settings = (
        ("low-dose method", "penalised weighted least squares on the projections, sub-pixel anisotropic diffusion"),
        ("its settings", f"{done.restored.restorer!r}, {best}"),
        ("its noise", level),
    )
    return [result], settings


def noise_level(scan: Scan) -> tuple[Scan | None, str]:
    """Return a scan that states its noise, and how it is known; None where nothing tells it."""
    if scan.weights is not None:
        return scan, "inverse variances that came with the scan"
    if scan.calibration.photons is not None:
        return scan, f"{scan.calibration.photons:.3g} photons per pixel, as the scan states"
    found = noise_photons(scan)
    if found is None or not 1 <= found <= _MOST_PHOTONS:
        return None, ""
    stated = scan.changed(calibration=replace(scan.calibration, photons=found))
    return stated, f"{found:.3g} photons per pixel, estimated from what neighbouring views differ by"


def too_short(geometry: ParallelBeam | ConeBeam) -> bool:
    """Tell, with a warning, whether the arc is too short for an exact image."""
    try:
        redundancy(geometry)
    except GeometryError as problem:
        warnings.warn(f"{problem}; reconstructed all the same", CTWarning, stacklevel=2)
        return True
    return False


def _careful(
    scan: Scan, grid: VolumeGrid, start: "Tensor", progress: Progress | None
) -> tuple[Result, tuple[float, ...], tuple[tuple[str, str], ...]]:
    """Reconstruct by penalised weighted least squares with Huber's edge-preserving prior."""
    from recon import to_mu

    used, skip = _affordable(scan, grid)
    data = LeastSquares(Projector.of(used, grid), used.values, used.weights)
    water = scan.calibration.water
    first = to_mu(start, water).clamp_min(0).to(used.values.dtype)
    corner = CORNER * dense(first) / grid.spacing[2]
    prior = balanced_huber(data, grid, balance=BALANCE, corner=corner)
    subsets = min(SUBSETS, len(used))
    history: list[float] = []

    def tell(done: int, limit: int, latest: Mapping[str, float]) -> None:
        history.append(latest["objective"])
        if progress is not None:
            progress("PWLS", done, limit)

    begun = time.perf_counter()
    solution = pwls(used, grid, prior=prior, iterations=ITERATIONS, subsets=subsets, start=first, progress=tell)
    _check("PWLS", solution)
    result = Result(
        name="PWLS-Huber",
        note="weighs every ray by its noise and keeps edges",
        image=to_hu(solution.image, water),
        seconds=time.perf_counter() - begun,
    )
    settings = (
        ("careful method", "penalised weighted least squares, Huber prior, non-negative"),
        (
            "solver",
            f"ordered subsets with momentum: {ITERATIONS} iterations of {subsets} subsets, from {start_name(scan)}"
            + (", on pixels half as wide" if usual(grid, scan.geometry) == 2 else ""),
        ),
        ("prior", f"strength {prior.strength:.3g} ({BALANCE:g} times the data's curvature), corner {corner:.2g} 1/mm²"),
        ("weights", _weights_name(scan)),
        ("views used by the careful method", f"every {skip} of {len(scan)}" if skip > 1 else f"all {len(scan)}"),
    )
    return result, tuple(history), settings


def start_name(scan: Scan) -> str:
    """Name the image that the careful method starts from."""
    method, _ = default_method(scan.geometry)
    return f"{method.upper()} hann" if method in ANALYTIC else "OS-SART"


def _affordable(scan: Scan, grid: VolumeGrid) -> tuple[Scan, int]:
    """Return the scan with weights and with so many views that the demonstration ends soon, and the step between."""
    work = scan.values.numel() * max(grid.shape) * usual(grid, scan.geometry) * 2 * ITERATIONS
    skip = max(1, min(len(scan) // 40, round(work / _BUDGET)))
    used = scan[::skip] if skip > 1 else scan
    return (used if used.weights is not None else replace(used, weights=_assumed_weights(used))), skip


def _assumed_weights(scan: Scan) -> "Tensor":
    """Return weights that fall with attenuation as photons do; noise in photons alone."""
    return (scan.calibration.photons or 1e5) * torch.exp(-scan.values.clamp_min(0))


def _weights_name(scan: Scan) -> str:
    if scan.weights is not None:
        return "inverse variances that came with the scan"
    return f"photons times exp(-line integral), with {scan.calibration.photons or 1e5:.3g} photons per pixel"


def _check(name: str, solution: Solution) -> Solution:
    """Return a solution that may be used; an interrupt that the iteration took goes on."""
    if solution.status is Status.STOPPED:
        raise KeyboardInterrupt
    if not solution.status.ok:
        raise NumericalError(f"{name}: {solution.advice}")
    return solution


def _timed(name: str, note: str, make: Callable[[], "Tensor"], water: float) -> Result:
    begun = time.perf_counter()
    image = to_hu(make(), water)
    return Result(name=name, note=note, image=image, seconds=time.perf_counter() - begun)


def _measured(result: Result, sharp: Result, smooth: Result, truth: "Tensor | None", region: Region) -> Result:
    """Add the numbers: errors where the truth is known, noise and steepness of edges always."""
    numbers = {} if truth is None else scores(result.image, truth)
    numbers["noise"] = noise(result.image, region)
    numbers["edges"] = 100 * steepness(result.image, smooth.image) / max(steepness(sharp.image, smooth.image), 1e-12)
    return replace(result, numbers=numbers)


def _notes(truth: "Tensor | None") -> tuple[str, ...]:
    if truth is None:
        return (
            "There is no truth to compare with: noise and edges say what changed, not which image is right.",
            "The careful method's strength was carried over from the simulated demonstration, not tuned on this scan.",
        )
    return (
        "The phantom is a geometric figure without texture, which suits a prior that favours flat regions: expect less "
        "from patients.",
        "The phantom's line integrals are exact and know no voxel grid; beam hardening and scatter are not simulated.",
        "Every image is compared with the phantom averaged over each voxel.",
    )
