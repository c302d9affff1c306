"""Tables of rays: where each crosses the planes of its main axis, made on the device from the vectors of its view.

Worked out in float64 with the formulas of `recon.kernels.reference` and rounded last, with positions counted from the
middle of the grid so that rounding takes least. Forward projection, adjoint and gradient read the same table.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from recon.kernels.gpu.launch import INTERPRETED, cdiv, launch
from recon.kernels.lines import Lines
from recon.kernels.plans import Kept

FIELDS = 6  # positions and slopes on p and q, mm between planes, main axis
LENGTH = 4  # which of them the adjoint multiplies projections by
MORE_ROWS = 4  # slots beyond the last row that may be read
LANES = 4096 if INTERPRETED else 256  # rays of a program
_BYTES = 1 << 28  # of a table
_TIE = 1 + 1e-9  # as in the twin


@dataclass(frozen=True)
class Table:
    """The rays of some views: (view, column + 2, field, pitch), the pixel (row, column) in slot row + 1, column + 1.

    A slot on every side of the detector is free, for the pixels beyond its edge.
    """

    views: slice
    data: Tensor

    @property
    def pitch(self) -> int:
        """Slots from one field to the next."""
        return self.data.shape[3]

    @property
    def length(self) -> int:
        """How many views there are."""
        return len(self.data)


def tables(lines: Lines, like: Tensor, *, bytes_per_ray: int = 0) -> Iterator[Table]:
    """Make the tables of as many views at a time as fit into 256 MiB, at least one, with the type of a tensor.

    Args:
        lines: the rays.
        like: a tensor on the device, of the type the positions are to have.
        bytes_per_ray: what the caller needs beside the table.
    """
    views, rows, columns = lines.shape
    pitch = cdiv(rows + 1 + MORE_ROWS, 32) * 32
    per_view = (columns + 2) * pitch * (FIELDS * like.element_size() + bytes_per_ray)
    step = max(1, _BYTES // per_view)
    vectors, along, bend, frame = on_device(lines, like.device)
    for first in range(0, views, step):
        chosen = slice(first, min(first + step, views))
        data = like.new_empty(chosen.stop - first, columns + 2, FIELDS, pitch)
        groups, across = len(data) * (columns + 2), tile(pitch)
        launch(
            _tabulate,
            (cdiv(groups, LANES // across), cdiv(pitch, across)),
            vectors[chosen],
            along,
            bend,
            frame,
            data,
            groups,
            rows,
            columns,
            *lines.grid_shape,
            PARALLEL=lines.parallel,
            PITCH=pitch,
            ACROSS=across,
            LANES=LANES,
        )
        yield Table(chosen, data)


def tile(rows: int) -> int:
    """Return how many lanes of a program lie along detector rows: neighbours in memory, a warp of them on a GPU."""
    return min(triton.next_power_of_2(rows), LANES if INTERPRETED else 32)


@Kept
def on_device(lines: Lines, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the vectors (view, 5, 3), `along`, `bend`, and spacing with the tie, copied to a device once."""
    vectors = torch.stack([lines.source, lines.centre, lines.v, lines.u, lines.depth], dim=1)
    frame = torch.tensor([*lines.spacing, _TIE], dtype=torch.float64)
    moved = (tensor.detach().contiguous().to(device) for tensor in (vectors, lines.along, lines.bend, frame))
    first, second, third, fourth = moved
    return first, second, third, fourth


@triton.jit
def _tabulate(
    vectors, along, bend, frame, table, groups, rows, columns, nz, ny, nx,
    PARALLEL: tl.constexpr, PITCH: tl.constexpr, ACROSS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    lane = tl.arange(0, LANES)
    group = tl.program_id(0) * (LANES // ACROSS) + lane // ACROSS
    slot = tl.program_id(1) * ACROSS + lane % ACROSS
    written = (group < groups) & (slot < PITCH)
    view, column = group // (columns + 2), group % (columns + 2) - 1
    rho = (slot - 1).to(tl.float64) - (rows - 1) * 0.5
    real = written & (column >= 0) & (column < columns)
    a, b = tl.load(along + column, mask=real, other=0.0), tl.load(bend + column, mask=real, other=0.0)
    at = vectors + view * 15
    pz, sz = pixel(at, rho, a, b, written), tl.load(at, mask=written, other=0.0)
    py, sy = pixel(at + 1, rho, a, b, written), tl.load(at + 1, mask=written, other=0.0)
    px, sx = pixel(at + 2, rho, a, b, written), tl.load(at + 2, mask=written, other=0.0)
    if PARALLEL:
        oz, oy, ox, dz, dy, dx = pz, py, px, sz, sy, sx
    else:
        oz, oy, ox, dz, dy, dx = sz, sy, sx, pz - sz, py - sy, px - sx

    tie = tl.load(frame + 3)
    along_x = tl.abs(dx) > tl.abs(dy) * tie
    along_z = tl.abs(dz) > tl.where(along_x, tl.abs(dx), tl.abs(dy)) * tie
    along_x = along_x & (~along_z)
    dm, om = pick(along_z, along_x, dz, dy, dx), pick(along_z, along_x, oz, oy, ox)
    exists = dm != 0.0
    dm = tl.where(exists, dm, 1.0)
    middle = (pick(along_z, along_x, nz, ny, nx) - 1).to(tl.float64) * 0.5
    slope_p, slope_q = tl.where(along_z, dy, dz) / dm, tl.where(along_x, dy, dx) / dm
    p = tl.where(along_z, oy - ny // 2, oz - nz // 2) + (middle - om) * slope_p
    q = tl.where(along_x, oy - ny // 2, ox - nx // 2) + (middle - om) * slope_q
    lz, ly, lx = dz * tl.load(frame), dy * tl.load(frame + 1), dx * tl.load(frame + 2)
    length = tl.sqrt(lz * lz + ly * ly + lx * lx) / tl.abs(dm)

    out = table + group.to(tl.int64) * (6 * PITCH) + slot
    kind = table.dtype.element_ty
    # A pixel on the source has no direction: its ray passes the grid far away.
    tl.store(out, tl.where(exists, p, 1e9).to(kind), mask=written)
    tl.store(out + PITCH, slope_p.to(kind), mask=written)
    tl.store(out + 2 * PITCH, tl.where(exists, q, 1e9).to(kind), mask=written)
    tl.store(out + 3 * PITCH, slope_q.to(kind), mask=written)
    tl.store(out + 4 * PITCH, length.to(kind), mask=written)
    tl.store(out + 5 * PITCH, tl.where(along_z, 0, tl.where(along_x, 2, 1)).to(kind), mask=written)


@triton.jit
def pixel(at, rho, a, b, mask):
    """Return one coordinate of a pixel (DERIVATIONS.md, eq. 1)."""
    centre, v = tl.load(at + 3, mask=mask, other=0.0), tl.load(at + 6, mask=mask, other=0.0)
    u, depth = tl.load(at + 9, mask=mask, other=0.0), tl.load(at + 12, mask=mask, other=0.0)
    return centre + rho * v + a * u + b * depth


@triton.jit
def pick(first, third, z, y, x):
    """Choose the value of the main axis."""
    return tl.where(first, z, tl.where(third, x, y))
