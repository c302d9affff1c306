"""Trunk of a patient: wall, bones, lungs, heart and abdomen, sized and placed by a seed.

Positions are (z, y, x) in mm: z to the head from the middle of the heart, y to the back, x to the patient's left.
"""

import math
from dataclasses import dataclass
from typing import Final

from phantoms.draw import Draw
from phantoms.organs import Blob, Common, Organ, Point, Solid, Tissue, Tube

ENDLESS: Final = math.inf


@dataclass(frozen=True, kw_only=True)
class Build:
    """Sizes that organs share, in mm.

    Args:
        half: half axes of the body (y, x).
        fat: thickness of the fat under the skin.
        wall: thickness of muscle and ribs below it.
        spine: y of the middle of the vertebral bodies.
        blood: what blood measures in HU; more with contrast agent.
        soft: how much more than blood tissues of the abdomen vary by patient, in HU.
    """

    half: tuple[float, float]
    fat: float
    wall: float
    spine: float
    blood: float
    soft: float

    @property
    def cavity(self) -> tuple[float, float]:
        """Half axes (y, x) of the space inside the ribs."""
        return self.half[0] - self.fat - self.wall, self.half[1] - 1.15 * self.fat - self.wall


def build(draw: Draw) -> Build:
    """Draw a patient's sizes: 300 to 380 mm wide, 200 to 260 mm deep, lean to stout."""
    stout = draw.between(0, 1)
    half = (draw.between(100, 108) + 22 * stout, draw.between(152, 162) + 28 * stout)
    contrast = draw.chance(0.5)
    return Build(
        half=half,
        fat=7 + 16 * stout * draw.between(0.7, 1.3),
        wall=draw.between(17, 21),
        spine=half[0] - 72 - 9 * stout,
        blood=draw.between(120, 250) if contrast else draw.between(36, 46),
        soft=draw.between(25, 55) if contrast else 0.0,
    )


def muscle(channel: int = 1) -> Tissue:
    """Return muscle with streaks of fat."""
    return Tissue(hu=52, spread=9, length=6, channel=channel)


def fat(channel: int = 2) -> Tissue:
    """Return fat with strands."""
    return Tissue(hu=-104, spread=9, length=9, channel=channel)


def blood(build: Build) -> Tissue:
    """Return blood."""
    return Tissue(hu=build.blood, spread=3, length=10, channel=3)


def outer(draw: Draw, body: Build) -> list[Organ]:
    """Return skin, fat and muscle."""
    trunk = Blob(centre=(0, 0, 0), semi=(ENDLESS, *body.half), power=draw.between(2.2, 2.6))
    return [
        Organ(solid=trunk, tissue=Tissue(hu=15, spread=10, length=4), edge=1.5),
        Organ(solid=trunk, tissue=fat(), inset=2, edge=1.5, ragged=0.3),
        Organ(solid=trunk, tissue=muscle(), inset=body.fat, edge=1.5, ragged=0.1 * body.fat, coarse=45),
        *_fat_between_muscles(draw, body),
    ]


def _fat_between_muscles(draw: Draw, body: Build) -> list[Organ]:
    """Return planes of fat between muscles of the back and the flanks."""
    planes = []
    for side in (-1, 1):
        for _ in range(4):
            along = side * draw.between(0.15, 0.95)
            radius = (body.half[0] - body.fat - draw.between(3, 9), body.half[1] - body.fat - draw.between(4, 10))
            turns = [along + side * 0.08 * k for k in range(6)]
            points = [(0.0, radius[0] * math.cos(a), radius[1] * math.sin(a)) for a in turns]
            high = tuple((z - 200, y, x) for z, y, x in points)
            planes.append(
                Organ(solid=Tube(points=high, radii=(0.6,) + (1.4,) * 4 + (0.6,), tall=300), tissue=fat(), edge=1.5)
            )
    return planes


def skeleton(draw: Draw, body: Build) -> list[Organ]:
    """Return spine, ribs, cartilage and breastbone."""
    organs = [*_ribs(draw, body), *_spine(draw, body)]
    front = -body.half[0] + body.fat + 9
    breastbone = Blob(centre=(70, front + 4, 0), semi=(78, 6, draw.between(15, 19)), power=2.6)
    return [*organs, *bone(breastbone, shell=1.4, inside=120)]


def bone(solid: Solid, *, shell: float, inside: float, hard: float = 750.0) -> list[Organ]:
    """Return a bone: a hard shell around a sponge."""
    return [
        Organ(solid=solid, tissue=Tissue(hu=hard, spread=90, length=4, channel=5), edge=1.0),
        Organ(
            solid=solid, tissue=Tissue(hu=inside, spread=38, length=2.5, channel=6), inset=shell, edge=1.0, ragged=0.3
        ),
    ]


