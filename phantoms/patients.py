"""Heads and chests that differ by seed: FORBILD figures, slightly varied, with lesions and vessels."""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from phantoms.forbild_body import LUNG_AT, LUNG_SEMI, thorax_shapes
from phantoms.forbild_head import BRAIN, head_shapes
from phantoms.phantom import Phantom
from phantoms.shapes import Axes, Cylinder, Ellipsoid, Shape
from recon.random import generator
from recon.units import WATER

_SOFT = 1.04  # nodules and vessels, relative to water


def thorax(*, seed: int | None = None, water: float = WATER) -> Phantom:
    """Make a chest: the FORBILD thorax, or one varied by a seed.

    With a seed the figure is scaled by up to 5 %, turned by up to 3 degrees and shifted by up to 5 mm, its densities
    vary by up to 1 % per tissue, and each lung gets 40 vessels and 6 to 12 round nodules of 2 to 8 mm. It stays a
    geometric figure: there is no texture and no organ that FORBILD lacks.

    Args:
        seed: what the variation is drawn from; None for the published figure.
        water: attenuation of water in 1/mm.

    Source:
        FORBILD thorax phantom; the variation is raymend's own.
    """
    shapes = thorax_shapes()
    if seed is None:
        return _patient(shapes, "thorax", water)
    rng = generator(seed)
    inside = [shape for side in (-1, 1) for shape in (*_vessels(rng, side), *_nodules(rng, side))]
    trunk = 5  # arms, trunk, lungs: what comes after them hides the vessels
    return _varied((*shapes[:trunk], *inside, *shapes[trunk:]), f"thorax, seed {seed}", water, rng)


def head(*, seed: int | None = None, water: float = WATER) -> Phantom:
    """Make a head: the FORBILD head, or one varied by a seed.

    With a seed the figure is scaled by up to 5 %, turned by up to 3 degrees and shifted by up to 5 mm, its densities
    vary by up to 1 % per tissue, and the brain gets 24 round lesions of 3 to 8 mm at -15 to 15 HU.

    Args:
        seed: what the variation is drawn from; None for the published figure.
        water: attenuation of water in 1/mm.

    Source:
        FORBILD head phantom; the variation is raymend's own.
    """
    shapes = head_shapes()
    if seed is None:
        return _patient(shapes, "head", water)
    rng = generator(seed)
    brain = 2  # skull and brain: ventricle, eyes and bones hide the lesions
    lesions = [_lesion(rng) for _ in range(24)]
    return _varied((*shapes[:brain], *lesions, *shapes[brain:]), f"head, seed {seed}", water, rng)


def _vessels(rng: torch.Generator, side: int) -> list[Shape]:
    """Draw thin rods from the root of a lung outwards, ending inside the lung."""
    z, y, x = (10 * value for value in reversed(LUNG_AT))
    root = torch.tensor([z, y, side * (x - 35)], dtype=torch.float64)
    vessels: list[Shape] = []
    for _ in range(40):
        end = _in_ellipsoid(rng, (z, y, side * x), [10 * s for s in reversed(LUNG_SEMI)], 0.85)
        way = end - root
        length, middle = float(way.norm()), (root + end) / 2
        width = _between(rng, 0.8, 2.5)
        axis = way / way.norm()
        vessels.append(
            Cylinder(
                density=_SOFT, centre=_triple(middle), axes=_frame(axis), semi=(width, width), length=max(length, 1.0)
            )
        )
    return vessels


def _nodules(rng: torch.Generator, side: int) -> list[Shape]:
    """Draw 6 to 12 balls inside a lung."""
    z, y, x = (10 * value for value in reversed(LUNG_AT))
    many = 6 + int(torch.randint(7, (1,), generator=rng))
    balls: list[Shape] = []
    for _ in range(many):
        centre = _in_ellipsoid(rng, (z, y, side * x), [10 * s for s in reversed(LUNG_SEMI)], 0.8)
        r = _between(rng, 2, 8)
        balls.append(Ellipsoid(density=_SOFT, centre=_triple(centre), semi=(r, r, r)))
    return balls


def _lesion(rng: torch.Generator) -> Shape:
    """Draw a ball inside the brain whose contrast is low."""
    centre = _in_ellipsoid(rng, (0, 0, 0), [119, 114, 90], 0.85)
    r, change = _between(rng, 3, 8), _between(rng, -0.015, 0.015)
    return Ellipsoid(density=BRAIN + change, centre=_triple(centre), semi=(r, r, r))


def _varied(shapes: Sequence[Shape], name: str, water: float, rng: torch.Generator) -> Phantom:
    """Scale, turn, shift and colour a figure a little."""
    tissues = {rho: 1 + _between(rng, -0.01, 0.01) for rho in sorted({shape.density for shape in shapes})}
    coloured = [replace(shape, density=shape.density * tissues[shape.density]) for shape in shapes]
    scale = 1 + _between(rng, -0.05, 0.05)
    turn = [math.radians(_between(rng, -3, 3)) for _ in range(3)]
    shift = [_between(rng, -5, 5) for _ in range(3)]
    figure = _patient(coloured, name, water).scaled(scale)
    return figure.moved((shift[0], shift[1], shift[2]), (turn[0], turn[1], turn[2]))


def _patient(shapes: Sequence[Shape], name: str, water: float) -> Phantom:
    return Phantom(shapes=tuple(replace(s, density=s.density * water) for s in shapes), name=name, water=water)


def _between(rng: torch.Generator, low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand(1, generator=rng, dtype=torch.float64))


def _in_ellipsoid(rng: torch.Generator, centre: Sequence[float], semi: Sequence[float], share: float) -> torch.Tensor:
    """Draw a point evenly within a share of an ellipsoid."""
    way = torch.randn(3, generator=rng, dtype=torch.float64)
    reach = share * _between(rng, 0, 1) ** (1 / 3)
    middle, sides = torch.tensor([list(centre), list(semi)], dtype=torch.float64)
    point: torch.Tensor = middle + way / way.norm() * reach * sides
    return point


def _frame(axis: torch.Tensor) -> Axes:
    """Complete a unit vector to three orthogonal ones."""
    other = torch.eye(3, dtype=torch.float64)[int(axis.abs().argmin())]
    y = torch.linalg.cross(axis, other)
    y = y / y.norm()
    return _triple(axis), _triple(y), _triple(torch.linalg.cross(axis, y))


def _triple(values: torch.Tensor) -> tuple[float, float, float]:
    z, y, x = values.tolist()
    return z, y, x
