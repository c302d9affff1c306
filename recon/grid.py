"""The grid of voxels an image lives on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from recon import checks
from recon.errors import GeometryError


@dataclass(frozen=True, kw_only=True)
class VolumeGrid:
    """A box of voxels: shape counts, spacing steps, centre where it is; a 2-D image is one slice.

    Args:
        shape: number of voxels (z, y, x).
        spacing: step between voxel centres (z, y, x) in mm; one number for all three.
        centre: middle of the box (z, y, x) in mm; the rotation axis is at (·, 0, 0).

    Raises:
        GeometryError: a count below 1, or a spacing that is not a finite length above 0.
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
    centre: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        set_field = object.__setattr__
        set_field(self, "shape", checks.counts("shape", self.shape, 3, error=GeometryError))
        set_field(self, "spacing", checks.lengths("spacing", self.spacing, 3, error=GeometryError))
        set_field(self, "centre", checks.position("centre", self.centre, 3, error=GeometryError))

    @property
    def extent(self) -> tuple[float, float, float]:
        """Length of the box (z, y, x) in mm, from outer voxel face to outer voxel face."""
        z, y, x = (n * step for n, step in zip(self.shape, self.spacing, strict=True))
        return z, y, x

    def axes(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the voxel centres along z, y and x in mm (float64)."""
        z, y, x = (
            c + (torch.arange(n, dtype=torch.float64) - (n - 1) / 2) * step
            for n, step, c in zip(self.shape, self.spacing, self.centre, strict=True)
        )
        return z, y, x

    def to_index(self, points: Tensor) -> Tensor:
        """Turn positions (…, zyx) in mm into voxel indices (…, zyx); centres fall on whole numbers."""
        spacing, centre, shape = (points.new_tensor(triple) for triple in (self.spacing, self.centre, self.shape))
        return (points - centre) / spacing + (shape - 1) / 2

    def region(self, shape: Sequence[int], centre: Sequence[float]) -> "VolumeGrid":
        """Return a grid of the same spacing over another box: a region of interest."""
        return replace(self, shape=tuple(shape), centre=tuple(centre))  # type: ignore[arg-type]

    def resampled(self, spacing: float | Sequence[float]) -> "VolumeGrid":
        """Return a grid of another spacing that covers the same box, to half a voxel at each face."""
        steps = checks.lengths("spacing", spacing, 3, error=GeometryError)
        shape = tuple(max(1, round(length / step)) for length, step in zip(self.extent, steps, strict=True))
        return replace(self, shape=shape, spacing=steps)  # type: ignore[arg-type]
