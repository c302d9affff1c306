"""Restoration and preparation of the projections themselves, before any image exists."""

from recon.sinogram.centre import find_centre, with_centre
from recon.sinogram.dose import noise_photons, reduce_dose
from recon.sinogram.preprocess import LineIntegrals, line_integrals

__all__ = ["LineIntegrals", "find_centre", "line_integrals", "noise_photons", "reduce_dose", "with_centre"]
