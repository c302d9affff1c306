"""Restore the projections of a scan, by a method that chooses its own settings."""

import math
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from recon import checks
from recon.errors import ConfigError, CTWarning
from recon.scan import Scan
from recon.sinogram.crosstalk import checked_crosstalk, estimated_crosstalk
from recon.sinogram.planes import periodic, planes, projections
from recon.sinogram.refined import Refinement
from recon.sinogram.restorers import SPAD, TV, Gibbs, PeronaMalik, Restorer
from recon.sinogram.sure import Reconstruction, Risk
from recon.sinogram.variance import mean_photons, variance

TUNINGS = ("sure", "none")
_FEWEST = 10.0  # photons behind the darkest ray below which the noise is no longer what SURE takes it for
_STEP = 3.0  # between strengths
_FURTHER = 4  # strengths tried at most beyond the candidates'
_VIEWS = 2.0  # standard deviation of the Gaussian that looks for the darkest ray over views

DEFAULTS: dict[str, Restorer] = {
    "gibbs": Gibbs(),
    "tv": TV(),
    "perona-malik": PeronaMalik(),
    "spad": SPAD(),
}

CANDIDATES: dict[str, tuple[Restorer, ...]] = {
    "gibbs": (
        *(Gibbs(strength=s) for s in (30.0, 100.0, 170.0, 300.0, 550.0, 1000.0, 1700.0, 3000.0, 5500.0, 10000.0)),
        *(Gibbs(across_views=0.25, strength=strength) for strength in (300.0, 1000.0)),
    ),
    "tv": (
        *(TV(corner=0.01, strength=strength) for strength in (20.0, 35.0, 60.0)),
        *(TV(corner=0.02, strength=strength) for strength in (20.0, 35.0, 60.0, 100.0)),
        *(TV(corner=0.05, strength=strength) for strength in (20.0, 35.0, 60.0, 100.0, 170.0)),
    ),
    "perona-malik": (
        *(PeronaMalik(iterations=3, strength=strength) for strength in (2000.0, 6000.0, 20000.0)),
        *(PeronaMalik(iterations=6, strength=strength) for strength in (2000.0, 6000.0, 20000.0)),
        *(PeronaMalik(strength=strength) for strength in (300.0, 1000.0, 3000.0)),
        *(PeronaMalik(kappa=1.5, strength=strength) for strength in (300.0, 1000.0, 3000.0)),
    ),
    "spad": (  # few iterations keep detail, many with second differences make what is smooth smoother
        SPAD(iterations=2, kappa=5.0, strength=20000.0),
        SPAD(iterations=3, strength=20000.0),
        *(SPAD(iterations=4, strength=strength) for strength in (6000.0, 20000.0)),
        SPAD(iterations=6, kappa=2.0, strength=20000.0),
        SPAD(iterations=8, strength=2000.0),
        *(SPAD(iterations=15, strength=strength) for strength in (6000.0, 20000.0)),
        *(SPAD(mode="second", kappa=1.0, iterations=15, strength=strength) for strength in (6000.0, 20000.0)),
        *(SPAD(mode="second", kappa=1.0, iterations=30, strength=strength) for strength in (2000.0, 6000.0)),
    ),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class Restored:
    """A restored scan and how it came about.

    Args:
        scan: the scan with restored values; the weights, which described the measured ones, are gone.
        restorer: what restored it.
        scores: estimated mean squared error of the image for each candidate, the best first; empty without tuning.
        crosstalk: share of its photons that a pixel loses to each neighbour, which the noise was taken to have.
    """

    scan: Scan
    restorer: Restorer
    scores: tuple[tuple[Restorer, float], ...] = ()
    crosstalk: float = 0.0


def restore(
    scan: Scan,
    method: str | Restorer | Iterable[Restorer] = "spad",
    *,
    strength: float = 1.0,
    tune: str = "sure",
    reconstruct: Reconstruction | None = None,
    mask: Tensor | None = None,
    passes: int = 1,
    conjugate: bool = False,
    crosstalk: float | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Restored:
    """Smooth the noisy projections of a scan before they are reconstructed.

    By default the settings are chosen, among the candidates of the method, as those with the least error in the
    image, which Stein's unbiased risk estimate tells without knowing the object. Rows of a detector are smoothed one
    by one, over columns and views.

    Args:
        scan: noisy line integrals, with weights (inverse variance) or with photons in the calibration.
        method: "gibbs", "tv", "perona-malik", "spad", "auto" for all four, a restorer, or candidates.
        strength: factor on the strength that was chosen; above 1 is smoother, 1 leaves it alone.
        tune: "sure" to choose among the candidates, "none" for the method's defaults.
        reconstruct: for "sure", a linear reconstruction of values (view, row, column), such as filtered
            backprojection on the grid of interest or a few slices of it.
        mask: for "sure", True for the voxels that count; None for all.
        passes: how often to restore, each time with the variances that the last result tells; 1 takes them from the
            noisy values alone.
        conjugate: join each ray with its reverse first, on a full turn of parallel rays or of a fan of one row.
        crosstalk: for "sure", share of its photons that a pixel loses to each neighbour, which correlates the noise;
            None to estimate it from the scan, 0 for independent noise.
        seed: what the probing noise of "sure" is drawn from.
        progress: called with the number of candidates that are judged and of all, before each.

    Returns:
        The restored scan, the restorer and the scores of the candidates.

    Raises:
        ConfigError: a scan without a noise level, an unknown method, a strength not above 0, a share out of range, or
            no reconstruction.
        GeometryError: reverse rays of a geometry that has none.

    Source:
        Penalised weighted least squares: Wang, Li, Lu and Liang 2006, IEEE TMI 25(10): 1272-1283. Choice: Ramani, Blu
        and Unser 2008, IEEE TIP 17(9): 1540-1554.
    """
    factor = checks.positive("strength", strength, unit="")
    choices, spread, closed = candidates(method, tune), variance(scan), periodic(scan.geometry)
    refinement = Refinement.of(scan, passes=passes, conjugate=conjugate)
    scores: tuple[tuple[Restorer, float], ...] = ()
    restorer = choices[0]
    share = 0.0 if crosstalk is None else checked_crosstalk(crosstalk)
    if tune == "sure":
        if reconstruct is None:
            raise ConfigError("reconstruct: expected a linear reconstruction for tune='sure', got None; or tune='none'")
        share = estimated_crosstalk(scan) if crosstalk is None else share
        least = darkest(scan)
        _warn_few(least)
        risk: Callable[[Any], float] = Risk.of(
            scan.values, spread, reconstruct, periodic=closed, mask=mask, crosstalk=share, seed=seed
        )
        further = _FURTHER if least >= _FEWEST else 0
        scores = ranked(lambda one: risk(refinement.around(one)), choices, further=further, progress=progress)
        restorer = scores[0][0]
    restorer = replace(restorer, strength=restorer.strength * factor)
    values = projections(refinement(restorer, planes(scan.values), planes(spread), periodic=closed))
    told = f"restored by {restorer!r}" + (f", the best of {len(scores)} by SURE" if scores else "")
    told += f", noise with a cross-talk of {share:.3f}" * (bool(scores) and share > 0)
    told += f", in {passes} passes" * (passes > 1) + ", rays joined with their reverse" * conjugate
    done = scan.with_values(values, told).changed(weights=None)
    return Restored(scan=done, restorer=restorer, scores=scores, crosstalk=share)


def candidates(method: str | Restorer | Iterable[Restorer], tune: str = "sure") -> tuple[Restorer, ...]:
    """Return the restorers that a method chooses among: all its candidates, or its default alone."""
    checks.choice("tune", tune, TUNINGS)
    if isinstance(method, Restorer):
        return (method,)
    if not isinstance(method, str):
        return _several(method, tune)
    checks.choice("method", method, (*DEFAULTS, "auto"))
    if tune == "none":
        return (DEFAULTS["spad" if method == "auto" else method],)
    return CANDIDATES[method] if method != "auto" else tuple(one for family in CANDIDATES.values() for one in family)


def ranked(
    risk: Callable[[Restorer], float],
    choices: Iterable[Restorer],
    *,
    further: int = _FURTHER,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[tuple[Restorer, float], ...]:
    """Judge candidates, and weaker or stronger ones while the best is the last of its kind; the best comes first.

    Args:
        risk: the estimated error of what a restorer gives.
        choices: the candidates.
        further: how often to go beyond them at the most.
        progress: called with the number of candidates that are judged and of all, before each.
    """
    waiting, scores = list(choices), dict[Restorer, float]()
    single = len(waiting) == 1
    while waiting:
        if progress is not None:
            progress(len(scores), len(scores) + len(waiting))
        restorer = waiting.pop(0)
        scores[restorer] = risk(restorer)
        if not waiting and further and not single:
            waiting, further = _beyond(scores), further - 1
    return tuple(sorted(scores.items(), key=lambda item: item[1]))


def darkest(scan: Scan) -> float:
    """Estimate the mean photons behind the darkest ray that was measured.

    The least of many noisy estimates is too low: 5 where the truth is 10. They are smoothed over views first, which
    leaves 9; where only a few rays are so dark, it is their mean with those around, up to twice the least.

    Raises:
        ConfigError: neither weights nor photons.
    """
    mode = "wrap" if periodic(scan.geometry) else "nearest"
    photons = torch.from_numpy(gaussian_filter1d(mean_photons(scan).cpu().numpy(), _VIEWS, axis=0, mode=mode))
    return float(photons.min() if scan.weights is None else photons[scan.weights.cpu() > 0].min())


def _beyond(scores: dict[Restorer, float]) -> list[Restorer]:
    """Return what lies beyond the best, if that has the least or the largest strength of its kind."""
    best = min(scores, key=lambda restorer: scores[restorer])
    kind = [other.strength for other in scores if replace(other, strength=best.strength) == best]
    steps = [_STEP if best.strength == max(kind) else 0, 1 / _STEP if best.strength == min(kind) else 0]
    return [replace(best, strength=best.strength * step) for step in steps if step]


def _several(method: Iterable[Restorer], tune: str) -> tuple[Restorer, ...]:
    choices = tuple(method)
    if not choices or not all(isinstance(one, Restorer) for one in choices):
        raise ConfigError(f"method: expected a name or restorers, got {choices!r}")
    if tune == "none" and len(choices) > 1:
        raise ConfigError(f"method: expected one restorer with tune='none', got {len(choices)}; or take tune='sure'")
    return choices


def _warn_few(least: float) -> None:
    """Say when rays are so dark that the estimate of the error is not to be trusted."""
    if math.isfinite(least) and least < _FEWEST:
        warnings.warn(
            f"scan: about {least:.1f} photons behind the darkest ray, expected at least {_FEWEST:g}: the choice of "
            "settings by SURE may be off; compare with tune='none' and another strength",
            CTWarning,
            stacklevel=3,
        )
