"""`raymend reconstruct`: from a scan file to a volume file."""

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from raymend.cli import common
from raymend.cli.common import Debug, Device, Json, Memory, Scratch, SettingsFile
from raymend.cli.guard import INTERRUPTED, TERMINATED, noticed, terminated
from raymend.cli.loading import load_scan, load_stated
from raymend.cli.progress import announce_compilation, progress

if TYPE_CHECKING:
    from torch import Tensor

    from raymend.reconstruction import Progress, Settings
    from raymend.settings import ReconstructionTable, Stated
    from recon import Scan, VolumeGrid
    from recon.analytic.recipe import Recipe
    from recon.iterative import Solution

_KEEP_EVERY = 60.0  # seconds between states of an iteration
_PICTURE_WINDOW = (-160.0, 240.0)  # HU; soft tissue


def reconstruct(
    scan: Annotated[
        Path, typer.Argument(help="The projections: .h5, .zarr, .npz, .mat; what it is follows from its content.")
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="Where to write: .nii, .nii.gz, .tif, .npy, .zarr, or .png for one slice."),
    ],
    method: Annotated[
        str | None, typer.Option(help="fbp, fdk, cgls, sirt, os-sart or pwls.", show_default="what suits the geometry")
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
        int | None, typer.Option(help="Iterations of cgls, sirt, os-sart, pwls.", show_default="20, 100, 10, 15")
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
        "iterations": iterations,
    }  # fmt: skip
    stated = load_stated(settings, pitch=pitch, log=log, photons=photons).overridden(
        grid={"shape": common.parse_shape(shape), "spacing": common.parse_spacing(spacing)},
        reconstruction={
            "method": method, "unit": unit, "window_hu": common.parse_window(window_hu), "device": device, **options,
        },
    )  # fmt: skip
    told = stated.settings.reconstruction
    job = _Job(
        source=scan, output=output, unit=common.parse_unit(told.unit, output), window=told.window_hu,
        state=state, resume=resume, settings=settings, record=write_settings, json=json,
    )  # fmt: skip
    job.check()
    where = common.check_device(told.device or "cpu")
    common.check_iterations(told.iterations)
    announce_compilation(quiet=json)
    with _budget(memory, scratch or output.absolute().parent):
        data = load_scan(scan, stated, centre=centre).to(where)
        chosen = _chosen(told, data)
        _refuse_unused(chosen.method, {**options, "state": state, "resume": resume}, told)
        grid = _grid(data, stated)
        job.run(data, grid, chosen)
        job.keep(data, grid, chosen, stated)


