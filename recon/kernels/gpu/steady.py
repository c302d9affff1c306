"""Backprojection where columns of voxels have their shadow on one detector column in all views, lanes along z."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from recon.kernels.gpu.launch import INTERPRETED, cdiv, launch
from recon.kernels.gpu.shadow_columns import ENTRY, columns_of
from recon.kernels.gpu.shadow_places import RAISED, rounded, within, write
from recon.kernels.gpu.shadow_tables import FRONT, chunks, framed, limits, pitch, table
from recon.kernels.maps import Maps

_ENTRY: tl.constexpr = tl.constexpr(ENTRY)


@triton.jit
def _add_column(total, lines, entry, z, height, low, high, PITCH: tl.constexpr):
    """Add one view to columns of voxels, of which `entry` points at numbers or at tensors across z.

    The share is what the multiplication leaves over a whole number, exactly, with the digits that `slope` lacks: its
    error does not grow with the number of rows.
    """
    j = tl.load(entry).to(tl.int32, bitcast=True)
    share = tl.load(entry + 1)
    slope, rest = tl.load(entry + 2), tl.load(entry + 3)
    start = tl.load(entry + 4)
    weight = slope * height
    weight *= weight
    after = weight * share
    before = weight - after
    i, whole = rounded(within(tl.fma(z, slope, start), low, high))
    f = tl.fma(z, slope, -whole) + tl.fma(z, rest, start + 0.5)
    at = lines + ((j * PITCH - RAISED) + i)
    first = before * tl.load(at).to(tl.float32) + after * tl.load(at + PITCH).to(tl.float32)
    second = before * tl.load(at + 1).to(tl.float32) + after * tl.load(at + (PITCH + 1)).to(tl.float32)
    return total + first + f * (second - first)


@triton.jit(do_not_specialize_on_alignment=["out"])
def _columns(
    frames, entries, heights, out, views, columns, nz, ny, nx, mz, low, high, row0,
    PITCH: tl.constexpr, ADD: tl.constexpr, BZ: tl.constexpr,
):  # fmt: skip
    """Fill, or add to, four columns of voxels of out (z, y, x); tensors are 1-D so that lanes run along z."""
    across = tl.cdiv(nx, 4)
    blocks = tl.cdiv(nz, BZ)
    program = tl.program_id(0)
    z = program % blocks * BZ + tl.arange(0, BZ)
    x = program // blocks % across * 4
    y = program // (blocks * across)
    e0 = entries + (y * nx + x).to(tl.int64) * _ENTRY
    e1 = e0 + tl.minimum(1, nx - 1 - x) * _ENTRY
    e2 = e0 + tl.minimum(2, nx - 1 - x) * _ENTRY
    e3 = e0 + tl.minimum(3, nx - 1 - x) * _ENTRY
    frames += row0
    zf = z.to(tl.float32) - mz
    t0 = tl.zeros((BZ,), tl.float32)
    t1, t2, t3 = t0, t0, t0
    for view in range(views):
        height = tl.load(heights + view)
        t0 = _add_column(t0, frames, e0, zf, height, low, high, PITCH)
        t1 = _add_column(t1, frames, e1, zf, height, low, high, PITCH)
        t2 = _add_column(t2, frames, e2, zf, height, low, high, PITCH)
        t3 = _add_column(t3, frames, e3, zf, height, low, high, PITCH)
        frames += columns * PITCH
        e0 += ny * nx * _ENTRY
        e1 += ny * nx * _ENTRY
        e2 += ny * nx * _ENTRY
        e3 += ny * nx * _ENTRY
    at = out + (z.to(tl.int64) * ny + y) * nx + x
    inside = z < nz
    write(at, t0, inside, ADD)
    write(at + 1, t1, inside & (x + 1 + 0 * z < nx), ADD)
    write(at + 2, t2, inside & (x + 2 + 0 * z < nx), ADD)
    write(at + 3, t3, inside & (x + 3 + 0 * z < nx), ADD)


@triton.jit
def _columns_wide(
    frames, entries, heights, out, views, columns, nz, ny, nx, mz, low, high, row0,
    PITCH: tl.constexpr, ADD: tl.constexpr, BZ: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """Do the same for BN columns of voxels at once, for the interpreter."""
    blocks = tl.cdiv(nz, BZ)
    z = (tl.program_id(0) % blocks * BZ + tl.arange(0, BZ))[None, :]
    n = (tl.program_id(0) // blocks * BN + tl.arange(0, BN))[:, None]
    entries += tl.minimum(n, ny * nx - 1) * _ENTRY
    frames += row0
    zf = z.to(tl.float32) - mz
    total = tl.zeros((BN, BZ), tl.float32)
    for view in range(views):
        total = _add_column(total, frames, entries, zf, tl.load(heights + view), low, high, PITCH)
        frames += columns * PITCH
        entries += ny * nx * _ENTRY
    write(out + z.to(tl.int64) * (ny * nx) + n, total, (z < nz) & (n < ny * nx), ADD)


def backproject(maps: Maps, values: Tensor, storage: torch.dtype, factor: Tensor | None) -> Tensor:
    """Sum, over the views, what columns of voxels read: (batch, z, y, x)."""
    out = values.new_empty(len(values), *maps.grid_shape)
    (_, ny, nx), (rows, columns) = maps.grid_shape, maps.detector_shape
    size = torch.finfo(storage).bits // 8 * (columns + 2 * FRONT) * pitch(rows)
    for item, volume in zip(values, out, strict=True):
        for views in chunks(len(maps.matrices), max(size, 4 * ENTRY * ny * nx)):
            frames = framed(item[views].transpose(1, 2), storage, factor)
            _launch(maps, views, frames, volume)
    return out


def _launch(maps: Maps, views: slice, frames: Tensor, volume: Tensor, *, wide: bool = INTERPRETED) -> None:
    """Add some views to a volume, which the first of them fill."""
    (nz, ny, nx), (rows, columns) = maps.grid_shape, maps.detector_shape
    numbers = table(maps, volume.device, torch.float64)[views]
    entries = columns_of(maps, numbers, upright=True)
    heights = (1 / numbers[:, 0]).float()
    arguments = (
        *(frames, entries, heights, volume, len(frames), columns + 2 * FRONT, nz, ny, nx),
        *((nz - 1) / 2, *limits(rows), rows // 2 + FRONT),
    )
    constants = {"PITCH": pitch(rows), "ADD": views.start > 0}
    if wide:
        bz, bn = triton.next_power_of_2(min(nz, 64)), triton.next_power_of_2(min(ny * nx, 256))
        launch(_columns_wide, (cdiv(nz, bz) * cdiv(ny * nx, bn),), *arguments, BZ=bz, BN=bn, **constants)
        return
    bz = 128 if -nz % 256 >= 128 else 256  # whichever leaves fewer lanes idle; more heights share a column's numbers
    launch(_columns, (cdiv(nz, bz) * cdiv(nx, 4) * ny,), *arguments, BZ=bz, warps=1, **constants)
