"""Accelerated proximal gradients: smooth terms plus one term that is not, such as total variation or bounds."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from recon import checks, memory
from recon.errors import ConfigError, NumericalError
from recon.iterative.solvers.base import (
    Solver,
    State,
    combined,
    data_term,
    gradient_sum,
    momentum,
    only,
    proximable_term,
    relative_change,
    smooth_terms,
)
from recon.iterative.terms import LeastSquares, ProximableTerm, SmoothTerm, Terms

_SLACK = 8  # rounding units by which a sum may miss the bound that the step must keep
_HALVINGS = 60


@dataclass(frozen=True, kw_only=True, eq=False)
class FISTAState(State):
    """The extrapolated point, the momentum's counter and the step."""

    point: Tensor
    counter: float
    length: float


@dataclass(frozen=True, kw_only=True)
class FISTA(Solver[FISTAState]):
    """Minimise any smooth terms plus at most one proximable term.

    The step is one over the largest curvature. A step given by hand is halved whenever it proves too long, so that
    no choice diverges. The momentum starts anew when it points uphill.

    Args:
        length: first length of the step, or None for one that is safe from the start.

    Source:
        Beck and Teboulle 2009, SIAM Journal on Imaging Sciences 2(1): 183-202; restart by O'Donoghue and Candès
        2015, Foundations of Computational Mathematics 15: 715-732, section 3.2 (gradient scheme).
    """

    length: float | None = None
    state_type: ClassVar[type[State]] = FISTAState

    def __post_init__(self) -> None:
        if self.length is not None and not checks.finite("length", self.length) > 0:
            raise ConfigError(f"length: expected a step above 0 or None, got {self.length}; None chooses a safe one")

    def init(self, terms: Terms, start: Tensor) -> FISTAState:
        """Return the state at the start, with no momentum."""
        only(terms, (SmoothTerm, ProximableTerm), "FISTA")
        if any(isinstance(term, LeastSquares) for term in terms):
            data_term(terms, "FISTA")
        image = proximable_term(terms, "FISTA").prox(start, 0.0)
        value = sum(float(term.value(image)) for term in terms)
        length = self.length or _safe_length(terms, image)
        return FISTAState(image=image, objective=value, point=image, counter=1.0, length=length)

    def step(self, terms: Terms, state: FISTAState) -> FISTAState:
        """Go down from the extrapolated point, then extrapolate."""
        value, gradient = _value_and_gradient(terms, state.point)
        prox, length = proximable_term(terms, "FISTA"), state.length
        for _ in range(_HALVINGS):
            image = prox.prox(combined(lambda x, slope, step=length: x - step * slope, state.point, gradient), length)
            smooth = sum(float(term.value(image)) for term in smooth_terms(terms))
            if self.length is None or smooth <= _bound(
                value, gradient, combined(torch.sub, image, state.point), length
            ):
                break
            length /= 2
        point, counter = _extrapolated(state, image)
        return FISTAState(
            image=image,
            iteration=state.iteration + 1,
            objective=smooth + float(prox.value(image)),
            change=relative_change(image, state.image),
            point=point,
            counter=counter,
            length=length,
        )


def _safe_length(terms: Terms, image: Tensor) -> float:
    """Return one over the largest curvature, which bounds the gradient's Lipschitz constant from above."""
    most = sum(float(term.curvature(image, everywhere=True).max()) for term in smooth_terms(terms))
    if most == 0:
        raise NumericalError("terms: expected a curvature above 0 somewhere, got 0; do the rays cross the grid?")
    return 1 / most


def _value_and_gradient(terms: Terms, x: Tensor) -> tuple[float, Tensor]:
    return gradient_sum([term.value_and_gradient(x) for term in smooth_terms(terms)], x)


def _bound(value: float, gradient: Tensor, gap: Tensor, length: float) -> float:
    """Return the parabola above the smooth terms, give or take rounding."""
    rise = memory.total(torch.mul, gradient, gap) + memory.total(torch.square, gap) / (2 * length)
    return value + rise + _SLACK * torch.finfo(gap.dtype).eps * abs(value)


def _extrapolated(state: FISTAState, image: Tensor) -> tuple[Tensor, float]:
    """Return the next point and counter; without momentum if that points uphill."""
    uphill = memory.total(lambda point, new, old: (point - new) * (new - old), state.point, image, state.image)
    if uphill > 0:
        return image, 1.0
    share, counter = momentum(state.counter)
    return combined(lambda new, old: new + share * (new - old), image, state.image), counter
