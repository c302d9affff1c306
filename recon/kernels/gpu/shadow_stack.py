"""Backprojection of many images that share one plane's geometry, lanes along the images."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from recon.kernels.gpu.launch import INTERPRETED, cdiv, launch
from recon.kernels.gpu.shadow_columns import ENTRY, columns_of
from recon.kernels.gpu.shadow_places import write
from recon.kernels.gpu.shadow_tables import FRONT, Images, chunks, table
from recon.kernels.maps import Maps

FEWEST = 16  # images that fill enough lanes
_ENTRY: tl.constexpr = tl.constexpr(ENTRY)
_LANES = 32


@triton.jit
def _add_pixel(total, lines, entry, images, lane):
    """Add one view to a pixel of all images; `entry` points at a number or at tensors across the images."""
    j = tl.load(entry).to(tl.int32, bitcast=True)
    share = tl.load(entry + 1)
    weight = tl.load(entry + 2)
    weight *= weight
    after = weight * share
    at = lines + (j * images + lane)
    return total + ((weight - after) * tl.load(at).to(tl.float32) + after * tl.load(at + images).to(tl.float32))


@triton.jit(do_not_specialize_on_alignment=["out"])
def _pixels(
    frames, entries, out, views, columns, images, pitch, ny, nx, ADD: tl.constexpr, BS: tl.constexpr
):  # fmt: skip
    """Fill, or add to, four pixels of out (image, y, x), from frames (view, column, image) of a pitch."""
    across = tl.cdiv(nx, 4)
    blocks = tl.cdiv(images, BS)
    program = tl.program_id(0)
    s = program % blocks * BS + tl.arange(0, BS)
    lane = tl.minimum(s, pitch - 1)
    x = program // blocks % across * 4
    y = program // (blocks * across)
    e0 = entries + (y * nx + x).to(tl.int64) * _ENTRY
    e1 = e0 + tl.minimum(1, nx - 1 - x) * _ENTRY
    e2 = e0 + tl.minimum(2, nx - 1 - x) * _ENTRY
    e3 = e0 + tl.minimum(3, nx - 1 - x) * _ENTRY
    t0 = tl.zeros((BS,), tl.float32)
    t1, t2, t3 = t0, t0, t0
    for _ in range(views):
        t0 = _add_pixel(t0, frames, e0, pitch, lane)
        t1 = _add_pixel(t1, frames, e1, pitch, lane)
        t2 = _add_pixel(t2, frames, e2, pitch, lane)
        t3 = _add_pixel(t3, frames, e3, pitch, lane)
        frames += columns * pitch
        e0 += ny * nx * _ENTRY
        e1 += ny * nx * _ENTRY
        e2 += ny * nx * _ENTRY
        e3 += ny * nx * _ENTRY
    at = out + (s.to(tl.int64) * ny + y) * nx + x
    inside = s < images
    write(at, t0, inside, ADD)
    write(at + 1, t1, inside & (x + 1 + 0 * s < nx), ADD)
    write(at + 2, t2, inside & (x + 2 + 0 * s < nx), ADD)
    write(at + 3, t3, inside & (x + 3 + 0 * s < nx), ADD)


@triton.jit
def _pixels_wide(
    frames, entries, out, views, columns, images, pitch, ny, nx,
    ADD: tl.constexpr, BS: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """Do the same for BN pixels at once, for the interpreter."""
    blocks = tl.cdiv(images, BS)
    s = (tl.program_id(0) % blocks * BS + tl.arange(0, BS))[None, :]
    n = (tl.program_id(0) // blocks * BN + tl.arange(0, BN))[:, None]
    lane = tl.minimum(s, pitch - 1)
    entries += tl.minimum(n, ny * nx - 1) * _ENTRY
    total = tl.zeros((BN, BS), tl.float32)
    for _ in range(views):
        total = _add_pixel(total, frames, entries, pitch, lane)
        frames += columns * pitch
        entries += ny * nx * _ENTRY
    write(out + s.to(tl.int64) * (ny * nx) + n, total, (s < images) & (n < ny * nx), ADD)


def backproject(maps: Maps, images: Images, out: Tensor, storage: torch.dtype, factor: Tensor | None) -> None:
    """Fill out (image, y, x) with the sum, over the views, of what pixels read in images."""
    count, ny, nx = out.shape
    width, columns = cdiv(count, _LANES) * _LANES, maps.detector_shape[1]
    size = torch.finfo(storage).bits // 8 * (columns + 2 * FRONT) * width
    for views in chunks(len(maps.matrices), max(size, 4 * ENTRY * ny * nx)):
        lines = images(views).permute(1, 2, 0)
        frames = out.new_zeros(len(lines), columns + 2 * FRONT, width, dtype=storage)
        frames[:, FRONT : FRONT + columns, :count] = lines if factor is None else lines * factor
        _launch(maps, views, frames, out)


def _launch(maps: Maps, views: slice, frames: Tensor, out: Tensor, *, wide: bool = INTERPRETED) -> None:
    """Add some views to all images, which the first of them fill."""
    count, ny, nx = out.shape
    entries = columns_of(maps, table(maps, out.device, torch.float64)[views], upright=False)
    arguments = frames, entries, out, *frames.shape[:2], count, frames.shape[2], ny, nx
    add, bs = views.start > 0, min(128, triton.next_power_of_2(max(count, _LANES)))
    if wide:
        bn = triton.next_power_of_2(min(ny * nx, 256))
        launch(_pixels_wide, (cdiv(count, bs) * cdiv(ny * nx, bn),), *arguments, ADD=add, BS=bs, BN=bn)
        return
    launch(_pixels, (cdiv(count, bs) * cdiv(nx, 4) * ny,), *arguments, ADD=add, BS=bs, warps=1)
