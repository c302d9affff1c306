"""Backprojection of a few images of one plane, lanes along x.

A line of pixels is cut into blocks. Where the middle of a block is seen is worked out in float64, and float32 only
holds the difference from a whole column near there: its error does not grow with the number of columns.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from recon.kernels.gpu.launch import INTERPRETED, cdiv, launch
from recon.kernels.gpu.shadow_places import RAISED, affine, arc_tangent, rounded, within, write
from recon.kernels.gpu.shadow_tables import FRONT, Images, chunks, framed, limits, pitch, table
from recon.kernels.maps import Maps

PARALLEL, FLAT, ARC = 0, 1, 2  # forms of the beam
_PARALLEL: tl.constexpr = tl.constexpr(PARALLEL)
_ARC: tl.constexpr = tl.constexpr(ARC)
_LENGTH = 128  # pixels in a block
_ENTRY: tl.constexpr = tl.constexpr(6)  # numbers per view, line and block
_WIDTH: tl.constexpr = tl.constexpr(16)


@triton.jit
def _middles(
    numbers, out, count, ny, blocks, my, mx, left, right,
    BEAM: tl.constexpr, LENGTH: tl.constexpr, HALF: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """Fill out (view, y, block, 6): a whole column, the rest, and what changes along x; see `_add_line`."""
    n = tl.program_id(0).to(tl.int64) * BN + tl.arange(0, BN)
    mask = n < count
    entry = numbers + tl.where(mask, n // (ny * blocks), 0) * _WIDTH
    y = (n // blocks % ny).to(tl.float64) - my
    x = (n % blocks * LENGTH + HALF).to(tl.float64) - mx
    b, c = affine(entry + 4, 0.0, y, x), affine(entry + 8, 0.0, y, x)
    db, dc = tl.load(entry + 6), tl.load(entry + 10)
    if BEAM == _ARC:
        place = arc_tangent(b, c) * tl.load(entry + 13) + tl.load(entry + 14)
        length = tl.sqrt(b * b + c * c)
        db, dc = (db * c - dc * b) / length, (db * b + dc * c) / length
        c = length
    else:
        place = b / c
    whole = tl.floor(within(place, left, right))
    if BEAM == _ARC:
        b = place - whole
    else:
        b -= whole * c
        db -= whole * dc
    if BEAM == _PARALLEL:
        b, db = b / c, db / c
    out += n * _ENTRY
    tl.store(out, whole.to(tl.float32), mask=mask)
    tl.store(out + 1, b.to(tl.float32), mask=mask)
    tl.store(out + 2, db.to(tl.float32), mask=mask)
    tl.store(out + 3, c.to(tl.float32), mask=mask)
    tl.store(out + 4, dc.to(tl.float32), mask=mask)
    tl.store(out + 5, (1.0 / (c * c)).to(tl.float32), mask=mask)


@triton.jit
def _add_line(total, line, entry, x, left, right, scale, column0, BEAM: tl.constexpr):
    """Add one view to pixels x from a block's middle; `line` is where the view begins."""
    whole = tl.load(entry)
    b, db = tl.load(entry + 1), tl.load(entry + 2)
    if BEAM == _PARALLEL:
        place = db * x + b
        weight = tl.load(entry + 5)
    else:
        c = tl.load(entry + 4) * x + tl.load(entry + 3)
        if BEAM == _ARC:
            across = db * x
            place = arc_tangent(across, c) * scale + b
            weight = 1.0 / (across * across + c * c)
        else:
            nearness = 1.0 / c
            place = (db * x + b) * nearness
            weight = nearness * nearness
    j, column = rounded(within(place, left - whole, right - whole))
    share = place - column + 0.5
    at = line + (j + (whole.to(tl.int32) + (column0 - RAISED)))
    low = tl.load(at).to(tl.float32)
    return total + weight * (low + share * (tl.load(at + 1).to(tl.float32) - low))


