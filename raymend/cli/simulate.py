"""`raymend simulate`: a scan of a phantom, with or without noise."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from raymend.cli import common
from raymend.cli.common import Debug, Json
from raymend.cli.guard import noticed
from raymend.cli.progress import announce_compilation

if TYPE_CHECKING:
    from phantoms import Dose
    from recon import Scan


def simulate(
    output: Annotated[Path, typer.Option("--output", "-o", help="The scan to write: .h5, .npz or .zarr.")],
    phantom: Annotated[str, typer.Option(help="What is scanned; an unknown name lists all.")] = "thorax",
    preset: Annotated[str, typer.Option(help="The scanner; an unknown name lists all.")] = "somatom16",
    views: Annotated[int | None, typer.Option(help="Number of views.", show_default="the preset's")] = None,
    photons: Annotated[
        float | None, typer.Option(help="Photons per pixel without an object.", show_default="no noise")
    ] = None,
    electronic: Annotated[float, typer.Option(help="Variance of the electronic noise in photons squared.")] = 0.0,
    seed: Annotated[int, typer.Option(help="What the noise is drawn from.")] = 0,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Simulate a scan of a phantom and write it."""
    common.check_output(output)
    begun = time.perf_counter()
    scan = _simulated(phantom, preset, views, _dose(photons, electronic), seed, quiet=json)
    from recon.io import write_scan

    write_scan(output, scan)
    content = {
        "output": str(output),
        "phantom": phantom,
        "preset": preset,
        "shape": tuple(scan.values.shape),
        "photons": photons,
        "electronic": electronic,
        "seed": None if photons is None else seed,
        "max": float(scan.values.max()),
        "seconds": round(time.perf_counter() - begun, 3),
        "warnings": noticed(),
    }
    if json:
        common.print_json(content)
        return
    print(f"{output}: {phantom} on {preset}, {' x '.join(map(str, scan.values.shape))} (view, row, column)")
    print(f"next: raymend reconstruct {output} -o image.nii.gz")


def _simulated(phantom: str, preset: str, views: int | None, dose: "Dose | None", seed: int, *, quiet: bool) -> "Scan":
    import math

    import phantoms
    from recon import checks
    from recon.geometry.presets import preset as scanner

    if views is not None and views < 1:
        raise common.config_error(f"--views: expected 1 or more, got {views}")
    chosen = scanner(preset)
    count = views or len(chosen.geometry)
    values = count * (math.prod(chosen.geometry.detector.shape) + 64)  # 64 numbers are a view's own
    checks.fits_memory("simulation", 4 * 6 * values, advice="take fewer --views")
    body, geometry = phantoms.phantom(phantom), chosen.with_views(views).geometry
    announce_compilation(quiet=quiet)
    return phantoms.simulate(body, geometry, dose=dose, seed=seed)


def _dose(photons: float | None, electronic: float) -> "Dose | None":
    from phantoms import Dose

    if photons is None:
        if electronic:
            raise common.config_error("--electronic: needs --photons N; without photons the scan has no noise")
        return None
    return Dose(photons=photons, electronic=electronic)
