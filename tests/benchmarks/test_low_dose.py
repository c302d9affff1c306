import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch

from recon import VolumeGrid, fbp
from recon.sinogram import SPAD, TV, Gibbs
from recon.sinogram.restore import CANDIDATES

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "low_dose.py"


@pytest.fixture(scope="module")
def low_dose() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_low_dose", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["benchmark_low_dose"] = module  # its dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


def test_every_method_has_as_many_candidates(low_dose: ModuleType) -> None:
    assert {len(CANDIDATES[method]) for method in low_dose.METHODS} == {12}


def test_the_head_is_that_of_the_publication(low_dose: ModuleType) -> None:
    grid = VolumeGrid(shape=(1, 64, 64), spacing=(1.0, 350 / 64, 350 / 64))
    drawn = low_dose.head().rasterised(grid) / low_dose.WATER
    assert float(drawn.max()) == pytest.approx(2.0, abs=0.01)
    assert float(drawn[0, 40, 32]) == pytest.approx(1.2, abs=1e-6)
    turned = low_dose.head(300.0, 0.7).rasterised(grid)
    assert float(turned.sum()) == pytest.approx(float(drawn.sum()) * low_dose.WATER * (300 / 350) ** 2, rel=0.01)


def test_a_cell_is_scored_kept_and_told(low_dose: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = {"gibbs": (Gibbs(iterations=5),), "tv": (TV(iterations=3),), "spad": (SPAD(iterations=4), SPAD(iterations=8))}
    for name, restorers in few.items():
        monkeypatch.setitem(CANDIDATES, name, restorers)
    setup = low_dose.Setup.of(True)
    grid = VolumeGrid(shape=(1, 32, 32), spacing=(1.0, 12.5, 12.5))
    setup = replace(setup, geometry=setup.geometry[::2], grid=grid)
    cells: dict[str, object] = {}
    low_dose.cell(cells, setup, 1e5, 0)
    low_dose.save(tmp_path / "low_dose.json", cells)
    kept = json.loads((tmp_path / "low_dose.json").read_text())
    assert set(kept) == {"100000 0", *(f"tuning 100000 {method}" for method in few)}
    rows = kept["100000 0"]
    assert rows["spad sure"]["rmse clean"] < rows["fbp"]["rmse clean"]
    assert rows["spad tuned"]["rmse clean"] >= rows["spad sure"]["oracle"]
    scan = setup.scan(low_dose.head(), 1e5, 0)
    error = low_dose.hu(fbp(scan, grid)) - setup.clean(low_dose.head())
    assert rows["fbp"]["rmse clean"] == pytest.approx(float(torch.as_tensor(error).square().mean().sqrt()), rel=1e-5)
    text = "\n".join(low_dose.table(kept))
    assert "| spad sure |" in text
    assert "100000 photons, 1 seeds" in text
