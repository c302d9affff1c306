"""`raymend.compare`: methods on cases under one setup, tuned alike, cell by cell, and gone on with where it stopped."""

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from os import PathLike
from pathlib import Path
from typing import Any

from raymend.comparison.catalogue import TUNING, cases_of
from raymend.comparison.engine import Comparison, Progress, Run, silent
from raymend.comparison.methods import methods_of
from raymend.comparison.outcome import Outcome
from raymend.comparison.setup import Setup
from raymend.comparison.store import Store, check_folder, claim
from raymend.machine import processors
from recon import checks
from recon.io.atomic import atomic_write, locked_folder


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
        settings: of `Setup`: preset, views, photons, electronic, fraction, size, resample, seed, draws, window,
            display, reference, budget, contrast, faint.

    Returns:
        The numbers with intervals, images and failures. A method that raises, or returns NaN or another shape, fails in
        its cells alone.

    Raises:
        ConfigError: an unknown method, case, metric or setting; patients that were trained or tuned on; or a folder of
            another comparison.
    """
    setup = setup_of(settings | {"metrics": (metrics,) if isinstance(metrics, str) else tuple(metrics)})
    comparison = Comparison.of(
        methods_of(methods), cases_of(cases), cases_of(TUNING if tuning is None else tuning), setup
    )
    with folder_for(out, comparison.about, resume=resume) as folder:
        outcome = Run(comparison, Store(folder), workers(processes), progress or silent).outcome()
        if out is not None:
            _write(outcome, folder)
    return outcome


def setup_of(settings: Mapping[str, Any]) -> Setup:
    """Return the setup of keywords, or name those it does not know."""
    known = [field.name for field in fields(Setup)]
    for name in settings:
        checks.choice("settings", name, known)
    return Setup(**settings)


def workers(processes: int | None) -> int:
    """Return how many processes work: one for each processor unless told otherwise."""
    return processors() if processes is None else checks.counts("processes", (processes,), 1)[0]


@contextmanager
def folder_for(out: "str | PathLike[str] | None", about: Mapping[str, Any], *, resume: bool) -> Iterator[Path]:
    """Give the folder of what is compared, held for this run, or a temporary one."""
    if out is None:
        with tempfile.TemporaryDirectory(prefix="raymend-") as folder:
            yield Path(folder)
        return
    path = Path(out)
    check_folder(path, about, resume=resume)
    path.mkdir(exist_ok=True)
    with locked_folder(path):
        claim(path, about)
        yield path


def _write(outcome: Outcome, folder: Path) -> None:
    """Write tables, figures and the report."""
    from raymend.comparison.pictures import files

    outcome.to_csv(folder / "scores.csv")
    outcome.to_json(folder / "scores.json")
    (folder / "figures").mkdir(exist_ok=True)
    for name, content in files(outcome).items():
        with atomic_write(folder / "figures" / name) as temporary:
            temporary.write_bytes(content)
    outcome.report(folder / "report.html")
