"""`raymend reconstruct`: from a scan file to a volume file."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from raymend.cli import common
from raymend.cli.common import Debug, Device, Json, Memory, Scratch, SettingsFile
from raymend.cli.job import Job
from raymend.cli.loading import load_scan, load_stated
from raymend.cli.progress import announce_compilation

if TYPE_CHECKING:
    from raymend.reconstruction import Settings
    from raymend.settings import ReconstructionTable, Stated
    from recon import Scan, VolumeGrid


_KINDS = {
    "analytic": "takes no iterations and has no prior",
    "algebraic": "is iterative, has no filter and no prior",
    "penalised": "is iterative and has no filter",
    "restoring": "takes no iterations",
}


def reconstruct(
    scan: Annotated[
        Path, typer.Argument(help="The projections: .h5, .zarr, .npz, .mat; what it is follows from its content.")
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="Where to write: .nii, .nii.gz, .tif, .npy, .zarr, or .png for one slice."),
    ],
    method: Annotated[
        str | None,
        typer.Option(
            help="fbp, fdk, cgls, sirt or os-sart. For noisy scans: pwls-gibbs, pwls-tv, pwls-spad or pwls-auto smooth "
            "the projections before fbp or fdk; pwls-quadratic, pwls-huber (or pwls), pwls-ggmrf, pwls-image-tv, "
            "pwls-diffusion or pwls-nonlocal fit the image itself.",
            show_default="what suits the geometry",
        ),
    ] = None,
    shape: Annotated[
        str | None, typer.Option(help="Voxels: N or z,y,x.", show_default="fills the field of view")
    ] = None,
    spacing: Annotated[
        str | None, typer.Option(help="Voxel step in mm: one or z,y,x.", show_default="detector pitch at the axis")
    ] = None,
    window: Annotated[
        str | None,
        typer.Option(
            help="Filter of fbp and fdk: ram-lak, shepp-logan, cosine, hamming or hann.", show_default="ram-lak"
        ),
    ] = None,
    cutoff: Annotated[
        float | None,
        typer.Option(help="Highest frequency the filter keeps, as a share of Nyquist's.", show_default="1"),
    ] = None,
    padding: Annotated[
        str | None, typer.Option(help="Cut-off projections: zero, or edge to continue them.", show_default="zero")
    ] = None,
    iterations: Annotated[
        int | None,
        typer.Option(
            help="Iterations of cgls, sirt, os-sart and of pwls on the image.", show_default="20, 100, 10, 20"
        ),
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option(help="Factor on the smoothing of the pwls methods; above 1 is smoother.", show_default="1"),
    ] = None,
    tune: Annotated[
        str | None,
        typer.Option(
            help="How the pwls methods choose their settings: sure, by the estimated error of the image, or none: the "
            "defaults of those that smooth projections, the strength that follows from the noise of those that fit "
            "the image.",
            show_default="sure for the former, none for the latter",
        ),
    ] = None,
    unit: Annotated[
        str | None, typer.Option(help="hu or mm (attenuation in 1/mm).", show_default="mm; hu for .png")
    ] = None,
    window_hu: Annotated[
        str | None, typer.Option("--window-hu", help="Grey range of a .png in HU: low,high.", show_default="-160,240")
    ] = None,
    centre: Annotated[
        str | None, typer.Option(help="Detector offset along u in mm, or find to search for the rotation axis.")
    ] = None,
    pitch: Annotated[float | None, typer.Option(help="Pixel step in mm, for files that do not state it.")] = None,
    log: Annotated[bool | None, typer.Option("--log", help="The file holds raw counts: take the logarithm.")] = None,
    photons: Annotated[float | None, typer.Option(help="With --log: the count without an object.")] = None,
    limited_angle: Annotated[
        bool | None, typer.Option("--limited-angle", help="Let fbp and fdk work on too short an arc.")
    ] = None,
    settings: SettingsFile = None,
    write_settings: Annotated[
        Path | None, typer.Option(help="Write the settings that were used, to repeat the run with --settings.")
    ] = None,
    state: Annotated[
        Path | None, typer.Option(help="Where an iterative method leaves its state: at Ctrl-C, and every minute.")
    ] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on from a state that --state wrote.")] = None,
    memory: Memory = None,
    scratch: Scratch = None,
    device: Device = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Reconstruct a scan and write the volume."""
    options = {
        "window": window, "cutoff": cutoff, "padding": padding, "limited_angle": limited_angle,
        "iterations": iterations, "strength": strength, "tune": tune,
    }  # fmt: skip
    stated = load_stated(settings, pitch=pitch, log=log, photons=photons).overridden(
        grid={"shape": common.parse_shape(shape), "spacing": common.parse_spacing(spacing)},
        reconstruction={
            "method": method, "unit": unit, "window_hu": common.parse_window(window_hu), "device": device, **options,
        },
    )  # fmt: skip
    told = stated.settings.reconstruction
    job = Job(
        source=scan, output=output, unit=common.parse_unit(told.unit, output), window=told.window_hu,
        state=state, resume=resume, settings=settings, record=write_settings, json=json,
    )  # fmt: skip
    job.check()
    devices = common.parse_devices(told.device)
    common.check_iterations(told.iterations)
    _check_smoothing(told)
    announce_compilation(quiet=json)
    with _budget(memory, scratch or output.absolute().parent, devices):
        data = load_scan(scan, stated, centre=centre)
        chosen = _chosen(told, data)
        _refuse_unused(chosen.method, {**options, "state": state, "resume": resume}, told)
        grid = _grid(data, stated)
        job.check_slices(grid)
        data = _placed(data, grid, chosen, devices)
        job.run(data, grid, chosen)
        job.keep(data, grid, chosen, stated)


