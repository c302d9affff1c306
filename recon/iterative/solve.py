"""The one loop of all iterations: progress, callbacks, tolerance, stop and resume, and how it ended."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from recon import checks, devices, memory
from recon.errors import CheckpointError, ConfigError, ShapeError, Status
from recon.iterative.fingerprint import fingerprint
from recon.iterative.solvers.base import Solver, State
from recon.iterative.terms import LeastSquares, Terms

_PATIENCE = 5  # iterations over which the objective must move
_SPREAD = 2  # rounding units, relative to the objective, that do not count as movement
_DIVERGED = 1e3  # times the first objective

History = dict[str, list[float]]


class Stop(Exception):
    """Raise this in a callback to end the iteration with `Status.STOPPED`; its text becomes the advice."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Solution:
    """An image, how the iteration that made it ended, and all that is needed to go on.

    Args:
        image: the image, the last one that was finite.
        status: how the iteration ended.
        history: per iteration, the first entry before any: `objective`, and `change` (what a tolerance looks at).
        state: the solver's state at the image; pass the whole solution as `resume` to go on from it.
        solver: the solver and its settings.
        problem: fingerprint of the terms, so that a state is not mixed with other data.
        detail: what there is to say beyond the status, such as at which iteration.
    """

    image: Tensor
    status: Status
    history: History
    state: State
    solver: Solver[Any]
    problem: str
    detail: str = ""

    @property
    def iterations(self) -> int:
        """How many iterations led to the image, those before a resume included."""
        return self.state.iteration

    @property
    def advice(self) -> str:
        """How it ended, at which iteration, and what to do."""
        return f"iteration {self.iterations}: {self.status.value}" + (f" ({self.detail})" if self.detail else "")


Progress = Callable[[int, int, Mapping[str, float]], None]
Callback = Callable[[Solution], None]


def solve(
    solver: Solver[Any],
    terms: Terms,
    *,
    iterations: int,
    start: Tensor | None = None,
    tolerance: float | None = None,
    callbacks: Iterable[Callback] = (),
    progress: Progress | None = None,
    resume: Solution | None = None,
) -> Solution:
    """Minimise a sum of terms and say how it went.

    The loop ends at the iteration limit, at the tolerance, when nothing moves any more, when a callback raises
    `Stop`, at an interrupt (Ctrl-C), or at the first iteration whose image or objective is not finite or whose
    objective has risen a thousandfold: then the image before it is returned. Only mistakes in the input raise.

    Args:
        solver: how to minimise.
        terms: what to minimise: their sum.
        iterations: the iteration to stop at, counted from the very start, also when resuming.
        start: first image; None for zeros shaped like the data ask.
        tolerance: stop when the solver's relative change is at most this; None to go on to the limit.
        callbacks: called after every iteration with the solution so far, which may be stored and resumed.
        progress: called after every iteration with its number, the limit, and the latest of every history.
        resume: an earlier solution of the same solver and terms to go on from, instead of a start.

    Returns:
        The solution, with its status and advice.

    Raises:
        ConfigError: settings out of range, or terms that the solver cannot treat.
        ShapeError: a start that does not fit.
        NumericalError: NaN or Inf in the start.
        CheckpointError: a solution of another solver, other settings or other data.
    """
    checks.counts("iterations", (iterations,), 1)
    if tolerance is not None and not checks.finite("tolerance", tolerance) >= 0:
        raise ConfigError(f"tolerance: expected 0 or more, or None, got {tolerance}")
    with torch.no_grad(), devices.told_when_full("iteration", _device(terms)):
        solution = _begin(solver, terms, start) if resume is None else _resumed(resume, solver, terms)
        try:
            while solution.status is Status.MAX_ITERATIONS and solution.iterations < iterations:
                solution = _after(solution, solver.step(terms, solution.state), tolerance)
                if solution.status.ok:
                    _tell(solution, iterations, callbacks, progress)
        except KeyboardInterrupt:
            solution = replace(solution, status=Status.STOPPED, detail="interrupted")
        except Stop as stop:
            solution = replace(solution, status=Status.STOPPED, detail=str(stop))
    return solution


