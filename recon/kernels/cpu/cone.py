"""Joseph's projector for cone beams whose detector rows are parallel to z, forward and exact adjoint.

Equal to `recon.kernels.reference` to rounding in float32 (DERIVATIONS.md, section 5). All rows of a detector column
share their path in the x-y plane; on each line of voxels they read two columns of voxels, blended, at heights that
are linear in the row. Volumes are therefore kept (y, x, z), projections (view, column, row). Forward jobs own views,
adjoint jobs tiles of voxel columns; each visits rays in a fixed order, so that threads change no bit.

Forward with 256³ voxels and 384² pixels, one thread of a Zen 5 with AVX-512: 62 ms to lay out the volume, half of them
for fresh memory, then 4 ms a view, a fifth of which goes to finding the lines and a quarter to blending columns.
"""

# mypy: disable-error-code="call-arg,var-annotated"
# Numba passes the first argument of intrinsics, and knows their types.

import math
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from recon.kernels import upright
from recon.kernels.cpu.compile import inline, kernel
from recon.kernels.cpu.resample import BORDER, MARGIN, SCRATCH, add_back, add_lines, clear, padded
from recon.kernels.cpu.simd import local_doubles, local_floats, local_ints
from recon.kernels.lines import Lines
from recon.kernels.plans import Kept
from recon.kernels.upright import DLEAP, DP, DQ, DRISE, DX, DY, FLAT, LEAP, MAIN, RISE, P, Q

_CACHE = 4e5  # bytes of a tile, to leave the second-level cache room for projections
TILE = 16  # the most columns of voxels on a side of a tile
_VIEWS = 8  # views that share a tile while it is in the cache

Array = np.ndarray[Any, Any]


def applies(lines: Lines, tensor: Tensor) -> bool:
    """Tell whether this path takes these rays."""
    return tensor.dtype == torch.float32 and _plan(lines) is not None


@Kept
def _plan(lines: Lines) -> tuple[Array, Array] | None:
    """Return the tables of `upright.rays`; None if this path does not take them."""
    if not upright.applies(lines):
        return None
    table, views = upright.rays(lines)
    return table.numpy(), views.numpy()


def _known(lines: Lines) -> tuple[Array, Array]:
    plan = _plan(lines)
    assert plan is not None  # `applies` said so
    return plan


