"""Dose: photons per column, tube and detector."""

import math

import pytest
import torch

from phantoms import Box, Dose, Phantom, ball, simulate
from phantoms.dose import relative_fan
from recon.errors import ConfigError
from recon.geometry import ConeBeam, Detector, FreeBeam, ParallelBeam
from recon.sinogram.crosstalk import noise_share, spread
from recon.statistics import log_variance


@pytest.mark.parametrize("curve", ["flat", "arc"])
def test_a_free_geometry_has_the_fan_of_the_scanner_it_writes_out(curve: str) -> None:
    """A half-fan set-up too: the fan is measured from the axis, not from the detector's middle."""
    detector = Detector(shape=(3, 40), pitch=(5, 5), offset=(4.0, 80.0), curve=curve)
    cone = ConeBeam.circular(4, detector=detector, source_to_axis=300, source_to_detector=500)
    torch.testing.assert_close(relative_fan(FreeBeam.of(cone)), relative_fan(cone), rtol=0, atol=1e-12)
    expected = cone.fan_angles() / cone.fan_angles().abs().max()
    torch.testing.assert_close(relative_fan(cone), expected, rtol=0, atol=1e-12)


FAN = ConeBeam.circular(
    60, detector=Detector(shape=(1, 200), pitch=(1, 1), curve="arc"), source_to_axis=570, source_to_detector=1040
)
PANEL = ConeBeam.circular(20, detector=Detector(shape=(12, 200)), source_to_axis=570, source_to_detector=1040)


def steady(p: float) -> Phantom:
    """The same line integral everywhere: the inside of a huge ball."""
    return ball(1e7, density=p / 2e7)


def test_dose_by_tube_current() -> None:
    dose = Dose.of_current(0.5, photons_per_mas=4e5, electronic=11.0)
    assert dose == Dose(photons=2e5, electronic=11.0)
    assert eval(repr(dose)) == dose


@pytest.mark.parametrize("geometry", [FAN, PANEL], ids=["fan", "panel"])
def test_cross_talk_correlates_neighbours_and_lowers_the_variance(geometry: ConeBeam) -> None:
    """Of 12 000 and 48 000 values; measured within 2 % and 0.01."""
    share = 0.1
    scan = simulate(steady(1.0), geometry, dose=Dose(photons=1e5, crosstalk=share), seed=2, subrays=1)
    noise = scan.values.double()[:, :, 1:-1] - 1.0
    noise = noise if noise.shape[1] == 1 else noise[:, 1:-1]
    expected = float(log_variance(torch.tensor(1.0), 1e5)) * noise_share(share, geometry.detector.shape[0])
    assert float(noise.var()) == pytest.approx(expected, rel=0.06)
    assert scan.weights is not None
    assert float(1 / scan.weights.mean()) == pytest.approx(expected, rel=0.01)
    beside = float((noise[..., 1:] * noise[..., :-1]).mean() / noise.var())
    assert beside == pytest.approx(2 * share * (1 - 2 * share) / ((1 - 2 * share) ** 2 + 2 * share**2), abs=0.03)
    assert abs(float((noise[1:] * noise[:-1]).mean() / noise.var())) < 0.03  # views stay independent


def test_cross_talk_keeps_photons() -> None:
    photons = torch.rand(3, 5, 9, dtype=torch.float64)
    after = spread(photons, 0.2)
    torch.testing.assert_close(after.sum((1, 2)), photons.sum((1, 2)))
    torch.testing.assert_close(spread(torch.ones(1, 4, 4), 0.2), torch.ones(1, 4, 4))
    assert torch.equal(spread(photons, 0.0), photons)


def test_focal_spot_blurs_edges_as_much_as_on_the_axis() -> None:
    """The blur adds its square to an edge's; measured 6e-4 less, which the ends of the Gaussian lose."""
    spot, at = 6.0, torch.arange(60, dtype=torch.float64)
    bar = Box(centre=(0, 0, 40), size=(400, 4, 80), density=1e-3)
    sharp = torch.exp(-Phantom(name="bar", rule="additive", shapes=(bar,)).line_integrals(FAN[:1], subrays=4).double())

    def squared_width(intensity: torch.Tensor) -> float:
        edge = intensity[0, 0].diff()[70:130]
        middle = (at * edge).sum() / edge.sum()
        return float(((at - middle) ** 2 * edge).sum() / edge.sum())

    added = squared_width(Dose(photons=1, focal_spot=spot).blurred(sharp, FAN)) - squared_width(sharp)
    assert math.sqrt(8 * math.log(2) * added) == pytest.approx(spot * (1040 / 570 - 1), rel=1e-3)


def test_focal_spot_needs_a_source_at_a_known_distance() -> None:
    parallel = ParallelBeam.circular(2, detector=PANEL.detector)
    with pytest.raises(ConfigError, match=r"focal_spot: expected a circular or helical scan .* ParallelBeam"):
        simulate(ball(), parallel, dose=Dose(photons=1e4, focal_spot=1.0), seed=0)


def test_dead_pixels_are_interpolated_and_say_so() -> None:
    dose = Dose(photons=1e5, dead=0.03)
    scan = simulate(ball(60), FAN, dose=dose, seed=5)
    assert scan.weights is not None
    bad = (scan.weights == 0).all(0)[0]
    assert int(bad.sum()) == 6
    assert "6 of 200 pixels were dead: interpolated along their rows, weight 0" in scan.provenance[-1]
    living = simulate(ball(60), FAN, dose=Dose(photons=1e5), seed=5)
    assert torch.equal(scan.values[..., ~bad], living.values[..., ~bad])
    lone = bad[1:-1] & ~bad[:-2] & ~bad[2:]  # between two living pixels
    assert bool(lone.any())
    between = (scan.values[..., :-2] + scan.values[..., 2:]) / 2
    torch.testing.assert_close(scan.values[..., 1:-1][..., lone], between[..., lone])
    assert not bool((simulate(ball(60), FAN, dose=dose, seed=6).weights == 0).all(0)[0].equal(bad))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"crosstalk": 0.25}, "crosstalk: expected the share .* 0 to 0.25, got 0.25"),
        ({"crosstalk": -0.1}, "crosstalk: expected"),
        ({"dead": 0.06}, "dead: expected a share of the pixels from 0 to 0.05"),
        ({"dead": math.nan}, "dead: expected a finite number"),
        ({"focal_spot": -1.0}, "focal_spot: expected a width of 0 mm or more"),
        ({"photons": -1e4}, "photons: expected a finite number above 0"),
    ],
)
def test_impossible_doses_are_refused(settings: dict[str, float], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Dose(**{"photons": 1e4, **settings})


@pytest.mark.parametrize("wrong", [0.0, -1.0, 1e-12])
def test_impossible_currents_are_refused(wrong: float) -> None:
    with pytest.raises(ConfigError, match="milliampere_seconds: expected a finite number above 0"):
        Dose.of_current(wrong, photons_per_mas=1e4)
    with pytest.raises(ConfigError, match="photons_per_mas: expected a finite number above 0"):
        Dose.of_current(1.0, photons_per_mas=wrong)
