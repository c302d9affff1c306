"""`raymend reconstruct` on noisy scans: penalised weighted least squares on the image."""

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from phantoms import Dose, disc, shepp_logan, simulate
from raymend.image_domain import image_domain
from raymend.reconstruction import PENALISED
from recon import ConeBeam, Detector, Scan, Solution, VolumeGrid, fbp
from recon.errors import ConfigError
from recon.io import read_scan, write_scan
from recon.io.checkpoint import save_checkpoint

FAN = ConeBeam.circular(
    120, detector=Detector(shape=(1, 96), pitch=(3.0, 4.0)), source_to_axis=570, source_to_detector=1040
)
BODY = disc(70.0)
GRID = VolumeGrid(shape=(1, 64, 64), spacing=(1.0, 3.2, 3.2))
SIZE = ("--shape", "1,64,64", "--spacing", "1,3.2,3.2", "--iterations", 4)


@pytest.fixture(scope="module")
def scan() -> Scan:
    return simulate(BODY, FAN, dose=Dose(photons=2e3, electronic=11.0), seed=1)


@pytest.fixture
def noisy_file(scan: Scan, tmp_path: Path) -> Path:
    write_scan(tmp_path / "noisy.h5", scan)
    return tmp_path / "noisy.h5"


@pytest.mark.parametrize("method", list(PENALISED))
def test_images_are_nearer_to_the_truth(raymend: Any, noisy_file: Path, tmp_path: Path, method: str) -> None:
    truth = BODY.rasterised(GRID).numpy()
    plain = fbp(read_scan(noisy_file), GRID).numpy()
    found = raymend("reconstruct", noisy_file, "-o", tmp_path / "a.npy", "--method", method, *SIZE)
    assert found.code == 0, found.err
    image = np.load(tmp_path / "a.npy")
    assert np.square(image - truth).mean() < 0.5 * np.square(plain - truth).mean()
    assert image.min() >= 0


def test_pwls_is_pwls_huber(raymend: Any, noisy_file: Path, tmp_path: Path) -> None:
    for method in ("pwls", "pwls-huber"):
        assert raymend("reconstruct", noisy_file, "-o", tmp_path / f"{method}.npy", "--method", method, *SIZE).code == 0
    assert np.array_equal(np.load(tmp_path / "pwls.npy"), np.load(tmp_path / "pwls-huber.npy"))


def test_strength_and_settings(raymend: Any, noisy_file: Path, tmp_path: Path) -> None:
    record, rough = tmp_path / "used.toml", {}
    for strength in (0.1, 1, 10):
        call = ("reconstruct", noisy_file, "-o", tmp_path / "a.npy", "--method", "pwls-image-tv", *SIZE)
        found = raymend(*call, "--strength", strength, "--write-settings", record)
        assert found.code == 0, found.err
        rough[strength] = float(np.abs(np.diff(np.load(tmp_path / "a.npy"), axis=1)).mean())
    assert rough[0.1] > rough[1] > rough[10]
    used = tomllib.loads(record.read_text())["reconstruction"]
    assert (used["method"], used["strength"], used["tune"], used["iterations"]) == ("pwls-image-tv", 10.0, "none", 4)
    first = np.load(tmp_path / "a.npy")
    assert raymend("reconstruct", noisy_file, "-o", tmp_path / "a.npy", "--settings", record).code == 0
    assert np.array_equal(np.load(tmp_path / "a.npy"), first)


def test_an_interrupted_run_goes_on_from_its_state(
    raymend: Any, noisy_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = ("reconstruct", noisy_file, "-o", tmp_path / "a.npy", "--method", "pwls-image-tv", *SIZE, "--tune", "sure")
    assert raymend(*call).code == 0
    whole = np.load(tmp_path / "a.npy")
    monkeypatch.setattr("raymend.cli.job._KEEP_EVERY", 0.0)

    left = [KeyboardInterrupt()]

    def keep(path: Path, solution: Solution) -> None:
        save_checkpoint(path, solution)
        if solution.iterations == 2 and left:
            raise left.pop()

    with monkeypatch.context() as patch:
        patch.setattr("recon.io.checkpoint.save_checkpoint", keep)
        assert raymend(*call, "--state", tmp_path / "kept").code == 130
    found = raymend(*call, "--resume", tmp_path / "kept")
    assert found.code == 0, found.err
    assert np.array_equal(np.load(tmp_path / "a.npy"), whole)


def test_sure_tells_what_it_chose(raymend: Any, noisy_file: Path, tmp_path: Path) -> None:
    call = ("reconstruct", noisy_file, "-o", tmp_path / "a.npy", "--method", "pwls-quadratic", *SIZE)
    found = raymend(*call, "--tune", "sure")
    assert found.code == 0, found.err
    assert "times the strength, the best of 5 by SURE" in found.out


def test_a_state_goes_on_to_the_same_bits(scan: Scan) -> None:
    for settings in ({"tune": "sure", "prior": "tv"}, {"prior": "nonlocal"}):
        whole = image_domain(scan, GRID, iterations=4, **settings)
        part = image_domain(scan, GRID, iterations=2, **settings)
        again = image_domain(scan, GRID, iterations=4, resume=part, **settings)
        assert torch.equal(again.image, whole.image)


def test_photons_stand_in_for_weights(scan: Scan) -> None:
    bare = image_domain(replace(scan, weights=None), GRID, iterations=2)
    even = image_domain(replace(scan, weights=torch.ones_like(scan.values)), GRID, iterations=2)
    assert not torch.allclose(bare.image, even.image, rtol=1e-2)


@pytest.mark.parametrize("strength", [-1, 0, "nan"])
def test_strengths_that_mean_nothing_are_refused(
    raymend: Any, noisy_file: Path, tmp_path: Path, strength: float | str
) -> None:
    call = ("reconstruct", noisy_file, "-o", tmp_path / "a.npy", "--method", "pwls-ggmrf")
    found = raymend(*call, "--strength", strength)
    assert found.code == 2
    assert "--strength: expected a finite number" in found.err
    assert found.err.count("\n") == 1


def test_what_needs_filtered_backprojection_says_so(raymend: Any, tmp_path: Path) -> None:
    panel = Detector(shape=(8, 48), pitch=(4.0, 4.0))
    helix = ConeBeam.helical(80, detector=panel, source_to_axis=300, source_to_detector=600, pitch=6, turns=2)
    noisy = simulate(shepp_logan(size=80), helix, dose=Dose(photons=1e5), seed=0)
    write_scan(tmp_path / "helix.h5", noisy)
    call = ("reconstruct", tmp_path / "helix.h5", "-o", tmp_path / "a.npy", "--shape", "4,12,12")
    found = raymend(*call, "--method", "pwls-nonlocal")
    assert found.code == 2
    assert "expected a geometry with filtered backprojection" in found.err
    assert raymend(*call, "--method", "pwls-image-tv", "--iterations", 2).code == 0


def test_sure_needs_a_noise_level(scan: Scan) -> None:
    bare = replace(scan, weights=None, calibration=replace(scan.calibration, photons=None))
    with pytest.raises(ConfigError, match="weights: expected weights or photons for tune='sure'"):
        image_domain(bare, GRID, tune="sure")
