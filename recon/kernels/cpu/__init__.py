"""Compiled CPU kernels: tensors in, tensors out, checked against `recon.kernels.reference`."""

from collections.abc import Callable, Iterator
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from recon.kernels.cpu import cone, in_plane, joseph, slopes
from recon.kernels.cpu.backprojection import backproject
from recon.kernels.cpu.shadow_adjoint import backproject_adjoint, map_gradient
from recon.kernels.lines import Lines
from recon.kernels.reference import below_a_kink
from recon.kernels.slopes import chain

Kernel = Callable[[Lines, Tensor], Tensor]

__all__ = ["adjoint", "backproject", "backproject_adjoint", "forward", "map_gradient", "ray_gradient"]

# Paths faster than the general one: (applies, forward, adjoint), the first that applies is taken.
_FAST: tuple[tuple[Callable[..., bool], Kernel, Kernel], ...] = (
    (in_plane.applies, in_plane.forward, in_plane.adjoint),
    (cone.applies, cone.forward, cone.adjoint),
)
_SUMS = 1 << 24  # bytes for the sums of rays, which need ten times as much on the way to the vectors of their view
_SLABS_PER_THREAD = 2  # more evens out the load, but every slab visits every ray


def forward(lines: Lines, volume: Tensor) -> Tensor:
    """Integrate volumes (batch, z, y, x) along every ray: (batch, view, row, column)."""
    for applies, fast, _ in _FAST:
        if applies(lines, volume):
            return fast(lines, volume)
    out = volume.new_empty(len(volume), *lines.shape)
    views, rows, _ = lines.shape
    flat = _array(volume.flatten(1))
    joseph.forward_projection(views * rows, flat, lines.grid_shape, *_arguments(lines), out.numpy())
    return out


def adjoint(lines: Lines, projections: Tensor) -> Tensor:
    """Spread projections (batch, view, row, column) back over the voxels with the weights of `forward`."""
    for applies, _, fast in _FAST:
        if applies(lines, projections):
            return fast(lines, projections)
    out = projections.new_zeros(len(projections), *lines.grid_shape)
    boxes = _boxes(lines.grid_shape)
    arguments = (_array(projections), *_arguments(lines), lines.grid_shape, boxes, out.flatten(1).numpy())
    joseph.adjoint_projection(len(out) * len(boxes), *arguments)
    return out


def ray_gradient(lines: Lines, volume: Tensor, projections: Tensor) -> Tensor:
    """Differentiate the sum of `forward` times projections by source, centre, v, u and depth: (view, 5, 3), float64."""
    out = torch.zeros(lines.shape[0], 5, 3, dtype=torch.float64)
    flat, ahead = _array(volume.flatten(1)), below_a_kink(lines.grid_shape)
    for views, rows in _parts(lines.shape):
        block = lines.block(views, rows, slice(None))
        sums = torch.empty(*block.shape, 5, dtype=torch.float64)
        values = _array(projections[:, views, rows])
        slopes.slopes_of_rays(
            sums.shape[0] * sums.shape[1], flat, values, lines.grid_shape, *_arguments(block), ahead, sums.numpy()
        )
        out[views] += lines.by_whole(chain(block, slice(None), sums), rows)
    return out


def _parts(shape: tuple[int, int, int]) -> Iterator[tuple[slice, slice]]:
    """Cut projections into blocks of whole views, or of rows of one view, with few enough rays."""
    views, rows, columns = shape
    rays = max(1, _SUMS // 40)
    view_step, row_step = max(1, rays // (rows * columns)), max(1, rays // columns)
    for view in range(0, views, view_step):
        for row in range(0, rows, row_step):
            yield slice(view, min(view + view_step, views)), slice(row, min(row + row_step, rows))


def _arguments(lines: Lines) -> tuple[Any, ...]:
    vectors = (lines.source, lines.centre, lines.v, lines.u, lines.depth, lines.along, lines.bend)
    arrays = tuple(np.ascontiguousarray(vector.numpy()) for vector in vectors)
    return *arrays, lines.parallel, np.array(lines.spacing)


def _boxes(shape: tuple[int, int, int]) -> Any:
    """Cut a volume into slabs (slab, axis, first and last + 1), a few for each thread."""
    threads = numba.get_num_threads()
    axis = 0 if shape[0] >= 2 * threads else 1
    slabs = min(shape[axis], _SLABS_PER_THREAD * threads)
    boxes = np.zeros((slabs, 3, 2), np.int64)
    boxes[:, :, 1] = shape
    cuts = np.arange(slabs + 1) * shape[axis] // slabs
    boxes[:, axis, 0], boxes[:, axis, 1] = cuts[:-1], cuts[1:]
    return boxes


def _array(tensor: Tensor) -> Any:
    return tensor.detach().contiguous().numpy()
