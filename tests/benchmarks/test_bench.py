import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = {
    ("W1", "forward"), ("W1", "adjoint"), ("W1", "SIRT, an iteration"), ("W1", "CGLS, an iteration"),
    ("W2", "forward"), ("W2", "adjoint"),
    ("W3", "forward"), ("W3", "adjoint"), ("W3", "FDK"),
    ("W4", "FBP"),
    ("start", "import recon"), ("start", "first calls, nothing cached"), ("start", "first calls, all cached"),
}  # fmt: skip
PEERS = {
    ("W1", "forward", "ASTRA line"), ("W1", "adjoint", "ASTRA strip"), ("W1", "forward", "RTK Joseph"),
    ("W3", "adjoint", "RTK Joseph"), ("W3", "FDK", "RTK"), ("W4", "FBP", "ASTRA linear"), ("W4", "FBP", "scikit-image"),
    ("W1", "SIRT, an iteration", "ASTRA line"), ("W1", "CGLS, an iteration", "ASTRA line"),
}  # fmt: skip


def bench(folder: Path) -> None:
    command = [
        sys.executable,
        str(ROOT / "benchmarks" / "bench.py"),
        "--quick",
        "--threads",
        "1",
        "--output",
        str(folder),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr


@pytest.mark.timeout(600)  # on a fresh machine it compiles every kernel
def test_quick_run_fills_every_row_whatever_peers_there_are(tmp_path: Path) -> None:
    (tmp_path / "history.jsonl").write_text('{"earlier": 1}\n')
    bench(tmp_path)
    record = json.loads((tmp_path / "results.json").read_text())
    rows = {(row["workload"], row["task"], row["tool"]): row for row in record["rows"]}
    assert {key[:2] for key in rows if key[2] == "raymend"} == OURS
    assert set(rows) >= PEERS
    for key, row in rows.items():
        assert row["wall"] is not None or row["note"], key  # measured, or why not
        if key[2] == "raymend" and not key[1].startswith("first"):
            assert not row["note"].startswith("not measured"), row
            assert row["wall"] > 0
    for workload in ("W1", "W2", "W3"):
        assert rows[workload, "adjoint", "raymend"]["gap"] < 1e-6
    page = (tmp_path / "RESULTS.md").read_text().splitlines()
    assert sum(line.startswith(("| W", "| start")) for line in page) == len(rows)
    assert any("not results" in line for line in page)
    history = (tmp_path / "history.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in history] == [{"earlier": 1}, record]
