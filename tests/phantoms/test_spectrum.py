"""Beams of many energies: hardening, its correction for water, and the streaks that bone leaves."""

import math

import pytest
import torch

from phantoms import Dose, Ellipsoid, Phantom, Spectrum, VolumeObject, ball, shepp_logan, simulate
from phantoms.materials import attenuation
from phantoms.spectrum import split
from recon import ConeBeam, Detector, VolumeGrid
from recon.errors import ConfigError
from recon.units import WATER

BEAM = Spectrum.tungsten(120.0)
FAN = ConeBeam.circular(
    60, detector=Detector(shape=(1, 90), pitch=(4, 4), curve="arc"), source_to_axis=570, source_to_detector=1040
)
PATHS = torch.linspace(0, 12, 977, dtype=torch.float64)  # between the knots of the correction's table, too


def test_one_energy_is_measured_as_it_is() -> None:
    single = Spectrum(energies=(70.0,), weights=(3.0,))
    torch.testing.assert_close(single.measured(PATHS, 0.3 * PATHS), 1.3 * PATHS, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(single.corrected(PATHS), PATHS, rtol=1e-12, atol=1e-12)


def test_two_energies_by_hand() -> None:
    beam = Spectrum(energies=(50.0, 100.0), weights=(1.0, 3.0))
    thickness = 200.0  # mm of water
    share = sum(w * math.exp(-thickness * attenuation("water", e)) for e, w in ((50, 0.25), (100, 0.75)))
    found = beam.measured(torch.tensor(thickness * attenuation("water", 70.0)))
    assert float(found) == pytest.approx(-math.log(share), rel=1e-6)
    bone = 20.0  # mm more of bone in the place of water
    added = bone * (attenuation("cortical bone", 70.0) - attenuation("water", 70.0))
    share = sum(
        w * math.exp(-(thickness - bone) * attenuation("water", e) - bone * attenuation("cortical bone", e))
        for e, w in ((50, 0.25), (100, 0.75))
    )
    found = beam.measured(torch.tensor(thickness * attenuation("water", 70.0)), torch.tensor(added))
    assert float(found) == pytest.approx(-math.log(share), rel=1e-6)


def test_a_beam_hardens() -> None:
    measured = BEAM.measured(PATHS)
    slopes = measured.diff() / PATHS.diff()
    assert bool((slopes.diff() < 0).all())
    torch.testing.assert_close(slopes, BEAM.slope((PATHS[1:] + PATHS[:-1]) / 2), rtol=1e-5, atol=0)


def test_the_correction_is_exact_for_water() -> None:
    """Measured: 9e-7 between the knots of its table."""
    torch.testing.assert_close(BEAM.corrected(BEAM.measured(PATHS)), PATHS, rtol=0, atol=2e-6)
    negative = torch.tensor([-0.01, -0.1], dtype=torch.float64)
    torch.testing.assert_close(BEAM.corrected(negative), negative / BEAM.slope(torch.zeros(1)))


def test_a_tungsten_tube_is_harder_with_voltage_filter_and_a_scintillator() -> None:
    """Photons of 120 kV behind 6 mm of aluminium: 57.6 keV on average, and a half-value layer of 6.9 mm."""
    counting = Spectrum.tungsten(120, integrating=False)
    assert counting.mean_energy == pytest.approx(57.6, abs=0.1)
    layer = 6.9 * attenuation("aluminium", 70)
    left = sum(
        w * math.exp(-layer * attenuation("aluminium", e) / attenuation("aluminium", 70))
        for e, w in zip(counting.energies, counting.weights, strict=True)
    )
    assert left == pytest.approx(0.5, abs=0.003)
    assert sum(counting.weights) == pytest.approx(1)
    assert BEAM.mean_energy > counting.mean_energy
    assert Spectrum.tungsten(120, aluminium=10).mean_energy > BEAM.mean_energy
    assert Spectrum.tungsten(80).mean_energy < BEAM.mean_energy


def test_water_is_simulated_as_at_one_energy() -> None:
    water = ball(100, density=WATER)
    plain, hard = (simulate(water, FAN, subrays=1, spectrum=beam).values for beam in (None, BEAM))
    torch.testing.assert_close(hard, plain, rtol=0, atol=2e-6)


def test_bone_counts_for_less_the_more_there_is() -> None:
    """The dark bands between bones: 10 mm of bone behind 50 to 300 mm of water, and behind as much bone again."""
    water = torch.tensor([50.0, 100.0, 200.0, 300.0], dtype=torch.float64) * attenuation("water", 70.0)
    bone = torch.full_like(water, 10 * (attenuation("cortical bone", 70.0) - attenuation("water", 70.0)))
    first = BEAM.corrected(BEAM.measured(water, bone)) - water
    second = BEAM.corrected(BEAM.measured(water, 2 * bone)) - water - first
    assert bool((first.diff() < 0).all())
    assert bool((second < first).all())
    torch.testing.assert_close(first / bone, torch.tensor([1.248, 1.155, 1.033, 0.955]).double(), rtol=0, atol=1e-3)


def test_a_skull_is_scanned_as_water_with_bone() -> None:
    inside = Ellipsoid(semi=(90, 90, 90), density=WATER)
    skull = Phantom(name="skull", shapes=(Ellipsoid(semi=(100, 100, 100), density=2 * WATER), inside))
    soft = ball(100, density=WATER).line_integrals(FAN, dtype=torch.float64)
    bone = skull.line_integrals(FAN, dtype=torch.float64) - soft
    scan = simulate(skull, FAN, subrays=1, spectrum=BEAM)
    torch.testing.assert_close(scan.values, BEAM.corrected(BEAM.measured(soft, bone)).float())
    assert "corrected for water at 70" in scan.provenance[-1]


def test_noise_grows_with_the_correction_and_so_do_the_weights() -> None:
    """Of 5400 values; measured 1.6 %."""
    steady = ball(1e7, density=4.0 / 2e7)
    scan = simulate(steady, FAN, dose=Dose(photons=1e6), seed=1, subrays=1, spectrum=BEAM)
    assert scan.weights is not None
    expected = math.exp(float(BEAM.measured(torch.tensor(4.0)))) / 1e6 / float(BEAM.slope(torch.tensor(4.0))) ** 2
    assert float(scan.values.double().mean()) == pytest.approx(4.0, abs=1e-3)
    assert float(scan.values.double().var()) == pytest.approx(expected, rel=0.08)
    assert float(1 / scan.weights.double().mean()) == pytest.approx(expected, rel=0.01)


def test_bone_is_told_from_water_in_volumes_too() -> None:
    values = torch.tensor([[[0.5, 1.0, 2.0]]]) * WATER
    volume = VolumeObject(values=values, grid=VolumeGrid(shape=(1, 1, 3)))
    soft = split(volume)
    assert isinstance(soft, VolumeObject)
    torch.testing.assert_close(soft.values, torch.tensor([[[0.5, 1.0, 1.0]]]) * WATER)


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda: Spectrum(energies=(60.0,), weights=(1.0, 2.0)), "weights: expected one per energy, got 2 for 1"),
        (lambda: Spectrum(energies=(), weights=()), "weights: expected one per energy"),
        (lambda: Spectrum(energies=(60.0, 50.0), weights=(1.0, 2.0)), "energies: expected growing"),
        (lambda: Spectrum(energies=(60.0, 70.0), weights=(1.0, -2.0)), "weights: expected shares"),
        (lambda: Spectrum(energies=(60.0,), weights=(0.0,)), "weights: expected shares"),
        (lambda: Spectrum(energies=(500.0,), weights=(1.0,)), "energy: expected 20 to 150 keV"),
        (lambda: Spectrum(energies=(math.nan,), weights=(1.0,)), "energies: expected a finite number in keV"),
        (lambda: Spectrum.tungsten(20), "kilovolt: expected 40 to 150 kV, got 20"),
        (lambda: Spectrum.tungsten(120, aluminium=-1), "aluminium: expected a filter"),
        (lambda: simulate(shepp_logan(), FAN, spectrum=BEAM), "spectrum: expected a Phantom .* rasterise it"),
    ],
)
def test_impossible_beams_are_refused(ask, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        ask()
