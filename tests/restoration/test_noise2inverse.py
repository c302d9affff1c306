"""Noise2Inverse on a tiny scan."""

from pathlib import Path

import pytest
import torch

from phantoms import Dose, disc, simulate
from recon import Calibration, ConeBeam, Detector, Scan, VolumeGrid, fbp, rmse, to_hu
from recon.errors import CheckpointError, ConfigError
from recon.iterative import Stop
from restoration.denoisers import noise2inverse

GRID = VolumeGrid(shape=(1, 42, 38), spacing=(4.0, 4.0, 4.0))
BODY = disc(60.0)
FAN = ConeBeam.circular(96, detector=Detector(shape=(1, 64), pitch=(8, 8)), source_to_axis=570, source_to_detector=1040)


@pytest.fixture(scope="module")
def scan() -> Scan:
    return simulate(BODY, FAN, dose=Dose(photons=500, electronic=10), seed=2)


def test_it_learns_the_scan_from_itself(scan: Scan) -> None:
    """Measured: 77 HU, of 105 HU by FBP and 87 HU with a Hann window."""
    truth = to_hu(BODY.rasterised(GRID), scan.calibration.water)
    losses: list[float] = []
    image = noise2inverse(scan, GRID, steps=120, progress=lambda step, steps, loss: losses.append(loss))
    assert image.shape == GRID.shape
    assert image.dtype == torch.float32
    sharp, smooth = (rmse(to_hu(fbp(scan, GRID, window=w), scan.calibration.water), truth) for w in ("ram-lak", "hann"))
    assert rmse(to_hu(image, scan.calibration.water), truth) < min(0.8 * sharp, 0.95 * smooth)
    assert len(losses) == 120
    assert sum(losses[-10:]) < sum(losses[:10])


def test_the_same_seed_gives_the_same_bits(scan: Scan) -> None:
    first, again, other = (noise2inverse(scan, GRID, steps=3, splits=2, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def stopped_at(step: int) -> object:
    def tell(done: int, steps: int, loss: float) -> None:
        if done == step:
            raise Stop("enough")

    return tell


@pytest.mark.parametrize("step", [1, 3])
def test_a_stopped_training_goes_on_to_the_same_bits(scan: Scan, tmp_path: Path, step: int) -> None:
    whole = noise2inverse(scan, GRID, steps=5)
    file = tmp_path / "training.safetensors"
    with pytest.raises(Stop):
        noise2inverse(scan, GRID, steps=5, checkpoint=file, progress=stopped_at(step))  # type: ignore[arg-type]
    told: list[int] = []
    resumed = noise2inverse(scan, GRID, steps=5, checkpoint=file, progress=lambda done, *_: told.append(done))
    assert torch.equal(resumed, whole)
    assert told == list(range(step + 1, 6))
    told.clear()
    assert torch.equal(noise2inverse(scan, GRID, steps=5, checkpoint=file), whole)  # nothing left to do
    assert told == []


def test_checkpoints_of_other_things_are_refused(scan: Scan, tmp_path: Path) -> None:
    file = tmp_path / "training.safetensors"
    noise2inverse(scan, GRID, steps=2, checkpoint=file)
    for other in ({"seed": 1}, {"steps": 3}, {"splits": 3}):
        with pytest.raises(CheckpointError, match="expected a training on this scan, grid, splits, steps and seed"):
            noise2inverse(scan, GRID, **{"steps": 2, "checkpoint": file, **other})  # type: ignore[arg-type]
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged file; start anew"):
        noise2inverse(scan, GRID, steps=2, checkpoint=file)
    file.write_bytes(b"text")
    with pytest.raises(CheckpointError, match="cannot be read"):
        noise2inverse(scan, GRID, steps=2, checkpoint=file)


def test_sparse_scans_and_wrong_settings_are_refused(scan: Scan) -> None:
    with pytest.raises(ConfigError, match="scan: expected 64 views or more, 16 for each of 4 parts, got 48"):
        noise2inverse(scan[::2], GRID)
    with pytest.raises(ConfigError, match="splits: expected a whole number of 2 or more, got 1"):
        noise2inverse(scan, GRID, splits=1)
    with pytest.raises(ConfigError, match="steps"):
        noise2inverse(scan, GRID, steps=0)
    with pytest.raises(ConfigError, match="16 × 16 voxels or more"):
        noise2inverse(scan, VolumeGrid(shape=(1, 8, 64), spacing=(4.0, 4.0, 4.0)))


def test_volumes_and_their_own_water(scan: Scan) -> None:
    panel = Detector(shape=(2, 48), pitch=(8, 8))
    cone = ConeBeam.circular(32, detector=panel, source_to_axis=570, source_to_detector=1040)
    thick = simulate(BODY, cone, dose=Dose(photons=2e3), seed=1).changed(calibration=Calibration(water=0.02))
    image = noise2inverse(thick, VolumeGrid(shape=(2, 20, 17), spacing=(2.0, 6.0, 6.0)), splits=2, steps=2)
    assert image.shape == (2, 20, 17)
    assert 0.01 < float(image[:, 9, 8].mean()) < 0.03
