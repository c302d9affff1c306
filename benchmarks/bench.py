"""How long projectors and methods take: raymend beside whatever CPU toolbox is installed, in one run, equal threads.

    python benchmarks/bench.py [--quick] [--slow] [--views 36] [--repeats 3] [--threads 2] [--output FOLDER]
    python benchmarks/bench.py --compare [FACTOR]

W1 fan beam, 512² pixels, 768 bins, 720 views; W2 the same for 32 slices at once; W3 cone beam, 256³ voxels, 360 views
of 384²; W4 parallel FBP, 512² pixels, 720 views. Volumes and projections are dense and random; errors come from a
second run on a smooth ball whose line integrals are known (accuracy.py). Times are the best of a few repeats.

An update is a voxel of a view in backprojection and a line of voxels crossed by a ray in projection; GUPS are 1e9 of
them a second. The adjoint gap is |<Ax, y> - <x, A'y>| / (|Ax| |y|).
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import recon  # before torch: it settles how idle threads wait

# isort: split
import history
import numba
import peers
import starts
import table
import torch
from accuracy import ball_integrals, ball_on, percent
from cases import Workload, workloads
from peers import Geometry, Prepare, Work
from torch import Tensor

from recon.grid import VolumeGrid
from recon.metrics import psnr
from recon.operators import Projector
from recon.scan import Scan

LONG = 20.0  # seconds after which nothing is repeated
FEW_VIEWS = 36  # of W3, for iterative methods
RTK_ITERATIONS = 5  # at most: some 20 s each
DIFFCT_VIEWS = 2  # of W3: some 15 s a view


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
    psnr: float | None = None
    gap: float | None = None
    wall_ratio: float | None = None
    cpu_ratio: float | None = None
    note: str = ""


@dataclass(kw_only=True)
class Bench:
    """What to measure and how often, and the rows so far."""

    repeats: int
    iterations: int
    peer_iterations: int
    quick: bool
    slow: bool
    output: Path
    machine: dict[str, Any]
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
        table.ratios(self.rows)
        print(self.line(row), flush=True)
        self.write(finished=False)

    def line(self, row: Row) -> str:
        return table.line(row)

    def take_up(self) -> None:
        """Go on with the rows of the last run in the folder, the start excepted."""
        record = json.loads((self.output / "results.json").read_text())
        self.machine = record["machine"]
        self.rows = [Row(**row) for row in record["rows"] if row["workload"] != "start"]

    def write(self, *, finished: bool) -> None:
        """Write what there is, after every row: a run that is killed leaves what it measured, and says so."""
        rows = [asdict(row) for row in self.rows]
        record = {"machine": self.machine, "quick": self.quick, "finished": finished, "rows": rows}
        table.write(self.output / "results.json", json.dumps(record, indent=1) + "\n")
        table.render(self.output)
        if finished:
            table.append(self.output / "history.jsonl", history.entry(self.machine, rows, quick=self.quick))

    def clock(self, work: Work) -> Timing:
        """Run once to warm up, then some more while all of it has not taken long."""
        best = timed(work)
        spent = best.wall
        for _ in range(self.repeats):
            if spent > LONG:
                break
            again = timed(work)
            spent += again.wall
            best = Timing(wall=min(best.wall, again.wall), cpu=min(best.cpu, again.cpu), result=again.result)
        return best


def timed(work: Work) -> Timing:
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return Timing(wall=time.perf_counter() - wall, cpu=time.process_time() - cpu, result=result)


def fill(row: Row, timing: Timing, workload: Workload, *, updates: float = 0, per: int = 1, note: str = "") -> None:
    row.wall, row.cpu = timing.wall * workload.scale / per, timing.cpu * workload.scale / per
    row.gups = updates / timing.wall / 1e9 if updates else None
    row.note = "; ".join(text for text in (workload.note, note) if text)


def judge(row: Row, image: Tensor, workload: Workload) -> None:
    """Compare an image of the ball with the truth, where all views see it."""
    truth, seen = workload.ball(), workload.seen()
    row.error = percent(image[seen], truth[seen])
    row.psnr = psnr(image.double(), truth, data_range=float(truth.max()), mask=seen)


def our_forward(geometry: Geometry, grid: VolumeGrid, volume: Tensor) -> Work:
    projector = Projector(grid=grid, geometry=geometry)
    return lambda: projector @ volume


def our_adjoint(geometry: Geometry, grid: VolumeGrid, values: Tensor) -> Work:
    projector = Projector(grid=grid, geometry=geometry)
    return lambda: projector.T @ values


def our_filtering(geometry: Geometry, grid: VolumeGrid, values: Tensor) -> Work:
    """Weight and filter alone, as FDK does."""
    from recon.analytic.recipe import Recipe
    from recon.analytic.weights import redundancy

    scan, rows = Scan(geometry=geometry, values=values), (0, geometry.detector.shape[0])
    recipe = Recipe.of(geometry, grid, redundancy(geometry), window="ram-lak", cutoff=1.0, padding="zero")
    return lambda: recipe.filtered(scan, slice(None), rows)


def our_backprojection(geometry: Geometry, grid: VolumeGrid, values: Tensor) -> Work:
    """Backproject alone, as FDK does: set-up of the views included."""
    from recon import kernels
    from recon.kernels.maps import maps

    unit = geometry.source_to_axis  # type: ignore[union-attr]
    return lambda: kernels.find("backproject", values)(maps(geometry, grid, unit=unit), values[None])[0]


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
        fill(row, timing, workload, updates=workload.forward_updates())
        if ball:
            few = workload.sampled()
            values = forward(few, workload.grid, ball_on(workload.grid, 1).float())()
            row.error = percent(values, ball_integrals(few, 1))

    def run_adjoint(row: Row) -> None:
        values = workload.values()
        timing = bench.clock(adjoint(workload.geometry, workload.grid, values))
        fill(row, timing, workload, updates=workload.backward_updates())
        if projected:
            row.gap = adjoint_gap(projected[0], values, workload.volume(), timing.result)

    bench.add(Row(workload=workload.name, task="forward", tool=tool), run_forward)
    bench.add(Row(workload=workload.name, task="adjoint", tool=tool), run_adjoint)


def adjoint_gap(projected: Tensor, values: Tensor, volume: Tensor, image: Tensor) -> float:
    ours, theirs = (float((a.double() * b.double()).sum()) for a, b in ((projected, values), (volume, image)))
    return abs(ours - theirs) / float(projected.double().norm() * values.double().norm())


def whole(bench: Bench, workload: Workload, task: str, tool: str, prepare: Prepare, note: str = "") -> None:
    """Measure FBP or FDK from line integrals of the ball to its image."""

    def run(row: Row) -> None:
        timing = bench.clock(prepare(workload.geometry, workload.grid, workload.ball_values()))
        fill(row, timing, workload, updates=workload.backward_updates(), note=note)
        judge(row, timing.result, workload)

    bench.add(Row(workload=workload.name, task=task, tool=tool), run)


def part(bench: Bench, workload: Workload, task: str, prepare: Prepare, *, updates: float = 0) -> None:
    """Measure a part of raymend's FDK alone."""

    def run(row: Row) -> None:
        timing = bench.clock(prepare(workload.geometry, workload.grid, workload.values()))
        fill(row, timing, workload, updates=updates, note="alone")

    bench.add(Row(workload=workload.name, task=task, tool="raymend"), run)


