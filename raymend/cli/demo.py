"""`raymend demo`: a low-dose scan reconstructed in several ways, with a table, pictures and a page."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from raymend.cli import common
from raymend.cli.common import Debug, Json, SettingsFile
from raymend.cli.guard import noticed
from raymend.cli.loading import load_scan, load_stated
from raymend.cli.progress import announce_compilation, progress

if TYPE_CHECKING:
    from raymend.demonstration import Demonstration
    from recon import Scan


def demo(
    out: Annotated[Path, typer.Option(help="The folder for pictures and page.")] = Path("raymend-demo"),
    scan: Annotated[Path | None, typer.Option(help="Your projections instead of simulated ones.")] = None,
    size: Annotated[str, typer.Option(help="Size of the simulation: normal or small.")] = "normal",
    seed: Annotated[int | None, typer.Option(help="Chest and noise of the simulation.", show_default="3")] = None,
    settings: SettingsFile = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Simulate, reconstruct and compare; or use your scan."""
    begun = time.perf_counter()
    common.check_demo(size, seed)
    if settings is not None and scan is None:
        raise common.config_error("--settings: needs --scan FILE; the simulated scan states its own geometry")
    with _folder(out):
        announce_compilation(quiet=json)
        outcome = _simulation(size, seed, quiet=json) if scan is None else _measured(scan, settings, quiet=json)
        simulated = outcome.scan if scan is None else None
        _write(out, outcome, simulated, source=scan, seconds=time.perf_counter() - begun)
    if json:
        _print_json(out, outcome, time.perf_counter() - begun)
    else:
        _print(out, outcome, scan or out / "scan.h5")


def _simulation(size: str, seed: int | None, *, quiet: bool) -> "Demonstration":
    from raymend.demonstration import PHOTONS, SEED, SIZES, simulated_case

    seed = SEED if seed is None else seed
    common.say(f"simulating a low-dose scan of a thorax: {PHOTONS:g} photons per pixel, seed {seed}", quiet=quiet)
    scan, grid, truth = simulated_case(SIZES[size], seed)
    return _compared(scan, grid, truth, f"A low-dose thorax, {PHOTONS:,.0f} photons per pixel", quiet=quiet)


def _measured(path: Path, settings: Path | None, *, quiet: bool) -> "Demonstration":
    import math

    from raymend.demonstration import user_grid

    stated = load_stated(settings)
    scan = load_scan(path, stated)
    grid = stated.grid(scan.geometry) if stated.settings.grid.given() else user_grid(scan)
    common.check_memory(math.prod(grid.shape), scan.values.numel(), volumes=12)
    return _compared(scan, grid, None, path.name, quiet=quiet)


def _compared(scan: "Scan", grid: object, truth: object, title: str, *, quiet: bool) -> "Demonstration":
    from raymend.demonstration import ITERATIONS, demonstrate

    common.say("reconstructing, first plainly, then carefully", quiet=quiet)
    with progress("PWLS", ITERATIONS, quiet=quiet) as advance:
        return demonstrate(
            scan,
            grid,  # type: ignore[arg-type]
            truth,  # type: ignore[arg-type]
            title=title,
            progress=lambda label, done, limit: advance(done, ""),
        )


def _write(out: Path, outcome: "Demonstration", scan: "Scan | None", *, source: Path | None, seconds: float) -> None:
    """Write pictures, page and, for a simulation, the scan; all is drawn before the first file appears."""
    from raymend import report
    from recon.io import atomic_write, write_scan

    drawn = report.pictures(outcome)
    html = report.page(outcome, drawn, seconds=seconds, command="\n".join(_next(source or out / "scan.h5")))
    for name, content in {**drawn, "index.html": html.encode()}.items():
        with atomic_write(out / name) as temporary:
            temporary.write_bytes(content)
    if scan is not None:
        write_scan(out / "scan.h5", scan)


def _print(out: Path, outcome: "Demonstration", source: Path) -> None:
    from raymend import report

    print(f"\n{outcome.title}\n")
    print("\n".join(_aligned(*report.table(outcome))))
    print("\n  " + "\n  ".join(report.measured_on(outcome)))

    print(f"\npictures and a page to open in a browser: {out / 'index.html'}")
    print("next:\n  " + "\n  ".join(_next(source)))


def _aligned(headings: list[str], rows: list[list[str]]) -> list[str]:
    """Align columns: the first to the left, numbers to the right."""
    widths = [max(len(line[i]) for line in (headings, *rows)) for i in range(len(headings))]
    return [
        "  "
        + "  ".join(cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True)))
        for line in (headings, *rows)
    ]


def _print_json(out: Path, outcome: "Demonstration", seconds: float) -> None:
    from raymend import report

    content = {
        "folder": str(out),
        "page": str(out / "index.html"),
        "title": outcome.title,
        "shape": outcome.grid.shape,
        "results": report.numbers(outcome),
        "seconds": round(seconds, 3),
        "warnings": noticed(),
    }
    common.print_json(content)


def _next(source: Path) -> list[str]:
    return [
        f"raymend info {source}",
        f"raymend reconstruct {source} -o image.nii.gz --method pwls-spad --unit hu",
        f"raymend reconstruct {source} -o image.png --method os-sart --iterations 5",
        "raymend demo --scan YOUR_SCAN.h5 --out your-demo",
    ]


@contextlib.contextmanager
def _folder(out: Path) -> Iterator[None]:
    """Make the folder and hold it; a folder of our own making goes again if nothing came into it."""
    from recon.io import locked_folder

    if out.exists() and not out.is_dir():
        raise common.config_error(f"--out {out}: expected a folder, got a file; choose another name")
    made = not out.exists()
    if made and not out.absolute().parent.is_dir():
        raise common.config_error(f"--out {out}: the folder {out.absolute().parent} does not exist; make it first")
    try:
        out.mkdir(exist_ok=True)
    except OSError as problem:
        raise common.config_error(f"--out {out}: cannot be made ({problem.strerror}); choose another name") from problem
    try:
        with locked_folder(out):
            yield
    finally:
        if made and [item.name for item in out.iterdir()] == [".raymend.lock"]:
            (out / ".raymend.lock").unlink()
            out.rmdir()
