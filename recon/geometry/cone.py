"""Cone beam on a circle or helix, with a flat or curved detector; one row makes a fan."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from recon import checks
from recon.errors import GeometryError
from recon.geometry.base import Circular, Detector, check_angles, even_angles
from recon.grid import VolumeGrid


@dataclass(frozen=True, kw_only=True, repr=False)
class ConeBeam(Circular):
    """A point source and a detector that turn together about the z axis.

    Args:
        angles: view angles in rad, counter-clockwise seen from +z; at 0 the source is at -y.
        detector: flat, or an arc around the source; its middle faces the source apart from its offset.
        source_to_axis: distance in mm.
        source_to_detector: distance in mm, at least `source_to_axis`.
        pitch: advance of source and detector along +z per turn in mm; 0 is a circle.
        middle: the view angle in rad at which a helix passes z = 0.

    Raises:
        GeometryError: a distance that is not above 0, a detector on the source's side of the axis, no angle, or
            angles that look like degrees.
    """

    angles: tuple[float, ...]
    detector: Detector
    source_to_axis: float
    source_to_detector: float
    pitch: float = 0.0
    middle: float = 0.0

    def __post_init__(self) -> None:
        set_field = object.__setattr__
        for name in ("source_to_axis", "source_to_detector"):
            set_field(self, name, checks.positive(name, getattr(self, name), error=GeometryError))
        for name in ("pitch", "middle"):
            set_field(self, name, checks.finite(name, getattr(self, name), error=GeometryError))
        set_field(self, "angles", check_angles(self.angles, turns=math.inf if self.pitch else 2.0))
        self._check_detector()

    @classmethod
    def circular(
        cls,
        views: int,
        *,
        detector: Detector,
        source_to_axis: float,
        source_to_detector: float,
        arc: float = 2 * math.pi,
        start: float = 0.0,
        pitch: float = 0.0,
        middle: float = 0.0,
    ) -> "ConeBeam":
        """Spread views evenly over an arc (rad) that leaves out its end point."""
        return cls(
            angles=even_angles(views, arc, start),
            detector=detector,
            source_to_axis=source_to_axis,
            source_to_detector=source_to_detector,
            pitch=pitch,
            middle=middle,
        )

    @classmethod
    def helical(
        cls,
        views: int,
        *,
        detector: Detector,
        source_to_axis: float,
        source_to_detector: float,
        pitch: float,
        turns: float,
        start: float = 0.0,
    ) -> "ConeBeam":
        """Spread views evenly over a helix of `turns` turns, `pitch` mm each, whose middle is at z = 0."""
        arc = 2 * math.pi * checks.positive("turns", turns, error=GeometryError, unit="turns")
        return cls.circular(
            views,
            detector=detector,
            source_to_axis=source_to_axis,
            source_to_detector=source_to_detector,
            arc=arc,
            start=start,
            pitch=pitch,
            middle=start + arc / 2,
        )

    @property
    def parallel(self) -> bool:
        """Rays share a source, not a direction."""
        return False

    @property
    def magnification(self) -> float:
        """How many times larger the axis appears on the detector."""
        return self.source_to_detector / self.source_to_axis

    def heights(self) -> Tensor:
        """Return the source's z per view in mm."""
        theta = torch.tensor(self.angles, dtype=torch.float64)
        return (theta - self.middle) * (self.pitch / (2 * math.pi))

    def fan_angles(self) -> Tensor:
        """Return, per column, the angle in rad between its ray and the one through the axis (float64)."""
        _, u = self.detector.coordinates()
        ratio = u / self.source_to_detector
        return ratio if self.arc_detector else ratio.atan()

    def rays(self) -> Tensor:
        """Return source, detector centre, v step and u step: (view, 4, 3)."""
        away, v, u = self._frame()
        (v_pitch, u_pitch), (v_offset, u_offset) = self.detector.pitch, self.detector.offset
        source = v * self.heights()[:, None] - away * self.source_to_axis
        if self.arc_detector:  # turn the frame to the middle of the columns, where the tangent is the u step
            gamma = u_offset / self.source_to_detector
            away, u = (
                away * math.cos(gamma) + u * math.sin(gamma),
                u * math.cos(gamma) - away * math.sin(gamma),
            )
            u_offset = 0.0
        centre = source + away * self.source_to_detector + v * v_offset + u * u_offset
        return torch.stack([source, centre, v * v_pitch, u * u_pitch], dim=1)

    def check_grid(self, grid: VolumeGrid) -> None:
        """Refuse a grid that reaches the orbit of the source."""
        reach = math.hypot(*(abs(c) + length / 2 for c, length in zip(grid.centre[1:], grid.extent[1:], strict=True)))
        if reach >= self.source_to_axis:
            raise GeometryError(
                f"grid: expected corners nearer to the axis than the source ({self.source_to_axis:g} mm), got "
                f"{reach:g} mm; lower shape or spacing (mm)"
            )

    def _check_detector(self) -> None:
        if self.source_to_detector < self.source_to_axis:
            raise GeometryError(
                f"source_to_detector: expected at least source_to_axis = {self.source_to_axis:g} mm, got "
                f"{self.source_to_detector:g} mm, a detector between source and axis; are the two distances swapped?"
            )
        v, u = (float(c.abs().max()) for c in self.detector.coordinates())
        if self.arc_detector and u / self.source_to_detector >= math.pi / 2:
            raise GeometryError(
                "detector: expected columns within 90 degrees of the central ray, got "
                f"{math.degrees(u / self.source_to_detector):.0f}; check that pitch and distances are both in mm"
            )
        if math.hypot(u * (not self.arc_detector), v) > 100 * self.source_to_detector:
            raise GeometryError(
                f"detector: rays leave at more than 89 degrees ({u:g} mm x {v:g} mm at {self.source_to_detector:g} mm)"
                "; check that pitch and distances are both in mm"
            )
