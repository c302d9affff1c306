"""Reconstruct on pixels finer than the image's, and average: edges that pixels cannot follow leave no ripples."""

from dataclasses import replace

import torch
from torch import Tensor

from recon.field_of_view import pitch_at_axis
from recon.geometry import ScanGeometry
from recon.grid import VolumeGrid

_COARSE = 0.6  # of the detector's pitch at the axis, above which pixels are too coarse for what the data resolve


def usual(grid: VolumeGrid, geometry: ScanGeometry) -> int:
    """Return how many times finer than a grid to reconstruct: 2 for slices of coarse pixels, 1 for all else.

    Source:
        Zbijewski and Beekman 2004, Physics in Medicine and Biology 49(1): 145-157: edge artefacts of statistical
        reconstruction come from pixels that are too coarse, and go where these are half as wide.
    """
    coarse = grid.spacing[-1] > _COARSE * pitch_at_axis(geometry)[1]
    return 2 if grid.shape[0] == 1 and coarse else 1


def finer(grid: VolumeGrid, factor: int) -> VolumeGrid:
    """Divide the voxels of a grid along y and x."""
    (z, y, x), (dz, dy, dx) = grid.shape, grid.spacing
    return replace(grid, shape=(z, y * factor, x * factor), spacing=(dz, dy / factor, dx / factor))


def spread(image: Tensor, factor: int) -> Tensor:
    """Interpolate an image (..., z, y, x) linearly onto the finer grid."""
    if factor == 1:
        return image
    flat = image.reshape(-1, 1, *image.shape[-2:])
    out = torch.nn.functional.interpolate(flat, scale_factor=factor, mode="bilinear", align_corners=False)
    return out.reshape(*image.shape[:-2], *out.shape[-2:])


def averaged(image: Tensor, factor: int) -> Tensor:
    """Return the mean of the finer voxels in each voxel (..., z, y, x)."""
    if factor == 1:
        return image
    *rest, y, x = image.shape
    return image.reshape(*rest, y // factor, factor, x // factor, factor).mean((-3, -1))
