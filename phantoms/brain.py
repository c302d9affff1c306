"""Head: scalp, skull, brain with furrows and ventricles, eyes and the base of the skull.

Positions are (z, y, x) in mm: z to the head from the middle of the brain, y to the back, x to the patient's left.
"""

from dataclasses import replace
from typing import Final

from phantoms.draw import Draw
from phantoms.organs import Above, Below, Blob, Common, Either, Folds, Organ, Point, Solid, Tissue, Tube
from phantoms.texture import Noise
from phantoms.torso import bone, fat, muscle

_WATERY: Final = Tissue(hu=6, spread=2, length=8)
_GREY: Final = Tissue(hu=38, spread=2.5, length=6, channel=22)
_WHITE: Final = Tissue(hu=29, spread=2.5, length=9, channel=23)
_AIR: Final = Tissue(hu=-985, spread=5, length=6)
_SIDES: Final = (-1, 1)
_FLOOR: Final = -74.0  # z of the lowest part of the skull in mm


def vault(draw: Draw) -> Blob:
    """Draw the outline of the skull."""
    semi = (draw.between(93, 98), draw.between(86, 96), draw.between(68, 76))
    return Blob(centre=(2, 4, 0), semi=semi, power=2.25)


def face(draw: Draw) -> Solid:
    """Draw the outline of face and neck."""
    wide = draw.between(0.95, 1.06)
    cheeks = Blob(centre=(-85, -34, 0), semi=(62, 60, 60 * wide), power=2.5)
    neck = Blob(centre=(-150, 24, 0), semi=(130, 56, 60 * wide), power=2.4)
    return Either(solids=(cheeks, neck))


def head(draw: Draw, noise: Noise, skull: Blob) -> list[Organ]:
    """Return skull and what it holds; skin and fat of the face come before it."""
    thick = draw.between(5, 8)
    closed = Common(solids=(skull, Above(level=_FLOOR)))
    return [
        Organ(solid=closed, tissue=fat(), inset=-5, edge=1.5, ragged=0.4),
        Organ(solid=closed, tissue=muscle(), inset=-1.5, edge=1.5, ragged=0.3),
        Organ(solid=closed, tissue=Tissue(hu=1150, spread=120, length=6, channel=5), ragged=0.5, coarse=20),
        Organ(solid=closed, tissue=Tissue(hu=520, spread=130, length=4, channel=6), inset=1.8, ragged=0.6, coarse=20),
        Organ(solid=closed, tissue=Tissue(hu=1150, spread=120, length=6, channel=5), inset=thick - 1.6, ragged=0.8),
        *_brain(draw, noise, skull, thick),
        *_base(draw, noise, skull),
        *_eyes(draw),
    ]


def _brain(draw: Draw, noise: Noise, skull: Blob, thick: float) -> list[Organ]:
    """Return grey and white matter, furrows, ventricles and lesions."""
    closed = Common(solids=(skull, Above(level=_FLOOR)))
    atrophy, turns = draw.between(0.4, 1.5), draw.between(15, 20)
    furrows = Folds(noise=noise, length=turns, width=0.5 + atrophy, channel=31)
    tall, deep, wide = (side - thick - 0.5 for side in skull.semi)
    inner = replace(skull, semi=(tall, deep, wide))
    gap = Blob(centre=(20, 4, 0), semi=(90, 95, 1.2 + atrophy))
    sheet = Blob(centre=(30, 4, 0), semi=(75, 95, 0.9))
    core = Blob(centre=(4, 2, 0), semi=(62, skull.semi[1] - thick - 19, skull.semi[2] - thick - 17), power=2.3)
    white = Common(solids=(core, Folds(noise=noise, length=turns, width=60, channel=31)))
    organs = [
        Organ(solid=closed, tissue=_WATERY, inset=thick, edge=1.5, ragged=0.8),
        Organ(solid=closed, tissue=_GREY, inset=thick + 1 + atrophy, edge=1.5, ragged=0.9),
        Organ(solid=Common(solids=(inner, furrows)), tissue=_WATERY, edge=2.0),
        Organ(solid=Common(solids=(inner, gap)), tissue=_WATERY, edge=1.5, ragged=0.7),
        Organ(solid=white, tissue=_WHITE, edge=3, ragged=5.5, coarse=11),
        Organ(solid=Common(solids=(inner, sheet)), tissue=Tissue(hu=58, spread=3, length=8), edge=1.0),
    ]
    for side in _SIDES:
        for (z, y, x), semi in (((2, -12, 25), (16, 17, 7)), ((2, 10, 12), (14, 16, 9)), ((4, -24, 15), (14, 11, 6))):
            solid = Blob(centre=(z, y, side * x), semi=semi, turn=-0.35 * side)
            organs.append(Organ(solid=solid, tissue=_GREY, edge=3, ragged=1.2))
    return [*organs, *_ventricles(draw), *_lesions(draw), *_hind(noise)]


def _ventricles(draw: Draw) -> list[Organ]:
    wide, organs = draw.between(0.7, 1.5), []
    for side in _SIDES:
        course = ((0, -36, 13), (10, -20, 8), (16, 6, 9), (10, 30, 17), (-2, 44, 20))
        body: tuple[Point, ...] = tuple((z, y, side * x) for z, y, x in course)
        radii = tuple(wide * r for r in (3.0, 4.6, 4.6, 6.2, 3.0))
        organs.append(Organ(solid=Tube(points=body, radii=radii, tall=1.2), tissue=_WATERY, edge=1.5, ragged=0.6))
        clot = Blob(centre=(6, 33, side * 17.0), semi=(4, 3.5, 2.2))
        organs.append(Organ(solid=clot, tissue=Tissue(hu=draw.between(60, 220), spread=20, length=3), edge=1.5))
    third = Blob(centre=(-8, 0, 0), semi=(11, 14, 1.6 + wide))
    gland = Blob(centre=(-4, 24, 0), semi=(3, 3, 2.5))
    return [
        *organs,
        Organ(solid=third, tissue=_WATERY, edge=1.5),
        Organ(solid=gland, tissue=Tissue(hu=draw.between(60, 350), spread=20, length=3)),
    ]


