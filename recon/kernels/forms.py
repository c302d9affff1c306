"""Special forms of maps, for which kernels read less than one place per voxel and view."""

import torch

from recon.kernels.maps import Maps


def steady(maps: Maps) -> bool:
    """Tell whether, in all views, a column of voxels has its shadow on one detector column, rising with z."""
    _, y, x = maps.grid_shape
    m = maps.matrices
    corners = torch.tensor([(b, c, 1) for b in (0, y - 1) for c in (0, x - 1)], dtype=torch.float64)
    ahead = maps.arc or bool((m[:, 2, 1:] @ corners.T > 0).all())
    return ahead and bool((m[:, 1:, 0] == 0).all()) and bool((m[:, 0, 0] > 0).all())


def flat_stack(maps: Maps) -> bool:
    """Tell whether rays are parallel and every slice has its shadow on one place between two detector rows."""
    still = torch.cat([maps.matrices[:, 0, 1:3], maps.matrices[:, 1, :1], maps.matrices[:, 2, :3]], dim=1)
    return not maps.arc and bool((still.abs() < 1e-12).all())


def one_plane(maps: Maps, width: int) -> bool:
    """Tell whether one slice, taken to be so many voxels wide, is seen by one detector row in its plane."""
    y = maps.grid_shape[1]
    corners = torch.tensor([(0, b, c, 1) for b in (0, y - 1) for c in (0, width - 1)], dtype=torch.float64)
    level = ((maps.matrices[:, 0] @ corners.T).abs() < 1e-9).all() and (maps.shift.abs() < 1e-9).all()
    return (maps.grid_shape[0], maps.detector_shape[0]) == (1, 1) and bool(level)