def iterated(
    bench: Bench, workload: Workload, task: str, tool: str, prepare: Callable[[int], Prepare], count: int
) -> None:
    """Measure an iterative method, set-up included, per iteration."""

    def run(row: Row) -> None:
        timing = bench.clock(prepare(count)(workload.geometry, workload.grid, workload.ball_values()))
        fill(row, timing, workload, per=count, note=f"{count} iterations, set-up included, per iteration")
        judge(row, timing.result, workload)

    bench.add(Row(workload=workload.name, task=f"{task}, an iteration", tool=tool), run)


def measure_all(bench: Bench, work: dict[str, Workload]) -> None:
    for measure in (measure_fan, measure_stack, measure_cone, measure_parallel):
        measure(bench, work)
    measure_start(bench)


def measure_start(bench: Bench) -> None:
    for task, note, run in starts.cases(quick=bench.quick):
        bench.add(Row(workload="start", task=task, tool="raymend", note=note), run)


def measure_fan(bench: Bench, work: dict[str, Workload]) -> None:
    fan = work["W1"]
    pair(bench, fan, "raymend", our_forward, our_adjoint)
    for model in ("line", "strip"):
        pair(bench, fan, f"ASTRA {model}", peers.astra_forward(model), peers.astra_adjoint(model))
    pair(bench, fan, "RTK Joseph", peers.rtk_forward, peers.rtk_adjoint)
    pair(bench, fan, "diffct Siddon", peers.diffct_forward, peers.diffct_adjoint)
    for task, method in METHODS.items():
        iterated(bench, fan, task, "raymend", ours(method), bench.iterations)
        iterated(bench, fan, task, "ASTRA line", astra(task), bench.peer_iterations)


def measure_stack(bench: Bench, work: dict[str, Workload]) -> None:
    """ASTRA has no stack on the processor: its time for one slice is multiplied."""
    stack = work["W2"]
    pair(bench, stack, "raymend", our_forward, our_adjoint, ball=False)
    one = peers.astra_forward("line"), peers.astra_adjoint("line")
    pair(bench, stack.slice(), "ASTRA line", *one, ball=False)
    if bench.slow:
        matrix = peers.astra_matrix_forward, peers.astra_matrix_adjoint
        pair(bench, stack, "ASTRA matrix", *matrix, ball=False)
        pair(bench, work["W1"], "ASTRA matrix", *matrix, ball=False)
        peers.forget_matrix()


