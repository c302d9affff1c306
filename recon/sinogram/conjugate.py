"""Rays that a full turn measures twice, once from either end."""

import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from recon.errors import GeometryError
from recon.geometry import ConeBeam, ParallelBeam, ScanGeometry
from recon.sinogram.planes import periodic


@dataclass(frozen=True, kw_only=True, eq=False)
class Conjugates:
    """Where to find the reverse of each ray of a full turn: between which views and columns.

    Args:
        views: the four views around it (tap, view, column).
        shares: what each of them counts, as long.
        columns: the two columns around it (tap, column).
        parts: what each of them counts, as long; 0 where the reverse falls beyond the detector.

    Source:
        Kak and Slaney 1988, Principles of Computerized Tomographic Imaging, section 3.5: a fan's ray at view b and fan
        angle g is that at b + pi ± 2 g and -g; Keys 1981, IEEE TASSP 29(6): 1153-1160, for the cubic.
    """

    views: Tensor
    shares: Tensor
    columns: Tensor
    parts: Tensor

    @classmethod
    def of(cls, geometry: ScanGeometry) -> Self:
        """Find the reverse rays of a fan of one row, or of parallel rays.

        Raises:
            GeometryError: less or more than one full turn in order, or cones of several rows, whose rays have none.
        """
        if not isinstance(geometry, ConeBeam | ParallelBeam) or not periodic(geometry):
            raise GeometryError("conjugate: expected parallel rays or a fan over one full turn; leave it out")
        if isinstance(geometry, ConeBeam) and geometry.detector.shape[0] > 1:
            raise GeometryError(
                f"conjugate: expected one detector row, got {geometry.detector.shape[0]}, whose rays are measured once"
            )
        fan, place = _fan(geometry)
        columns, parts = _between(place, geometry.detector.shape[1])
        angles = torch.tensor(geometry.angles, dtype=torch.float64)
        views, shares = _around(angles, angles[:, None] + math.pi - 2 * fan)
        return cls(views=views, shares=shares, columns=columns, parts=parts)

    def joined(self, values: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        """Return each value's mean with its reverse, weighted by variance, and the variance of that.

        Args:
            values: planes of line integrals (plane, view, column).
            variance: their variance, infinite where nothing was measured.
        """
        measured = variance.isfinite()
        noise = torch.where(measured, variance, 0.0)
        other, spread, seen = values.new_zeros(values.shape), noise.new_zeros(noise.shape), ~measured & False
        for columns, parts in zip(self.columns, self.parts, strict=True):
            for views, shares in zip(self.views, self.shares, strict=True):
                factor = (shares * parts).to(values)
                other += factor * values[:, views, columns]
                spread += factor**2 * noise[:, views, columns]
                seen |= (factor != 0) & ~measured[:, views, columns]
        whole = (self.parts.sum(0) > 0).expand_as(values)
        second = torch.where(whole & ~seen & (spread > 0), 1 / spread, 0.0)
        weight = 1 / variance + second
        mean = torch.where(weight > 0, (values / variance + second * other) / weight, values)
        return mean, 1 / weight


def _fan(geometry: ConeBeam | ParallelBeam) -> tuple[Tensor, Tensor]:
    """Return the fan angle of each column, and the fractional column of the opposite one."""
    _, u = geometry.detector.coordinates()
    u = u.double()
    step = geometry.detector.pitch[1]
    return torch.zeros_like(u) if isinstance(geometry, ParallelBeam) else _angles(geometry, u), (-u - u[0]) / step


def _angles(geometry: ConeBeam, u: Tensor) -> Tensor:
    far = geometry.source_to_detector
    return u / far if geometry.detector.curve == "arc" else torch.atan(u / far)


def _between(place: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the columns around fractional ones, and their shares."""
    low = place.round() if bool(((place - place.round()).abs() < 1e-6).all()) else place.floor()
    part = place - low
    inside = (place > -1e-6) & (place < count - 1 + 1e-6)
    columns = torch.stack([low, low + 1]).clamp(0, count - 1).long()
    return columns, torch.stack([1 - part, part]) * inside


def _around(angles: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Return the four views around angles, round the turn, and the shares of cubic interpolation."""
    count = len(angles)
    turn = 2 * math.pi if angles[-1] > angles[0] else -2 * math.pi
    forward = (wanted - angles[0]) / turn % 1
    knots = torch.cat([(angles - angles[0]) / turn, torch.ones(1, dtype=torch.float64)])
    first = (torch.searchsorted(knots, forward.contiguous(), right=True) - 1).clamp(0, count - 1)
    t = (forward - knots[first]) / (knots[first + 1] - knots[first])
    shares = (
        ((-0.5 * t + 1) * t - 0.5) * t,
        (1.5 * t - 2.5) * t**2 + 1,
        ((-1.5 * t + 2) * t + 0.5) * t,
        (0.5 * t - 0.5) * t**2,
    )
    return torch.stack([(first + k) % count for k in (-1, 0, 1, 2)]), torch.stack(shares)
