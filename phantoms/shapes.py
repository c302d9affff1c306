"""Analytic solids, all convex: where a line enters and leaves them, and which points they hold."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final, Self

import torch
from torch import Tensor

from recon import checks
from recon.errors import ConfigError
from recon.geometry import rotation_matrices

Vector = tuple[float, float, float]
Axes = tuple[Vector, Vector, Vector]

UPRIGHT: Final[Axes] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


@dataclass(frozen=True, kw_only=True)
class HalfSpace:
    """The points p with normal·p <= offset.

    Args:
        normal: unit vector (z, y, x); it is normalised here.
        offset: distance of the plane from the origin along the normal in mm.

    Raises:
        ConfigError: a normal without direction or a number that is not finite.
    """

    normal: Vector
    offset: float

    def __post_init__(self) -> None:
        z, y, x = checks.position("normal", self.normal, 3)
        norm = math.hypot(z, y, x)
        if norm == 0:
            raise ConfigError("normal: expected a vector with a direction, got (0, 0, 0)")
        if abs(norm - 1) > 1e-12:  # left alone if it is one, so that the printed form evaluates back
            object.__setattr__(self, "normal", (z / norm, y / norm, x / norm))
        object.__setattr__(self, "offset", checks.finite("offset", self.offset, unit="mm"))


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What makes a solid of its own frame, where it reaches from -1 to 1 along each axis.

    A curved solid holds the points with round·z² + y² + x² <= (middle + slope·z)²; a capped axis is cut at ±1.
    """

    curved: bool = True
    round: float = 0.0
    middle: float = 1.0
    slope: float = 0.0
    caps: tuple[bool, bool, bool] = (True, False, False)