@triton.jit(do_not_specialize_on_alignment=["out"])
def _lines(
    frames, entries, out, views, pitch, ny, nx, left, right, scale, column0,
    BEAM: tl.constexpr, ADD: tl.constexpr, LENGTH: tl.constexpr, HALF: tl.constexpr,
):  # fmt: skip
    """Fill, or add to, a block of pixels on four lines of an image (image, y, x)."""
    blocks = tl.cdiv(nx, LENGTH)
    down = tl.cdiv(ny, 4)
    program = tl.program_id(0)
    block = program % blocks
    y = program // blocks % down * 4
    image = (program // (blocks * down)).to(tl.int64)
    lane = tl.arange(0, LENGTH)
    x = (lane - HALF).to(tl.float32)
    e0 = entries + (y * blocks + block) * _ENTRY
    e1 = e0 + tl.minimum(1, ny - 1 - y) * blocks * _ENTRY
    e2 = e0 + tl.minimum(2, ny - 1 - y) * blocks * _ENTRY
    e3 = e0 + tl.minimum(3, ny - 1 - y) * blocks * _ENTRY
    frames += image * views * pitch
    t0 = tl.zeros((LENGTH,), tl.float32)
    t1, t2, t3 = t0, t0, t0
    for _ in range(views):
        t0 = _add_line(t0, frames, e0, x, left, right, scale, column0, BEAM)
        t1 = _add_line(t1, frames, e1, x, left, right, scale, column0, BEAM)
        t2 = _add_line(t2, frames, e2, x, left, right, scale, column0, BEAM)
        t3 = _add_line(t3, frames, e3, x, left, right, scale, column0, BEAM)
        frames += pitch
        e0 += ny * blocks * _ENTRY
        e1 += ny * blocks * _ENTRY
        e2 += ny * blocks * _ENTRY
        e3 += ny * blocks * _ENTRY
    at = out + (image * ny + y) * nx + block * LENGTH + lane
    inside = block * LENGTH + lane < nx
    write(at, t0, inside, ADD)
    write(at + nx, t1, inside & (y + 1 + 0 * lane < ny), ADD)
    write(at + 2 * nx, t2, inside & (y + 2 + 0 * lane < ny), ADD)
    write(at + 3 * nx, t3, inside & (y + 3 + 0 * lane < ny), ADD)


@triton.jit
def _lines_wide(
    frames, entries, out, views, pitch, ny, nx, left, right, scale, column0,
    BEAM: tl.constexpr, ADD: tl.constexpr, LENGTH: tl.constexpr, HALF: tl.constexpr,
    BY: tl.constexpr,
):  # fmt: skip
    """Do the same for BY lines at once, for the interpreter."""
    blocks = tl.cdiv(nx, LENGTH)
    down = tl.cdiv(ny, BY)
    block = tl.program_id(0) % blocks
    y = (tl.program_id(0) // blocks % down * BY + tl.arange(0, BY))[:, None]
    image = (tl.program_id(0) // (blocks * down)).to(tl.int64)
    lane = tl.arange(0, LENGTH)[None, :]
    x = (lane - HALF).to(tl.float32)
    entries += (tl.minimum(y, ny - 1) * blocks + block) * _ENTRY
    frames += image * views * pitch
    total = tl.zeros((BY, LENGTH), tl.float32)
    for _ in range(views):
        total = _add_line(total, frames, entries, x, left, right, scale, column0, BEAM)
        frames += pitch
        entries += ny * blocks * _ENTRY
    write(out + (image * ny + y) * nx + block * LENGTH + lane, total, (block * LENGTH + lane < nx) & (y < ny), ADD)


def backproject(
    maps: Maps, images: Images, out: Tensor, beam: int, storage: torch.dtype, factor: Tensor | None
) -> None:
    """Fill out (image, y, x) with the sum, over the views, of what pixels read in images."""
    (count, ny, nx), columns = out.shape, maps.detector_shape[1]
    size = torch.finfo(storage).bits // 8 * pitch(columns) * count
    for views in chunks(len(maps.matrices), max(size, 24 * ny * cdiv(nx, _LENGTH))):
        frames = framed(images(views), storage, factor)[:, FRONT:-FRONT].contiguous()
        _launch(maps, views, frames, out, beam)


def _launch(maps: Maps, views: slice, frames: Tensor, out: Tensor, beam: int, *, wide: bool = INTERPRETED) -> None:
    """Add some views to images, which the first of them fill."""
    (count, ny, nx), columns = out.shape, maps.detector_shape[1]
    length = min(_LENGTH, max(32, triton.next_power_of_2(nx)))
    half = min(length, nx) // 2
    blocks, sides = cdiv(nx, length), limits(columns)
    numbers = table(maps, out.device, torch.float64)[views]
    entries = out.new_empty(len(numbers), ny * blocks, 6)
    size = 1024 if wide else 128
    found = len(numbers) * ny * blocks
    middles = (numbers, entries, found, ny, blocks, (ny - 1) / 2, (nx - 1) / 2, *sides)
    launch(_middles, (cdiv(found, size),), *middles, BEAM=beam, LENGTH=length, HALF=half, BN=size)
    arguments = (frames, entries, out, len(numbers), frames.shape[2], ny, nx, *sides, maps.scale, columns // 2 + FRONT)
    constants = {"BEAM": beam, "ADD": views.start > 0, "LENGTH": length, "HALF": half}
    if wide:
        by = triton.next_power_of_2(min(ny, 64))
        launch(_lines_wide, (cdiv(ny, by) * blocks * count,), *arguments, BY=by, **constants)
        return
    launch(_lines, (cdiv(ny, 4) * blocks * count,), *arguments, warps=1, **constants)
