"""The cross-talk that a scan's own noise tells of."""

import pytest
import torch

from recon import Calibration, Detector, ParallelBeam, Scan
from recon.errors import ConfigError
from recon.random import generator
from recon.sinogram.crosstalk import correlation_of, crosstalk_of, estimated_crosstalk, spread


def noise(share: float, shape: tuple[int, int] = (1, 96), views: int = 200) -> Scan:
    """A scan of nothing but noise."""
    geometry = ParallelBeam.circular(views, detector=Detector(shape=shape))
    white = torch.randn(geometry.shape, generator=generator(3))
    return Scan(geometry=geometry, values=1 + 0.01 * spread(white, share))


@pytest.mark.parametrize("share", [0.0, 0.03, 0.1, 0.24])
def test_a_correlation_is_that_of_one_share(share: float) -> None:
    assert crosstalk_of(correlation_of(share)) == pytest.approx(share, abs=1e-6)


def test_a_share_stays_in_its_range() -> None:
    assert crosstalk_of(-0.5) == 0
    assert 0.2 < crosstalk_of(0.9) < 0.25
    smooth = noise(0.0).values.cumsum(2)  # neighbours nearly the same
    assert 0.2 < estimated_crosstalk(noise(0.0).changed(values=smooth - smooth.mean())) < 0.25


@pytest.mark.parametrize("shape", [(1, 96), (3, 64)])
def test_independent_noise_has_none_and_correlated_noise_its_own(shape: tuple[int, int]) -> None:
    """Of 19 200 and 38 400 values; measured within 0.006."""
    assert estimated_crosstalk(noise(0.0, shape)) == 0
    assert estimated_crosstalk(noise(0.1, shape)) == pytest.approx(0.1, abs=0.015)


def test_the_level_and_an_object_in_a_corner_do_not_matter() -> None:
    scan = noise(0.1)
    share = estimated_crosstalk(scan)
    assert estimated_crosstalk(scan.changed(weights=torch.full_like(scan.values, 7.0))) == pytest.approx(
        share, abs=1e-3
    )
    values = scan.values.clone()
    values[:, :, 60:80] += torch.randn(200, 1, 1, generator=generator(5))  # an edge that comes and goes
    assert estimated_crosstalk(scan.changed(values=values)) == pytest.approx(share, abs=0.01)


def test_dead_pixels_are_left_out() -> None:
    scan = noise(0.1)
    values, weights = scan.values.clone(), torch.ones_like(scan.values)
    values[:, :, 5::10] = 3 * torch.randn(200, 1, 10, generator=generator(4))[..., : values[:, :, 5::10].shape[2]]
    weights[:, :, 5::10] = 0.0
    assert estimated_crosstalk(scan.changed(values=values, weights=weights)) == pytest.approx(0.1, abs=0.02)


def test_too_little_or_silent_data_tell_of_none() -> None:
    assert estimated_crosstalk(noise(0.2, views=9)) == 0
    assert estimated_crosstalk(noise(0.2, shape=(1, 12))) == 0
    assert estimated_crosstalk(noise(0.2).changed(values=torch.ones(200, 1, 96))) == 0
    few = torch.zeros(200, 1, 96)
    few[:3, 0, 4] = 1.0
    assert estimated_crosstalk(noise(0.2).changed(weights=few)) == 0


def test_weights_of_nothing_are_refused() -> None:
    scan = noise(0.1).changed(calibration=Calibration(photons=1e4))
    with pytest.raises(ConfigError, match="weights: expected some above 0"):
        estimated_crosstalk(scan.changed(weights=torch.zeros_like(scan.values)))
