"""A denoiser as a prior: what the projections leave open is filled by what a denoiser takes for an image."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from recon import Scan, VolumeGrid, checks, to_hu, to_mu
from recon.analytic.fbp import prepare
from recon.errors import ConfigError, NumericalError, Status
from recon.iterative import LeastSquares, NonNegative, OSMomentum, Solution
from recon.iterative.oversampling import averaged, finer, spread, usual
from recon.iterative.priors.base import cell
from recon.iterative.pwls import known_weights
from recon.iterative.solve import Progress
from recon.iterative.solvers.base import relative_change
from recon.iterative.solvers.os_momentum import OSMomentumState
from recon.iterative.strength import without_weights
from recon.iterative.terms import SmoothTerm, Terms
from recon.operators import Projector
from restoration.denoisers.denoiser import Denoiser
from restoration.denoisers.noise_level import noise_level

ITERATIONS = 10
_SUBSETS, _VIEWS = 12, 6  # subsets at most, and views in each at least
_LAST = 15.0  # HU: the noise that the denoiser assumes at the end
_TRUST = 2.0  # per mm² (mm³ in a volume): how much the denoised image counts, over the square of the assumed noise


@dataclass(frozen=True, eq=False)
class Anchor(SmoothTerm):
    """Stay near an image: ½ strength Σ (x - where)²."""

    where: Tensor
    strength: float

    def value(self, x: Tensor) -> Tensor:
        """Return the value as a float64 scalar."""
        return 0.5 * self.strength * (x - self.where).square().sum(dtype=torch.float64)

    def gradient(self, x: Tensor) -> Tensor:
        """Return strength · (x - where)."""
        return self.strength * (x - self.where)

    def curvature(self, x: Tensor, *, everywhere: bool = False) -> Tensor:
        """Return the strength at every voxel."""
        return torch.full_like(x, self.strength)


@dataclass(frozen=True, kw_only=True)
class _Problem:
    """What every iteration works on: the data, on a grid that may be finer, the denoiser and the unit of its images."""

    data: LeastSquares
    grid: VolumeGrid
    denoiser: Denoiser
    strength: float
    water: float
    subsets: int

    def level(self, image: Tensor) -> float:
        """Return the noise of an image in HU."""
        return max(noise_level(to_hu(image, self.water)), _LAST)

    def denoised(self, image: Tensor, noise: float) -> Tensor:
        """Return an image in 1/mm without noise of a level in HU."""
        quiet = self.denoiser(to_hu(image, self.water), noise=noise, strength=self.strength)
        return to_mu(quiet, self.water)

    def step(self, before: OSMomentumState, noise: float) -> OSMomentumState:
        """Denoise, then go towards the data with all subsets once, while the momentum runs on."""
        quiet = self.denoised(before.image, noise)
        trust = _TRUST * cell(self.grid.shape, self.grid.spacing) / (noise * self.water / 1000) ** 2
        terms: Terms = [self.data, Anchor(quiet, trust), NonNegative()]
        return OSMomentum(subsets=self.subsets).step(terms, _uncompared(before))


def plug_and_play(
    scan: Scan,
    grid: VolumeGrid,
    denoiser: Denoiser,
    *,
    iterations: int = ITERATIONS,
    strength: float = 1.0,
    start: Tensor | None = None,
    progress: Progress | None = None,
) -> Solution:
    """Reconstruct noisy or sparse data with a denoiser in place of a prior.

    Every iteration denoises the image, assuming less noise each time: from what the first image has down to 15 HU,
    evenly on a logarithmic scale. Then it goes once through ordered subsets of the data, weighted by their noise as
    in `pwls`, held near the denoised image by half-quadratic splitting. It need not converge: more iterations spend
    longer at every level of noise. Where `pwls` oversamples slices, so does this.

    RMSE inside the body, thoraxes of 256 × 256, somatom16, with "nlm": 14.5 HU of 1160 views of 5e4 photons, where FBP
    has 54.6, with a Hann window 26.6, and denoised 22.8 at best; 32 HU of 78 views of 2e5 photons, of 153, 114 and 68.
    They take 15 and 4 seconds of one core.

    Args:
        scan: the data; weights, photons, electronic noise, poses and the attenuation of water are honoured.
        grid: where to reconstruct.
        denoiser: of images in HU, such as `denoiser("nlm")`.
        iterations: passes over all views.
        strength: factor on the noise that the denoiser assumes; above 1 is smoother.
        start: first image in 1/mm on the grid, or None for FBP or FDK (Ram-Lak).
        progress: called after every iteration with its number, the limit, and the latest of the history.

    Returns:
        The image in 1/mm and how it ended; the history has "noise", what was assumed in HU, and "change", the relative
        change of the image. A solution cannot be resumed.

    Raises:
        ConfigError: a strength not above 0, or a denoiser that cannot run here.
        GeometryError: a geometry without FBP or FDK, and no start.
        ShapeError: a start that does not fit.

    Source:
        Venkatakrishnan, Bouman and Wohlberg 2013, GlobalSIP: 945-948; the falling noise: Zhang et al. 2021, IEEE
        TPAMI 44(10): 6360-6376, eqs. 6 and 9; the subsets: Kim, Ramani and Fessler 2015, IEEE TMI 34(1): 167-178.
    """
    checks.counts("iterations", (iterations,), 1)
    if reason := denoiser.missing():
        raise ConfigError(f"{denoiser.name}: {reason}")
    with torch.no_grad():
        factor = usual(grid, scan.geometry)
        problem = _problem(scan, finer(grid, factor), denoiser, checks.positive("strength", strength, unit=""))
        image = _first(scan, grid, factor, start)
        return _loop(problem, image, iterations, lambda fine: averaged(fine, factor), progress)


def _problem(scan: Scan, fine: VolumeGrid, denoiser: Denoiser, strength: float) -> _Problem:
    weights = known_weights(scan)
    if weights is None:
        weights = torch.full_like(scan.values, 1 / without_weights(scan.values))
    return _Problem(
        data=LeastSquares(Projector.of(scan, fine), scan.values, weights),
        grid=fine,
        denoiser=denoiser,
        strength=strength,
        water=scan.calibration.water,
        subsets=max(1, min(_SUBSETS, len(scan) // _VIEWS)),
    )


def _first(scan: Scan, grid: VolumeGrid, factor: int, start: Tensor | None) -> Tensor:
    """Return the image to start from, on the finer grid."""
    if start is None:
        fine = finer(grid, factor)
        return prepare(scan, fine, window="ram-lak").image(scan).clamp_min(0)
    checks.shaped("start", checks.all_finite("start", checks.floating("start", start)), grid.shape, "z, y, x")
    return spread(start.detach().to(scan.values).reshape(grid.shape), factor)


def _loop(
    problem: _Problem, image: Tensor, iterations: int, shown: Callable[[Tensor], Tensor], progress: Progress | None
) -> Solution:
    """Run the iterations and say how they ended."""
    first = problem.level(image)
    quiet = problem.denoised(image, first)  # the data would take long to wear down streaks
    history: dict[str, list[float]] = {"noise": [], "change": []}
    state, status, detail = OSMomentumState(image=quiet, point=quiet), Status.MAX_ITERATIONS, ""
    try:
        for number in range(iterations):
            noise = first * (_LAST / first) ** ((number + 1) / iterations)
            after = problem.step(state, noise)
            if not math.isfinite(float(after.image.sum())):
                raise NumericalError(f"the image stopped being finite at iteration {number + 1}")
            history["noise"].append(noise)
            history["change"].append(relative_change(after.image, state.image))
            state = after
            if progress is not None:
                progress(number + 1, iterations, {name: values[-1] for name, values in history.items()})
    except KeyboardInterrupt:
        status, detail = Status.STOPPED, "interrupted"
    except NumericalError as error:
        status, detail = Status.NOT_FINITE, str(error)
    return Solution(
        image=shown(state.image), status=status, history=history, state=state,
        solver=OSMomentum(subsets=problem.subsets), problem="", detail=detail,
    )  # fmt: skip


def _uncompared(state: OSMomentumState) -> OSMomentumState:
    """Return a state whose objective is that of no other: the denoised image, and so the objective, is a new one."""
    return OSMomentumState(
        image=state.image, iteration=state.iteration, point=state.point, counter=state.counter, length=state.length
    )
