"""Whether FDK's cost grows as its work does: time and peak memory over the volume and over the number of views.

    python benchmarks/scaling.py [--sizes 128 256] [--views 360] [--size 256] [--counts 90 180] [--memory 2GB]

Every point is a process of its own, whose peak memory the system tells. The volume has N³ voxels, the detector 1.5 N
pixels square, and the number of views grows with N, 720 at 512, unless --views fixes it. Time is that of `recon.fdk`
from call to return, the best of a few repeats. With --memory it is the command `raymend reconstruct` that runs, once,
with that budget; then the time includes its start and its files.

Writes benchmarks/scaling.json after every point and docs/figures/scaling.png at the end.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import history

ROOT = Path(__file__).parents[1]
FIELD = 256.0  # mm, width of the volume
DISTANCES = {"source_to_axis": 570.0, "source_to_detector": 1040.0}
LONG = 20.0  # seconds after which nothing is repeated
INK, PAPER, LINE, IDEAL = "#e8eaed", "#15181c", "#8ab4f8", "#9aa0a6"

Point = dict[str, Any]


def case(size: int, views: int) -> Any:
    """Make a scan of N and the grid: a smooth bump that no view cuts off."""
    import recon  # before torch: it settles how idle threads wait

    # isort: split
    import torch

    step, pixels = FIELD / size, 3 * size // 2
    pitch = step * DISTANCES["source_to_detector"] / DISTANCES["source_to_axis"]
    panel = recon.Detector(shape=(pixels, pixels), pitch=(pitch, pitch))
    geometry = recon.ConeBeam.circular(views, detector=panel, **DISTANCES)
    axis = torch.linspace(-1.2, 1.2, pixels)
    bump = (1 - axis[:, None] ** 2 - axis**2).clamp_min(0) ** 2
    scan = recon.Scan(geometry=geometry, values=bump.repeat(views, 1, 1))
    return scan, recon.VolumeGrid(shape=(size, size, size), spacing=(step, step, step))


def reconstruct(size: int, views: int, repeats: int, threads: int) -> Point:
    """Time one point in this process, after a small one that compiles."""
    import recon  # before torch

    # isort: split
    import numba
    import table
    import torch

    numba.set_num_threads(threads)
    torch.set_num_threads(threads)
    recon.fdk(*case(16, 8))
    scan, grid = case(size, views)
    walls, cpus = [], []
    while len(walls) <= repeats and sum(walls) < LONG:
        wall, cpu = time.perf_counter(), time.process_time()
        recon.fdk(scan, grid)
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return {"wall": min(walls), "cpu": min(cpus), "machine": table.machine(threads)}


def save(size: int, views: int, path: Path) -> Point:
    from recon.io import write_scan

    write_scan(path, case(size, views)[0])
    return {}


def measured(words: Sequence[object], threads: int) -> tuple[str, Point]:
    """Run an interpreter of its own: what it printed, its times and its peak memory in MiB."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    limits = {name: str(threads) for name in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS")}
    environment = {**os.environ, **limits, "PYTHONPATH": os.pathsep.join(paths)}
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        begun = time.perf_counter()
        child = subprocess.Popen([sys.executable, *map(str, words)], env=environment, stdout=out, stderr=err)
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.perf_counter() - begun
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        printed, complaints = out.read().decode(), err.read().decode().strip().splitlines()
    if child.returncode:
        raise RuntimeError(complaints[-1] if complaints else f"the process ended with {child.returncode}")
    peak = usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    return printed, {"wall": wall, "cpu": usage.ru_utime + usage.ru_stime, "peak_mib": round(peak, 1)}


