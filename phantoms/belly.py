"""Belly: diaphragm, liver, spleen, kidneys, stomach, bowel and their vessels, with low-contrast lesions."""

import math

from phantoms.draw import Draw
from phantoms.organs import Below, Blob, Common, Organ, Point, Solid, Tissue, Tube
from phantoms.torso import ENDLESS, Build, blood, fat, muscle

_GAS = Tissue(hu=-960, spread=10, length=10)


def dome(body: Build) -> Solid:
    """Return the space below the diaphragm, which is higher on the right."""
    y, x = body.cavity
    return Blob(centre=(-300, 4, -8), semi=(244, 1.1 * y, 1.1 * x), power=2.7)


def belly(draw: Draw, body: Build) -> list[Organ]:
    """Return what lies below the diaphragm."""
    y, x = (side + 4 for side in body.cavity)
    space = Common(solids=(dome(body), Blob(centre=(0, -2, 0), semi=(ENDLESS, y, x), power=2.3)))
    return [
        Organ(solid=space, tissue=muscle(), edge=1.2),
        Organ(solid=space, tissue=fat(9), edge=1.5, inset=3, ragged=0.5),
        *_bowel(draw, body, space),
        *_behind(draw, body),
        *_stomach(draw, body, space),
        *_spleen(draw, body, space),
        *_liver(draw, body, space),
        *_vessels(draw, body),
        *_kidneys(draw, body),
    ]


def _organ(body: Build, hu: float, *, take: float = 1.0, spread: float = 6.0, channel: int = 14) -> Tissue:
    return Tissue(hu=hu + take * body.soft, spread=spread, length=8, channel=channel)


def _liver(draw: Draw, body: Build, space: Solid) -> list[Organ]:
    size = draw.between(0.93, 1.05)
    y, x = body.cavity
    right = Blob(centre=(-128, -4, -0.45 * x), semi=(88 * size, 0.84 * y, 0.53 * x), turn=0.15, power=2.4)
    left = Blob(centre=(-112, -0.42 * y, 6), semi=(52 * size, 0.36 * y, 0.42 * x), turn=-0.25)
    tissue = _organ(body, draw.between(50, 62))
    organs = [
        Organ(solid=Common(solids=(space, lobe)), tissue=tissue, inset=3.5, ragged=1.2, coarse=25)
        for lobe in (left, right)
    ]
    vein = Tissue(hu=body.blood if body.soft else body.blood - 2, spread=3, length=10, channel=3)
    root = (-140.0, -8.0, -28.0)
    for _ in range(16):
        way = (draw.between(-0.7, 0.9), draw.between(-0.9, 0.9), draw.between(-1.0, 0.1))
        organs.append(_branch(draw, root, way, vein))
    for _ in range(draw.whole(2, 7)):
        r = draw.between(2, 13)
        centre = (draw.between(-185, -70), draw.between(-0.55, 0.6) * y, draw.between(-0.8, -0.15) * x)
        change = draw.between(8, 30) * (-1 if draw.chance(0.8) else 1)
        ball = Common(solids=(space, right, Blob(centre=centre, semi=(r, r * draw.between(0.8, 1.2), r))))
        organs.append(
            Organ(solid=ball, tissue=_organ(body, tissue.hu - body.soft + change), inset=1, edge=1.5, ragged=0.1 * r)
        )
    bladder = Blob(centre=(-165, -0.35 * y, -0.28 * x), semi=(32, 14, 17), turn=0.5)
    return [
        *organs,
        Organ(solid=bladder, tissue=_organ(body, 35), inset=-1.5),
        Organ(solid=bladder, tissue=Tissue(hu=8, spread=3, length=8)),
    ]


