"""Materials: published attenuation, and Hounsfield units there and back."""

from itertools import pairwise

import pytest
import torch

from phantoms.materials import MATERIALS, attenuation, attenuation_to_hu, hu_to_attenuation
from recon.errors import ConfigError
from recon.units import to_mu, water_attenuation

every_material = pytest.mark.parametrize("name", MATERIALS)


# 70 keV is in no table: XCOM (Berger et al. 2010) gives 0.1929 cm²/g; the spline is 0.1929, straight lines 0.1937.
@pytest.mark.parametrize(("energy", "published"), [(60, 0.2059), (70, 0.1929), (80, 0.1837)])
def test_water_attenuates_as_published(energy: float, published: float) -> None:
    assert attenuation("water", energy) == pytest.approx(published / 10, rel=5e-4)


def test_water_agrees_with_the_units_at_tabulated_energies() -> None:
    for energy in (30, 40, 50, 60, 80, 100, 150):
        assert attenuation("water", energy) == pytest.approx(water_attenuation(energy), rel=1e-9)


@every_material
def test_attenuation_falls_with_energy_and_meets_its_table(name: str) -> None:
    material = MATERIALS[name]
    low, high = material.energies
    values = [attenuation(name, low + (high - low) * k / 200) for k in range(200)]
    assert all(one > following > 0 for one, following in pairwise(values))
    for energy, mass in material.mass_attenuation:
        assert attenuation(name, energy) == pytest.approx(0.1 * material.density * mass, rel=1e-12)
    assert attenuation(name, 70, density=2.0) == pytest.approx(2 / material.density * attenuation(name, 70))


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("air", -1000, -998), ("lung", -745, -735), ("fat", -95, -65), ("muscle", 40, 46), ("cortical bone", 1000, 2000)],
)
def test_tissues_measure_what_scanners_show(name: str, low: float, high: float) -> None:
    for energy in (60, 70, 80):
        hu = float(attenuation_to_hu(torch.tensor(attenuation(name, energy)).double(), energy, measured_at=energy))
        assert low <= hu <= high


def test_at_the_measured_energy_hounsfield_units_are_as_defined() -> None:
    hu = torch.linspace(-1000, 2500, 71, dtype=torch.float64)
    torch.testing.assert_close(hu_to_attenuation(hu, 70), to_mu(hu, attenuation("water", 70)))


@pytest.mark.parametrize("energy", [40.0, 70.0, 110.0])
def test_hounsfield_units_go_there_and_back(energy: float) -> None:
    hu = torch.linspace(-1100, 3000, 83, dtype=torch.float64)
    mu = hu_to_attenuation(hu, energy)
    assert bool((mu.diff() > 0).all())
    torch.testing.assert_close(attenuation_to_hu(mu, energy), hu, rtol=0, atol=1e-9)


def test_bone_is_bone_at_every_energy() -> None:
    bone = attenuation_to_hu(torch.tensor([attenuation("cortical bone", 70)]).double(), 70)
    for energy in (50.0, 100.0):
        assert float(hu_to_attenuation(bone, energy)) == pytest.approx(attenuation("cortical bone", energy))


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda: attenuation("cheese"), "material: expected one of air"),
        (lambda: attenuation("water", 10), "energy: expected 20 to 150 keV for water, got 10"),
        (lambda: attenuation("iodine", 33), "energy: expected 33.1694 to 150 keV for iodine"),
        (lambda: attenuation("water", float("nan")), "energy: expected a finite number in keV"),
        (lambda: attenuation("water", 70, density=-1), "density: expected a finite number above 0"),
    ],
)
def test_impossible_requests_are_refused(ask, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        ask()
