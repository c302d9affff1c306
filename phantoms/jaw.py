"""Jaws and neck: teeth of enamel, dentine and pulp, tongue, airway, glands, muscles and vertebrae."""

import math
from typing import Final

from phantoms.brain import face
from phantoms.draw import Draw
from phantoms.organs import Blob, Common, Organ, Point, Tissue, Tube
from phantoms.torso import bone, fat, muscle

_SIDES: Final = (-1, 1)
_AIR: Final = Tissue(hu=-985, spread=5, length=6)
_ENAMEL: Final = Tissue(hu=2500, spread=120, length=3, channel=5)
_MUSCLES: Final = (  # y, x, half axes (y, x) in mm, turn in rad
    (64, 16, (15, 13), 0.3),
    (50, 34, (18, 9), 0.7),
    (38, 24, (11, 9), 0.2),
    (28, 47, (13, 6), 0.5),
    (16, 20, (6, 10), 0.0),
)
_DENTINE: Final = Tissue(hu=1600, spread=90, length=3, channel=6)


def jaw(draw: Draw) -> list[Organ]:
    """Return face and neck from the skin inwards."""
    skin = face(draw)
    thick = draw.between(4, 9)
    blood = Tissue(hu=draw.between(120, 250) if draw.chance(0.4) else 42, spread=3, length=10, channel=3)
    return [
        Organ(solid=skin, tissue=Tissue(hu=20, spread=10, length=4), edge=1.5),
        Organ(solid=skin, tissue=fat(), inset=2, edge=1.5, ragged=0.5),
        Organ(solid=skin, tissue=fat(9), inset=thick, edge=1.5),
        *_neck(draw, blood),
        *_cheeks(draw),
        *_mouth(draw),
        *_throat(),
        *_vertebrae(draw),
        *_arch(draw, -122, -1),
        *_arch(draw, -84, 1),
        *_branches(),
    ]


def _along(turn: float, size: float = 1.0) -> tuple[float, float]:
    """Return (y, x) on the arch of the teeth; turn runs from -1 on the right to 1 on the left."""
    angle = 0.5 * math.pi * turn
    return -70 + 52 * size * (1 - math.cos(angle)), 31 * size * math.sin(angle)


def _arch(draw: Draw, z: float, up: int) -> list[Organ]:
    """Return one jaw with its teeth; `up` is 1 for the upper one."""
    turns = [k / 12 for k in range(-12, 13)]
    ridge: tuple[Point, ...] = tuple((z, *_along(t, 1.02)) for t in turns)
    organs = bone(Tube(points=ridge, radii=(7.5,) * len(ridge), tall=1.5), shell=2.0, inside=330, hard=1250)
    teeth = 14 if draw.chance(0.6) else 16
    for k in range(teeth):
        if draw.chance(0.06):
            continue  # lost
        turn = (k - (teeth - 1) / 2) / (teeth / 2) * 0.9
        wide = 3.4 + 1.9 * abs(turn) + draw.between(-0.2, 0.2)
        organs += _tooth(draw, z, up, turn, wide)
    return organs


def _tooth(draw: Draw, z: float, up: int, turn: float, wide: float) -> list[Organ]:
    y, x = _along(turn + draw.between(-0.01, 0.01))
    neck, crown, tip = z - up * 7.0, z - up * 16.0, z + up * 7.0
    shaft = Tube(points=((crown, y, x), (neck, y, x), (tip, y + 2, x)), radii=(wide * 0.95, wide, 1.2))
    cap = Blob(centre=((crown + neck) / 2, y, x), semi=(6.2, wide, wide * 1.02), power=3)
    pulp = Tube(points=(((crown + neck) / 2, y, x), (tip, y + 1.5, x)), radii=(0.9, 0.4))
    organs = [
        Organ(solid=shaft, tissue=_DENTINE, edge=0.6),
        Organ(solid=cap, tissue=_ENAMEL, edge=0.6),
        Organ(solid=cap, tissue=_DENTINE, inset=1.1, edge=0.6),
        Organ(solid=pulp, tissue=Tissue(hu=60), edge=0.6),
    ]
    if draw.chance(0.08):
        filling = Blob(centre=(crown, y, x), semi=(3, 0.6 * wide, 0.6 * wide))
        organs.append(Organ(solid=filling, tissue=Tissue(hu=3000), edge=0.6))
    return organs


def _branches() -> list[Organ]:
    """Return the parts of the lower jaw that rise to its joints."""
    organs: list[Organ] = []
    for side in _SIDES:
        y, x = _along(1.0, 1.02)
        points: tuple[Point, ...] = ((-122, y, side * x), (-118, y + 18, side * 42.0), (-66, 6, side * 50.0))
        organs += bone(Tube(points=points, radii=(7.5, 6, 5), tall=1.2), shell=1.8, inside=300, hard=1200)
    return organs


