"""Hounsfield units and the attenuation of water.

Inside raymend attenuation is in 1/mm. Hounsfield units appear only at the edges, through `to_hu` and `to_mu`.
"""

import math
from bisect import bisect_left
from typing import Final

from torch import Tensor

from recon.errors import ConfigError

# NIST X-ray mass attenuation tables (Hubbell and Seltzer 1995), liquid water: keV, 1/mm.
_WATER_TABLE: Final = (
    (30.0, 0.03756),
    (40.0, 0.02683),
    (50.0, 0.02269),
    (60.0, 0.02059),
    (80.0, 0.01837),
    (100.0, 0.01707),
    (150.0, 0.01505),
)

#: Attenuation of water in 1/mm used where a scan carries no calibration: that of about 70 keV, the effective energy
#: of a 120 kV beam, as most published low-dose studies set it.
WATER: Final = 0.0192


def water_attenuation(energy: float) -> float:
    """Interpolate the linear attenuation of water (log-log, as cross-sections are tabulated).

    Args:
        energy: photon energy in keV, 30 to 150.

    Returns:
        Attenuation in 1/mm.

    Raises:
        ConfigError: the energy lies outside the table.

    Source:
        Hubbell and Seltzer, NIST X-ray mass attenuation coefficients, liquid water.
    """
    keys = [row[0] for row in _WATER_TABLE]
    if not keys[0] <= energy <= keys[-1]:
        raise ConfigError(f"energy: expected {keys[0]:g} to {keys[-1]:g} keV, got {energy}; give the value in keV")
    upper = max(1, bisect_left(keys, energy))
    (low, mu_low), (high, mu_high) = _WATER_TABLE[upper - 1], _WATER_TABLE[upper]
    share = math.log(energy / low) / math.log(high / low)
    return math.exp((1 - share) * math.log(mu_low) + share * math.log(mu_high))


def to_hu(mu: Tensor, water: float = WATER) -> Tensor:
    """Convert attenuation (1/mm) to Hounsfield units, with the attenuation of water in 1/mm."""
    return (mu - _checked(water)) * (1000.0 / water)


def to_mu(hu: Tensor, water: float = WATER) -> Tensor:
    """Convert Hounsfield units to attenuation (1/mm), with the attenuation of water in 1/mm."""
    return hu * (_checked(water) / 1000.0) + water


def _checked(water: float) -> float:
    if not (math.isfinite(water) and water > 0):
        raise ConfigError(
            f"water: expected a finite attenuation above 0 in 1/mm, got {water}; 0.0192 is water at about 70 keV"
        )
    return water
