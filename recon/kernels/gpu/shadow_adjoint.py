"""The transpose of backprojection: every pixel gathers from the voxels around its ray, plane by plane.

See DERIVATIONS.md, section 10. Rays are worked out in float64, and only distances from them in the volume's type.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from recon.kernels.gpu.launch import INTERPRETED, MOST, cdiv, launch
from recon.kernels.gpu.shadow_places import arc_tangent, shadow
from recon.kernels.gpu.shadow_tables import Middle, centred
from recon.kernels.maps import Maps
from recon.kernels.plans import Kept

_WIDTH: tl.constexpr = tl.constexpr(16)
_LAYOUT: tl.constexpr = tl.constexpr(6)  # whole numbers per view: sizes and strides of main, p and q
_UPRIGHT_FROM = 8  # rows and slices, from which on lanes run along them
_LANES = 64  # pixels per program
_MARGIN = 0.01  # voxels by which a window is widened: far more than float32 is wrong by
_WIDEST = 0.7  # rad between columns of an arc
_VIEWS = 64  # looked at together


@dataclass(frozen=True)
class _Plan:
    """Views whose rays cross all planes of an axis, and those of which nothing is known."""

    numbers: Tensor  # (view, WIDTH) as in `shadow_tables`, voxels ordered (main, p, q), float64
    layout: Tensor  # (view, 6)
    angles: Tensor  # (column + 1, 2), float64: cosine and sine of an arc's columns; tangent and secant of the step
    bounded: Tensor  # views
    others: Tensor
    upright: bool  # the volume is laid out (y, x, z)


def _plan(maps: Maps, device: torch.device) -> _Plan:
    numbers, middle = centred(maps), Middle.of(maps)
    angles = _angles(maps, numbers, middle)
    axis, safe = _axes(maps, numbers, angles, middle)
    nz, ny, nx = maps.grid_shape
    upright = min(nz, maps.detector_shape[0]) >= _UPRIGHT_FROM
    sizes = torch.tensor([nz, ny, nx])
    strides = torch.tensor([1, nx * nz, nz] if upright else [ny * nx, nx, 1])
    order = torch.tensor([[0, 1, 2], [1, 0, 2], [2, 0, 1]])[axis]
    functions = numbers[:, :12].unflatten(1, (3, 4))
    moved = functions[..., :3].gather(2, order[:, None].expand(-1, 3, -1))
    numbers[:, :12] = torch.cat([moved, functions[..., 3:]], dim=2).flatten(1)
    views = torch.arange(len(numbers), dtype=torch.int32)
    return _Plan(
        numbers=numbers.to(device),
        layout=torch.cat([sizes[order], strides[order]], dim=1).to(torch.int32).to(device),
        angles=angles.to(device),
        bounded=views[safe].to(device),
        others=views[~safe].to(device),
        upright=upright,
    )


def _angles(maps: Maps, numbers: Tensor, middle: Middle) -> Tensor:
    columns = torch.arange(maps.detector_shape[1], dtype=torch.float64) - middle.column - 0.5
    gamma = (columns - numbers[0, 14]) / maps.scale if maps.arc else 0 * columns
    step = torch.tensor(1 / maps.scale if maps.arc else 0.0, dtype=torch.float64)
    step_of_window = torch.stack([step.tan(), 1 / step.cos()])[None]
    return torch.cat([torch.stack([gamma.cos(), gamma.sin()], dim=1), step_of_window])


def _axes(maps: Maps, numbers: Tensor, angles: Tensor, middle: Middle) -> tuple[Tensor, Tensor]:
    """Return the axis whose planes the rays of each view cross most steeply, and whether all of them cross all planes.

    A component of the direction of the rays in a window is affine in row and column: corners bound it.
    """
    parts = [_steepness(maps, some, angles, middle) for some in numbers.split(_VIEWS)]
    least, axis = torch.cat(parts).max(1)
    wide = maps.arc and 1 / maps.scale > _WIDEST
    return axis, (least > 1e-3) & (not wide)


def _steepness(maps: Maps, numbers: Tensor, angles: Tensor, middle: Middle) -> Tensor:
    """Return the least share (view, 3) that each axis has in the rays of a view; negative where it has both signs."""
    rows, columns = maps.detector_shape
    a, b, c = (function[:, None] for function in numbers[:, :12].unflatten(1, (3, 4))[..., :3].unbind(1))
    row = torch.tensor([-1.0, rows], dtype=torch.float64) - middle.row - 0.5
    if maps.arc:
        cosine, sine = angles[:-1, :1], angles[:-1, 1:]
        b, c = b * cosine - c * sine, b * sine + c * cosine  # (view, column, 3)
        tangent, secant = angles[-1]
        row = torch.cat([row - numbers[:, 12:13], (row - numbers[:, 12:13]) * secant], dim=1)  # (view, corner)
        column = torch.stack([-tangent, tangent])
    else:
        row = row[None]
        column = torch.tensor([-1.0, columns], dtype=torch.float64) - middle.column - 0.5
    first = a[:, :, None] - row[:, None, :, None] * c[:, :, None]  # (view, column, corner, 3)
    second = b[:, :, None] - column[:, None] * c[:, :, None]
    direction = torch.linalg.cross(*torch.broadcast_tensors(first[:, :, :, None], second[:, :, None]))
    direction = (direction / direction.norm(dim=-1, keepdim=True)).flatten(1, -2).nan_to_num(0.0)
    return torch.maximum(direction.amin(1), -direction.amax(1))


plan = Kept(_plan)


@triton.jit
def _crossing(rho, kappa, ak, ap, aq, a1, bk, bp, bq, b1, ck, cp, cq, c1):
    """Return where the ray of a place on the detector crosses plane k: p = p0 + p1 k, q = q0 + q1 k."""
    first_p, first_q = ap - rho * cp, aq - rho * cq
    second_p, second_q = bp - kappa * cp, bq - kappa * cq
    first_k, second_k, first_1, second_1 = ak - rho * ck, bk - kappa * ck, a1 - rho * c1, b1 - kappa * c1
    scale = 1.0 / (first_p * second_q - first_q * second_p)
    p0 = (first_q * second_1 - second_q * first_1) * scale
    p1 = (first_q * second_k - second_q * first_k) * scale
    q0 = (second_p * first_1 - first_p * second_1) * scale
    q1 = (second_p * first_k - first_p * second_k) * scale
    return p0, p1, q0, q1


@triton.jit
def _window(k, a0, a1, b0, b1, c0, c1, d0, d1, middle, size, margin):
    """Return the first and the last voxel between four crossings of plane k, and a little around them."""
    a, b, c, d = a0 + a1 * k, b0 + b1 * k, c0 + c1 * k, d0 + d1 * k
    low = tl.minimum(tl.minimum(a, b), tl.minimum(c, d)) + (middle - margin)
    high = tl.maximum(tl.maximum(a, b), tl.maximum(c, d)) + (middle + margin)
    first = tl.ceil(tl.minimum(tl.maximum(low, 0.0), 2.0 * middle + 1.0)).to(tl.int32)
    last = tl.floor(tl.minimum(tl.maximum(high, -1.0), 2.0 * middle)).to(tl.int32)
    return first, last


@triton.jit
def _gather(
    volume, numbers, layout, angles, view, row, column, planes, columns, half_row, half_column, margin,
    ARC: tl.constexpr,
):  # fmt: skip
    """Return what pixels gather in a view, which is one number or one for each; rows and columns are 1-D tensors."""
    kind: tl.constexpr = volume.dtype.element_ty
    at = layout + view * _LAYOUT
    nk, np, nq = tl.load(at), tl.load(at + 1), tl.load(at + 2)
    sk, sp, sq = tl.load(at + 3).to(tl.int64), tl.load(at + 4).to(tl.int64), tl.load(at + 5).to(tl.int64)
    mp, mq = (np - 1).to(tl.float64) * 0.5, (nq - 1).to(tl.float64) * 0.5
    mk = (nk - 1).to(tl.float64) * 0.5
    entry = numbers + view * _WIDTH
    ak, ap, aq, a1 = tl.load(entry), tl.load(entry + 1), tl.load(entry + 2), tl.load(entry + 3)
    bk, bp, bq, b1 = tl.load(entry + 4), tl.load(entry + 5), tl.load(entry + 6), tl.load(entry + 7)
    ck, cp, cq, c1 = tl.load(entry + 8), tl.load(entry + 9), tl.load(entry + 10), tl.load(entry + 11)
    rho, kappa = row.to(tl.float64) - half_row, column.to(tl.float64) - half_column
    if ARC:  # seen from the column's direction
        cosine, sine = tl.load(angles + 2 * column), tl.load(angles + 2 * column + 1)
        bk, ck = bk * cosine - ck * sine, bk * sine + ck * cosine
        bp, cp = bp * cosine - cp * sine, bp * sine + cp * cosine
        bq, cq = bq * cosine - cq * sine, bq * sine + cq * cosine
        b1, c1 = b1 * cosine - c1 * sine, b1 * sine + c1 * cosine
        rho -= tl.load(entry + 12)
        kappa *= 0.0
        tangent, secant = tl.load(angles + 2 * columns), tl.load(angles + 2 * columns + 1)
        low, high = rho - 1.0, rho + 1.0
        low = tl.where(low < 0, low * secant, low)
        high = tl.where(high > 0, high * secant, high)
        left, right = kappa - tangent, kappa + tangent
    else:
        low, high, left, right = rho - 1.0, rho + 1.0, kappa - 1.0, kappa + 1.0
    p0, p1, q0, q1 = _crossing(rho, kappa, ak, ap, aq, a1, bk, bp, bq, b1, ck, cp, cq, c1)
    pa0, pa1, qa0, qa1 = _crossing(low, left, ak, ap, aq, a1, bk, bp, bq, b1, ck, cp, cq, c1)
    pb0, pb1, qb0, qb1 = _crossing(low, right, ak, ap, aq, a1, bk, bp, bq, b1, ck, cp, cq, c1)
    pc0, pc1, qc0, qc1 = _crossing(high, left, ak, ap, aq, a1, bk, bp, bq, b1, ck, cp, cq, c1)
    pd0, pd1, qd0, qd1 = _crossing(high, right, ak, ap, aq, a1, bk, bp, bq, b1, ck, cp, cq, c1)
    pa0, pa1, qa0, qa1 = pa0.to(kind), pa1.to(kind), qa0.to(kind), qa1.to(kind)
    pb0, pb1, qb0, qb1 = pb0.to(kind), pb1.to(kind), qb0.to(kind), qb1.to(kind)
    pc0, pc1, qc0, qc1 = pc0.to(kind), pc1.to(kind), qc0.to(kind), qc1.to(kind)
    pd0, pd1, qd0, qd1 = pd0.to(kind), pd1.to(kind), qd0.to(kind), qd1.to(kind)
    along0, along1 = (c1 + cp * p0 + cq * q0).to(kind), (ck + cp * p1 + cq * q1).to(kind)
    row_p, row_q = (ap - rho * cp).to(kind), (aq - rho * cq).to(kind)
    column_p, column_q = (bp - kappa * cp).to(kind), (bq - kappa * cq).to(kind)
    cp, cq, height = cp.to(kind), cq.to(kind), rho.to(kind)
    total = tl.zeros(row.shape, kind)
    for plane in range(planes):
        k = plane - mk
        kf = k.to(kind)
        first_p, last_p = _window(kf, pa0, pa1, pb0, pb1, pc0, pc1, pd0, pd1, mp.to(kind), np, margin)
        first_q, last_q = _window(kf, qa0, qa1, qb0, qb1, qc0, qc1, qd0, qd1, mq.to(kind), nq, margin)
        some = (first_p <= last_p) & (first_q <= last_q) & (plane + 0 * first_p < nk)
        most_p = tl.max(tl.where(some, last_p - first_p + 1, 0))
        most_q = tl.max(tl.where(some, last_q - first_q + 1, 0))
        from_p = (first_p - (p0 + p1 * k + mp)).to(kind)
        from_q = (first_q - (q0 + q1 * k + mq)).to(kind)
        depth = along0 + along1 * kf
        start = volume + (plane * sk + first_p * sp + first_q * sq)
        for i in range(most_p):
            dp = from_p + i
            for j in range(most_q):
                dq = from_q + j
                inside = some & (first_p + i <= last_p) & (first_q + j <= last_q)
                c = depth + (cp * dp + cq * dq)
                off_row, off_column = row_p * dp + row_q * dq, column_p * dp + column_q * dq
                if ARC:
                    length = tl.sqrt(off_column * off_column + c * c)
                    bent = off_column * off_column / tl.maximum(length + c, 1e-30)
                    nearness = 1.0 / length
                    off_row = (off_row - height * bent) * nearness
                    off_column = arc_tangent(off_column, c) * tl.load(entry + 13).to(kind)
                else:
                    nearness = 1.0 / c
                    off_row *= nearness
                    off_column *= nearness
                hat = tl.maximum(1.0 - tl.abs(off_row), 0.0) * tl.maximum(1.0 - tl.abs(off_column), 0.0)
                value = tl.load(start + (i * sp + j * sq), mask=inside, other=0.0)
                total += tl.where(inside, hat * (nearness * nearness), 0.0) * value
    return total


@triton.jit(do_not_specialize_on_alignment=["volume", "out"])
def _gathered(
    volume, numbers, layout, angles, which, out, views, rows, columns, size, half_row, half_column, margin,
    ARC: tl.constexpr, BR: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """Fill blocks of BR rows and BC columns of some views of out (batch, view, row, column)."""
    down, across = tl.cdiv(rows, BR), tl.cdiv(columns, BC)
    program = tl.program_id(0)
    view = tl.load(which + program // (down * across))
    lane = tl.arange(0, BR * BC)
    row = program // across % down * BR + lane % BR
    column = program % across * BC + lane // BR
    item = tl.program_id(1).to(tl.int64)
    total = _gather(
        volume + item * size, numbers, layout, angles, view, row, tl.minimum(column, columns - 1),
        tl.load(layout + view * _LAYOUT), columns, half_row, half_column, margin, ARC,
    )  # fmt: skip
    at = out + (((item * views + view) * rows + row) * columns + column)
    tl.store(at, total, mask=(row < rows) & (column < columns))


@triton.jit
def _gathered_wide(
    volume, numbers, layout, angles, which, out, views, rows, columns, size, half_row, half_column, margin,
    count, planes, ARC: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """Do the same for BN pixels of any views at once, for the interpreter."""
    n = tl.program_id(0) * BN + tl.arange(0, BN)
    mask = n < count
    n = tl.minimum(n, count - 1)
    view = tl.load(which + n // (rows * columns))
    row, column = n // columns % rows, n % columns
    item = tl.program_id(1).to(tl.int64)
    total = _gather(
        volume + item * size, numbers, layout, angles, view, row, column, planes, columns, half_row, half_column,
        margin, ARC,
    )  # fmt: skip
    tl.store(out + (((item * views + view) * rows + row) * columns + column), total, mask=mask)


@triton.jit
def _all_voxels(
    volume, numbers, layout, which, out, views, rows, columns, size, half_row, half_column, ARC: tl.constexpr,
    BN: tl.constexpr,
):  # fmt: skip
    """Let pixels look at every voxel: for views of which nothing is known."""
    blocks = tl.cdiv(rows * columns, BN)
    view = tl.load(which + tl.program_id(0) // blocks)
    n = tl.program_id(0) % blocks * BN + tl.arange(0, BN)
    item = tl.program_id(1).to(tl.int64)
    at = layout + view * _LAYOUT
    nk, np, nq = tl.load(at), tl.load(at + 1), tl.load(at + 2)
    sk, sp, sq = tl.load(at + 3).to(tl.int64), tl.load(at + 4).to(tl.int64), tl.load(at + 5).to(tl.int64)
    volume += item * size
    rho = (n // columns).to(tl.float64) - half_row
    kappa = (n % columns).to(tl.float64) - half_column
    total = tl.zeros((BN,), tl.float64)
    for k in range(nk):
        for p in range(np):
            for q in range(nq):
                kf, pf, qf = k - (nk - 1) * 0.5, p - (np - 1) * 0.5, q - (nq - 1) * 0.5
                entry = numbers + view * _WIDTH
                seen_row, seen_column, nearness = shadow(
                    entry, kf.to(tl.float64), pf.to(tl.float64), qf.to(tl.float64), ARC
                )
                hat = tl.maximum(1.0 - tl.abs(seen_row - rho), 0.0) * tl.maximum(1.0 - tl.abs(seen_column - kappa), 0.0)
                value = tl.load(volume + (k * sk + p * sp + q * sq)).to(tl.float64)
                total += hat * (nearness * nearness * value)
    at_out = out + ((item * views + view) * rows * columns + n)
    tl.store(at_out, total.to(out.dtype.element_ty), mask=n < rows * columns)


def backproject_adjoint(maps: Maps, volume: Tensor) -> Tensor:
    """Add volumes (batch, z, y, x) to their shadows with the weights of `backproject`: (batch, view, row, column)."""
    found = plan(maps, volume.device)
    laid_out = (volume.detach().permute(0, 2, 3, 1) if found.upright else volume.detach()).contiguous()
    out = volume.new_empty(len(volume), len(maps.matrices), *maps.detector_shape)
    if volume[0:1].numel() == 0:
        return out.zero_()
    for first in range(0, len(out), MOST):
        _launch(maps, found, laid_out[first : first + MOST], out[first : first + MOST])
    return out


def _launch(maps: Maps, found: _Plan, volume: Tensor, out: Tensor, *, wide: bool = INTERPRETED) -> None:
    rows, columns = maps.detector_shape
    halves = rows // 2 + 0.5, columns // 2 + 0.5
    shape = len(maps.matrices), rows, columns, volume[0].numel()
    tables = volume, found.numbers, found.layout
    others = len(found.others) * cdiv(rows * columns, 32), len(volume)
    launch(_all_voxels, others, *tables, found.others, out, *shape, *halves, ARC=maps.arc, BN=32, warps=1)
    arguments = (*tables, found.angles, found.bounded, out, *shape, *halves, _MARGIN)
    if wide:
        count = len(found.bounded) * rows * columns
        bn = triton.next_power_of_2(min(max(count, 1), 4096))
        planes = max(maps.grid_shape)
        launch(_gathered_wide, (cdiv(count, bn), len(volume)), *arguments, count, planes, ARC=maps.arc, BN=bn)
        return
    br = min(32, triton.next_power_of_2(rows)) if found.upright else 1
    bc = _LANES // br
    grid = len(found.bounded) * cdiv(rows, br) * cdiv(columns, bc), len(volume)
    launch(_gathered, grid, *arguments, ARC=maps.arc, BR=br, BC=bc, warps=1)
