"""Detector, and what every scan geometry has in common: rays per view."""

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Self, TypeVar

import torch
from torch import Tensor

from recon import checks
from recon.errors import CTWarning, GeometryError
from recon.grid import VolumeGrid

if TYPE_CHECKING:
    from matplotlib.figure import Figure

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Detector:
    """A detector: rows along v, columns along u.

    Args:
        shape: number of pixels (row, column); one row makes a fan or a single slice.
        pitch: step between pixel centres (v, u) in mm, measured on the detector (along the arc if it is curved).
        offset: shift of the detector's middle (v, u) in mm; a large u offset is a half-fan set-up.
        curve: "flat", or "arc": columns on a circle around the source, rows straight along v.

    Raises:
        GeometryError: a count below 1, a pitch that is not above 0, an unknown curve.
    """

    shape: tuple[int, int]
    pitch: tuple[float, float] = (1.0, 1.0)
    offset: tuple[float, float] = (0.0, 0.0)
    curve: str = "flat"

    def __post_init__(self) -> None:
        set_field = object.__setattr__
        set_field(self, "shape", checks.counts("shape", self.shape, 2, error=GeometryError))
        set_field(self, "pitch", checks.lengths("pitch", self.pitch, 2, error=GeometryError))
        set_field(self, "offset", checks.position("offset", self.offset, 2, error=GeometryError))
        checks.choice("curve", self.curve, ("flat", "arc"), error=GeometryError)
        half = tuple(n * step / 2 for n, step in zip(self.shape, self.pitch, strict=True))
        if abs(self.offset[1]) >= half[1]:
            raise GeometryError(
                f"offset: expected less than half the detector's width ({half[1]:g} mm) along u, got "
                f"{self.offset[1]:g} mm; "
                "the rotation axis must be seen. Give offsets in mm, not in pixels"
            )

    def coordinates(self) -> tuple[Tensor, Tensor]:
        """Return the pixel centres along v and u in mm, offset included (float64)."""
        v, u = (
            shift + (torch.arange(n, dtype=torch.float64) - (n - 1) / 2) * step
            for n, step, shift in zip(self.shape, self.pitch, self.offset, strict=True)
        )
        return v, u


class ScanGeometry(ABC):
    """Where the rays of a scan run: numbers only, so geometries compare, hash, print and store themselves.

    `rays` is all that the projector kernels see.
    """

    detector: Detector

    @property
    @abstractmethod
    def parallel(self) -> bool:
        """Tell whether the rays of a view share a direction instead of a source."""

    @abstractmethod
    def rays(self) -> Tensor:
        """Return, per view, source (or ray direction if `parallel`), detector centre, v step and u step.

        Returns:
            (view, 4, 3) in mm, positions (z, y, x), float64. On an arc detector the detector centre is the middle
            of its columns and the u step is the tangent there.
        """

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of views."""

    @abstractmethod
    def __getitem__(self, views: "int | slice | Sequence[int] | Tensor") -> Self:
        """Return the same scanner with some of its views; a single number keeps one view."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the projections: (view, row, column)."""
        return len(self), *self.detector.shape

    @property
    def arc_detector(self) -> bool:
        """Tell whether the columns lie on a circle around the source."""
        return self.detector.curve == "arc" and not self.parallel

    def check_grid(self, grid: VolumeGrid) -> None:  # noqa: B027 - an answer, not a missing one
        """Refuse a grid that this scanner cannot be asked about; by default none is."""

    def figure(self, grid: VolumeGrid | None = None) -> "Figure":
        """Draw source path, detector and grid (a matplotlib figure)."""
        from recon.geometry.drawing import draw

        return draw(self, grid)


