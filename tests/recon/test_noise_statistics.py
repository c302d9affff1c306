"""Statistics of line integrals: variance, bias and weights against drawn noise."""

import math

import pytest
import torch

from recon import Calibration, Detector, ParallelBeam, Scan, log_bias, log_variance, noise_weights
from recon.errors import ConfigError, NumericalError
from recon.random import generator
from recon.statistics import FEWEST, logarithm, smoothed_means, weights_of

DRAWS = 500_000
P = 2.0

# Most by which drawn noise was seen above the variance formula and the bias formula, without and with electronic noise
# of variance 11, with four standard errors of the draws; it was not seen below beyond these.
EXCESS = {
    10: (0.39, 0.12, 0.86, 0.32),
    20: (0.17, 0.07, 0.31, 0.15),
    46: (0.075, 0.08, 0.09, 0.08),
    100: (0.036, 0.12, 0.038, 0.12),
    500: (0.013, 0.26, 0.013, 0.26),
    1e4: (0.009, math.inf, 0.009, math.inf),  # from here on the bias is lost in the error of the mean
    1e5: (0.009, math.inf, 0.009, math.inf),
}


def drawn(quanta: float, electronic: float) -> torch.Tensor:
    """Line integrals whose mean is P, drawn at a mean number of detected photons."""
    rng = generator(7)
    photons = torch.poisson(torch.full((DRAWS,), quanta, dtype=torch.float64), generator=rng)
    photons += torch.randn(DRAWS, generator=rng, dtype=torch.float64) * math.sqrt(electronic)
    return logarithm(photons, torch.tensor(quanta * math.exp(P), dtype=torch.float64))[0]


@pytest.mark.parametrize("electronic", [0.0, 11.0])
@pytest.mark.parametrize("quanta", EXCESS)
def test_variance_and_bias_of_drawn_noise(quanta: float, electronic: float) -> None:
    values, mean = drawn(float(quanta), electronic), torch.tensor(P, dtype=torch.float64)
    more, further = EXCESS[quanta][2:] if electronic else EXCESS[quanta][:2]
    error = 4 * math.sqrt(2 / DRAWS)
    ratio = float(values.var() / log_variance(mean, quanta * math.exp(P), electronic))
    assert 1 - error <= ratio <= 1 + more
    bias = float(log_bias(mean, quanta * math.exp(P), electronic))
    assert float(values.mean()) - P == pytest.approx(
        bias, abs=further * bias + 4 * math.sqrt(float(values.var()) / DRAWS)
    )


def test_ten_quanta_are_beyond_the_formula() -> None:
    """Why weights are never formed from so few: a third to twice more variance than the formula says."""
    for electronic in (0.0, 11.0):
        formula = log_variance(torch.tensor(P), 10 * math.exp(P), electronic)
        assert float(drawn(10.0, electronic).var() / formula) > 1.3


@pytest.mark.parametrize("electronic", [0.0, 11.0])
@pytest.mark.parametrize(("quanta", "tolerance"), [(50, 0.12), (500, 0.03), (1e4, 0.01), (1e5, 0.01)])
def test_weights_of_drawn_noise(quanta: float, tolerance: float, electronic: float) -> None:
    """Smoothing leaves the weights a little off, the more the noisier; measured 9 % at 50 quanta, 1.6 % at 500."""
    noisy = drawn(float(quanta), electronic).reshape(5, 100, 1000)
    weights = noise_weights(noisy, quanta * math.exp(P), electronic)
    assert float(weights.mean() * noisy.var()) == pytest.approx(1, rel=tolerance)


def test_weights_never_trust_fewer_than_twenty_photons() -> None:
    values = torch.full((1, 1, 9), 30.0)
    expected = 1 / (1 / FEWEST * (1 + 1 / FEWEST * (11 - 1.25)))
    for photons in (1e4, 3.0):  # so few in the ray, or already without an object
        weights = noise_weights(values, torch.tensor([photons]), 11.0)
        torch.testing.assert_close(weights, torch.full((1, 1, 9), expected).double(), rtol=1e-6, atol=0)


def test_weights_follow_the_photons_of_each_pixel() -> None:
    photons = torch.tensor([1e3, 1e4, 1e5], dtype=torch.float64)
    weights = noise_weights(torch.zeros(2, 4, 3), photons)
    torch.testing.assert_close(weights[1, 2], photons, rtol=2e-3, atol=0)


def test_means_are_smoothed_within_a_view_and_not_negative() -> None:
    noisy = torch.zeros(3, 1, 41)
    noisy[1, 0, 20] = 1.0
    noisy[2] = -0.2
    means = smoothed_means(noisy, 1.5)
    assert float(means[0].abs().max()) == 0
    assert float(means[1, 0, 20]) == pytest.approx(1 / (1.5 * math.sqrt(2 * math.pi)), rel=2e-3)
    assert float(means[2].abs().max()) == 0
    assert torch.equal(smoothed_means(noisy, 0)[1], noisy[1].double())


def test_photons_below_one_are_counted_and_taken_as_one() -> None:
    values, starved = logarithm(torch.tensor([-3.0, 0.0, 0.5, 1.0, 100.0]), torch.tensor(100.0))
    assert starved == 3
    torch.testing.assert_close(values, torch.log(torch.tensor([100.0, 100, 100, 100, 1])))


def test_weights_of_a_scan_are_its_own_or_follow_from_its_photons() -> None:
    geometry = ParallelBeam.circular(4, detector=Detector(shape=(1, 8)))
    scan = Scan(geometry=geometry, values=torch.ones(4, 1, 8))
    with pytest.raises(ConfigError, match=r"photons: .* states none.*Calibration\(photons"):
        weights_of(scan)
    stated = scan.changed(calibration=Calibration(photons=1e4, electronic=10.0))
    assert torch.equal(weights_of(stated), noise_weights(scan.values, 1e4, 10.0).float())
    own = torch.rand(4, 1, 8)
    assert torch.equal(weights_of(stated.changed(weights=own)), own)
    with pytest.raises(ConfigError, match="weights: expected some above 0"):
        weights_of(stated.changed(weights=torch.zeros(4, 1, 8)))


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"photons": 0.0}, ConfigError, "photons: expected a finite number above 0"),
        ({"photons": -1e4}, ConfigError, "photons: expected a finite number above 0"),
        ({"photons": torch.tensor([1e4, 0.0])}, ConfigError, "photons: expected numbers above 0 per pixel, got 0"),
        ({"photons": torch.tensor([1e4, math.nan])}, NumericalError, "photons: expected finite"),
        ({"photons": 1e4, "electronic": -1.0}, ConfigError, "electronic: expected a variance of 0 or more"),
        ({"photons": 1e4, "electronic": math.nan}, ConfigError, "electronic: expected a finite number"),
        ({"photons": 1e4, "fewest": 1.0}, ConfigError, "fewest: expected 2 photons or more"),
        ({"photons": 1e4, "smoothing": -1.0}, ConfigError, "smoothing: expected a standard deviation"),
    ],
)
def test_impossible_photons_are_refused(settings: dict, error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        noise_weights(torch.ones(1, 1, 4), **settings)
