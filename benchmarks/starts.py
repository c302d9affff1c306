"""How long it takes to begin: processes that import, compile everything, or find everything compiled."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

IMPORT = ["-c", "import recon"]
STATEMENT = """
import time
wall, cpu = time.perf_counter(), time.process_time()
import recon
print(time.perf_counter() - wall, time.process_time() - cpu)
"""
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


def cases(*, quick: bool) -> Iterator[tuple[str, str, Callable[[Any], None]]]:
    """Yield name, note and measurement of every process; the first of a kind compiles what the second finds."""
    with tempfile.TemporaryDirectory(prefix="raymend-bench-") as folder:
        yield "import recon", "the statement", statement
        yield "import recon, a process", "interpreter and its end included", lambda row: process(row, IMPORT, {})
        for name, note, words in (
            ("first calls", "fan and cone: forward, adjoint, FBP, FDK; a process, import included", ["-c", FIRST]),
            ("raymend demo", "a process, everything included", _demo(Path(folder) / "demo")),
        ):
            cache = {"NUMBA_CACHE_DIR": str(Path(folder) / f"{name} compiled")}
            for state in ("nothing cached", "all cached"):
                if quick:
                    yield f"{name}, {state}", "left out by --quick", lambda row: None
                else:
                    yield f"{name}, {state}", note, lambda row, words=words, cache=cache: process(row, words, cache)


def _demo(folder: Path) -> list[str]:
    return ["-m", "raymend", "demo", "--json", "--out", str(folder)]


def statement(row: Any) -> None:
    """Time the import alone, in an interpreter of its own."""
    row.wall, row.cpu = (float(number) for number in process(row, ["-c", STATEMENT], {}).split())


def process(row: Any, words: list[str], environment: dict[str, str]) -> str:
    """Time an interpreter of its own and return what it printed."""
    before, wall = os.times(), time.perf_counter()
    found = {**os.environ, **environment, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-W", "ignore", *words], env=found, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "the process failed")
    after = os.times()
    row.wall = time.perf_counter() - wall
    row.cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return done.stdout
