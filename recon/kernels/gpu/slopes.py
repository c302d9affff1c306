"""Derivatives with respect to the geometry: five sums per ray, and from them derivatives by the vectors of its view.

Both stay on the device. Programs of the second kernel own shares of a view's rays; what they found is summed once all
views are done, so that chunks of views change no bit.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from recon.kernels.gpu.joseph import bordered, corners, grid, ray, shape_of_program, swapped
from recon.kernels.gpu.launch import INTERPRETED, cdiv, launch
from recon.kernels.gpu.rays import on_device, pick, tables
from recon.kernels.lines import Lines
from recon.kernels.reference import below_a_kink

_SUMS = 5  # numbers of a ray
_VECTORS = 15  # numbers of a view: source, centre, v, u, depth
_RAYS = 4096 if INTERPRETED else 128  # of a view that a program takes at a time
_PROGRAMS = 64  # of a view, at most


def ray_gradient(lines: Lines, volume: Tensor, projections: Tensor) -> Tensor:
    """Differentiate the sum of `forward` times projections: (view, 5, 3) for source, centre, v, u and depth.

    Float64, on the CPU; on planes of voxel centres, and within `below_a_kink` of them, the slope is that towards larger
    indices.
    """
    volume, projections = volume.detach(), projections.detach().to(volume.dtype).contiguous()
    programs = min(cdiv(lines.rows * len(lines.along), _RAYS), _PROGRAMS)
    out = torch.zeros(lines.shape[0], programs, _VECTORS, dtype=torch.float64, device=volume.device)
    for first, padded in bordered(lines, volume):
        for table in tables(lines, volume, bytes_per_ray=_SUMS * volume.element_size()):
            sums = volume.new_empty(table.length, *lines.shape[1:], _SUMS)
            launch(
                _sums,
                (*grid(lines, table, 1)[:2], 1),
                table.data,
                padded,
                projections[first:],
                sums,
                len(padded),
                table.views.start,
                table.length,
                *lines.shape,
                *lines.grid_shape,
                *padded.stride(),
                below_a_kink(lines.grid_shape),
                **shape_of_program(lines, table, padded),
            )
            _add_chain(lines, table.views, sums, out[table.views])
    return out.sum(1).cpu().unflatten(1, (5, 3))


def _add_chain(lines: Lines, views: slice, sums: Tensor, out: Tensor) -> None:
    """Add to out (view, program, 15) what the rays of some views tell, each program its share of them."""
    count, programs, _ = out.shape
    _, rows, columns = lines.shape
    vectors, along, bend, frame = on_device(lines, sums.device)
    launch(
        _chain,
        (count * programs,),
        vectors[views],
        along,
        bend,
        frame,
        sums,
        out,
        programs,
        rows,
        columns,
        *lines.grid_shape,
        PARALLEL=lines.parallel,
        LANES=_RAYS,
    )


@triton.jit
def _sums(
    table, volume, projections, sums, items, view0, chunk, views, rows, columns, nz, ny, nx,
    item_stride, stride_z, stride_y, stride_x, ahead,
    AXIS: tl.constexpr, PITCH: tl.constexpr, FAR: tl.constexpr, ACROSS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """Fill sums (view, row, column, 5) with the S, Gp, Hp, Gq, Hq of DERIVATIONS.md, eq. 19."""
    lane = tl.arange(0, LANES)
    group = tl.program_id(0) * (LANES // ACROSS) + lane // ACROSS
    row = tl.program_id(1) * ACROSS + lane % ACROSS
    exists = (group < chunk * columns) & (row < rows)
    (
        a_p, b_p, a_q, b_q, low_p, high_p, low_q, high_q, _, main, middle, first, last, count,
        step, step_p, step_q, start,
    ) = ray(
        table, group, row, columns, nz, ny, nx, stride_z, stride_y, stride_x, exists, AXIS, PITCH, FAR
    )  # fmt: skip
    a_p, a_q = a_p + ahead, a_q + ahead  # the corners are those beyond a kink
    begin, end = tl.min(first), tl.max(last)
    view, column = group // columns, group % columns
    pixel = ((view0 + view).to(tl.int64) * rows + row) * columns + column
    zero = tl.zeros((LANES,), table.dtype.element_ty)
    s, g_p, h_p, g_q, h_q = zero, zero, zero, zero, zero
    plain = (tl.max(tl.where(main == AXIS, 1, 0)) == 0) & (tl.max(count) == tl.min(count))
    for item in range(items):
        image = volume + tl.cast(item, tl.int64) * item_stride
        y = tl.load(projections + tl.cast(item, tl.int64) * views * rows * columns + pixel, mask=exists, other=0.0)
        s1, g_p1, h_p1, g_q1, h_q1 = zero, zero, zero, zero, zero
        if plain:
            for k in range(begin, end):
                dk = k - middle
                c00, c01, c10, c11, f, g = corners(
                    image, start + k * step, a_p, b_p, a_q, b_q, low_p, high_p, low_q, high_q, step_p, 1, dk
                )
                s1, g_p1, h_p1, g_q1, h_q1 = add(s1, g_p1, h_p1, g_q1, h_q1, c00, c01, c10, c11, f, g, dk, ahead)
        else:
            for k in range(begin, end):
                dk = k - middle
                c00, c01, c10, c11, f, g = corners(
                    image, start + tl.minimum(k, count) * step,
                    a_p, b_p, a_q, b_q, low_p, high_p, low_q, high_q, step_p, step_q, dk
                )  # fmt: skip
                s1, g_p1, h_p1, g_q1, h_q1 = add(s1, g_p1, h_p1, g_q1, h_q1, c00, c01, c10, c11, f, g, dk, ahead)
        s, g_p, h_p, g_q, h_q = s + y * s1, g_p + y * g_p1, h_p + y * h_p1, g_q + y * g_q1, h_q + y * h_q1
    swap = swapped(main, AXIS)
    out = sums + ((view.to(tl.int64) * rows + row) * columns + column) * 5
    tl.store(out, s, mask=exists)
    tl.store(out + 1, tl.where(swap, g_q, g_p), mask=exists)
    tl.store(out + 2, tl.where(swap, h_q, h_p), mask=exists)
    tl.store(out + 3, tl.where(swap, g_p, g_q), mask=exists)
    tl.store(out + 4, tl.where(swap, h_p, h_q), mask=exists)


@triton.jit
def add(s, g_p, h_p, g_q, h_q, c00, c01, c10, c11, f, g, dk, ahead):
    """Add the sample of a crossing, its slopes on p and q, and these times the distance from the middle plane."""
    f, g = f - ahead, g - ahead
    low_q, high_q = c01 - c00, c11 - c10
    low = c00 + g * low_q
    by_p = c10 + g * high_q - low
    by_q = low_q + f * (high_q - low_q)
    return s + low + f * by_p, g_p + by_p, h_p + dk * by_p, g_q + by_q, h_q + dk * by_q


@triton.jit
def _chain(
    vectors, along, bend, frame, sums, out, programs, rows, columns, nz, ny, nx,
    PARALLEL: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """Add to out (view, program, 15) the derivatives by source, centre, v, u and depth, in float64."""
    view, share = tl.program_id(0) // programs, tl.program_id(0) % programs
    count = rows * columns
    at = vectors + view * 15
    sz, sy, sx = three(at)
    cz, cy, cx = three(at + 3)
    vz, vy, vx = three(at + 6)
    uz, uy, ux = three(at + 9)
    wz, wy, wx = three(at + 12)
    fz, fy, fx = three(frame)
    tie = tl.load(frame + 3)
    sums += view.to(tl.int64) * count * 5
    zero = tl.zeros((LANES,), tl.float64)
    source_z, source_y, source_x, centre_z, centre_y, centre_x = zero, zero, zero, zero, zero, zero
    v_z, v_y, v_x, u_z, u_y, u_x, depth_z, depth_y, depth_x = zero, zero, zero, zero, zero, zero, zero, zero, zero
    for first in range(share * LANES, count, programs * LANES):
        ray = first + tl.arange(0, LANES)
        exists = ray < count
        column = ray % columns
        rho = (ray // columns).to(tl.float64) - (rows - 1) * 0.5
        a, b = tl.load(along + column, mask=exists, other=0.0), tl.load(bend + column, mask=exists, other=0.0)
        pz, py, px = cz + rho * vz + a * uz + b * wz, cy + rho * vy + a * uy + b * wy, cx + rho * vx + a * ux + b * wx
        if PARALLEL:
            by_pixel_z, by_pixel_y, by_pixel_x, by_z, by_y, by_x = by_ray(
                sums + ray.to(tl.int64) * 5, exists, pz, py, px, sz + zero, sy + zero, sx + zero,
                nz, ny, nx, fz, fy, fx, tie
            )  # fmt: skip
        else:
            by_z, by_y, by_x, by_pixel_z, by_pixel_y, by_pixel_x = by_ray(
                sums + ray.to(tl.int64) * 5, exists, sz + zero, sy + zero, sx + zero, pz - sz, py - sy, px - sx,
                nz, ny, nx, fz, fy, fx, tie
            )  # fmt: skip
            by_z, by_y, by_x = by_z - by_pixel_z, by_y - by_pixel_y, by_x - by_pixel_x
        source_z, source_y, source_x = source_z + by_z, source_y + by_y, source_x + by_x
        centre_z, centre_y, centre_x = centre_z + by_pixel_z, centre_y + by_pixel_y, centre_x + by_pixel_x
        v_z, v_y, v_x = v_z + rho * by_pixel_z, v_y + rho * by_pixel_y, v_x + rho * by_pixel_x
        u_z, u_y, u_x = u_z + a * by_pixel_z, u_y + a * by_pixel_y, u_x + a * by_pixel_x
        depth_z, depth_y, depth_x = depth_z + b * by_pixel_z, depth_y + b * by_pixel_y, depth_x + b * by_pixel_x
    out += tl.program_id(0).to(tl.int64) * 15
    add_three(out, source_z, source_y, source_x)
    add_three(out + 3, centre_z, centre_y, centre_x)
    add_three(out + 6, v_z, v_y, v_x)
    add_three(out + 9, u_z, u_y, u_x)
    add_three(out + 12, depth_z, depth_y, depth_x)


@triton.jit
def by_ray(sums, exists, oz, oy, ox, dz, dy, dx, nz, ny, nx, fz, fy, fx, tie):
    """Return the derivatives by z, y, x of a point on each ray and of its direction (DERIVATIONS.md, eq. 20 and 21)."""
    along_x = tl.abs(dx) > tl.abs(dy) * tie
    along_z = tl.abs(dz) > tl.where(along_x, tl.abs(dx), tl.abs(dy)) * tie
    along_x = along_x & (~along_z)
    dm, om = pick(along_z, along_x, dz, dy, dx), pick(along_z, along_x, oz, oy, ox)
    real = dm != 0.0  # a pixel on the source has no direction, and sums of 0
    dm = tl.where(real, dm, 1.0)
    slope_p, slope_q = tl.where(along_z, dy, dz) / dm, tl.where(along_x, dy, dx) / dm
    spacing_p, spacing_q = tl.where(along_z, fy, fz), tl.where(along_x, fy, fx)
    lz, ly, lx = dz * fz, dy * fy, dx * fx
    length = tl.where(real, tl.sqrt(lz * lz + ly * ly + lx * lx) / tl.abs(dm), 1.0)
    ahead = (pick(along_z, along_x, nz, ny, nx) - 1).to(tl.float64) * 0.5 - om
    share = tl.load(sums, mask=exists, other=0.0).to(tl.float64) / length
    g_p = tl.load(sums + 1, mask=exists, other=0.0).to(tl.float64) * length
    h_p = tl.load(sums + 2, mask=exists, other=0.0).to(tl.float64) * length
    g_q = tl.load(sums + 3, mask=exists, other=0.0).to(tl.float64) * length
    h_q = tl.load(sums + 4, mask=exists, other=0.0).to(tl.float64) * length
    d_p = (h_p + ahead * g_p + share * spacing_p * spacing_p * slope_p) / dm
    d_q = (h_q + ahead * g_q + share * spacing_q * spacing_q * slope_q) / dm
    g_m, d_m = -(g_p * slope_p + g_q * slope_q), -(d_p * slope_p + d_q * slope_q)
    return (
        tl.where(along_z, g_m, g_p), tl.where(along_z, g_p, tl.where(along_x, g_q, g_m)), tl.where(along_x, g_m, g_q),
        tl.where(along_z, d_m, d_p), tl.where(along_z, d_p, tl.where(along_x, d_q, d_m)), tl.where(along_x, d_m, d_q),
    )  # fmt: skip


@triton.jit
def three(at):
    """Read one vector."""
    return tl.load(at), tl.load(at + 1), tl.load(at + 2)


@triton.jit
def add_three(at, z, y, x):
    """Add sums over lanes to one vector."""
    tl.store(at, tl.load(at) + tl.sum(z))
    tl.store(at + 1, tl.load(at + 1) + tl.sum(y))
    tl.store(at + 2, tl.load(at + 2) + tl.sum(x))
