"""A volume as files hold it: values, where they are, and their unit."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recon import checks, memory
from recon.errors import FormatError, ShapeError
from recon.grid import VolumeGrid

UNITS = ("HU", "1/mm", "unknown")
_EXACT = 1 << 24  # whole numbers up to here are exact in float32


@dataclass(frozen=True, kw_only=True, eq=False)
class Volume:
    """An image with its grid and unit.

    Args:
        values: (z, y, x), float32 or float64.
        grid: where the voxels are; positions are those of the file, which for patients need not be the rotation axis.
        unit: "HU", "1/mm" or "unknown".

    Raises:
        ShapeError: values that do not fit the grid.
        ConfigError: another unit.
    """

    values: Tensor
    grid: VolumeGrid
    unit: str = "unknown"

    def __post_init__(self) -> None:
        checks.choice("unit", self.unit, UNITS)
        checks.shaped("values", checks.floating("values", self.values), self.grid.shape, "z, y, x")
        if self.values.ndim != 3:
            raise ShapeError(f"values: expected (z, y, x) = {self.grid.shape}, got {tuple(self.values.shape)}")


def as_float32(where: str, array: NDArray[np.generic]) -> Tensor:
    """Convert stored numbers to a float32 tensor of its own; refuse what float32 cannot hold.

    Raises:
        FormatError: complex numbers, text or records, or whole numbers beyond 2^24.
    """
    if array.dtype.kind not in "biuf":
        raise FormatError(f"{where}: expected real numbers, got {array.dtype}; store magnitudes as float32")
    if array.dtype.kind in "iu" and array.size and max(abs(int(array.min())), abs(int(array.max()))) > _EXACT:
        raise FormatError(
            f"{where}: expected whole numbers up to 2^24, got {array.min()} to {array.max()}; store float32"
        )
    return torch.from_numpy(np.array(array, dtype=np.float32, order="C"))


def pieces(values: Tensor) -> Iterator[memoryview]:
    """Yield a tensor as little-endian float32, some slices at a time."""
    for part in memory.parts(values.shape):
        yield np.ascontiguousarray(values[part].detach().cpu().numpy(), dtype="<f4").data