def _branch(draw: Draw, root: Point, way: Point, tissue: Tissue) -> Organ:
    """Return a crooked vessel of the liver."""
    points, at = [root], root
    for _ in range(5):
        step = [12 * (w + draw.between(-0.35, 0.35)) for w in way]
        at = (at[0] + step[0], at[1] + step[1], at[2] + step[2])
        points.append(at)
    wide = draw.between(2.5, 5.5)
    return Organ(
        solid=Tube(points=tuple(points), radii=tuple(wide * 0.8**k for k in range(6))), tissue=tissue, edge=1.5
    )


def _spleen(draw: Draw, body: Build, space: Solid) -> list[Organ]:
    y, x = body.cavity
    spot = (-118 + draw.between(-10, 10), 0.38 * y, 0.70 * x)
    solid = Common(solids=(space, Blob(centre=spot, semi=(58, 0.52 * y, draw.between(24, 30)), turn=0.35, power=2.2)))
    return [Organ(solid=solid, tissue=_organ(body, 48, take=1.3, channel=15), inset=3.5, ragged=1.0)]


def _stomach(draw: Draw, body: Build, space: Solid) -> list[Organ]:
    y, x = body.cavity
    bag = Blob(
        centre=(-112, -0.12 * y, 0.46 * x),
        semi=(62, draw.between(0.5, 0.62) * y, draw.between(0.34, 0.42) * x),
        turn=-0.4,
    )
    solid = Common(solids=(space, bag))
    level = draw.between(-0.55, -0.3) * y
    food = Tissue(hu=draw.between(8, 40), spread=draw.between(4, 18), length=10, channel=16)
    gas = Common(solids=(solid, Below(level=level, front=True)))
    return [
        Organ(solid=solid, tissue=_organ(body, 40), inset=3.5, ragged=1.0),
        Organ(solid=solid, tissue=food, inset=7.5, ragged=1.6, coarse=9),
        Organ(solid=gas, tissue=_GAS, inset=8, ragged=0.8, coarse=9),
    ]


def _kidneys(draw: Draw, body: Build) -> list[Organ]:
    organs: list[Organ] = []
    for side in (-1, 1):
        z, x = (-190.0 if side > 0 else -204.0) + draw.between(-8, 8), side * draw.between(70, 78)
        y, turn = body.spine + draw.between(0, 8), side * 0.6
        whole = Blob(centre=(z, y, x), semi=(54, 25, 28), turn=turn)
        hollow = Blob(centre=(z, y - 4, x - side * 12), semi=(26, 9, 16), turn=turn)
        organs += [
            Organ(solid=whole, tissue=fat(9), inset=-8, ragged=1.5),
            Organ(solid=whole, tissue=_organ(body, 34, take=2.4, channel=17), ragged=0.8),
            Organ(solid=hollow, tissue=fat(9), ragged=1.6, coarse=7, edge=2),
            Organ(
                solid=Tube(points=((z, y - 4, x - side * 8), (z - 4, y - 16, side * 16.0)), radii=(4, 4.5)),
                tissue=blood(body),
            ),
        ]
        if draw.chance(0.4):
            r = draw.between(4, 14)
            ball = Blob(centre=(z + draw.between(-30, 30), y + draw.between(-8, 16), x + side * 16), semi=(r, r, r))
            organs.append(Organ(solid=ball, tissue=Tissue(hu=5, spread=3, length=8)))
    return organs


def _vessels(draw: Draw, body: Build) -> list[Organ]:
    """Return aorta, lower hollow vein, portal vein and pancreas."""
    y = body.spine - 28
    aorta: tuple[Point, ...] = ((-80, y + 10, 22), (-130, y + 2, 12), (-340, y + 2, 9))
    hollow: tuple[Point, ...] = ((-20, y - 14, -26), (-110, y - 6, -26), (-340, y + 3, -18))
    portal: tuple[Point, ...] = ((-170, y - 14, 2), (-150, y - 22, -20), (-140, -8, -40))
    gland: tuple[Point, ...] = ((-172, y - 22, -34), (-158, y - 34, -6), (-148, y - 26, 30), (-138, y - 6, 62))
    vein = Tissue(hu=0.85 * body.blood if body.soft else body.blood, spread=3, length=10, channel=3)
    return [
        Organ(
            solid=Tube(points=gland, radii=(13, 10, 10, 8), tall=1.2),
            tissue=_organ(body, 40, channel=18),
            ragged=1.8,
            coarse=6,
        ),
        Organ(solid=Tube(points=portal, radii=(6, 6.5, 6)), tissue=vein, edge=1.5),
        Organ(solid=Tube(points=hollow, radii=(12, 12, 10.5)), tissue=vein, edge=1.5, ragged=0.5),
        Organ(solid=Tube(points=aorta, radii=(11.5, 11, 9)), tissue=blood(body), edge=1.5),
    ]


