"""Triton kernels: tensors on a GPU in, tensors on it out, checked against `recon.kernels.reference`.

They take what the CPU kernels take and give the same numbers to rounding; nothing is added by atomic operations, so
that results repeat bit by bit. Without a GPU they run in Triton's interpreter, see `recon.kernels.gpu.launch`.
"""

from torch import Tensor

from recon.kernels.gpu import cone, joseph, map_slopes, plane, shadow, shadow_adjoint, slopes
from recon.kernels.lines import Lines
from recon.kernels.maps import Maps

__all__ = ["adjoint", "backproject", "backproject_adjoint", "forward", "map_gradient", "ray_gradient"]


def forward(lines: Lines, volume: Tensor, precision: str = "single") -> Tensor:
    """Integrate volumes (batch, z, y, x) along every ray: (batch, view, row, column)."""
    if plane.applies(lines, volume):
        return plane.forward(lines, volume, precision)
    return (cone if cone.applies(lines, volume) else joseph).forward(lines, volume)


def adjoint(lines: Lines, projections: Tensor, precision: str = "single") -> Tensor:
    """Spread projections (batch, view, row, column) back over the voxels with the weights of `forward`."""
    if plane.applies(lines, projections):
        return plane.adjoint(lines, projections, precision)
    return (cone if cone.applies(lines, projections) else joseph).adjoint(lines, projections)


def backproject(maps: Maps, values: Tensor, precision: str = "single") -> Tensor:
    """Sum projections (batch, view, row, column) read at each voxel's shadow: (batch, z, y, x)."""
    return shadow.backproject(maps, values, precision)


def backproject_adjoint(maps: Maps, volume: Tensor) -> Tensor:
    """Add volumes (batch, z, y, x) to their shadows with the weights of `backproject`: the transpose."""
    return shadow_adjoint.backproject_adjoint(maps, volume)


def ray_gradient(lines: Lines, volume: Tensor, projections: Tensor) -> Tensor:
    """Differentiate the sum of `forward` times projections: (view, 5, 3) for source, centre, v, u and depth."""
    return slopes.ray_gradient(lines, volume, projections)


def map_gradient(maps: Maps, values: Tensor, volume: Tensor) -> Tensor:
    """Differentiate the sum of `backproject` times a volume by the matrices (view, 3, 4) of the maps."""
    return map_slopes.map_gradient(maps, values, volume)
