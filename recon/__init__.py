"""Physics: from a scan's geometry to an image, and how to judge an image.

Attenuation is in 1/mm, lengths in mm, angles in rad; axes run slowest first, (z, y, x) and (view, row, column).
"""

from recon.analytic import fbp, fdk
from recon.errors import CTError, CTWarning, Status
from recon.field_of_view import default_grid, field_of_view
from recon.geometry import ConeBeam, Detector, FreeBeam, ParallelBeam, ScanGeometry, preset
from recon.grid import VolumeGrid
from recon.operators import Diagonal, Gradient, Identity, LinearOperator, Projector
from recon.scan import Calibration, Scan
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
    "Identity",
    "LinearOperator",
    "ParallelBeam",
    "Projector",
    "Scan",
    "ScanGeometry",
    "Status",
    "VolumeGrid",
    "default_grid",
    "fbp",
    "fdk",
    "field_of_view",
    "preset",
    "to_hu",
    "to_mu",
    "water_attenuation",
]
