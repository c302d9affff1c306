import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
ITERATIONS = ("SIRT, an iteration", "CGLS, an iteration")
OURS = {
    *((workload, task) for workload in ("W1", "W2", "W3") for task in ("forward", "adjoint")),
    *((workload, task) for workload in ("W1", "W3") for task in ITERATIONS),
    *(("W3", task) for task in ("FDK", "filtering", "backprojection")),
    ("W4", "FBP"),
    ("start", "import recon"),
    ("start", "import recon, a process"),
    *(
        ("start", f"{name}, {state}")
        for name in ("first calls", "raymend demo")
        for state in ("nothing cached", "all cached")
    ),
}
PEERS = {
    ("W1", "forward", "ASTRA line"), ("W1", "adjoint", "ASTRA strip"), ("W1", "forward", "RTK Joseph"),
    ("W1", "adjoint", "diffct Siddon"), ("W2", "forward", "ASTRA line"), ("W3", "forward", "diffct Siddon"),
    ("W3", "adjoint", "RTK Joseph"), ("W3", "FDK", "RTK"), ("W4", "FBP", "ASTRA linear"), ("W4", "FBP", "scikit-image"),
    *(("W1", task, "ASTRA line") for task in ITERATIONS), *(("W3", task, "RTK Joseph") for task in ITERATIONS),
}  # fmt: skip


def bench(*options: object, folder: Path) -> str:
    command = [sys.executable, str(ROOT / "benchmarks" / "bench.py"), *map(str, options)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.timeout(600)  # on a fresh machine it compiles every kernel
def test_quick_run_fills_every_row_whatever_peers_there_are(tmp_path: Path) -> None:
    committed = {path: path.read_bytes() for path in (ROOT / "benchmarks").glob("[rRh]*") if path.suffix != ".py"}
    printed = bench("--quick", "--threads", 1, folder=tmp_path)
    (folder,) = tmp_path.glob("raymend-bench-*")  # results of a quick run are none: they never replace those committed
    assert f"written to {folder}" in printed
    assert committed == {path: path.read_bytes() for path in committed}
    record = json.loads((folder / "results.json").read_text())
    rows = {(row["workload"], row["task"], row["tool"]): row for row in record["rows"]}
    assert {key[:2] for key in rows if key[2] == "raymend"} == OURS
    assert set(rows) >= PEERS
    for key, row in rows.items():
        assert row["wall"] is not None or row["note"], key  # measured, or why not
        if key[2] == "raymend" and "cached" not in key[1]:
            assert not row["note"].startswith("not measured"), row
            assert row["wall"] > 0
    for workload in ("W1", "W2", "W3"):
        assert rows[workload, "adjoint", "raymend"]["gap"] < 1e-6
    for found in (row for key, row in rows.items() if key[:2] == ("W4", "FBP") and row["wall"] is not None):
        assert found["psnr"] > 40  # measured 71 for raymend, 42 to 70 for peers: each has the axis in its middle
    page = (folder / "RESULTS.md").read_text().splitlines()
    assert sum(line.startswith(("| W", "| start")) for line in page) > len(rows)
    assert any("not results" in line for line in page)
    assert any(
        line.startswith("| W1 forward |") and line.endswith(("floor** |", "floor |", "goal |", "stretch |"))
        for line in page
    )
    (line,) = (folder / "history.jsonl").read_text().splitlines()
    assert len(json.loads(line)["rows"]) == sum(row["wall"] is not None for row in rows.values())


def test_row_that_fails_ends_nothing(script: Callable[[str], ModuleType], tmp_path: Path) -> None:
    module = script("bench")
    settings = {"repeats": 0, "iterations": 1, "peer_iterations": 1, "quick": True, "slow": False}
    machine = script("table").machine(1)
    bench = module.Bench(**settings, output=tmp_path, machine=machine)

    def broken(row: Any) -> None:
        raise MemoryError

    bench.add(module.Row(workload="W1", task="forward", tool="raymend"), broken)
    assert bench.rows[0].note == "not measured: MemoryError"
    assert "The run did not end" in (tmp_path / "RESULTS.md").read_text()
    assert not (tmp_path / "history.jsonl").exists()