def _check_smoothing(told: "ReconstructionTable") -> None:
    """Refuse a strength or a tuning that no method takes, before anything is read."""
    from recon import checks
    from recon.sinogram.restore import TUNINGS

    if told.strength is not None:
        checks.positive("--strength", told.strength, unit="")
    if told.tune is not None:
        checks.choice("--tune", told.tune, TUNINGS)


def _method(name: str | None, scan: "Scan") -> str:
    from raymend.reconstruction import check_method, default_method

    if name is not None:
        return check_method(name, scan.geometry)
    chosen, advice = default_method(scan.geometry)
    if advice:
        common.say(f"note: {advice}")
    return chosen


def _chosen(told: "ReconstructionTable", scan: "Scan") -> "Settings":
    """Choose the method, and leave what is not stated to it."""
    from raymend.reconstruction import Settings

    options = told.given("window", "cutoff", "padding", "limited_angle", "iterations", "strength", "tune")
    return Settings(method=_method(told.method, scan), **options)


def _refuse_unused(method: str, options: Mapping[str, object], told: "ReconstructionTable") -> None:
    """Refuse options that the method does not read; of settings in a file, made for another method, only tell."""
    from raymend.reconstruction import kind_of, unused

    given = [name for name, value in options.items() if value is not None]
    idle = unused(method, given)
    if idle:
        kind = _KINDS[kind_of(method)]
        named = ", ".join(f"--{name.replace('_', '-')}" for name in idle)
        raise common.config_error(f"{named}: expected none with --method {method}, which {kind}; leave it out")
    left = [name for name in unused(method, told.given()) if name not in given]
    if left:
        common.say(f"note: {', '.join(left)} in the settings: not used by {method}")


def _grid(scan: "Scan", stated: "Stated") -> "VolumeGrid":
    """Choose the grid."""
    from recon.field_of_view import warn_outside

    grid = stated.grid(scan.geometry)
    if stated.settings.grid.given():
        warn_outside(scan.geometry, grid)
    return grid


def _placed(scan: "Scan", grid: "VolumeGrid", settings: "Settings", devices: Sequence[str]) -> "Scan":
    """Move a scan to the one GPU that can hold all of an iteration; else only blocks travel."""
    from raymend.reconstruction import on_one_device

    return scan.to(devices[0]) if len(devices) == 1 and on_one_device(scan, grid, settings, devices[0]) else scan


@contextlib.contextmanager
def _budget(size: str | None, scratch: Path, devices: Sequence[str]) -> Iterator[None]:
    """Keep within the memory asked for, and send blocks to GPUs if any are named."""
    from recon.memory import limit

    with limit(size, scratch=scratch, devices=devices):
        yield
