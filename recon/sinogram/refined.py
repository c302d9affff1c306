"""Refinements around a restorer: variances read from its own result, and each ray joined with its reverse."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from recon import checks
from recon.counting import cautious_variance
from recon.errors import ConfigError
from recon.scan import Scan
from recon.sinogram.conjugate import Conjugates
from recon.sinogram.planes import planes
from recon.sinogram.restorers import Restorer
from recon.statistics import FEWEST, mean_quanta, stated_photons

Noise = Callable[[Tensor], Tensor]  # variance of line integrals whose means are given


@dataclass(frozen=True, kw_only=True, eq=False)
class Refinement:
    """What is done around every call of a restorer; as a whole still a map from measured to restored values.

    Args:
        passes: how often the restorer runs; before each but the first, variances are read from its last result.
        noise: by what to multiply the variance for given means of the line integrals, or None with one pass.
        conjugates: the reverse of each ray, whose values are joined before the restorer runs, or None.
    """

    passes: int
    noise: Noise | None
    conjugates: Conjugates | None

    @classmethod
    def of(cls, scan: Scan, *, passes: int = 1, conjugate: bool = False) -> Self:
        """Prepare the refinements of a scan.

        Args:
            scan: noisy line integrals.
            passes: see the class; more than one needs the photons of the calibration.
            conjugate: join each ray with its reverse, on fans of one row and parallel rays over a full turn.

        Raises:
            ConfigError: passes below 1, or several and no photons stated.
            GeometryError: reverse rays of a geometry that has none, or of a moved object, whose reverse rays differ.
        """
        (count,) = checks.counts("passes", (passes,), 1)
        if conjugate and scan.poses is not None:
            raise ConfigError("conjugate: expected an object at rest, got a scan with poses; leave it out")
        return cls(
            passes=count,
            noise=_change(scan) if count > 1 else None,
            conjugates=Conjugates.of(scan.geometry) if conjugate else None,
        )

    def __call__(self, restorer: Restorer, values: Tensor, variance: Tensor, *, periodic: bool) -> Tensor:
        """Restore planes (plane, view, column) as the restorer does, with these refinements."""
        restored = self._once(restorer, values, variance, periodic)
        for _ in range(self.passes - 1):
            assert self.noise is not None
            restored = self._once(restorer, values, variance * self.noise(restored).to(variance), periodic)
        return restored

    def _once(self, restorer: Restorer, values: Tensor, variance: Tensor, periodic: bool) -> Tensor:
        if self.conjugates is not None:
            values, variance = self.conjugates.joined(values, variance)
        return restorer(values, variance, periodic=periodic)

    def around(self, restorer: Restorer) -> "Refined":
        """Return the restorer with these refinements, to be called as it is."""
        return Refined(restorer=restorer, refinement=self)


@dataclass(frozen=True, kw_only=True, eq=False)
class Refined:
    """A restorer with refinements; called as a restorer is."""

    restorer: Restorer
    refinement: Refinement

    def __call__(self, values: Tensor, variance: Tensor, *, periodic: bool) -> Tensor:
        """Restore planes (plane, view, column)."""
        return self.refinement(self.restorer, values, variance, periodic=periodic)


def _change(scan: Scan) -> Noise:
    """Return the ratio of the variances at given means and at those that the scan's own weights came from.

    A ratio leaves a bow-tie alone, which is in the weights and not in the photons of the calibration.
    """
    photons, electronic = stated_photons(scan), scan.calibration.electronic
    first = cautious_variance(mean_quanta(scan.values, photons, electronic).clamp_min(FEWEST), electronic)
    before = planes(first)

    def noise(means: Tensor) -> Tensor:
        quanta = (photons * torch.exp(-means.double())).clamp(FEWEST, max(photons, FEWEST))
        return cautious_variance(quanta, electronic) / before

    return noise
