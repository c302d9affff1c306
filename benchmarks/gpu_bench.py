"""The clock of gpu.py, its rows, and the description of the card."""

import contextlib
import json
import platform
import statistics
import subprocess
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import recon  # before torch: it settles how idle threads wait

# isort: split
import gpu_peers
import table
import torch
from bench import Bench, Row, Timing
from torch import Tensor

Work = Callable[[], Any]
ENOUGH = 0.3  # seconds of one row's repeats
LONG = 4.0  # seconds after which nothing is repeated


@dataclass(kw_only=True)
class GpuRow(Row):
    """A row of bench.py, with what matters on a GPU; `cpu` is left empty."""

    peak: float | None = None  # MiB beyond the inputs
    repeats: bool | None = None  # the same bits twice


@dataclass(kw_only=True)
class GpuBench(Bench):
    """Bench with a clock of the GPU and a time by which every section ends."""

    device: torch.device
    seconds: float
    interpreted: bool = False
    begun: float = field(default_factory=time.perf_counter)
    ends: float = 0.0

    def add(self, row: Row, measure: Callable[[Any], None]) -> None:
        if time.perf_counter() > self.ends:
            measure = _no_time
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", recon.CTWarning)
            super().add(row, measure)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def line(self, row: Row) -> str:
        return table.gpu_line(row)

    def write(self, *, finished: bool) -> None:
        rows = [asdict(row) for row in self.rows]
        record = {"machine": self.machine, "quick": self.quick, "finished": finished, "rows": rows}
        table.write(self.output / "gpu.json", json.dumps(record, indent=1) + "\n")
        table.render(self.output)

    def measure(self, row: GpuRow, work: Work, *, updates: float = 0, per: int = 1, note: str = "") -> Any:
        """Fill a row with the median time of some work, and return what the work gives."""
        timing, row.peak = self.clock(work), self.peak(work)
        row.wall = timing.wall / per
        row.gups = updates / timing.wall / 1e9 if updates else None
        row.note = note
        return timing.result

    def clock(self, work: Work) -> Timing:
        """Warm up, which compiles, then take the median of some repeats; short work is repeated within each."""
        result = work()
        first = self.once(work, 1)
        if self.interpreted or first > LONG:
            return Timing(wall=first, cpu=0.0, result=result)
        count = max(1, min(50, int(0.01 / max(first, 1e-6))))
        times: list[float] = []
        spent = 0.0
        while len(times) < 9 and (len(times) < self.repeats or spent < ENOUGH):
            times.append(self.once(work, count))
            spent += times[-1] * count
        return Timing(wall=statistics.median(times), cpu=0.0, result=result)

    def once(self, work: Work, count: int) -> float:
        """Return the seconds of one of several runs in a row, between events where there is a GPU."""
        if self.device.type != "cuda":
            begun = time.perf_counter()
            for _ in range(count):
                work()
            return (time.perf_counter() - begun) / count
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        begin.record()
        for _ in range(count):
            work()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1e3 / count

    def peak(self, work: Work) -> float | None:
        if self.device.type != "cuda":
            return None
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / 2**20

    def rand(self, shape: Sequence[int], seed: int) -> Tensor:
        draw = torch.Generator(self.device).manual_seed(seed)
        return torch.rand(tuple(shape), generator=draw, device=self.device)


def _no_time(row: Row) -> None:
    raise TimeoutError("no time left in this section")


def machine(*, interpreted: bool) -> dict[str, Any]:
    """Describe card and software, before anything is timed."""
    names = ("torch", "triton", "numpy", *gpu_peers.PACKAGES)
    card, driver = ("none: Triton's interpreter", "none") if interpreted else _card()
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "card": card,
        "driver": driver,
        "system": f"{platform.system()} {platform.machine()}",
        "versions": {"python": platform.python_version(), "cuda": torch.version.cuda, **_versions(names)},
    }


def _card() -> tuple[str, str]:
    found = torch.cuda.get_device_properties(0)
    card = f"{found.name}, {found.multi_processor_count} processors, {found.total_memory / 2**30:.0f} GiB"
    question = ["nvidia-smi", "--query-gpu=driver_version,clocks.max.sm,clocks.sm", "--format=csv,noheader"]
    question.append(f"--id=GPU-{found.uuid}")  # the one that torch sees first, whatever others there are
    try:
        answer = subprocess.run(question, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
        driver, most, now = answer.split(", ")
    except (OSError, ValueError, subprocess.SubprocessError):
        return card, "unknown"
    return f"{card}, at most {most} ({now} at the start)", driver


def _versions(names: Sequence[str]) -> dict[str, str]:
    found = {}
    for name in names:
        with contextlib.suppress(ModuleNotFoundError):  # importlib's own derives from it
            found[name] = version(name)
    return found
