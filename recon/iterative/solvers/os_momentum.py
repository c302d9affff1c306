"""Ordered subsets with momentum: the fastest start for weighted least squares with a smooth prior."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from recon import checks
from recon.iterative.solvers.base import (
    Solver,
    State,
    added,
    combined,
    data_term,
    gradient_sum,
    momentum,
    objective,
    only,
    proximable_term,
    relative_change,
    smooth_terms,
)
from recon.iterative.terms import Box, LeastSquares, SmoothTerm, Terms, safe_inverse


@dataclass(frozen=True, kw_only=True, eq=False)
class OSMomentumState(State):
    """The extrapolated point, the momentum's counter, and the share of the full step."""

    point: Tensor
    counter: float = 1.0
    length: float = 1.0


@dataclass(frozen=True, kw_only=True)
class OSMomentum(Solver[OSMomentumState]):
    """Minimise one `LeastSquares` term plus smooth priors, inside a `Box` if wanted.

    Every subset stands for the whole data in a step scaled voxel by voxel, and Nesterov's momentum runs through all
    of them. The objective is added up on the way, with the points that the subsets met, and so costs no projection.
    If that rises, the true one is looked at, and an iteration that made it rise is taken back: the momentum starts
    anew, and if there was none, the step halves. So too many subsets cost time but do not diverge, and the cycle in
    which subsets end closes in on the minimum.

    Args:
        subsets: number of interleaved subsets of views; with one the objective has a guaranteed rate, with many the
            start is faster.

    Source:
        Kim, Ramani and Fessler 2015, IEEE Transactions on Medical Imaging 34(1): 167-178 (OS-SQS with the momentum
        of Nesterov 1983).
    """

    subsets: int = 10
    state_type: ClassVar[type[State]] = OSMomentumState

    def __post_init__(self) -> None:
        checks.counts("subsets", (self.subsets,), 1)

    def init(self, terms: Terms, start: Tensor) -> OSMomentumState:
        """Return the state at the start, moved into the box, with no momentum."""
        only(terms, (SmoothTerm, Box), "OS-momentum")
        data_term(terms, "OS-momentum")
        image = proximable_term(terms, "OS-momentum").prox(start, 1.0)
        return OSMomentumState(image=image, objective=objective(terms, image), point=image)

    def step(self, terms: Terms, state: OSMomentumState) -> OSMomentumState:
        """Go down and extrapolate with every subset once."""
        box, scale = proximable_term(terms, "OS-momentum"), _scale(terms, state.image)
        image, point, counter, seen = state.image, state.point, state.counter, 0.0
        for part in data_term(terms, "OS-momentum").split(self.subsets):
            value, slope = part.value_and_gradient(point)
            prior_value, prior_slope = _priors(terms, point)
            seen += float(value) + prior_value / self.subsets

            def lower(x: Tensor, bend: Tensor, data: Tensor, prior: Tensor) -> Tensor:
                return box.prox(x - state.length * bend * (self.subsets * data + prior), 1.0)

            before, image = image, combined(lower, point, scale, slope, prior_slope)
            share, counter = momentum(counter)
            point = combined(lambda new, old, share=share: new + share * (new - old), image, before)
        if not seen <= state.objective and _rises(terms, state.image, image):
            return _calmed(state, seen)
        return OSMomentumState(
            image=image,
            iteration=state.iteration + 1,
            objective=seen,
            change=relative_change(image, state.image),
            point=point,
            counter=counter,
            length=state.length,
        )


def _rises(terms: Terms, before: Tensor, after: Tensor) -> bool:
    """Tell whether the true objective rose: what was seen on the way also holds what the subsets disagree about."""
    return not objective(terms, after) <= objective(terms, before)


def _calmed(state: OSMomentumState, seen: float) -> OSMomentumState:
    """Go back to the image before and drop the momentum; shorten the step if there was none to drop."""
    return replace(
        state,
        iteration=state.iteration + 1,
        objective=state.objective if math.isfinite(seen) else seen,
        point=state.image,
        counter=1.0,
        length=state.length / 2 if state.counter == 1 else state.length,
    )


def _scale(terms: Terms, image: Tensor) -> Tensor:
    """Return one over the curvature of all terms, the same for every subset.

    It is that of the parabolas which touch at the image, less than everywhere: priors that keep edges bend little at
    them. The momentum leaves those parabolas, which is why a rise of the objective is looked for and taken back.
    """
    return safe_inverse(added([term.curvature(image) for term in smooth_terms(terms)], image))


def _priors(terms: Terms, x: Tensor) -> tuple[float, Tensor]:
    """Return value and gradient of everything smooth but the data."""
    priors = [term for term in smooth_terms(terms) if not isinstance(term, LeastSquares)]
    return gradient_sum([term.value_and_gradient(x) for term in priors], x)
