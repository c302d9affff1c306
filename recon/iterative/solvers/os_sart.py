"""Ordered-subsets SART: SIRT on some of the views at a time, which is as many times faster at first."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from recon import checks
from recon.errors import ConfigError
from recon.iterative.solvers.base import (
    Solver,
    State,
    data_term,
    objective,
    only,
    proximable_term,
    relative_change,
    relaxation_in_range,
    scaled_step,
)
from recon.iterative.terms import Box, LeastSquares, Terms

_KEPT_BYTES = 1 << 30  # curvatures of subsets are kept up to this size, and computed anew beyond


@dataclass(frozen=True, kw_only=True)
class OSSART(Solver[State]):
    """Go through the subsets of a `LeastSquares` term, one scaled step each, inside a `Box` if wanted.

    One iteration uses every view once. With one subset this is `SIRT`. With more, and data that contradict
    themselves, the images end in a small cycle around the minimum: a `decay` below 1 shrinks it. The objective is
    added up on the way, with the image each subset met, and so costs nothing.

    Args:
        subsets: number of interleaved subsets of views.
        relaxation: length of the step, above 0 and below 2.
        decay: factor on the relaxation after every iteration, above 0 and at most 1.

    Source:
        Wang and Jiang 2004, Journal of X-Ray Science and Technology 12(3): 169-177 (ordered subsets); Andersen and
        Kak 1984, Ultrasonic Imaging 6(1): 81-94 (SART).
    """

    subsets: int = 10
    relaxation: float = 1.0
    decay: float = 1.0
    state_type: ClassVar[type[State]] = State

    def __post_init__(self) -> None:
        checks.counts("subsets", (self.subsets,), 1)
        object.__setattr__(self, "relaxation", relaxation_in_range(self.relaxation))
        if not 0 < checks.finite("decay", self.decay) <= 1:
            raise ConfigError(f"decay: expected a number above 0 and at most 1, got {self.decay}; 1 switches it off")

    def init(self, terms: Terms, start: Tensor) -> State:
        """Return the state at the start, moved into the box."""
        only(terms, (LeastSquares, Box), "OS-SART")
        image = proximable_term(terms, "OS-SART").prox(start, 1.0)
        return State(image=image, objective=objective([data_term(terms, "OS-SART")], image))

    def step(self, terms: Terms, state: State) -> State:
        """Correct the image by every subset once."""
        box, image, seen = proximable_term(terms, "OS-SART"), state.image, 0.0
        relaxation = self.relaxation * self.decay**state.iteration
        for part in data_term(terms, "OS-SART").split(self.subsets):
            energy, gradient = part.value_and_gradient(image)
            seen += float(energy)
            image = scaled_step(image, gradient, _curvature(part, image, self.subsets), relaxation, box)
        change = relative_change(image, state.image)
        return State(image=image, iteration=state.iteration + 1, objective=seen, change=change)


def _curvature(part: LeastSquares, image: Tensor, subsets: int) -> Tensor:
    """Return a subset's own curvature: that of all views would be wrong for voxels few views see."""
    kept = subsets * image.numel() * image.element_size() <= _KEPT_BYTES
    return part.curvature(image) if kept else part.measured_curvature()
