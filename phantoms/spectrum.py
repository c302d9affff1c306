"""X-ray spectra: what a beam of many energies measures behind soft tissue and bone, and the correction for water."""

import math
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from phantoms.materials import ENERGY, attenuation
from phantoms.phantom import Phantom
from phantoms.voxels import Scannable, VolumeObject
from recon import checks
from recon.errors import ConfigError

_STEP = 2.0  # keV between the energies of a tungsten beam
_LOWEST = 20.0  # keV: the filters of a CT tube let hardly anything through below, and the tables of materials end
_LONGEST = 50.0  # line integral up to which the correction is tabulated: more cannot be measured
_KNOTS = 5001


@dataclass(frozen=True, kw_only=True)
class Spectrum:
    """Shares of the detector's signal without an object, by photon energy.

    Objects state their attenuation at a reference energy. It is taken to come from water up to water's, and above it
    from water in which bone replaces some, as `hu_to_attenuation` does: tissues harden the beam like water, bone more.

    Args:
        energies: in keV, growing, within the tables of water and bone.
        weights: share of the signal, or anything proportional to it: photons times what the detector makes of one.
        reference: energy in keV at which objects state their attenuation.

    Raises:
        ConfigError: energies outside the tables or not growing, negative weights, or different numbers of both.
    """

    energies: tuple[float, ...]
    weights: tuple[float, ...]
    reference: float = ENERGY

    def __post_init__(self) -> None:
        energies = tuple(checks.finite("energies", energy, unit="keV") for energy in self.energies)
        weights = tuple(checks.finite("weights", weight) for weight in self.weights)
        if not energies or len(energies) != len(weights):
            raise ConfigError(f"weights: expected one per energy, got {len(weights)} for {len(energies)} energies")
        if any(later <= earlier for earlier, later in pairwise(energies)):
            raise ConfigError(f"energies: expected growing ones in keV, got {energies}")
        if min(weights) < 0 or sum(weights) <= 0:
            raise ConfigError(f"weights: expected shares of 0 or more, not all 0, got {weights}")
        for energy in (*energies, self.reference):
            attenuation("water", energy)  # refuses what its table lacks
        object.__setattr__(self, "energies", energies)
        object.__setattr__(self, "weights", tuple(weight / sum(weights) for weight in weights))

    @classmethod
    def tungsten(cls, kilovolt: float = 120.0, *, aluminium: float = 6.0, integrating: bool = True) -> "Spectrum":
        """Make the spectrum of a filtered tungsten tube: bremsstrahlung, no characteristic lines.

        Args:
            kilovolt: tube voltage, 40 to 150 kV.
            aluminium: filter in mm; 6 to 10 for the fixed filters of CT.
            integrating: the detector weighs photons by their energy, as scintillators do, instead of counting them.

        Raises:
            ConfigError: a voltage out of range, or a negative filter.

        Source:
            Kramers 1923, Philosophical Magazine 46: 836-871: photons per energy fall as (E0/E - 1).
        """
        if not 40 <= checks.finite("kilovolt", kilovolt, unit="kV") <= 150:
            raise ConfigError(f"kilovolt: expected 40 to 150 kV, got {kilovolt}")
        if checks.finite("aluminium", aluminium, unit="mm") < 0:
            raise ConfigError(f"aluminium: expected a filter of 0 mm or more, got {aluminium}")
        energies = np.arange(_LOWEST, kilovolt, _STEP).tolist()
        weights = [
            (kilovolt / energy - 1)
            * math.exp(-aluminium * attenuation("aluminium", energy))
            * (energy if integrating else 1)
            for energy in energies
        ]
        return cls(energies=tuple(energies), weights=tuple(weights))

    @property
    def mean_energy(self) -> float:
        """Mean energy of the signal without an object in keV."""
        return sum(energy * weight for energy, weight in zip(self.energies, self.weights, strict=True))

    def measured(self, line_integrals: Tensor, bone: Tensor | None = None) -> Tensor:
        """Return the line integrals that the beam measures, its hardening left in.

        Args:
            line_integrals: of water and what counts as water, at the reference energy.
            bone: what bone adds to water's on the same ray at the reference energy; see `split`. None for no bone.

        Returns:
            -ln of the share of the signal that is left, float64.

        Source:
            Brooks and Di Chiro 1976, Physics in Medicine and Biology 21(3): 390-398.
        """
        p = line_integrals.double()
        left = torch.full_like(p, -math.inf)
        for energy, weight in zip(self.energies, self.weights, strict=True):
            if weight:
                path = p * self._water(energy) + (0 if bone is None else bone.double() * self._bone(energy))
                left = torch.logaddexp(left, math.log(weight) - path)
        return -left

    def corrected(self, values: Tensor) -> Tensor:
        """Turn measured line integrals into those at the reference energy, as if only water were there.

        Args:
            values: measured line integrals; noise may make them negative.

        Returns:
            Line integrals at the reference energy, float64: exact behind water; bone, which hardens the beam more,
            counts for less the more there is of both.

        Source:
            Herman 1979, Physics in Medicine and Biology 24(1): 81-106: linearisation for water.
        """
        knots = torch.linspace(0, _LONGEST, _KNOTS, dtype=torch.float64)
        table = self.measured(knots)
        found = torch.from_numpy(np.interp(values.double().cpu().numpy(), table.numpy(), knots.numpy()))
        thin = values.double().cpu() / float(self.slope(knots[:1]))
        return torch.where(found > 0, found, thin.clamp_max(0)).to(values.device)

    def slope(self, line_integrals: Tensor) -> Tensor:
        """Return by how much measured line integrals grow with those of water at the reference energy."""
        p = line_integrals.double()
        share = torch.exp(-self.measured(p))
        growth = torch.zeros_like(p)
        for energy, weight in zip(self.energies, self.weights, strict=True):
            growth += weight * self._water(energy) * torch.exp(-p * self._water(energy))
        return growth / share

    def _water(self, energy: float) -> float:
        """Return the attenuation of water relative to that at the reference energy."""
        return attenuation("water", energy) / attenuation("water", self.reference)

    def _bone(self, energy: float) -> float:
        """Return what bone adds to water's attenuation, relative to what it adds at the reference energy."""
        return _added(energy) / _added(self.reference)


def split(thing: Scannable) -> Scannable:
    """Return an object without its bone: attenuation above that of water is cut off.

    Args:
        thing: a phantom whose solids hide each other, or a volume.

    Raises:
        ConfigError: something else, such as a phantom whose solids add up.
    """
    if isinstance(thing, VolumeObject):
        return replace(thing, values=thing.values.clamp_max(thing.water))
    if isinstance(thing, Phantom) and thing.nested:
        shapes = tuple(replace(shape, density=min(shape.density, thing.water)) for shape in thing.shapes)
        return replace(thing, shapes=shapes)
    raise ConfigError(
        f'spectrum: expected a Phantom with rule="nested" or a VolumeObject, whose bone can be told from water, got '
        f"{thing!r}; rasterise it into a VolumeObject"
    )


def _added(energy: float) -> float:
    return attenuation("cortical bone", energy) - attenuation("water", energy)
