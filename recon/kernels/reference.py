"""The specification: Joseph's projector and voxel-driven backprojection in plain torch, slow and clear.

Every compiled kernel is tested against these functions. Forward and adjoint use one weight function, so they are
a matched pair by construction.
"""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from recon.kernels.lines import Lines
from recon.kernels.maps import Maps

ON_A_KINK = 2.0**-14  # pixels from a whole row or column, where rounding must not decide which slope is taken
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


def joseph_weights(lines: Lines, view: int, ahead: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
    """Return the voxels that the rays of a view touch, and how strongly (DERIVATIONS.md, section 1).

    Places a little `ahead` of a whole one are taken to be beyond it.

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
                low_p, low_q = (at[..., p] + ahead).floor(), (at[..., q] + ahead).floor()
                i, j = low_p + corner_p, low_q + corner_q
                weight = length[:, None] * _hat(at[..., p] - low_p, corner_p) * _hat(at[..., q] - low_q, corner_q)
                inside = (i >= 0) & (i < shape[p]) & (j >= 0) & (j < shape[q])
                voxel = (step * strides[axis]).long() + i.long() * strides[p] + j.long() * strides[q]
                ray = rays[:, None].expand_as(voxel)
                found.append((ray[inside], voxel[inside], weight[inside]))
    ray, voxel, weight = (torch.cat(parts) for parts in zip(*found, strict=True))
    return ray, voxel, weight


def _hat(above: Tensor, corner: int) -> Tensor:
    """Return the weight of the neighbour below (corner 0) or above (1), with a slope even on whole positions."""
    return above if corner else 1 - above


def main_axis(direction: Tensor) -> Tensor:
    """Return the axis along which each ray crosses most voxels; y before x before z on a tie."""
    z, y, x = direction.abs().unbind(-1)
    inplane = torch.where(x > y * _TIE, 2, 1)
    most = torch.where(inplane == 2, x, y)
    return torch.where(z > most * _TIE, 0, inplane)


def forward(lines: Lines, volume: Tensor, ahead: float = 0.0) -> Tensor:
    """Integrate volumes (batch, z, y, x) along every ray: (batch, view, row, column).

    Places a little `ahead` of a plane of voxel centres are taken to be beyond it.
    """
    flat = volume.flatten(1)
    out = volume.new_zeros(len(flat), *lines.shape)
    for view in range(lines.shape[0]):
        ray, voxel, weight = joseph_weights(lines, view, ahead)
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


def below_a_kink(grid_shape: tuple[int, int, int]) -> float:
    """Return how many voxels below a plane of voxel centres rounding must not decide which slope is taken.

    A power of two, and more than float32 leaves unsure of places in a grid (DERIVATIONS.md, section 9).
    """
    return 2.0 ** ((max(grid_shape) - 1).bit_length() - 22)


def ray_gradient(lines: Lines, volume: Tensor, projections: Tensor) -> Tensor:
    """Differentiate the sum of `forward` times projections by source, centre, v, u and depth: (view, 5, 3), float64.

    Samples have kinks on planes of voxel centres; there, and within `below_a_kink` of them, the slope is that
    towards larger indices.
    """
    vectors = {
        name: getattr(lines, name).detach().clone().requires_grad_() for name in ("source", "centre", "v", "u", "depth")
    }
    with torch.enable_grad():
        seen = forward(replace(lines, **vectors), volume.detach().double(), below_a_kink(lines.grid_shape))
        total = (seen * projections.detach().double()).sum()
    return torch.stack(torch.autograd.grad(total, list(vectors.values())), dim=1)


def backproject(maps: Maps, values: Tensor, ahead: float = 0.0) -> Tensor:
    """Sum, over the views, projections (batch, view, row, column) read at each voxel's shadow, times its weight.

    Reading is bilinear and zero outside the detector. This is the backprojection of FBP and FDK, not the
    transpose of `forward`. Places a little `ahead` of a whole row or column are taken to be beyond it.
    """
    voxels = _voxels(maps)
    out = values.new_zeros(len(values), len(voxels))
    for view in range(values.shape[1]):
        images = values[:, view].flatten(1)
        for pixel, weight in _readings(maps, view, voxels, ahead):
            out += images[:, pixel] * weight.to(values.dtype)
    return out.reshape(len(values), *maps.grid_shape)


def backproject_adjoint(maps: Maps, volume: Tensor) -> Tensor:
    """Add volumes (batch, z, y, x) to their shadows (batch, view, row, column): the transpose of `backproject`."""
    voxels, flat = _voxels(maps), volume.flatten(1)
    out = volume.new_zeros(len(volume), len(maps.matrices), *maps.detector_shape)
    for view in range(len(maps.matrices)):
        for pixel, weight in _readings(maps, view, voxels):
            out[:, view].flatten(1).index_add_(1, pixel, flat * weight.to(volume.dtype))
    return out


def map_gradient(maps: Maps, values: Tensor, volume: Tensor) -> Tensor:
    """Differentiate the sum of `backproject(maps, values)` times a volume by the maps' matrices: (view, 3, 4).

    Bilinear reading has kinks on whole rows and columns; there, and within `ON_A_KINK` below them, the derivative is
    that towards larger ones.
    """
    with torch.enable_grad():
        matrices = maps.matrices.detach().clone().requires_grad_()
        found = backproject(replace(maps, matrices=matrices), values.detach().double(), ON_A_KINK)
        return torch.autograd.grad((found * volume.detach()).sum(), matrices)[0]


def shadows(maps: Maps, view: int, voxels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return row, column and weight for voxels (voxel, 4) of homogeneous indices."""
    a, b, c = (voxels @ maps.matrices[view].T).unbind(1)
    if not maps.arc:
        return a / c, b / c, 1 / c**2
    w = torch.hypot(b, c)
    return a / w + maps.shift[view], torch.atan2(b, c) * maps.scale + maps.middle, 1 / w**2


def _voxels(maps: Maps) -> Tensor:
    """Return the homogeneous indices (voxel, 4) of all voxels."""
    index = torch.stack(torch.meshgrid(*(torch.arange(n) for n in maps.grid_shape), indexing="ij"), -1)
    return torch.cat([index.double(), torch.ones(*maps.grid_shape, 1, dtype=torch.float64)], -1).reshape(-1, 4)


def _readings(maps: Maps, view: int, voxels: Tensor, ahead: float = 0.0) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield, for each of the four pixels around every voxel's shadow, its number in the view and its weight."""
    row, column, strength = shadows(maps, view, voxels)
    rows, columns = maps.detector_shape
    top, left = (row + ahead).floor(), (column + ahead).floor()
    for i, share_of_row in ((top, top + 1 - row), (top + 1, row - top)):
        for j, share_of_column in ((left, left + 1 - column), (left + 1, column - left)):
            inside = (i >= 0) & (i < rows) & (j >= 0) & (j < columns)
            weight = torch.where(inside, share_of_row * share_of_column, 0.0) * strength
            yield (i.clamp(0, rows - 1) * columns + j.clamp(0, columns - 1)).long(), weight
