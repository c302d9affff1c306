"""Objects whose projections are known exactly, and simulated scans of them."""

import recon.threads  # noqa: F401 - before anything loads torch

# isort: split
from phantoms.dose import BowTie, Dose
from phantoms.library import (
    PHANTOMS,
    ball,
    contrast,
    disc,
    forbild_abdomen,
    forbild_head,
    forbild_thorax,
    phantom,
    resolution,
    shepp_logan,
)
from phantoms.patients import head, thorax
from phantoms.phantom import Phantom
from phantoms.shapes import Box, Cone, Cylinder, Ellipsoid, HalfSpace, Shape
from phantoms.simulate import simulate

__all__ = [
    "PHANTOMS",
    "BowTie",
    "Box",
    "Cone",
    "Cylinder",
    "Dose",
    "Ellipsoid",
    "HalfSpace",
    "Phantom",
    "Shape",
    "ball",
    "contrast",
    "disc",
    "forbild_abdomen",
    "forbild_head",
    "forbild_thorax",
    "head",
    "phantom",
    "resolution",
    "shepp_logan",
    "simulate",
    "thorax",
]
