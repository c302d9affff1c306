"""`raymend reduce-dose`: what a measured scan would have been at a lower dose."""

import math
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from raymend.cli import common
from raymend.cli.common import Debug, Json, SettingsFile
from raymend.cli.guard import noticed
from raymend.cli.loading import load_scan, load_stated

if TYPE_CHECKING:
    from recon import Scan


def reduce_dose(
    scan: Annotated[Path, typer.Argument(help="A scan with noise.")],
    to: Annotated[str, typer.Option("--to", help="Share of the dose to keep, such as 25% or 0.25.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The scan to write: .h5, .npz or .zarr.")],
    photons: Annotated[
        float | None,
        typer.Option(help="Photons per pixel without an object at full dose.", show_default="what the scan states"),
    ] = None,
    electronic: Annotated[
        float | None,
        typer.Option(
            help="Variance of the electronic noise in photons squared.", show_default="what the scan states, or 0"
        ),
    ] = None,
    crosstalk: Annotated[float, typer.Option(help="Share of its photons that a pixel loses to each neighbour.")] = 0.0,
    seed: Annotated[int, typer.Option(help="What the noise is drawn from.")] = 0,
    settings: SettingsFile = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Insert the noise that a measured scan lacks to be one of a lower dose, and write it."""
    fraction = parse_fraction(to)
    common.check_output(output, [scan])
    begun = time.perf_counter()
    from recon import reduce_dose as reduced
    from recon.io import write_scan

    full = _stated(load_scan(scan, load_stated(settings)), photons, electronic)
    low = reduced(full, fraction, seed=seed, crosstalk=crosstalk)
    write_scan(output, low)
    content = {
        "output": str(output),
        "fraction": fraction,
        "photons": low.calibration.photons,
        "electronic": low.calibration.electronic,
        "crosstalk": crosstalk,
        "seed": seed,
        "shape": tuple(low.values.shape),
        "seconds": round(time.perf_counter() - begun, 3),
        "warnings": noticed(),
    }
    if json:
        common.print_json(content)
        return
    print(f"{output}: {100 * fraction:g} % of the dose, {low.calibration.photons:g} photons per pixel")
    print(f"next: raymend reconstruct {output} -o image.nii.gz --method pwls-spad")


def parse_fraction(text: str, option: str = "--to") -> float:
    """Read a share such as `25%` or `0.25`."""
    wanted = f"{option}: expected a share of the dose above 0 and up to 100%, such as 25% or 0.25"
    try:
        share = float(text.strip().removesuffix("%")) / (100 if text.strip().endswith("%") else 1)
    except ValueError:
        share = math.nan
    if not 0 < share <= 1:
        meant = f"; did you mean {text}%?" if 1 < share <= 100 and "%" not in text else ""
        raise common.config_error(f"{wanted}, got {text!r}{meant}")
    return share


def _stated(scan: "Scan", photons: float | None, electronic: float | None) -> "Scan":
    """Put the options in the place of what the scan states."""
    given = {name: value for name, value in (("photons", photons), ("electronic", electronic)) if value is not None}
    return scan.changed(calibration=replace(scan.calibration, **given)) if given else scan
