"""Penalised weighted least squares on a small low-dose scan."""

from dataclasses import replace

import pytest
import torch

from phantoms import Dose, disc, simulate
from recon import ConeBeam, Detector, Huber, Quadratic, Scan, VolumeGrid, fbp, pwls, rmse, to_hu
from recon.errors import ConfigError
from recon.iterative import LeastSquares, balanced_huber
from recon.operators import Projector

GRID = VolumeGrid(shape=(1, 48, 48), spacing=(4.0, 4.0, 4.0))
BODY = disc(80.0)
TRUTH = to_hu(BODY.rasterised(GRID))


@pytest.fixture(scope="module")
def scan() -> Scan:
    fan = ConeBeam.circular(
        90, detector=Detector(shape=(1, 64), pitch=(8, 8)), source_to_axis=570, source_to_detector=1040
    )
    return simulate(BODY, fan, dose=Dose(photons=3e3, electronic=10), seed=2)


def test_it_beats_smooth_fbp_at_low_dose(scan: Scan) -> None:
    """Measured: 27 HU against 78 HU."""
    start = fbp(scan, GRID, window="hann")
    result = pwls(scan, GRID, start=start)
    assert result.status.ok
    assert rmse(to_hu(result.image), TRUTH) < 0.5 * rmse(to_hu(start), TRUTH)
    assert float(result.image.min()) >= 0


def test_the_objective_falls(scan: Scan) -> None:
    history = pwls(scan, GRID, iterations=8).history["objective"]
    assert history[-1] < history[1] < history[0]


def test_the_balanced_strength_follows_the_dose(scan: Scan) -> None:
    """Ten times the weights ask for ten times the strength: the image stays the same."""
    assert scan.weights is not None
    brighter = replace(scan, weights=10 * scan.weights)
    first, second = (
        balanced_huber(LeastSquares(Projector.of(s, GRID), s.values, s.weights), GRID) for s in (scan, brighter)
    )
    assert second.strength == pytest.approx(10 * first.strength, rel=1e-4)
    images = [pwls(s, GRID, iterations=5).image for s in (scan, brighter)]
    torch.testing.assert_close(images[0], images[1], rtol=1e-3, atol=1e-5)


def test_a_stronger_prior_is_smoother(scan: Scan) -> None:
    rough, smooth = (pwls(scan, GRID, prior=Quadratic(strength=s), iterations=8).image for s in (1e4, 1e7))
    assert float(smooth[0, 18:30, 18:30].std()) < 0.5 * float(rough[0, 18:30, 18:30].std())


def test_a_balance_of_zero_is_refused(scan: Scan) -> None:
    data = LeastSquares(Projector.of(scan, GRID), scan.values, scan.weights)
    with pytest.raises(ConfigError, match="balance: expected a finite number above 0"):
        balanced_huber(data, GRID, balance=0)
    with pytest.raises(ConfigError, match="strength"):
        pwls(scan, GRID, prior=Huber(strength=-1))
