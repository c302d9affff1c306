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


def scaling(folder: Path, *options: object) -> tuple[int, dict[str, Any]]:
    files = ("--json", folder / "scaling.json", "--figure", folder / "figures" / "scaling.png")
    command = [sys.executable, ROOT / "benchmarks" / "scaling.py", "--threads", 1, "--repeats", 0, *options, *files]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True, timeout=300)
    assert done.stderr == ""
    return done.returncode, json.loads((folder / "scaling.json").read_text())


@pytest.mark.timeout(600)  # on a fresh machine it compiles
def test_points_have_time_memory_and_a_figure(tmp_path: Path) -> None:
    code, record = scaling(tmp_path, "--sizes", 16, 32, "--size", 16, "--counts", 8)
    assert code == 0
    points = [(point["series"], point["size"], point["views"]) for point in record["points"]]
    assert points == [("size", 16, 22), ("size", 32, 45), ("views", 16, 8)]
    for point in record["points"]:
        assert point["wall"] > 0
        assert point["cpu"] > 0
        assert 50 < point["peak_mib"] < 5000  # torch alone takes some 300
        assert point["updates"] == point["size"] ** 3 * point["views"]
    assert record["machine"]["threads"] == 1
    assert (tmp_path / "figures" / "scaling.png").read_bytes()[:4] == b"\x89PNG"


def test_point_that_fails_ends_nothing(tmp_path: Path) -> None:
    code, record = scaling(tmp_path, "--sizes", 16, "--counts", "--memory", "nonsense")
    assert code == 1
    assert record["points"][0]["note"].startswith("not measured: ")
    assert "memory" in record["points"][0]["note"]


def test_one_series_alone_is_drawn(script: Callable[[str], ModuleType], tmp_path: Path) -> None:
    point = {"series": "size", "size": 16, "views": 22, "updates": 1e5, "wall": 1.0, "data_mib": 1.0, "peak_mib": 9.0}
    for series in ("size", "views"):
        script("scaling").draw([{**point, "series": series}], tmp_path / f"{series}.png", "")
        assert (tmp_path / f"{series}.png").stat().st_size > 1000


def test_exponent_of_what_grows_linearly_is_one(script: Callable[[str], ModuleType]) -> None:
    points = [{"updates": n, "wall": 3e-9 * n} for n in (10**6, 10**7, 4 * 10**8)]
    assert script("scaling").exponent(points) == pytest.approx(1)
    assert script("scaling").exponent([{"updates": n, "wall": n**1.5} for n in (10, 30)]) == pytest.approx(1.5)
