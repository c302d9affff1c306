"""How long low-dose methods take on `somatom16`, 1160 views of 672 columns, for 512 pixels a side.

    python benchmarks/low_dose_times.py      # some minutes; on a quiet machine, into low_dose_times.json and RESULTS.md

Three goals: thirty steps of sub-pixel diffusion within a second, the choice among twelve settings by SURE within 20 s,
and PWLS with total variation in the image, from FBP to within 1 HU of its own minimum, within 60 s. The minimum is
taken from where the method stops, by eighty further passes with two subsets.
"""

import json
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from low_dose import restored
from low_dose_cases import cases
from table import render
from torch import Tensor

from raymend.image_domain import image_domain
from raymend.low_dose import low_dose
from recon import pwls
from recon.io.atomic import atomic_write
from recon.sinogram import SPAD
from recon.sinogram.restore import CANDIDATES

FILE = Path(__file__).parent / "low_dose_times.json"
REPEATS = 3
PASSES = 80
FURTHER = 80  # passes with two subsets, to find the minimum


def timed(make: Callable[[], Any], repeats: int = REPEATS) -> tuple[float, float, Any]:
    """Return the least wall seconds, the CPU seconds of that run, and what was made."""
    found = []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        made = make()
        found.append((time.perf_counter() - wall, time.process_time() - cpu))
    return *min(found), made


def main() -> int:
    case, rows = cases()["Shepp-Logan"], []
    scan = case.scan(1e5, 0)

    def row(what: str, goal: float, make: Callable[[], Any], repeats: int = REPEATS, note: str = "") -> Any:
        wall, cpu, made = timed(make, repeats)
        rows.append({"what": what, "goal": goal, "wall": wall, "cpu": cpu, "note": note})
        print(f"{what}: {wall:.2f} s wall, {cpu:.2f} s of CPU, goal {goal:g} s", flush=True)
        return made

    with torch.no_grad():
        restored(scan, SPAD(iterations=2))  # compiles
        row("sub-pixel diffusion, 30 steps", 1.0, lambda: restored(scan, SPAD(iterations=30)))
        row(
            "choice among 12 settings by SURE, and FBP",
            20.0,
            lambda: low_dose(scan, case.grid, method=CANDIDATES["spad"]),
            1,
        )
        usual: dict[str, Any] = {"prior": "tv"}
        exact: dict[str, Any] = {**usual, "oversampling": 1}
        image_domain(scan, case.grid, iterations=1, **usual)
        row("PWLS-TV in the image as it is by default", 60.0, lambda: image_domain(scan, case.grid, **usual), 1)
        what = f"PWLS-TV in the image, {PASSES} passes, oversampling 1"
        found = row(what, 60.0, lambda: image_domain(scan, case.grid, iterations=PASSES, **exact), 1)
        lowest = pwls(scan, case.grid, start=found.image, iterations=FURTHER, subsets=2, **exact)
        rows[-1]["note"] = f"{distance(case, found.image, lowest.image):.2f} HU from its minimum"
    record = {"date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", "load": os.getloadavg()[0], "cores": os.cpu_count()}
    with atomic_write(FILE) as partial:
        Path(partial).write_text(json.dumps({**record, "rows": rows}, indent=1) + "\n")
    render(FILE.parent)
    return 0


def distance(case: Any, image: Tensor, other: Tensor) -> float:
    """Return the root mean square difference in HU in the field of view."""
    gap = (case.hu(image) - case.hu(other))[case.mask]
    return float(gap.square().mean().sqrt())


if __name__ == "__main__":
    raise SystemExit(main())
