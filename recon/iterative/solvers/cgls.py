"""Conjugate gradients on the normal equations: the fastest way down for plain and weighted least squares."""

from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor

from recon import memory
from recon.iterative.priors import Quadratic
from recon.iterative.solvers.base import Solver, State, data_term, only, smooth_terms
from recon.iterative.terms import LeastSquares, Terms


@dataclass(frozen=True, kw_only=True, eq=False)
class CGLSState(State):
    """The residual b - Ax, the search direction, and the squared size of the gradient now and at the start."""

    residual: Tensor
    direction: Tensor
    slope: Tensor
    first_slope: Tensor


@dataclass(frozen=True, kw_only=True)
class CGLS(Solver[CGLSState]):
    """Minimise a `LeastSquares` term, with `Quadratic` priors if wanted; batch items are separate problems.

    The change compared with a tolerance is the size of the gradient relative to that at the start.

    Source:
        Björck 1996, Numerical Methods for Least Squares Problems, section 7.4 (CGLS), here with weights.
    """

    state_type: ClassVar[type[State]] = CGLSState

    def init(self, terms: Terms, start: Tensor) -> CGLSState:
        """Return the state at the start, with the steepest descent as the first direction."""
        only(terms, (LeastSquares, Quadratic), "CGLS")
        residual = data_term(terms, "CGLS").residual(start)
        downhill = _downhill(terms, residual, start)
        slope = _squared(downhill, _items(terms, start))
        return CGLSState(
            image=start,
            objective=_objective(terms, residual, start),
            change=1.0,
            residual=residual,
            direction=downhill,
            slope=slope,
            first_slope=slope,
        )

    def step(self, terms: Terms, state: CGLSState) -> CGLSState:
        """Go to the lowest point along the direction, then turn."""
        projected = cast(Tensor, data_term(terms, "CGLS").operator @ state.direction)
        length = _ratio(state.slope, _bent(terms, projected, state.direction))
        image = _plus(state.image, length, state.direction)
        residual = _plus(state.residual, -length, projected)
        downhill = _downhill(terms, residual, image)
        slope = _squared(downhill, _items(terms, image))
        return CGLSState(
            image=image,
            iteration=state.iteration + 1,
            objective=_objective(terms, residual, image),
            change=float(_ratio(slope, state.first_slope).max().sqrt()),
            residual=residual,
            direction=_plus(downhill, _ratio(slope, state.slope), state.direction),
            slope=slope,
            first_slope=state.first_slope,
        )


def _downhill(terms: Terms, residual: Tensor, image: Tensor) -> Tensor:
    """Return minus the gradient, from the residual at hand."""
    downhill = data_term(terms, "CGLS").spread(residual)
    for prior in _priors(terms):
        downhill = downhill - prior.gradient(image)
    return downhill


def _bent(terms: Terms, projected: Tensor, direction: Tensor) -> Tensor:
    """Return the second derivative along a direction, per batch item."""
    data, items = data_term(terms, "CGLS"), _items(terms, direction)
    bent = _inner(projected, data.weighted(projected), items)
    for prior in _priors(terms):
        bent = bent + _inner(direction, prior.gradient(direction), items)
    return bent


def _objective(terms: Terms, residual: Tensor, image: Tensor) -> float:
    data = data_term(terms, "CGLS")
    return float(data.energy(residual)) + sum(float(prior.value(image)) for prior in _priors(terms))


def _priors(terms: Terms) -> list[Quadratic]:
    return [term for term in smooth_terms(terms) if isinstance(term, Quadratic)]


def _items(terms: Terms, image: Tensor) -> int:
    """Count the batch axes."""
    return image.ndim - len(data_term(terms, "CGLS").operator.domain_shape)


def _inner(a: Tensor, b: Tensor, items: int) -> Tensor:
    """Return ⟨a, b⟩ per batch item, summed in float64."""
    if items == 0:
        return a.new_tensor(memory.total(torch.mul, a, b), dtype=torch.float64)
    return torch.stack([_inner(one, other, items - 1) for one, other in zip(a, b, strict=True)])


def _squared(a: Tensor, items: int) -> Tensor:
    return _inner(a, a, items)


def _plus(x: Tensor, factor: Tensor, y: Tensor) -> Tensor:
    """Return x + factor · y, with a factor per batch item."""
    if factor.ndim == 0:
        number = float(factor.to(x))
        return memory.blockwise(lambda a, b: a + number * b, x, y)
    factors = factor.to(x).reshape(factor.shape + (1,) * (x.ndim - factor.ndim)).expand_as(x)
    return memory.blockwise(lambda a, f, b: a + f * b, x, factors, y)


def _ratio(above: Tensor, below: Tensor) -> Tensor:
    """Divide; 0 where there is nothing left to divide by, that is, at the minimum."""
    return torch.where(below > 0, above / torch.where(below > 0, below, 1), 0)
