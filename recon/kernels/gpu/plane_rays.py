"""Joseph's projector in plane: rays walk from line to line of one image, or of a stack whose pixels lie side by side.

Images are framed by zeros, so that a ray that has left an image needs no mask, only to be kept within the frame.
"""

import triton
import triton.language as tl
from torch import Tensor

from recon.kernels.gpu.launch import launch
from recon.kernels.gpu.plane_tables import Blocks, blocks, sizes
from recon.kernels.lines import Lines

EDGE = 2  # pixels of frame on each side
_LINES = tl.constexpr(32)  # that rays cross before their place is taken anew from the tables
_EDGE = tl.constexpr(EDGE)
MAGIC = tl.constexpr(12582912.0)  # 1.5 · 2²³: added to a small number, its last bit stands for 1
MAGIC_BITS = tl.constexpr(0x4B400000)
FINE = tl.constexpr(6144.0)  # 1.5 · 2¹²: here for 1/2048


@triton.jit
def _begin_at(whole, part, slope, line):
    """Return a whole number near each ray's place on a line, less the bits of MAGIC, and the rest less half a pixel."""
    near = tl.floor(tl.fma(slope, line, whole))
    return near.to(tl.int32) - MAGIC_BITS, tl.fma(slope, line, whole - near) + (part - 0.5)


@triton.jit
def _below(place, shift, last, ROUND: tl.constexpr):
    """Return the pixel below each place, kept within the frame, and how far the place is from its far end: −½ to ½."""
    raised = place + MAGIC
    share = place - (raised - MAGIC)
    if ROUND:
        share = (share + FINE) - FINE
    return tl.minimum(tl.maximum(raised.to(tl.int32, bitcast=True) + shift, 0 - _EDGE), last), share


@triton.jit
def _walk(image, WHOLE, PART, slope, begin, end, middle, pixels, pitch):
    """Sum an image along rays, over the lines [begin, end)."""
    total = slope * 0.0
    at = image + _EDGE + begin.to(tl.int64) * pitch
    for base in range(begin, end, _LINES):
        shift, place = _begin_at(tl.load(WHOLE), tl.load(PART), slope, (base - middle) * 1.0)
        line = 0.0
        for _ in range(base, tl.minimum(base + _LINES, end)):
            i, share = _below(tl.fma(slope, line, place), shift, pixels, False)
            left, right = tl.load(at + i), tl.load(at + i + 1)
            total += (0.5 - share) * left
            total += (0.5 + share) * right
            line += 1.0
            at += pitch
    return total


@triton.jit
def project_image(
    frames, WHOLE, PART, SLOPE, LENGTH, RAY, MAIN, BEGIN, END, out, ny, nx, frame, outputs, SIZE: tl.constexpr
):  # fmt: skip
    """Integrate one image, framed in lines of fixed y and then in lines of fixed x, along one block of rays."""
    block, image = tl.program_id(0), tl.program_id(1).to(tl.int64)
    e = block * SIZE + tl.arange(0, SIZE)
    y_main = tl.load(MAIN + block)
    lines, pixels = tl.where(y_main != 0, ny, nx), tl.where(y_main != 0, nx, ny)
    start = frames + image * frame + tl.where(y_main != 0, 0, ny * (nx + 2 * _EDGE))
    total = _walk(
        start, WHOLE + e, PART + e, tl.load(SLOPE + e), tl.load(BEGIN + block), tl.load(END + block),
        lines // 2, pixels, pixels + 2 * _EDGE,
    )  # fmt: skip
    ray = tl.load(RAY + e)
    tl.store(out + image * outputs + ray, total * tl.load(LENGTH + e), mask=ray >= 0)


@triton.jit
def _walk_stack(
    images, s, WHOLE, PART, slope, begin, end, middle, pixels, line_step, pixel_step, total, ROUND: tl.constexpr
):  # fmt: skip
    """Sum a stack along rays, over the lines [begin, end)."""
    at = images + begin.to(tl.int64) * line_step
    for base in range(begin, end, _LINES):
        shift, place = _begin_at(tl.load(WHOLE), tl.load(PART), slope, (base - middle) * 1.0)
        line = 0.0
        for _ in range(base, tl.minimum(base + _LINES, end)):
            i, share = _below(tl.fma(slope, line, place), shift, pixels, ROUND)
            here = at + (i * pixel_step)[:, None] + s[None, :]
            left, right = tl.load(here), tl.load(here + pixel_step)
            total += (0.5 - share)[:, None] * left.to(tl.float32)
            total += (0.5 + share)[:, None] * right.to(tl.float32)
            line += 1.0
            at += line_step
    return total


