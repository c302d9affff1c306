"""The transpose of Joseph's projector in plane: pixels gather from the rays that can touch them.

One image: each pixel finds the first ray that can touch it and reads a window of rays. Stacks: a tile of pixels takes
the bins that it can see a few at a time, as a product of matrices: weights (pixel, bin) · values (bin, image).
"""

import triton
import triton.language as tl
from torch import Tensor

from recon.kernels.gpu.launch import cdiv, launch
from recon.kernels.gpu.plane_rays import FINE, MAGIC, MAGIC_BITS
from recon.kernels.gpu.plane_tables import PAD, TURNED, bins, sizes, work
from recon.kernels.lines import Lines

_PAD = tl.constexpr(PAD)
_TURNED = tl.constexpr(TURNED)

_WARPS = 4  # groups of 32 threads


@triton.jit
def arc_tangent(x):
    """Return atan(x) for −1 ≤ x ≤ 1, within 2e-6; outside, that of the nearer end."""
    x = tl.minimum(tl.maximum(x, -1.0), 1.0)
    y = x * x
    p = -0.01172120 * y + 0.05265332
    p = p * y - 0.11643287
    p = p * y + 0.19354346
    p = p * y - 0.33262347
    p = p * y + 0.99997726
    return p * x


@triton.jit
def _first_ray(MAPS, view, y, x, middle, columns, slack, arc, PARALLEL: tl.constexpr, ARC: tl.constexpr):
    """Return the first ray of a view that can touch pixels (y, x), counted from the image's middle: from −PAD on."""
    m = MAPS + view * 8
    column = tl.load(m) + tl.load(m + 1) * y + tl.load(m + 2) * x
    if not PARALLEL:
        column = column / (tl.load(m + 3) + tl.load(m + 4) * y + tl.load(m + 5) * x)
    if ARC:
        column = arc_tangent(column / arc) * arc
    first = column + (middle + 0.5 - slack - tl.load(m + 6))
    first = tl.minimum(tl.maximum(first, 0.0 - _PAD), columns)
    return (first + MAGIC).to(tl.int32, bitcast=True) - MAGIC_BITS