def measure_cone(bench: Bench, work: dict[str, Workload]) -> None:
    cone = work["W3"]
    pair(bench, cone, "raymend", our_forward, our_adjoint)
    pair(bench, cone, "RTK Joseph", peers.rtk_forward, peers.rtk_adjoint)
    least = work["W3 diffct"]
    pair(bench, least, "diffct Siddon", peers.diffct_forward, peers.diffct_adjoint)
    whole(bench, cone, "FDK", "raymend", our_method(recon.fdk))
    part(bench, cone, "filtering", our_filtering)
    part(bench, cone, "backprojection", our_backprojection, updates=cone.backward_updates())
    whole(bench, cone, "FDK", "RTK", peers.rtk_fdk)
    for task, method in METHODS.items():
        iterated(bench, work["W3 few"], task, "raymend", ours(method), bench.iterations)
        iterated(bench, work["W3 few"], task, "RTK Joseph", rtk(task), min(RTK_ITERATIONS, bench.peer_iterations))


def measure_parallel(bench: Bench, work: dict[str, Workload]) -> None:
    parallel = work["W4"]
    whole(bench, parallel, "FBP", "raymend", our_method(recon.fbp))
    for model in ("line", "strip", "linear"):
        whole(bench, parallel, "FBP", f"ASTRA {model}", peers.astra_fbp(model))
    off = "scanned and judged half a pixel off, where it has its middle"
    whole(bench, parallel.half_pixel_off(), "FBP", "scikit-image", peers.skimage_fbp, off)


METHODS = {"SIRT": recon.sirt, "CGLS": recon.cgls}


def ours(method: Callable[..., recon.Solution]) -> Callable[[int], Prepare]:
    return lambda count: our_iterations(method, count)


def astra(task: str) -> Callable[[int], Prepare]:
    return lambda count: peers.astra_iterations(task, "line", count)


def rtk(task: str) -> Callable[[int], Prepare]:
    return lambda count: peers.rtk_iterations(task, count)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Times of projectors and methods, beside the peers installed.")
    parser.add_argument("--quick", action="store_true", help="an eighth of the size, once: to see that it runs")
    parser.add_argument("--slow", action="store_true", help="ASTRA's sparse matrix, too: minutes and 9 GB")
    parser.add_argument("--views", type=int, default=360, help="views of W3; times are scaled (default: 360)")
    parser.add_argument("--repeats", type=int, default=3, help="runs after the first (default: 3)")
    parser.add_argument("--iterations", type=int, default=100, help="of SIRT and CGLS (default: 100)")
    parser.add_argument(
        "--peer-iterations", type=int, default=10, help="the same for ASTRA, and at most for RTK (default: 10)"
    )
    parser.add_argument("--threads", type=int, default=table.processors(), help="for all (default: all processors)")
    parser.add_argument("--output", type=Path, help="folder for the results (default: this; with --quick a new one)")
    parser.add_argument("--start", action="store_true", help="the start alone, beside the other rows of the last run")
    parser.add_argument(
        "--compare",
        type=float,
        nargs="?",
        const=history.FACTOR,
        metavar="FACTOR",
        help=f"measure nothing; name what the last run took longer for than the best (default: {history.FACTOR} times)",
    )
    arguments = parser.parse_args()
    if min(arguments.views, arguments.iterations, arguments.peer_iterations, arguments.threads) < 1:
        parser.error("views, iterations and threads start at 1")
    if arguments.repeats < 0:
        parser.error("repeats start at 0")
    return arguments


def main() -> int:
    arguments = parse()
    here = Path(__file__).parent
    if arguments.compare is not None:
        text, worse = history.report((arguments.output or here) / "history.jsonl", arguments.compare)
        print(text)
        return int(worse)
    output = arguments.output or (Path(tempfile.mkdtemp(prefix="raymend-bench-")) if arguments.quick else here)
    output.mkdir(parents=True, exist_ok=True)
    for set_threads in (numba.set_num_threads, torch.set_num_threads, peers.set_threads):
        set_threads(arguments.threads)
    bench = Bench(
        repeats=1 if arguments.quick else arguments.repeats,
        iterations=2 if arguments.quick else arguments.iterations,
        peer_iterations=2 if arguments.quick else arguments.peer_iterations,
        quick=arguments.quick,
        slow=arguments.slow,
        output=output,
        machine=table.machine(arguments.threads),
    )
    if arguments.start:
        bench.take_up()
        measure_start(bench)
        bench.write(finished=True)
        return 0
    work = workloads(arguments.quick)
    cone = work["W3"]
    work["W3"] = cone.few(arguments.views)
    work["W3 few"] = cone.few(min(FEW_VIEWS, arguments.views), scaled=False)
    work["W3 diffct"] = cone.few(min(DIFFCT_VIEWS, arguments.views))
    measure_all(bench, work)
    bench.write(finished=True)
    print(f"written to {output}\n{history.report(output / 'history.jsonl')[0]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
