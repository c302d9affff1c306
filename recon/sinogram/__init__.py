"""Restoration and preparation of the projections themselves, before any image exists."""

from recon.sinogram.centre import find_centre, with_centre
from recon.sinogram.dose import noise_photons, reduce_dose
from recon.sinogram.preprocess import LineIntegrals, line_integrals
from recon.sinogram.restore import Restored, restore
from recon.sinogram.restorers import SPAD, TV, Gibbs, PeronaMalik, Restorer
from recon.sinogram.variance import variance

__all__ = [
    "SPAD",
    "TV",
    "Gibbs",
    "LineIntegrals",
    "PeronaMalik",
    "Restored",
    "Restorer",
    "find_centre",
    "line_integrals",
    "noise_photons",
    "reduce_dose",
    "restore",
    "variance",
    "with_centre",
]
