"""The derivative of voxel-driven backprojection by the maps: see DERIVATIONS.md, section 10.

A program owns a view and some blocks of voxels. Its sums are written, and added up in float64: results repeat.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from recon.kernels.gpu.launch import INTERPRETED, cdiv, launch
from recon.kernels.gpu.shadow_blocks import Cut, seen
from recon.kernels.gpu.shadow_places import split, within
from recon.kernels.gpu.shadow_tables import FRONT, Middle, chunks, framed, limits, table
from recon.kernels.maps import Maps
from recon.kernels.reference import ON_A_KINK

_ENTRY: tl.constexpr = tl.constexpr(7)
_WIDTH: tl.constexpr = tl.constexpr(16)
_KINK: tl.constexpr = tl.constexpr(ON_A_KINK)
_BLOCKS = 32  # of voxels per program, at least
_MOST_PROGRAMS = 1024  # per view


@triton.jit
def _slopes(
    frames, numbers, entry, volume, mask, batch, step, size, z, y, x, low, high, left, right, row0, column0,
    PITCH: tl.constexpr, UPRIGHT: tl.constexpr, ARC: tl.constexpr,
):  # fmt: skip
    """Return the derivatives by a, b and c at voxels of a block; `volume` points at them, `frames` at a view."""
    row, column, whole_row, whole_column, nearness, b, c = seen(numbers, entry, z, y, x, ARC)
    kind: tl.constexpr = row.dtype
    place = within(row, low - whole_row, high - whole_row)
    i, f = split(place + _KINK)
    other_place = within(column, left - whole_column, right - whole_column)
    j, g = split(other_place + _KINK)
    f -= _KINK
    g -= _KINK
    first_row, first_column = whole_row.to(tl.int32) + row0, whole_column.to(tl.int32) + column0
    if UPRIGHT:
        at = frames + (j * PITCH + i + (first_column * PITCH + first_row))
        p, q = f, g
    else:
        at = frames + (i * PITCH + j + (first_row * PITCH + first_column))
        p, q = g, f
    read, along, aside = row * 0.0, row * 0.0, row * 0.0  # along the lines of the frame and from one to the next
    for _ in range(batch):
        value = tl.load(volume, mask=mask, other=0.0)
        near, far = tl.load(at), tl.load(at + PITCH)
        near_rise, far_rise = tl.load(at + 1) - near, tl.load(at + (PITCH + 1)) - far
        near += p * near_rise
        rise = far + p * far_rise - near
        along += value * (near_rise + q * (far_rise - near_rise))
        aside += value * rise
        read += value * (near + q * rise)
        at += step
        volume += size
    weight = tl.where(mask, nearness * nearness, 0.0)
    read *= 2 * weight
    if UPRIGHT:
        by_row, by_column = along * weight, aside * weight
    else:
        by_row, by_column = aside * weight, along * weight
    by_a = by_row * nearness
    if ARC:
        scale = tl.load(numbers + 13)
        turned = scale * by_column * nearness * nearness
        stretched = (by_row * (row + whole_row - tl.load(numbers + 12)) + read) * nearness * nearness
        away, across = turned * c - stretched * b, -turned * b - stretched * c
        cosine, sine = tl.load(entry + 5), tl.load(entry + 6)
        by_b, by_c = away * cosine + across * sine, across * cosine - away * sine
    else:
        by_b = by_column * nearness
        by_c = -nearness * (by_row * (row + whole_row) + by_column * (column + whole_column) + read)
    return tl.where(mask, by_a, 0.0).to(kind), tl.where(mask, by_b, 0.0).to(kind), tl.where(mask, by_c, 0.0).to(kind)


@triton.jit(do_not_specialize_on_alignment=["volume"])
def _partial(
    frames, numbers, entries, volume, out, batch, step, view_step, size, blocks_y, blocks_x, blocks, per_program,
    nz, ny, nx, mz, my, mx, low, high, left, right, row0, column0,
    PITCH: tl.constexpr, UPRIGHT: tl.constexpr, ARC: tl.constexpr, LENGTH: tl.constexpr, HALF: tl.constexpr,
):  # fmt: skip
    """Fill out (view, program, 12) with sums over a program's blocks."""
    view = tl.program_id(1).to(tl.int64)
    numbers += view * _WIDTH
    frames += view * view_step
    entries += view * blocks * _ENTRY
    first = tl.program_id(0) * per_program
    lane = tl.arange(0, LENGTH)
    kind: tl.constexpr = numbers.dtype.element_ty
    zero = tl.zeros((LENGTH,), kind)
    az, ay, ax, a1 = zero, zero, zero, zero
    bz, by, bx, b1 = zero, zero, zero, zero
    cz, cy, cx, c1 = zero, zero, zero, zero
    for line in range(first * 4, tl.minimum(first + per_program, blocks) * 4):
        block = line // 4
        beside = line % 4
        block_z, block_y, block_x = block // (blocks_x * blocks_y), block // blocks_x % blocks_y, block % blocks_x
        if UPRIGHT:
            z, y, x = block_z * LENGTH + lane, block_y, block_x * 4 + beside
            dz, dy, dx = (lane - HALF).to(kind), 0.0, beside - 2.0
            mask = (z < nz) & (x + 0 * lane < nx)
        else:
            z, y, x = block_z, block_y * 4 + beside, block_x * LENGTH + lane
            dz, dy, dx = 0.0, beside - 2.0, (lane - HALF).to(kind)
            mask = (x < nx) & (y + 0 * lane < ny)
        at = volume + ((z.to(tl.int64) * ny + y) * nx + x)
        by_a, by_b, by_c = _slopes(
            frames, numbers, entries + block * _ENTRY, at, mask, batch, step, size, dz, dy, dx,
            low, high, left, right, row0, column0, PITCH, UPRIGHT, ARC,
        )  # fmt: skip
        zf, yf, xf = z.to(kind) - mz, y.to(kind) - my, x.to(kind) - mx
        az, ay, ax, a1 = az + by_a * zf, ay + by_a * yf, ax + by_a * xf, a1 + by_a
        bz, by, bx, b1 = bz + by_b * zf, by + by_b * yf, bx + by_b * xf, b1 + by_b
        cz, cy, cx, c1 = cz + by_c * zf, cy + by_c * yf, cx + by_c * xf, c1 + by_c
    out += (view * tl.num_programs(0) + tl.program_id(0)) * 12
    tl.store(out, tl.sum(az))
    tl.store(out + 1, tl.sum(ay))
    tl.store(out + 2, tl.sum(ax))
    tl.store(out + 3, tl.sum(a1))
    tl.store(out + 4, tl.sum(bz))
    tl.store(out + 5, tl.sum(by))
    tl.store(out + 6, tl.sum(bx))
    tl.store(out + 7, tl.sum(b1))
    tl.store(out + 8, tl.sum(cz))
    tl.store(out + 9, tl.sum(cy))
    tl.store(out + 10, tl.sum(cx))
    tl.store(out + 11, tl.sum(c1))


