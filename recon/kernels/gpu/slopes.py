"""Derivatives with respect to the geometry."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from recon.kernels.gpu.joseph import bordered, corners, grid, ray, shape_of_program, swapped
from recon.kernels.gpu.launch import launch
from recon.kernels.gpu.rays import tables
from recon.kernels.lines import Lines
from recon.kernels.reference import below_a_kink
from recon.kernels.slopes import chain

_BYTES_PER_RAY = 400  # of what `chain` works with


def ray_gradient(lines: Lines, volume: Tensor, projections: Tensor) -> Tensor:
    """Differentiate the sum of `forward` times projections: (view, 5, 3) for source, centre, v, u and depth.

    Float64, on the CPU; on planes of voxel centres, and within `below_a_kink` of them, the slope is that towards larger
    indices.
    """
    volume, projections = volume.detach(), projections.detach().to(volume.dtype).contiguous()
    out = torch.zeros(lines.shape[0], 5, 3, dtype=torch.float64)
    for first, padded in bordered(lines, volume):
        for table in tables(lines, volume, bytes_per_ray=_BYTES_PER_RAY):
            sums = volume.new_empty(table.length, *lines.shape[1:], 5)
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
            out[table.views] += chain(lines, table.views, sums)
    return out


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
