"""Rigid motion per view: six numbers, three shifts in mm and a rotation vector in rad, all (z, y, x)."""

import torch
from torch import Tensor

from recon import checks
from recon.errors import ShapeError


def rotation_matrices(vectors: Tensor) -> Tensor:
    """Turn rotation vectors (…, zyx) in rad into matrices (…, 3, 3) that act on positions (z, y, x).

    A positive angle turns counter-clockwise seen from the tip of its axis, in the right-handed (x, y, z) world.

    Source:
        Rodrigues' formula.
    """
    z, y, x = vectors.unbind(-1)
    zero = torch.zeros_like(z)
    # cross product a × p written for (z, y, x) order: (ax py - ay px, az px - ax pz, ay pz - az py)
    cross = torch.stack([zero, x, -y, -x, zero, z, y, -z, zero], dim=-1).unflatten(-1, (3, 3))
    squared = (vectors * vectors).sum(-1)[..., None, None]
    # torch.linalg.matrix_exp is up to 1e-10 off for a single small rotation, and depends on its neighbours in a batch.
    still = torch.eye(3, dtype=vectors.dtype, device=vectors.device)
    matrices: Tensor = still + _sinc_of_root(squared) * cross
    matrices += _sinc_of_root(squared / 4).square() / 2 * (cross @ cross)
    return matrices


def _sinc_of_root(s: Tensor) -> Tensor:
    """Return sin(√s) / √s, smooth to any order at s = 0."""
    near = s < 1e-2
    root = torch.where(near, 1.0, s).sqrt()
    series = 1 - s / 6 * (1 - s / 20 * (1 - s / 42 * (1 - s / 72)))
    return torch.where(near, series, root.sin() / root)


def check_poses(poses: Tensor, views: int) -> Tensor:
    """Return poses (view, 6) as float64, or say what is wrong."""
    if not isinstance(poses, Tensor):
        raise ShapeError(f"poses: expected a torch tensor, got {type(poses).__name__}; wrap it with torch.as_tensor")
    if tuple(poses.shape) != (views, 6):
        raise ShapeError(
            f"poses: expected (view, 6) = ({views}, 6), got {tuple(poses.shape)}; "
            "give shifts in mm, then a rotation vector in rad"
        )
    return checks.all_finite("poses", poses.to(torch.float64, copy=True))


def moved_rays(rays: Tensor, poses: Tensor, *, parallel: bool) -> Tensor:
    """Move the scanner so that it sees a still object as it saw the moved one.

    Args:
        rays: (view, 4, 3), mm.
        poses: motion of the object per view (view, 6): x -> R x + t, t in mm, R from a rotation vector in rad.
        parallel: the first ray vector is a direction and only turns.

    Returns:
        Rays of the inverse motion, (view, 4, 3).
    """
    shift, back = poses[:, None, :3], rotation_matrices(poses[:, 3:])
    source, centre, v, u = rays.split(1, dim=1)
    points = torch.cat([source if parallel else source - shift, centre - shift, v, u], dim=1)
    return points @ back  # row vectors: p @ R is R^T p, the inverse rotation