def _ribs(draw: Draw, body: Build) -> list[Organ]:
    """Return twelve pairs that fall towards the front, and the cartilage that joins the upper ones to the front."""
    organs: list[Organ] = []
    reach = (body.cavity[0] + 6, body.cavity[1] + 6)
    drop, apart = draw.between(75, 100), draw.between(26, 28)
    for side in (-1, 1):
        for k in range(12):
            top = 204 - apart * k + draw.between(-2, 2)
            end = draw.between(0.70, 0.78) if k < 7 else 0.78 - 0.09 * (k - 6)
            turns = [math.pi * (0.09 + (end - 0.09) * i / 23) for i in range(24)]
            spread = 1 - 0.0012 * max(0.0, top - 90)
            ring = [
                (
                    top - drop * (1 - math.cos(a)) / 2,
                    reach[0] * spread * math.cos(a),
                    side * reach[1] * spread * math.sin(a),
                )
                for a in turns
            ]
            ring[0] = (ring[0][0], body.spine + 12, side * 24.0)
            rib = Tube(points=tuple(ring), radii=(4.0,) + (draw.between(3.6, 4.4),) * 23, tall=1.5)
            organs += bone(rib, shell=1.1, inside=170, hard=850)
            if k < 7:
                organs.append(_cartilage(ring[-1], body, side))
    return organs


def _cartilage(start: Point, body: Build, side: int) -> Organ:
    front = -body.half[0] + body.fat + 13
    end = (max(start[0] + 20, 0.0), front, side * 14.0)
    middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2 - 4, (start[2] + end[2]) / 2)
    tube = Tube(points=(start, middle, end), radii=(4.2, 4.2, 4.2), tall=1.5)
    return Organ(solid=tube, tissue=Tissue(hu=110, spread=25, length=4, channel=6))


def _spine(draw: Draw, body: Build) -> list[Organ]:
    """Return vertebrae with discs, arches and processes around a canal."""
    y, organs, start = body.spine, list[Organ](), draw.between(-14, 14)
    sponge = draw.between(120, 230)
    canal = y + 26
    for k in range(-14, 9):
        z = start + 28.0 * k
        wide = 17.5 - 0.35 * k
        disc = Blob(centre=(z + 14, y, 0), semi=(4.5, 14, wide), power=2.6)
        body_of = Blob(centre=(z, y, 0), semi=(11.5, 15, wide), power=3.2)
        organs.append(Organ(solid=disc, tissue=Tissue(hu=85, spread=10, length=5, channel=8)))
        organs += _arch(z, y, wide, canal)
        organs += bone(body_of, shell=1.3, inside=sponge, hard=480)
    sac = Blob(centre=(0, canal, 0), semi=(ENDLESS, 8.5, 10.5))
    marrow = Blob(centre=(0, canal, 0), semi=(ENDLESS, 4, 5.5))
    around = Blob(centre=(0, canal, 0), semi=(ENDLESS, 9.5, 11.5))
    return [
        *organs,
        Organ(solid=around, tissue=fat(), edge=1.5),
        Organ(solid=sac, tissue=Tissue(hu=14, spread=5, length=6)),
        Organ(solid=marrow, tissue=Tissue(hu=38, spread=4, length=6)),
    ]


def _arch(z: float, y: float, wide: float, canal: float) -> list[Organ]:
    organs: list[Organ] = []
    tip = Tube(points=((z - 2, canal + 13, 0), (z - 16, canal + 36, 0)), radii=(4, 3.2), tall=2.2)
    organs += bone(tip, shell=1.4, inside=260)
    for side in (-1, 1):
        foot, corner = (z + 3, y + 10, side * (wide - 4)), (z + 1, canal + 1, side * 15.5)
        lamina = Tube(points=(foot, corner, (z - 2, canal + 14, side * 2.0)), radii=(4.5, 4.2, 3.4), tall=1.6)
        cross = Tube(points=(corner, (z + 4, canal + 10, side * 36.0)), radii=(4.5, 3.4), tall=1.3)
        joint = Blob(centre=(z - 14, canal + 3, side * 15.0), semi=(10, 8, 7), turn=-0.5 * side, power=2.4)
        organs += [*bone(cross, shell=1.4, inside=230), *bone(joint, shell=1.8, inside=330)]
        organs += bone(lamina, shell=1.5, inside=260)
    return organs


def around_spine(draw: Draw, body: Build) -> list[Organ]:
    """Return the muscles beside the spine, in a sheath of fat."""
    organs = []
    for side in (-1, 1):
        solid = Blob(centre=(0, body.spine + 46, side * 30.0), semi=(ENDLESS, 17, 24), turn=side * 0.35, power=2.4)
        organs += [
            Organ(solid=solid, tissue=fat(), edge=1.5, inset=-1.5, ragged=0.6),
            Organ(solid=solid, tissue=muscle(4), edge=1.5, ragged=draw.between(0.8, 1.8), coarse=7),
        ]
    return organs


def cavity(body: Build) -> Solid:
    """Return the space inside the ribs, a dome at the top."""
    y, x = body.cavity
    return Common(solids=(Blob(centre=(0, -2, 0), semi=(ENDLESS, y, x), power=2.3), _dome(body)))


def _dome(body: Build) -> Solid:
    y, x = body.cavity
    return Blob(centre=(-160, 0, 0), semi=(340, 1.12 * y, 1.08 * x), power=2.8)


def inside(body: Build, solid: Solid) -> Solid:
    """Keep a solid within the ribs."""
    return Common(solids=(cavity(body), solid))
