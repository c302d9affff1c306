"""`raymend reconstruct` on noisy scans: methods that smooth the projections first."""

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from phantoms import Dose, shepp_logan, simulate
from recon import ConeBeam, Detector
from recon.io import read_scan, write_scan

FAN = ConeBeam.circular(
    180, detector=Detector(shape=(1, 128), pitch=(3.0, 3.0)), source_to_axis=570, source_to_detector=1040
)
SIZE = ("--shape", 64, "--spacing", 3.2)


@pytest.fixture
def noisy_file(tmp_path: Path) -> Path:
    path = tmp_path / "noisy.h5"
    write_scan(path, simulate(shepp_logan("1974", size=180), FAN, dose=Dose(photons=3e4, electronic=11.0), seed=1))
    return path


@pytest.mark.parametrize("method", ["pwls-gibbs", "pwls-tv", "pwls-spad"])
def test_smoothed_projections_are_nearer_to_the_truth(
    raymend: Any, noisy_file: Path, tmp_path: Path, method: str
) -> None:
    write_scan(tmp_path / "clean.h5", simulate(shepp_logan("1974", size=180), FAN))
    images = {}
    for source, name in ((tmp_path / "clean.h5", "fbp"), (noisy_file, "fbp"), (noisy_file, method)):
        out = tmp_path / f"{source.stem}-{name}.npy"
        found = raymend("reconstruct", source, "-o", out, "--method", name, *SIZE)
        assert found.code == 0, found.err
        images[out.stem] = np.load(out)
    assert f"note: projections restored by {method[5:].upper() if method != 'pwls-gibbs' else 'Gibbs'}(" in found.err
    assert "by SURE" in found.err
    errors = {name: float(np.square(image - images["clean-fbp"]).mean()) for name, image in images.items()}
    assert errors[f"noisy-{method}"] < 0.5 * errors["noisy-fbp"]  # measured 0.44 for gibbs, less for the others


def test_strength_and_tuning(raymend: Any, noisy_file: Path, tmp_path: Path) -> None:
    out, record = tmp_path / "image.npy", tmp_path / "used.toml"
    call = ("reconstruct", noisy_file, "-o", out, "--method", "pwls-spad", *SIZE)
    found = raymend(*call, "--strength", 0.5, "--tune", "none", "--write-settings", record)
    assert found.code == 0, found.err
    assert "strength=1000.0" in found.err
    assert "SURE" not in found.err
    used = tomllib.loads(record.read_text())["reconstruction"]
    assert (used["method"], used["strength"], used["tune"]) == ("pwls-spad", 0.5, "none")
    first = np.load(out)
    again = raymend("reconstruct", noisy_file, "-o", out, "--settings", record)
    assert again.code == 0, again.err
    assert np.array_equal(np.load(out), first)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--strength", -1), "--strength: expected a finite number above 0, got -1.0"),
        (("--strength", "nan"), "--strength: expected a finite number, got nan"),
        (("--tune", "hand"), "--tune: expected one of sure, none, got 'hand'"),
    ],
)
def test_what_no_method_takes_is_refused(
    raymend: Any, noisy_file: Path, tmp_path: Path, options: tuple[object, ...], message: str
) -> None:
    found = raymend("reconstruct", noisy_file, "-o", tmp_path / "a.npy", "--method", "pwls-spad", *options)
    assert found.code == 2
    assert message in found.err
    assert found.err.count("\n") == 1


def test_a_scan_without_a_noise_level_is_refused(raymend: Any, noisy_file: Path, tmp_path: Path) -> None:
    scan = read_scan(noisy_file)
    write_scan(noisy_file, scan.changed(weights=None, calibration=replace(scan.calibration, photons=None)))
    found = raymend("reconstruct", noisy_file, "-o", tmp_path / "a.npy", "--method", "pwls-spad", *SIZE)
    assert found.code == 2
    assert "photons: expected the mean photons per pixel" in found.err
    (tmp_path / "run.toml").write_text("[calibration]\nphotons = 3e4\nelectronic = 11.0\n")
    found = raymend(
        "reconstruct", noisy_file, "-o", tmp_path / "a.npy", "--method", "pwls-spad", *SIZE, "--settings",
        tmp_path / "run.toml", "--tune", "none",
    )  # fmt: skip
    assert found.code == 0, found.err


def test_a_scan_without_filtered_backprojection_is_refused(raymend: Any, tmp_path: Path) -> None:
    panel = Detector(shape=(8, 48), pitch=(4.0, 4.0))
    helix = ConeBeam.helical(80, detector=panel, source_to_axis=300, source_to_detector=600, pitch=6, turns=2)
    write_scan(tmp_path / "helix.h5", simulate(shepp_logan(size=80), helix, dose=Dose(photons=1e5), seed=0))
    found = raymend("reconstruct", tmp_path / "helix.h5", "-o", tmp_path / "a.npy", "--method", "pwls-tv")
    assert found.code == 2
    assert "has no filtered backprojection to follow; take pwls" in found.err