@triton.jit
def _partial_wide(
    frames, numbers, entries, volume, out, batch, step, view_step, size, blocks_y, blocks_x, blocks, per_program,
    nz, ny, nx, mz, my, mx, low, high, left, right, row0, column0,
    PITCH: tl.constexpr, UPRIGHT: tl.constexpr, ARC: tl.constexpr, LENGTH: tl.constexpr, HALF: tl.constexpr,
    BN: tl.constexpr,
):  # fmt: skip
    """Do the same for BN voxels at once, for the interpreter."""
    view = tl.program_id(1).to(tl.int64)
    numbers += view * _WIDTH
    frames += view * view_step
    entries += view * blocks * _ENTRY
    n = tl.program_id(0).to(tl.int64) * BN + tl.arange(0, BN)
    mask = n < size
    n = tl.minimum(n, size - 1)
    z, y, x = n // (ny * nx), n // nx % ny, n % nx
    if UPRIGHT:
        block = (z // LENGTH * blocks_y + y) * blocks_x + x // 4
        dz, dy, dx = z % LENGTH - HALF, y * 0, x % 4 - 2
    else:
        block = (z * blocks_y + y // 4) * blocks_x + x // LENGTH
        dz, dy, dx = z * 0, y % 4 - 2, x % LENGTH - HALF
    kind: tl.constexpr = numbers.dtype.element_ty
    by_a, by_b, by_c = _slopes(
        frames, numbers, entries + block * _ENTRY, volume + n, mask, batch, step, size,
        dz.to(kind), dy.to(kind), dx.to(kind), low, high, left, right, row0, column0, PITCH, UPRIGHT, ARC,
    )  # fmt: skip
    zf, yf, xf = z.to(kind) - mz, y.to(kind) - my, x.to(kind) - mx
    out += (view * tl.num_programs(0) + tl.program_id(0)) * 12
    for part in tl.static_range(3):
        slope = by_a if part == 0 else (by_b if part == 1 else by_c)
        tl.store(out + 4 * part, tl.sum(slope * zf))
        tl.store(out + 4 * part + 1, tl.sum(slope * yf))
        tl.store(out + 4 * part + 2, tl.sum(slope * xf))
        tl.store(out + 4 * part + 3, tl.sum(slope))


def map_gradient(maps: Maps, values: Tensor, volume: Tensor) -> Tensor:
    """Differentiate the sum of `backproject` times a volume by the matrices (view, 3, 4) of the maps.

    Returns:
        float64 on the CPU, where maps are.
    """
    values, volume = values.detach(), volume.detach().contiguous()
    if values.numel() == 0 or volume.numel() == 0:
        return maps.matrices.new_zeros(maps.matrices.shape)
    cut = Cut.of(maps, 32 if values.dtype == torch.float64 else 128)
    size = len(values) * cut.bytes_per_view(maps, values.dtype, values.dtype)
    parts = []
    for views in chunks(len(maps.matrices), size):
        images = values[:, views].transpose(2, 3) if cut.upright else values[:, views]
        frames = framed(images.flatten(0, 1), values.dtype, None)
        parts.append(_launch(maps, cut, views, frames, volume).double().sum(1))
    return _uncentred(maps, torch.cat(parts).cpu().unflatten(1, (3, 4)))


def _launch(maps: Maps, cut: Cut, views: slice, frames: Tensor, volume: Tensor, *, wide: bool = INTERPRETED) -> Tensor:
    """Return sums (view, program, 12) for some views."""
    (nz, ny, nx), (rows, columns) = maps.grid_shape, maps.detector_shape
    numbers, entries = table(maps, volume.device, volume.dtype)[views], cut.middles(maps, views, volume)
    count, view_step, size = len(numbers), frames[0].numel(), volume[0].numel()
    constants = {"PITCH": frames.shape[2], "ARC": maps.arc, **cut.constants}
    bn = triton.next_power_of_2(min(size, 4096))
    per_program = max(_BLOCKS, cdiv(cut.count, _MOST_PROGRAMS))
    programs = cdiv(size, bn) if wide else cdiv(cut.count, per_program)
    out = volume.new_empty(count, programs, 12)
    arguments = (
        *(frames, numbers, entries, volume, out, len(volume), count * view_step, view_step, size),
        *(*cut.counts[1:], cut.count, per_program, nz, ny, nx, (nz - 1) / 2, (ny - 1) / 2, (nx - 1) / 2),
        *(*limits(rows), *limits(columns), rows // 2 + FRONT, columns // 2 + FRONT),
    )
    if wide:
        launch(_partial_wide, (programs, count), *arguments, BN=bn, **constants)
    else:
        launch(_partial, (programs, count), *arguments, warps=1, **constants)
    return out


def _uncentred(maps: Maps, gradient: Tensor) -> Tensor:
    """Turn the gradient by the centred functions of a table into that by the maps' matrices."""
    middle = Middle.of(maps)
    if not maps.arc:
        gradient[:, 2] -= (middle.row + 0.5) * gradient[:, 0] + (middle.column + 0.5) * gradient[:, 1]
    gradient[:, :, :3] += gradient[:, :, 3:] * torch.tensor(middle.voxel, dtype=torch.float64)
    return gradient
