"""What every solver is: frozen settings, a first state, and a step from one state to the next."""

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Generic, Self, TypeVar

import torch
from torch import Tensor

from recon import checks, memory
from recon.errors import CheckpointError, ConfigError
from recon.iterative.terms import Box, LeastSquares, ProximableTerm, SmoothTerm, Terms, inverse_above

Number = float | int | bool

_FLAT = 1e-6  # of the largest curvature: voxels with less than that are seen by no ray


@dataclass(frozen=True, kw_only=True, eq=False)
class State:
    """All that a solver carries from one iteration to the next: tensors and numbers, so that it can be stored.

    Args:
        image: the current image.
        iteration: how many iterations led here.
        objective: what is minimised, at the image unless the solver says otherwise.
        change: the solver's measure of what is left to do, relative; a tolerance is compared with it.
    """

    image: Tensor
    iteration: int = 0
    objective: float = float("inf")
    change: float = float("inf")

    def parts(self) -> tuple[dict[str, Tensor], dict[str, Number]]:
        """Return the tensors and the numbers by name."""
        every = {f.name: getattr(self, f.name) for f in fields(self)}
        tensors = {name: part for name, part in every.items() if isinstance(part, Tensor)}
        return tensors, {name: part for name, part in every.items() if name not in tensors}

    @classmethod
    def from_parts(cls, tensors: dict[str, Tensor], numbers: dict[str, Number]) -> Self:
        """Rebuild a state.

        Raises:
            CheckpointError: parts missing or left over.
        """
        found: dict[str, Any] = {**tensors, **numbers}
        expected = {f.name for f in fields(cls)}
        if set(found) != expected:
            raise CheckpointError(f"state: expected {sorted(expected)}, got {sorted(found)}; start anew")
        return cls(**found)


S = TypeVar("S", bound=State)


class Solver(ABC, Generic[S]):
    """A way to minimise a sum of terms; subclasses are frozen dataclasses of numbers.

    A solver says which terms it takes by what `init` refuses. It never keeps anything between calls: all of that
    is in the state, so that a run can be stopped, stored and resumed bit for bit.
    """

    state_type: ClassVar[type[State]]

    @abstractmethod
    def init(self, terms: Terms, start: Tensor) -> S:
        """Return the state before the first iteration."""

    @abstractmethod
    def step(self, terms: Terms, state: S) -> S:
        """Return the state after one more iteration; tensors of the old state are left as they are."""


def data_term(terms: Terms, solver: str) -> LeastSquares:
    """Return the one data term.

    Raises:
        ConfigError: there is none or more than one, or all its weights are zero.
    """
    found = [term for term in terms if isinstance(term, LeastSquares)]
    if len(found) != 1:
        raise ConfigError(f"terms: {solver} expects exactly one LeastSquares, got {len(found)}; join them into one")
    weights = found[0].weights
    if weights is not None and not bool((weights > 0).any()):
        raise ConfigError("weights: expected at least one above 0, got only zeros; the data would say nothing")
    return found[0]


def only(terms: Terms, allowed: tuple[type, ...], solver: str) -> None:
    """Refuse terms of other kinds than those a solver can treat."""
    for term in terms:
        if not isinstance(term, allowed):
            names = ", ".join(kind.__name__ for kind in allowed)
            raise ConfigError(f"terms: {solver} takes {names}, got {type(term).__name__}; choose another solver")


def smooth_terms(terms: Terms) -> list[SmoothTerm]:
    """Return the smooth terms."""
    return [term for term in terms if isinstance(term, SmoothTerm)]


def proximable_term(terms: Terms, solver: str) -> ProximableTerm:
    """Return the one proximable term, or one that allows everything."""
    found = [term for term in terms if isinstance(term, ProximableTerm)]
    if len(found) > 1:
        raise ConfigError(
            f"terms: {solver} takes one proximable term, got {len(found)}; a TotalVariation takes bounds by its box"
        )
    return found[0] if found else Box()


def objective(terms: Terms, x: Tensor) -> float:
    """Return the sum of all terms."""
    return float(sum(float(term.value(x)) for term in terms))


def relative_change(new: Tensor, old: Tensor) -> float:
    """Return ‖new - old‖ / ‖new‖ over all axes: 0 if both are zero."""
    size = memory.total(torch.square, new) ** 0.5
    gap = memory.total(lambda a, b: (a - b).square(), new, old) ** 0.5
    return gap / size if size > 0 else (0.0 if gap == 0 else float("inf"))


def combined(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """Return an elementwise function of images, which are spread over the batch axes of the first."""
    return memory.blockwise(function, *(tensor.expand_as(tensors[0]) for tensor in tensors))


def added(images: Sequence[Tensor], like: Tensor) -> Tensor:
    """Add up images; zeros shaped like another if there are none."""
    return functools.reduce(functools.partial(combined, torch.add), images) if images else memory.like(like, fill=0)


def gradient_sum(parts: Sequence[tuple[Tensor, Tensor]], like: Tensor) -> tuple[float, Tensor]:
    """Add up values and gradients."""
    return sum(float(value) for value, _ in parts), added([slope for _, slope in parts], like)


def momentum(counter: float) -> tuple[float, float]:
    """Return how far to go on in the direction of the last step, and the next counter.

    Source:
        Nesterov 1983, Soviet Mathematics Doklady 27(2): 372-376; Beck and Teboulle 2009, SIIMS 2(1), eqs. 4.2, 4.3.
    """
    following = (1 + (1 + 4 * counter**2) ** 0.5) / 2
    return (counter - 1) / following, following


def scaled_step(image: Tensor, gradient: Tensor, curvature: Tensor, length: float, box: ProximableTerm) -> Tensor:
    """Return the image after a step against the gradient, divided by the curvature, inside a box.

    Where the curvature is (next to) nothing, the image stays.
    """
    least = _FLAT * max(memory.ends(curvature)[1], 0)

    def moved(x: Tensor, slope: Tensor, bend: Tensor) -> Tensor:
        return box.prox(x - length * inverse_above(bend, least) * slope, 1.0)

    return combined(moved, image, gradient, curvature)


def relaxation_in_range(value: float) -> float:
    """Return a relaxation for which the theory promises convergence.

    Raises:
        ConfigError: it does not lie between 0 and 2.
    """
    if not 0 < checks.finite("relaxation", value) < 2:
        raise ConfigError(f"relaxation: expected a number above 0 and below 2, got {value}; 1 is a good start")
    return float(value)