@dataclass(frozen=True, kw_only=True)
class _Job:
    """Where data come from and go to."""

    source: Path
    output: Path
    unit: str
    window: tuple[float, float] | None
    state: Path | None
    resume: Path | None
    settings: Path | None
    record: Path | None
    json: bool

    def check(self) -> None:
        """Refuse outputs that cannot be written or that would replace an input, before anything is read."""
        from recon.io.write import volume_suffix

        picture = volume_suffix(self.output) == ".png"
        if self.window is not None and not picture:
            raise common.config_error(
                "--window-hu, or window_hu in the settings: only a .png needs a grey range; leave it out"
            )
        inputs = [path for path in (self.source, self.resume, self.settings) if path is not None]
        common.check_output(self.output, inputs)
        if self.state is not None:  # a state may go where the earlier one was
            common.check_output(self.state, [self.output, *(path for path in inputs if path != self.resume)])
        if self.record is not None:
            from raymend.settings import writer

            writer()
            common.check_output(self.record, [self.output, *inputs, *([self.state] if self.state else [])])

    def run(self, scan: "Scan", grid: "VolumeGrid", settings: "Settings") -> None:
        """Reconstruct, write and report."""
        from raymend import reconstruction
        from recon import memory

        begun = time.perf_counter()
        recipe = None if self.resume else reconstruction.in_slabs(scan, grid, settings, self.output)
        solution = None
        with progress(settings.method, settings.limit or 100, quiet=self.json) as advance:

            def tell(done: int, limit: int, latest: Mapping[str, float]) -> None:
                note = f"change {latest['change']:.1e}" if latest else ""
                advance(done if latest else 100 * done // limit, note)

            if recipe is not None:
                low, high = self._in_slabs(scan, recipe, settings, tell)
            else:
                image, solution = self._whole(scan, grid, settings, tell)
        if recipe is None:
            self._stop_if_interrupted(solution)
            image = self._shown(image, scan)
            low, high = memory.ends(image)
            self._write(image, grid)
        self._report((low, high), scan, grid, settings, solution, time.perf_counter() - begun)

    def _in_slabs(self, scan: "Scan", recipe: "Recipe", settings: "Settings", tell: "Progress") -> tuple[float, float]:
        """Reconstruct and write slab by slab; return the least and the largest value."""
        from raymend import reconstruction
        from recon.io.slabs import SlabWriter

        water = scan.calibration.water if self.unit == "HU" else None
        job = reconstruction.job_of(scan, settings, water)
        with SlabWriter(path=self.output, grid=recipe.grid, unit=self.unit, job=job) as out:
            if out.finished:
                done = recipe.grid.shape[0] - out.missing()
                common.say(f"going on with {out.partial.name}: {done} of {recipe.grid.shape[0]} slices are finished")
            try:
                reconstruction.run_in_slabs(scan, recipe, out, lambda slab: self._shown(slab, scan), tell)
            except KeyboardInterrupt:
                done = recipe.grid.shape[0] - out.missing()
                common.say(
                    f"raymend: interrupted; {done} of {recipe.grid.shape[0]} slices are finished: run the same command "
                    "again to go on"
                )
                raise typer.Exit(TERMINATED if terminated() else INTERRUPTED) from None
            return out.range

    def _whole(
        self, scan: "Scan", grid: "VolumeGrid", settings: "Settings", tell: "Progress"
    ) -> tuple["Tensor", "Solution | None"]:
        """Reconstruct the volume in one piece, and keep the state of an iteration every minute."""
        from raymend import reconstruction
        from recon.io.checkpoint import load_checkpoint, save_checkpoint

        earlier = load_checkpoint(self.resume) if self.resume is not None else None
        kept = [time.monotonic()]

        def keep(solution: "Solution") -> None:
            if self.state is not None and time.monotonic() - kept[0] >= _KEEP_EVERY:
                save_checkpoint(self.state, solution)
                kept[0] = time.monotonic()

        return reconstruction.run(scan, grid, settings, progress=tell, callbacks=[keep], resume=earlier)

    def keep(self, scan: "Scan", grid: "VolumeGrid", settings: "Settings", stated: "Stated") -> None:
        """Write the settings that were used, where that is asked for."""
        if self.record is None:
            return
        from raymend.settings import used_settings, write_settings

        unit = "hu" if self.unit == "HU" else "mm"
        table = _used(settings, unit, self.window, stated.settings.reconstruction.device)
        write_settings(self.record, used_settings(scan, grid, table, stated=stated))

    def _stop_if_interrupted(self, solution: "Solution | None") -> None:
        from recon import Status

        if solution is None or solution.status is not Status.STOPPED:
            return
        common.say(f"raymend: interrupted at iteration {solution.iterations}; {self._kept(solution)}")
        raise typer.Exit(TERMINATED if terminated() else INTERRUPTED)

    def _kept(self, solution: "Solution") -> str:
        from recon.io.checkpoint import save_checkpoint

        if self.state is None:
            return "nothing was written (--state FILE keeps the state)"
        save_checkpoint(self.state, solution)
        return f"go on with --resume {self.state}"

    def _shown(self, image: "Tensor", scan: "Scan") -> "Tensor":
        """Return an image in the unit to write."""
        from recon import memory, to_hu

        if self.unit != "HU":
            return image
        return memory.blockwise(lambda part: to_hu(part, scan.calibration.water), image)

    def _write(self, image: "Tensor", grid: "VolumeGrid") -> None:
        from recon.io import write_volume

        window = (self.window or _PICTURE_WINDOW) if self.output.suffix.lower() == ".png" else None
        write_volume(self.output, image, grid, window=window, unit=self.unit)

    def _report(
        self, ends: tuple[float, float], scan: "Scan", grid: "VolumeGrid", settings: "Settings",
        solution: "Solution | None", seconds: float,
    ) -> None:  # fmt: skip
        content: dict[str, Any] = {
            "output": str(self.output),
            "method": settings.method,
            "shape": grid.shape,
            "spacing_mm": grid.spacing,
            "centre_mm": grid.centre,
            "unit": self.unit,
            "min": ends[0],
            "max": ends[1],
            "water_per_mm": scan.calibration.water,
            "seconds": round(seconds, 3),
            "status": "done" if solution is None else solution.status.name.lower(),
            "iterations": None if solution is None else solution.iterations,
            "warnings": noticed(),
        }
        common.print_json(content) if self.json else _print_summary(content, solution)


def _print_summary(content: Mapping[str, Any], solution: "Solution | None") -> None:
    sizes = " x ".join(str(n) for n in content["shape"])
    steps = " x ".join(f"{step:.4g}" for step in content["spacing_mm"])
    print(f"{content['output']}: {sizes} voxels (z, y, x) of {steps} mm by {content['method']}")
    print(f"values {content['min']:.4g} to {content['max']:.4g} {content['unit']}, {content['seconds']:.1f} s")
    if solution is not None:
        print(solution.advice)


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

    options = told.given("window", "cutoff", "padding", "limited_angle", "iterations")
    return Settings(method=_method(told.method, scan), **options)


def _refuse_unused(method: str, options: Mapping[str, object], told: "ReconstructionTable") -> None:
    """Refuse options that the method does not read; of settings in a file, made for another method, only tell."""
    from raymend.reconstruction import ANALYTIC, unused

    given = [name for name, value in options.items() if value is not None]
    idle = unused(method, given)
    if idle:
        kind = "takes no iterations" if method in ANALYTIC else "is iterative and has no filter"
        named = ", ".join(f"--{name.replace('_', '-')}" for name in idle)
        raise common.config_error(f"{named}: expected none with --method {method}, which {kind}; leave it out")
    left = [name for name in unused(method, told.given()) if name not in given]
    if left:
        common.say(f"note: {', '.join(left)} in the settings: not used by {method}")


def _used(
    settings: "Settings", unit: str, window: tuple[float, float] | None, device: str | None
) -> "ReconstructionTable":
    """State what a method used, and leave out what it does not read."""
    from raymend.settings import ReconstructionTable

    names = () if settings.limit else ("window", "cutoff", "padding", "limited_angle")
    told: dict[str, Any] = {name: getattr(settings, name) for name in names}
    if settings.limit:
        told["iterations"] = settings.limit
    return ReconstructionTable(method=settings.method, unit=unit, window_hu=window, device=device or "cpu", **told)


def _grid(scan: "Scan", stated: "Stated") -> "VolumeGrid":
    """Choose the grid."""
    from recon.field_of_view import warn_outside

    grid = stated.grid(scan.geometry)
    if stated.settings.grid.given():
        warn_outside(scan.geometry, grid)
    return grid


@contextlib.contextmanager
def _budget(size: str | None, scratch: Path) -> Iterator[None]:
    """Keep within the memory asked for."""
    from recon.memory import limit

    with limit(size, scratch=scratch):
        yield
