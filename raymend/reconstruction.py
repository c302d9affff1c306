"""The reconstruction methods of the command line by name, and which one suits a geometry."""

import contextlib
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raymend.image_domain import image_domain
from recon import ConeBeam, ParallelBeam, Scan, ScanGeometry, VolumeGrid, fbp, fdk, memory
from recon.analytic.fbp import prepare
from recon.analytic.recipe import Recipe, slabs_of
from recon.errors import ConfigError, NumericalError
from recon.io.slabs import SUFFIXES, SlabWriter
from recon.iterative import Solution, cgls, os_sart, sirt
from recon.iterative.pwls import ITERATIONS as PASSES

if TYPE_CHECKING:
    from torch import Tensor

Progress = Callable[[int, int, Mapping[str, float]], None]
Callback = Callable[[Solution], None]

ANALYTIC: dict[str, Callable[..., "Tensor"]] = {"fbp": fbp, "fdk": fdk}
ALGEBRAIC: dict[str, Callable[..., Solution]] = {"cgls": cgls, "sirt": sirt, "os-sart": os_sart}
PENALISED = {  # priors of penalised weighted least squares on the image
    "pwls": "huber",
    "pwls-quadratic": "quadratic",
    "pwls-huber": "huber",
    "pwls-ggmrf": "ggmrf",
    "pwls-image-tv": "tv",
    "pwls-diffusion": "diffusion",
    "pwls-nonlocal": "nonlocal",
}
RESTORING = {  # of the projections, then fbp or fdk
    "pwls-gibbs": "gibbs",
    "pwls-tv": "tv",
    "pwls-spad": "spad",
    "pwls-auto": "auto",
}
ITERATIVE = (*ALGEBRAIC, *PENALISED)
METHODS = (*ANALYTIC, *ITERATIVE, *RESTORING)
ITERATIONS = {"cgls": 20, "sirt": 100, "os-sart": 10, **dict.fromkeys(PENALISED, PASSES)}
_VOLUMES, _SINOGRAMS = 10, 5  # that an iteration holds at most, its temporaries included
UNUSED = {
    "analytic": ("iterations", "state", "resume", "strength", "tune"),
    "algebraic": ("window", "cutoff", "padding", "limited_angle", "strength", "tune"),
    "penalised": ("window", "cutoff", "padding", "limited_angle"),
    "restoring": ("iterations", "state", "resume"),
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a method may be told.

    Args:
        method: one of `METHODS`.
        window: filter window of fbp and fdk, also after the projections were restored.
        cutoff: highest frequency kept by fbp and fdk, as a share of the Nyquist frequency.
        padding: how fbp and fdk continue projections that the detector cuts off: "zero" or "edge".
        limited_angle: let fbp and fdk work on an arc that is too short.
        iterations: number of iterations, or None for the method's own.
        strength: factor on the smoothing of a pwls method; above 1 is smoother.
        tune: how such a method chooses its settings: "sure", by the estimated error of the image, or "none": the
            defaults of a method that restores the projections, a strength from the noise of one that works on the
            image. None for "sure" of the former, "none" of the latter.
    """

    method: str
    window: str = "ram-lak"
    cutoff: float = 1.0
    padding: str = "zero"
    limited_angle: bool = False
    iterations: int | None = None
    strength: float = 1.0
    tune: str | None = None

    def __post_init__(self) -> None:
        if self.tune is None:
            object.__setattr__(self, "tune", "sure" if self.method in RESTORING else "none")

    @property
    def filter(self) -> dict[str, Any]:
        """What fbp and fdk are told."""
        return {name: getattr(self, name) for name in ("window", "cutoff", "padding", "limited_angle")}

    @property
    def limit(self) -> int:
        """The number of iterations, 0 for a method without."""
        return 0 if self.method not in ITERATIVE else self.iterations or ITERATIONS[self.method]


def unused(method: str, given: Iterable[str]) -> list[str]:
    """Return those of the options that a method does not read."""
    return [name for name in given if name in UNUSED[kind_of(method)]]


def kind_of(method: str) -> str:
    """Return "analytic", "algebraic", "penalised" or "restoring"."""
    kinds: dict[str, Iterable[str]] = {"analytic": ANALYTIC, "algebraic": ALGEBRAIC, "penalised": PENALISED}
    return next((kind for kind, names in kinds.items() if method in names), "restoring")


def default_method(geometry: ScanGeometry) -> tuple[str, str]:
    """Return the method that suits a geometry and, where that is not obvious, why.

    Returns:
        The name and a sentence of advice, empty for the usual cases.
    """
    if isinstance(geometry, ParallelBeam):
        return "fbp", ""
    if isinstance(geometry, ConeBeam) and not geometry.pitch:
        return ("fbp" if geometry.detector.shape[0] == 1 else "fdk"), ""
    kind = "helical scan" if isinstance(geometry, ConeBeam) else "free trajectory"
    return (
        "os-sart",
        f"a {kind} has no filtered backprojection here, so os-sart was chosen; --method cgls converges, too",
    )


def check_method(method: str, geometry: ScanGeometry) -> str:
    """Return the name of a known method that can treat the geometry, before anything is computed.

    Raises:
        ConfigError: an unknown name, or a filtered backprojection of a geometry that has none.
    """
    if method not in METHODS:
        raise ConfigError(f"--method: expected one of {', '.join(METHODS)}, got {method!r}")
    suits, _ = default_method(geometry)
    if method in RESTORING and suits not in ANALYTIC:
        raise ConfigError(
            f"--method {method}: this {type(geometry).__name__} scan has no filtered backprojection to follow; take "
            "pwls, which works on the image"
        )
    if (
        method in ANALYTIC
        and method != suits
        and not (method == "fdk" and isinstance(geometry, ConeBeam) and suits == "fbp")
    ):
        raise ConfigError(
            f"--method {method}: this {type(geometry).__name__} scan needs {suits}, or an iterative method"
        )
    return method


def run(
    scan: Scan,
    grid: VolumeGrid,
    settings: Settings,
    *,
    progress: Progress | None = None,
    callbacks: Iterable[Callback] = (),
    resume: Solution | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> tuple["Tensor", Solution | None]:
    """Reconstruct a scan, and note what settings a method chose.

    Returns:
        The image in 1/mm (z, y, x), and the solution of an iterative method.

    Raises:
        NumericalError: an iteration that diverged or whose values stopped being finite.
    """
    if settings.method in ANALYTIC:
        return ANALYTIC[settings.method](scan, grid, **settings.filter, progress=_plain(progress)), None
    if settings.method in RESTORING:
        return _restored(scan, grid, settings, progress, note), None
    common: dict[str, Any] = {
        "iterations": settings.limit, "progress": progress, "callbacks": callbacks, "resume": resume
    }  # fmt: skip
    if settings.method in ALGEBRAIC:
        solution = ALGEBRAIC[settings.method](scan, grid, **common)
    else:
        solution = image_domain(
            scan, grid, prior=PENALISED[settings.method], strength=settings.strength,
            tune="sure" if settings.tune == "sure" else "noise", **common,
        )  # fmt: skip
    if not solution.status.ok:
        raise NumericalError(f"{settings.method}: {solution.advice}")
    return solution.image, solution


def on_one_device(scan: Scan, grid: VolumeGrid, settings: Settings, device: str) -> bool:
    """Tell whether a GPU has room for an iterative reconstruction as a whole; fbp and fdk need no more than blocks."""
    import torch

    from recon.devices import free_memory

    if settings.method not in ITERATIVE:
        return False
    needed = scan.dtype.itemsize * (_VOLUMES * math.prod(grid.shape) + _SINOGRAMS * math.prod(scan.geometry.shape))
    return needed < free_memory(torch.device(device))


def in_slabs(scan: Scan, grid: VolumeGrid, settings: Settings, output: Path) -> Recipe | None:
    """Return the recipe of a volume to be written slab by slab, or None where it is made in one piece."""
    if settings.method not in ANALYTIC or not output.name.lower().endswith(SUFFIXES):
        return None
    if len(slabs_of(grid)) < 2:
        return None
    return prepare(scan, grid, **settings.filter)


def run_in_slabs(
    scan: Scan, recipe: Recipe, out: SlabWriter, convert: Callable[["Tensor"], "Tensor"], progress: Progress
) -> None:
    """Reconstruct and write the slabs that are not finished yet."""
    for slices, slab in recipe.in_turn(scan, recipe.slabs(), out.finished, progress=_plain(progress)):
        out.write(slices.start, convert(slab.cpu()))


def job_of(scan: Scan, settings: Settings, water: float | None) -> dict[str, str]:
    """Name what the values of a volume are made from, to tell slabs of one run from those of another."""
    about = "\n".join(
        (*scan.provenance, repr(scan.geometry), repr(None if scan.poses is None else scan.poses.tolist()))
    )
    filtered = {name: str(value) for name, value in settings.filter.items()}
    return {
        "scan": hashlib.sha256(about.encode()).hexdigest()[:16],
        "method": settings.method,
        **filtered,
        "water": str(water),
        "block": str(memory.current().work),
    }


def adopt_blocks(journal: Path) -> None:
    """Work in the blocks of the run that left a journal, so that its volume goes on to the same bits."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        block = int(json.loads(journal.read_text())["job"]["block"])
        if block > 0:
            memory.current().block = block


def _restored(
    scan: Scan, grid: VolumeGrid, settings: Settings, progress: Progress | None, note: Callable[[str], None]
) -> "Tensor":
    """Restore the projections, note how, and reconstruct them."""
    from raymend.low_dose import low_dose

    result = low_dose(
        scan, grid, method=RESTORING[settings.method], strength=settings.strength, tune=str(settings.tune),
        progress=_plain(progress), **settings.filter,
    )  # fmt: skip
    note(f"projections {result.restored.scan.provenance[-1]}")
    return result.image


def _plain(progress: Progress | None) -> Callable[[int, int], None] | None:
    return None if progress is None else lambda done, limit: progress(done, limit, {})