@triton.jit
def project_stack(
    images, scale, WHOLE, PART, SLOPE, LENGTH, RAY, MAIN, BEGIN, END, out, ny, nx, columns, rows, before, count,
    outputs, pitch, SIZE: tl.constexpr, LANES: tl.constexpr, ROUND: tl.constexpr,
):  # fmt: skip
    """Integrate a block of a stack, (y, x, lane) framed, along one block of rays."""
    block = tl.program_id(0)
    e = block * SIZE + tl.arange(0, SIZE)
    s = tl.program_id(1) * LANES + tl.arange(0, LANES)
    y_main = tl.load(MAIN + block)
    lines, pixels = tl.where(y_main != 0, ny, nx), tl.where(y_main != 0, nx, ny)
    across = (nx + 2 * _EDGE) * pitch
    line_step, pixel_step = tl.where(y_main != 0, across, pitch), tl.where(y_main != 0, pitch, across)
    total = _walk_stack(
        images + _EDGE * (across + pitch), s, WHOLE + e, PART + e, tl.load(SLOPE + e),
        tl.load(BEGIN + block), tl.load(END + block), lines // 2, pixels, line_step, pixel_step,
        tl.zeros((SIZE, LANES), tl.float32), ROUND,
    )  # fmt: skip
    total = total * tl.load(LENGTH + e)[:, None] * tl.load(scale + s)[None, :]
    ray, item = tl.load(RAY + e), before + s
    there = (ray // columns).to(tl.int64) * (rows * columns) + ray % columns
    place = (item // rows).to(tl.int64) * outputs + item % rows * columns
    tl.store(out + there[:, None] + place[None, :], total, mask=(ray >= 0)[:, None] & (s < count)[None, :])


def forward_image(lines: Lines, images: Tensor, out: Tensor) -> None:
    """Fill out (image, view, column) with the integrals of images (image, y, x), one by one."""
    size = sizes()
    rays = blocks(lines, images.device, size.rays, 1 if size.views else lines.shape[0])
    frames = _framed(images)
    launch(
        project_image, (len(rays.begin), len(images)), frames, *_tables(rays), out, *images.shape[1:],
        frames.shape[1], out.shape[1] * out.shape[2], warps=2, SIZE=rays.size,
    )  # fmt: skip


def forward_stack(
    lines: Lines, images: Tensor, scale: Tensor, out: Tensor, before: int, count: int, lanes: int, *, rounded: bool
) -> None:
    """Fill out (batch, view, row, column), from row number `before` on, with the integrals of a framed stack.

    Args:
        lines: the rays.
        images: framed, (y, x, lane), where lanes are a multiple of 16.
        scale: what each lane's integrals are multiplied by.
        out: where they go; rows are counted over the batch.
        before: the number of the first lane's row.
        count: how many lanes hold an image.
        lanes: how many a program takes; a divisor of the lanes there are.
        rounded: whether places are rounded to 1/2048 of a pixel, so that weights are exact in half precision.
    """
    size, pitch = sizes(), images.shape[-1]
    rays = blocks(lines, images.device, size.stacked, size.views or lines.shape[0])
    launch(
        project_stack, (len(rays.begin), pitch // lanes), images, scale, *_tables(rays), out,
        *lines.grid_shape[1:], lines.shape[2], out.shape[2], before, count, out.stride(0), pitch, warps=4,
        SIZE=rays.size, LANES=lanes, ROUND=rounded,
    )  # fmt: skip


def _tables(rays: Blocks) -> tuple[Tensor, ...]:
    return rays.whole, rays.part, rays.slope, rays.length, rays.ray, rays.y_main, rays.begin, rays.end


def _framed(images: Tensor) -> Tensor:
    """Return images in lines of fixed y and then in lines of fixed x, each line between zeros, flat."""
    count, ny, nx = images.shape
    split = ny * (nx + 2 * EDGE)
    out = images.new_zeros(count, split + nx * (ny + 2 * EDGE))
    out[:, :split].view(count, ny, nx + 2 * EDGE)[:, :, EDGE:-EDGE] = images
    out[:, split:].view(count, nx, ny + 2 * EDGE)[:, :, EDGE:-EDGE] = images.mT
    return out