def _mouth(draw: Draw) -> list[Organ]:
    tongue = Blob(centre=(-104, -36, 0), semi=(26, 32, 24), power=2.4)
    floor = Blob(centre=(-132, -36, 0), semi=(14, 34, 26), power=2.4)
    gap = Blob(centre=(-104, -36, 0), semi=(28, 34, 25.5), power=2.4)
    return [
        Organ(solid=floor, tissue=muscle(24), ragged=1),
        Organ(solid=gap, tissue=_AIR if draw.chance(0.5) else muscle(), edge=1.2, ragged=0.8),
        Organ(solid=tongue, tissue=Tissue(hu=48, spread=18, length=7, channel=25), ragged=1.5, coarse=9),
        Organ(solid=Blob(centre=(-106, -36, 0), semi=(22, 26, 0.8)), tissue=fat(), edge=1.5),
    ]


def _throat() -> list[Organ]:
    points: tuple[Point, ...] = ((-58, -8, 0), (-100, 3, 0), (-150, 0, 0), (-220, 2, 0))
    wall, air = Tube(points=points, radii=(13, 12, 13, 12)), Tube(points=points, radii=(8, 7, 9, 8))
    return [
        Organ(solid=wall, tissue=muscle(), ragged=1.2, coarse=8),
        Organ(solid=air, tissue=_AIR, ragged=1.2, coarse=9),
    ]


def _cheeks(draw: Draw) -> list[Organ]:
    """Return muscles of chewing, salivary glands and the sinuses of the cheeks."""
    organs: list[Organ] = []
    for side in _SIDES:
        chew = Blob(centre=(-98, -10, side * 50.0), semi=(32, 18, 5.5), turn=-0.15 * side)
        wing = Blob(centre=(-86, -8, side * 37.0), semi=(26, 15, 8))
        gland = Blob(centre=(-92, 22, side * 45.0), semi=(26, 14, 9), turn=0.3 * side)
        low = Blob(centre=(-138, -10, side * 34.0), semi=(14, 14, 9))
        sinus = Blob(centre=(-72, -50, side * 29.0), semi=(15, 18, 12), power=2.6)
        spread = draw.between(12, 26)
        organs += [
            Organ(solid=chew, tissue=muscle(26), ragged=0.9),
            Organ(solid=wing, tissue=muscle(26), ragged=0.9),
            Organ(solid=gland, tissue=Tissue(hu=-8, spread=spread, length=6, channel=27), ragged=1.3, coarse=9),
            Organ(solid=low, tissue=Tissue(hu=38, spread=10, length=6, channel=27), ragged=1),
            Organ(solid=sinus, tissue=Tissue(hu=550, spread=120, length=5), inset=-1.2),
            Organ(solid=sinus, tissue=_AIR, ragged=0.6),
        ]
    return organs


def _neck(draw: Draw, blood: Tissue) -> list[Organ]:
    """Return the muscles of the neck and its vessels."""
    organs: list[Organ] = []
    for side in _SIDES:
        for y, x, semi, turn in _MUSCLES:
            solid = Blob(centre=(-170, y, side * x), semi=(95, *semi), turn=turn * side, power=2.2)
            organs.append(Organ(solid=solid, tissue=muscle(28), edge=1.2, ragged=draw.between(0.6, 1.4), coarse=8))
        artery, vein = (
            ((-60, 8, side * 26.0), (-230, 8, side * 24.0)),
            ((-60, 14, side * 32.0), (-230, 12, side * 33.0)),
        )
        organs.append(Organ(solid=Tube(points=artery, radii=(2.8, 3.6)), tissue=blood))
        organs.append(Organ(solid=Tube(points=vein, radii=(4, draw.between(4, 7))), tissue=blood))
    return organs


def _vertebrae(draw: Draw) -> list[Organ]:
    """Return the vertebrae of the neck around their canal."""
    organs: list[Organ] = []
    start = draw.between(-8, 8)
    for k in range(7):
        z = -86 - 19 * k + start
        body = Blob(centre=(z, 25, 0), semi=(7.5, 8.5, 11), power=2.8)
        disc = Blob(centre=(z - 9.5, 25, 0), semi=(3, 8, 10), power=2.6)
        organs.append(Organ(solid=disc, tissue=Tissue(hu=85, spread=10, length=5, channel=8)))
        tip = Tube(points=((z - 2, 50, 0), (z - 9, 66, 0)), radii=(3, 2.6), tall=1.8)
        organs += bone(tip, shell=1.2, inside=250)
        for side in _SIDES:
            pillar = Blob(centre=(z - 2, 33, side * 17.0), semi=(9, 6, 6.5))
            lamina = Tube(points=((z - 2, 38, side * 15.0), (z - 2, 49, side * 2.0)), radii=(3, 2.8), tall=2)
            organs += [*bone(pillar, shell=1.5, inside=280), *bone(lamina, shell=1.2, inside=300)]
        organs += bone(body, shell=1.2, inside=draw.between(230, 330), hard=600)
    canal = Blob(centre=(-160, 41, 0), semi=(100, 7, 11))
    cord = Blob(centre=(-160, 41, 0), semi=(100, 4, 6.5))
    fluid = Common(solids=(canal, Blob(centre=(-160, 41, 0), semi=(100, 6.5, 10))))
    return [
        *organs,
        Organ(solid=canal, tissue=fat(), edge=1.2),
        Organ(solid=fluid, tissue=Tissue(hu=12, spread=4, length=6)),
        Organ(solid=cord, tissue=Tissue(hu=36, spread=3, length=6)),
    ]