def _lesions(draw: Draw) -> list[Organ]:
    """Return up to four lesions a little darker or brighter than brain, some of them bleedings."""
    organs = []
    for _ in range(draw.whole(0, 4)):
        r = draw.between(2.5, 11)
        centre = (draw.between(-15, 45), draw.between(-55, 60), draw.one_of(_SIDES) * draw.between(14, 44))
        hu = draw.between(58, 72) if draw.chance(0.25) else draw.between(14, 46)
        solid = Blob(centre=centre, semi=(r, r * draw.between(0.7, 1.4), r))
        organs.append(Organ(solid=solid, tissue=Tissue(hu=hu, spread=3, length=5), edge=2.5, ragged=0.15 * r, coarse=r))
    return organs


def _hind(noise: Noise) -> list[Organ]:
    """Return cerebellum, brain stem and the fluid around them."""
    leaves = Folds(noise=noise, length=7, width=0.5, channel=33)
    small = Blob(centre=(-50, 42, 0), semi=(27, 29, 44))
    stem = Tube(points=((-15, 12, 0), (-45, 8, 0), (-100, 22, 0)), radii=(15, 13, 6))
    return [
        Organ(solid=Blob(centre=(-42, 4, 0), semi=(14, 24, 22)), tissue=_WATERY, edge=2, ragged=1.5),
        Organ(solid=small, tissue=_WATERY, inset=-1.5, edge=1.5),
        Organ(solid=small, tissue=_GREY, edge=1.5, ragged=0.8),
        Organ(solid=Common(solids=(small, leaves)), tissue=_WATERY, edge=2.5),
        Organ(solid=stem, tissue=_WHITE, edge=1.5),
        Organ(solid=Blob(centre=(-52, 22, 0), semi=(9, 5, 6)), tissue=_WATERY, edge=1.5),
    ]


def _base(draw: Draw, noise: Noise, skull: Blob) -> list[Organ]:
    """Return the base of the skull: petrous bones with air cells, its floor, and the sinuses."""
    organs: list[Organ] = []
    cells = Folds(noise=noise, length=5, width=1.1, channel=35)
    floor = Common(solids=(skull, Blob(centre=(-72, -34, 0), semi=(13, 34, 42), power=2.5)))
    organs += bone(floor, shell=2.0, inside=60, hard=900)
    for side in _SIDES:
        ridge = Tube(points=((-58, 26, side * 50.0), (-60, 8, side * 32.0), (-64, -6, side * 14.0)), radii=(12, 9, 6))
        organs.append(Organ(solid=ridge, tissue=Tissue(hu=1300, spread=200, length=5, channel=5), ragged=1.2, coarse=7))
        lobe = Blob(centre=(-64, 34, side * 49.0), semi=(14, 12, 8))
        organs += [
            Organ(solid=lobe, tissue=Tissue(hu=700, spread=150, length=5, channel=5), inset=-1.5),
            Organ(solid=lobe, tissue=_AIR, ragged=0.8),
            Organ(solid=Common(solids=(lobe, cells)), tissue=Tissue(hu=550, spread=80, length=4), edge=1.0),
            Organ(solid=Tube(points=((-70, 16, side * 66.0), (-70, 14, side * 44.0)), radii=(3.5, 3)), tissue=_AIR),
        ]
    nose = Blob(centre=(-64, -60, 0), semi=(22, 28, 14), power=3)
    walls = Folds(noise=noise, length=9, width=0.7, channel=37)
    return [
        *organs,
        Organ(solid=nose, tissue=Tissue(hu=500, spread=100, length=5), inset=-1.2),
        Organ(solid=nose, tissue=_AIR),
        Organ(solid=Common(solids=(nose, walls)), tissue=Tissue(hu=180, spread=120, length=4), edge=1.2),
        Organ(solid=Blob(centre=(-30, -79, 4), semi=(16, 5, 17)), tissue=_AIR, inset=draw.between(0, 2), ragged=1),
    ]


def _eyes(draw: Draw) -> list[Organ]:
    organs: list[Organ] = []
    for side in _SIDES:
        cone = Tube(points=((-50, -78, side * 33.0), (-52, -40, side * 17.0)), radii=(17, 5))
        socket = Common(solids=(cone, Below(level=-79)))
        ball = Blob(centre=(-50, -75, side * 33.0), semi=(12.3, 12.3, 12.3))
        organs += [
            Organ(solid=socket, tissue=Tissue(hu=700, spread=90, length=5), inset=-1.6),
            Organ(solid=socket, tissue=fat(), edge=1.2),
            Organ(solid=Tube(points=((-50, -64, side * 31.0), (-52, -38, side * 16.0)), radii=(2, 2)), tissue=muscle()),
            Organ(solid=ball, tissue=Tissue(hu=45, spread=4, length=6)),
            Organ(solid=ball, tissue=_WATERY, inset=1.3),
            Organ(
                solid=Blob(centre=(-50, -83, side * 33.5), semi=(4.5, 2, 4.5)), tissue=Tissue(hu=95, spread=4, length=4)
            ),
        ]
        for out in (-9, 9):
            rod = Tube(
                points=((-50, -72, side * 33.0 + out * 1.2), (-52, -42, side * 18.0 + out * 0.2)), radii=(1.6, 1.2)
            )
            organs.append(Organ(solid=rod, tissue=muscle(), edge=1.2))
    return organs
