"""Simultaneous iterative reconstruction: every ray corrects every voxel it crosses, all at once."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from recon.iterative.solvers.base import (
    Solver,
    State,
    data_term,
    only,
    proximable_term,
    relative_change,
    relaxation_in_range,
)
from recon.iterative.terms import Box, LeastSquares, Terms, safe_inverse


@dataclass(frozen=True, kw_only=True, eq=False)
class SIRTState(State):
    """The residual b - Ax, so that an iteration costs one projection and one backprojection."""

    residual: Tensor


@dataclass(frozen=True, kw_only=True)
class SIRT(Solver[SIRTState]):
    """Minimise a `LeastSquares` term by steps scaled voxel by voxel, inside a `Box` if wanted.

    With the weights of `ray_weights` this is the classic SIRT; with inverse variances it is the weighted one. The
    objective never rises. Voxels that no ray sees keep their start.

    Args:
        relaxation: length of the step, above 0 and below 2.

    Source:
        Gregor and Benson 2008, IEEE Transactions on Medical Imaging 27(7): 918-924.
    """

    relaxation: float = 1.0
    state_type: ClassVar[type[State]] = SIRTState

    def __post_init__(self) -> None:
        object.__setattr__(self, "relaxation", relaxation_in_range(self.relaxation))

    def init(self, terms: Terms, start: Tensor) -> SIRTState:
        """Return the state at the start, moved into the box."""
        only(terms, (LeastSquares, Box), "SIRT")
        data, image = data_term(terms, "SIRT"), proximable_term(terms, "SIRT").prox(start, 1.0)
        residual = data.residual(image)
        return SIRTState(image=image, residual=residual, objective=float(data.energy(residual)))

    def step(self, terms: Terms, state: SIRTState) -> SIRTState:
        """Spread the residual back and divide by the curvature."""
        data, box = data_term(terms, "SIRT"), proximable_term(terms, "SIRT")
        scale = self.relaxation * safe_inverse(data.curvature(state.image))
        image = box.prox(state.image + scale * data.spread(state.residual), 1.0)
        residual = data.residual(image)
        return SIRTState(
            image=image,
            iteration=state.iteration + 1,
            objective=float(data.energy(residual)),
            change=relative_change(image, state.image),
            residual=residual,
        )
