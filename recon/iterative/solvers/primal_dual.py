"""Primal-dual iterations: weighted least squares with exact total variation and bounds, without an inner loop."""

from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor

from recon import checks, memory
from recon.errors import NumericalError
from recon.iterative.priors import TotalVariation
from recon.iterative.solvers.base import (
    Solver,
    State,
    combined,
    data_term,
    only,
    proximable_term,
    relative_change,
)
from recon.iterative.terms import Box, LeastSquares, ProximableTerm, Terms, safe_inverse

_NAME = "PrimalDual"


@dataclass(frozen=True, kw_only=True, eq=False)
class PrimalDualState(State):
    """The image's projection, and two duals: the weighted residuals, and what the total variation pushes with."""

    projected: Tensor
    force: Tensor
    flow: Tensor


@dataclass(frozen=True, kw_only=True)
class PrimalDual(Solver[PrimalDualState]):
    """Minimise one `LeastSquares` term plus at most one `TotalVariation`, inside a `Box` if wanted.

    One projection and one backprojection an iteration, and no inner loop: the way to the exact minimum, against which
    faster methods are judged. The steps are diagonal, from the sums of rows and columns of the projector (or the norm
    of an operator that may have negative entries) and of the gradient. The objective need not fall every time.

    Args:
        balance: length of the image's step over its default; the duals' get shorter as much.

    Raises:
        ConfigError: a balance not above 0.

    Source:
        Chambolle and Pock 2011, Journal of Mathematical Imaging and Vision 40: 120-145, algorithm 1; steps of Pock
        and Chambolle 2011, ICCV: 1762-1769, lemma 2 with α = 1; for CT Sidky, Jørgensen and Pan 2012, Physics in
        Medicine and Biology 57(10): 3065-3091.
    """

    balance: float = 1.0
    state_type: ClassVar[type[State]] = PrimalDualState

    def __post_init__(self) -> None:
        object.__setattr__(self, "balance", checks.positive("balance", self.balance, unit=""))

    def init(self, terms: Terms, start: Tensor) -> PrimalDualState:
        """Return the state at the start, moved into the box, with duals of the residuals there and of no slopes."""
        only(terms, (LeastSquares, TotalVariation, Box), _NAME)
        data, prox = data_term(terms, _NAME), proximable_term(terms, _NAME)
        image = _box(prox).prox(start)
        projected = cast(Tensor, data.operator @ image)
        tv = prox if isinstance(prox, TotalVariation) else None
        shape = image.shape[:0] if tv is None else (*image.shape[: -len(tv.spacing)], *tv.operator(image).range_shape)
        return PrimalDualState(
            image=image,
            objective=float(data.energy(data.data - projected)) + float(prox.value(image)),
            projected=projected,
            force=data.weighted(projected - data.data),
            flow=image.new_zeros(shape),
        )

    def step(self, terms: Terms, state: PrimalDualState) -> PrimalDualState:
        """Move the image against both duals, then the duals towards where the image is heading."""
        data, prox = data_term(terms, _NAME), proximable_term(terms, _NAME)
        tv = prox if isinstance(prox, TotalVariation) else None
        slope, flow = cast(Tensor, data.operator.T @ state.force), state.flow
        if tv is not None:
            slope = combined(torch.add, slope, tv.operator(slope).T(flow))
        steps = _steps(data, tv, state.image, self.balance)
        box = _box(prox)
        image = combined(lambda x, g, length: box.prox(x - length * g), state.image, slope, steps.image)
        projected = cast(Tensor, data.operator @ image)
        if tv is not None:
            ahead = combined(lambda new, old: 2 * new - old, image, state.image)
            flow = _into_ball(flow + steps.flow * tv.operator(image)(ahead), tv.bound(image), -len(tv.spacing) - 1)
        return PrimalDualState(
            image=image,
            iteration=state.iteration + 1,
            objective=float(data.energy(data.data - projected)) + float(prox.value(image)),
            change=relative_change(image, state.image),
            projected=projected,
            force=_pushed(data, state, projected, steps.force),
            flow=flow,
        )


@dataclass(frozen=True, kw_only=True)
class _Steps:
    """Lengths of the steps of the image, of the residuals in their standard deviations, and of the flow."""

    image: Tensor
    force: Tensor
    flow: float


def _steps(data: LeastSquares, tv: TotalVariation | None, image: Tensor, balance: float) -> _Steps:
    """Return steps under which the residuals' are about one, and the total variation's share is as large as theirs."""
    rows, columns = data.sums
    unit = _typical(rows) / balance
    flow = 0.0
    if tv is not None:
        shape = tv.operator(image).domain_shape
        sums = [2 / step for n, step in zip(shape, tv.spacing, strict=True) if n > 1]
        if sums:
            share = _typical(columns) / sum(sums)
            columns, flow = columns + share * sum(sums), unit * share / max(sums)
    return _Steps(image=safe_inverse(columns) / unit, force=unit * safe_inverse(rows), flow=flow)


def _typical(sums: Tensor) -> float:
    """Return the median of what is above 0."""
    above = sums[sums > 0]
    if not above.numel():
        raise NumericalError("terms: expected rays with a weight above 0 that cross the grid, got none")
    return float(above.median())


def _pushed(data: LeastSquares, state: PrimalDualState, projected: Tensor, steps: Tensor) -> Tensor:
    """Return weighted residuals, drawn towards those of the image to come."""
    residual = memory.blockwise(lambda new, old, b: 2 * new - old - b, projected, state.projected, data.data)
    return combined(
        lambda force, aim, step: (force + step * aim) / (1 + step), state.force, data.weighted(residual), steps
    )


def _box(prox: ProximableTerm) -> Box:
    """Return the bounds of a term."""
    return prox.box if isinstance(prox, TotalVariation) else cast(Box, prox)


def _into_ball(flow: Tensor, radius: float, axis: int) -> Tensor:
    """Shorten vectors to a length."""
    length = flow.norm(dim=axis, keepdim=True)
    return flow * (radius / length.clamp(min=radius)) if radius > 0 else torch.zeros_like(flow)
