"""Rigid motion per view: six numbers, three shifts in mm and a rotation vector in rad.

Poses move the object along and about (z, y, x); an alignment moves the detector along and about its own axes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd.forward_ad import unpack_dual

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
    return checks.all_finite("poses", poses.to("cpu", torch.float64, copy=True))


def check_alignment(alignment: Tensor, views: int) -> Tensor:
    """Return an alignment, (view, 6) or (6,) for all views, as float64 (view, 6), or say what is wrong."""
    if not isinstance(alignment, Tensor):
        raise ShapeError(
            f"alignment: expected a torch tensor, got {type(alignment).__name__}; wrap it with torch.as_tensor"
        )
    if tuple(alignment.shape) not in ((6,), (views, 6)):
        raise ShapeError(
            f"alignment: expected (6,) or (view, 6) = ({views}, 6), got {tuple(alignment.shape)}; give shifts along "
            "v, u and the normal in mm, then a rotation vector about them in rad"
        )
    return checks.all_finite("alignment", alignment.to("cpu", torch.float64, copy=True)).expand(views, 6)


def picked(motion: Tensor | None, views: Sequence[int]) -> Tensor | None:
    """Return the motion of some views, (view, 6), in a graph that can be walked back more than once."""
    if motion is None:
        return None
    if not in_graph(motion):
        return motion[views]
    return torch.stack([motion[view] for view in views])  # a list as index would be freed by the first `backward`


def in_graph(motion: Tensor | None) -> bool:
    """Tell whether motion takes part in a derivative, in reverse or in forward mode."""
    if motion is None or motion.requires_grad:
        return motion is not None
    return not torch.compiler.is_compiling() and unpack_dual(motion).tangent is not None


def numbers(motion: Tensor | None) -> Tensor | None:
    """Return motion without its graph."""
    return None if motion is None else motion.detach()


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


def aligned_rays(rays: Tensor, alignment: Tensor) -> Tensor:
    """Move each view's flat detector rigidly, relative to the source.

    The detector shifts along its own axes and then turns about its centre; the source, or the direction of parallel
    rays, stays. The axes are the directions of v and u and the normal that completes them to a right-handed frame;
    it points away from the source, unless rows and columns are mirrored.

    Args:
        rays: (view, 4, 3), mm.
        alignment: per view (view, 6): shifts along (v, u, normal) in mm, a rotation vector about the same axes in rad.

    Returns:
        Rays of the moved detector, (view, 4, 3).
    """
    source, centre, v, u = rays.unbind(1)
    normal = torch.linalg.cross(u, v)  # v x u, as a cross product in (z, y, x) changes its sign
    frame = torch.stack([a / a.norm(dim=1, keepdim=True) for a in (v, u, normal)], dim=1)
    shift, turn = (alignment.unflatten(1, (2, 1, 3)) @ frame[:, None]).squeeze(2).unbind(1)
    v, u = (torch.stack([v, u], dim=1) @ rotation_matrices(turn).mT).unbind(1)
    return torch.stack([source, centre + shift, v, u], dim=1)
