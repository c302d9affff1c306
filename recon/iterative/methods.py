"""From a scan to an image by iteration, one function per method: scan first, grid second, settings by keyword."""

import math
from collections.abc import Iterable
from typing import Any, TypedDict, Unpack

from torch import Tensor

from recon import memory
from recon.grid import VolumeGrid
from recon.iterative.priors import TotalVariation
from recon.iterative.solve import Callback, Progress, Solution, solve
from recon.iterative.solvers import CGLS, FISTA, OSSART, SIRT
from recon.iterative.terms import Box, LeastSquares, NonNegative, ray_weights
from recon.operators import Projector
from recon.scan import Scan

_TV_VOLUMES = 20  # that its proximal map holds: duals and gradients are three each; 19 measured


class Run(TypedDict, total=False):
    """What every method passes on to `solve`, which explains it."""

    start: Tensor | None
    tolerance: float | None
    callbacks: Iterable[Callback]
    progress: Progress | None
    resume: Solution | None


def cgls(scan: Scan, grid: VolumeGrid, *, iterations: int = 20, **run: Unpack[Run]) -> Solution:
    """Reconstruct by conjugate gradients: weighted least squares if the scan has weights, no constraints.

    Noise grows with the iterations, so that their number is the regularisation.

    Args:
        scan: the data; weights and poses are honoured.
        grid: where to reconstruct.
        iterations: when to stop; 10 to 30 is usual.
        run: start, tolerance, callbacks, progress, resume, as for `solve`.

    Source:
        Björck 1996, Numerical Methods for Least Squares Problems, section 7.4.
    """
    data = LeastSquares(Projector.of(scan, grid), scan.values, scan.weights)
    return solve(CGLS(), [data], iterations=iterations, **run)


def sirt(
    scan: Scan,
    grid: VolumeGrid,
    *,
    iterations: int = 100,
    relaxation: float = 1.0,
    nonnegative: bool = False,
    **run: Unpack[Run],
) -> Solution:
    """Reconstruct by SIRT: slow, steady and forgiving.

    Args:
        scan: the data; poses are honoured. Weights, if any, replace the classic ones (one over the length of a ray).
        grid: where to reconstruct.
        iterations: when to stop.
        relaxation: length of the step, above 0 and below 2.
        nonnegative: keep the attenuation at 0 or above.
        run: start, tolerance, callbacks, progress, resume, as for `solve`.

    Source:
        Gregor and Benson 2008, IEEE Transactions on Medical Imaging 27(7): 918-924.
    """
    return solve(SIRT(relaxation=relaxation), _algebraic(scan, grid, nonnegative), iterations=iterations, **run)


def os_sart(
    scan: Scan,
    grid: VolumeGrid,
    *,
    iterations: int = 10,
    subsets: int | None = None,
    relaxation: float = 1.0,
    decay: float = 1.0,
    nonnegative: bool = False,
    **run: Unpack[Run],
) -> Solution:
    """Reconstruct by SART over ordered subsets of views: about as many times faster than SIRT as there are subsets.

    Args:
        scan: the data; poses are honoured. Weights, if any, replace the classic ones (one over the length of a ray).
        grid: where to reconstruct.
        iterations: passes over all views.
        subsets: number of interleaved subsets; None for about ten views in each, at most 24 subsets.
        relaxation: length of the step, above 0 and below 2.
        decay: factor on the relaxation after every pass; below 1 it calms noisy data.
        nonnegative: keep the attenuation at 0 or above.
        run: start, tolerance, callbacks, progress, resume, as for `solve`.

    Source:
        Wang and Jiang 2004, Journal of X-Ray Science and Technology 12(3): 169-177.
    """
    count = default_subsets(len(scan)) if subsets is None else subsets
    solver = OSSART(subsets=count, relaxation=relaxation, decay=decay)
    return solve(solver, _algebraic(scan, grid, nonnegative), iterations=iterations, **run)


def fista_tv(
    scan: Scan,
    grid: VolumeGrid,
    *,
    strength: float,
    iterations: int = 50,
    nonnegative: bool = True,
    **run: Unpack[Run],
) -> Solution:
    """Reconstruct with little total variation: for few views of objects with sharp edges.

    Args:
        scan: the data; weights and poses are honoured.
        grid: where to reconstruct.
        strength: how much the total variation counts against the (weighted) misfit.
        iterations: when to stop.
        nonnegative: keep the attenuation at 0 or above.
        run: start, tolerance, callbacks, progress, resume, as for `solve`.

    Source:
        Beck and Teboulle 2009, IEEE Transactions on Image Processing 18(11): 2419-2434.
    """
    whole = _TV_VOLUMES * math.prod(grid.shape) * scan.dtype.itemsize
    memory.reserve(whole, f"total variation, which works on {_TV_VOLUMES} whole volumes at once")
    data = LeastSquares(Projector.of(scan, grid), scan.values, scan.weights)
    prior = TotalVariation(strength=strength, box=NonNegative() if nonnegative else Box()).on(grid)
    return solve(FISTA(), [data, prior], iterations=iterations, **run)


def default_subsets(views: int) -> int:
    """Return a number of subsets with about ten views in each, at most 24."""
    return max(1, min(24, views // 10))


def _algebraic(scan: Scan, grid: VolumeGrid, nonnegative: bool) -> list[Any]:
    projector = Projector.of(scan, grid)
    weights = ray_weights(projector, scan.values) if scan.weights is None else scan.weights
    return [LeastSquares(projector, scan.values, weights), NonNegative() if nonnegative else Box()]
