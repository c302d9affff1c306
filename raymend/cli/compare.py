"""`raymend compare` and `raymend methods`: methods on cases, tuned alike, with a table, a CSV and a report."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from raymend.cli import common
from raymend.cli.common import Debug, Json
from raymend.cli.guard import Resumable
from raymend.cli.progress import Advance, progress

if TYPE_CHECKING:
    from raymend.comparison.outcome import Outcome

METHODS = "fbp,fbp-hann,nlm,tv,red-cnn,unet,pwls-spad"
CASES = "anatomy-thorax:1,anatomy-abdomen:2,anatomy-head:3"


def compare(
    methods: Annotated[
        str, typer.Option(help="Names that `raymend methods` lists, or file.py:function; the first is the baseline.")
    ] = METHODS,
    cases: Annotated[
        str,
        typer.Option(
            help="Phantoms, patients (anatomy-thorax:0..4), volumes (ct.nii.gz@12 for a slice), measured scans, or "
            "pairs of images (low.dcm=full.dcm)."
        ),
    ] = CASES,
    out: Annotated[Path, typer.Option(help="The folder for tables, figures and report.")] = Path("raymend-compare"),
    metrics: Annotated[
        str,
        typer.Option(
            help="rmse, psnr, ssim, fsim, correlation; noise, bias, noise-frequency, ttf50, cnr, detectability; "
            "slice-change, ssim-coronal, ssim-sagittal."
        ),
    ] = "rmse,ssim,fsim",
    preset: Annotated[str, typer.Option(help="Scanner of simulated cases; an unknown name lists all.")] = "somatom16",
    photons: Annotated[str, typer.Option(help="Per pixel and view without an object; none for no noise.")] = "1e5",
    electronic: Annotated[float, typer.Option(help="Variance of the electronic noise in photons squared.")] = 11.0,
    views: Annotated[int | None, typer.Option(help="Number of views.", show_default="all")] = None,
    dose: Annotated[str, typer.Option(help="Share of their dose that measured scans keep, such as 25%.")] = "100%",
    size: Annotated[int, typer.Option(help="Pixels along a side of the image.")] = 256,
    seed: Annotated[int, typer.Option(help="Of the first noise draw.")] = 0,
    draws: Annotated[int, typer.Option(help="How often the noise is drawn, for intervals.")] = 3,
    window: Annotated[
        str, typer.Option(help="low,high in HU, or chest, abdomen or neuro: of PSNR, SSIM and FSIM.")
    ] = "-1000,1000",
    display: Annotated[
        str | None, typer.Option(help="The pictures' window, such as -160,240.", show_default="--window")
    ] = None,
    reference: Annotated[
        str, typer.Option(help="What simulated scans are compared with: phantom or noise-free (projections).")
    ] = "phantom",
    budget: Annotated[int, typer.Option(help="Strengths tried for each method that has one; 1 for no tuning.")] = 6,
    tuning_cases: Annotated[
        str | None, typer.Option(help="What strengths are chosen on.", show_default="three random patients")
    ] = None,
    contrast: Annotated[float, typer.Option(help="Of the inserts for ttf50, in HU.")] = 300.0,
    faint: Annotated[float, typer.Option(help="Of the inserts for cnr and detectability, in HU.")] = 40.0,
    resample: Annotated[
        bool, typer.Option("--resample", help="Bring a full-dose image on another grid to that of the low-dose one.")
    ] = False,
    processes: Annotated[int | None, typer.Option(help="How many work at a time.", show_default="one a core")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on in a folder whose comparison was another one.")
    ] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Compare methods on the same data under one protocol, tuned alike; run it again to go on."""
    from raymend.comparison.run import compare as run

    begun = time.perf_counter()
    with shown("comparing", quiet=json) as tell:
        outcome = run(
            split(methods), split(cases), metrics=split(metrics), out=out, resume=resume, processes=processes,
            tuning=None if tuning_cases is None else split(tuning_cases), progress=tell, preset=preset,
            photons=parse_photons(photons), electronic=electronic, views=views, fraction=_share(dose), size=size,
            seed=seed, draws=draws, window=parse_window(window), reference=reference, budget=budget, contrast=contrast,
            display=None if display is None else parse_window(display, "--display"), faint=faint, resample=resample,
        )  # fmt: skip
    seconds = time.perf_counter() - begun
    if json:
        common.print_json({"out": str(out), **outcome.as_dict(), "seconds": round(seconds, 1)})
    else:
        _print(outcome, out, seconds)


def methods(json: Json = False, debug: Debug = False) -> None:
    """List the methods that can be compared, and why the rest cannot run here."""
    from raymend.comparison.methods import methods as known

    found = [
        {
            "name": method.name, "label": method.label, "works on": method.needs, "settings": _TUNINGS[method.tuning],
            "missing": method.missing(), "source": method.source, "note": method.note,
        }
        for method in known().values()
    ]  # fmt: skip
    if json:
        common.print_json({"methods": found})
        return
    width = max(len(row["name"]) for row in found)
    for row in found:
        state = f"cannot run here: {row['missing']}" if row["missing"] else f"{row['works on']}; {row['settings']}"
        print(f"{row['name']:<{width}}  {row['label']} ({state})")
    print(
        "\nyour own: --methods fbp,my_denoiser.py:function, where function(image, noise) returns the image (y, x) in HU"
    )


_TUNINGS = {"none": "no settings", "self": "chosen by SURE on each scan", "strength": "a strength, tuned"}


def split(text: str) -> list[str]:
    """Return the words between commas."""
    return [word.strip() for word in text.split(",") if word.strip()]


def parse_photons(text: str) -> float | None:
    """Read a number of photons, or none."""
    if text.lower() == "none":
        return None
    try:
        return float(text)
    except ValueError:
        raise common.config_error(f"--photons: expected a number such as 1e5, or none, got {text!r}") from None


def parse_window(text: str, option: str = "--window") -> "tuple[float, float] | str | None":
    """Read limits in HU, the name of a window, or none."""
    from recon.metrics import WINDOWS

    if text in WINDOWS:
        return text
    if text.lower() == "none":
        return None
    try:
        return common.parse_window(text)
    except Exception:
        raise common.config_error(
            f"{option}: expected low,high in HU such as -160,240, or one of {', '.join(WINDOWS)}, got {text!r}"
        ) from None


def _share(text: str) -> float:
    from raymend.cli.reduce_dose import parse_fraction

    return 1.0 if text.strip() in ("100%", "1", "1.0") else parse_fraction(text, "--dose")


@contextlib.contextmanager
def shown(label: str, *, quiet: bool) -> Iterator[Any]:
    """Show how many cells are finished; how many there are is known with the first."""
    with contextlib.ExitStack() as stack:
        bars: list[Advance] = []

        def tell(done: int, total: int, last: str) -> None:
            if not bars:
                bars.append(stack.enter_context(progress(label, total, quiet=quiet)))
            bars[0](done, last)

        try:
            yield tell
        except KeyboardInterrupt:
            raise Resumable("interrupted; finished cells are kept, and the same command goes on from there") from None


def _print(outcome: "Outcome", out: Path, seconds: float) -> None:
    print(outcome.table())
    failed = len(outcome.failures())
    if failed:
        common.say(f"warning: {failed} of {len(outcome.cells)} cells failed; the table says why")
    print(f"\n{out / 'report.html'}: the report; {out / 'scores.csv'}: the numbers; {seconds:.0f} s")
