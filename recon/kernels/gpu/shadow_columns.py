"""Detector columns of voxels whose shadows do not leave them: worked out in float64, once for all slices."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from recon.kernels.gpu.launch import INTERPRETED, cdiv, launch
from recon.kernels.gpu.shadow_places import shadow, split, within
from recon.kernels.gpu.shadow_tables import FRONT, limits
from recon.kernels.maps import Maps

ENTRY = 5  # numbers per view, y and x
_ENTRY: tl.constexpr = tl.constexpr(ENTRY)
_WIDTH: tl.constexpr = tl.constexpr(16)


@triton.jit
def _columns_of(
    numbers, out, count, ny, nx, my, mx, left, right, column0,
    ARC: tl.constexpr, UPRIGHT: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """Fill out (view, y, x, 5); see `columns_of`."""
    n = tl.program_id(0).to(tl.int64) * BN + tl.arange(0, BN)
    mask = n < count
    entry = numbers + tl.where(mask, n // (ny * nx), 0) * _WIDTH
    y, x = (n // nx % ny).to(tl.float64) - my, (n % nx).to(tl.float64) - mx
    row, column, nearness = shadow(entry, 0.0, y, x, ARC)
    j, share = split(within(column, left, right))
    out += n * _ENTRY
    tl.store(out, (j + column0).to(tl.float32, bitcast=True), mask=mask)
    tl.store(out + 1, share.to(tl.float32), mask=mask)
    if UPRIGHT:
        nearness *= tl.load(entry)
    rounded = nearness.to(tl.float32)
    tl.store(out + 2, rounded, mask=mask)
    tl.store(out + 3, (nearness - rounded.to(tl.float64)).to(tl.float32), mask=mask)
    tl.store(out + 4, row.to(tl.float32), mask=mask)


def columns_of(maps: Maps, numbers: Tensor, *, upright: bool) -> Tensor:
    """Return (view, y · x, 5): framed column, share of the next, 1 / w or rows per voxel, last digits, row of z = 0.

    Args:
        maps: where voxels fall on the detector.
        numbers: their table in float64, for some of the views.
        upright: whether columns of voxels rise along columns of the detector, whose rows are then counted.
    """
    _, ny, nx = maps.grid_shape
    columns = maps.detector_shape[1]
    out = torch.empty(len(numbers), ny * nx, ENTRY, dtype=torch.float32, device=numbers.device)
    count = out.numel() // ENTRY
    size = triton.next_power_of_2(min(count, 4096)) if INTERPRETED else 128
    arguments = (numbers, out, count, ny, nx, (ny - 1) / 2, (nx - 1) / 2, *limits(columns), columns // 2 + FRONT)
    launch(_columns_of, (cdiv(count, size),), *arguments, ARC=maps.arc, UPRIGHT=upright, BN=size)
    return out
