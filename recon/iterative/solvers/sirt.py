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
    scaled_step,
)
from recon.iterative.terms import Box, LeastSquares, Terms


@dataclass(frozen=True, kw_only=True, eq=False)
class SIRTState(State):
    """The gradient of the misfit at the image, so that an iteration costs one projection and one backprojection."""

    gradient: Tensor


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
        energy, gradient = data.value_and_gradient(image)
        return SIRTState(image=image, gradient=gradient, objective=float(energy))

    def step(self, terms: Terms, state: SIRTState) -> SIRTState:
        """Go against the gradient, divided by the curvature."""
        data, box = data_term(terms, "SIRT"), proximable_term(terms, "SIRT")
        image = scaled_step(state.image, state.gradient, data.curvature(state.image), self.relaxation, box)
        energy, gradient = data.value_and_gradient(image)
        return SIRTState(
            image=image,
            iteration=state.iteration + 1,
            objective=float(energy),
            change=relative_change(image, state.image),
            gradient=gradient,
        )
