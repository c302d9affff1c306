"""The numbers of the FORBILD thorax and abdomen.

Source: FORBILD thorax phantom, and abdomen phantom (Schaller and Flohr 1999), University of Erlangen; positions in
cm. The ribs are written as the rule that the published table follows.
"""

import math
from typing import Final

from phantoms.forbild import (
    FEMUR_LIKE,
    LUNG,
    MARROW,
    RIB,
    SOFT,
    STERNUM,
    WATER,
    Clip,
    Triple,
    ball,
    block,
    ellipsoid,
    rod,
    vertebra,
)  # fmt: skip
from phantoms.shapes import Shape

LUNG_AT: Final = (10.5, 0.0, 0.0)
LUNG_SEMI: Final = (7.5, 5.5, 15.0)

RIB_ELLIPSE: Final[Triple] = (18.5, 9.0, -5.5)
RIB_HEIGHTS: Final = (0.0, 3.0, 6.0, -3.0, -6.0)
RIB_PIECES: Final = 9
RIB_STEP: Final = math.pi / 10

LIVER: Final = 1.06
LESION: Final = 1.05
# Rows of five lesions in the liver: y, distance along x, radius.
LESIONS: Final = (
    (1.2, 2.4, 0.6), (-0.6, 2.0, 0.5), (-2.1, 1.6, 0.4), (-3.3, 1.2, 0.3),
    (-4.2, 1.0, 0.25), (-4.95, 0.8, 0.2), (-5.55, 0.6, 0.15), (-6.0, 0.4, 0.1),
)  # fmt: skip
BAR: Final = 2.0


def thorax_shapes() -> tuple[Shape, ...]:
    """Return the solids in order, densities relative to water; the first five are arms, trunk and lungs."""
    spine = [shape for z in (15, 12, 9, 6, 3, 0, -3, -6) for shape in vertebra(-5, z, 2)]
    ribs = [shape for z in RIB_HEIGHTS for shape in _ribs(z)]
    return (*_trunk(), *spine, *ribs, *_shoulders())


def abdomen_shapes() -> tuple[Shape, ...]:
    """Return the solids in order, densities relative to water; the first two are trunk and liver."""
    spine = [shape for z in (-10, -5, 0, 5, 10) for shape in vertebra(-7, z, 4)]
    c60, s60 = math.cos(math.pi / 3), math.sin(math.pi / 3)
    return (
        rod((0, 0, 0), (20, 12), 100, WATER),
        ellipsoid((-10, 0, 0), (8, 7, 10), LIVER, a_x=(c60, s60, 0)),
        *spine,
        *(ball(-14 + k * step, y, z, r, LESION) for z in (0, 3) for y, step, r in LESIONS for k in range(5)),
        rod((0, 6, 0), (3, 2), 20, LIVER),
        rod((0, 6, 0), (3, 2), 20, 0.0, clips=(((0, -1, 0), -6.5),)),
        *(rod((x, 0, 0), (0.4, 0.4), 8, BAR, axis=(0, s60, c60)) for x in (-18, 18)),
        *(block((x + k / n, 1, 0), (0.5 / n, 1, 2), BAR) for x, n in ((12, 10), (14, 12)) for k in range(-3, 4)),
        *(block((x, -1 + k / n, 0), (1, 0.5 / n, 2), BAR) for x, n in ((12, 10), (14, 12)) for k in range(-3, 4)),
    )


