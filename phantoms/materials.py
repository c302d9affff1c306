"""Materials: attenuation of tissues by photon energy, and Hounsfield units at a stated energy."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.interpolate import CubicSpline
from torch import Tensor

from recon import checks
from recon.errors import ConfigError

_KEV: Final = (20.0, 30.0, 40.0, 50.0, 60.0, 80.0, 100.0, 150.0)

ENERGY: Final = 70.0  # keV: the effective energy of a 120 kV beam


@dataclass(frozen=True, kw_only=True)
class Material:
    """A substance.

    Args:
        density: in g/cm³.
        mass_attenuation: pairs of energy in keV and mass attenuation in cm²/g, energies growing, no edge between.
    """

    density: float
    mass_attenuation: tuple[tuple[float, float], ...]

    @property
    def energies(self) -> tuple[float, float]:
        """Lowest and highest energy in keV."""
        return self.mass_attenuation[0][0], self.mass_attenuation[-1][0]


def _table(density: float, *values: float) -> Material:
    return Material(density=density, mass_attenuation=tuple(zip(_KEV, values, strict=True)))


#: Materials by name. Mass attenuation: Hubbell and Seltzer 2004, NISTIR 5632, tables 3 and 4; densities: ICRU report
#: 44 (1989), that of lung at half breath, that of iodine as a solid.
MATERIALS: Final[dict[str, Material]] = {
    "air": _table(0.001205, 0.7779, 0.3538, 0.2485, 0.2080, 0.1875, 0.1662, 0.1541, 0.1356),
    "water": _table(1.0, 0.8096, 0.3756, 0.2683, 0.2269, 0.2059, 0.1837, 0.1707, 0.1505),
    "soft tissue": _table(1.0, 0.7616, 0.3604, 0.2609, 0.2223, 0.2025, 0.1813, 0.1688, 0.1490),
    "muscle": _table(1.05, 0.8205, 0.3783, 0.2685, 0.2262, 0.2048, 0.1823, 0.1693, 0.1492),
    "lung": _table(0.26, 0.8316, 0.3815, 0.2699, 0.2270, 0.2053, 0.1826, 0.1695, 0.1493),
    "fat": _table(0.95, 0.5677, 0.3063, 0.2396, 0.2123, 0.1974, 0.1800, 0.1688, 0.1500),
    "cortical bone": _table(1.92, 4.001, 1.331, 0.6655, 0.4242, 0.3148, 0.2229, 0.1855, 0.1480),
    "aluminium": _table(2.699, 3.441, 1.128, 0.5685, 0.3681, 0.2778, 0.2018, 0.1704, 0.1378),
    "iodine": Material(
        density=4.93,
        mass_attenuation=(  # from above its K edge on
            (33.1694, 35.82),
            (40.0, 22.10),
            (50.0, 12.32),
            (60.0, 7.579),
            (80.0, 3.510),
            (100.0, 1.942),
            (150.0, 0.6978),
        ),
    ),
}


def attenuation(material: str, energy: float = ENERGY, *, density: float | None = None) -> float:
    """Return the linear attenuation of a material, by a cubic spline of the table in log-log.

    Args:
        material: one of `MATERIALS`.
        energy: photon energy in keV.
        density: in g/cm³; None for that of the table.

    Returns:
        Attenuation in 1/mm.

    Raises:
        ConfigError: an unknown material, or an energy outside its table.

    Source:
        Hubbell and Seltzer 2004, NISTIR 5632; log-log interpolation as its section 2 says.
    """
    found = MATERIALS[checks.choice("material", material, tuple(MATERIALS))]
    rho = found.density if density is None else checks.positive("density", density, unit="g/cm³")
    low, high = found.energies
    if not low <= checks.finite("energy", energy, unit="keV") <= high:
        raise ConfigError(f"energy: expected {low:g} to {high:g} keV for {material}, got {energy}; give it in keV")
    table = np.log(np.array(found.mass_attenuation))
    mass = float(np.exp(CubicSpline(table[:, 0], table[:, 1])(np.log(energy))))
    return 0.1 * rho * mass


def hu_to_attenuation(hu: Tensor, energy: float = ENERGY, *, measured_at: float = ENERGY) -> Tensor:
    """Turn Hounsfield units into attenuation at an energy, by mixtures of air, water and cortical bone.

    Up to 0 HU a voxel is taken as thinned water, above it as water with bone: two straight lines that meet at water.
    At the energy of the measurement they are one line, the definition of the Hounsfield unit.

    Args:
        hu: an image in HU.
        energy: that of the result in keV.
        measured_at: effective energy in keV of the scan that the image came from; about 70 at 120 kV.

    Returns:
        Attenuation in 1/mm; below -1000 HU it is negative.

    Source:
        Burger et al. 2002, European Journal of Nuclear Medicine 29: 922-927, bilinear scaling.
    """
    water, bone = attenuation("water", energy), _bone_hu(measured_at)
    steep = (attenuation("cortical bone", energy) - water) / bone
    return water + hu.clamp_min(0) * steep + hu.clamp_max(0) * (water / 1000)


def attenuation_to_hu(mu: Tensor, energy: float = ENERGY, *, measured_at: float = ENERGY) -> Tensor:
    """Turn attenuation in 1/mm at an energy into Hounsfield units; the inverse of `hu_to_attenuation`."""
    water, bone = attenuation("water", energy), _bone_hu(measured_at)
    above = mu - water
    flat = bone / (attenuation("cortical bone", energy) - water)
    return above.clamp_min(0) * flat + above.clamp_max(0) * (1000 / water)


def _bone_hu(energy: float) -> float:
    """Return what cortical bone measures in HU."""
    return 1000 * (attenuation("cortical bone", energy) / attenuation("water", energy) - 1)
