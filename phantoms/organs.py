"""Organs: soft-edged bodies in tissues with texture, painted one over the other on planes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, Protocol

import numpy as np

from phantoms.texture import Noise, Plane

Point = tuple[float, float, float]
Limits = tuple[Point, Point]

EVERYWHERE: Final[Limits] = ((-math.inf,) * 3, (math.inf,) * 3)


class Solid(Protocol):
    """What has an inside: `depth` is the distance in mm to its surface, positive inside, roughly so far from it."""

    @property
    def limits(self) -> Limits:
        """Lowest and highest corner (z, y, x) in mm of a box that holds it."""

    def depth(self, z: Plane, y: Plane, x: Plane) -> Plane:
        """Return the depth of points in mm below the surface, negative outside."""


@dataclass(frozen=True, kw_only=True)
class Blob:
    """A superellipsoid: |x/a|ⁿ + |y/b|ⁿ + |z/c|ⁿ <= 1.

    Args:
        centre: (z, y, x) in mm.
        semi: half axes (own z, y, x) in mm; an infinite first one makes a cylinder.
        turn: rotation about z in rad, counter-clockwise seen from +z.
        power: n; 2 is an ellipsoid, more is boxier.
    """

    centre: Point
    semi: Point
    turn: float = 0.0
    power: float = 2.0

    @property
    def limits(self) -> Limits:
        """A box with room for any turn."""
        wide = max(self.semi[1:]) if self.turn else 0.0
        room = (self.semi[0], max(self.semi[1], wide), max(self.semi[2], wide))
        low, high = zip(*((c - r, c + r) for c, r in zip(self.centre, room, strict=True)), strict=True)
        return low, high

    def depth(self, z: Plane, y: Plane, x: Plane) -> Plane:
        """Measure along the line to the centre."""
        z, y, x = z - self.centre[0], y - self.centre[1], x - self.centre[2]
        if self.turn:
            cos, sin = math.cos(self.turn), math.sin(self.turn)
            y, x = cos * y - sin * x, cos * x + sin * y
        flat = math.isinf(self.semi[0])
        sides = (y, x) if flat else (z, y, x)
        semi = self.semi[1:] if flat else self.semi
        if self.power == 2:
            rho = np.sqrt(sum((p / s) ** 2 for p, s in zip(sides, semi, strict=True)))
        else:
            rho = sum(np.abs(p / s) ** self.power for p, s in zip(sides, semi, strict=True)) ** (1 / self.power)
        away = np.sqrt(sum(p * p for p in sides))
        shortest = min(semi)
        result: Plane = np.where(rho > 1e-3, away * (1 / np.maximum(rho, 1e-3) - 1), shortest)
        return result


@dataclass(frozen=True, kw_only=True)
class Tube:
    """A chain of round, tapering rods.

    Args:
        points: (z, y, x) in mm, two or more.
        radii: in mm, one per point.
        tall: height along z over width; 1 is round.
    """

    points: tuple[Point, ...]
    radii: tuple[float, ...]
    tall: float = 1.0

    @cached_property
    def limits(self) -> Limits:
        """The box of the points, and their radii around it."""
        places, room = np.array(self.points), np.outer(self.radii, (self.tall, 1, 1))
        low, high = (places - room).min(0).tolist(), (places + room).max(0).tolist()
        return (low[0], low[1], low[2]), (high[0], high[1], high[2])

    def depth(self, z: Plane, y: Plane, x: Plane) -> Plane:
        """Take the deepest of the rods that a plane can meet."""
        deepest: Plane = np.full(np.broadcast_shapes(z.shape, y.shape, x.shape), -1e3, dtype=np.float32)
        low, high = float(z.min()), float(z.max())
        for start, end, r0, r1 in zip(self.points, self.points[1:], self.radii, self.radii[1:], strict=False):
            room = max(r0, r1) * self.tall + 3
            if min(start[0], end[0]) - room <= high and max(start[0], end[0]) + room >= low:
                np.maximum(deepest, self._rod(start, end, r0, r1, z, y, x), out=deepest)
        return deepest

    def _rod(self, start: Point, end: Point, r0: float, r1: float, z: Plane, y: Plane, x: Plane) -> Plane:
        dz, dy, dx = ((b - a) / s for a, b, s in zip(start, end, (self.tall, 1.0, 1.0), strict=True))
        pz, py, px = (z - start[0]) / self.tall, y - start[1], x - start[2]
        length = dz * dz + dy * dy + dx * dx
        t = np.clip((pz * dz + py * dy + px * dx) / max(length, 1e-9), 0, 1)
        away = np.sqrt((pz - t * dz) ** 2 + (py - t * dy) ** 2 + (px - t * dx) ** 2)
        depth: Plane = r0 + t * (r1 - r0) - away
        return depth


@dataclass(frozen=True, kw_only=True)
class Common:
    """What several solids have in common: the shallowest depth counts."""

    solids: tuple[Solid, ...]

    @property
    def limits(self) -> Limits:
        """The common part of their boxes."""
        lows, highs = zip(*(solid.limits for solid in self.solids), strict=True)
        low, high = np.max(lows, axis=0).tolist(), np.min(highs, axis=0).tolist()
        return (low[0], low[1], low[2]), (high[0], high[1], high[2])

    def depth(self, z: Plane, y: Plane, x: Plane) -> Plane:
        """Take the least."""
        least: Plane = np.minimum.reduce([solid.depth(z, y, x) for solid in self.solids])
        return least


@dataclass(frozen=True, kw_only=True)
class Either:
    """What any of several solids holds: the greatest depth counts."""

    solids: tuple[Solid, ...]

    @property
    def limits(self) -> Limits:
        """A box around their boxes."""
        lows, highs = zip(*(solid.limits for solid in self.solids), strict=True)
        low, high = np.min(lows, axis=0).tolist(), np.max(highs, axis=0).tolist()
        return (low[0], low[1], low[2]), (high[0], high[1], high[2])

    def depth(self, z: Plane, y: Plane, x: Plane) -> Plane:
        """Take the greatest."""
        greatest: Plane = np.maximum.reduce([solid.depth(z, y, x) for solid in self.solids])
        return greatest


@dataclass(frozen=True, kw_only=True)
class Folds:
    """Winding sheets, such as the furrows of a brain: where a random field passes through 0.

    Args:
        noise: the field.
        length: its correlation length in mm.
        width: half the thickness of the sheets in mm, roughly.
        channel: which field.
    """

    noise: Noise
    length: float
    width: float
    channel: int = 0

    @property
    def limits(self) -> Limits:
        """Everywhere."""
        return EVERYWHERE

    def depth(self, z: Plane, y: Plane, x: Plane) -> Plane:
        """Turn the field into a distance by its typical slope, the root of 2 over its length."""
        field = self.noise.at(z, y, x, self.length, self.channel)
        depth: Plane = self.width - np.abs(field) * (self.length / math.sqrt(2))
        return depth


@dataclass(frozen=True, kw_only=True)
class Below:
    """A half-space on one side of a level: y above `level` in mm, or below it if `front`."""

    level: float
    front: bool = False

    @property
    def limits(self) -> Limits:
        """Half of everything."""
        return EVERYWHERE

    def depth(self, z: Plane, y: Plane, x: Plane) -> Plane:
        """Measure along y."""
        depth: Plane = (y - self.level) * (-1 if self.front else 1) + 0 * (z + x)
        return depth


@dataclass(frozen=True, kw_only=True)
class Above:
    """A half-space: z above `level` in mm."""

    level: float

    @property
    def limits(self) -> Limits:
        """From the level upwards."""
        return (self.level, -math.inf, -math.inf), (math.inf, math.inf, math.inf)

    def depth(self, z: Plane, y: Plane, x: Plane) -> Plane:
        """Measure along z."""
        depth: Plane = z - self.level + 0 * (y + x)
        return depth


@dataclass(frozen=True, kw_only=True)
class Tissue:
    """What a body is filled with.

    Args:
        hu: mean in HU.
        spread: standard deviation of the texture in HU.
        length: its longest correlation length in mm.
        channel: which field it takes.
        slope: HU per mm towards the back, as blood settles in a lying patient.
    """

    hu: float
    spread: float = 0.0
    length: float = 8.0
    channel: int = 0
    slope: float = 0.0

    def values(self, noise: Noise, z: Plane, y: Plane, x: Plane) -> Plane:
        """Return HU at points in mm."""
        level: Plane = self.hu + self.slope * y + 0 * (z + x)
        return level + self.spread * noise.rough(z, y, x, self.length, self.channel) if self.spread else level


@dataclass(frozen=True, kw_only=True)
class Organ:
    """A solid in a tissue.

    Args:
        solid: where it is.
        tissue: what it is made of.
        edge: width in mm over which it passes into what lies around.
        inset: depth in mm below the solid's surface where it begins; the layers of a wall share a solid.
        ragged: standard deviation in mm of irregularities of the surface.
        coarse: their correlation length in mm.
    """

    solid: Solid
    tissue: Tissue
    edge: float = 1.0
    inset: float = 0.0
    ragged: float = 0.0
    coarse: float = 12.0

    def paint(self, canvas: "Canvas") -> None:
        """Lay the organ over what is on a plane."""
        window = canvas.window(self.solid.limits, 3 * self.ragged + self.edge)
        if window is None:
            return
        z, y, x = canvas.bent(window)
        depth = self.solid.depth(z, y, x) - self.inset
        if self.ragged:
            depth = depth + self.ragged * canvas.noise.at(z, y, x, self.coarse, 40 + self.tissue.channel)
        share = np.clip(0.5 + depth / self.edge, 0, 1)
        if not share.any():
            return
        flat = canvas.flat(window)
        below = canvas.hu[window]
        canvas.hu[window] = below + share * (self.tissue.values(canvas.noise, *flat) - below)


@dataclass
class Canvas:
    """One plane of a patient, with bent coordinates: everything on it is bent alike, so that nothing overlaps anew.

    Args:
        z: height of the plane in mm.
        y: rows in mm.
        x: columns in mm.
        noise: the patient's field.
        bend: standard deviation in mm of the bending.
        scale: correlation length of the bending in mm.
    """

    z: float
    y: Plane
    x: Plane
    noise: Noise
    bend: float = 3.0
    scale: float = 70.0
    hu: Plane = field(init=False)

    def __post_init__(self) -> None:
        self.hu = np.full((len(self.y), len(self.x)), -1000.0, dtype=np.float32)
        z, y, x = np.float32(self.z), self.y[:, None].astype(np.float32), self.x[None, :].astype(np.float32)
        whole = np.full(self.hu.shape, z)
        shifts = [self.bend * self.noise.at(whole, y, x, self.scale, channel) for channel in (91, 92, 93)]
        self._flat = (whole, y + 0 * whole, x + 0 * whole)
        self._bent = tuple(p + shift for p, shift in zip(self._flat, shifts, strict=True))

    def window(self, limits: Limits, margin: float) -> tuple[slice, slice] | None:
        """Return rows and columns that a box can reach, or None."""
        (low, high), room = limits, 4 * self.bend + margin
        if not low[0] - room <= self.z <= high[0] + room:
            return None
        rows = slice(*np.searchsorted(self.y, (low[1] - room, high[1] + room)).tolist())
        columns = slice(*np.searchsorted(self.x, (low[2] - room, high[2] + room)).tolist())
        return (rows, columns) if rows.start < rows.stop and columns.start < columns.stop else None

    def bent(self, window: tuple[slice, slice]) -> tuple[Plane, Plane, Plane]:
        """Return the points of a window as the solids see them."""
        z, y, x = (p[window] for p in self._bent)
        return z, y, x

    def flat(self, window: tuple[slice, slice]) -> tuple[Plane, Plane, Plane]:
        """Return the points of a window in mm."""
        z, y, x = (p[window] for p in self._flat)
        return z, y, x


def paint(organs: Sequence[Organ], canvas: Canvas) -> Plane:
    """Paint organs in order and return the plane in HU."""
    for organ in organs:
        organ.paint(canvas)
    return canvas.hu
