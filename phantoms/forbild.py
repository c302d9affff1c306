"""FORBILD building blocks: published coordinates (cm; x right, y up, z towards the viewer or head) as our solids.

The published y points to the front of the patient and ours to the back: y changes sign, so that a picture with its
first row on top looks as published. Later solids hide earlier ones, which makes the published unions superfluous.
"""

import math
from typing import Final

from phantoms.shapes import Axes, Box, Cone, Cylinder, Ellipsoid, HalfSpace, Shape

Triple = tuple[float, float, float]
Clip = tuple[Triple, float]  # normal of any length (x, y, z), and the most the coordinate along it may be, in cm

# Densities relative to water, from the published table of tissues.
WATER: Final = 1.0
LUNG: Final = 0.26
MARROW: Final = 0.98
SOFT: Final = 1.05  # heart, aorta, liver
SPONGIOSA: Final = 1.18
STERNUM: Final = 1.25
RIB: Final = 1.41
FEMUR_LIKE: Final = 1.46  # clavicle, shoulder blade, humerus
CORTICAL: Final = 1.92

_X: Final[Triple] = (1.0, 0.0, 0.0)
_Y: Final[Triple] = (0.0, 1.0, 0.0)
_Z: Final[Triple] = (0.0, 0.0, 1.0)


def ball(x: float, y: float, z: float, r: float, rho: float) -> Shape:
    """Make a sphere."""
    return Ellipsoid(density=rho, centre=_at((x, y, z)), semi=(10 * r, 10 * r, 10 * r))


def ellipsoid(
    at: Triple, semi: Triple, rho: float, *, a_x: Triple = _X, a_z: Triple = _Z, clips: tuple[Clip, ...] = ()
) -> Shape:
    """Make an ellipsoid from its half axes along a_x, across both, and along a_z."""
    axes = _axes(a_x, _across(a_z, a_x))
    dx, dy, dz = semi
    return Ellipsoid(density=rho, centre=_at(at), axes=axes, semi=(10 * dz, 10 * dy, 10 * dx), clips=_planes(clips))


def rod(
    at: Triple, semi: tuple[float, float], length: float, rho: float, *, axis: Triple = _Z, a_x: Triple | None = None,
    clips: tuple[Clip, ...] = (),
) -> Shape:  # fmt: skip
    """Make an elliptic cylinder with half axes along a_x and across it."""
    a_x = a_x or _any_across(axis)
    axes = _axes(a_x, _across(axis, a_x))
    dx, dy = semi
    return Cylinder(
        density=rho, centre=_at(at), axes=axes, semi=(10 * dy, 10 * dx), length=10 * length, clips=_planes(clips)
    )


def block(at: Triple, size: Triple, rho: float, clips: tuple[Clip, ...] = ()) -> Shape:
    """Make an upright box from its sides."""
    dx, dy, dz = size
    return Box(density=rho, centre=_at(at), size=(10 * dz, 10 * dy, 10 * dx), clips=_planes(clips))


def cone_along_y(at: Triple, radii: tuple[float, float], length: float, rho: float) -> Shape:
    """Make a cone whose radius goes from the first (low y) to the second (high y)."""
    low, high = radii
    upwards = (_turned(_Y), _turned(_Z), _turned(_X))
    return Cone(
        density=rho, centre=_at(at), axes=upwards, semi=(10 * low, 10 * low), tip=high / low, length=10 * length
    )


def vertebra(y: float, z: float, height: float) -> tuple[Shape, ...]:
    """Make a vertebra whose body has its middle at (0, y, z)."""
    root = math.sqrt(1.3725)
    wing = 4 - root

    def through(normal: Triple, x0: float, y0: float) -> Clip:
        return normal, (normal[0] * x0 + normal[1] * y0) / math.hypot(*normal)

    def beyond(normal: Triple, x0: float, y0: float) -> Clip:
        (nx, ny, nz), offset = through(normal, x0, y0)
        return (-nx, -ny, -nz), -offset

    def part(dy: float, size: tuple[float, float], clips: tuple[Clip, ...] = (), x: float = 0.0) -> Shape:
        return block((x, y + dy, z), (*size, height), CORTICAL, clips)

    return (
        rod((0, y, z), (1.75, 1.75), height, CORTICAL, clips=(beyond(_Y, 0, y - 1.35),)),
        part(-1.4, (2 * root, 0.2)),
        rod((0, y, z), (1.5, 1.5), height, SPONGIOSA),
        part(-1.975, (4, 0.95), (through((-0.95, wing, 0), -4, y - 2.45), beyond((-2, 32, 0), -4, y - 2.45)), x=-2),
        part(-1.975, (4, 0.95), (through((0.95, wing, 0), 4, y - 2.45), beyond((2, 32, 0), 4, y - 2.45)), x=2),
        part(-2.35, (1.6, 0.3), (beyond((-2, 4, 0), 0.4, y - 2.45), through((-2, -4, 0), -0.4, y - 2.45))),
        rod((0, y - 4.05, z), (0.4, 0.4), height, CORTICAL, clips=((_Y, y - 4.05),)),
        part(-3.25, (0.8, 1.6)),
    )


def _at(point: Triple) -> Triple:
    """Turn a published position (x, y, z) in cm into ours (z, y, x) in mm."""
    x, y, z = point
    return 10 * z, -10 * y, 10 * x


def _turned(direction: Triple) -> Triple:
    """Turn a published direction into ours, of length 1."""
    x, y, z = direction
    norm = math.hypot(x, y, z)
    return z / norm, -y / norm, x / norm


def _axes(a_x: Triple, a_y: Triple) -> Axes:
    return _turned(_across(a_x, a_y)), _turned(a_y), _turned(a_x)


def _planes(clips: tuple[Clip, ...]) -> tuple[HalfSpace, ...]:
    return tuple(HalfSpace(normal=_turned(normal), offset=10 * most) for normal, most in clips)


def _across(a: Triple, b: Triple) -> Triple:
    """Return the cross product."""
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


def _any_across(axis: Triple) -> Triple:
    """Return a direction at right angles to an axis: it does not matter which for a round rod."""
    return _across(axis, _Z) if axis[:2] != (0.0, 0.0) else _X
