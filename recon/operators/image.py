"""Operators on images: finite differences."""

from collections.abc import Sequence

import torch
from torch import Tensor

from recon import checks
from recon.errors import ShapeError
from recon.operators.linear import LinearOperator, Shape


class Gradient(LinearOperator):
    """Forward differences along z, y and x, zero at the far edge: (z, y, x) to (3, z, y, x).

    Differences are per voxel, or per mm if a spacing is given.
    """

    def __init__(self, shape: Sequence[int], spacing: Sequence[float] = (1.0, 1.0, 1.0)) -> None:
        self._shape = checks.counts("shape", shape, 3, error=ShapeError)
        self._spacing = checks.lengths("spacing", spacing, 3)

    @property
    def domain_shape(self) -> Shape:
        """An image (z, y, x)."""
        return self._shape

    @property
    def range_shape(self) -> Shape:
        """Three images, one per axis."""
        return len(self._shape), *self._shape

    def _forward(self, x: Tensor) -> Tensor:
        out = x.new_zeros(len(x), *self.range_shape)
        for axis, step in enumerate(self._spacing):
            n = self._shape[axis]
            out[:, axis].narrow(axis + 1, 0, n - 1).copy_(x.diff(dim=axis + 1) / step)
        return out

    def _adjoint(self, y: Tensor) -> Tensor:
        out = y.new_zeros(len(y), *self.domain_shape)
        for axis, step in enumerate(self._spacing):
            n = self._shape[axis]
            part = y[:, axis].narrow(axis + 1, 0, n - 1) / step
            out.narrow(axis + 1, 1, n - 1).add_(part)
            out.narrow(axis + 1, 0, n - 1).sub_(part)
        return out


def gradient_norm(shape: Sequence[int], spacing: Sequence[float] = (1.0, 1.0, 1.0)) -> float:
    """Bound the largest singular value of `Gradient`: each axis with two voxels or more adds 4 / step squared."""
    return float(
        torch.tensor([4 / step**2 for n, step in zip(shape, spacing, strict=True) if n > 1] or [0.0]).sum().sqrt()
    )
