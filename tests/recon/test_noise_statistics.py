"""Statistics of line integrals: variance, bias and weights against drawn noise."""

import math

import pytest
import torch

from recon import Calibration, Detector, ParallelBeam, Scan, log_bias, log_variance, noise_weights
from recon.counting import cautious_variance, log_moments, quanta_behind
from recon.errors import ConfigError, NumericalError
from recon.random import generator
from recon.statistics import FEWEST, logarithm, mean_quanta, smoothed_means, weights_of

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
    """Why weights are not formed from it: a third to twice more variance than the formula says."""
    for electronic in (0.0, 11.0):
        formula = log_variance(torch.tensor(P), 10 * math.exp(P), electronic)
        assert float(drawn(10.0, electronic).var() / formula) > 1.3


@pytest.mark.parametrize("electronic", [0.0, 0.5, 11.0, 2e3])
@pytest.mark.parametrize("quanta", [0.1, 1.0, 3.0, 10.0, 50.0, 990.0, 1010.0, 1e4, 1e5])
def test_moments_are_those_of_drawn_noise(quanta: float, electronic: float) -> None:
    """Within sampling error alone; 1000 photons are where the table ends and the series begins."""
    values = drawn(quanta, electronic) - P
    bias, variance = (float(one) for one in log_moments(torch.tensor(quanta), electronic))
    kurtosis = float((values - values.mean()).pow(4).mean() / values.var() ** 2)
    assert float(values.mean()) == pytest.approx(bias, abs=4 * math.sqrt(variance / DRAWS))
    assert float(values.var()) == pytest.approx(variance, rel=4 * math.sqrt((kurtosis - 1) / DRAWS))


@pytest.mark.parametrize("electronic", [0.0, 11.0, 400.0, 1e6])
def test_table_and_series_meet(electronic: float) -> None:
    """Measured 3e-5 of the bias, and 8e-6 of the variance."""
    edge = max(1000.0, 40 * math.sqrt(electronic))
    for below, above in zip(
        *(log_moments(torch.tensor(edge * s), electronic) for s in (1 - 1e-9, 1 + 1e-9)), strict=True
    ):
        assert float(below) == pytest.approx(float(above), rel=1e-3)


def test_darker_rays_are_never_trusted_more() -> None:
    quanta = torch.logspace(-3, 7, 500, dtype=torch.float64)
    for electronic in (0.0, 11.0):
        variance = cautious_variance(quanta, electronic)
        assert bool((variance.diff() <= 0).all())
        assert torch.equal(variance[250:], log_moments(quanta[250:], electronic)[1])
        assert float(log_moments(quanta[:1], electronic)[1]) < float(variance[0])


@pytest.mark.parametrize("electronic", [0.0, 11.0])
def test_counts_cut_off_at_one_photon_tell_the_mean(electronic: float) -> None:
    for quanta in (0.3, 1.0, 5.0, 40.0, 2e3):
        counts = (quanta * torch.exp(P - drawn(quanta, electronic))).mean()
        assert float(quanta_behind(counts, electronic)) == pytest.approx(quanta, rel=0.02)


@pytest.mark.parametrize("electronic", [0.0, 11.0])
@pytest.mark.parametrize(
    ("quanta", "tolerance"), [(5, 0.12), (10, 0.08), (50, 0.03), (500, 0.015), (1e4, 0.01), (1e5, 0.01)]
)
def test_weights_of_drawn_noise(quanta: float, tolerance: float, electronic: float) -> None:
    """Smoothing leaves the weights a little off, the more the noisier; the formula's are off by 60 % at 10 quanta."""
    noisy = drawn(float(quanta), electronic).reshape(5, 100, 1000)
    weights = noise_weights(noisy, quanta * math.exp(P), electronic)
    assert float((1 / weights).mean() / noisy.var()) == pytest.approx(1, rel=tolerance)


def test_the_mean_of_few_photons_is_not_that_of_their_logarithms() -> None:
    noisy = drawn(10.0, 11.0).reshape(5, 100, 1000)
    incident = 10 * math.exp(P)
    found = mean_quanta(noisy, incident, 11.0)
    assert float(found.mean()) == pytest.approx(10, rel=0.02)
    assert float((incident * torch.exp(-smoothed_means(noisy))).mean()) < 9.2
    bright = mean_quanta(torch.full((1, 1, 3), -0.2), 1e4)
    torch.testing.assert_close(bright, torch.full((1, 1, 3), 1e4).double())


def test_weights_never_trust_less_than_one_photon() -> None:
    values = torch.full((1, 1, 9), 30.0)
    expected = 1 / cautious_variance(torch.tensor(FEWEST), 11.0)
    for photons in (1e4, 0.3):  # so few in the ray, or already without an object
        weights = noise_weights(values, torch.tensor([photons]), 11.0)
        torch.testing.assert_close(weights, expected.expand(1, 1, 9), rtol=1e-6, atol=0)
    twenty = noise_weights(values, torch.tensor([1e4]), 11.0, fewest=20.0)
    torch.testing.assert_close(1 / twenty, log_moments(torch.tensor(20.0), 11.0)[1].expand(1, 1, 9))


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
        ({"photons": 1e4, "fewest": 0.0}, ConfigError, "fewest: expected a finite number above 0"),
        ({"photons": 1e4, "smoothing": -1.0}, ConfigError, "smoothing: expected a standard deviation"),
    ],
)
def test_impossible_photons_are_refused(settings: dict, error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        noise_weights(torch.ones(1, 1, 4), **settings)


def test_moments_of_no_photons_are_refused() -> None:
    with pytest.raises(ConfigError, match="quanta: expected mean photons above 0, got 0"):
        log_moments(torch.tensor([3.0, 0.0]))
    with pytest.raises(NumericalError, match="quanta: expected finite"):
        cautious_variance(torch.tensor([math.nan]))
    with pytest.raises(ConfigError, match="electronic: expected a variance of 0 or more"):
        quanta_behind(torch.tensor([2.0]), -1.0)
