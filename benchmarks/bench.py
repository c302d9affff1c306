"""How long projectors and methods take: raymend beside whatever CPU toolbox is installed, in one run, equal threads.

    python benchmarks/bench.py [--quick] [--views 36] [--repeats 3] [--threads 2] [--slow] [--output benchmarks]

W1 fan beam, 512² pixels, 768 bins, 720 views; W2 the same for 32 slices at once; W3 cone beam, 256³ voxels, 360 views
of 384²; W4 parallel FBP, 512² pixels, 720 views. Volumes and projections are dense and random; errors come from a
second run on a smooth ball whose line integrals are known (accuracy.py). Times are the best of a few repeats.

An update is a voxel of a view in backprojection and a line of voxels crossed by a ray in projection; GUPS are 1e9 of
them a second. The adjoint gap is |<Ax, y> - <x, A'y>| / (|Ax| |y|).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import recon  # before torch: it settles how idle threads wait

# isort: split
import numba
import peers
import table
import torch
from accuracy import ball_integrals, ball_on, percent
from peers import Geometry, Prepare, Work
from torch import Tensor

from recon.geometry import ConeBeam, Detector, ParallelBeam
from recon.grid import VolumeGrid
from recon.kernels.lines import lines
from recon.kernels.reference import view_rays
from recon.operators import Projector
from recon.scan import Scan

FIELD = 256.0  # mm, width of the image
DISTANCES = {"source_to_axis": 570.0, "source_to_detector": 1040.0}
DENSITY = 0.02  # 1/mm, that of water, at the middle of the ball that is reconstructed
W3_VIEWS = 360
SAMPLED = 24  # views that errors and updates are taken from


@dataclass(frozen=True, kw_only=True)
class Workload:
    """A scanner and a grid with random data; `scale` makes up for views that were left out."""

    name: str
    geometry: Geometry
    grid: VolumeGrid
    batch: int = 1
    scale: float = 1.0
    note: str = ""

    def volume(self) -> Tensor:
        return torch.rand(self._shape(self.grid.shape), generator=torch.Generator().manual_seed(1))

    def values(self) -> Tensor:
        return torch.rand(self._shape(self.geometry.shape), generator=torch.Generator().manual_seed(2))

    def sampled(self) -> Geometry:
        return self.geometry[:: max(1, len(self.geometry) // SAMPLED)]

    def backward_updates(self) -> float:
        return self.batch * self.grid.shape[0] * self.grid.shape[1] * self.grid.shape[2] * len(self.geometry)

    def forward_updates(self) -> float:
        """Count the lines of voxels along every ray, from chords through the grid in some of the views."""
        geometry = self.sampled()
        chords = Projector(grid=self.grid, geometry=geometry) @ torch.ones(self.grid.shape)
        rays = lines(geometry, self.grid)
        total = 0.0
        for view, chord in enumerate(chords):
            direction = view_rays(rays, view)[1].abs()
            share = direction[:, 1:].amax(1) / direction.norm(dim=1)
            total += float((chord.flatten().double() / self.grid.spacing[2] * share).sum())
        return self.batch * total * len(self.geometry) / len(geometry)

    def _shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape if self.batch == 1 else (self.batch, *shape)


@dataclass(frozen=True, kw_only=True)
class Timing:
    """The best of some repeats, in seconds, and what the last one gave."""

    wall: float
    cpu: float
    result: Tensor


@dataclass(kw_only=True)
class Row:
    """One line of the table; what was not measured is None and the note says why."""

    workload: str
    task: str
    tool: str
    wall: float | None = None
    cpu: float | None = None
    gups: float | None = None
    error: float | None = None
    gap: float | None = None
    wall_ratio: float | None = None
    cpu_ratio: float | None = None
    note: str = ""


@dataclass(kw_only=True)
class Bench:
    """What to measure and how often, and the rows so far."""

    repeats: int = 3
    iterations: int = 5
    quick: bool = False
    slow: bool = False
    output: Path = Path()
    machine: dict[str, Any] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)

    def add(self, row: Row, measure: Callable[[Row], None]) -> None:
        """Measure a row; whatever goes wrong is written into it."""
        try:
            measure(row)
        except Exception as reason:
            row.note = f"not measured: {' '.join(str(reason).split())[:120] or type(reason).__name__}"
        finally:
            peers.clear()
        self.rows.append(row)
        print(table.line(row), flush=True)
        self.write(finished=False)

    def write(self, *, finished: bool) -> None:
        """Write what there is, after every row: a run that is killed leaves what it measured, and says so."""
        table.ratios(self.rows)
        rows = [asdict(row) for row in self.rows]
        record = {"machine": self.machine, "quick": self.quick, "finished": finished, "rows": rows}
        page = table.page(self.rows, self.machine, quick=self.quick, finished=finished)
        table.write(self.output / "RESULTS.md", page)
        table.write(self.output / "results.json", json.dumps(record, indent=1) + "\n")
        if finished:
            table.append(self.output / "history.jsonl", json.dumps(record))

    def clock(self, work: Work) -> Timing:
        """Run once to warm up, then some more; long work is run less often."""
        best = timed(work)
        for _ in range(self.repeats if best.wall < 20 else 0):
            again = timed(work)
            best = Timing(wall=min(best.wall, again.wall), cpu=min(best.cpu, again.cpu), result=again.result)
        return best


def timed(work: Work) -> Timing:
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return Timing(wall=time.perf_counter() - wall, cpu=time.process_time() - cpu, result=result)


def fill(row: Row, timing: Timing, workload: Workload, updates: float = 0, per: int = 1) -> None:
    row.wall, row.cpu = timing.wall * workload.scale / per, timing.cpu * workload.scale / per
    row.gups = updates / timing.wall / 1e9 if updates else None
    row.note = workload.note


def workloads(quick: bool, views: int) -> dict[str, Workload]:
    """Make W1 to W4, an eighth as large when it has to be quick."""
    part = 8 if quick else 1
    zoom = DISTANCES["source_to_detector"] / DISTANCES["source_to_axis"]
    size, bins, turns = 512 // part, 768 // part, 720 // part
    step = FIELD / size
    flat = VolumeGrid(shape=(1, size, size), spacing=(step, step, step))
    row = Detector(shape=(1, bins), pitch=(step * zoom, step * zoom))
    fan = ConeBeam.circular(turns, detector=row, start=0.003, **DISTANCES)
    parallel = ParallelBeam.circular(turns, detector=Detector(shape=(1, size), pitch=(step, step)), start=0.003)
    coarse, full = 256 // part, W3_VIEWS // part
    kept = min(views, full)
    note = "" if kept == full else f"{kept} of {full} views, scaled"
    step = FIELD / coarse
    panel = Detector(shape=(384 // part, 384 // part), pitch=(step * zoom, step * zoom))
    box = VolumeGrid(shape=(coarse, coarse, coarse), spacing=(step, step, step))
    cone = ConeBeam.circular(kept, detector=panel, start=0.003, **DISTANCES)
    return {
        "W1": Workload(name="W1", geometry=fan, grid=flat),
        "W2": Workload(name="W2", geometry=fan, grid=flat, batch=4 if quick else 32),
        "W3": Workload(name="W3", geometry=cone, grid=box, scale=full / kept, note=note),
        "W4": Workload(name="W4", geometry=parallel, grid=flat),
    }


def our_forward(geometry: Geometry, grid: VolumeGrid, volume: Tensor) -> Work:
    projector = Projector(grid=grid, geometry=geometry)
    return lambda: projector @ volume


def our_adjoint(geometry: Geometry, grid: VolumeGrid, values: Tensor) -> Work:
    projector = Projector(grid=grid, geometry=geometry)
    return lambda: projector.T @ values


def our_method(method: Callable[..., Tensor]) -> Prepare:
    return lambda geometry, grid, values: lambda: method(Scan(geometry=geometry, values=values), grid)


def our_iterations(method: Callable[..., recon.Solution], count: int) -> Prepare:
    return our_method(lambda scan, grid: method(scan, grid, iterations=count).image)


def pair(bench: Bench, workload: Workload, tool: str, forward: Prepare, adjoint: Prepare, *, ball: bool = True) -> None:
    """Measure a projector and its adjoint, and how far each is from the other."""
    projected: list[Tensor] = []

    def run_forward(row: Row) -> None:
        timing = bench.clock(forward(workload.geometry, workload.grid, workload.volume()))
        projected.append(timing.result)
        fill(row, timing, workload, workload.forward_updates())
        if ball:
            few = workload.sampled()
            values = forward(few, workload.grid, ball_on(workload.grid, 1).float())()
            row.error = percent(values, ball_integrals(few, 1))

    def run_adjoint(row: Row) -> None:
        values = workload.values()
        timing = bench.clock(adjoint(workload.geometry, workload.grid, values))
        fill(row, timing, workload, workload.backward_updates())
        if projected:
            row.gap = adjoint_gap(projected[0], values, workload.volume(), timing.result)

    bench.add(Row(workload=workload.name, task="forward", tool=tool), run_forward)
    bench.add(Row(workload=workload.name, task="adjoint", tool=tool), run_adjoint)


def adjoint_gap(projected: Tensor, values: Tensor, volume: Tensor, image: Tensor) -> float:
    ours, theirs = (float((a.double() * b.double()).sum()) for a, b in ((projected, values), (volume, image)))
    return abs(ours - theirs) / float(projected.double().norm() * values.double().norm())


def whole(bench: Bench, workload: Workload, task: str, tool: str, prepare: Prepare, note: str = "") -> None:
    """Measure FBP or FDK from line integrals of the ball to its image; a note stands instead of the error."""

    def run(row: Row) -> None:
        values = (DENSITY * ball_integrals(workload.geometry, 1)).float()
        timing = bench.clock(prepare(workload.geometry, workload.grid, values))
        fill(row, timing, workload, workload.backward_updates())
        row.note = "; ".join(text for text in (workload.note, note) if text)
        row.error = None if note else percent(timing.result, DENSITY * ball_means(workload.grid))

    bench.add(Row(workload=workload.name, task=task, tool=tool), run)


def ball_means(grid: VolumeGrid) -> Tensor:
    """Draw the ball as means over pixels; in 3-D, where that needs much memory, as values at the voxels' middles."""
    return ball_on(grid, 4 if grid.shape[0] == 1 else 1)


