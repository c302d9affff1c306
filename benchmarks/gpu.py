"""How fast the GPU kernels are and whether they are right, beside whatever GPU toolbox is installed, in one run.

    python benchmarks/gpu.py [--quick] [--only SECTION ...] [--seconds 460] [--output FOLDER]
    python benchmarks/gpu.py --interpret

Sections: correct (every kernel against the plain twin, on small cases: error, adjoint gap, the same bits twice), plane
(W1, W2 with 32, 64 and 128 slices, W4), cone (W3), c-arm (512³ voxels, 496 views of 1248 × 960, as RabbitCT), gradient
(to the poses, over a forward projection), solvers (OS-SART and CGLS), peers. W1 to W4 are those of bench.py.

Every section has its share of the time: what finds none left is a row that says so, and so is what fails. Results are
written to gpu.json after every row and shown in RESULTS.md; the table comes last. --interpret runs everything tiny on
the CPU in Triton's interpreter, which proves that it runs and that the numbers are right, not how fast it is.

An update is a voxel of a view in backprojection and a line of voxels crossed by a ray in projection; GUPS are 1e9 of
them a second. The adjoint gap is |<Ax, y> - <x, A'y>| / (|Ax| |y|).
"""

import argparse
import contextlib
import importlib.util
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import recon  # before torch: it settles how idle threads wait

# isort: split
import gpu_peers
import table
import torch
from bench import adjoint_gap, judge
from cases import Workload, c_arm, workloads
from gpu_bench import GpuBench, GpuRow, machine
from gpu_correct import check_all
from torch import Tensor

from recon import kernels
from recon.analytic.recipe import Recipe
from recon.analytic.weights import redundancy
from recon.kernels.maps import maps
from recon.operators import Projector
from recon.scan import Scan

TINY = 32  # part of the size in the interpreter
STACKS = (9, 32, 64, 128)  # slices; nine in the interpreter, the fewest but one that are projected side by side
SHARES = {"correct": 90, "plane": 90, "cone": 60, "c-arm": 60, "gradient": 30, "solvers": 40, "peers": 90}


def pair(bench: GpuBench, workload: Workload, updates: float, precision: str = "single") -> None:
    """Measure the projector and its adjoint."""
    suffix = "" if precision == "single" else f", {precision}"
    projector = Projector(grid=workload.grid, geometry=workload.geometry, precision=precision)
    batch = () if workload.batch == 1 else (workload.batch,)
    kept: list[Tensor] = []

    def run_forward(row: GpuRow) -> None:
        volume = bench.rand((*batch, *workload.grid.shape), 1)
        kept.append(bench.measure(row, lambda: projector @ volume, updates=updates))

    def run_adjoint(row: GpuRow) -> None:
        values = bench.rand((*batch, *workload.geometry.shape), 2)
        image = bench.measure(row, lambda: projector.T @ values, updates=workload.backward_updates())
        row.repeats = bool(torch.equal(image, projector.T @ values))
        if kept:
            volume = bench.rand((*batch, *workload.grid.shape), 1)
            row.gap = adjoint_gap(kept.pop(), values, volume, image)

    name = workload.name
    bench.add(GpuRow(workload=name, task=f"forward{suffix}", tool="raymend"), run_forward)
    bench.add(GpuRow(workload=name, task=f"adjoint{suffix}", tool="raymend"), run_adjoint)


def backprojection(bench: GpuBench, workload: Workload, precision: str = "single") -> None:
    """Measure the backprojection of FBP or FDK alone."""
    suffix = "" if precision == "single" else f", {precision}"
    unit = getattr(workload.geometry, "source_to_axis", 1.0)
    places = maps(workload.geometry, workload.grid, unit=unit)

    def run(row: GpuRow) -> None:
        values = bench.rand((workload.batch, *workload.geometry.shape), 2)
        kernel = kernels.find("backproject", values, precision)
        bench.measure(row, lambda: kernel(places, values), updates=workload.backward_updates(), note="alone")

    bench.add(GpuRow(workload=workload.name, task=f"backprojection{suffix}", tool="raymend"), run)


def whole(
    bench: GpuBench, workload: Workload, task: str, method: Callable[..., Tensor], ball: Tensor | None = None
) -> None:
    """Measure FBP or FDK from line integrals on the GPU, those of the ball if given, to the image on it."""

    def run(row: GpuRow) -> None:
        values = bench.rand(workload.geometry.shape, 2) if ball is None else ball.to(bench.device)
        scan = Scan(geometry=workload.geometry, values=values)
        image = bench.measure(row, lambda: method(scan, workload.grid), updates=workload.backward_updates())
        if ball is not None:
            judge(row, image.cpu(), workload)

    bench.add(GpuRow(workload=workload.name, task=task, tool="raymend"), run)


