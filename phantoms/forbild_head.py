"""The numbers of the FORBILD head: skull, brain, eyes, sinus, bones, an inner ear and a resolution pattern.

Source: FORBILD head phantom (Lauritsch and Bruder, University of Erlangen), 3-D version; positions in cm.
"""

import math
from typing import Final

from phantoms.forbild import ball, cone_along_y, ellipsoid, rod
from phantoms.shapes import Shape

BONE: Final = 1.8
BRAIN: Final = 1.05

# Pattern on the left: sides along y and z, and how far the groups stand apart.
PATTERN_AT: Final = (-7.0, -1.0, 0.0)
PATTERN_GAP: Final = 0.04
PATTERN_ACROSS: Final = (0.0357, 0.0312, 0.0278, 0.0250)
PATTERN_ALONG: Final = (0.4, 0.2, 0.1, 0.05)

# Air holes of the inner ear in a row along x, by the row's distance from the middle along y and z (in rows).
EAR_HOLES: Final = ((9, 8, 8, 6), (8, 8, 7, 6), (8, 7, 7, 5), (6, 6, 5, 4))
EAR_RADIUS: Final = 0.15
EAR_STEP: Final = 0.2  # half the distance of neighbouring holes


def head_shapes() -> tuple[Shape, ...]:
    """Return the solids in order, densities relative to water; the first four fill skull, brain, ventricle, sinus."""
    return (*_skull(), *_bones(), *_ear(), *_pattern())


def _skull() -> tuple[Shape, ...]:
    return (
        ellipsoid((0, 0, 0), (9.6, 12, 12.5), BONE),
        ellipsoid((0, 0, 0), (9.0, 11.4, 11.9), BRAIN),
        ellipsoid((0, -3.6, 0), (1.8, 3.6, 3.6), 1.045),
        ellipsoid((0, 8.4, 0), (1.8, 3.0, 3.0), 0.0),
        ball(-4.7, 4.3, 0.872, 2.0, 1.06),
        ball(4.7, 4.3, 0.872, 2.0, 1.06),
        ball(-1.08, -9, 0, 0.4, 1.0525),
        ball(1.08, -9, 0, 0.4, 1.0475),
    )


def _bones() -> tuple[Shape, ...]:
    c15, s15, c30, s30 = (f(math.radians(a)) for a in (15, 30) for f in (math.cos, math.sin))
    c58, s58 = math.cos(math.radians(58.1)), math.sin(math.radians(58.1))
    return (
        rod((0, 3.6, 0), (1.2, 4.0), 0.5 * c15, BONE, axis=(0, -c30, s30), a_x=(1, 0, 0)),
        rod((0, 9.6, 0), (0.525561, 2.0), 0.4, BONE, axis=(1, 0, 0), a_x=(0, c30, s30)),
        ellipsoid(
            (-1.9, 5.4, 0), (1.206483 * c15, 0.420276 * c15, 3), BONE, a_x=(-c15 / 2, c30, s15 / 2), a_z=(s15, 0, c15)
        ),
        ellipsoid((1.9, 5.4, 0), (1.2 * c15, 0.42 * c15, 3), BONE, a_x=(c15 / 2, c30, s15 / 2), a_z=(-s15, 0, c15)),
        rod((-4.3, 6.8, -1), (1.8, 0.24), 4.0, BONE, a_x=(-c30, s30, 0)),
        rod((4.3, 6.8, -1), (1.8, 0.24), 4.0, BONE, a_x=(c30, s30, 0)),
        ellipsoid((6.393945, -6.393945, 0), (1.2, 0.42, 1.2), 1.055, a_x=(c58, s58, 0)),
        cone_along_y((0, -11.15, -0.2), (0.5, 0.2), 1.5, BONE),
        cone_along_y((0, -11.15, 0.2), (0.5, 0.2), 1.5, BONE),
    )


def _ear() -> list[Shape]:
    """Return the petrous bone and its air holes, which stand in a staggered lattice."""
    shapes = [ellipsoid((9.1, 0, 0), (4.2, 1.8, 1.8), BONE, clips=(((1, 0, 0), 9.1),))]
    row = EAR_STEP * math.sqrt(3)
    for j in range(-3, 4):
        for i in range(-3, 4):
            first = 8.8 - EAR_STEP * ((i + j) % 2)
            places = [first - 2 * EAR_STEP * k for k in range(EAR_HOLES[abs(j)][abs(i)])]
            shapes += [ball(x, i * row, j * row, EAR_RADIUS, 0.0) for x in places]
    return shapes


def _pattern() -> list[Shape]:
    """Return bone beads in rows along y and z, of four widths (columns along x) and four heights (along y)."""
    x0, y0, z0 = PATTERN_AT
    shapes = []
    for i, across in enumerate(PATTERN_ACROSS):
        for j, along in enumerate(PATTERN_ALONG):
            x, y = x0 + 2 * i * PATTERN_GAP, y0 + 12 * j * PATTERN_GAP
            places = [(y + 2 * k * across, z0) for k in range(5)] + [(y, z0 + 2 * k * along) for k in range(1, 5)]
            shapes += [ellipsoid((x, py, pz), (across / 2, across / 2, along / 2), BONE) for py, pz in places]
    return shapes
