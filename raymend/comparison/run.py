"""`raymend.compare`: methods on cases under one setup, tuned alike, cell by cell, and gone on with where it stopped."""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from raymend.comparison import tuning as tune
from raymend.comparison.bench import Bench
from raymend.comparison.cases import Case
from raymend.comparison.catalogue import TUNING, cases_of
from raymend.comparison.job import Job
from raymend.comparison.methods import Method, methods_of
from raymend.comparison.outcome import Cell, Entrant, Outcome, Shown
from raymend.comparison.processes import run
from raymend.comparison.scoring import measures
from raymend.comparison.setup import Setup
from raymend.comparison.store import Store, check_folder, claim
from raymend.machine import processors
from recon import checks
from recon.io.atomic import locked_folder

#: Told how many cells are finished, of how many, and which was the last.
Progress = Callable[[int, int, str], None]


def compare(
    methods: Iterable[Any],
    cases: Iterable[Any],
    *,
    metrics: Sequence[str] = ("rmse", "ssim", "fsim"),
    tuning: Iterable[Any] | None = None,
    out: "str | PathLike[str] | None" = None,
    resume: bool = False,
    processes: int | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> Outcome:
    """Compare reconstruction and denoising methods on the same data, under one protocol and with equal tuning.

    Args:
        methods: names that `raymend methods` lists, denoisers, functions of an image (y, x) in HU and its noise, or
            "file.py:function". The first is the baseline of relative changes.
        cases: "shepp-logan" or another phantom, "anatomy-thorax:7" for a random patient, "anatomy-head:0..4" for
            several, a file with a volume ("ct.nii.gz@12" for one slice) or a measured scan, "low.dcm=full.dcm" for a
            pair of images, or objects to scan.
        metrics: what is measured: "rmse", "psnr", "ssim", "fsim", "correlation"; "noise", "bias", "noise-frequency",
            "ttf50", "cnr", "detectability"; of volumes "slice-change", "ssim-coronal", "ssim-sagittal".
        tuning: cases that strengths are chosen on, for each method as many; None for three random patients. No patient
            of the test may be among them.
        out: folder for cells, tables, figures and report; a comparison in it goes on where it stopped, with more
            methods or cases, too. None keeps nothing.
        resume: go on in a folder whose comparison was another one, with the cells that fit.
        processes: how many work at a time; None for one per processor.
        progress: called with the numbers of finished cells and of all, and the last cell's name.
        settings: of `Setup`: preset, views, photons, electronic, fraction, size, seed, draws, window, reference,
            budget, contrast, faint.

    Returns:
        The numbers with intervals, images and failures. A method that raises, or returns NaN or another shape, fails in
        its cells alone.

    Raises:
        ConfigError: an unknown method, case, metric or setting; patients that were trained or tuned on; or a folder of
            another comparison.
    """
    setup = Setup(metrics=tuple(metrics) if not isinstance(metrics, str) else (metrics,), **settings)
    plan = _Plan.of(methods_of(methods), cases_of(cases), cases_of(TUNING if tuning is None else tuning), setup)
    many = processors() if processes is None else checks.counts("processes", (processes,), 1)[0]
    with _folder(out, plan, resume=resume) as folder:
        outcome = _Run(plan, Store(folder), many, progress or _silent).outcome()
        if out is not None:
            _write(outcome, folder)
    return outcome


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """What is asked for."""

    methods: tuple[Method, ...]
    cases: tuple[Case, ...]
    tuning: tuple[Case, ...]
    setup: Setup

    @classmethod
    def of(
        cls, methods: tuple[Method, ...], cases: tuple[Case, ...], tuning: tuple[Case, ...], setup: Setup
    ) -> "_Plan":
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


class _Run:
    """A comparison under way."""

    def __init__(self, plan: _Plan, store: Store, processes: int, progress: Progress) -> None:
        self._plan, self._store, self._processes, self._progress = plan, store, processes, progress
        self._bench = Bench()
        self._cells: dict[str, Cell] = {}
        self._total = 0

    def outcome(self) -> Outcome:
        """Do what is left to do, and gather all."""
        plan, setup = self._plan, self._plan.setup
        tuning = {m.name: tune.jobs_of(m, plan.tuning, setup) for m in plan.methods if tune.tuned(m, setup)}
        self._total = sum(map(len, tuning.values())) + len(plan.methods) * len(plan.cases)
        self._do([job for jobs in tuning.values() for job in jobs])
        strengths = {name: tune.best(jobs, self._cells) for name, jobs in tuning.items()}
        tests = {
            (case.name, method.name): Job(
                case=case, method=method, strength=strengths.get(method.name) or 1.0, setup=setup
            )
            for case in plan.cases
            for method in plan.methods
        }
        self._do(list(tests.values()))
        shown = tuple(self._shown(next(job for job in tests.values() if job.case is case)) for case in plan.cases)
        return Outcome(
            setup=setup,
            entrants=tuple(self._entrant(method, strengths.get(method.name)) for method in plan.methods),
            shown=shown,
            measures=measures(setup, shown),
            cells={names: self._cells[job.key] for names, job in tests.items()},
            tuning=self._tuning_words(),
        )

    def _do(self, jobs: Sequence[Job]) -> None:
        """Make the cells that are not there yet."""
        for job in jobs:
            if self._store.has(job.key):
                self._done(job, self._store.cell(job.key))
        run([job for job in jobs if job.key not in self._cells], self._store, self._bench, self._processes, self._done)

    def _done(self, job: Job, cell: Cell) -> None:
        self._cells[job.key] = cell
        self._progress(len(self._cells), self._total, f"{job.method.name} on {job.case.name}")

    def _shown(self, job: Job) -> Shown:
        found = self._store.shown(job.case_key, job.case.name)
        return self._bench.shown(job.case, job.setup) if found is None else found

    def _entrant(self, method: Method, strength: float | None) -> Entrant:
        how = tune.words(method, self._plan.setup, strength, len(self._plan.tuning))
        return Entrant(name=method.name, label=method.label, source=method.source, tuning=how, note=method.note)

    def _tuning_words(self) -> str:
        return ", ".join(case.name for case in self._plan.tuning)


@contextmanager
def _folder(out: "str | PathLike[str] | None", plan: _Plan, *, resume: bool) -> Iterator[Path]:
    """Give the folder of a comparison, held for this run, or a temporary one."""
    if out is None:
        with tempfile.TemporaryDirectory(prefix="raymend-") as folder:
            yield Path(folder)
        return
    path = Path(out)
    check_folder(path, plan.about, resume=resume)
    path.mkdir(exist_ok=True)
    with locked_folder(path):
        claim(path, plan.about)
        yield path


def _write(outcome: Outcome, folder: Path) -> None:
    """Write tables, figures and the report."""
    from raymend.comparison.pictures import files
    from recon.io.atomic import atomic_write

    outcome.to_csv(folder / "scores.csv")
    outcome.to_json(folder / "scores.json")
    (folder / "figures").mkdir(exist_ok=True)
    for name, content in files(outcome).items():
        with atomic_write(folder / "figures" / name) as temporary:
            temporary.write_bytes(content)
    outcome.report(folder / "report.html")


def _silent(done: int, total: int, last: str) -> None:
    """Tell nothing."""
