"""The transpose of voxel-driven backprojection, and its derivative by the maps, for gradients of FBP and FDK.

Both visit voxels as `recon.kernels.cpu.shadow` does. A job owns views, to which its voxels add: a pixel sums the same
numbers in the same order whatever the number of threads. See DERIVATIONS.md, section 10.
"""

import math

import torch
from torch import Tensor

from recon.kernels.cpu.backprojection import shadow_arguments
from recon.kernels.cpu.compile import inline, kernel
from recon.kernels.cpu.shadow import find, place, rise
from recon.kernels.maps import Maps
from recon.kernels.reference import ON_A_KINK


def backproject_adjoint(maps: Maps, volume: Tensor) -> Tensor:
    """Add volumes (batch, z, y, x) to their shadows with the weights of `backproject`: (batch, view, row, column)."""
    rows, columns = maps.detector_shape
    upright = volume.detach().permute(0, 2, 3, 1).contiguous()
    framed = volume.new_zeros(len(volume), len(maps.matrices), columns + 2, rows + 2)
    jobs = len(volume) * len(maps.matrices)
    shadow_projection(jobs, upright.numpy(), *shadow_arguments(maps), framed.flatten(2).numpy())
    return framed[:, :, 1:-1, 1:-1].transpose(2, 3).contiguous()


def map_gradient(maps: Maps, values: Tensor, volume: Tensor) -> Tensor:
    """Differentiate the sum of `backproject` times a volume by the matrices (view, 3, 4) of the maps."""
    padded = torch.nn.functional.pad(values.detach().transpose(2, 3), (1, 1, 1, 1)).flatten(2)
    upright = volume.detach().permute(0, 2, 3, 1).contiguous()
    out = maps.matrices.new_empty(maps.matrices.shape)
    shadow_gradient(len(out), padded.numpy(), upright.numpy(), *shadow_arguments(maps), out.numpy())
    return out


@inline
def add_voxel(out, at, column_step, value, share_row, share_column):
    """Add a voxel to the four pixels around its shadow, the first of them at a place in a padded view."""
    high = value * share_column
    low = value - high
    out[at] += low * (1 - share_row)
    out[at + 1] += low * share_row
    out[at + column_step] += high * (1 - share_row)
    out[at + column_step + 1] += high * share_row


@kernel
def shadow_projection(job0, job1, volume, matrices, arc, scale, shift, middle, rows, columns, out):
    """Add a volume (batch, y, x, z) to padded views (batch, view, column + 2 · row + 2) of zeros."""
    _, ny, nx, nz = volume.shape
    views, step = out.shape[1], rows + 2
    for job in range(job0, job1):
        item, view = job // views, job % views
        steady = matrices[view, 1, 0] == 0.0 and matrices[view, 2, 0] == 0.0
        image = out[item, view]
        for y in range(ny):
            for x in range(nx):
                line = volume[item, y, x]
                row, column, weight = find(matrices, view, 0.0, y, x, arc, scale, shift, middle)
                if steady and not -1.0 < column < columns:
                    continue
                slope = rise(matrices, view, y, x, weight, arc)
                for z in range(nz):
                    if steady:
                        at = row + slope * z
                    else:
                        at, column, weight = find(matrices, view, z, y, x, arc, scale, shift, middle)
                    if -1.0 < at < rows and -1.0 < column < columns:
                        i, share_row = place(at, rows)
                        j, share_column = place(column, columns)
                        add_voxel(image, j * step + i, step, weight * line[z], share_row, share_column)


@kernel
def shadow_gradient(job0, job1, padded, volume, matrices, arc, scale, shift, middle, rows, columns, out):
    """Fill out (view, 3, 4) from padded values (batch, view, column + 2 · row + 2) and volumes (batch, y, x, z)."""
    batch, ny, nx, nz = volume.shape
    step = rows + 2
    for view in range(job0, job1):
        slopes = out[view]
        slopes[:] = 0.0
        m = matrices[view]
        for y in range(ny):
            for x in range(nx):
                for z in range(nz):
                    row, column, weight = find(matrices, view, z, y, x, arc, scale, shift, middle)
                    i, j = int(math.floor(row + (1 + ON_A_KINK))), int(math.floor(column + (1 + ON_A_KINK)))
                    if i < 0 or i > rows or j < 0 or j > columns:
                        continue
                    f, g = row + 1 - i, column + 1 - j
                    at, read, by_row, by_column = j * step + i, 0.0, 0.0, 0.0
                    for item in range(batch):
                        image, value = padded[item, view], weight * volume[item, y, x, z]
                        low, high = float(image[at]), float(image[at + step])
                        low_rise, high_rise = image[at + 1] - low, image[at + step + 1] - high
                        by_row += value * (low_rise + g * (high_rise - low_rise))
                        by_column += value * (high + f * high_rise - low - f * low_rise)
                        read += value * (low + f * low_rise + g * (high + f * high_rise - low - f * low_rise))
                    root = math.sqrt(weight)
                    if arc:
                        b = m[1, 0] * z + m[1, 1] * y + m[1, 2] * x + m[1, 3]
                        c = m[2, 0] * z + m[2, 1] * y + m[2, 2] * x + m[2, 3]
                        away = -weight * (by_row * (row - shift[view]) + 2 * read)
                        turn = weight * scale * by_column
                        d_a, d_b, d_c = root * by_row, away * b + turn * c, away * c - turn * b
                    else:
                        c = 1 / (m[2, 0] * z + m[2, 1] * y + m[2, 2] * x + m[2, 3])
                        d_a, d_b = by_row * c, by_column * c
                        d_c = -c * (by_row * row + by_column * column + 2 * read)
                    for k, d in ((0, d_a), (1, d_b), (2, d_c)):
                        slopes[k, 0] += d * z
                        slopes[k, 1] += d * y
                        slopes[k, 2] += d * x
                        slopes[k, 3] += d
