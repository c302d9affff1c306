"""Phantoms by name, at human size, attenuations in 1/mm."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from phantoms.forbild_body import abdomen_shapes, thorax_shapes
from phantoms.forbild_head import head_shapes
from phantoms.patients import head, thorax
from phantoms.phantom import Phantom
from phantoms.shapes import Axes, Box, Cylinder, Ellipsoid, Shape
from recon import checks
from recon.errors import ConfigError
from recon.units import WATER

# Half axes x, y, z; centre x, y (up), z; turn in degrees; the 1974 and the high-contrast value. On [-1, 1]³.
_SHEPP_LOGAN: Final = (
    (0.69, 0.92, 0.81, 0.0, 0.0, 0.0, 0, 2.0, 1.0),
    (0.6624, 0.874, 0.78, 0.0, -0.0184, 0.0, 0, -0.98, -0.8),
    (0.11, 0.31, 0.22, 0.22, 0.0, 0.0, -18, -0.02, -0.2),
    (0.16, 0.41, 0.28, -0.22, 0.0, 0.0, 18, -0.02, -0.2),
    (0.21, 0.25, 0.41, 0.0, 0.35, -0.15, 0, 0.01, 0.1),
    (0.046, 0.046, 0.05, 0.0, 0.1, 0.25, 0, 0.01, 0.1),
    (0.046, 0.046, 0.05, 0.0, -0.1, 0.25, 0, 0.01, 0.1),
    (0.046, 0.023, 0.05, -0.08, -0.605, 0.0, 0, 0.01, 0.1),
    (0.023, 0.023, 0.02, 0.0, -0.606, 0.0, 0, 0.01, 0.1),
    (0.023, 0.046, 0.02, 0.06, -0.605, 0.0, 0, 0.01, 0.1),
)
SHEPP_LOGAN_KINDS: Final = ("high-contrast", "1974")


def shepp_logan(
    kind: str = "high-contrast", *, dimensions: int = 2, size: float = 200.0, water: float = WATER
) -> Phantom:
    """Make the Shepp-Logan head; the forehead is at the front (-y), value 1 is water.

    Args:
        kind: "1974" as published (skull 2, brain 1.02), or "high-contrast" (skull 1, brain 0.2).
        dimensions: 2 for ellipses without end along z, 3 for ellipsoids.
        size: side in mm of the square that the published table calls -1 to 1; the head is 0.69 × 0.92 of it.
        water: attenuation in 1/mm that stands for the value 1.

    Raises:
        ConfigError: an unknown kind, or dimensions other than 2 and 3.

    Source:
        Shepp and Logan 1974, IEEE TNS 21: 21-43; Toft 1996, PhD thesis, appendix B (high contrast). In 3-D the
        in-plane numbers stay; depths and heights are those of the widespread 3-D extension (Schabel, phantom3d),
        without its extra 10 degrees, so that several small features lie off the middle slice.
    """
    column = 7 if checks.choice("kind", kind, SHEPP_LOGAN_KINDS) == "1974" else 8
    if dimensions not in (2, 3):
        raise ConfigError(f"dimensions: expected 2 or 3, got {dimensions!r}")
    half = checks.positive("size", size) / 2
    shapes = tuple(_table_ellipse(row, row[column] * water, half, dimensions) for row in _SHEPP_LOGAN)
    return Phantom(shapes=shapes, rule="additive", name=f"Shepp-Logan {kind} {dimensions}-D", water=water)


def forbild_head(*, water: float = WATER) -> Phantom:
    """Make the FORBILD head: 479 solids, with the inner ear on the right of the picture and a fine pattern on the left.

    Source:
        FORBILD head phantom, University of Erlangen; see `phantoms.forbild` for the axes.
    """
    return _relative(head_shapes(), "FORBILD head", water)


def forbild_thorax(*, water: float = WATER) -> Phantom:
    """Make the FORBILD thorax with ribs, spine and shoulders: 271 solids.

    Source:
        FORBILD thorax phantom, University of Erlangen; see `phantoms.forbild` for the axes.
    """
    return _relative(thorax_shapes(), "FORBILD thorax", water)


def forbild_abdomen(*, water: float = WATER) -> Phantom:
    """Make the FORBILD abdomen with liver lesions and bar patterns: 154 solids.

    Source:
        FORBILD abdomen phantom, Schaller and Flohr 1999; see `phantoms.forbild` for the axes.
    """
    return _relative(abdomen_shapes(), "FORBILD abdomen", water)


def ball(radius: float = 100.0, *, density: float = WATER, centre: tuple[float, float, float] = (0, 0, 0)) -> Phantom:
    """Make a ball: radius in mm, attenuation in 1/mm."""
    shape = Ellipsoid(density=density, centre=centre, semi=(radius, radius, radius))
    return Phantom(shapes=(shape,), name="ball")


def disc(radius: float = 100.0, *, density: float = WATER, centre: tuple[float, float] = (0, 0)) -> Phantom:
    """Make a disc, a cylinder without end along z: radius and centre (y, x) in mm, attenuation in 1/mm."""
    return Phantom(shapes=(_pin(*centre, radius, density),), name="disc")


def resolution(
    line_pairs: Sequence[float] = (1, 2, 3, 4, 5, 6, 8, 10),
    *,
    radius: float = 100.0,
    length: float = 15.0,
    contrast: float = 1000.0,
    water: float = WATER,
) -> Phantom:
    """Make a water disc with groups of five bars, without end along z, and a thin wire in the middle.

    Args:
        line_pairs: line pairs per cm of each group; the groups stand on a circle from +x on, counter-clockwise
            seen from +z, each with its bars pointing outwards.
        radius: of the disc in mm; the groups stand at 0.6 of it.
        length: of the bars in mm.
        contrast: of bars and wire in HU above water.
        water: attenuation in 1/mm.

    Raises:
        ConfigError: a frequency that is not above 0.
    """
    bars: list[Shape] = [_pin(0, 0, radius, water)]
    material = water * (1 + contrast / 1000)
    for k, pairs in enumerate(line_pairs):
        width = 5 / checks.positive("line_pairs", pairs, unit="1/cm")
        group = [
            Box(density=material, centre=(0, 2 * i * width, 0.6 * radius), size=(math.inf, width, length))
            for i in range(-2, 3)
        ]
        bars += [bar.moved(turn=(2 * math.pi * k / len(line_pairs), 0, 0)) for bar in group]
    bars.append(_pin(0, 0, 0.1, material))
    return Phantom(shapes=tuple(bars), name="resolution", water=water)


def contrast(
    levels: Sequence[float] = (3, 5, 10, 20, -20, -10, -5, -3),
    *,
    radii: Sequence[float] = (8.0, 5.0, 3.0, 2.0),
    radius: float = 100.0,
    water: float = WATER,
) -> Phantom:
    """Make a water disc with round inserts, without end along z, one spoke per contrast.

    Args:
        levels: contrast of each spoke in HU; the spokes start at +x, counter-clockwise seen from +z.
        radii: of a spoke's inserts in mm, the outermost first.
        radius: of the disc in mm.
        water: attenuation in 1/mm.

    Raises:
        ConfigError: inserts that do not fit into the disc.
    """
    places = _along_spoke(radii, radius, len(levels))
    pins: list[Shape] = [_pin(0, 0, radius, water)]
    for k, level in enumerate(levels):
        angle = 2 * math.pi * k / len(levels)
        for at, r in zip(places, radii, strict=True):
            pins.append(_pin(at * math.sin(angle), at * math.cos(angle), r, water * (1 + level / 1000)))
    return Phantom(shapes=tuple(pins), name="contrast", water=water)


def _along_spoke(radii: Sequence[float], radius: float, spokes: int) -> list[float]:
    """Place inserts from the rim inwards, half the largest apart; refuse those that touch another spoke."""
    gap, at, places = max(radii) / 2, radius, []
    for r in radii:
        at -= gap + 2 * r
        places.append(at + r)
    apart = [place * math.sin(min(math.pi / 2, math.pi / spokes)) for place in places]
    if any(room <= r for room, r in zip(apart, radii, strict=True)):
        raise ConfigError(
            f"radii, levels: expected inserts that fit into {radius:g} mm, got {list(radii)} mm on {spokes} spokes; "
            "make them smaller or fewer"
        )
    return places


def _pin(y: float, x: float, radius: float, density: float) -> Cylinder:
    return Cylinder(density=density, centre=(0, y, x), semi=(radius, radius))


def _relative(shapes: Sequence[Shape], name: str, water: float) -> Phantom:
    """Turn densities relative to water into attenuations."""
    return Phantom(shapes=tuple(replace(s, density=s.density * water) for s in shapes), name=name, water=water)


def _table_ellipse(row: Sequence[float], density: float, half: float, dimensions: int) -> Shape:
    """Make an ellipse of the table, whose y points up, in our world, whose y points down."""
    a, b, c, x, y, z, degrees = row[:7]
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    axes: Axes = ((1, 0, 0), (0, cos, sin), (0, -sin, cos))
    if dimensions == 2:
        return Cylinder(density=density, centre=(0, -y * half, x * half), axes=axes, semi=(b * half, a * half))
    semi = (c * half, b * half, a * half)
    return Ellipsoid(density=density, centre=(z * half, -y * half, x * half), axes=axes, semi=semi)


#: Makers of phantoms by name; each can be called without arguments.
PHANTOMS: Final[dict[str, Callable[..., Phantom]]] = {
    "shepp-logan": shepp_logan,
    "forbild-head": forbild_head,
    "forbild-thorax": forbild_thorax,
    "forbild-abdomen": forbild_abdomen,
    "head": head,
    "thorax": thorax,
    "ball": ball,
    "disc": disc,
    "resolution": resolution,
    "contrast": contrast,
}


def phantom(name: str, **settings: object) -> Phantom:
    """Make a phantom by name.

    Args:
        name: one of `PHANTOMS`.
        settings: arguments of its maker.

    Raises:
        ConfigError: the name is not known.
    """
    return PHANTOMS[checks.choice("phantom", name, tuple(PHANTOMS))](**settings)
