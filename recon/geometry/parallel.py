"""Parallel beam: synchrotron and neutron tomography, and textbooks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from recon.errors import GeometryError
from recon.geometry.base import Circular, Detector, check_angles, even_angles


@dataclass(frozen=True, kw_only=True, repr=False)
class ParallelBeam(Circular):
    """Parallel rays that turn about the z axis; each detector row sees one plane.

    Args:
        angles: view angles in rad, counter-clockwise seen from +z; at 0 the rays run along +y.
        detector: a flat detector whose middle is on the axis, apart from its offset.

    Raises:
        GeometryError: no angle, angles that look like degrees, or a curved detector.
    """

    angles: tuple[float, ...]
    detector: Detector

    def __post_init__(self) -> None:
        object.__setattr__(self, "angles", check_angles(self.angles))
        if self.detector.curve != "flat":
            raise GeometryError("detector: expected curve='flat' for parallel rays, got 'arc'; use ConeBeam for an arc")

    @classmethod
    def circular(cls, views: int, *, detector: Detector, arc: float = math.pi, start: float = 0.0) -> "ParallelBeam":
        """Spread views evenly over an arc (rad) that leaves out its end point."""
        return cls(angles=even_angles(views, arc, start), detector=detector)

    @property
    def parallel(self) -> bool:
        """Parallel rays share a direction."""
        return True

    def rays(self) -> Tensor:
        """Return ray direction (unit), detector centre, v step and u step: (view, 4, 3)."""
        away, v, u = self._frame()
        (v_pitch, u_pitch), (v_offset, u_offset) = self.detector.pitch, self.detector.offset
        return torch.stack([away, v * v_offset + u * u_offset, v * v_pitch, u * u_pitch], dim=1)

    def __getitem__(self, views: int | slice | Sequence[int] | Tensor) -> "ParallelBeam":
        return super().__getitem__(views)
