"""Penalised weighted least squares: every ray counts by its noise, and a prior says what images look like."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypedDict, Unpack

from torch import Tensor

from recon import checks, memory
from recon.errors import ConfigError
from recon.grid import VolumeGrid
from recon.iterative.fingerprint import fingerprint
from recon.iterative.oversampling import averaged, finer, spread, usual
from recon.iterative.priors import Huber, NonLocal, Prior, TotalVariation
from recon.iterative.solve import Callback, Progress, Solution, solve
from recon.iterative.solvers import OSMomentum, PrimalDual, Solver
from recon.iterative.strength import PRIORS, prior_from_noise
from recon.iterative.terms import Box, LeastSquares, NonNegative, Terms
from recon.operators import Projector
from recon.risk import Estimator, Risk
from recon.scan import Scan
from recon.statistics import weights_of

TUNINGS = ("noise", "sure")
FACTORS = (1.0, 0.3, 0.55, 1.8, 3.3)  # on the strength that follows from the noise, among which "sure" chooses
ITERATIONS = 20  # with 12 subsets 0.9 HU from the converged image of 1160 views, on 512 x 512 voxels at 2e4 photons
_VIEWS, _SUBSETS = 20, 12  # views in a subset at least, and subsets at most
_CORNER = 3e-5  # 1/mm²: slopes above some 1.6 HU per mm count as edges
_SMOOTHED = 12  # times the values of a view that forming its weights takes, in double precision
_MEDIANS = 4  # volumes that the medians behind a balanced strength take
_BALANCE = 1.0  # least RMSE on simulated low-dose and sparse thoraxes of another seed than the README shows

Start = Tensor | Callable[[Tensor], Tensor]


class Run(TypedDict, total=False):
    """What is passed on to `solve`, which explains it."""

    tolerance: float | None
    callbacks: Iterable[Callback]
    progress: Progress | None
    resume: Solution | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Problem:
    """A scan to be reconstructed by penalised weighted least squares, but for the factor on the strength.

    Args:
        scan: the data; its weights, or those that follow from its photons, or ones.
        grid: where to reconstruct.
        prior: a prior of any strength, or the name of one whose strength follows from the noise.
        nonnegative: keep the attenuation at 0 or above.
        start: the first image, or how to make one from projections (view, row, column); None for zeros.
        oversampling: voxels of the reconstruction along y and x in one of the grid.
    """

    scan: Scan
    grid: VolumeGrid
    prior: str | Prior | TotalVariation
    nonnegative: bool
    start: Start | None
    oversampling: int = 1

    def __post_init__(self) -> None:
        checks.counts("oversampling", (self.oversampling,), 1)
        if isinstance(self.prior, str):
            checks.choice("prior", self.prior, tuple(PRIORS))
        elif not isinstance(self.prior, Prior | TotalVariation):
            raise ConfigError(f"prior: expected a prior or one of {', '.join(PRIORS)}, got {self.prior!r}")

    def first(self, values: Tensor) -> Tensor | None:
        """Return the image to start from."""
        made = self.start(values) if callable(self.start) and not isinstance(self.start, Tensor) else self.start
        if made is None or self.oversampling == 1:
            return made
        checks.shaped("start", checks.all_finite("start", checks.floating("start", made)), self.grid.shape, "z, y, x")
        return spread(made, self.oversampling)

    @cached_property
    def fine(self) -> VolumeGrid:
        """The grid that is worked on."""
        return finer(self.grid, self.oversampling)

    def data(self, weights: Tensor | None, values: Tensor) -> LeastSquares:
        """Return the weighted misfit."""
        return LeastSquares(Projector.of(self.scan, self.fine), values, weights)

    def terms(self, data: LeastSquares, start: Tensor | None, factor: float) -> Terms:
        """Return what is minimised."""
        box = NonNegative() if self.nonnegative else Box()
        if isinstance(self.prior, TotalVariation):
            return [data, self.prior.stronger(factor, box).on(self.fine)]
        if isinstance(self.prior, Prior):
            return [data, self._refined(self.prior).stronger(factor).on(self.fine), box]
        guide = start if self.prior == "nonlocal" else None
        return [data, prior_from_noise(self.prior, data, self.fine, guide=guide).stronger(factor), box]

    def _refined(self, prior: Prior) -> Prior:
        """Return a prior whose guide, if it has one on the grid, fits the grid that is worked on."""
        if isinstance(prior, NonLocal) and prior.guide.shape == self.grid.shape:
            return replace(prior, guide=spread(prior.guide, self.oversampling))
        return prior

    def solver(self, subsets: int | None) -> Solver[Any]:
        """Return what minimises it: subsets with momentum, or the primal-dual way for exact total variation."""
        if isinstance(self.prior, TotalVariation):
            return PrimalDual()
        count = max(1, min(_SUBSETS, len(self.scan) // _VIEWS)) if subsets is None else min(subsets, len(self.scan))
        return OSMomentum(subsets=count)


def pwls(
    scan: Scan,
    grid: VolumeGrid,
    *,
    prior: str | Prior | TotalVariation | None = None,
    strength: float = 1.0,
    tune: str = "noise",
    reconstruct: Estimator | None = None,
    mask: Tensor | None = None,
    seed: int = 0,
    iterations: int = ITERATIONS,
    subsets: int | None = None,
    nonnegative: bool = True,
    start: Start | None = None,
    oversampling: int | None = None,
    told: Callable[[int, int], None] | None = None,
    **run: Unpack[Run],
) -> Solution:
    """Reconstruct low-dose data by penalised weighted least squares.

    Minimises ½ Σ w (Aμ - p)² + R(μ), with R the prior and w the scan's weights, inverse variances. A scan without
    weights gets those that follow from its photons; one that states no photons, either, ones.

    Args:
        scan: the data; weights, photons, electronic noise and poses are honoured.
        grid: where to reconstruct.
        prior: "quadratic", "huber" (None means it), "ggmrf", "tv", "diffusion" or "nonlocal", whose strength and
            corner follow from the noise; or a prior of your own strength. `TotalVariation` is minimised exactly, by
            `PrimalDual`, and takes some hundreds of iterations.
        strength: factor on the strength; above 1 is smoother.
        tune: "noise" for the strength that follows from the noise, times `strength`; "sure" for the best of a handful
            of factors by the estimated error of the image, for two reconstructions each.
        reconstruct: for "sure", a linear reconstruction of values (view, row, column) on the grid, such as FBP.
        mask: for "sure", True for the voxels that count; None for all.
        seed: what the probing noise of "sure" is drawn from.
        iterations: passes over all views; from an FBP start 10 to 20 look done, and 80 come within 1 HU of the minimum
            on a head with a sharp skull.
        subsets: number of interleaved subsets of views, at most the number of views; None for 20 views or more in
            each, at most 12 subsets: more are faster at first, and end farther from the minimum. `TotalVariation`
            takes none.
        nonnegative: keep the attenuation at 0 or above.
        start: first image, such as FBP with a Hann window, or how to make one from values (view, row, column), which
            "sure" is more exact with; None for zeros. "nonlocal" compares patches in it.
        oversampling: how many times finer than the grid, along y and x, to reconstruct before averaging over each
            voxel; 1 leaves ripples at sharp edges where voxels are not finer than half the detector's pitch at the
            axis. None for 2 in such slices and 1 in volumes, where it takes four times the memory.
        told: called with the number of factors that are judged and of all, before each.
        run: tolerance, callbacks, progress, resume, as for `solve`.

    Raises:
        ConfigError: an unknown prior or tuning, a strength not above 0, or "sure" without a reconstruction or noise.

    Source:
        Thibault et al. 2007, Medical Physics 34(11): 4526-4544; Kim, Ramani and Fessler 2015, IEEE TMI 34(1): 167-178;
        choice by the estimated error: Ramani, Blu and Unser 2008, IEEE TIP 17(9): 1540-1554.
    """
    own = checks.positive("strength", strength, unit="")
    checks.choice("tune", tune, TUNINGS)
    problem = Problem(
        scan=scan, grid=grid, prior="huber" if prior is None else prior, nonnegative=nonnegative, start=start,
        oversampling=usual(grid, scan.geometry) if oversampling is None else oversampling,
    )  # fmt: skip
    memory.reserve(
        _MEDIANS * math.prod(problem.fine.shape) * scan.dtype.itemsize, f"medians of {_MEDIANS} whole volumes"
    )
    solver, weights = problem.solver(subsets), known_weights(scan)
    resume = run.get("resume")
    first = problem.first(scan.values) if resume is None or problem.prior == "nonlocal" else None
    data = problem.data(weights, scan.values)

    def terms(factor: float) -> Terms:
        return problem.terms(data, first, own * factor)

    factor = 1.0
    if tune == "sure":
        earlier = None if resume is None else _factor_of(resume, terms)
        factor = earlier or _tuned(problem, weights, own, solver, iterations, reconstruct, mask, seed, told)

    def on_grid(solution: Solution) -> Solution:
        return replace(solution, image=averaged(solution.state.image, problem.oversampling))

    callbacks = [lambda solution, call=call: call(on_grid(solution)) for call in run.get("callbacks", ())]
    asked: Any = {**run, "callbacks": callbacks, "start": None if resume else first}
    found = on_grid(solve(solver, terms(factor), iterations=iterations, **asked))
    if tune == "noise" or found.detail:
        return found
    return replace(found, detail=f"{factor:g} times the strength, the best of {len(FACTORS)} by SURE")


def known_weights(scan: Scan) -> Tensor | None:
    """Return the weights of a scan, those that follow from its photons, or None where it states neither."""
    if scan.weights is not None:
        return weights_of(scan)
    if scan.calibration.photons is None:
        return None
    values = scan.values
    weights = memory.like(values)
    for views in memory.even_parts(len(values), _SMOOTHED * values[0].nbytes, device=values.device):
        weights[views] = weights_of(scan.changed(geometry=scan.geometry[views], values=values[views], poses=None))
        memory.release_after(weights)
    return weights


def _factor_of(resume: Solution, terms: Callable[[float], Terms]) -> float | None:
    """Return the factor that an earlier run was made with, so that going on needs no choice."""
    return next((factor for factor in FACTORS if fingerprint(terms(factor)) == resume.problem), None)


def _tuned(
    problem: Problem, weights: Tensor | None, own: float, solver: Solver[Any], iterations: int,
    reconstruct: Estimator | None, mask: Tensor | None, seed: int, told: Callable[[int, int], None] | None,
) -> float:  # fmt: skip
    """Return the factor with the least estimated error."""
    if reconstruct is None:
        raise ConfigError("reconstruct: expected a linear reconstruction for tune='sure', got None; or tune='noise'")
    if weights is None:
        raise ConfigError("weights: expected weights or photons for tune='sure', got a scan with neither; tune='noise'")
    risk = Risk.of(problem.scan.values, 1 / weights, reconstruct, mask=mask, seed=seed)
    scores = {}
    for number, factor in enumerate(FACTORS):
        if told is not None:
            told(number, len(FACTORS))
        scores[factor] = risk(estimator(problem, weights, own * factor, solver, iterations))
    return min(scores, key=lambda factor: scores[factor])


def estimator(problem: Problem, weights: Tensor, factor: float, solver: Solver[Any], iterations: int) -> Estimator:
    """Return the way from projections to an image by a strength."""

    def estimate(values: Tensor) -> Tensor:
        data, start = problem.data(weights, values), problem.first(values)
        found = solve(solver, problem.terms(data, start, factor), iterations=iterations, start=start)
        return averaged(found.image, problem.oversampling)

    return estimate


def balanced_huber(
    data: LeastSquares, grid: VolumeGrid, *, balance: float = _BALANCE, corner: float = _CORNER
) -> Huber:
    """Choose the strength at which the prior's curvature is a multiple of the data's at the median voxel.

    The multiple keeps its meaning when dose, views, voxels or units of the weights change; the strength does not.

    Args:
        data: the weighted misfit.
        grid: where the image lives.
        balance: the multiple; 0.5 is sharper and noisier, 6 clearly smooth.
        corner: slope in 1/mm² above which a difference counts as an edge.
    """
    image = data.zeros()
    one = Huber(strength=1.0, corner=corner).on(grid)
    ratio = float(data.curvature(image).median() / one.curvature(image).median())
    return Huber(strength=checks.positive("balance", balance, unit="") * ratio, corner=corner).on(grid)