@triton.jit
def _gather(
    values, WHOLE, PART, SLOPE, MAPS, y, x, ny, nx, columns, views, slack, arc, TAPS: tl.constexpr,
    PARALLEL: tl.constexpr, ARC: tl.constexpr,
):  # fmt: skip
    """Sum over all views the values at pixels (y, x)."""
    stride = columns + 2 * _PAD
    row, column = (y - ny // 2) * 1.0, (x - nx // 2) * 1.0
    down, right = y - (ny - 1) * 0.5, x - (nx - 1) * 0.5
    y, x = y + _TURNED, x * 1.0
    total = y * 0.0
    for view in range(views):
        first = _first_ray(MAPS, view, down, right, (columns - 1) * 0.5, columns * 1.0, slack, arc, PARALLEL, ARC)
        at = first + (view * stride + _PAD)
        for tap in tl.static_range(TAPS):
            whole = tl.load(WHOLE + at + tap)
            y_main = whole < _TURNED / 2
            away = whole - tl.where(y_main, x, y)
            away = tl.fma(tl.load(SLOPE + at + tap), tl.where(y_main, row, column), away) + tl.load(PART + at + tap)
            total += tl.maximum(1.0 - tl.abs(away), 0.0) * tl.load(values + at + tap)
    return total


@triton.jit
def spread_image(
    values, WHOLE, PART, SLOPE, MAPS, out, ny, nx, columns, views, slack, arc, TAPS: tl.constexpr,
    PARALLEL: tl.constexpr, ARC: tl.constexpr, TY: tl.constexpr, TX: tl.constexpr,
):  # fmt: skip
    """Spread one set of weighted values, (view, bin) with PAD zeros around each view's, over a tile of an image."""
    e = tl.arange(0, TY * TX)
    y, x = tl.program_id(1) * TY + e // TX, tl.program_id(0) * TX + e % TX
    image = tl.program_id(2).to(tl.int64)
    total = _gather(
        values + image * views * (columns + 2 * _PAD), WHOLE, PART, SLOPE, MAPS, y, x, ny, nx, columns, views,
        slack, arc, TAPS, PARALLEL, ARC,
    )  # fmt: skip
    tl.store(out + image * ny * nx + y * nx + x, total, mask=(y < ny) & (x < nx))


@triton.jit
def _rounded(x):
    """Return numbers rounded to 11 bits, which tf32 holds."""
    return ((x.to(tl.int32, bitcast=True) + 0x1000) & -0x2000).to(tl.float32, bitcast=True)


@triton.jit
def _add_bins(
    total, values, s, bin, WHOLE, PART, SLOPE, y0, x0, row, column, y, x, pitch, CHUNK: tl.constexpr,
    WAY: tl.constexpr,
):  # fmt: skip
    """Add to a tile at (y0, x0), whose pixels lie y and x from there, what a chunk of bins spreads over it."""
    b = tl.arange(0, CHUNK)
    whole, slope = tl.load(WHOLE + bin + b), tl.load(SLOPE + bin + b)
    y_main = whole < _TURNED / 2
    away = tl.fma(slope, tl.where(y_main, row, column), whole - tl.where(y_main, x0, y0 + _TURNED))
    away += tl.load(PART + bin + b)
    by_y, by_x = tl.where(y_main, slope, -1.0), tl.where(y_main, -1.0, slope)
    away = away[None, :] + by_y[None, :] * y[:, None] + by_x[None, :] * x[:, None]
    if WAY != "single":
        away = (away + FINE) - FINE
    weight = tl.maximum(1.0 - tl.abs(away), 0.0)
    value = tl.load(values + bin.to(tl.int64) * pitch + b[:, None] * pitch + s[None, :])
    if WAY == "half":
        total = tl.dot(weight.to(tl.float16), value, total)
    elif WAY == "tf32":
        total = tl.dot(weight, value, total, input_precision="tf32")
    else:  # three products in tf32 of 11 bits and the rest; tensor cores round sums towards zero, so add up outside
        high, upper = _rounded(weight), _rounded(value)
        found = tl.dot(weight - high, upper, input_precision="tf32")
        found = tl.dot(high, value - upper, found, input_precision="tf32")
        total += tl.dot(high, upper, found, input_precision="tf32")
    return total


@triton.jit
def spread_stack(
    values, scale, WHOLE, PART, SLOPE, FIRST, CHUNKS, out, ny, nx, top, before, count,
    pitch, TILE: tl.constexpr, LANES: tl.constexpr, CHUNK: tl.constexpr, WAY: tl.constexpr,
):  # fmt: skip
    """Spread weighted values, (view, bin, lane), over one tile of a stack of images (image, y, x)."""
    tile, across = tl.program_id(0), tl.cdiv(nx, TILE)
    y0, x0 = (top + tile // across) * TILE, tile % across * TILE
    p = tl.arange(0, TILE * TILE)
    s = tl.program_id(1) * LANES + tl.arange(0, LANES)
    y, x = p // TILE, p % TILE
    row, column = (y0 - ny // 2) * 1.0, (x0 - nx // 2) * 1.0
    total = tl.zeros((TILE * TILE, LANES), tl.float32)
    for c in range(tl.load(FIRST + tile), tl.load(FIRST + tile + 1)):
        total = _add_bins(
            total, values, s, tl.load(CHUNKS + c), WHOLE, PART, SLOPE, y0 * 1.0, x0 * 1.0, row, column, y * 1.0,
            x * 1.0, pitch, CHUNK, WAY,
        )  # fmt: skip
    total = total * tl.load(scale + s)[None, :]
    there = ((y0 + y) * nx + x0 + x)[:, None] + ((before + s).to(tl.int64) * ny * nx)[None, :]
    tl.store(out + there, total, mask=((y0 + y < ny) & (x0 + x < nx))[:, None] & (s < count)[None, :])


def adjoint_image(lines: Lines, values: Tensor, out: Tensor) -> None:
    """Fill images (image, y, x) from values (image, view, column), one by one, where `bins` finds windows."""
    table = bins(lines, values.device)
    views, columns = table.length.shape
    weighted = values.new_zeros(len(values), views, table.stride)
    weighted[:, :, PAD : PAD + columns] = values * table.length
    ny, nx = out.shape[1:]
    ty, tx = sizes().pixels
    launch(
        spread_image, (cdiv(nx, tx), cdiv(ny, ty), len(out)), weighted, table.whole, table.part, table.slope,
        table.maps, out, ny, nx, columns, views, table.slack, table.arc, warps=_WARPS, TAPS=table.taps,
        PARALLEL=lines.parallel, ARC=table.arc > 0, TY=ty, TX=tx,
    )  # fmt: skip


def adjoint_stack(
    lines: Lines, values: Tensor, scale: Tensor, out: Tensor, before: int, lanes: int, count: int, way: str
) -> None:
    """Fill images (image, y, x), from number `before` on, from weighted values (view, bin, lane).

    Args:
        lines: the rays.
        values: times mm per line, with PAD zeros around each view's.
        scale: what each lane's image is multiplied by.
        out: all images.
        before: the number of the first lane's image.
        lanes: how many a program takes; a divisor of the lanes there are.
        count: how many lanes hold values.
        way: "single", "tf32" or "half".
    """
    table, size = bins(lines, values.device), sizes()
    for part in work(lines, values.device):
        launch(
            spread_stack, (part.tiles, values.shape[-1] // lanes), values, scale, table.whole, table.part, table.slope,
            part.first, part.chunks, out, *out.shape[1:], part.row, before, count,
            values.shape[-1], warps=_WARPS, TILE=size.tile, LANES=lanes, CHUNK=size.chunk, WAY=way,
        )  # fmt: skip
