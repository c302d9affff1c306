"""Where one reconstruction's data come from and go to: checked first, made, written and reported."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from raymend.cli import common
from raymend.cli.guard import INTERRUPTED, TERMINATED, noticed, terminated
from raymend.cli.progress import progress

if TYPE_CHECKING:
    from torch import Tensor

    from raymend.reconstruction import Progress, Settings
    from raymend.settings import ReconstructionTable, Stated
    from recon import Scan, VolumeGrid
    from recon.analytic.recipe import Recipe
    from recon.iterative import Solution

_KEEP_EVERY = 60.0  # seconds between states of an iteration
_PICTURE_WINDOW = (-160.0, 240.0)  # HU; soft tissue


@dataclass(frozen=True, kw_only=True)
class Job:
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

    def check_slices(self, grid: "VolumeGrid") -> None:
        """Refuse a picture of a volume, before the volume is made."""
        if self.output.suffix.lower() == ".png" and grid.shape[0] > 1:
            _, rows, columns = grid.shape
            raise common.config_error(
                f"{self.output}: expected one slice for a .png, got {grid.shape[0]}; take --shape 1,{rows},{columns}, "
                "or write .nii.gz or .tif"
            )

    def run(self, scan: "Scan", grid: "VolumeGrid", settings: "Settings") -> None:
        """Reconstruct, write and report."""
        from raymend import reconstruction
        from recon import memory
        from recon.io.slabs import journal_of

        begun = time.perf_counter()
        reconstruction.adopt_blocks(journal_of(self.output))
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
            image = self._shown(image, scan).cpu()
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
                common.say(f"going on with {out.partial.name}: {out.told()}")
            try:
                reconstruction.run_in_slabs(scan, recipe, out, lambda slab: self._shown(slab, scan), tell)
            except KeyboardInterrupt:
                common.say(f"raymend: interrupted; {out.told()}: run the same command again to go on")
                raise _stopped() from None
            return out.range

    def _whole(
        self, scan: "Scan", grid: "VolumeGrid", settings: "Settings", tell: "Progress"
    ) -> tuple["Tensor", "Solution | None"]:
        """Reconstruct the volume in one piece, and keep the state of an iteration every minute."""
        from raymend import reconstruction
        from recon.io.checkpoint import load_checkpoint, save_checkpoint

        earlier = load_checkpoint(self.resume, device=str(scan.empty(0).device)) if self.resume is not None else None
        kept = [time.monotonic()]

        def keep(solution: "Solution") -> None:
            if self.state is not None and time.monotonic() - kept[0] >= _KEEP_EVERY:
                save_checkpoint(self.state, solution)
                kept[0] = time.monotonic()

        return reconstruction.run(
            scan, grid, settings, progress=tell, callbacks=[keep], resume=earlier,
            note=lambda text: common.say(f"note: {text}"),
        )  # fmt: skip

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
        raise _stopped()

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
        from recon.io.slabs import journal_of

        if journal_of(self.output).exists():
            common.say(f"note: {self.output.name}.partial of an earlier run is still there, and was not used")
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


def _stopped() -> typer.Exit:
    """Return the end of a command that a signal stopped."""
    return typer.Exit(TERMINATED if terminated() else INTERRUPTED)


def _print_summary(content: Mapping[str, Any], solution: "Solution | None") -> None:
    sizes = " x ".join(str(n) for n in content["shape"])
    steps = " x ".join(f"{step:.4g}" for step in content["spacing_mm"])
    print(f"{content['output']}: {sizes} voxels (z, y, x) of {steps} mm by {content['method']}")
    print(f"values {content['min']:.4g} to {content['max']:.4g} {content['unit']}, {content['seconds']:.1f} s")
    if solution is not None:
        print(solution.advice)


def _used(
    settings: "Settings", unit: str, window: tuple[float, float] | None, device: str | None
) -> "ReconstructionTable":
    """State what a method used, and leave out what it does not read."""
    from raymend.reconstruction import unused
    from raymend.settings import ReconstructionTable

    names = ("window", "cutoff", "padding", "limited_angle", "strength", "tune")
    idle = unused(settings.method, names)
    told: dict[str, Any] = {name: getattr(settings, name) for name in names if name not in idle}
    if settings.limit:
        told["iterations"] = settings.limit
    return ReconstructionTable(method=settings.method, unit=unit, window_hu=window, device=device or "cpu", **told)
