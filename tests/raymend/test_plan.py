"""Sweeps over dose and views: what is worth its exposure, and what a second run repeats."""

import csv
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from raymend import plan
from raymend.comparison.methods import Method
from raymend.comparison.outcome import Measure
from raymend.comparison.plan import Plan, Point
from raymend.comparison.setup import Setup
from recon.errors import ConfigError

SMALL: dict[str, Any] = {"preset": "hyperfed2", "size": 48, "draws": 2, "processes": 1}


def counted(calls: list[tuple[float, int]]) -> Method:
    def make(trial: Any, strength: float) -> torch.Tensor:
        calls.append((trial.scan.calibration.photons, len(trial.scan)))
        return trial.image

    return Method(name="counted", label="counted", source="test", needs="projections", tuning="none", make=make)


def test_the_front_holds_what_no_other_point_beats_for_no_more_exposure() -> None:
    values = {(1e4, 50): 9.0, (1e4, 100): 5.0, (2e4, 50): 6.0, (2e4, 100): 5.5, (4e4, 100): 3.0, (9e4, 100): math.nan}
    points = tuple(
        Point(method="m", photons=dose, views=views, mean=mean, low=mean, high=mean)
        for (dose, views), mean in values.items()
    )
    measure = Measure(name="rmse", label="RMSE", unit="HU", better="lower", protocol="")
    found = Plan(case="case", measure=measure, entrants=(), points=points, setup=Setup())
    assert [(point.photons, point.views) for point in found.front("m")] == [(1e4, 50), (1e4, 100), (4e4, 100)]
    higher = Measure(name="ssim", label="SSIM", unit="", better="higher", protocol="")
    found = Plan(case="case", measure=higher, entrants=(), points=points, setup=Setup())
    assert [point.mean for point in found.front("m")] == [9.0]


def test_a_sweep_measures_each_spot_once_and_draws_it(tmp_path: Path) -> None:
    calls: list[tuple[float, int]] = []
    first = plan([counted(calls)], "shepp-logan", photons=[1e4, 1e5], views=[30], out=tmp_path / "out", **SMALL)
    assert calls == [(1e4, 30)] * 2 + [(1e5, 30)] * 2
    assert first.points[0].mean > first.points[1].mean
    plan([counted(calls)], "shepp-logan", photons=[1e4, 1e5], views=[30], out=tmp_path / "out", **SMALL)
    assert len(calls) == 4
    with (tmp_path / "out" / "plan.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["exposure"] for row in rows] == ["300000", "3e+06"]
    assert float(rows[0]["low"]) <= float(rows[0]["mean"]) <= float(rows[0]["high"])
    for name in ("surfaces.png", "pareto.png", "plan.json"):
        assert (tmp_path / "out" / name).stat().st_size > 500
    with pytest.raises(ConfigError, match="another folder"):
        plan([counted(calls)], "shepp-logan", photons=[1e4], views=[30], out=tmp_path / "out", **SMALL)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"photons": [], "views": [30]}, "one or more of each"),
        ({"photons": [-1.0], "views": [30]}, "photons"),
        ({"photons": [1e4], "views": [0]}, "views"),
    ],
)
def test_what_cannot_be_swept_is_refused(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        plan(["fbp"], "disc", out=tmp_path / "out", **settings, **SMALL)
    assert not (tmp_path / "out").exists()


def test_one_case_at_a_time() -> None:
    with pytest.raises(ConfigError, match="case: expected one"):
        plan(["fbp"], "anatomy-head:1..2", photons=[1e4], views=[30], **SMALL)
