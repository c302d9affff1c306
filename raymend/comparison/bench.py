"""Making cells: one method on one case, draw by draw, scored; what a case needs is kept while it is in hand."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from raymend.comparison.cases import Case, Prepared
from raymend.comparison.methods import Method
from raymend.comparison.outcome import Cell, Shown
from raymend.comparison.scoring import fidelity, score
from raymend.comparison.setup import TASKS, Setup
from raymend.comparison.store import key_of
from raymend.comparison.task import measure
from raymend.comparison.trial import Trial
from recon.errors import CTError

_HELD = 2  # cases at a time


@dataclass(frozen=True, kw_only=True, eq=False)
class Ready:
    """A case with its draws of noise."""

    prepared: Prepared
    trials: tuple[Trial, ...]


class Bench:
    """Runs methods on cases; the cases used last stay in memory."""

    def __init__(self) -> None:
        self._ready: OrderedDict[str, Ready] = OrderedDict()

    def ready(self, case: Case, setup: Setup) -> Ready:
        """Return a case with its draws, made now or before."""
        key = key_of(case.identity(setup))
        if key not in self._ready:
            while len(self._ready) >= _HELD:
                self._ready.popitem(last=False)
            prepared = case.prepare(setup)
            trials = tuple(prepared.draw(k) for k in range(prepared.draws))
            self._ready[key] = Ready(prepared=prepared, trials=trials)
        self._ready.move_to_end(key)
        return self._ready[key]

    def cell(self, case: Case, method: Method, strength: float, setup: Setup) -> Cell:
        """Run a method on all draws of a case; what goes wrong is its message."""
        try:
            with torch.no_grad():
                return self._made(case, method, strength, setup)
        except CTError as error:
            return Cell(message=_one_line(str(error)))
        except Exception as error:  # a user's method may raise anything, and the others go on
            return Cell(message=_one_line(f"{type(error).__name__}: {error}"))

    def shown(self, case: Case, setup: Setup) -> Shown:
        """Return what pictures need of a case."""
        prepared = self.ready(case, setup).prepared
        return Shown(
            name=case.name, about=prepared.about, reference=prepared.reference, kind=prepared.kind, grid=prepared.grid,
            mask=prepared.mask, region=prepared.region,
        )  # fmt: skip

    def _made(self, case: Case, method: Method, strength: float, setup: Setup) -> Cell:
        reason = method.missing()
        if reason:
            return Cell(message=reason)
        ready = self.ready(case, setup)
        images, seconds = _timed(lambda trial: method.image(trial, strength), ready.trials)
        values, messages = _scores(images, ready.prepared, setup)
        tasks = [name for name in setup.metrics if name in TASKS]
        if tasks:
            again = lambda trial: method.image(trial, strength)  # noqa: E731
            values |= measure(tasks, again, ready.prepared, ready.trials, images, setup)
        return Cell(values=values, images=tuple(images), seconds=seconds, message="; ".join(messages))


def _timed(image: Callable[[Trial], Tensor], trials: tuple[Trial, ...]) -> tuple[list[Tensor], float]:
    """Return the images, and the least time from the trial to one of them: the first compiles and loads."""
    images, seconds = [], []
    for trial in trials:
        begun = time.perf_counter()
        images.append(image(replace(trial)))  # a copy has not made its first image yet
        seconds.append(time.perf_counter() - begun)
    return images, min(seconds)


def _scores(images: list[Tensor], prepared: Prepared, setup: Setup) -> tuple[dict[str, tuple[float, ...]], list[str]]:
    """Return the metrics of all draws, and why some have none."""
    values: dict[str, tuple[float, ...]] = {}
    messages = []
    for name in fidelity(setup):
        try:
            values[name] = tuple(score(name, image, prepared, setup) for image in images)
        except CTError as error:
            messages.append(f"{name}: {_one_line(str(error))}")
    return values, messages


def _one_line(text: str) -> str:
    return " ".join(text.split())
