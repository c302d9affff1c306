"""Objects whose projections are known exactly, and simulated scans of them."""

import recon.threads  # noqa: F401 - before anything loads torch

# isort: split
from phantoms.anatomy import ANATOMIES, Anatomy, anatomy
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
from phantoms.materials import MATERIALS, attenuation, attenuation_to_hu, hu_to_attenuation
from phantoms.patients import head, thorax
from phantoms.phantom import Phantom
from phantoms.shapes import Box, Cone, Cylinder, Ellipsoid, HalfSpace, Shape
from phantoms.simulate import simulate
from phantoms.spectrum import Spectrum
from phantoms.voxels import VolumeObject

__all__ = [
    "ANATOMIES",
    "MATERIALS",
    "PHANTOMS",
    "Anatomy",
    "BowTie",
    "Box",
    "Cone",
    "Cylinder",
    "Dose",
    "Ellipsoid",
    "HalfSpace",
    "Phantom",
    "Shape",
    "Spectrum",
    "VolumeObject",
    "anatomy",
    "attenuation",
    "attenuation_to_hu",
    "ball",
    "contrast",
    "disc",
    "forbild_abdomen",
    "forbild_head",
    "forbild_thorax",
    "head",
    "hu_to_attenuation",
    "phantom",
    "resolution",
    "shepp_logan",
    "simulate",
    "thorax",
]
