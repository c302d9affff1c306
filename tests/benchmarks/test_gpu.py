import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parents[2]
Script = Callable[[str], ModuleType]


def run(*options: object, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), *map(str, options)]
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder), **environment}
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=500)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_everything_runs_in_the_interpreter_and_is_right(tmp_path: Path) -> None:
    pytest.importorskip("triton", reason="needs Triton: pip install 'raymend[triton]'")
    done = run("--interpret", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    (folder,) = tmp_path.glob("raymend-gpu-*")
    record = json.loads((folder / "gpu.json").read_text())
    assert record["finished"]
    rows = [row for row in record["rows"] if row["tool"] in ("raymend", "check")]
    assert {row["workload"] for row in rows} >= {"W1", "W2, 9 slices", "W3", "W4", "C-arm", "fan", "tilted, moved"}
    for row in rows:
        assert not row["note"].startswith("not measured"), row
        assert row["repeats"] in (True, None), row
        lower = "," in row["task"]  # tf32 and half: 0.03 % and 5e-6 measured; else 9e-5 % and 8e-8
        assert row["gap"] is None or row["gap"] < (1e-4 if lower else 1e-6), row
        assert row["tool"] != "check" or row["error"] < (0.1 if lower else 5e-4), row
    page = (folder / "RESULTS.md").read_text()
    assert "these are not results" in page
    assert page in done.stdout  # the table comes last
    assert done.stdout.rstrip().splitlines()[-1].startswith("written to")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, so that it would be measured")
def test_without_a_gpu_it_says_so(tmp_path: Path) -> None:
    done = run(folder=tmp_path)
    assert done.returncode == 2
    assert "torch finds no CUDA GPU here; --interpret" in done.stderr
    assert not list(tmp_path.iterdir())


def bench(script: Script, folder: Path, seconds: float = 1.0) -> Any:
    module = script("gpu")
    about = {"date": "now", "card": "a card", "driver": "1", "system": "here", "versions": {"torch": "2"}}
    return module.GpuBench(
        repeats=1, iterations=1, peer_iterations=1, quick=True, slow=False, output=folder, machine=about,
        device=torch.device("cpu"), seconds=seconds, interpreted=True,
    )  # fmt: skip


def test_what_fails_or_finds_no_time_is_a_row(script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module, runs = script("gpu"), []

    def broken(row: Any) -> None:
        raise RuntimeError("CUDA error: out of luck")

    def section(bench: Any, work: Any) -> None:
        bench.add(module.GpuRow(workload="W1", task="forward", tool="raymend"), broken)
        bench.add(module.GpuRow(workload="W1", task="adjoint", tool="raymend"), runs.append)
        bench.ends = 0.0
        bench.add(module.GpuRow(workload="W2", task="adjoint", tool="raymend"), runs.append)
        raise MemoryError

    monkeypatch.setitem(module.SECTIONS, "plane", section)
    measured = bench(script, tmp_path)
    module.run(measured, {}, ["plane"])
    notes = [row.note for row in measured.rows]
    assert notes == [
        "not measured: CUDA error: out of luck", "", "not measured: no time left in this section",
        "not measured: MemoryError",
    ]  # fmt: skip
    assert len(runs) == 1
    assert "The run did not end" in (tmp_path / "RESULTS.md").read_text()
    assert len(json.loads((tmp_path / "gpu.json").read_text())["rows"]) == 4


def test_gpu_goals_are_judged_from_the_rows(script: Script) -> None:
    row, goals = script("gpu").GpuRow, script("goals")
    rows = [
        row(workload="W3", task="forward", tool="raymend", wall=1e-3, gups=500.0),
        row(workload="W3", task="adjoint", tool="raymend", wall=1e-3, gups=140.0, gap=3e-6),
        row(workload="W3", task="forward", tool="ASTRA CUDA", wall=5e-3),
        row(workload="W3", task="gradient to poses", tool="raymend", wall=5e-3),
    ]
    script("table").ratios(rows)
    found = {
        (goal.what, goal.unit): cells
        for goal, cells in zip(goals.GPU_GOALS, goals.judge(rows, goals.GPU_GOALS), strict=True)
    }
    assert found["W3 forward", "GUPS"][-1] == "goal"
    assert found["W3 adjoint", "GUPS"][-1] == "**below the floor**"
    assert found["W3 forward", "× ASTRA CUDA"][1:] == ("5 × ASTRA CUDA", "2", "4", "6", "goal")
    assert found["adjoint gap, the worst", "of |Ax| |y|"][-1] == "floor"
    assert found["W3 gradient to poses", "× a forward projection"][-1] == "**above the floor**"
    assert found["C-arm backprojection", "GUPS"][-1] == "not measured: no C-arm backprojection"


def test_both_pages_are_one_file(script: Script, tmp_path: Path) -> None:
    committed = ROOT / "benchmarks"
    (tmp_path / "results.json").write_text((committed / "results.json").read_text())
    measured = bench(script, tmp_path)
    measured.write(finished=True)
    page = (tmp_path / "RESULTS.md").read_text()
    assert page.startswith("# Times\n")
    assert "\n# Times on a GPU\n" in page
    assert "a card, driver 1" in page


def test_committed_page_is_what_the_committed_figures_give(script: Script, tmp_path: Path) -> None:
    committed = ROOT / "benchmarks"
    for path in committed.glob("*.json"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    script("table").render(tmp_path)
    assert (tmp_path / "RESULTS.md").read_text() == (committed / "RESULTS.md").read_text()
