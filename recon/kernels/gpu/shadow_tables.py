"""What kernels of shadows load: tables of the maps, counted from the middle, and projections framed by zeros."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from recon.kernels.gpu.launch import cdiv
from recon.kernels.maps import Maps
from recon.kernels.plans import Kept

Images = Callable[[slice], Tensor]  # of some views: (image, view, column)

WIDTH = 16  # numbers per view of a table
FRONT = 2  # zeros before the first row or column; two more follow the last
_ALIGNED = 32  # numbers in a cache line
_MOST_BYTES = 256 * 2**20  # of framed projections, and of what a table holds


@dataclass(frozen=True)
class Middle:
    """Where a table counts from: the middle voxel, and the place half a pixel beyond a whole row and column.

    Rounding a place to the nearest whole number then gives the first of the two rows, or columns, around it.
    """

    voxel: tuple[float, float, float]
    row: int
    column: int

    @staticmethod
    def of(maps: Maps) -> "Middle":
        """Return the middle of a grid and of a detector."""
        z, y, x = maps.grid_shape
        return Middle(((z - 1) / 2, (y - 1) / 2, (x - 1) / 2), maps.detector_shape[0] // 2, maps.detector_shape[1] // 2)


def centred(maps: Maps) -> Tensor:
    """Return (view, WIDTH) numbers in float64: three affine functions of (z, y, x, 1), and what an arc adds.

    Flat: row = a / w and column = b / w. Arc: row = a / hypot(b, c) + number 12 and column = atan2(b, c) · number 13
    + number 14. Voxels, rows and columns are counted from the `Middle`.
    """
    middle = Middle.of(maps)
    table = maps.matrices.new_zeros(len(maps.matrices), WIDTH)
    matrices = maps.matrices.clone()
    matrices[:, :, 3] += matrices[:, :, :3] @ torch.tensor(middle.voxel, dtype=torch.float64)
    if not maps.arc:
        matrices[:, 0] -= (middle.row + 0.5) * matrices[:, 2]
        matrices[:, 1] -= (middle.column + 0.5) * matrices[:, 2]
    table[:, :12] = matrices.flatten(1)
    table[:, 12] = maps.shift - middle.row - 0.5
    table[:, 13] = maps.scale
    table[:, 14] = maps.middle - middle.column - 0.5
    return table


def _table(maps: Maps, device: torch.device, dtype: torch.dtype) -> Tensor:
    return centred(maps).to(dtype).to(device)


table = Kept(_table)


def limits(count: int) -> tuple[float, float]:
    """Return places among the zeros on both sides of so many rows or columns, counted from the `Middle`.

    Whatever is read there is zero even if the share is that of a place further out.
    """
    return -2.25 - count // 2, count - 0.25 - count // 2


def pitch(count: int) -> int:
    """Return how long a framed line of so many rows or columns is."""
    return cdiv(count + 2 * FRONT, _ALIGNED) * _ALIGNED


def chunks(views: int, bytes_per_view: int) -> list[slice]:
    """Cut views into pieces for which framed projections and tables stay small."""
    step = max(1, _MOST_BYTES // max(1, bytes_per_view))
    return [slice(begin, min(begin + step, views)) for begin in range(0, views, step)]


def framed(images: Tensor, dtype: torch.dtype, factor: Tensor | None) -> Tensor:
    """Frame images (view, line, place) by zeros and lengthen lines to their pitch, in units of a factor."""
    views, lines, places = images.shape
    out = images.new_zeros(views, lines + 2 * FRONT, pitch(places), dtype=dtype)
    out[:, FRONT : FRONT + lines, FRONT : FRONT + places] = images if factor is None else images * factor
    return out


def half_factor(values: Tensor) -> Tensor:
    """Return the power of two that takes values near the largest of half precision, without waiting for the GPU."""
    largest = values.abs().amax()
    exponent = (14 - torch.frexp(largest).exponent).clamp(-100, 100)  # beyond, the power itself would overflow
    usable = torch.isfinite(largest) & (largest > 0)
    return torch.where(usable, torch.ldexp(torch.ones_like(largest), exponent), torch.ones_like(largest))
