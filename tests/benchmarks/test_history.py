import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

Script = Callable[[str], ModuleType]
DATE = "2026-01-01 00:00 UTC"
MACHINE = {"date": DATE, "processor": "a", "cores": 2, "threads": 2, "instructions": "avx2", "load": [0]}


def row(tool: str, cpu: float, ratio: float | None = None, *, task: str = "forward", note: str = "") -> dict[str, Any]:
    times = {"wall": cpu, "cpu": cpu, "wall_ratio": ratio, "cpu_ratio": ratio}
    return {"workload": "W1", "task": task, "tool": tool, **times, "note": note, "gups": 1.0}


def runs(script: Script, folder: Path, *measured: list[dict[str, Any]], **machine: Any) -> Path:
    path = folder / "history.jsonl"
    lines = [script("history").entry({**MACHINE, **machine}, rows, quick=False) for rows in measured]
    before = path.read_text() if path.exists() else ""
    path.write_text(before + "".join(f"{line}\n" for line in lines))
    return path


def test_entry_keeps_what_is_compared(script: Script, tmp_path: Path) -> None:
    (line,) = runs(script, tmp_path, [row("raymend", 1.0), {**row("RTK", 1.0), "wall": None}]).read_text().splitlines()
    record = json.loads(line)
    assert record["date"] == DATE
    assert record["machine"]["processor"] == "a"
    assert [one["tool"] for one in record["rows"]] == ["raymend"]
    assert {"commit", "quick"} <= set(record)


def test_slower_against_peers_is_noticed_on_a_machine_twice_as_busy(script: Script, tmp_path: Path) -> None:
    history = script("history")
    calm, busy = ([row("raymend", x), row("ASTRA line", 10 * x, 10.0)] for x in (1.0, 2.0))
    assert history.slower(history.read(runs(script, tmp_path, calm, busy))) == []
    worse = [row("raymend", 3.0), row("ASTRA line", 20.0, 20 / 3)]
    (found,) = history.slower(history.read(runs(script, tmp_path, worse)))
    assert found.factor == pytest.approx(1.5)
    assert found.row == "W1 forward"
    assert "ASTRA line" in found.by


def test_rows_without_peers_are_compared_by_seconds_with_the_best_run(script: Script, tmp_path: Path) -> None:
    history = script("history")
    path = runs(script, tmp_path, [row("raymend", 1.0)], [row("raymend", 1.3)], [row("raymend", 1.25)])
    (found,) = history.slower(history.read(path))
    assert found.factor == pytest.approx(1.25)
    assert found.by == "CPU seconds"
    text, worse = history.report(path)
    assert worse
    assert text.startswith("W1 forward: 1.25 times as long as on 2026-01-01")
    assert not history.report(path, 1.3)[1]


def test_other_machines_other_sizes_and_quick_runs_do_not_count(script: Script, tmp_path: Path) -> None:
    history = script("history")
    path = runs(script, tmp_path, [row("raymend", 0.1)], processor="b")
    runs(script, tmp_path, [row("raymend", 0.1, note="12 of 360 views, scaled")])
    quick = json.loads(history.entry(MACHINE, [row("raymend", 0.1)], quick=True))
    path.write_text(path.read_text() + json.dumps(quick) + "\n")
    runs(script, tmp_path, [row("raymend", 1.0)])
    assert history.slower(history.read(path)) == []


def test_first_format_is_read(script: Script, tmp_path: Path) -> None:
    history = script("history")
    old = {"machine": MACHINE, "quick": False, "finished": True, "rows": [row("raymend", 1.0)]}
    (tmp_path / "history.jsonl").write_text(json.dumps(old) + "\n")
    (found,) = history.slower(history.read(runs(script, tmp_path, [row("raymend", 2.0)])))
    assert found.since == DATE
    missing = tmp_path / "missing.jsonl"
    assert history.report(missing) == (f"{missing}: no run of full size yet", False)
