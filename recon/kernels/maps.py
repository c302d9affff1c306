"""Where a voxel falls on the detector: what voxel-driven backprojection is told, as plain tensors."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from recon.geometry import ScanGeometry
from recon.grid import VolumeGrid
from recon.kernels.lines import placed_rays


@dataclass(frozen=True, kw_only=True)
class Maps:
    """Per view, three affine functions of the voxel index (z, y, x, 1), from which a kernel finds row and column.

    Flat or parallel: (a, b, w) with row = a / w, column = b / w and backprojection weight 1 / w². Arc: (a, b, c)
    with w = hypot(b, c), row = a / w + shift, column = atan2(b, c) · scale + middle. See DERIVATIONS.md, section 2.
    """

    matrices: Tensor  # (view, 3, 4), float64
    arc: bool
    scale: float  # columns per rad, for an arc
    shift: Tensor  # (view,) rows, for an arc
    middle: float  # column of the detector's middle, for an arc
    detector_shape: tuple[int, int]
    grid_shape: tuple[int, int, int]

    def block(self, views: slice, rows: tuple[int, int], slices: slice) -> "Maps":
        """Return where some slices fall on some rows in some views; rows may begin and end beyond the detector."""
        first, last = rows
        bottom, top, _ = slices.indices(self.grid_shape[0])
        matrices = self.matrices[views].clone()
        matrices[:, :, 3] += bottom * matrices[:, :, 0]
        if not self.arc:
            matrices[:, 0] -= first * matrices[:, 2]
        return replace(
            self,
            matrices=matrices,
            shift=self.shift[views] - first if self.arc else self.shift[views],
            detector_shape=(last - first, self.detector_shape[1]),
            grid_shape=(top - bottom, *self.grid_shape[1:]),
        )

    def by_whole(self, slopes: Tensor, rows: tuple[int, int], slices: slice) -> Tensor:
        """Turn derivatives by the matrices of a `block`, (view, 3, 4), into ones by those of the whole."""
        bottom, _, _ = slices.indices(self.grid_shape[0])
        slopes = slopes.clone()
        if not self.arc:
            slopes[:, 2] -= rows[0] * slopes[:, 0]
        slopes[:, :, 0] += bottom * slopes[:, :, 3]
        return slopes

    def rows_seen(self, slices: slice) -> tuple[int, int]:
        """Return the range of rows [first, last) on which some slices, and one voxel around them, fall in any view.

        At least one row; the range may take in the row before the first one and the row after the last one.
        """
        places = self._places(slices)
        if places is None:
            return -1, self.detector_shape[0] + 1
        lowest, highest = math.floor(places[0]) - 1, math.floor(places[1]) + 3
        first = min(max(lowest, -1), self.detector_shape[0])
        return first, min(max(highest, first + 1), self.detector_shape[0] + 1)

    def _places(self, slices: slice) -> tuple[float, float] | None:
        """Return the lowest and the highest row on which some slices fall, or None where the source is too near."""
        bottom, top, _ = slices.indices(self.grid_shape[0])
        _, y, x = self.grid_shape
        corners = [(b, c, d, 1.0) for b in (bottom - 1, top) for c in (-1, y) for d in (-1, x)]
        a, b, c = (self.matrices @ torch.tensor(corners, dtype=torch.float64).T).unbind(1)
        if bool((c <= 0).any()):
            return None
        if not self.arc:
            rows = a / c
            return float(rows.min()), float(rows.max())
        near, far = c.amin(1), torch.hypot(b, c).amax(1)
        least, most = a.amin(1), a.amax(1)
        low = torch.where(least < 0, least / near, least / far) + self.shift
        high = torch.where(most > 0, most / near, most / far) + self.shift
        return float(low.min()), float(high.max())


def maps(
    geometry: ScanGeometry,
    grid: VolumeGrid,
    *,
    unit: float,
    poses: Tensor | None = None,
    alignment: Tensor | None = None,
) -> Maps:
    """Work out where voxels fall on the detector, within the graph of poses and alignment.

    Args:
        geometry: where the rays ran.
        grid: the voxels.
        unit: the distance from the source, in mm, at which the weight is 1 (ignored for parallel rays).
        poses: rigid motion of the object per view, or None.
        alignment: rigid displacement of the detector per view, or None.
    """
    rays = placed_rays(geometry, poses, alignment)
    rows, columns = geometry.detector.shape
    if geometry.arc_detector:
        world, scale, shift = _arc(rays, unit, rows)
    else:
        middle = torch.tensor([(rows - 1) / 2, (columns - 1) / 2], dtype=torch.float64)
        world, scale, shift = (
            (_parallel if geometry.parallel else _flat)(rays, unit, middle),
            0.0,
            rays.new_zeros(len(rays)),
        )
    return Maps(
        matrices=_per_voxel(world, grid),
        arc=geometry.arc_detector,
        scale=scale,
        shift=shift,
        middle=(columns - 1) / 2,
        detector_shape=geometry.detector.shape,
        grid_shape=grid.shape,
    )


def _flat(rays: Tensor, unit: float, middle: Tensor) -> Tensor:
    source, centre, v, u = rays.unbind(1)
    normal = torch.linalg.cross(v, u)
    normal = normal / normal.norm(dim=1, keepdim=True)
    reach = centre - source
    normal = normal * torch.sign((normal * reach).sum(1, keepdim=True))
    distance = (normal * reach).sum(1, keepdim=True)
    v_dual, u_dual = _duals(v, u, normal)
    functions = []
    for dual, mid in ((v_dual, middle[0]), (u_dual, middle[1])):
        lateral = mid - (dual * reach).sum(1, keepdim=True)  # of the source's foot, in pixels
        functions.append((dual * distance + normal * lateral) / unit)
    return _through(torch.stack([*functions, normal / unit], dim=1), source)


def _parallel(rays: Tensor, unit: float, middle: Tensor) -> Tensor:
    direction, centre, v, u = rays.unbind(1)
    v_dual, u_dual = _duals(v, u, direction)
    affine = _through(torch.stack([v_dual, u_dual, torch.zeros_like(u)], dim=1), centre)
    affine[:, 0, 3] += middle[0]
    affine[:, 1, 3] += middle[1]
    affine[:, 2, 3] = 1.0
    return affine


def _arc(rays: Tensor, unit: float, rows: int) -> tuple[Tensor, float, Tensor]:
    source, centre, v, u = rays.unbind(1)
    v_unit, u_unit = (a / a.norm(dim=1, keepdim=True) for a in (v, u))
    reach = centre - source
    height = (reach * v_unit).sum(1, keepdim=True)
    depth = reach - height * v_unit
    radius = float(depth[0].detach().norm())  # like pitch and shift the same wherever the object is
    v_dual = v_unit / v.norm(dim=1, keepdim=True)
    functions = torch.stack([v_dual * radius, u_unit, depth / radius], dim=1) / unit
    shift = (rows - 1) / 2 - (reach * v_dual).sum(1).detach()
    return _through(functions, source), radius / float(u[0].detach().norm()), shift


def _duals(v: Tensor, u: Tensor, third: Tensor) -> tuple[Tensor, Tensor]:
    """Return the vectors that read off the v and u coordinate, blind to the other two directions."""
    inverse = torch.linalg.inv(torch.stack([v, u, third], dim=2))
    return inverse[:, 0], inverse[:, 1]


def _through(vectors: Tensor, points: Tensor) -> Tensor:
    """Make affine functions (view, 3, 4) with given gradients that vanish at a point per view."""
    constant = -(vectors * points[:, None]).sum(2, keepdim=True)
    return torch.cat([vectors, constant], dim=2)


def _per_voxel(world: Tensor, grid: VolumeGrid) -> Tensor:
    """Rewrite functions of positions in mm as functions of voxel indices."""
    spacing = torch.tensor(grid.spacing, dtype=torch.float64)
    first = torch.tensor([float(axis[0]) for axis in grid.axes()], dtype=torch.float64)
    constant = world[..., 3] + (world[..., :3] * first).sum(-1)
    return torch.cat([world[..., :3] * spacing, constant[..., None]], dim=-1)