def filtering(bench: GpuBench, workload: Workload) -> None:
    """Measure weighting and filtering alone."""
    geometry, rows = workload.geometry, (0, workload.geometry.detector.shape[0])
    options = {"window": "ram-lak", "cutoff": 1.0, "padding": "zero"}
    recipe = Recipe.of(geometry, workload.grid, redundancy(geometry), **options)

    def run(row: GpuRow) -> None:
        scan = Scan(geometry=geometry, values=bench.rand(geometry.shape, 2))
        bench.measure(row, lambda: recipe.filtered(scan, slice(None), rows), note="alone")

    bench.add(GpuRow(workload=workload.name, task="filtering", tool="raymend"), run)


def stacked(fan: Workload, slices: int) -> Workload:
    return replace(fan, name="W2" if slices == 32 else f"W2, {slices} slices", batch=slices)


def measure_plane(bench: GpuBench, work: "Problems") -> None:
    fan, updates = work["W1"], work.updates("W1")
    pair(bench, fan, updates)
    for slices in STACKS[:1] if bench.interpreted else STACKS[1:]:
        stack = stacked(fan, slices)
        for precision in kernels.PRECISIONS:
            pair(bench, stack, slices * updates, precision)
    for precision in ("single", "half"):
        backprojection(bench, work["W4"], precision)
    whole(bench, work["W4"], "FBP", recon.fbp, work.ball("W4"))


def measure_cone(bench: GpuBench, work: "Problems") -> None:
    cone = work["W3"]
    pair(bench, cone, work.updates("W3"))
    for precision in ("single", "half"):
        backprojection(bench, cone, precision)
    filtering(bench, cone)
    whole(bench, cone, "FDK", recon.fdk, work.ball("W3"))


def measure_c_arm(bench: GpuBench, work: "Problems") -> None:
    large = work["C-arm"]
    for precision in ("single", "half"):
        backprojection(bench, large, precision)
    whole(bench, large, "FDK", recon.fdk)
    whole(bench, large, "FDK, half", partial(recon.fdk, precision="half"))
    pair(bench, large, work.updates("C-arm"))


def measure_gradient(bench: GpuBench, work: "Problems") -> None:
    """The goal is a cost of at most four forward projections."""
    for name in ("W1", "W3"):
        problem = work[name]
        rays = Projector(grid=problem.grid, geometry=problem.geometry).lines

        def run(row: GpuRow, problem: Workload = problem, rays: Any = rays) -> None:
            volume, values = bench.rand((1, *problem.grid.shape), 1), bench.rand((1, *problem.geometry.shape), 2)
            kernel = kernels.find("ray_gradient", volume)
            bench.measure(row, lambda: kernel(rays, volume, values))

        bench.add(GpuRow(workload=name, task="gradient to poses", tool="raymend"), run)


def measure_solvers(bench: GpuBench, work: "Problems") -> None:
    methods = {"OS-SART": partial(recon.os_sart, subsets=2 if bench.interpreted else None), "CGLS": recon.cgls}
    for name in ("W1", "W3"):
        problem = work[name]
        for task, method in methods.items():

            def run(row: GpuRow, problem: Workload = problem, method: Any = method) -> None:
                count = bench.iterations
                scan = Scan(geometry=problem.geometry, values=work.ball(problem.name).to(bench.device))
                call = lambda: method(scan, problem.grid, iterations=count).image  # noqa: E731
                image = bench.measure(row, call, per=count, note=f"{count} iterations, set-up included")
                row.note += f"; {1 / row.wall:.3g} a second"
                judge(row, image.cpu(), problem)

            bench.add(GpuRow(workload=name, task=f"{task}, an iteration", tool="raymend"), run)


def measure_peers(bench: GpuBench, work: "Problems") -> None:
    """Measure whatever toolbox is there; one that is not has one row that says so."""
    for tool, tasks in gpu_peers.TOOLS.items():
        if importlib.util.find_spec(gpu_peers.MODULES[tool]) is None:
            bench.add(GpuRow(workload="all", task="all", tool=tool, note="not installed"), lambda row: None)
            continue
        for name, task, prepare in tasks:
            problem = work[name] if name in ("W1", "W3", "W4", "C-arm") else stacked(work["W1"], 32)
            updates = problem.backward_updates()
            if task == "forward":
                updates = work.updates("W1" if name == "W2" else name) * problem.batch

            def run(row: GpuRow, problem: Workload = problem, prepare: Any = prepare, updates: float = updates) -> None:
                batch = () if problem.batch == 1 else (problem.batch,)
                shape = problem.grid.shape if row.task == "forward" else problem.geometry.shape
                data = bench.rand((*batch, *shape), 1)
                call, note = prepare(problem.geometry, problem.grid, data)
                bench.measure(row, call, updates=updates, note=note)

            bench.add(GpuRow(workload=name, task=task, tool=tool), run)


