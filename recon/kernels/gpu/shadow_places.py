"""Where a voxel's shadow falls, and how it is read: what kernels of shadows share, whatever the shape of their blocks.

Voxels are numbers or tensors that broadcast; see `recon.kernels.gpu.shadow_tables` for what a table holds.
"""

import triton
import triton.language as tl

_WIDTH: tl.constexpr = tl.constexpr(16)
_MAGIC: tl.constexpr = tl.constexpr(12582912.0)  # 1.5 · 2^23: float32 numbers near it are whole, in their last bits
RAISED: tl.constexpr = tl.constexpr(0x4B400000)


@triton.jit
def arc_tangent(b, c):
    """Return the angle of (c, b), from -π to π; Cephes' reductions and polynomials for its type."""
    small = tl.minimum(tl.abs(b), tl.abs(c))
    large = tl.maximum(tl.abs(b), tl.abs(c))
    t = small / tl.maximum(large, 1e-30)
    beyond = t > 0.4142135623730951  # the tangent of π / 8
    t = tl.where(beyond, (t - 1.0) / (t + 1.0), t)
    s = t * t
    if t.dtype == tl.float64:
        p = (((s * -8.750608600031904122785e-1 - 1.615753718733365076637e1) * s - 7.500855792314704667340e1) * s
             - 1.228866684490136173410e2) * s - 6.485021904942025371773e1  # fmt: skip
        q = ((((s + 2.485846490142306297962e1) * s + 1.650270098316988542046e2) * s + 4.328810604912902668951e2) * s
             + 4.853903996359136964868e2) * s + 1.945506571482613964425e2  # fmt: skip
        angle = t * (s * p / q) + t
    else:
        p = ((s * 8.05374449538e-2 - 1.38776856032e-1) * s + 1.99777106478e-1) * s - 3.33329491539e-1
        angle = t * (s * p) + t
    angle = tl.where(beyond, angle + 0.7853981633974483, angle)
    angle = tl.where(tl.abs(b) > tl.abs(c), 1.5707963267948966 - angle, angle)
    angle = tl.where(c < 0, 3.141592653589793 - angle, angle)
    return tl.where(b < 0, -angle, angle)


@triton.jit
def affine(table, z, y, x):
    """Return one affine function of a voxel."""
    return tl.load(table) * z + (tl.load(table + 1) * y + (tl.load(table + 2) * x + tl.load(table + 3)))


@triton.jit
def inverse_length(b, c):
    """Return 1 / hypot(b, c)."""
    square = b * b + c * c
    return 1.0 / (tl.sqrt(square) if square.dtype == tl.float64 else tl.sqrt_rn(square))


@triton.jit
def shadow(table, z, y, x, ARC: tl.constexpr):
    """Return where a view sees a voxel, from the middle, and what 1 / w is."""
    a = affine(table, z, y, x)
    b = affine(table + 4, z, y, x)
    c = affine(table + 8, z, y, x)
    if ARC:
        nearness = inverse_length(b, c)
        row = a * nearness + tl.load(table + 12)
        column = arc_tangent(b, c) * tl.load(table + 13) + tl.load(table + 14)
    else:
        nearness = 1.0 / c
        row = a * nearness
        column = b * nearness
    return row, column, nearness


@triton.jit
def rounded(place):
    """Return the whole number next to a float32 place, as an integer that is RAISED by so much, and as what it was.

    Rounding is at full rate where it is an addition; a conversion is not. RAISED is taken off a pointer, once.
    """
    moved = place + _MAGIC
    return moved.to(tl.int32, bitcast=True), moved - _MAGIC


@triton.jit
def split(place):
    """Return the row or column before a place, which is counted half a pixel off, and the share of the one after."""
    if place.dtype == tl.float64:
        whole = tl.floor(place + 0.5)
        i = whole.to(tl.int32)
    else:
        i, whole = rounded(place)
        i -= RAISED
    return i, place - whole + 0.5


@triton.jit
def within(place, low, high):
    """Move places outside the detector into the zeros around it."""
    return tl.minimum(tl.maximum(place, low), high)


@triton.jit
def write(at, total, mask, ADD: tl.constexpr):
    """Write sums, or add them to what is there."""
    if ADD:
        total += tl.load(at, mask=mask, other=0.0)
    tl.store(at, total, mask=mask)
