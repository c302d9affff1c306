"""Dose reduction: a reduced scan has the statistics of one taken at the lower dose."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from recon import Calibration, ConeBeam, Detector, ParallelBeam, Scan, noise_photons, read_scan, reduce_dose
from recon.errors import ConfigError, CTWarning, ShapeError
from recon.random import generator
from recon.sinogram.crosstalk import noise_share, spread
from recon.statistics import log_variance, logarithm, noise_weights, smoothed_means

GEOMETRY = ParallelBeam.circular(250, detector=Detector(shape=(10, 80)))  # 200 000 values
FRACTION = 0.25


def taken(truth: Tensor, photons: Tensor | float, electronic: float, seed: int, crosstalk: float = 0.0) -> Tensor:
    """Line integrals as a detector would measure them."""
    rng, beam = generator(seed), torch.as_tensor(photons, dtype=torch.float64)
    counts = spread(torch.poisson(beam * torch.exp(-truth), generator=rng), crosstalk)
    counts += torch.randn(truth.shape, generator=rng, dtype=torch.float64) * math.sqrt(electronic)
    return logarithm(counts, beam)[0]


def measured(photons: float, electronic: float = 0.0, p: float = 1.0, crosstalk: float = 0.0) -> Scan:
    """A scan of the same line integral everywhere."""
    truth = torch.full(GEOMETRY.shape, p, dtype=torch.float64)
    return Scan(
        geometry=GEOMETRY,
        values=taken(truth, photons, electronic, 1, crosstalk),
        calibration=Calibration(photons=photons, electronic=electronic),
    )


def skewness(values: Tensor) -> float:
    return float((values - values.mean()).pow(3).mean() / values.std() ** 3)


@pytest.mark.filterwarnings("ignore:values. .* less than one photon")
@pytest.mark.parametrize("electronic", [0.0, 11.0])
@pytest.mark.parametrize("quanta", [40, 400, 4e3, 4e4])
@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.8])
def test_mean_and_variance_are_those_of_the_lower_dose(quanta: float, electronic: float, fraction: float) -> None:
    """From 4 to 32 000 quanta per reduced ray; limits are four standard errors of both samples."""
    p = 1.0
    photons = quanta * math.exp(p)
    reduced = reduce_dose(measured(photons, electronic, p), fraction, seed=3).values
    direct = taken(torch.full(GEOMETRY.shape, p, dtype=torch.float64), fraction * photons, electronic, 9)
    spread_of_variance = math.sqrt(float(((direct - direct.mean()) ** 2).var()) / direct.numel())
    assert float(reduced.mean() - direct.mean()) == pytest.approx(
        0, abs=4 * math.sqrt(2 * float(direct.var()) / direct.numel())
    )
    assert float(reduced.var() - direct.var()) == pytest.approx(0, abs=4 * math.sqrt(2) * spread_of_variance)


@pytest.mark.filterwarnings("ignore:values. .* less than one photon")
def test_few_quanta_keep_the_shape_of_their_distribution() -> None:
    """Ten quanta: skewness 0.84 and 0.86; Gaussian noise in the place of thinning makes it 1.16."""
    reduced = reduce_dose(measured(40 * math.e), FRACTION, seed=3).values
    direct = taken(torch.ones(GEOMETRY.shape, dtype=torch.float64), 10 * math.e, 0.0, 9)
    assert skewness(reduced) == pytest.approx(skewness(direct), rel=0.05)


def test_electronic_noise_does_not_scale() -> None:
    """Where it dominates, a tenth of the dose has a hundred times the variance, not ten."""
    high = measured(1e4, 1e4, p=0.0)
    low = reduce_dose(high, 0.1, seed=1)
    assert low.calibration.electronic == 1e4
    expected = float(log_variance(torch.tensor(0.0), 1e3, 1e4) / log_variance(torch.tensor(0.0), 1e4, 1e4))
    assert 50 < expected < 60
    middle = smoothed_means(low.values, 0).median()
    quartiles = (low.values - middle).abs().median() / (high.values - high.values.median()).abs().median()
    assert float(quartiles) ** 2 == pytest.approx(expected, rel=0.1)


def test_inserted_noise_is_independent_per_pixel_and_view() -> None:
    noise = reduce_dose(measured(4e4), FRACTION, seed=3).values - 1.0
    for axis in (0, 1, 2):
        here, there = noise.narrow(axis, 1, noise.shape[axis] - 1), noise.narrow(axis, 0, noise.shape[axis] - 1)
        assert abs(float((here * there).mean() / noise.var())) < 0.01


def test_noise_with_cross_talk_keeps_its_spectrum() -> None:
    share = 0.1
    low = reduce_dose(measured(4e4, crosstalk=share), FRACTION, seed=3, crosstalk=share)
    noise = low.values[:, 1:-1, 1:-1] - 1.0
    full = float(log_variance(torch.tensor(1.0), FRACTION * 4e4))
    assert float(noise.var()) == pytest.approx(full * noise_share(share, 10), rel=0.03)
    assert low.weights is not None
    assert float(1 / low.weights.mean()) == pytest.approx(full * noise_share(share, 10), rel=0.01)
    beside = float((noise[..., 1:] * noise[..., :-1]).mean() / noise.var())
    assert beside == pytest.approx(2 * share * (1 - 2 * share) / noise_share(share), abs=0.02)


def test_what_the_reduced_scan_says_of_itself() -> None:
    high = measured(4e4, 11.0)
    bad = torch.ones(GEOMETRY.shape, dtype=torch.float64)
    bad[:, :, 7] = 0
    low = reduce_dose(high.changed(weights=noise_weights(high.values, 4e4, 11.0) * bad), FRACTION, seed=3)
    assert low.calibration == Calibration(photons=1e4, electronic=11.0)
    assert "dose reduced to 25 % of 40000 photons per pixel, seed 3" in low.provenance
    assert low.dtype == high.dtype
    assert low.weights is not None
    assert torch.equal(low.weights, noise_weights(low.values, 1e4, 11.0) * bad)
    assert reduce_dose(high, FRACTION, seed=3).weights is not None
    assert torch.equal(low.values, reduce_dose(high, FRACTION, seed=3).values)
    assert not torch.equal(low.values, reduce_dose(high, FRACTION, seed=4).values)


def test_the_whole_dose_is_the_scan_itself() -> None:
    high = measured(4e4, 11.0)
    torch.testing.assert_close(reduce_dose(high, 1.0, seed=0).values, high.values, rtol=0, atol=1e-12)


def test_a_reduction_in_two_steps_is_one() -> None:
    once = reduce_dose(measured(4e4, 11.0), 0.25, seed=3).values
    twice = reduce_dose(reduce_dose(measured(4e4, 11.0), 0.5, seed=3), 0.5, seed=4).values
    assert float(twice.var() / once.var()) == pytest.approx(1, rel=0.02)


def test_photons_behind_a_bow_tie() -> None:
    beam = torch.linspace(4e3, 4e4, 80, dtype=torch.float64)
    values = taken(torch.ones(GEOMETRY.shape, dtype=torch.float64), beam, 0.0, 1)
    scan = Scan(geometry=GEOMETRY, values=values, calibration=Calibration(photons=float(beam.mean())))
    low = reduce_dose(scan, FRACTION, seed=3, incident=beam)
    by_column = low.values.var(dim=(0, 1)) / log_variance(torch.ones(80), FRACTION * beam)
    assert float((by_column - 1).abs().max()) < 4 * math.sqrt(2 / 2500)
    assert low.calibration.photons == pytest.approx(FRACTION * 2.2e4)
    uneven = scan.changed(weights=noise_weights(values, beam))
    with pytest.raises(ConfigError, match=r"weights: .* as behind a bow-tie; pass incident="):
        reduce_dose(uneven, FRACTION, seed=3)
    assert torch.equal(reduce_dose(uneven, FRACTION, seed=3, incident=beam).values, low.values)


def test_starved_rays_are_counted_and_said() -> None:
    with pytest.warns(CTWarning, match=r"values: \d+ of 200000 values had less than one photon"):
        low = reduce_dose(measured(40.0, 11.0), 0.1, seed=3)
    assert float(low.values.max()) == pytest.approx(math.log(4.0))


@pytest.mark.parametrize("photons", [1e3, 1e5])
@pytest.mark.parametrize("p", [0.0, 3.0])
def test_photons_are_found_from_the_noise(photons: float, p: float) -> None:
    """Measured within 1.1 %."""
    assert noise_photons(measured(photons, p=p)) == pytest.approx(photons, rel=0.03)
    assert noise_photons(measured(photons, p=p)[:2]) is None


def quiet(photons: float | None) -> Scan:
    """A disc without noise."""
    fan = ConeBeam.circular(200, detector=Detector(shape=(1, 90)), source_to_axis=300, source_to_detector=600)
    chord = (30.0**2 - fan.detector.coordinates()[1] ** 2).clamp_min(0).sqrt() * 0.04
    values = chord.float().expand(fan.shape).clone()
    return Scan(geometry=fan, values=values, calibration=Calibration(photons=photons))


@pytest.mark.parametrize(
    ("ask", "error", "words"),
    [
        (lambda: reduce_dose(measured(1e4), 1.5, seed=0), ConfigError, "fraction: expected a share .* got 1.5; 25 %"),
        (lambda: reduce_dose(measured(1e4), 25, seed=0), ConfigError, "fraction: expected a share .* got 25"),
        (lambda: reduce_dose(measured(1e4), 0.0, seed=0), ConfigError, "fraction: expected a share"),
        (lambda: reduce_dose(measured(1e4), -0.1, seed=0), ConfigError, "fraction: expected a share"),
        (lambda: reduce_dose(measured(1e4), math.nan, seed=0), ConfigError, "fraction: expected a finite number"),
        (lambda: reduce_dose(measured(1e4), 0.5, seed=-1), ConfigError, "seed: expected an integer"),
        (lambda: reduce_dose(measured(1e4), 0.5, seed=0, crosstalk=0.3), ConfigError, "crosstalk: expected the share"),
        (lambda: reduce_dose(quiet(None), 0.5, seed=0), ConfigError, "photons: .* as one without noise does; state"),
        (lambda: reduce_dose(quiet(1e5), 0.5, seed=0), ConfigError, "scan: expected the noise of 100000 photons"),
        (
            lambda: reduce_dose(measured(1e4).changed(calibration=Calibration()), 0.5, seed=0),
            ConfigError,
            r"Calibration\(photons=...\); if what its views differ by is noise, they are about 1e\+04",
        ),
        (
            lambda: reduce_dose(measured(1e4), 0.5, seed=0, incident=torch.ones(7)),
            ShapeError,
            r"incident: expected a shape that broadcasts to .*\(7,\)",
        ),
        (
            lambda: reduce_dose(measured(1e4), 0.5, seed=0, incident=torch.zeros(80)),
            ConfigError,
            "incident: expected photons above 0",
        ),
    ],
)
def test_impossible_reductions_are_refused(ask, error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        ask()


@pytest.fixture(scope="module")
def helsinki(shared_data: Path) -> Scan:
    return read_scan(shared_data / "htc2022_fanbeam" / "htc2022_ta_full.mat")


@pytest.mark.data
def test_a_measured_scan_at_a_quarter_of_its_dose(helsinki: Scan) -> None:
    """Measured: 5.94e4 photons at full dose by the noise between views, 24.8 % and 9.95 % of them after reduction."""
    photons = noise_photons(helsinki)
    assert photons == pytest.approx(5.9e4, rel=0.05)
    stated = helsinki.changed(calibration=Calibration(photons=photons))
    for fraction in (0.25, 0.1):
        assert noise_photons(reduce_dose(stated, fraction, seed=1)) == pytest.approx(fraction * photons, rel=0.02)


@pytest.mark.data
@pytest.mark.parametrize("electronic", [0.0, 200.0])
def test_a_real_object_reduced_or_simulated_at_the_lower_dose(helsinki: Scan, electronic: float) -> None:
    """The object of a measured scan, smoothed, as the truth: by classes of attenuation, within their errors."""
    photons, truth = 6e4, smoothed_means(helsinki.values, 1.5)
    scan = helsinki.changed(
        values=taken(truth, photons, electronic, 1), calibration=Calibration(photons=photons, electronic=electronic)
    )
    reduced = reduce_dose(scan, FRACTION, seed=2).values - truth
    direct = taken(truth, FRACTION * photons, electronic, 3) - truth
    for low, high in ((-1, 0.05), (0.05, 0.8), (0.8, 1.5), (1.5, 3)):
        some = (truth > low) & (truth <= high)
        number = int(some.sum())
        assert number > 5000
        mine, theirs = reduced[some], direct[some]
        error = math.sqrt(float(theirs.var()) / number)
        assert float(mine.mean() - theirs.mean()) == pytest.approx(0, abs=4 * math.sqrt(2) * error)
        assert float(mine.var() / theirs.var()) == pytest.approx(1, abs=4 * math.sqrt(4 / number))