def iterated(bench: Bench, workload: Workload, task: str, tool: str, prepare: Prepare) -> None:
    """Measure an iterative method, set-up included, per iteration."""

    def run(row: Row) -> None:
        values = (DENSITY * ball_integrals(workload.geometry, 1)).float()
        timing = bench.clock(prepare(workload.geometry, workload.grid, values))
        fill(row, timing, workload, per=bench.iterations)
        row.error = percent(timing.result, DENSITY * ball_means(workload.grid))
        row.note = f"mean of {bench.iterations} iterations"

    bench.add(Row(workload=workload.name, task=f"{task}, an iteration", tool=tool), run)


def measure_all(bench: Bench, work: dict[str, Workload]) -> None:
    count = bench.iterations
    pair(bench, work["W1"], "raymend", our_forward, our_adjoint)
    for model in ("line", "strip"):
        pair(bench, work["W1"], f"ASTRA {model}", peers.astra_forward(model), peers.astra_adjoint(model))
    if bench.slow:
        pair(bench, work["W1"], "ASTRA matrix", peers.astra_matrix_forward, peers.astra_matrix_adjoint, ball=False)
    pair(bench, work["W1"], "RTK Joseph", peers.rtk_forward, peers.rtk_adjoint)
    pair(bench, work["W2"], "raymend", our_forward, our_adjoint, ball=False)
    pair(bench, work["W3"], "raymend", our_forward, our_adjoint)
    pair(bench, work["W3"], "RTK Joseph", peers.rtk_forward, peers.rtk_adjoint)
    whole(bench, work["W3"], "FDK", "raymend", our_method(recon.fdk))
    whole(bench, work["W3"], "FDK", "RTK", peers.rtk_fdk)
    whole(bench, work["W4"], "FBP", "raymend", our_method(recon.fbp))
    for model in ("line", "strip", "linear"):
        whole(bench, work["W4"], "FBP", f"ASTRA {model}", peers.astra_fbp(model))
    off = "no error: its centre lies half a pixel off"
    whole(bench, work["W4"], "FBP", "scikit-image", peers.skimage_fbp, off)
    for task, method in (("SIRT", recon.sirt), ("CGLS", recon.cgls)):
        iterated(bench, work["W1"], task, "raymend", our_iterations(method, count))
        iterated(bench, work["W1"], task, "ASTRA line", peers.astra_iterations(task, "line", count))
    for task, note, run in starts(bench):
        bench.add(Row(workload="start", task=task, tool="raymend", note=note), run)