@dataclass(frozen=True, kw_only=True)
class Shape(ABC):
    """A convex solid of one attenuation.

    Args:
        density: attenuation in 1/mm (or relative to water, if the phantom is scaled later).
        centre: (z, y, x) in mm.
        axes: the solid's own z, y and x directions in the world (z, y, x): three orthogonal unit vectors.
        clips: half-spaces the solid is cut down to.

    Raises:
        ConfigError: axes that are not orthonormal, a size that is not above 0, a number that is not finite.
    """

    density: float
    centre: Vector = (0.0, 0.0, 0.0)
    axes: Axes = UPRIGHT
    clips: tuple[HalfSpace, ...] = ()

    _lengths: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "density", checks.finite("density", self.density, unit="1/mm"))
        object.__setattr__(self, "centre", checks.position("centre", self.centre, 3))
        axes = torch.tensor(self.axes, dtype=torch.float64)
        if tuple(axes.shape) != (3, 3) or not bool(torch.allclose(axes @ axes.T, torch.eye(3).double(), atol=1e-5)):
            raise ConfigError(f"axes: expected three orthogonal unit vectors (z, y, x), got {self.axes}")
        for name in self._lengths:
            object.__setattr__(self, name, _sizes(name, getattr(self, name)))

    @property
    @abstractmethod
    def reach(self) -> Vector:
        """Half the length along the solid's own z, y and x in mm; infinite where it has no end."""

    @property
    @abstractmethod
    def profile(self) -> Profile:
        """The solid in its own frame."""

    @property
    def radius(self) -> float:
        """Radius in mm of a sphere about the centre that holds the solid."""
        return math.hypot(*self.reach)

    @property
    def half_extent(self) -> Vector:
        """Half the sides in mm (z, y, x) of a box about the centre, along the world's axes, that holds the solid."""
        sides = [
            sum(abs(axis[k]) * length for axis, length in zip(self.axes, self.reach, strict=True) if axis[k] != 0)
            for k in range(3)
        ]
        return float(sides[0]), float(sides[1]), float(sides[2])

    def into_frame(self) -> Tensor:
        """Return the matrix (3, 3) that takes vectors of the world into the solid's own frame."""
        return torch.tensor(self.axes, dtype=torch.float64) / torch.tensor(self.reach, dtype=torch.float64)[:, None]

    def contains(self, points: Tensor) -> Tensor:
        """Tell which points (…, zyx) in mm lie inside: a boolean tensor."""
        form = self.profile
        own = (points.to(torch.float64) - torch.tensor(self.centre, dtype=torch.float64)) @ self.into_frame().T
        z, y, x = own.unbind(-1)
        inside = torch.ones_like(z, dtype=torch.bool)
        if form.curved:
            inside &= form.round * z**2 + y**2 + x**2 <= (form.middle + form.slope * z) ** 2
        for axis, capped in enumerate(form.caps):
            if capped:
                inside &= own[..., axis].abs() <= 1
        for clip in self.clips:
            inside &= points.to(torch.float64) @ torch.tensor(clip.normal, dtype=torch.float64) <= clip.offset
        return inside

    def chords(self, origin: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
        """Intersect lines with the solid.

        Args:
            origin: a point of each line (…, zyx) in mm.
            direction: its direction (…, zyx), of any length.

        Returns:
            Parameters t of origin + t·direction where the line enters and leaves; equal where it misses.
        """
        origin, direction = torch.broadcast_tensors(origin.to(torch.float64), direction.to(torch.float64))
        centre, frame = torch.tensor(self.centre, dtype=torch.float64), self.into_frame()
        # Start where the line passes the centre: far sources would cost digits.
        start = ((centre - origin) * direction).sum(-1) / (direction * direction).sum(-1)
        near = origin + start[..., None] * direction - centre
        enter, leave = _own_chords(self.profile, near @ frame.T, direction @ frame.T)
        for clip in self.clips:
            normal = torch.tensor(clip.normal, dtype=torch.float64)
            low, high = _half_line(clip.offset - (near + centre) @ normal, direction @ normal)
            enter, leave = torch.maximum(enter, low), torch.minimum(leave, high)
        missed = ~(leave > enter)
        return (start + enter).masked_fill(missed, 0.0), (start + leave).masked_fill(missed, 0.0)

    def moved(self, shift: Vector = (0.0, 0.0, 0.0), turn: Vector = (0.0, 0.0, 0.0)) -> Self:
        """Return the solid after p -> R p + shift, R from a rotation vector `turn` in rad (z, y, x)."""
        rotation = rotation_matrices(torch.tensor(turn, dtype=torch.float64))
        step = torch.tensor(shift, dtype=torch.float64)
        clips = []
        for clip in self.clips:
            normal = rotation @ torch.tensor(clip.normal, dtype=torch.float64)
            clips.append(HalfSpace(normal=_vector(normal), offset=clip.offset + float(normal @ step)))
        axes = torch.tensor(self.axes, dtype=torch.float64) @ rotation.T
        return replace(
            self,
            centre=_vector(rotation @ torch.tensor(self.centre, dtype=torch.float64) + step),
            axes=(_vector(axes[0]), _vector(axes[1]), _vector(axes[2])),
            clips=tuple(clips),
        )

    def scaled(self, factor: float) -> Self:
        """Return the solid with every length multiplied by a factor, as seen from the origin."""
        ratio = checks.positive("factor", factor, unit="")
        z, y, x = self.centre
        lengths: dict[str, Any] = {name: _times(getattr(self, name), ratio) for name in self._lengths}
        clips = tuple(replace(clip, offset=clip.offset * ratio) for clip in self.clips)
        return replace(self, centre=(z * ratio, y * ratio, x * ratio), clips=clips, **lengths)


@dataclass(frozen=True, kw_only=True)
class Ellipsoid(Shape):
    """An ellipsoid; `semi` are its half axes (own z, y, x) in mm."""

    semi: Vector
    _lengths: ClassVar[tuple[str, ...]] = ("semi",)

    @property
    def reach(self) -> Vector:
        """The half axes."""
        return self.semi

    @property
    def profile(self) -> Profile:
        """A ball in its own frame."""
        return Profile(round=1.0, caps=(False, False, False))

    @property
    def radius(self) -> float:
        """The longest half axis."""
        return max(self.semi)


@dataclass(frozen=True, kw_only=True)
class Cylinder(Shape):
    """An elliptic cylinder along its own z; `semi` are the half axes (own y, x), `length` may be infinite; mm."""

    semi: tuple[float, float]
    length: float = math.inf
    _lengths: ClassVar[tuple[str, ...]] = ("semi", "length")

    @property
    def reach(self) -> Vector:
        """Half the length and the half axes."""
        return self.length / 2, *self.semi

    @property
    def profile(self) -> Profile:
        """A round rod with two ends."""
        return Profile()

    @property
    def radius(self) -> float:
        """From the centre to the rim."""
        return math.hypot(self.length / 2, max(self.semi))


@dataclass(frozen=True, kw_only=True)
class Box(Shape):
    """A box; `size` are its sides (own z, y, x) in mm, any of which may be infinite."""

    size: Vector
    _lengths: ClassVar[tuple[str, ...]] = ("size",)

    @property
    def reach(self) -> Vector:
        """Half the sides."""
        z, y, x = self.size
        return z / 2, y / 2, x / 2

    @property
    def profile(self) -> Profile:
        """A cube."""
        return Profile(curved=False, caps=(True, True, True))


@dataclass(frozen=True, kw_only=True)
class Cone(Shape):
    """A truncated elliptic cone along its own z, with its centre at half height.

    Args:
        semi: half axes (own y, x) of the lower end in mm.
        tip: size of the upper end as a share of the lower one; 0 is a point.
        length: height in mm.
    """

    semi: tuple[float, float]
    length: float
    tip: float = 0.0
    _lengths: ClassVar[tuple[str, ...]] = ("semi", "length")

    def __post_init__(self) -> None:
        super().__post_init__()
        if checks.finite("tip", self.tip) < 0 or math.isinf(self.length):
            raise ConfigError(f"tip, length: expected 0 or more and a finite length, got {self.tip}, {self.length}")

    @property
    def reach(self) -> Vector:
        """Half the length and the half axes of the lower end."""
        return self.length / 2, *self.semi

    @property
    def profile(self) -> Profile:
        """Half axes 1 at the lower end and `tip` at the upper."""
        return Profile(middle=(1 + self.tip) / 2, slope=(self.tip - 1) / 2)

    @property
    def radius(self) -> float:
        """From the centre to the wider rim."""
        return math.hypot(self.length / 2, max(self.semi) * max(1.0, self.tip))

    @property
    def half_extent(self) -> Vector:
        """Half the sides of a box that holds the wider end."""
        z, y, x = super().half_extent
        wide = max(1.0, self.tip)
        return z * wide, y * wide, x * wide


def _sizes(name: str, value: float | tuple[float, ...]) -> float | tuple[float, ...]:
    """Check one length or several: above 0, infinity allowed."""
    items = tuple(value) if isinstance(value, tuple | list) else (value,)
    for item in items:
        if item != math.inf:
            checks.positive(name, item)
    return tuple(float(item) for item in items) if isinstance(value, tuple | list) else float(items[0])


def _times(value: float | tuple[float, ...], ratio: float) -> float | tuple[float, ...]:
    return tuple(item * ratio for item in value) if isinstance(value, tuple) else value * ratio


def _vector(values: Tensor) -> Vector:
    z, y, x = values.tolist()
    return z, y, x


def _own_chords(form: Profile, near: Tensor, way: Tensor) -> tuple[Tensor, Tensor]:
    """Intersect lines with a solid in the solid's own frame; missed where not enter < leave."""
    enter, leave = torch.full_like(near[..., 0], -math.inf), torch.full_like(near[..., 0], math.inf)
    if form.curved:
        enter, leave = _curved(form, near, way)
    for axis, capped in enumerate(form.caps):
        if capped:
            for side in (1.0, -1.0):
                low, high = _half_line(1 - side * near[..., axis], side * way[..., axis])
                enter, leave = torch.maximum(enter, low), torch.minimum(leave, high)
    return enter, leave


def _half_line(room: Tensor, rate: Tensor) -> tuple[Tensor, Tensor]:
    """Solve rate·t <= room for t: a half-line, all, or nothing."""
    at = room / rate
    low = torch.where(rate < 0, at, -math.inf)
    high = torch.where(rate > 0, at, math.inf)
    nothing = (rate == 0) & (room < 0)
    return low.masked_fill(nothing, math.inf), high.masked_fill(nothing, -math.inf)


def _curved(form: Profile, near: Tensor, way: Tensor) -> tuple[Tensor, Tensor]:
    """Solve a·t² + 2b·t + c <= 0 on the sheet of the quadric where middle + slope·z is positive."""
    (pz, py, px), (dz, dy, dx) = near.unbind(-1), way.unbind(-1)
    width, rate = form.middle + form.slope * pz, form.slope * dz
    a = form.round * dz**2 + dy**2 + dx**2 - rate**2
    b = form.round * pz * dz + py * dy + px * dx - width * rate
    c = form.round * pz**2 + py**2 + px**2 - width**2
    square = b * b - a * c
    big = -(b + torch.copysign(square.clamp_min(0).sqrt(), b))  # the root without cancellation
    one, two = big / a, torch.where(big == 0, torch.zeros_like(b), c / big)
    low, high = torch.minimum(one, two), torch.maximum(one, two)
    infinite = torch.full_like(a, math.inf)
    straight, opening = a == 0, a < 0
    enter = torch.where(opening, torch.where(rate > 0, high, -infinite), low)
    leave = torch.where(opening, torch.where(rate > 0, infinite, low), high)
    inside_low, inside_high = _half_line(-c, 2 * b)
    enter, leave = torch.where(straight, inside_low, enter), torch.where(straight, inside_high, leave)
    missed = (a > 0) & (square <= 0)
    return enter.masked_fill(missed, math.inf), leave.masked_fill(missed, -math.inf)
