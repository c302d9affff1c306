"""Voxel-driven backprojection and its transpose."""

from torch import Tensor

from recon.errors import ResourceError
from recon.kernels.maps import Maps


def backproject(maps: Maps, values: Tensor, precision: str = "single") -> Tensor:
    """Not built yet."""
    raise ResourceError("this version has no GPU kernel for backprojection")


def backproject_adjoint(maps: Maps, volume: Tensor) -> Tensor:
    """Not built yet."""
    raise ResourceError("this version has no GPU kernel for the transpose of backprojection")