FIRST = """
import recon, torch
row = recon.Detector(shape=(1, 24), pitch=(1.0, 1.0)), recon.VolumeGrid(shape=(1, 16, 16))
box = recon.Detector(shape=(16, 24), pitch=(1.0, 1.0)), recon.VolumeGrid(shape=(16, 16, 16))
for (detector, grid), method in ((row, recon.fbp), (box, recon.fdk)):
    beam = recon.ConeBeam.circular(8, detector=detector, source_to_axis=100.0, source_to_detector=150.0)
    projector = recon.Projector(grid=grid, geometry=beam)
    values = projector @ torch.zeros(grid.shape)
    projector.T @ values
    method(recon.Scan(geometry=beam, values=values), grid)
"""


def starts(bench: Bench) -> Iterator[tuple[str, str, Callable[[Row], None]]]:
    """Yield processes that only import, that compile everything, and that find everything compiled."""
    with tempfile.TemporaryDirectory(prefix="raymend-bench-") as folder:
        yield "import recon", "a process, interpreter included", lambda row: process(row, "import recon", {})
        for task in ("first calls, nothing cached", "first calls, all cached"):
            note = "fan and cone: forward, adjoint, FBP, FDK; a process, import included"
            if bench.quick:
                yield task, "left out by --quick", lambda row: None
            else:
                yield task, note, lambda row: process(row, FIRST, {"NUMBA_CACHE_DIR": folder})


