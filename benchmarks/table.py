"""What bench.py writes: the machine, the table and the files."""

import json
import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import comparison_table
import goals
import low_dose_table
import peers

from raymend.machine import processors, vector_features
from recon.io.atomic import atomic_write
from recon.kernels.cpu import simd

__all__ = ["append", "gpu_line", "gpu_section", "line", "machine", "page", "processors", "ratios", "render", "write"]

HEAD = (
    "workload",
    "task",
    "tool",
    "wall s",
    "CPU s",
    "GUPS",
    "error %",
    "PSNR dB",
    "adjoint gap",
    "wall ×",
    "CPU ×",
    "note",
)
TEXT = """# Times

Written by `benchmarks/bench.py`, which says what W1 to W4, updates (GUPS) and the adjoint gap are. Times are the best
of some repeats, CPU seconds those of all threads. `wall ×` and `CPU ×` are a peer's time over raymend's for the same
row: how many times faster raymend is. **Wall ratios hold on a quiet machine, CPU ratios on a loaded one**; the load at
the start tells which this was. ASTRA's processor code and scikit-image use one thread, whatever is set. Peers are timed
with their arrays and projectors made, raymend from call to return. Errors are relative root mean square on a smooth
ball: of projections against exact line integrals, of images against means over the pixels (in 3-D, against values at
the voxels' middles) wherever all views see them, which leaves out the corners of W4; the PSNR's peak is the ball's.
After few iterations, or from few views, an image is not expected to be near.
"""

GPU_HEAD = (
    "workload",
    "task",
    "tool",
    "ms",
    "GUPS",
    "error %",
    "PSNR dB",
    "adjoint gap",
    "repeats",
    "peak MiB",
    "×",
    "note",
)
GPU_TEXT = """# Times on a GPU

Written by `benchmarks/gpu.py`, which says what is measured. Times are medians, between events on the GPU, with all
arrays on it. Errors are the largest difference from the plain twin over its largest value, for small cases; for FBP and
FDK the relative root mean square on a smooth ball. *Repeats*: a second call gave the same bits. *Peak* is what a call
allocates beyond its input, kept tables included. *×* is a peer's time over raymend's for the same row.
"""


def machine(threads: int) -> dict[str, Any]:
    """Describe the machine and the software, before anything is timed."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": _processor(),
        "cores": processors(),
        "threads": threads,
        "instructions": simd.instruction_set(),
        "features": vector_features(),
        "load": [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.machine()}",
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "numba", "numpy")},
            **peers.installed(),
        },
    }


def _processor() -> str:
    """Return the processor's name, its family and model included: virtual machines shorten the name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    found = {key.strip(): value.strip() for key, _, value in (text.partition(":") for text in lines)}
    name = found.get("model name") or platform.processor() or "unknown"
    return f"{name} (family {found['cpu family']}, model {found['model']})" if "cpu family" in found else name


def ratios(rows: Sequence[Any]) -> None:
    """Set every peer's time over raymend's for the same workload and task."""
    ours = {(row.workload, row.task): row for row in rows if row.tool == "raymend"}
    for row in rows:
        base = ours.get((row.workload, row.task))
        if base is not None and base is not row and row.wall is not None and base.wall:
            row.wall_ratio = row.wall / base.wall
            row.cpu_ratio = row.cpu / base.cpu if base.cpu else None


