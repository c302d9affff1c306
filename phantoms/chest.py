"""Chest: lungs with a tree of vessels, heart, great vessels, airways and nodules."""

import math
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from phantoms.draw import Draw
from phantoms.organs import Blob, Common, Organ, Point, Solid, Tissue, Tube
from phantoms.torso import Build, blood, cavity, fat, inside, muscle

_SIDES: Final = (-1, 1)  # the patient's right, then left
_AIR: Final = Tissue(hu=-985, spread=4, length=6)


def lung(body: Build, side: int) -> Solid:
    """Return the space of a lung."""
    y, x = body.cavity
    solid = Blob(centre=(10, 6, side * 0.545 * x), semi=(185, 0.97 * y, 0.47 * x), power=2.5, turn=-0.12 * side)
    return inside(body, solid)


def chest(draw: Draw, body: Build) -> list[Organ]:
    """Return what lies inside the ribs above the diaphragm."""
    organs = [Organ(solid=cavity(body), tissue=fat(), edge=1.5)]
    air = draw.between(-880, -835)
    for side in _SIDES:
        space = lung(body, side)
        tissue = Tissue(hu=air, spread=34, length=12, channel=10, slope=draw.between(0.25, 0.7))
        organs.append(Organ(solid=space, tissue=tissue, edge=1.2, ragged=0.5))
        organs += vessels(draw, body, side, space)
        organs += _nodules(draw, body, side, space)
    return [*organs, *_middle(draw, body), *heart(draw, body)]


def heart(draw: Draw, body: Build) -> list[Organ]:
    """Return the heart in its fat, with four chambers."""
    size, turn = draw.between(0.92, 1.08), draw.between(-0.85, -0.6)
    centre = (-8.0, -0.26 * body.half[0], 22.0)
    rim = Blob(centre=centre, semi=(70 * size, 46 * size, 68 * size), turn=turn, power=2.2)
    core = Blob(centre=centre, semi=(66 * size, 41 * size, 62 * size), turn=turn)
    chambers = (
        ((-12, 2, 30), (38, 16, 26)),
        ((-8, -22, -4), (36, 14, 24)),
        ((14, 20, -6), (24, 17, 25)),
        ((2, -4, -38), (32, 20, 17)),
    )
    inner = [
        Organ(
            solid=Blob(
                centre=(centre[0] + z, centre[1] + y, centre[2] + x), semi=(a * size, b * size, c * size), turn=turn
            ),
            tissue=blood(body),
            edge=2.5,
            ragged=1.2,
        )
        for (z, y, x), (a, b, c) in chambers
    ]
    muscles = Tissue(hu=50 + 0.9 * body.soft, spread=5, length=8, channel=12)
    return [
        Organ(solid=rim, tissue=fat(), edge=1.5, ragged=1.5, coarse=20),
        Organ(solid=core, tissue=muscles, edge=2, ragged=1.2, coarse=16),
        *inner,
    ]


def _middle(draw: Draw, body: Build) -> list[Organ]:
    """Return windpipe, gullet and great vessels."""
    r, spine = draw.between(11, 13.5), body.spine
    falling = tuple(
        (float(z), spine - 10 - 0.06 * max(0, -z - 60), 28.0 - 0.16 * max(0, -z - 60)) for z in range(70, -121, -19)
    )
    arch: tuple[Point, ...] = (
        (20, -22, -12),
        (55, -28, -18),
        (80, -18, -10),
        (88, 0, 8),
        (84, spine - 22, 22),
        falling[0],
    )
    windpipe: tuple[Point, ...] = ((200, 2, 0), (100, 6, 0), (50, 12, 0))
    organs = [
        _vessel(((110, -14, -28), (15, -20, -34)), (9, 9), body),
        _vessel(((18, -34, 8), (38, -24, 14), (44, -8, 8), (34, 0, -30)), (13, 13, 12, 9), body),
        _vessel(((44, -8, 12), (36, 4, 42)), (12, 9), body),
        _vessel(arch, (14, 14, 13.5, 13, 12.5, r), body),
        _vessel(falling, (r,) * len(falling), body),
        Organ(
            solid=Tube(points=((200, spine - 30, 6), (-120, spine - 32, 8)), radii=(6.5, 6.5)),
            tissue=muscle(),
            ragged=0.8,
        ),
        Organ(
            solid=Tube(points=((200, spine - 30, 6), (-100, spine - 32, 8)), radii=(2.0, 1.0)), tissue=_AIR, ragged=0.8
        ),
    ]
    for side in _SIDES:
        main: tuple[Point, ...] = (windpipe[-1], (30, 14, side * 28), (10, 14, side * 52), (-15, 20, side * 70))
        organs += [_airway(main, (7.5, 6.5, 4.5, 2.5))]
        organs += [Organ(solid=Tube(points=main, radii=(6.3, 5.3, 3.5, 1.6)), tissue=_AIR)]
    organs += [_airway(windpipe, (9, 9, 8.5)), Organ(solid=Tube(points=windpipe, radii=(7.8, 7.8, 7.3)), tissue=_AIR)]
    nodes = [
        Blob(
            centre=(draw.between(20, 80), draw.between(-10, 15), draw.between(-25, 25)), semi=(draw.between(3, 7),) * 3
        )
        for _ in range(9)
    ]
    return [*(Organ(solid=node, tissue=muscle(), ragged=0.6) for node in nodes), *organs]


