"""Comparisons of methods by `raymend compare`: held-out patients, real slices, real pairs of doses, measured scans.

    python benchmarks/comparisons.py                      # all of them, half an hour on two quiet cores
    python benchmarks/comparisons.py --only patients      # one of them
    python benchmarks/comparisons.py --folder DIR         # where cells and reports stay, to go on after a stop

Each runs the command that RESULTS.md shows, in the folder of the measured data (RAYMEND_TEST_DATA, or `shared/data`
beside the checkout); what needs data that are absent is left out. Tables go to `comparisons.json` and RESULTS.md.
"""

import argparse
import contextlib
import json
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from low_dose_cases import data_folder
from table import machine, render

from raymend import compare
from raymend.comparison.outcome import Outcome
from raymend.comparison.text import markdown
from recon.io.atomic import atomic_write

HERE = Path(__file__).parent
IMAGE = "fbp,nlm,bilateral,tv,wavelet,red-cnn,unet"
ALL = "fbp,fbp-hann,nlm,bilateral,tv,wavelet,red-cnn,unet,pwls-gibbs,pwls-tv,pwls-spad,pwls-image-tv"
SLICES = (
    "ct_chest_siemens/dicom_original@1,ct_neck_jaw_philips/dicom_original@2,ct_head_phantom_philips/dicom_std@0,"
    "nifti_abdomen/dicom_jpeg2000@0,ldct_pairs_mayo/L143_FD/000073.IMA,ldct_pairs_mayo/L143_FD/000105.IMA,"
    "ldct_pairs_mayo/L192_FD/000024.IMA"
)


def pair(patient: str, number: str) -> str:
    """Return a quarter-dose slice with its full-dose one, as a case."""
    folder = "ldct_pairs_mayo"
    return f"{folder}/{patient}_QD/{number}.IMA={folder}/{patient}_FD/{number}.IMA"


L143, L192 = f"{pair('L143', '000073')},{pair('L143', '000105')}", pair("L192", "000024")
TESTED = "htc2022_fanbeam/htc2022_ta_full.mat,htc2022_fanbeam/htc2022_solid_disc_full.mat"
TUNED = "htc2022_fanbeam/htc2022_tb_full.mat,htc2022_fanbeam/htc2022_tc_full.mat"


@dataclass(frozen=True, kw_only=True)
class Command:
    """A comparison: its title, and the options of `raymend compare`."""

    title: str
    methods: str
    cases: str
    tuning: str | None = None
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def data(self) -> bool:
        """Whether it needs measured data."""
        return "/" in self.cases

    @property
    def words(self) -> str:
        """The command line."""
        told = {"methods": self.methods, "cases": self.cases, "tuning-cases": self.tuning}
        told |= {_OPTIONS.get(name, name): value for name, value in self.options.items()}
        parts = ["raymend", "compare"]
        for name, value in told.items():
            parts += [] if value is None else [f"--{name}", shlex.quote(_text(value))]
        return " ".join(parts)

    def run(self, out: Path, tell: Any) -> Outcome:
        """Compare, or go on with it."""
        return compare(
            self.methods.split(","), self.cases.split(","), out=out, progress=tell,
            tuning=None if self.tuning is None else self.tuning.split(","), **self.options,
        )  # fmt: skip


_OPTIONS = {"fraction": "dose"}


def _text(value: Any) -> str:
    """Return a value as the command line takes it."""
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


COMMANDS = {
    "patients": Command(
        title="Five held-out patients", methods=ALL, options={"photons": 5e4},
        cases="anatomy-thorax:11,anatomy-abdomen:12,anatomy-head:13,anatomy-jaw:14,anatomy-thorax:15",
    ),
    "slices": Command(
        title="Seven slices of real scans as objects", methods=ALL, cases=SLICES, options={"photons": 5e4, "draws": 2},
    ),
    "mayo-143": Command(
        title="Quarter dose beside full dose: Mayo L143, tuned on L192", methods=IMAGE, cases=L143, tuning=L192,
        options={"metrics": ("rmse", "ssim", "ttf50"), "contrast": 300.0},
    ),
    "mayo-192": Command(
        title="Quarter dose beside full dose: Mayo L192, tuned on L143", methods=IMAGE, cases=L192, tuning=L143,
        options={"metrics": ("rmse", "ssim", "ttf50"), "contrast": 300.0},
    ),
    "htc-dose": Command(
        title="Measured fan-beam scans at a tenth of the dose", methods=ALL, cases=TESTED, tuning=TUNED,
        options={"fraction": 0.1, "draws": 2},
    ),
    "htc-views": Command(
        title="Measured fan-beam scans, 90 of 721 views",
        methods="fbp,fbp-hann,nlm,tv,unet,cgls,sirt,pwls-huber,pwls-image-tv",
        cases=TESTED, tuning=TUNED, options={"views": 90},
    ),
}  # fmt: skip


@contextlib.contextmanager
def inside(folder: Path | None) -> Iterator[None]:
    """Work in a folder, so that cases have short names."""
    with contextlib.chdir(folder) if folder is not None else contextlib.nullcontext():
        yield


def tell(done: int, total: int, last: str) -> None:
    """Say how far it is."""
    print(f"  {done} of {total}: {last}", file=sys.stderr, flush=True)


def record(command: Command, outcome: Outcome, seconds: float) -> dict[str, Any]:
    """Return what is kept of a comparison."""
    about = machine(1)
    return {
        "title": command.title,
        "command": command.words,
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "processor": about["processor"],
        "cores": about["cores"],
        "seconds": round(seconds),
        "table": markdown(outcome),
        "failures": outcome.failures(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(COMMANDS), help=f"of {', '.join(COMMANDS)}")
    parser.add_argument("--folder", type=Path, help="where cells and reports stay")
    told = parser.parse_args()
    folder, data = told.folder or Path(tempfile.mkdtemp(prefix="raymend-comparisons-")), data_folder()
    folder = folder.absolute()
    folder.mkdir(exist_ok=True)
    path = HERE / "comparisons.json"
    for name in told.only.split(","):
        command = COMMANDS[name]
        if command.data and data is None:
            print(f"{name}: left out, its data are absent; set RAYMEND_TEST_DATA", file=sys.stderr)
            continue
        print(f"{name}: {command.words}", file=sys.stderr)
        begun, goes_on = time.perf_counter(), (folder / name).exists()
        with inside(data):
            outcome = command.run(folder / name, tell)
        rows = json.loads(path.read_text()) if path.exists() else {}
        before = rows.get(name, {})
        seconds = before.get("seconds", 0) if goes_on else 0  # of the run that made the cells
        rows[name] = record(command, outcome, max(seconds, time.perf_counter() - begun))
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
        render(HERE)
        print(outcome.table())
        print(folder / name / "report.html")
    return 0


if __name__ == "__main__":
    sys.exit(main())
