"""The work behind a comparison: tune, then test, cell by cell, with what an earlier run left."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from raymend.comparison import tuning as tune
from raymend.comparison.bench import Bench
from raymend.comparison.cases import Case, Simulated
from raymend.comparison.job import Job
from raymend.comparison.methods import Method
from raymend.comparison.outcome import Cell, Entrant, Outcome, Shown
from raymend.comparison.processes import run
from raymend.comparison.scoring import measures
from raymend.comparison.setup import Setup
from raymend.comparison.store import Store, key_of
from recon.errors import ConfigError

#: Told how many cells are finished, of how many, and which was the last.
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Methods on cases under one setup."""

    methods: tuple[Method, ...]
    cases: tuple[Case, ...]
    tuning: tuple[Case, ...]
    setup: Setup

    @classmethod
    def of(
        cls, methods: tuple[Method, ...], cases: tuple[Case, ...], tuning: tuple[Case, ...], setup: Setup
    ) -> "Comparison":
        for case in cases:
            case.check(setup)
        _check_different(cases, setup)
        used = tuning if any(tune.tuned(method, setup) for method in methods) else ()
        tune.check_apart(methods, cases, used)
        return cls(methods=methods, cases=cases, tuning=used, setup=setup)

    @property
    def about(self) -> dict[str, Any]:
        """What tells this comparison from another."""
        return {
            "setup": self.setup.as_dict(),
            "tuning": [case.name for case in self.tuning],
            "methods": [method.name for method in self.methods],
            "cases": [case.name for case in self.cases],
        }


class Run:
    """A comparison under way."""

    def __init__(self, comparison: Comparison, store: Store, processes: int, progress: Progress) -> None:
        self._comparison, self._store, self._processes, self._progress = comparison, store, processes, progress
        self._bench = Bench()
        self._cells: dict[str, Cell] = {}
        self._total = 0

    def outcome(self) -> Outcome:
        """Do what is left to do, and gather all."""
        comparison, setup = self._comparison, self._comparison.setup
        tuning = {m.name: tune.jobs_of(m, comparison.tuning, setup) for m in comparison.methods if tune.tuned(m, setup)}
        self._total = sum(map(len, tuning.values())) + len(comparison.methods) * len(comparison.cases)
        self._do([job for jobs in tuning.values() for job in jobs])
        strengths = {name: tune.best(jobs, self._cells) for name, jobs in tuning.items()}
        tests = {
            (case.name, method.name): Job(
                case=case, method=method, strength=strengths.get(method.name) or 1.0, setup=setup
            )
            for case in comparison.cases
            for method in comparison.methods
        }
        self._do(list(tests.values()))
        shown = tuple(self._shown(next(job for job in tests.values() if job.case is case)) for case in comparison.cases)
        return Outcome(
            setup=setup,
            entrants=tuple(self._entrant(method, strengths.get(method.name)) for method in comparison.methods),
            shown=shown,
            measures=measures(setup, shown),
            cells={names: self._cells[job.key] for names, job in tests.items()},
            tuning=self._tuning_words(),
        )

    def _do(self, jobs: Sequence[Job]) -> None:
        """Make the cells that are not there yet."""
        for job in jobs:
            cell = self._store.finished(job.key)
            if cell is not None:
                self._done(job, cell)
        run([job for job in jobs if job.key not in self._cells], self._store, self._bench, self._processes, self._done)

    def _done(self, job: Job, cell: Cell) -> None:
        self._cells[job.key] = cell
        self._progress(len(self._cells), self._total, f"{job.method.name} on {job.case.name}")

    def _shown(self, job: Job) -> Shown:
        found = self._store.shown(job.case_key, job.case.name)
        return self._bench.shown(job.case, job.setup) if found is None else found

    def _entrant(self, method: Method, strength: float | None) -> Entrant:
        how = tune.words(method, self._comparison.setup, strength, len(self._comparison.tuning))
        return Entrant(name=method.name, label=method.label, source=method.source, tuning=how, note=method.note)

    def _tuning_words(self) -> str:
        """Name the tuning cases, and the scanner and dose of those that are simulated."""
        cases, setup = self._comparison.tuning, self._comparison.setup
        names = ", ".join(case.name for case in cases)
        if not any(isinstance(case, Simulated) for case in cases):
            return names
        views = f"{setup.views} views" if setup.views else "all views"
        dose = "no noise" if setup.photons is None else f"{setup.photons:g} photons per pixel"
        return f"{names} ({setup.preset}, {views}, {dose})"


def _check_different(cases: tuple[Case, ...], setup: Setup) -> None:
    """Refuse one case under two names, which would count twice."""
    seen: dict[str, str] = {}
    for case in cases:
        key = key_of(case.identity(setup))
        if key in seen:
            raise ConfigError(f"cases: expected different ones, got {case.name}, which is {seen[key]}; leave one out")
        seen[key] = case.name


def silent(done: int, total: int, last: str) -> None:
    """Tell nothing."""
