"""Derivatives with respect to the geometry."""

from torch import Tensor

from recon.errors import ResourceError
from recon.kernels.lines import Lines
from recon.kernels.maps import Maps


def ray_gradient(lines: Lines, volume: Tensor, projections: Tensor) -> Tensor:
    """Not built yet."""
    raise ResourceError("this version has no GPU kernel for gradients to the geometry")


def map_gradient(maps: Maps, values: Tensor, volume: Tensor) -> Tensor:
    """Not built yet."""
    raise ResourceError("this version has no GPU kernel for gradients to the geometry")
