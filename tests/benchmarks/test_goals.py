from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

Script = Callable[[str], ModuleType]


def row(workload: str, task: str, tool: str = "raymend", **values: Any) -> SimpleNamespace:
    empty = {"wall": None, "gups": None, "psnr": None, "wall_ratio": None}
    return SimpleNamespace(workload=workload, task=task, tool=tool, **{**empty, **values})


def judged(script: Script, rows: list[SimpleNamespace]) -> dict[tuple[str, str], tuple[str, ...]]:
    goals = script("goals")
    return {(goal.what, goal.unit): cells for goal, cells in zip(goals.GOALS, goals.judge(rows), strict=True)}


@pytest.mark.parametrize(
    ("gups", "says"),
    [(1.99, "**below the floor**"), (2.0, "floor"), (2.6, "goal"), (5.0, "stretch")],
)
def test_highest_level_that_is_reached_is_named(script: Script, gups: float, says: str) -> None:
    cells = judged(script, [row("W1", "forward", wall=1.0, gups=gups)])["W1 forward", "GUPS"]
    assert cells == ("W1 forward", f"{gups:.3g} GUPS", "2", "2.5", "5", says)


def test_fastest_model_of_a_peer_counts_and_one_that_failed_does_not(script: Script) -> None:
    rows = [row("W4", "FBP", wall=1.0, psnr=50.0)]
    rows += [
        row("W4", "FBP", f"ASTRA {name}", wall_ratio=x) for name, x in (("line", 13), ("linear", 9), ("strip", None))
    ]
    found = judged(script, rows)
    assert found["W4 FBP", "× fastest ASTRA"][1] == "9 × fastest ASTRA"
    assert found["W4 FBP", "× fastest ASTRA"][-1] == "floor"
    assert found["W4 FBP, the ball where all views see it", "dB PSNR"][-1] == "floor"


def test_upper_bounds_and_differences(script: Script) -> None:
    walls = {
        "import recon": 1.1, "import recon, a process": 1.4, "first calls, all cached": 2.5,
        "raymend demo, nothing cached": 14.0,
    }  # fmt: skip
    found = judged(script, [row("start", task, wall=wall) for task, wall in walls.items()])
    assert found["import recon", "s"] == ("import recon", "1.1 s", "< 1.5", "", "", "floor")
    assert found["raymend demo with nothing compiled, all in all", "s"][1:] == ("14 s", "< 15", "", "", "floor")
    warm = found["first calls from a warm cache, beyond import", "s"]
    assert warm[1:] == ("1.1 s", "< 1", "", "", "**above the floor**")


def test_what_is_missing_is_said(script: Script) -> None:
    found = judged(script, [row("W2", "forward", wall=1.0, gups=7.0), row("W2", "forward", "ASTRA matrix")])
    assert found["W2 forward", "× ASTRA matrix"][1] == ""
    assert found["W2 forward", "× ASTRA matrix"][-1] == "not measured: no W2 forward by ASTRA matrix"
    assert found["W3 FDK", "× RTK"][-1] == "not measured: no W3 FDK"
    assert script("goals").section([]).count("not measured") == len(script("goals").GOALS)


@pytest.mark.parametrize(("load", "busy"), [([0.4, 5, 5], False), ([1.2, 0, 0], True), (None, False)])
def test_busy_machine_is_said(script: Script, load: list[float] | None, busy: bool) -> None:
    assert ("busy" in script("goals").section([], load)) == busy