def _behind(draw: Draw, body: Build) -> list[Organ]:
    """Return psoas and diaphragm crura beside the spine."""
    organs: list[Organ] = []
    for side in (-1, 1):
        points: tuple[Point, ...] = (
            (-150, body.spine, side * 22.0),
            (-220, body.spine + 6, side * 34.0),
            (-350, body.spine, side * 46.0),
        )
        organs.append(Organ(solid=Tube(points=points, radii=(4, 15, 24)), tissue=muscle(4), edge=1.5, ragged=0.8))
        crus: tuple[Point, ...] = ((-90, body.spine - 26, side * 14.0), (-200, body.spine - 14, side * 17.0))
        organs.append(Organ(solid=Tube(points=crus, radii=(4.5, 4.5)), tissue=muscle(), edge=1.5))
    return organs


def _bowel(draw: Draw, body: Build, space: Solid) -> list[Organ]:
    """Return loops of small bowel, the colon on both sides, and vessels in the fat between them."""
    y, x = body.cavity
    organs: list[Organ] = []
    for _ in range(230):
        turn = draw.between(0, 2 * math.pi)
        reach = math.sqrt(draw.between(0, 1)) * 0.8
        centre = (
            draw.between(-345, -165),
            (-0.28 + 0.58 * reach * math.sin(turn)) * y,
            0.8 * reach * math.cos(turn) * x,
        )
        organs += _loop(draw, body, space, centre, draw.between(10, 16), draw.between(-0.5, 0.5))
    for _ in range(60):
        start = (draw.between(-340, -140), draw.between(-0.7, 0.2) * y, draw.between(-0.6, 0.6) * x)
        way = draw.direction()
        end = tuple(s + 26 * w for s, w in zip(start, way, strict=True))
        rod = Tube(points=(start, (end[0], end[1], end[2])), radii=(1.4, 0.7))
        organs.append(Organ(solid=Common(solids=(space, rod)), tissue=blood(body), edge=0.8))
    for side in (-1, 1):
        for k in range(11):
            z = -330 + 17 * k
            centre = (float(z), (0.22 + draw.between(-0.04, 0.04)) * y, side * (0.74 + draw.between(-0.03, 0.03)) * x)
            organs += _loop(draw, body, space, centre, draw.between(16, 23), 0.0)
    return organs


def _loop(draw: Draw, body: Build, space: Solid, centre: Point, r: float, turn: float) -> list[Organ]:
    semi = (r * draw.between(1.0, 1.8), r, r * draw.between(0.9, 1.6))
    solid = Common(solids=(space, Blob(centre=centre, semi=semi, turn=turn * math.pi)))
    filling = Tissue(hu=draw.between(5, 45), spread=draw.between(5, 35), length=7, channel=19)
    organs = [
        Organ(solid=solid, tissue=_organ(body, 38, channel=18), inset=4, ragged=1.0),
        Organ(solid=solid, tissue=filling, inset=6.5, ragged=1.0, coarse=6),
    ]
    if draw.chance(0.3):
        gas = Common(solids=(solid, Below(level=centre[1] + draw.between(-0.5, 0.3) * r, front=True)))
        organs.append(Organ(solid=gas, tissue=_GAS, inset=6.5, ragged=0.6, coarse=6))
    return organs