def process(row: Row, code: str, environment: dict[str, str]) -> None:
    before, wall = os.times(), time.perf_counter()
    found = {**os.environ, **environment, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], env=found, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "the process failed")
    after = os.times()
    row.wall = time.perf_counter() - wall
    row.cpu = after.children_user + after.children_system - before.children_user - before.children_system


def main() -> int:
    parser = argparse.ArgumentParser(description="Times of projectors and methods, beside the peers installed.")
    parser.add_argument("--quick", action="store_true", help="an eighth of the size, once: to see that it runs")
    parser.add_argument("--slow", action="store_true", help="ASTRA's sparse matrix, too: minutes and 9 GB")
    parser.add_argument("--views", type=int, default=W3_VIEWS, help="views of W3; times are scaled (default: 360)")
    parser.add_argument("--repeats", type=int, default=3, help="runs after the first (default: 3)")
    parser.add_argument("--iterations", type=int, default=5, help="of SIRT and CGLS (default: 5)")
    parser.add_argument("--threads", type=int, default=table.processors(), help="for all (default: all processors)")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent, help="folder for the results")
    arguments = parser.parse_args()
    if min(arguments.views, arguments.iterations, arguments.threads) < 1 or arguments.repeats < 0:
        parser.error("views, iterations and threads start at 1, repeats at 0")
    numba.set_num_threads(arguments.threads)
    torch.set_num_threads(arguments.threads)
    peers.set_threads(arguments.threads)
    arguments.output.mkdir(parents=True, exist_ok=True)
    bench = Bench(
        repeats=1 if arguments.quick else arguments.repeats,
        iterations=2 if arguments.quick else arguments.iterations,
        quick=arguments.quick,
        slow=arguments.slow,
        output=arguments.output,
        machine=table.machine(arguments.threads),
    )
    measure_all(bench, workloads(arguments.quick, arguments.views))
    bench.write(finished=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
