import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from recon import VolumeGrid, fbp, rmse
from recon.sinogram import SPAD, TV, Gibbs
from recon.sinogram.restore import CANDIDATES

Load = Callable[[str], ModuleType]


@pytest.fixture
def bench(script: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Few candidates, and cases so small that a test is quick."""
    few = {"gibbs": (Gibbs(iterations=5),), "tv": (TV(iterations=3),), "spad": (SPAD(iterations=4), SPAD(iterations=8))}
    for name, restorers in few.items():
        monkeypatch.setitem(CANDIDATES, name, restorers)
    tried = script("low_dose").Bench(tmp_path / "low_dose.json", quick=True)
    tried.cases = {name: replace(case, size=48) for name, case in tried.cases.items()}
    return tried


def test_every_method_has_as_many_candidates(script: Load) -> None:
    assert {len(CANDIDATES[family]) for family in script("low_dose").FAMILIES} == {12}


def test_the_head_is_that_of_the_publication(script: Load) -> None:
    cases = script("low_dose_cases")
    grid = VolumeGrid(shape=(1, 64, 64), spacing=(1.0, 350 / 64, 350 / 64))
    drawn = cases.head().rasterised(grid) / cases.WATER
    assert float(drawn.max()) == pytest.approx(2.0, abs=0.01)
    assert float(drawn[0, 40, 32]) == pytest.approx(1.2, abs=1e-6)
    turned = cases.head(300.0, 0.7).rasterised(grid)
    assert float(turned.sum()) == pytest.approx(float(drawn.sum()) * cases.WATER * (300 / 350) ** 2, rel=0.01)


def test_settings_are_never_tuned_on_what_is_tested(script: Load) -> None:
    cases = script("low_dose_cases").cases()
    tested = {name for name, case in cases.items() if case.tuning}
    assert {"Shepp-Logan", "thorax 7"} <= tested
    assert all(tested.isdisjoint(case.tuning) for case in cases.values())


def test_rows_are_scored_kept_and_told(script: Load, bench: Any) -> None:
    module, case = script("low_dose"), bench.cases["Shepp-Logan"]
    for method in module.methods(case, 0):
        bench.row(case, 1e5, 0, method)
    kept = json.loads(bench.path.read_text())
    score = {key.split(" | ")[3]: row["scores"]["clean"]["rmse"] for key, row in kept.items() if "scores" in row}
    assert score["spad sure"] < score["fbp"]
    assert score["spad tuned"] >= min(kept["Shepp-Logan | 100000 | 0 | spad candidates"]["errors"].values()) - 1e-9
    assert score["auto sure"] in {score[f"{family} sure"] for family in module.FAMILIES}
    truth = case.references["clean"]
    assert score["fbp"] == pytest.approx(
        rmse(case.hu(fbp(case.scan(1e5, 0), case.grid)), truth, mask=case.mask), rel=1e-6
    )
    text = "\n".join(script("low_dose_table").lines(kept))
    assert "| shepp-logan | 100000 | clean | spad sure | tv sure |" in text
    assert "### Shepp-Logan, 100000 photons" in text
    again = module.Bench(bench.path, quick=True)
    assert again.row(again.cases["Shepp-Logan"], 1e5, 0, "fbp") == kept["Shepp-Logan | 100000 | 0 | fbp"]


def test_gains_are_told_with_their_sign_and_what_is_left(script: Load) -> None:
    def row(error: float, likeness: float) -> dict[str, Any]:
        scores = {"rmse": error, "ssim": likeness, "fsim": likeness}
        return {
            "date": "2026-01-02",
            "kind": "thorax",
            "quanta": 50.0,
            "scores": {"clean": scores, "phantom": scores},
            "settings": "",
        }

    rows = {}
    for name, base in (("thorax 7", 10.0), ("thorax 8", 20.0)):
        rows[f"{name} | 50000 | 0 | tv sure"] = row(base, 0.8)
        rows[f"{name} | 50000 | 0 | spad sure"] = row(0.9 * base, 0.9)
        rows[f"{name} | 50000 | 0 | auto sure"] = row(0.9 * base, 0.9)
        rows[f"{name} | 50000 | 0 | image tv"] = row(0.45 * base, 0.9)
    text = "\n".join(script("low_dose_table").lines(rows))
    assert "Measured 2026-01-02." in text
    assert "| thorax | 50000 | image tv | auto sure | 50.0 [50.0, 50.0] | 50.0 [50.0, 50.0] |" in text
    assert "| spad sure | tv sure | 10.0 [10.0, 10.0] | 12.5 [12.5, 12.5] (50 % of the rest) |" in text