def line(row: Any) -> str:
    """Write a row as a line of Markdown."""
    numbers = (_number(value) for value in (row.wall, row.cpu, row.gups, row.error))
    decibels = "" if row.psnr is None else f"{row.psnr:.1f}"
    gap = "" if row.gap is None else f"{row.gap:.0e}"
    times = ("" if value is None else f"{value:.1f}" for value in (row.wall_ratio, row.cpu_ratio))
    note = row.note.replace("|", "/")
    return "| " + " | ".join((row.workload, row.task, row.tool, *numbers, decibels, gap, *times, note)) + " |"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def page(rows: Sequence[Any], found: dict[str, Any], *, quick: bool, finished: bool) -> str:
    """Write the whole page."""
    load = "unknown" if found["load"] is None else " / ".join(f"{value:.2f}" for value in found["load"])
    software = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    about = (
        f"{found['date']}. {found['processor']}, {found['cores']} cores, {found['threads']} threads, "
        f"{found['instructions']} ({' '.join(found['features'])}), {found['system']}. "
        f"Load average at the start (1, 5, 15 minutes): {load}. {software}."
    )
    small = "\nMeasured with `--quick`, at an eighth of the size: these are not results.\n" if quick else ""
    small += "" if finished else "\nThe run did not end: rows are missing.\n"
    head = [TEXT, about, small, goals.section(rows, found["load"]), "## Rows\n"]
    rules = "| " + " | ".join("---" for _ in HEAD) + " |"
    return "\n".join([*head, "| " + " | ".join(HEAD) + " |", rules, *map(line, rows), ""])


def gpu_line(row: Any) -> str:
    """Write a row measured on a GPU as a line of Markdown."""
    wall = "" if row.wall is None else f"{1e3 * row.wall:.3g}"
    gap = "" if row.gap is None else f"{row.gap:.0e}"
    decibels, ratio = ("" if value is None else f"{value:.1f}" for value in (row.psnr, row.wall_ratio))
    peak = "" if row.peak is None else f"{row.peak:.0f}"
    same = {None: "", True: "yes", False: "**no**"}[row.repeats]
    cells = (row.workload, row.task, row.tool, wall, _number(row.gups), _number(row.error), decibels, gap, same)
    return "| " + " | ".join((*cells, peak, ratio, row.note.replace("|", "/"))) + " |"


def gpu_section(record: dict[str, Any]) -> str:
    """Write what gpu.py measured."""
    rows, found = [SimpleNamespace(**row) for row in record["rows"]], record["machine"]
    software = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    about = f"{found['date']}. {found['card']}, driver {found['driver']}, {found['system']}. {software}.\n"
    small = "Measured with `--quick` or `--interpret`, in small: these are not results.\n" if record["quick"] else ""
    cut = "" if record["finished"] else "The run did not end: rows are missing.\n"
    rules = "| " + " | ".join("---" for _ in GPU_HEAD) + " |"
    table = ["| " + " | ".join(GPU_HEAD) + " |", rules, *map(gpu_line, rows)]
    judged = goals.lines(goals.judge(rows, goals.GPU_GOALS))
    return "\n".join((GPU_TEXT, about, *filter(None, (small, cut)), *judged, "", *table, ""))


def render(folder: Path) -> None:
    """Write RESULTS.md from results.json, gpu.json and those of low_dose.py and comparisons.py, whichever there is."""
    parts = []
    if (folder / "results.json").exists():
        record = json.loads((folder / "results.json").read_text(encoding="utf-8"))
        rows = [SimpleNamespace(**row) for row in record["rows"]]
        parts.append(page(rows, record["machine"], quick=record["quick"], finished=record["finished"]))
    if (folder / "gpu.json").exists():
        parts.append(gpu_section(json.loads((folder / "gpu.json").read_text(encoding="utf-8"))))
    if (folder / "low_dose.json").exists():
        rows = json.loads((folder / "low_dose.json").read_text(encoding="utf-8"))
        parts.append("\n".join((*low_dose_table.lines(rows), "")))
    if (folder / "low_dose_times.json").exists():
        record = json.loads((folder / "low_dose_times.json").read_text(encoding="utf-8"))
        parts.append("\n".join((*low_dose_table.times(record), "")))
    if (folder / "comparisons.json").exists():
        rows = json.loads((folder / "comparisons.json").read_text(encoding="utf-8"))
        parts.append("\n".join((*comparison_table.lines(rows), "")))
    write(folder / "RESULTS.md", "\n".join(parts))


def write(path: Path, text: str) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def append(path: Path, text: str) -> None:
    """Add a line to a file of one record a line; a kill leaves the old file or the new one."""
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    write(path, before + text + "\n")