def _trunk() -> tuple[Shape, ...]:
    x, y, z = LUNG_AT
    bent: Clip = ((3, 7, math.sqrt(58)), 2.982109)
    arch: Clip = ((1, 2, -math.sqrt(5)), -2.2393277)
    return (
        rod((-20, 0, 17.5), (5, 5), 15, WATER),
        rod((20, 0, 17.5), (5, 5), 15, WATER),
        rod((0, 0, 0), (20, 10), 50, WATER),
        ellipsoid((-x, y, z), LUNG_SEMI, LUNG),
        ellipsoid((x, y, z), LUNG_SEMI, LUNG),
        block((0, 9, 2.5), (2.5, 0.8, 25), STERNUM),
        block((0, 9, 2.5), (2.0, 0.5, 25), MARROW),
        ellipsoid((0, 4, 0), (3.5, 3.5, 3.5), SOFT),
        rod((-2.5, -2.5, 0), (1, 1), 30, SOFT, clips=(bent,)),
        rod((0.5, 4.5, 6), (1, 1), 6, SOFT, clips=(_beyond(arch),)),
        rod((-1, 1, 7.5), (1, 1), 22, SOFT, axis=(3, 7, 0), clips=(_beyond(bent), arch)),
    )


def _ribs(height: float) -> list[Shape]:
    """Return a pair of ribs: shell, then marrow, each of straight pieces that touch a tilted ellipse."""
    return [
        _rib_piece(k, side, height, radius, rho)
        for radius, rho in ((0.5, RIB), (0.4, MARROW))
        for side in (1, -1)
        for k in range(1, RIB_PIECES + 1)
    ]


def _rib_piece(k: int, side: int, height: float, radius: float, rho: float) -> Shape:
    a, b, c = RIB_ELLIPSE
    angle = k * RIB_STEP
    at = (side * a * math.sin(angle), b * math.cos(angle), c * math.cos(angle) + height)
    clips = (_corner(k + 0.5, side, height), _beyond(_corner(k - 0.5, side, height)))
    reach = math.hypot(a * math.cos(angle), b * math.sin(angle), c * math.sin(angle)) * math.tan(RIB_STEP / 2)
    length = 2 * (reach + radius)  # published as 10: the clips cut the same piece out of either
    return rod(at, (radius, radius), length, rho, axis=_along(angle, side), clips=clips)


def _corner(k: float, side: int, height: float) -> Clip:
    """Return the plane that halves the corner between two pieces; it keeps the side of the earlier piece."""
    a, b, c = RIB_ELLIPSE
    angle, out = k * RIB_STEP, 1 / math.cos(RIB_STEP / 2)
    one, two = _along(angle - RIB_STEP / 2, side), _along(angle + RIB_STEP / 2, side)
    normal = (one[0] + two[0], one[1] + two[1], one[2] + two[2])
    corner = (side * a * math.sin(angle) * out, b * math.cos(angle) * out, c * math.cos(angle) * out + height)
    return normal, sum(n * p for n, p in zip(normal, corner, strict=True)) / math.hypot(*normal)


def _along(angle: float, side: int) -> Triple:
    """Return the unit tangent of the rib's ellipse."""
    a, b, c = RIB_ELLIPSE
    way = (side * a * math.cos(angle), -b * math.sin(angle), -c * math.sin(angle))
    norm = math.hypot(*way)
    return way[0] / norm, way[1] / norm, way[2] / norm


def _shoulders() -> list[Shape]:
    sides = (-1, 1)
    low: tuple[Clip, ...] = (((0, 0, 1), 15),)
    clavicles = [
        rod((side * 10, 5.5, 16), (r, r), length, rho, axis=(20, -side * 9, side * 2))
        for length, r, rho in ((17, 0.5, FEMUR_LIKE), (16.5, 0.4, MARROW))
        for side in sides
    ]
    blades = [
        ellipsoid((side * 12, -5, 15), semi, rho, a_x=(2, side, 0), clips=low)
        for semi, rho in (((4.5, 0.5, 6), FEMUR_LIKE), ((4, 0.4, 5.5), MARROW))
        for side in sides
    ]
    layers = ((2.5, FEMUR_LIKE), (2, MARROW))
    heads = [ball(side * x, 0, 15, r, rho) for x in (22, 16.5) for r, rho in layers for side in sides]
    return [*clavicles, *blades, *heads]


def _beyond(clip: Clip) -> Clip:
    """Return the other side of a clip."""
    (nx, ny, nz), most = clip
    return (-nx, -ny, -nz), -most