def _airway(points: tuple[Point, ...], radii: tuple[float, ...]) -> Organ:
    return Organ(solid=Tube(points=points, radii=radii), tissue=muscle())


def _vessel(points: tuple[Point, ...], radii: tuple[float, ...], body: Build) -> Organ:
    return Organ(solid=Tube(points=points, radii=radii), tissue=blood(body), edge=1.5)


@dataclass
class _Tree:
    """A tree of vessels while it grows."""

    draw: Draw
    space: Solid
    middle: Point
    rods: list[tuple[Point, Point, float, float]] = field(default_factory=list)

    def grow(self, start: Point, way: Point, radius: float, depth: int) -> None:
        """Grow a branch and what comes out of it, until it is thin or leaves the lung."""
        if radius < 0.4 or depth > 16:
            return
        length = self.draw.between(3.2, 5.2) * radius**0.62 * 2.0
        end = _ahead(start, way, length)
        if math.dist(end, self.middle) > 30 and _depth(self.space, end) < 2 + radius:
            return
        thin = radius * self.draw.between(0.86, 0.95)
        self.rods.append((start, end, radius, thin))
        pull = self._outwards(end)
        self.grow(end, self._bend(way, pull, 0.22), thin, depth + 1 if self.draw.chance(0.6) else depth)
        if self.draw.chance(0.95):
            self.grow(end, self._bend(way, pull, 0.85), thin * self.draw.between(0.55, 0.85), depth + 1)

    def _outwards(self, at: Point) -> Point:
        return _unit((at[0] - self.middle[0], at[1] - self.middle[1], at[2] - self.middle[2]))

    def _bend(self, way: Point, pull: Point, amount: float) -> Point:
        random = self.draw.direction()
        return _unit(tuple(w + 0.18 * p + amount * r for w, p, r in zip(way, pull, random, strict=True)))  # type: ignore[arg-type]


def vessels(draw: Draw, body: Build, side: int, space: Solid) -> list[Organ]:
    """Grow arteries and veins of a lung from its root; they are smooth tubes down to 0.35 mm."""
    root = (8.0, 10.0, side * 48.0)
    tree = _Tree(draw=draw, space=space, middle=root)
    for k in range(20):
        aim = (
            draw.between(-1.0, 1.0),
            -1.0 + 2 * (k % 4) / 3 + draw.between(-0.3, 0.3),
            side * draw.between(0.15, 1.0),
        )
        tree.grow(
            (root[0] + draw.between(-22, 22), root[1] + draw.between(-8, 8), root[2]),
            _unit(aim),
            draw.between(2.6, 5.0),
            0,
        )
    tissue = Tissue(hu=max(40.0, 0.8 * body.blood), spread=3, length=10, channel=3)
    return [
        Organ(solid=Tube(points=(start, end), radii=(r0, r1)), tissue=tissue, edge=0.8)
        for start, end, r0, r1 in tree.rods
    ]


def _nodules(draw: Draw, body: Build, side: int, space: Solid) -> list[Organ]:
    """Return up to four nodules, solid or of ground glass."""
    organs: list[Organ] = []
    y, x = body.cavity
    for _ in range(draw.whole(0, 4)):
        centre = (draw.between(-60, 90), draw.between(-0.6, 0.6) * y, side * (0.5 + draw.between(-0.25, 0.3)) * x)
        glass = draw.chance(0.3)
        r = draw.between(4, 10) if glass else draw.between(1.5, 7)
        hu = draw.between(-680, -500) if glass else draw.between(10, 60)
        solid = Common(solids=(space, Blob(centre=centre, semi=(r, r * draw.between(0.8, 1.2), r))))
        organs.append(Organ(solid=solid, tissue=Tissue(hu=hu, spread=12, length=5), ragged=0.12 * r, coarse=0.8 * r))
    return organs


def _depth(solid: Solid, at: Point) -> float:
    z, y, x = (np.array([p]) for p in at)
    return float(solid.depth(z, y, x)[0])


def _ahead(start: Point, way: Point, length: float) -> Point:
    return start[0] + length * way[0], start[1] + length * way[1], start[2] + length * way[2]


def _unit(way: Point) -> Point:
    length = math.hypot(*way)
    return way[0] / length, way[1] / length, way[2] / length
