"""Physics: from a scan's geometry to an image, and how to judge an image.

Attenuation is in 1/mm, lengths in mm, angles in rad; axes run slowest first, (z, y, x) and (view, row, column).
"""

import recon.threads  # noqa: F401 - before anything loads torch

# isort: split
from recon.analytic import fbp, fdk
from recon.errors import CTError, CTWarning, Status
from recon.field_of_view import default_grid, field_of_view
from recon.geometry import ConeBeam, Detector, FreeBeam, ParallelBeam, Preset, ScanGeometry, preset
from recon.grid import VolumeGrid
from recon.io import Volume, read_scan, read_volume, write_scan, write_volume
from recon.iterative import (
    Huber,
    LeastSquares,
    NonNegative,
    Quadratic,
    Solution,
    Stop,
    TotalVariation,
    cgls,
    fista_tv,
    os_sart,
    pwls,
    sirt,
    solve,
)
from recon.metrics import correlation, fsim, matthews, psnr, rmse, ssim
from recon.operators import Diagonal, Gradient, Identity, LinearOperator, Projector
from recon.scan import Calibration, Scan
from recon.sinogram import find_centre, line_integrals, noise_photons, reduce_dose, with_centre
from recon.statistics import log_bias, log_variance, noise_weights
from recon.units import WATER, to_hu, to_mu, water_attenuation

__all__ = [
    "WATER",
    "CTError",
    "CTWarning",
    "Calibration",
    "ConeBeam",
    "Detector",
    "Diagonal",
    "FreeBeam",
    "Gradient",
    "Huber",
    "Identity",
    "LeastSquares",
    "LinearOperator",
    "NonNegative",
    "ParallelBeam",
    "Preset",
    "Projector",
    "Quadratic",
    "Scan",
    "ScanGeometry",
    "Solution",
    "Status",
    "Stop",
    "TotalVariation",
    "Volume",
    "VolumeGrid",
    "cgls",
    "correlation",
    "default_grid",
    "fbp",
    "fdk",
    "field_of_view",
    "find_centre",
    "fista_tv",
    "fsim",
    "line_integrals",
    "log_bias",
    "log_variance",
    "matthews",
    "noise_photons",
    "noise_weights",
    "os_sart",
    "preset",
    "psnr",
    "pwls",
    "read_scan",
    "read_volume",
    "reduce_dose",
    "rmse",
    "sirt",
    "solve",
    "ssim",
    "to_hu",
    "to_mu",
    "water_attenuation",
    "with_centre",
    "write_scan",
    "write_volume",
]