def measure(series: str, size: int, views: int, options: argparse.Namespace) -> Point:
    """Measure one point; whatever goes wrong is written into it."""
    pixels = (3 * size // 2) ** 2 * views
    data = 4 * (pixels + size**3) / 2**20
    point = {"series": series, "size": size, "views": views, "updates": size**3 * views, "data_mib": round(data, 1)}
    try:
        found = _by_command(size, views, options) if options.memory else _by_call(size, views, options)
    except Exception as reason:
        return {**point, "note": f"not measured: {' '.join(str(reason).split())[:200] or type(reason).__name__}"}
    return {**point, **found, "gups": point["updates"] / found["wall"] / 1e9}


def _by_call(size: int, views: int, options: argparse.Namespace) -> Point:
    words = (__file__, "--point", size, views, "--repeats", options.repeats, "--threads", options.threads)
    printed, usage = measured(words, options.threads)
    return {**json.loads(printed.splitlines()[-1]), "peak_mib": usage["peak_mib"]}


def _by_command(size: int, views: int, options: argparse.Namespace) -> Point:
    with tempfile.TemporaryDirectory(prefix="raymend-scaling-") as folder:
        scan, image = Path(folder) / "scan.h5", Path(folder) / "image.npy"
        measured((__file__, "--point", size, views, "--write", scan), options.threads)
        words = ("reconstruct", scan, "-o", image, "--method", "fdk", "--shape", size, "--spacing", FIELD / size)
        return measured(("-m", "raymend", *words, "--memory", options.memory), options.threads)[1]


def exponent(points: Sequence[Point]) -> float:
    """Fit wall time ∝ updates^exponent; 1 is linear."""
    x, y = ([math.log(point[key]) for point in points] for key in ("updates", "wall"))
    middle, level = sum(x) / len(x), sum(y) / len(y)
    spread = sum((a - middle) ** 2 for a in x)
    return sum((a - middle) * (b - level) for a, b in zip(x, y, strict=True)) / spread if spread else math.nan


def draw(points: Sequence[Point], path: Path, note: str) -> None:
    """Draw time over work, time over views, and peak memory over the data."""
    from matplotlib.figure import Figure

    done = [point for point in points if "wall" in point]
    sizes, views = ([point for point in done if point["series"] == name] for name in ("size", "views"))
    figure = Figure(figsize=(12.4, 3.8), facecolor=PAPER, layout="constrained")
    panels = figure.subplots(1, 3)
    for axes, chosen, key, label in (
        (panels[0], sizes, "updates", "voxels × views"),
        (panels[1], views, "views", "views"),
    ):
        _panel(axes, chosen, key, "wall", label, "s")
        if len(chosen) > 1:
            _ideal(axes, chosen, key, "wall")
            axes.set_title(f"FDK: time ∝ ({label})^{exponent(chosen):.2f}", color=INK, fontsize=9, loc="left")
    for point in sizes:
        last = point["updates"] == max(p["updates"] for p in sizes)
        panels[0].annotate(
            f"{point['size']}³ × {point['views']}",
            (point["updates"], point["wall"]),
            (-6, 2) if last else (6, -6),
            textcoords="offset points",
            color=INK,
            fontsize=7,
            ha="right" if last else "left",
        )
    if views:
        panels[1].set_xlabel(f"views of {views[0]['size']}³", color=INK, fontsize=8)
        panels[1].set_xticks([], minor=True)
        panels[1].set_xticks([p["views"] for p in views], [str(p["views"]) for p in views])
    _panel(panels[2], done, "data_mib", "peak_mib", "projections and volume, MiB", "MiB")
    panels[2].set(xscale="linear", yscale="linear", ylim=(0, None))
    if done:
        both = sorted(point["data_mib"] for point in done)
        panels[2].plot(both, both, "--", color=IDEAL, linewidth=0.8)
    panels[2].set_title("peak memory; dashed: the data alone", color=INK, fontsize=9, loc="left")
    figure.supxlabel(note, color=IDEAL, fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _panel(axes: Any, points: Sequence[Point], x: str, y: str, below: str, beside: str) -> None:
    ordered = sorted(points, key=lambda point: point[x])
    axes.plot([p[x] for p in ordered], [p[y] for p in ordered], "o-", color=LINE, markersize=4, linewidth=1.2)
    scale = "log" if points else "linear"  # a log scale needs something to show
    axes.set(xscale=scale, yscale=scale, facecolor=PAPER)
    axes.set_xlabel(below, color=INK, fontsize=8)
    axes.set_ylabel(beside, color=INK, fontsize=8)
    axes.tick_params(which="both", colors=INK, labelsize=7)
    for spine in axes.spines.values():
        spine.set_color(IDEAL)


def _ideal(axes: Any, points: Sequence[Point], x: str, y: str) -> None:
    """Add the line on which time grows as the work does, through the largest point."""
    ordered = sorted(points, key=lambda point: point[x])
    last = ordered[-1]
    axes.plot([p[x] for p in ordered], [last[y] * p[x] / last[x] for p in ordered], "--", color=IDEAL, linewidth=0.8)


def line(point: Point) -> str:
    where = f"{point['series']:6} {point['size']}³ × {point['views']}"
    if "note" in point:
        return f"{where:22} {point['note']}"
    times = f"{point['wall']:9.3f} s {point['cpu']:9.3f} CPU s"
    return f"{where:22} {times} {point['gups']:6.2f} GUPS {point['peak_mib']:9.0f} MiB"


def write(path: Path, points: Sequence[Point], options: argparse.Namespace) -> str:
    """Write what there is; return a line about machine and settings."""
    machine = next((point["machine"] for point in points if "machine" in point), {})
    rows = [{key: value for key, value in point.items() if key != "machine"} for point in points]
    record = {"commit": history.commit(), "memory": options.memory, "machine": machine, "points": rows}
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(path)
    about = [str(machine[key]) for key in ("date", "processor", "instructions") if key in machine]
    return ", ".join([*about, f"{options.threads} threads", *([f"memory={options.memory}"] * bool(options.memory))])


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time and peak memory of FDK over size and views.")
    parser.add_argument("--sizes", type=int, nargs="*", default=[128, 192, 256, 384, 512], help="voxels along an edge")
    parser.add_argument("--views", type=int, help="the same number for all sizes (default: 720 at 512, in proportion)")
    parser.add_argument("--size", type=int, default=256, help="voxels along an edge for --counts (default: 256)")
    parser.add_argument("--counts", type=int, nargs="*", default=[90, 180, 360, 720], help="numbers of views")
    parser.add_argument(
        "--memory", help="a budget such as 2GB, given to `raymend reconstruct`, which then does the work"
    )
    parser.add_argument("--repeats", type=int, default=2, help="runs after the first (default: 2)")
    parser.add_argument("--threads", type=int, default=_processors(), help="default: all processors")
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "scaling.json", help="where numbers go")
    parser.add_argument(
        "--figure", type=Path, default=ROOT / "docs" / "figures" / "scaling.png", help="where it is drawn"
    )
    parser.add_argument("--point", type=int, nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    numbers = [*arguments.sizes, arguments.size, *arguments.counts, arguments.threads, arguments.views or 8]
    if min(numbers) < 1 or min(arguments.size, *arguments.sizes) < 8:
        parser.error("sizes start at 8, views and threads at 1")
    return arguments


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def main() -> int:
    options = parse()
    if options.point:
        found = (
            save(*options.point, options.write)
            if options.write
            else reconstruct(*options.point, options.repeats, options.threads)
        )
        print(json.dumps(found))
        return 0
    plan = [("size", size, options.views or max(8, round(720 * size / 512))) for size in options.sizes]
    plan += [("views", options.size, count) for count in options.counts]
    points: list[Point] = []
    note = ""
    for series, size, views in plan:
        points.append(measure(series, size, views, options))
        print(line(points[-1]), flush=True)
        note = write(options.json, points, options)
    measured_some = any("wall" in point for point in points)
    if measured_some:
        draw(points, options.figure, note)
    print(f"written to {options.json}" + f" and {options.figure}" * measured_some)
    return int(not measured_some)


if __name__ == "__main__":
    sys.exit(main())
