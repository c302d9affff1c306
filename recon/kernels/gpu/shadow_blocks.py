"""Backprojection of any maps: a place on the detector per voxel and view.

The volume is cut into blocks. Where a block's middle is seen is worked out in float64, and the kernel only holds the
difference from a whole row and column near there: its error does not grow with the detector.
"""

import math
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from recon.kernels.gpu.launch import INTERPRETED, cdiv, launch
from recon.kernels.gpu.shadow_places import affine, arc_tangent, inverse_length, shadow, split, within, write
from recon.kernels.gpu.shadow_tables import FRONT, chunks, framed, limits, pitch, table
from recon.kernels.maps import Maps

_UPRIGHT_FROM = 8  # slices, from which on lanes run along z
_ACROSS = 4  # lines of voxels in a block
_ENTRY: tl.constexpr = tl.constexpr(7)  # numbers per view and block
_WIDTH: tl.constexpr = tl.constexpr(16)


@triton.jit
def _middles(
    numbers, out, count, blocks_z, blocks_y, blocks_x, mz, my, mx, low, high, left, right,
    BZ: tl.constexpr, BY: tl.constexpr, BX: tl.constexpr, HALF_Z: tl.constexpr, HALF_Y: tl.constexpr,
    HALF_X: tl.constexpr, ARC: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """Fill out (view, block, 7) with what a view sees of a block's middle; see `seen`."""
    n = tl.program_id(0).to(tl.int64) * BN + tl.arange(0, BN)
    mask = n < count
    entry = numbers + tl.where(mask, n // (blocks_z * blocks_y * blocks_x), 0) * _WIDTH
    z = (n // (blocks_x * blocks_y) % blocks_z * BZ + HALF_Z).to(tl.float64) - mz
    y = (n // blocks_x % blocks_y * BY + HALF_Y).to(tl.float64) - my
    x = (n % blocks_x * BX + HALF_X).to(tl.float64) - mx
    row, column, nearness = shadow(entry, z, y, x, ARC)
    whole_row, whole_column = tl.floor(within(row, low, high)), tl.floor(within(column, left, right))
    a, b, c = affine(entry, z, y, x), affine(entry + 4, z, y, x), affine(entry + 8, z, y, x)
    if ARC:
        third, fourth, fifth, sixth = column - whole_column, 1.0 / nearness, c * nearness, b * nearness
    else:
        a -= whole_row * c
        third, fourth, fifth, sixth = b - whole_column * c, c, c, c
    out += n * _ENTRY
    tl.store(out, whole_row.to(out.dtype.element_ty), mask=mask)
    tl.store(out + 1, whole_column.to(out.dtype.element_ty), mask=mask)
    tl.store(out + 2, a.to(out.dtype.element_ty), mask=mask)
    tl.store(out + 3, third.to(out.dtype.element_ty), mask=mask)
    tl.store(out + 4, fourth.to(out.dtype.element_ty), mask=mask)
    tl.store(out + 5, fifth.to(out.dtype.element_ty), mask=mask)
    tl.store(out + 6, sixth.to(out.dtype.element_ty), mask=mask)


@triton.jit
def _rise(entry, z, y, x):
    """Return by how much an affine function rises from a block's middle."""
    return tl.load(entry) * z + (tl.load(entry + 1) * y + tl.load(entry + 2) * x)


@triton.jit
def seen(numbers, entry, z, y, x, ARC: tl.constexpr):
    """Return what a view sees of voxels that are counted from the middle of a block.

    The row and the column from the block's whole ones, these, 1 / w, and b and c: of an arc, as seen from the angle of
    the block's middle.
    """
    whole_row, whole_column = tl.load(entry), tl.load(entry + 1)
    a, third, c = tl.load(entry + 2), tl.load(entry + 3), tl.load(entry + 4)
    az, ay, ax = tl.load(numbers), tl.load(numbers + 1), tl.load(numbers + 2)
    bz, by, bx = tl.load(numbers + 4), tl.load(numbers + 5), tl.load(numbers + 6)
    cz, cy, cx = tl.load(numbers + 8), tl.load(numbers + 9), tl.load(numbers + 10)
    if ARC:
        ahead, aside = tl.load(entry + 5), tl.load(entry + 6)
        b = (bz * ahead - cz * aside) * z + ((by * ahead - cy * aside) * y + (bx * ahead - cx * aside) * x)
        c += (bz * aside + cz * ahead) * z + ((by * aside + cy * ahead) * y + (bx * aside + cx * ahead) * x)
        nearness = inverse_length(b, c)
        row = (az * z + (ay * y + (ax * x + a))) * nearness + (tl.load(numbers + 12) - whole_row)
        column = arc_tangent(b, c) * tl.load(numbers + 13) + third
    else:
        a += (az - whole_row * cz) * z + ((ay - whole_row * cy) * y + (ax - whole_row * cx) * x)
        b = (bz - whole_column * cz) * z + ((by - whole_column * cy) * y + ((bx - whole_column * cx) * x + third))
        c += cz * z + (cy * y + cx * x)
        nearness = 1.0 / c
        row, column = a * nearness, b * nearness
    return row, column, whole_row, whole_column, nearness, b, c


@triton.jit
def _add_voxels(
    total, lines, numbers, entry, z, y, x, low, high, left, right, row0, column0,
    PITCH: tl.constexpr, UPRIGHT: tl.constexpr, ARC: tl.constexpr,
):  # fmt: skip
    """Add one view to voxels, counted from the middle of a block."""
    row, column, whole_row, whole_column, nearness, _, _ = seen(numbers, entry, z, y, x, ARC)
    i, f = split(within(row, low - whole_row, high - whole_row))
    j, g = split(within(column, left - whole_column, right - whole_column))
    first_row, first_column = whole_row.to(tl.int32) + row0, whole_column.to(tl.int32) + column0
    if UPRIGHT:
        at = lines + (j * PITCH + i + (first_column * PITCH + first_row))
        p, q = f, g
    else:
        at = lines + (i * PITCH + j + (first_row * PITCH + first_column))
        p, q = g, f
    near = tl.load(at).to(total.dtype)
    near += p * (tl.load(at + 1).to(total.dtype) - near)
    far = tl.load(at + PITCH).to(total.dtype)
    far += p * (tl.load(at + (PITCH + 1)).to(total.dtype) - far)
    return total + nearness * nearness * (near + q * (far - near))


@triton.jit(do_not_specialize_on_alignment=["out"])
def _blocks(
    frames, numbers, entries, out, views, step, nz, ny, nx, low, high, left, right, row0, column0,
    PITCH: tl.constexpr, UPRIGHT: tl.constexpr, ARC: tl.constexpr, ADD: tl.constexpr, LENGTH: tl.constexpr,
    HALF: tl.constexpr,
):  # fmt: skip
    """Fill, or add to, four lines of voxels of out (z, y, x), along z or along x."""
    lane = tl.arange(0, LENGTH)
    along = (lane - HALF).to(numbers.dtype.element_ty)
    program = tl.program_id(0)
    if UPRIGHT:
        blocks_x, blocks_y, blocks_z = tl.cdiv(nx, 4), ny, tl.cdiv(nz, LENGTH)
        z, y, x = program % blocks_z, program // (blocks_z * blocks_x), program // blocks_z % blocks_x
    else:
        blocks_x, blocks_y, blocks_z = tl.cdiv(nx, LENGTH), tl.cdiv(ny, 4), nz
        z, y, x = program // (blocks_x * blocks_y), program // blocks_x % blocks_y, program % blocks_x
    entries += ((z * blocks_y + y) * blocks_x + x).to(tl.int64) * _ENTRY
    t0 = tl.zeros((LENGTH,), numbers.dtype.element_ty)
    t1, t2, t3 = t0, t0, t0
    for _ in range(views):
        t0 = _add_line(
            t0, frames, numbers, entries, along, -2.0, low, high, left, right, row0, column0, PITCH, UPRIGHT, ARC
        )
        t1 = _add_line(
            t1, frames, numbers, entries, along, -1.0, low, high, left, right, row0, column0, PITCH, UPRIGHT, ARC
        )
        t2 = _add_line(
            t2, frames, numbers, entries, along, 0.0, low, high, left, right, row0, column0, PITCH, UPRIGHT, ARC
        )
        t3 = _add_line(
            t3, frames, numbers, entries, along, 1.0, low, high, left, right, row0, column0, PITCH, UPRIGHT, ARC
        )
        frames += step
        numbers += _WIDTH
        entries += (blocks_z * blocks_y * blocks_x) * _ENTRY
    if UPRIGHT:
        at = out + ((z * LENGTH + lane).to(tl.int64) * ny + y) * nx + x * 4
        inside, beside, left_over = z * LENGTH + lane < nz, 1, nx - x * 4
    else:
        at = out + (z.to(tl.int64) * ny + y * 4) * nx + x * LENGTH + lane
        inside, beside, left_over = x * LENGTH + lane < nx, nx, ny - y * 4
    write(at, t0, inside, ADD)
    write(at + beside, t1, inside & (1 + 0 * lane < left_over), ADD)
    write(at + 2 * beside, t2, inside & (2 + 0 * lane < left_over), ADD)
    write(at + 3 * beside, t3, inside & (3 + 0 * lane < left_over), ADD)


@triton.jit
def _add_line(
    total, frames, numbers, entry, along, beside, low, high, left, right, row0, column0,
    PITCH: tl.constexpr, UPRIGHT: tl.constexpr, ARC: tl.constexpr,
):  # fmt: skip
    """Add one view to a line of voxels, along z beside others in x or along x beside others in y."""
    if UPRIGHT:
        z, y, x = along, 0.0, beside
    else:
        z, y, x = 0.0, beside, along
    return _add_voxels(
        total, frames, numbers, entry, z, y, x, low, high, left, right, row0, column0, PITCH, UPRIGHT, ARC
    )


@triton.jit
def _blocks_wide(
    frames, numbers, entries, out, views, step, nz, ny, nx, low, high, left, right, row0, column0,
    PITCH: tl.constexpr, UPRIGHT: tl.constexpr, ARC: tl.constexpr, ADD: tl.constexpr, LENGTH: tl.constexpr,
    HALF: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """Do the same for BN voxels at once, for the interpreter."""
    n = tl.program_id(0).to(tl.int64) * BN + tl.arange(0, BN)
    z, y, x = n // (ny * nx), n // nx % ny, n % nx
    if UPRIGHT:
        bz, by, bx, half_z, half_y, half_x = LENGTH, 1, 4, HALF, 0, 2
    else:
        bz, by, bx, half_z, half_y, half_x = 1, 4, LENGTH, 0, 2, HALF
    blocks_x, blocks_y, blocks_z = tl.cdiv(nx, bx), tl.cdiv(ny, by), tl.cdiv(nz, bz)
    block = tl.minimum((z // bz * blocks_y + y // by) * blocks_x + x // bx, blocks_z * blocks_y * blocks_x - 1)
    entries += block * _ENTRY
    total = tl.zeros((BN,), numbers.dtype.element_ty)
    z, y, x = z % bz - half_z, y % by - half_y, x % bx - half_x
    zf, yf, xf = z.to(total.dtype), y.to(total.dtype), x.to(total.dtype)
    for _ in range(views):
        total = _add_voxels(
            total, frames, numbers, entries, zf, yf, xf, low, high, left, right, row0, column0, PITCH, UPRIGHT, ARC
        )
        frames += step
        numbers += _WIDTH
        entries += (blocks_z * blocks_y * blocks_x) * _ENTRY
    write(out + n, total, n < nz.to(tl.int64) * ny * nx, ADD)


@dataclass(frozen=True)
class Cut:
    """How a volume is cut into blocks, each of four lines: along z and side by side in x, or along x and in y."""

    upright: bool
    sizes: tuple[int, int, int]  # of a block
    halves: tuple[int, int, int]  # where its middle is
    counts: tuple[int, int, int]

    @property
    def count(self) -> int:
        """How many blocks there are."""
        return math.prod(self.counts)

    @staticmethod
    def of(maps: Maps, longest: int) -> "Cut":
        """Choose how to cut, into lines of so many voxels or fewer."""
        z, y, x = maps.grid_shape
        upright = z >= _UPRIGHT_FROM
        along = z if upright else x
        length = min(longest, max(32, triton.next_power_of_2(along)))
        sizes = (length, 1, _ACROSS) if upright else (1, _ACROSS, length)
        half = min(length, along) // 2
        return Cut(
            upright=upright,
            sizes=sizes,
            halves=(half, 0, _ACROSS // 2) if upright else (0, _ACROSS // 2, half),
            counts=(cdiv(z, sizes[0]), cdiv(y, sizes[1]), cdiv(x, sizes[2])),
        )

    @property
    def constants(self) -> dict[str, int | bool]:
        """What kernels are told at compile time."""
        along = 0 if self.upright else 2
        return {"UPRIGHT": self.upright, "LENGTH": self.sizes[along], "HALF": self.halves[along]}

    def bytes_per_view(self, maps: Maps, storage: torch.dtype, dtype: torch.dtype) -> int:
        """Return how large the larger of a framed view and of what is known of it is."""
        places, lines = maps.detector_shape if self.upright else maps.detector_shape[::-1]
        frame = torch.finfo(storage).bits // 8 * (lines + 2 * FRONT) * pitch(places)
        return max(frame, torch.finfo(dtype).bits // 8 * 7 * self.count)

    def middles(self, maps: Maps, views: slice, volume: Tensor) -> Tensor:
        """Return (view, block, 7) for some views, in the type and on the device of a volume."""
        (nz, ny, nx), (rows, columns) = maps.grid_shape, maps.detector_shape
        exact = table(maps, volume.device, torch.float64)[views]
        out = volume.new_empty(len(exact), self.count, 7)
        found, size = len(exact) * self.count, 1024 if INTERPRETED else 128
        arguments = exact, out, found, *self.counts, (nz - 1) / 2, (ny - 1) / 2, (nx - 1) / 2
        constants = {
            **dict(zip(("BZ", "BY", "BX"), self.sizes, strict=True)),
            **dict(zip(("HALF_Z", "HALF_Y", "HALF_X"), self.halves, strict=True)),
        }
        sides = *limits(rows), *limits(columns)
        launch(_middles, (cdiv(found, size),), *arguments, *sides, ARC=maps.arc, BN=size, **constants)
        return out


def backproject(maps: Maps, values: Tensor, storage: torch.dtype, factor: Tensor | None) -> Tensor:
    """Sum, over the views, what voxels read: (batch, z, y, x)."""
    out = values.new_empty(len(values), *maps.grid_shape)
    cut = Cut.of(maps, 32 if values.dtype == torch.float64 else 128)  # float64 takes more registers
    size = cut.bytes_per_view(maps, storage, values.dtype)
    for item, volume in zip(values, out, strict=True):
        for views in chunks(len(maps.matrices), size):
            images = item[views].transpose(1, 2) if cut.upright else item[views]
            _launch(maps, cut, views, framed(images, storage, factor), volume)
    return out


def _launch(maps: Maps, cut: Cut, views: slice, frames: Tensor, volume: Tensor, *, wide: bool = INTERPRETED) -> None:
    """Add some views to a volume, which the first of them fill."""
    rows, columns = maps.detector_shape
    numbers, entries = table(maps, volume.device, volume.dtype)[views], cut.middles(maps, views, volume)
    arguments = (
        *(frames, numbers, entries, volume, len(numbers), frames[0].numel(), *maps.grid_shape),
        *(*limits(rows), *limits(columns), rows // 2 + FRONT, columns // 2 + FRONT),
    )
    constants = {"PITCH": frames.shape[2], "ARC": maps.arc, "ADD": views.start > 0, **cut.constants}
    if wide:
        bn = triton.next_power_of_2(min(volume.numel(), 4096))
        launch(_blocks_wide, (cdiv(volume.numel(), bn),), *arguments, BN=bn, **constants)
        return
    launch(_blocks, (cut.count,), *arguments, warps=1, **constants)
