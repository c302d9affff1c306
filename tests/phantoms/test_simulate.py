"""Simulated scans: noise as the formula says, seeds, bow-tie, weights and provenance."""

import pytest
import torch

from phantoms import BowTie, Dose, Phantom, ball, disc, simulate
from recon.errors import ConfigError, CTWarning
from recon.geometry import ConeBeam, Detector, FreeBeam, ParallelBeam
from recon.statistics import log_variance
from recon.units import WATER

FAN = ConeBeam.circular(
    40, detector=Detector(shape=(1, 90), pitch=(2, 4), curve="arc"), source_to_axis=570, source_to_detector=1040
)
CONE = ConeBeam.circular(
    3, detector=Detector(shape=(5, 7), pitch=(20, 30)), source_to_axis=570, source_to_detector=1040
)


def steady(p: float) -> Phantom:
    """Make a phantom that gives the same line integral everywhere: the inside of a huge ball."""
    return ball(1e7, density=p / 2e7)


def test_without_noise_the_values_are_the_line_integrals() -> None:
    scan = simulate(disc(60), FAN, subrays=1)
    assert torch.equal(scan.values, disc(60).line_integrals(FAN))
    assert scan.values.dtype == torch.float32
    assert scan.weights is None
    assert scan.calibration.photons is None
    assert scan.calibration.water == WATER
    assert scan.provenance == ("simulated disc: 1 x 1 sub-rays per pixel, exponential average",)


def test_two_subrays_per_direction_unless_asked() -> None:
    expected = disc(60).line_integrals(CONE, subrays=(2, 2), averaging="exponential")
    assert torch.equal(simulate(disc(60), CONE).values, expected)
    linear = simulate(disc(60), CONE, averaging="log", subrays=3).values
    assert torch.equal(linear, disc(60).line_integrals(CONE, subrays=(3, 3)))


# Mean counts at which the variance formula was compared with drawn noise: 5 % low at 70 quanta, 8 % low at 46.
@pytest.mark.parametrize(("quanta", "tolerance"), [(20000, 0.03), (3679, 0.03), (498, 0.03), (67.4, 0.08)])
@pytest.mark.parametrize("electronic", [0.0, 11.0])
def test_noise_has_the_variance_of_the_formula(quanta: float, tolerance: float, electronic: float) -> None:
    p = 2.0
    photons = quanta * 2.718281828459045**p
    geometry = ParallelBeam.circular(200, detector=Detector(shape=(10, 20)))
    scan = simulate(steady(p), geometry, dose=Dose(photons=photons, electronic=electronic), seed=3, subrays=1)
    expected = float(log_variance(torch.tensor(p), torch.tensor(photons), electronic))
    assert float(scan.values.double().var()) == pytest.approx(expected, rel=tolerance)
    bias = 0.5 / quanta * (1 + electronic / quanta)
    margin = 4 * (expected / 40_000) ** 0.5 + 0.1 * bias
    assert float(scan.values.double().mean()) == pytest.approx(p + bias, abs=margin)
    # smoothed weights are a little off, the more the noisier; measured within 6 % at 67 quanta
    assert float(scan.weights.double().mean()) == pytest.approx(1 / expected, rel=0.1)


def test_same_seed_same_bits() -> None:
    dose = Dose(photons=1e4, electronic=8)
    one, again, two = (simulate(disc(60), FAN, dose=dose, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one.values, again.values)
    assert torch.equal(one.weights, again.weights)
    assert not torch.equal(one.values, two.values)


def test_global_generators_are_left_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    simulate(disc(60), FAN, dose=Dose(photons=1e4, electronic=8), seed=1)
    assert torch.equal(before, torch.get_rng_state())


def test_bow_tie_takes_photons_from_the_edge() -> None:
    dose = Dose(photons=1e5, bowtie=BowTie())
    incident = dose.incident(FAN)
    assert incident.shape == (90,)
    assert float(incident.max()) == pytest.approx(1e5, rel=1e-2)
    assert float(incident[0]) == pytest.approx(1e5 * (0.08 + 0.92 * 2.718281828 ** (-((1 / 0.45) ** 2))), rel=1e-6)
    torch.testing.assert_close(incident, incident.flip(0))
    scan = simulate(steady(0.5), FAN, dose=dose, seed=1, subrays=1)
    ratio = scan.values[:, 0, :8].double().var() / scan.values[:, 0, 41:49].double().var()
    assert float(ratio) == pytest.approx(float(incident[44] / incident[:8].mean()), rel=0.25)  # of 320 values each
    assert float(scan.weights[:, 0, 45].mean()) > 8 * float(scan.weights[:, 0, 0].mean())
    assert scan.calibration.photons == pytest.approx(float(incident.mean()))


@pytest.mark.parametrize("geometry", [FAN, CONE, ParallelBeam.circular(3, detector=Detector(shape=(2, 8)))])
def test_bow_tie_is_the_same_for_a_free_trajectory(geometry) -> None:
    dose = Dose(photons=1e5, bowtie=BowTie(width=0.6))
    torch.testing.assert_close(dose.incident(FreeBeam.of(geometry)), dose.incident(geometry))


def test_values_without_photons_are_counted_and_warned_about() -> None:
    with pytest.warns(CTWarning, match=r"values: \d+ of 3600 values had less than one photon"):
        scan = simulate(disc(150), FAN, dose=Dose(photons=50, electronic=4), seed=1)
    assert "were taken as one" in scan.provenance[-1]
    assert float(scan.values.max()) <= torch.log(torch.tensor(50.0)) + 1e-6
    assert bool((scan.weights > 0).all())


def test_motion_is_simulated_but_not_stated() -> None:
    poses = torch.zeros(3, 6)
    poses[1, 1] = 15.0
    scan = simulate(ball(60), CONE, poses=poses, subrays=1)
    assert scan.poses is None
    assert any("moved" in step for step in scan.provenance)
    still = simulate(ball(60), CONE, subrays=1)
    assert torch.equal(scan.values[0], still.values[0])
    assert not torch.equal(scan.values[1], still.values[1])


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda: simulate(disc(), FAN, dose=Dose(photons=1e4)), "seed: expected an integer .* got None"),
        (lambda: simulate(disc(), FAN, dose=Dose(photons=1e4), seed=-1), "seed: expected an integer"),
        (lambda: simulate(disc(), FAN, averaging="mean"), "averaging: expected one of"),
        (lambda: Dose(photons=0), "photons: expected a finite number above 0"),
        (lambda: Dose(photons=1e4, electronic=-1), "electronic: expected a variance of 0 or more"),
        (lambda: BowTie(floor=0), "floor: expected a share above 0"),
        (lambda: BowTie(width=-1), "width: expected"),
    ],
)
def test_impossible_requests_are_refused(ask, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        ask()