class Circular(ScanGeometry, ABC):
    """A geometry whose views differ by an angle about the z axis."""

    angles: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.angles)

    def __getitem__(self, views: "int | slice | Sequence[int] | Tensor") -> Self:
        return replace(self, angles=select(self.angles, views))  # type: ignore[type-var]

    def _frame(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return, per view, unit vectors (view, 3): towards the detector, along v and along u."""
        theta = torch.tensor(self.angles, dtype=torch.float64)
        zero, one = torch.zeros_like(theta), torch.ones_like(theta)
        away = torch.stack([zero, theta.cos(), -theta.sin()], dim=1)
        v = torch.stack([one, zero, zero], dim=1)
        u = torch.stack([zero, theta.sin(), theta.cos()], dim=1)
        return away, v, u

    def __repr__(self) -> str:
        """Print so that the text evaluates back; evenly spaced angles print as the rule that made them."""
        settings = {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]
        rule = even_rule(settings.pop("angles"))
        head = f".circular({len(self)}, arc={rule[0]!r}, start={rule[1]!r}, " if rule else f"(angles={self.angles!r}, "
        return type(self).__name__ + head + ", ".join(f"{name}={value!r}" for name, value in settings.items()) + ")"


def check_angles(angles: Sequence[float] | Tensor, *, turns: float = 2.0) -> tuple[float, ...]:
    """Return view angles in radians; refuse none, non-finite ones and what looks like degrees.

    More than `turns` full turns are suspicious and warned about; a span above 100 rad is refused.
    """
    items = tuple(angles.tolist()) if isinstance(angles, Tensor) else tuple(float(a) for a in angles)
    if not items:
        raise GeometryError("angles: expected at least one view, got none")
    for item in items:
        checks.finite("angles", item, error=GeometryError, unit="rad")
    span = max(items) - min(items)
    if math.isfinite(turns) and span > 100:
        raise GeometryError(
            f"angles: expected radians, got a span of {span:g}, which looks like degrees; use math.radians"
        )
    if span > turns * 2 * math.pi + 1e-6:
        message = f"angles: {span:g} rad is {span / (2 * math.pi):.1f} turns; if these are degrees, use math.radians"
        warnings.warn(message, CTWarning, stacklevel=4)
    return items


def even_angles(views: int, arc: float, start: float) -> tuple[float, ...]:
    """Spread views evenly over an arc that leaves out its end point."""
    checks.counts("views", (views,), 1, error=GeometryError)
    checks.positive("arc", arc, error=GeometryError, unit="rad")
    return tuple(start + arc * i / views for i in range(views))


def even_rule(angles: tuple[float, ...]) -> tuple[float, float] | None:
    """Find (arc, start) such that `even_angles` gives these very angles, or None."""
    if len(angles) < 2:
        return None
    start, n = angles[0], len(angles)
    guess = (angles[-1] - start) * n / (n - 1)
    for arc in (guess, math.pi, 2 * math.pi, round(guess, 12)):
        if arc >= 1e-9 and even_angles(n, arc, start) == angles:
            return arc, start
    return None


def view_numbers(views: "int | slice | Sequence[int] | Tensor", count: int) -> list[int]:
    """Turn a number, slice, list of numbers or mask into view numbers; refuse an empty pick and what is not there.

    Lists and masks may be sequences, tensors or arrays; negative numbers count from the end.
    """
    if isinstance(views, slice):
        numbers = list(range(count))[views]
    else:
        wanted = views.tolist() if hasattr(views, "tolist") else views
        numbers = _listed(list(wanted) if isinstance(wanted, Sequence) else [wanted], count)
    if not numbers:
        raise GeometryError(f"views: the selection {views!r} leaves no view of {count}")
    return numbers


def _listed(wanted: list[object], count: int) -> list[int]:
    if len(wanted) == count and all(isinstance(i, bool) for i in wanted):
        return [i for i, keep in enumerate(wanted) if keep]
    if not all(isinstance(i, int) and not isinstance(i, bool) and -count <= i < count for i in wanted):
        raise IndexError(f"views: expected numbers within {count} views, or a mask of {count}, got {wanted}")
    return [i % count for i in wanted if isinstance(i, int)]


def select(items: tuple[T, ...], views: "int | slice | Sequence[int] | Tensor") -> tuple[T, ...]:
    """Pick entries per view; refuse an empty pick and numbers out of range."""
    return tuple(items[i] for i in view_numbers(views, len(items)))


def across(vectors: Tensor, axis: Tensor) -> Tensor:
    """Remove from each vector (view, 3) its part along an axis (view, 3)."""
    unit = axis / axis.norm(dim=1, keepdim=True)
    rest: Tensor = vectors - (vectors * unit).sum(1, keepdim=True) * unit
    return rest
