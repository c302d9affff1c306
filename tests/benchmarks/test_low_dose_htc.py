import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from phantoms import Dose, disc, simulate
from recon import Detector, ParallelBeam

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "low_dose_htc.py"


@pytest.fixture(scope="module")
def htc() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_low_dose_htc", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["benchmark_low_dose_htc"] = module  # its dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


def test_noise_tells_the_beam_and_the_detector(htc: ModuleType) -> None:
    """Of 60 000 values in air; measured: 4.0e4 photons, cross-talk 0.099 and variances within 3 % of the model's."""
    geometry = ParallelBeam.circular(400, detector=Detector(shape=(1, 300)))
    scan = simulate(disc(75.0), geometry, dose=Dose(photons=4e4, crosstalk=0.1), seed=1, subrays=1)
    noise = htc.Noise.of(scan)
    assert noise.photons == pytest.approx(4e4, rel=0.03)
    assert noise.crosstalk == pytest.approx(0.1, abs=0.01)
    assert len(noise.classes) >= 3
    for _, measured, model in noise.classes:
        assert measured == pytest.approx(model, rel=0.1)
    assert "cross-talk 0.1" in next(iter(noise.told())) or "cross-talk 0.09" in next(iter(noise.told()))


@pytest.mark.data
def test_a_measured_scan_at_a_tenth_of_its_dose(
    htc: ModuleType, shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An eighth of the views, 96 pixels across; measured: RMSE 9.2 by FBP, 4.6e-3/mm by PWLS-SPAD."""
    monkeypatch.setenv("RAYMEND_TEST_DATA", str(shared_data))
    scan, noise = htc.load("ta")
    assert noise.photons == pytest.approx(3.96e4, rel=0.02)
    assert noise.crosstalk == pytest.approx(0.098, abs=0.005)
    case = htc.compared(scan[:720:8], noise, 0.1, htc.grid_of(scan, 96), ("fbp", "pwls-spad"), "ta")
    plain, restored = case.scores["fbp"], case.scores["pwls-spad"]
    assert restored[0].value < 0.8 * plain[0].value
    assert restored[1].value > plain[1].value
    text = "\n".join(htc.table(case))
    assert "| pwls-spad |" in text
    htc.picture([case], ("fbp", "pwls-spad"), tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes()[:4] == b"\x89PNG"
