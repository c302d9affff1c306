"""Voxel-driven backprojection and its transpose."""

import torch
from torch import Tensor

from recon.errors import ResourceError
from recon.kernels import forms
from recon.kernels.gpu import steady
from recon.kernels.gpu.shadow_tables import half_factor
from recon.kernels.maps import Maps

_FEWEST_SLICES = 16  # that fill enough lanes along z


def backproject(maps: Maps, values: Tensor, precision: str = "single") -> Tensor:
    """Sum projections (batch, view, row, column) read at each voxel's shadow: (batch, z, y, x)."""
    values = values.detach()
    half = precision == "half" and values.dtype == torch.float32
    storage, factor = (torch.float16, half_factor(values)) if half else (values.dtype, None)
    out = steady.backproject(maps, values, storage, factor)
    return out if factor is None else out.div_(factor)


def backproject_adjoint(maps: Maps, volume: Tensor) -> Tensor:
    """Not built yet."""
    raise ResourceError("this version has no GPU kernel for the transpose of backprojection")
