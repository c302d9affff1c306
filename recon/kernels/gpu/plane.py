"""In-plane scans: one image, and stacks of images.

Up to seven images are projected one by one, always in single precision; more are put side by side, (y, x, image) and
(view, bin, image), and share every weight. Then, what a precision means, forward and back:

- "single": products and sums in single precision; back, three products in tf32 for each, within 1.2e-6 of it and
  without bias. The adjoint gap is below 1e-6 of |Ax||y|.
- "tf32": places on a line are rounded to 1/2048 of a pixel in both directions, so that the weights are the same and
  exact in tf32; back, values are rounded to 11 bits, which adds at most 2⁻¹¹ of |Ax||y| to the adjoint gap.
- "half": weights as for "tf32"; images, and back, projections are rounded to half precision, 11 bits, each image or
  projection scaled by a power of two so that its largest value is near the largest there is; what is smaller than 2⁻²⁹
  of that has fewer bits. This adds at most 2⁻¹⁰ of the sum of the sizes of all terms of ⟨Ax, y⟩ to the adjoint gap.

Sums are always in single precision, and in an order that repeats. With less than "single", tensor cores make them back,
which round towards zero (Ootomo and Yokota 2022): expect results to be too small by some 1e-5 in 1000 views.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from recon.kernels.gpu.launch import cdiv
from recon.kernels.gpu.plane_pixels import adjoint_image, adjoint_stack
from recon.kernels.gpu.plane_rays import EDGE, forward_image, forward_stack
from recon.kernels.gpu.plane_tables import PAD, bins, sizes
from recon.kernels.in_plane import Blend, blend, in_plane
from recon.kernels.lines import Lines
from recon.kernels.plans import Kept

STACKED = 8  # images from which they are projected side by side
_BYTES = 320 << 20  # of images or projections that are put side by side at a time
_WEIGHING = 128  # images for which the products take as long as finding the weights
_COUNTED = 1 << 31  # elements beyond which places in a tensor are not counted


def applies(lines: Lines, tensor: Tensor) -> bool:
    """Tell whether this path takes these rays: they keep their height, and the tensor is of single precision."""
    return tensor.dtype == torch.float32 and _in_plane(lines) and _pixels(lines) * sizes().widths[-1] < _COUNTED


def forward(lines: Lines, volume: Tensor, precision: str = "single") -> Tensor:
    """Integrate volumes (batch, z, y, x) along every ray: (batch, view, row, column)."""
    rows = _blend(lines, volume.device)
    volume = volume.detach()
    images = rows.blend(volume) if rows.first else volume
    views, _, columns = lines.shape
    out = volume.new_empty(len(images), views, images.shape[1], columns)
    if len(images) * images.shape[1] < STACKED:
        _forward_images(lines, images, out)
    else:
        _forward_stack(lines, images.flatten(0, 1), out, precision)
    return out if rows.first else rows.blend(out.transpose(1, 2)).transpose(1, 2).contiguous()


def adjoint(lines: Lines, projections: Tensor, precision: str = "single") -> Tensor:
    """Spread projections (batch, view, row, column) back over the voxels with the weights of `forward`."""
    rows = _blend(lines, projections.device)
    values = projections.detach().transpose(1, 2)
    values = values if rows.first else rows.unblend(values)
    flat = values.flatten(0, 1)
    out = projections.new_empty(len(flat), *lines.grid_shape[1:])
    if len(flat) >= STACKED:
        _adjoint_stack(lines, flat, out, precision)
    elif bins(lines, flat.device).taps:
        adjoint_image(lines, flat, out)
    else:
        _adjoint_stack(lines, flat, out, "single")
    images = out.unflatten(0, values.shape[:2])
    return rows.unblend(images) if rows.first else images


@Kept
def _in_plane(lines: Lines) -> bool:
    return in_plane(lines)


@Kept
def _blend(lines: Lines, device: torch.device) -> Blend:
    return blend(lines, device)


def _forward_images(lines: Lines, images: Tensor, out: Tensor) -> None:
    flat = images.flatten(0, 1)
    values = flat.new_empty(len(flat), lines.shape[0], lines.shape[2])
    forward_image(lines, flat, values)
    out.copy_(values.unflatten(0, images.shape[:2]).transpose(1, 2))


def _forward_stack(lines: Lines, images: Tensor, out: Tensor, precision: str) -> None:
    ny, nx = images.shape[1:]
    for part, lanes in _parts(len(images), _pixels(lines)):
        some, scale = _stored(images[part], precision)
        packed = some.new_zeros(ny + 2 * EDGE, nx + 2 * EDGE, lanes)
        packed[EDGE:-EDGE, EDGE:-EDGE, : len(some)] = some.permute(1, 2, 0)
        forward_stack(
            lines,
            packed,
            _padded(scale, lanes),
            out,
            part.start,
            len(some),
            _width(lanes),
            rounded=precision != "single",
        )


def _adjoint_stack(lines: Lines, values: Tensor, out: Tensor, precision: str) -> None:
    table = bins(lines, values.device)
    views, columns = table.length.shape
    for part, lanes in _parts(len(values), views * table.stride):
        some, scale = _stored(values[part] * table.length, precision)
        packed = some.new_zeros(views, table.stride, lanes)
        packed[:, PAD : PAD + columns, : len(some)] = some.permute(1, 2, 0)
        adjoint_stack(lines, packed, _padded(scale, lanes), out, part.start, _width(lanes), len(some), precision)


def _pixels(lines: Lines) -> int:
    return (lines.grid_shape[1] + 2 * EDGE) * (lines.grid_shape[2] + 2 * EDGE)


def _parts(images: int, elements: int) -> Iterator[tuple[slice, int]]:
    """Cut images of so many elements into parts that are put side by side, and say how many lanes each takes."""
    widths = sizes().widths
    most = max(_BYTES // (4 * elements), widths[-1])
    most -= most % next(width for width in widths if width <= most)
    for start in range(0, images, most):
        count = min(most, images - start)
        _, width = min((cdiv(count, width) * (width + _WEIGHING), width) for width in widths)
        yield slice(start, start + count), cdiv(count, width) * width


def _width(lanes: int) -> int:
    """Return how many lanes a program takes."""
    return next(width for width in sizes().widths if lanes % width == 0)


def _padded(scale: Tensor, lanes: int) -> Tensor:
    return torch.nn.functional.pad(scale, (0, lanes - len(scale)))


def _stored(values: Tensor, precision: str) -> tuple[Tensor, Tensor]:
    """Return values (image, ...) as they are stored, and what the results of each image are to be multiplied by."""
    if precision == "single":
        return values, values.new_ones(len(values))
    if precision == "tf32":
        return ((values.contiguous().view(torch.int32) + 0x1000) & -0x2000).view(torch.float32), values.new_ones(
            len(values)
        )
    exponent = torch.frexp(values.abs().amax((1, 2)))[1].clamp(-100, 100) - 15  # the largest comes out below 2¹⁵
    return torch.ldexp(values, -exponent[:, None, None]).half(), torch.ldexp(values.new_ones(len(values)), exponent)
