"""A denoiser as a prior, on small scans."""

import pytest
import torch
from torch import Tensor

from phantoms import Dose, disc, simulate
from recon import Calibration, ConeBeam, Detector, FreeBeam, Scan, Status, VolumeGrid, fbp, rmse, to_hu
from recon.errors import ConfigError, GeometryError, NumericalError, ShapeError
from restoration.denoisers import denoiser, plug_and_play
from restoration.plug_in import plug_in

GRID = VolumeGrid(shape=(1, 48, 48), spacing=(4.0, 4.0, 4.0))
BODY = disc(80.0)
FAN = ConeBeam.circular(90, detector=Detector(shape=(1, 64), pitch=(8, 8)), source_to_axis=570, source_to_detector=1040)
TV = denoiser("tv")


@pytest.fixture(scope="module")
def scan() -> Scan:
    return simulate(BODY, FAN, dose=Dose(photons=3e3, electronic=10), seed=2)


def error(image: Tensor, scan: Scan) -> float:
    water = scan.calibration.water
    return float(rmse(to_hu(image, water), to_hu(BODY.rasterised(GRID), water)))


@pytest.mark.parametrize("views", [1, 3])
@pytest.mark.parametrize("name", ["tv", "nlm"])
def test_it_beats_denoising_the_image(scan: Scan, views: int, name: str) -> None:
    """Measured: 43 and 40 HU of 90 views, 47 and 41 of 30; the best of FBP, Hann or denoised, 43 to 54 HU."""
    some, own = scan[::views], denoiser(name)
    result = plug_and_play(some, GRID, own)
    water = scan.calibration.water
    images = [fbp(some, GRID, window=window) for window in ("ram-lak", "hann")]
    quiet = [own(to_hu(image, water)) * (water / 1000) + water for image in images]
    assert error(result.image, scan) < 0.97 * min(error(image, scan) for image in [*images, *quiet])
    assert result.status.ok
    assert result.image.shape == GRID.shape
    assert float(result.image.min()) >= 0


def test_it_tells_how_it_goes_and_ends(scan: Scan) -> None:
    told: list[tuple[int, int, float]] = []
    result = plug_and_play(
        scan, GRID, TV, iterations=3, progress=lambda step, steps, last: told.append((step, steps, last["noise"]))
    )
    assert result.status is Status.MAX_ITERATIONS
    assert result.iterations == 3
    assert result.history["noise"] == [noise for _, _, noise in told]
    assert [(step, steps) for step, steps, _ in told] == [(1, 3), (2, 3), (3, 3)]
    assert result.history["noise"] == sorted(result.history["noise"], reverse=True)
    assert result.history["noise"][-1] == pytest.approx(15.0)
    assert len(result.history["change"]) == 3
    assert torch.equal(result.image, plug_and_play(scan, GRID, TV, iterations=3).image)


def test_an_interrupt_leaves_the_image_so_far(scan: Scan) -> None:
    def interrupt(step: int, *_: object) -> None:
        if step == 2:
            raise KeyboardInterrupt

    result = plug_and_play(scan, GRID, TV, iterations=5, progress=interrupt)
    assert (result.status, result.iterations) == (Status.STOPPED, 2)


def test_more_strength_is_smoother(scan: Scan) -> None:
    rough, smooth = (plug_and_play(scan, GRID, TV, iterations=4, strength=s).image for s in (0.3, 3))
    assert float(smooth[0, 18:30, 18:30].std()) < 0.7 * float(rough[0, 18:30, 18:30].std())


def test_a_start_stands_in_for_fbp(scan: Scan) -> None:
    free = FreeBeam.of(scan.geometry)
    moved = scan.changed(geometry=free)
    with pytest.raises(GeometryError, match="FreeBeam has no filtered backprojection"):
        plug_and_play(moved, GRID, TV, iterations=1)
    start = fbp(scan, GRID)
    before = start.clone()
    result = plug_and_play(moved, GRID, TV, start=start, iterations=4)
    assert error(result.image, scan) < error(start, scan)
    assert torch.equal(start, before)
    with pytest.raises(ShapeError, match="start: expected"):
        plug_and_play(scan, GRID, TV, start=start[:, :20])
    with pytest.raises(NumericalError, match="start: expected finite"):
        plug_and_play(scan, GRID, TV, start=start * float("nan"))


def test_the_noise_stands_in_for_weights_that_nobody_states(scan: Scan) -> None:
    bare = scan.changed(weights=None, calibration=Calibration(water=scan.calibration.water))
    result = plug_and_play(bare, GRID, TV)
    assert error(result.image, scan) < 1.3 * error(plug_and_play(scan, GRID, TV).image, scan)


def test_a_users_own_denoiser_and_what_it_says(scan: Scan) -> None:
    own = plug_in(lambda image: image * float("nan"), name="mine")
    with pytest.raises(NumericalError, match="mine: expected a finite result"):
        plug_and_play(scan, GRID, own, iterations=2)
    with pytest.raises(ConfigError, match="strength"):
        plug_and_play(scan, GRID, TV, strength=0)
    with pytest.raises(ConfigError, match="iterations"):
        plug_and_play(scan, GRID, TV, iterations=0)


def test_what_cannot_run_here_is_said_first(scan: Scan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("restoration.denoisers.classical.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="tv: needs scikit-image"):
        plug_and_play(scan, GRID, denoiser("tv"))