SECTIONS = {
    "correct": lambda bench, work: check_all(bench, GpuRow),
    "plane": measure_plane,
    "cone": measure_cone,
    "c-arm": measure_c_arm,
    "gradient": measure_gradient,
    "solvers": measure_solvers,
    "peers": measure_peers,
}


class Problems(dict[str, Workload]):
    """The workloads, with what is worked out once on the CPU: updates of a forward projection, and the ball's rays."""

    def __init__(self, *, quick: bool, interpreted: bool) -> None:
        part = TINY if interpreted else 8
        super().__init__({**workloads(quick, part), "C-arm": c_arm(quick, part)})
        self._updates: dict[str, float] = {}
        self._balls: dict[str, Tensor] = {}

    def ball(self, name: str) -> Tensor:
        if name not in self._balls:
            self._balls[name] = self[name].ball_values()
        return self._balls[name]

    def updates(self, name: str) -> float:
        if name not in self._updates:
            with own_kernels():
                self._updates[name] = self[name].forward_updates()
        return self._updates[name]


FIND = kernels.find


@contextlib.contextmanager
def own_kernels() -> Iterator[None]:
    """Let tensors on the CPU find its own kernels again, within --interpret."""
    routed, kernels.find = kernels.find, FIND
    try:
        yield
    finally:
        kernels.find = routed


def interpret(operation: str, tensor: Tensor, precision: str = "single") -> Any:
    """Find the Triton kernel for tensors on the CPU, which the interpreter runs."""
    from recon.kernels import gpu

    kernel = getattr(gpu, operation)
    return kernel if precision == "single" else partial(kernel, precision=precision)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Times and correctness of the GPU kernels, beside the peers there.")
    parser.add_argument("--quick", action="store_true", help="an eighth of the size: to see that it runs")
    parser.add_argument("--interpret", action="store_true", help="tiny, on the CPU, in Triton's interpreter")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS), help="some of the sections")
    parser.add_argument("--seconds", type=float, default=460.0, help="for all sections together (default: 460)")
    parser.add_argument("--output", type=Path, help="folder for the results (default: this; in small a new one)")
    return parser.parse_args()


def main() -> int:
    arguments = parse()
    quick = arguments.quick or arguments.interpret
    if arguments.interpret:
        os.environ["TRITON_INTERPRET"] = "1"  # before Triton is loaded
        kernels.find = interpret
    elif not torch.cuda.is_available():
        print("not measured: torch finds no CUDA GPU here; --interpret proves that the script runs", file=sys.stderr)
        return 2
    output = arguments.output or (Path(tempfile.mkdtemp(prefix="raymend-gpu-")) if quick else Path(__file__).parent)
    output.mkdir(parents=True, exist_ok=True)
    bench = GpuBench(
        repeats=3,
        iterations=1 if arguments.interpret else 10,
        peer_iterations=1,
        quick=quick,
        slow=False,
        output=output,
        machine=machine(interpreted=arguments.interpret),
        device=torch.device("cpu" if arguments.interpret else "cuda"),
        seconds=arguments.seconds,
        interpreted=arguments.interpret,
    )
    print("\n".join(f"{name}: {text}" for name, text in bench.machine.items()), flush=True)
    work = Problems(quick=quick, interpreted=arguments.interpret)
    run(bench, work, arguments.only)
    bench.write(finished=True)
    print(table.gpu_section(json.loads((output / "gpu.json").read_text())))
    print(f"written to {output} after {time.perf_counter() - bench.begun:.0f} s")
    return 0


def run(bench: GpuBench, work: Problems, sections: Sequence[str]) -> None:
    """Go through the sections; each may take its share and what earlier ones left."""
    share = bench.seconds / sum(SHARES[name] for name in sections)
    bench.ends = bench.begun
    for name in SECTIONS:
        if name not in sections:
            continue
        bench.ends += share * SHARES[name]
        print(f"\n{name}", flush=True)
        try:
            SECTIONS[name](bench, work)
        except Exception as reason:  # what is set up outside a row
            note = f"not measured: {' '.join(str(reason).split())[:120] or type(reason).__name__}"
            bench.rows.append(GpuRow(workload=name, task="the rest", tool="raymend", note=note))
            bench.write(finished=False)


if __name__ == "__main__":
    sys.exit(main())
