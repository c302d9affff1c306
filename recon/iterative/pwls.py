"""Penalised weighted least squares: every ray counts by its noise, and a prior says what images look like."""

import math
from typing import Unpack

from recon import checks, memory
from recon.grid import VolumeGrid
from recon.iterative.methods import Run
from recon.iterative.priors import Huber, NeighbourPrior
from recon.iterative.solve import Solution, solve
from recon.iterative.solvers import OSMomentum
from recon.iterative.terms import Box, LeastSquares, NonNegative, Terms
from recon.operators import Projector
from recon.scan import Scan

_CORNER = 3e-5  # 1/mm²: slopes above some 1.6 HU per mm count as edges
_MEDIANS = 4  # volumes that the medians behind a balanced strength take
_BALANCE = 1.0  # least RMSE on simulated low-dose and sparse thoraxes of another seed than the README shows


def pwls(
    scan: Scan,
    grid: VolumeGrid,
    *,
    prior: NeighbourPrior | None = None,
    iterations: int = 15,
    subsets: int = 8,
    nonnegative: bool = True,
    **run: Unpack[Run],
) -> Solution:
    """Reconstruct low-dose data by penalised weighted least squares.

    Minimises ½ Σ w (Aμ - p)² + R(μ), with w the scan's weights (inverse variances; 1 if it has none) and R the prior.

    Args:
        scan: the data; weights and poses are honoured.
        grid: where to reconstruct.
        prior: `Huber` or `Quadratic` with a strength of your choice; None for `balanced_huber`.
        iterations: passes over all views; 10 to 20 from an FBP start.
        subsets: number of interleaved subsets of views, at most the number of views.
        nonnegative: keep the attenuation at 0 or above.
        run: start, tolerance, callbacks, progress, resume, as for `solve`.

    Source:
        Thibault et al. 2007, Medical Physics 34(11): 4526-4544; Kim, Ramani and Fessler 2015, IEEE TMI 34(1): 167-178.
    """
    memory.reserve(_MEDIANS * math.prod(grid.shape) * scan.dtype.itemsize, f"medians of {_MEDIANS} whole volumes")
    data = LeastSquares(Projector.of(scan, grid), scan.values, scan.weights)
    penalty = balanced_huber(data, grid) if prior is None else prior.on(grid)
    terms: Terms = [data, penalty, NonNegative() if nonnegative else Box()]
    return solve(OSMomentum(subsets=min(subsets, len(scan))), terms, iterations=iterations, **run)


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