def _device(terms: Terms) -> torch.device:
    """Return where the data are."""
    found = (term.data.device for term in terms if isinstance(term, LeastSquares))
    return next(found, torch.device("cpu"))


def _begin(solver: Solver[Any], terms: Terms, start: Tensor | None) -> Solution:
    state = solver.init(terms, _first_image(terms, start))
    return Solution(
        image=state.image,
        status=Status.MAX_ITERATIONS,
        history={"objective": [state.objective], "change": [state.change]},
        state=state,
        solver=solver,
        problem=fingerprint(terms),
    )


def _first_image(terms: Terms, start: Tensor | None) -> Tensor:
    """Return the start, spread over the batch axes of the data, or zeros."""
    data = next((term for term in terms if isinstance(term, LeastSquares)), None)
    if start is not None:
        checks.all_finite("start", checks.floating("start", start))
    if data is None:
        if start is None:
            raise ConfigError("start: expected an image, got None; without a LeastSquares term nothing says its shape")
        return start
    zeros = data.zeros()
    if start is None:
        return zeros
    checks.shaped("start", start, data.operator.domain_shape, data.operator.axes[0])
    if start.dtype != zeros.dtype or start.device != zeros.device:
        raise ShapeError(
            f"start: expected {zeros.dtype} on {zeros.device} like the data, got {start.dtype} on {start.device}; "
            "convert it with start.to(data)"
        )
    return start.expand(torch.broadcast_shapes(start.shape, zeros.shape))


def _resumed(earlier: Solution, solver: Solver[Any], terms: Terms) -> Solution:
    """Return an earlier solution, ready to go on, if it belongs to this solver and these terms."""
    if earlier.solver != solver:
        raise CheckpointError(f"resume: expected a solution by {solver!r}, got one by {earlier.solver!r}; start anew")
    if earlier.problem != fingerprint(terms):
        raise CheckpointError(
            f"resume: expected a solution of the same data and terms ({fingerprint(terms)[:12]}), got one of others "
            f"({earlier.problem[:12]}); use its image as `start` instead"
        )
    return replace(earlier, status=Status.MAX_ITERATIONS, detail="")


def _after(before: Solution, state: State, tolerance: float | None) -> Solution:
    """Return the solution after one more iteration, or the one before it if that failed."""
    failure = _failure(state, before.history["objective"][0])
    if failure:
        status, reason = failure
        return replace(before, status=status, detail=f"{reason} at iteration {state.iteration}")
    objective, change = before.history["objective"], before.history["change"]
    history = {"objective": [*objective, state.objective], "change": [*change, state.change]}
    return replace(before, image=state.image, state=state, history=history, status=_status(history, state, tolerance))


def _failure(state: State, first: float) -> tuple[Status, str] | None:
    """Say what went wrong, or None."""
    # Sums instead of a mask as large as the image: NaN and Inf survive them.
    if not math.isfinite(memory.total(torch.abs, state.image)):
        return Status.NOT_FINITE, "the image stopped being finite"
    if math.isnan(state.change):
        return Status.NOT_FINITE, "the search direction stopped being finite"
    if not math.isfinite(state.objective):
        return Status.NOT_FINITE, "the objective stopped being finite"
    if math.isfinite(first) and state.objective > _DIVERGED * abs(first) > 0:
        return Status.DIVERGED, f"the objective rose from {first:.3g} to {state.objective:.3g}"
    return None


def _status(history: History, state: State, tolerance: float | None) -> Status:
    if tolerance is not None and state.change <= tolerance:
        return Status.CONVERGED
    last = history["objective"][-_PATIENCE - 1 :]
    unit = torch.finfo(state.image.dtype).eps
    floor = _SPREAD * unit * abs(last[-1]) + unit**2 * abs(history["objective"][0])
    still = len(last) > _PATIENCE and max(last) - min(last) <= floor
    return Status.STAGNATED if still else Status.MAX_ITERATIONS


def _tell(solution: Solution, limit: int, callbacks: Iterable[Callback], progress: Progress | None) -> None:
    if progress is not None:
        progress(solution.iterations, limit, {name: values[-1] for name, values in solution.history.items()})
    for callback in callbacks:
        callback(solution)
