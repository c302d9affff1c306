"""The specification: Joseph's projector and voxel-driven backprojection in plain torch, slow and clear.

Every compiled kernel is tested against these functions. Forward and adjoint use one weight function, so they are
a matched pair by construction.
"""

from dataclasses import replace

import torch
from torch import Tensor

from recon.kernels.lines import Lines
from recon.kernels.maps import Maps

_TIE = 1 + 1e-9  # rays at 45 degrees take y before x before z whatever the rounding


def view_rays(lines: Lines, view: int) -> tuple[Tensor, Tensor]:
    """Return a point on, and the direction of, each ray of a view in voxels: two tensors (ray, 3)."""
    rows = torch.arange(lines.rows, dtype=torch.float64) - (lines.rows - 1) / 2
    pixel = (
        lines.centre[view]
        + rows[:, None, None] * lines.v[view]
        + lines.along[None, :, None] * lines.u[view]
        + lines.bend[None, :, None] * lines.depth[view]
    ).reshape(-1, 3)
    if lines.parallel:
        return pixel, lines.source[view].expand_as(pixel)
    source = lines.source[view].expand_as(pixel)
    return source, pixel - source


def joseph_weights(lines: Lines, view: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the voxels that the rays of a view touch, and how strongly (DERIVATIONS.md, section 1).

    Returns:
        Three equally long vectors: ray number, flat voxel index, and length of the ray credited to the voxel in mm.

    Source:
        Joseph 1982, IEEE Transactions on Medical Imaging 1(3): 192-196, here in three dimensions.
    """
    origin, direction = view_rays(lines, view)
    shape = torch.tensor(lines.grid_shape)
    strides = torch.tensor([shape[1] * shape[2], shape[2], 1])
    spacing = torch.tensor(lines.spacing, dtype=torch.float64)
    main = main_axis(direction)
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    for axis in range(3):
        (rays,) = (main == axis).nonzero(as_tuple=True)
        if len(rays) == 0:
            continue
        p, q = (other for other in range(3) if other != axis)
        start, slope = origin[rays], direction[rays] / direction[rays, axis, None]
        length = (slope * spacing).norm(dim=1)
        step = torch.arange(int(shape[axis]), dtype=torch.float64)
        at = start[:, None, :] + (step[None, :] - start[:, axis, None])[..., None] * slope[:, None, :]
        for corner_p in (0, 1):
            for corner_q in (0, 1):
                i, j = at[..., p].floor() + corner_p, at[..., q].floor() + corner_q
                weight = length[:, None] * _hat(at[..., p], corner_p) * _hat(at[..., q], corner_q)
                inside = (i >= 0) & (i < shape[p]) & (j >= 0) & (j < shape[q])
                voxel = (step * strides[axis]).long() + i.long() * strides[p] + j.long() * strides[q]
                ray = rays[:, None].expand_as(voxel)
                found.append((ray[inside], voxel[inside], weight[inside]))
    ray, voxel, weight = (torch.cat(parts) for parts in zip(*found, strict=True))
    return ray, voxel, weight


def _hat(at: Tensor, corner: int) -> Tensor:
    """Return the weight of the neighbour below (corner 0) or above (1), with a slope even on whole positions."""
    above = at - at.floor()
    return above if corner else 1 - above


def main_axis(direction: Tensor) -> Tensor:
    """Return the axis along which each ray crosses most voxels; y before x before z on a tie."""
    z, y, x = direction.abs().unbind(-1)
    inplane = torch.where(x > y * _TIE, 2, 1)
    most = torch.where(inplane == 2, x, y)
    return torch.where(z > most * _TIE, 0, inplane)


def forward(lines: Lines, volume: Tensor) -> Tensor:
    """Integrate volumes (batch, z, y, x) along every ray: (batch, view, row, column)."""
    flat = volume.flatten(1)
    out = volume.new_zeros(len(flat), *lines.shape)
    for view in range(lines.shape[0]):
        ray, voxel, weight = joseph_weights(lines, view)
        out[:, view].flatten(1).index_add_(1, ray, flat[:, voxel] * weight.to(flat.dtype))
    return out


def adjoint(lines: Lines, projections: Tensor) -> Tensor:
    """Spread projections (batch, view, row, column) back over the voxels with the weights of `forward`."""
    batch = len(projections)
    out = projections.new_zeros(batch, *lines.grid_shape)
    for view in range(lines.shape[0]):
        ray, voxel, weight = joseph_weights(lines, view)
        out.flatten(1).index_add_(1, voxel, projections[:, view].flatten(1)[:, ray] * weight.to(out.dtype))
    return out


def ray_gradient(lines: Lines, volume: Tensor, projections: Tensor) -> Tensor:
    """Differentiate the sum of `forward` times projections by source, centre, v, u and depth: (view, 5, 3), float64.

    Where a ray crosses a plane exactly above a voxel centre, the slope is the one towards larger indices.
    """
    vectors = {
        name: getattr(lines, name).detach().clone().requires_grad_() for name in ("source", "centre", "v", "u", "depth")
    }
    with torch.enable_grad():
        seen = forward(replace(lines, **vectors), volume.detach().double())
        total = (seen * projections.detach().double()).sum()
    return torch.stack(torch.autograd.grad(total, list(vectors.values())), dim=1)


def backproject(maps: Maps, values: Tensor) -> Tensor:
    """Sum, over the views, projections (batch, view, row, column) read at each voxel's shadow, times its weight.

    Reading is bilinear and zero outside the detector. This is the backprojection of FBP and FDK, not the
    transpose of `forward`.
    """
    index = torch.stack(torch.meshgrid(*(torch.arange(n) for n in maps.grid_shape), indexing="ij"), -1)
    voxels = torch.cat([index.double(), torch.ones(*maps.grid_shape, 1, dtype=torch.float64)], -1).reshape(-1, 4)
    out = values.new_zeros(len(values), len(voxels))
    for view in range(values.shape[1]):
        row, column, weight = shadows(maps, view, voxels)
        out += _bilinear(values[:, view], row, column) * weight.to(values.dtype)
    return out.reshape(len(values), *maps.grid_shape)


def shadows(maps: Maps, view: int, voxels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return row, column and weight for voxels (voxel, 4) of homogeneous indices."""
    a, b, c = (voxels @ maps.matrices[view].T).unbind(1)
    if not maps.arc:
        return a / c, b / c, 1 / c**2
    w = torch.hypot(b, c)
    return a / w + maps.shift[view], torch.atan2(b, c) * maps.scale + maps.middle, 1 / w**2


def _bilinear(images: Tensor, row: Tensor, column: Tensor) -> Tensor:
    rows, columns = images.shape[1:]
    flat, out = images.flatten(1), images.new_zeros(len(images), len(row))
    for corner_row in (0, 1):
        for corner_column in (0, 1):
            i, j = row.floor() + corner_row, column.floor() + corner_column
            inside = (i >= 0) & (i < rows) & (j >= 0) & (j < columns)
            weight = torch.where(inside, (1 - (row - i).abs()) * (1 - (column - j).abs()), 0.0)
            at = (i.clamp(0, rows - 1) * columns + j.clamp(0, columns - 1)).long()
            out += flat[:, at] * weight.to(images.dtype)
    return out
