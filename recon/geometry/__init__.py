"""Where rays run: parallel, fan, cone, helical and free geometries, and rigid poses."""

from recon.geometry.base import Detector, ScanGeometry
from recon.geometry.cone import ConeBeam
from recon.geometry.free import FreeBeam
from recon.geometry.parallel import ParallelBeam
from recon.geometry.pose import aligned_rays, moved_rays, rotation_matrices
from recon.geometry.presets import PRESETS, Preset, preset

__all__ = [
    "PRESETS",
    "ConeBeam",
    "Detector",
    "FreeBeam",
    "ParallelBeam",
    "Preset",
    "ScanGeometry",
    "aligned_rays",
    "moved_rays",
    "preset",
    "rotation_matrices",
]