def forward(lines: Lines, volume: Tensor) -> Tensor:
    """Integrate volumes (batch, z, y, x) along every ray: (batch, view, row, column)."""
    out = volume.new_empty(len(volume), *lines.shape)
    nz, ny, nx = lines.grid_shape
    framed = volume.new_empty(len(volume), ny + 2, nx + 2, padded(nz))
    frame(len(volume) * (ny + 2), volume.detach().contiguous().numpy(), framed.numpy())
    views, rows, columns = lines.shape
    threads = numba.get_num_threads()
    together = max(1, min(_VIEWS, len(volume) * views // (2 * threads)))
    jobs = len(volume) * -(-views // together)
    parts = max(1, min(columns // 16, -(-2 * threads // max(1, jobs))))
    forward_projection(
        jobs * parts, framed.flatten(1).numpy(), *_known(lines), nz, ny, nx, _tile(nz), together, parts, out.numpy(),
        scratch=SCRATCH + together * -(-columns // parts) * -(-rows // 32) * 32,
    )  # fmt: skip
    return out


def adjoint(lines: Lines, projections: Tensor) -> Tensor:
    """Spread projections (batch, view, row, column) back over the voxels with the weights of `forward`."""
    out = projections.new_empty(len(projections), *lines.grid_shape)
    table, views = _known(lines)
    _, rows, columns = lines.shape
    framed = projections.new_empty(len(projections), lines.shape[0], columns, _framed(rows))
    lay_out(len(out) * len(table), projections.detach().contiguous().numpy(), table, framed.numpy())
    tile = _tile(lines.grid_shape[0])
    jobs = len(out) * -(-lines.grid_shape[1] // tile) * -(-lines.grid_shape[2] // tile)
    column = (lines.grid_shape[0] + 31) & -16
    adjoint_projection(
        jobs, framed.flatten(1).numpy(), table, views, rows, tile, out.numpy(), scratch=column * (1 + (tile + 2) ** 2)
    )
    return out


def _framed(rows: int) -> int:
    length = 2 * BORDER + -(-rows // 16) * 16
    return length if length % 32 else length + 16


def _tile(heights: int) -> int:
    return max(4, min(TILE, int(math.sqrt(_CACHE / (4 * padded(heights)))) - 2))


@inline
def before(table, views, view, column, y, x):
    """Tell whether a ray passes a point on the side from which columns count."""
    ray = table[view, column]
    across = ray[DX] * (y - views[view, 0]) - ray[DY] * (x - views[view, 1])
    return across * views[view, 2] > 0


@inline
def touching(table, views, view, low_y, high_y, low_x, high_x):
    """Return the range of columns whose rays touch a rectangle, one more at each side."""
    columns = table.shape[1]
    least, most = columns, 0
    for corner in range(4):
        y = high_y if corner & 1 else low_y
        x = high_x if corner & 2 else low_x
        low, high = 0, columns
        while low < high:
            middle = (low + high) // 2
            if before(table, views, view, middle, y, x):
                low = middle + 1
            else:
                high = middle
        least, most = min(least, low), max(most, low)
    if columns == 1:
        return 0, 1
    return max(0, least - 1), min(columns, most + 1)


@inline
def steps(ray, begin, end, low, high):
    """Return steps in [begin, end) among which are all with low <= p < high."""
    p, slope = ray[P], ray[DP]
    if abs(slope) < 1e-12:
        return begin, end
    a, b = (low - p) / slope, (high - p) / slope
    if a > b:
        a, b = b, a
    a, b = min(max(a, begin), float(end)), min(max(b, begin), float(end))
    return int(math.floor(a)), min(end, int(math.ceil(b)) + 1)


@kernel
def frame(job0, job1, volumes, framed):
    """Turn volumes (batch, z, y, x) into columns (batch, y + 2, x + 2, z) between zeros."""
    _, nz, ny, nx = volumes.shape
    length = framed.shape[3]
    for job in range(job0, job1):
        item, y = job // (ny + 2), job % (ny + 2) - 1
        edge = y < 0 or y == ny
        for x in range(nx + 2):
            inside = 0 < x <= nx and not edge
            for z in range(0, MARGIN if inside else length):
                framed[item, y + 1, x, z] = 0
            for z in range(MARGIN + nz, length):
                framed[item, y + 1, x, z] = 0
        for z0 in range(0, 0 if edge else nz, 16):
            for z in range(z0, min(nz, z0 + 16)):
                for x in range(nx):
                    framed[item, y + 1, x + 1, MARGIN + z] = volumes[item, z, y, x]


@kernel
def forward_projection(job0, job1, space, framed, table, views, nz, ny, nx, tile, together, parts, out):
    """Fill out (batch, view, row, column) from volumes (batch, y + 2, x + 2, z) framed by zeros."""
    _, count, rows, columns = out.shape
    stride = framed.shape[1] // ((ny + 2) * (nx + 2))
    blocks, lanes = (count + together - 1) // together, (rows + 31) & -32
    one, other, start, leap = local_ints(TILE), local_ints(TILE), local_doubles(TILE), local_doubles(TILE)
    share, other_share = local_floats(TILE), local_floats(TILE)
    for job in range(job0, job1):
        item, block, part = job // (blocks * parts), job // parts % blocks, job % parts
        first, last = block * together, min(count, (block + 1) * together)
        left, right = columns * part // parts, columns * (part + 1) // parts
        source = framed[item]
        scratch, sums = space[:SCRATCH], space[SCRATCH : SCRATCH + together * (right - left) * lanes]
        clear(sums)
        for y0 in range(0, ny + 1, tile):
            for x0 in range(0, nx + 1, tile):
                y1, x1 = min(ny + 1, y0 + tile), min(nx + 1, x0 + tile)
                for view in range(first, last):
                    a, b = touching(table, views, view, y0 - 1.0, y1 - 1.0, x0 - 1.0, x1 - 1.0)
                    for column in range(max(a, left), min(b, right)):
                        ray = table[view, column]
                        if ray[MAIN] == 0.0:
                            k0, k1, p0, p1, sm, sp = max(y0 - 1, 0), min(y1 - 1, ny), x0, x1, nx + 2, 1
                        else:
                            k0, k1, p0, p1, sm, sp = max(x0 - 1, 0), min(x1 - 1, nx), y0, y1, 1, nx + 2
                        k0, k1 = steps(ray, k0, k1, p0 - 1.0, p1 - 1.0)
                        n = 0
                        for k in range(k0, k1):
                            p = ray[P] + ray[DP] * k + 1.0
                            i = int(math.floor(p))
                            if p0 <= i < p1:
                                one[n] = ((k + 1) * sm + i * sp) * stride + MARGIN
                                other[n] = one[n] + sp * stride
                                share[n], other_share[n] = 1.0 - (p - i), p - i
                                start[n], leap[n] = ray[Q] + ray[DQ] * k, ray[LEAP] + ray[DLEAP] * k
                                n += 1
                        if n > 0:
                            at = ((view - first) * (right - left) + column - left) * lanes
                            sum_ = sums[at : at + lanes]
                            add_lines(source, one, other, share, other_share, start, leap, n, nz, sum_, scratch)
        for view in range(first, last):
            for column in range(left, right):
                at = ((view - first) * (right - left) + column - left) * lanes
                measure(table[view, column], sums[at : at + rows])
            for c0 in range(left, right, 16):
                for row in range(rows):
                    for column in range(c0, min(right, c0 + 16)):
                        out[item, view, row, column] = sums[
                            ((view - first) * (right - left) + column - left) * lanes + row
                        ]


@inline
def measure(ray, values):
    """Multiply the values of a column by the lengths of its rays between two lines of voxels, in mm."""
    for row in range(np.uint64(len(values))):
        rise = ray[RISE] + ray[DRISE] * np.float64(row)
        values[row] *= math.sqrt(ray[FLAT] + rise * rise)


@kernel
def lay_out(job0, job1, projections, table, framed):
    """Turn projections (batch, view, row, column) into columns between zeros, times the lengths of their rays."""
    _, views, rows, columns = projections.shape
    for job in range(job0, job1):
        item, view = job // views, job % views
        for c0 in range(0, columns, 16):
            c1 = min(columns, c0 + 16)
            for column in range(c0, c1):
                framed[item, view, column, :] = 0
            for row in range(rows):
                for column in range(c0, c1):
                    framed[item, view, column, BORDER + row] = projections[item, view, row, column]
            for column in range(c0, c1):
                measure(table[view, column], framed[item, view, column, BORDER : BORDER + rows])


@kernel
def adjoint_projection(job0, job1, space, framed, table, views, rows, tile, out):
    """Fill out (batch, z, y, x) from what `lay_out` gave."""
    _, nz, ny, nx = out.shape
    count, columns = table.shape[0], table.shape[1]
    length = framed.shape[1] // (count * columns)
    tiles_y, tiles_x = (ny + tile - 1) // tile, (nx + tile - 1) // tile
    stride, wide = (nz + 31) & -16, tile + 2
    for job in range(job0, job1):
        item, y0, x0 = job // (tiles_y * tiles_x), job // tiles_x % tiles_y * tile, job % tiles_x * tile
        y1, x1 = min(ny, y0 + tile), min(nx, x0 + tile)
        line, sums, values = space[:stride], space[stride : stride + wide * wide * stride], framed[item]
        clear(sums)
        for view in range(count):
            a, b = touching(table, views, view, y0 - 1.0, float(y1), x0 - 1.0, float(x1))
            for column in range(a, b):
                ray = table[view, column]
                if ray[MAIN] == 0.0:
                    k0, k1, p0, p1, m0, sm, sp = y0, y1, x0 - 1, x1, y0 - 1, wide, 1
                else:
                    k0, k1, p0, p1, m0, sm, sp = x0, x1, y0 - 1, y1, x0 - 1, 1, wide
                k0, k1 = steps(ray, k0, k1, float(p0), float(p1))
                at = (view * columns + column) * length + BORDER
                for k in range(k0, k1):
                    p = ray[P] + ray[DP] * k
                    i = int(math.floor(p))
                    if p0 <= i < p1:
                        one = ((k - m0) * sm + (i - p0) * sp) * stride
                        f = np.float32(p - i)
                        q, leap = ray[Q] + ray[DQ] * k, ray[LEAP] + ray[DLEAP] * k
                        other = one + sp * stride
                        add_back(values, at, rows, q, leap, sums, one, other, np.float32(1.0) - f, f, nz, line)
        for z in range(nz):
            for y in range(y0, y1):
                for x in range(x0, x1):
                    out[item, z, y, x] = sums[((y - y0 + 1) * wide + x - x0 + 1) * stride + z]
