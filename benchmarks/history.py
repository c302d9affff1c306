"""One line per finished run, and what became slower since: only runs on the same machine are compared."""

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

KEPT = ("workload", "task", "tool", "wall", "cpu", "wall_ratio", "cpu_ratio", "note")
SAME = ("processor", "cores", "threads", "instructions")
FACTOR = 1.2

Key = tuple[str, str, str]


@dataclass(frozen=True, kw_only=True)
class Slower:
    """A row that the last run took longer for than the best run before it."""

    row: str
    factor: float
    by: str  # what it was measured by
    since: str  # the date of the best run


def entry(machine: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], *, quick: bool) -> str:
    """Write a finished run as one line."""
    measured = [{key: row[key] for key in KEPT} for row in rows if row["wall"] is not None]
    about = {key: value for key, value in machine.items() if key != "date"}
    record = {"date": machine["date"], "commit": commit(), "machine": about, "quick": quick, "rows": measured}
    return json.dumps(record, ensure_ascii=False)


def commit() -> str | None:
    """Return the commit that was measured, with a + if files differ from it; None outside a checkout."""
    folder = Path(__file__).parent
    shown, changed = (
        _git(folder, *words) for words in (("rev-parse", "--short=12", "HEAD"), ("status", "--short", "-uno"))
    )
    return None if shown is None else shown + "+" * bool(changed)


def _git(folder: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def read(path: Path) -> list[dict[str, Any]]:
    """Read all runs of full size, the oldest first."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [record for record in map(json.loads, lines) if "rows" in record and not record.get("quick")]


def slower(runs: Sequence[Mapping[str, Any]], factor: float = FACTOR) -> list[Slower]:
    """Compare the last run with the best earlier ones on the same machine.

    CPU time over that of the peers in the same run is compared where both runs have peers for a row: a busy machine
    slows both. The median over the peers counts. All other rows are compared by their CPU seconds.
    """
    if not runs:
        return []
    last, earlier = runs[-1], [run for run in runs[:-1] if _machine(run) == _machine(runs[-1])]
    found = (_slowest(row, last, earlier) for row in last["rows"] if row["tool"] == "raymend")
    return [one for one in found if one is not None and one.factor > factor]


def _machine(run: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(run["machine"].get(key) for key in SAME)


def _slowest(row: Mapping[str, Any], last: Mapping[str, Any], earlier: Sequence[Mapping[str, Any]]) -> Slower | None:
    """Compare a row with every earlier run and keep the one that it looks worst against."""
    name = f"{row['workload']} {row['task']}"
    compared = [
        Slower(row=name, factor=factor, by=by, since=run.get("date") or run["machine"].get("date", "?"))
        for run in earlier
        for factor, by in _factors(row, last, run)
    ]
    return max(compared, key=lambda one: one.factor, default=None)


def _factors(row: Mapping[str, Any], last: Mapping[str, Any], run: Mapping[str, Any]) -> Iterator[tuple[float, str]]:
    before = _index(run).get((row["workload"], row["task"], "raymend"))
    if before is None or before["note"] != row["note"] or not before["cpu"] or not row["cpu"]:
        return
    ours, theirs = _ratios(last, row), _ratios(run, row)
    shared = [theirs[tool] / ours[tool] for tool in ours.keys() & theirs.keys()]
    if shared:
        yield median(shared), "CPU time over that of " + ", ".join(sorted(ours.keys() & theirs.keys()))
    else:
        yield row["cpu"] / before["cpu"], "CPU seconds"


def _ratios(run: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, float]:
    return {
        tool: other["cpu_ratio"]
        for (workload, task, tool), other in _index(run).items()
        if (workload, task) == (row["workload"], row["task"]) and other.get("cpu_ratio")
    }


def _index(run: Mapping[str, Any]) -> dict[Key, Mapping[str, Any]]:
    return {(row["workload"], row["task"], row["tool"]): row for row in run["rows"]}


def report(path: Path, factor: float = FACTOR) -> tuple[str, bool]:
    """Say what became slower; the second value tells whether anything did."""
    runs = read(path)
    if not runs:
        return f"{path}: no run of full size yet", False
    others = sum(_machine(run) == _machine(runs[-1]) for run in runs[:-1])
    worse = slower(runs, factor)
    lines = [f"{one.row}: {one.factor:.2f} times as long as on {one.since}, by {one.by}" for one in worse]
    about = f"compared with {others} earlier runs on this machine, at a factor of {factor:g}"
    return "\n".join(lines or [f"nothing became slower, {about}"]), bool(worse)
