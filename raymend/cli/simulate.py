"""`raymend simulate`: a scan of a phantom, a random patient or a CT volume, with or without noise."""

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from raymend.cli import common
from raymend.cli.common import Debug, Json
from raymend.cli.guard import noticed
from raymend.cli.progress import announce_compilation

if TYPE_CHECKING:
    from phantoms import Dose
    from phantoms.voxels import Scannable
    from recon import Scan
    from recon.geometry.presets import Preset

_AT_THE_DOSE = ("electronic", "focal_spot", "crosstalk", "dead", "bowtie")


def simulate(
    output: Annotated[Path, typer.Option("--output", "-o", help="The scan to write: .h5, .npz or .zarr.")],
    phantom: Annotated[
        str | None,
        typer.Option(
            help="What is scanned: thorax, anatomy-abdomen, ...; an unknown name lists all.", show_default="thorax"
        ),
    ] = None,
    patient: Annotated[
        int | None,
        typer.Option(help="Which patient of anatomy-..., thorax or head.", show_default="0 of anatomy-..."),
    ] = None,
    thing: Annotated[
        Path | None, typer.Option("--object", help="A CT volume to scan instead: DICOM folder, NIfTI, ...")
    ] = None,
    object_unit: Annotated[
        str | None, typer.Option(help="hu or mm (attenuation in 1/mm).", show_default="what the volume states")
    ] = None,
    height: Annotated[
        float | None, typer.Option(help="Height of --object in the beam's middle, in mm.", show_default="its middle")
    ] = None,
    energy: Annotated[
        float | None, typer.Option(help="Of the beam in keV; HU become attenuation there.", show_default="70")
    ] = None,
    preset: Annotated[str, typer.Option(help="The scanner; an unknown name lists all.")] = "somatom16",
    views: Annotated[int | None, typer.Option(help="Number of views.", show_default="the preset's")] = None,
    photons: Annotated[
        float | None, typer.Option(help="Photons per pixel and view without an object.", show_default="no noise")
    ] = None,
    mas: Annotated[
        float | None, typer.Option(help="Instead of --photons: tube current times time per view in mAs.")
    ] = None,
    photons_per_mas: Annotated[
        float | None, typer.Option(help="With --mas: photons per pixel and mAs without an object.")
    ] = None,
    electronic: Annotated[float, typer.Option(help="Variance of the electronic noise in photons squared.")] = 0.0,
    focal_spot: Annotated[float, typer.Option(help="Width of the X-ray source in mm, at half maximum.")] = 0.0,
    crosstalk: Annotated[float, typer.Option(help="Share of its photons that a pixel loses to each neighbour.")] = 0.0,
    dead: Annotated[float, typer.Option(help="Share of pixels that count nothing.")] = 0.0,
    bowtie: Annotated[bool, typer.Option("--bowtie", help="Fewer photons towards the edge of the fan.")] = False,
    seed: Annotated[int, typer.Option(help="What the noise is drawn from.")] = 0,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Simulate a scan of a phantom, a random patient or a CT volume and write it."""
    common.check_output(output, [] if thing is None else [thing])
    begun = time.perf_counter()
    told = {
        "electronic": electronic, "focal_spot": focal_spot, "crosstalk": crosstalk, "dead": dead, "bowtie": bowtie,
    }  # fmt: skip
    dose = _dose(photons, mas, photons_per_mas, told)
    scanner = _scanner(preset, views)
    body = _object(thing, phantom, patient=patient, unit=object_unit, height=height, energy=energy)
    scan = _simulated(body, scanner, dose, seed, quiet=json)
    from recon.io import write_scan

    write_scan(output, scan)
    if json:
        content = {
            "output": str(output),
            "phantom": body.name if thing is not None else phantom or "thorax",
            "patient": patient,
            "energy": scan.calibration.energy,
            "preset": preset,
            "shape": tuple(scan.values.shape),
            "photons": None if dose is None else dose.photons,
            **told,
            "seed": None if dose is None else seed,
            "max": float(scan.values.max()),
            "seconds": round(time.perf_counter() - begun, 3),
            "warnings": noticed(),
        }
        common.print_json(content)
        return
    print(f"{output}: {body.name} on {preset}, {' x '.join(map(str, scan.values.shape))} (view, row, column)")
    print(f"next: raymend reconstruct {output} -o image.nii.gz{' --method pwls-spad' if dose else ''}")


def _object(
    path: Path | None, phantom: str | None, *, patient: int | None, unit: str | None, height: float | None,
    energy: float | None,
) -> "Scannable":  # fmt: skip
    """Make what is scanned; options of the one kind beside the other are refused."""
    from raymend.scanned import by_name, from_file

    files = {"--object-unit": unit, "--height": height}
    figures = {"--phantom": phantom, "--patient": patient}
    idle = [name for name, value in (files if path is None else figures).items() if value is not None]
    if idle:
        other = "without --object FILE" if path is None else f"with --object {path}"
        raise common.config_error(f"{', '.join(idle)}: expected none {other}; leave one of them out")
    if path is None:
        return by_name(phantom or "thorax", patient=patient, energy=energy)
    return from_file(path, energy=energy, unit=unit, height=height or 0.0)


def _scanner(name: str, views: int | None) -> "Preset":
    """Return the scanner, unless its scan cannot fit into memory."""
    import math

    from recon import checks
    from recon.geometry.presets import preset

    if views is not None and views < 1:
        raise common.config_error(f"--views: expected 1 or more, got {views}")
    chosen = preset(name)
    count = views or len(chosen.geometry)
    values = count * (math.prod(chosen.geometry.detector.shape) + 64)  # 64 numbers are a view's own
    checks.fits_memory("simulation", 4 * 6 * values, advice="take fewer --views")
    return chosen.with_views(views)


def _simulated(body: "Scannable", scanner: "Preset", dose: "Dose | None", seed: int, *, quiet: bool) -> "Scan":
    import phantoms
    from raymend.scanned import energy_of

    announce_compilation(quiet=quiet)
    scan = phantoms.simulate(body, scanner.geometry, dose=dose, seed=seed)
    return scan.changed(calibration=replace(scan.calibration, energy=energy_of(body)))


def _dose(
    photons: float | None, mas: float | None, photons_per_mas: float | None, told: dict[str, Any]
) -> "Dose | None":
    """Make the dose of the options, or None for a scan without noise."""
    from phantoms import BowTie, Dose
    from recon import checks

    if (mas is None) != (photons_per_mas is None):
        raise common.config_error(
            "--mas and --photons-per-mas belong together: what an air scan gives per mAs turns mAs into photons"
        )
    if photons is None and mas is None:
        idle = [f"--{name.replace('_', '-')}" for name in _AT_THE_DOSE if told[name]]
        if idle:
            needs = "needs" if len(idle) == 1 else "need"
            raise common.config_error(
                f"{', '.join(idle)}: {needs} --photons N, or --mas; without photons the scan has no noise"
            )
        return None
    if photons is not None and mas is not None:
        raise common.config_error("--photons, --mas: expected one of them, got both; leave one out")
    settings = told | {"bowtie": BowTie() if told["bowtie"] else None}
    if mas is not None and photons_per_mas is not None:
        current = checks.positive("--mas", mas, unit="mAs")
        rate = checks.positive("--photons-per-mas", photons_per_mas, unit="1/mAs")
        return Dose.of_current(current, photons_per_mas=rate, **settings)
    return Dose(photons=photons or 0.0, **settings)
