"""What kernels are told about rays: plain tensors in voxel-index space, no geometry objects."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from recon.errors import GeometryError
from recon.geometry import ScanGeometry, aligned_rays, moved_rays
from recon.geometry.base import across
from recon.grid import VolumeGrid


@dataclass(frozen=True, kw_only=True)
class Lines:
    """Every ray of some views, in a form from which a kernel computes ray (view, row, column) itself.

    The ray of a pixel runs through ``centre + row·v + along·u + bend·depth`` (row counted from the middle), from
    the source, or in the direction of `source` if `parallel`. All vectors are (view, 3), ordered (z, y, x), in
    units of voxels with voxel centres on whole numbers; float64, on the CPU.
    """

    source: Tensor
    centre: Tensor
    v: Tensor
    u: Tensor
    depth: Tensor
    along: Tensor  # (column,) steps of u from the detector centre
    bend: Tensor  # (column,) share of `depth` by which a curved column lies nearer to the source, 0 or negative
    rows: int
    parallel: bool
    spacing: tuple[float, float, float]  # mm per voxel, to measure lengths
    grid_shape: tuple[int, int, int]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the projections (view, row, column)."""
        return len(self.source), self.rows, len(self.along)

    def block(self, views: slice, rows: slice, slices: slice) -> "Lines":
        """Return the rays of some views and rows, seen from some slices of the grid."""
        first, last, _ = rows.indices(self.rows)
        bottom, top, _ = slices.indices(self.grid_shape[0])
        drop = torch.tensor([float(bottom), 0.0, 0.0], dtype=torch.float64)
        raise_by = (first + last - self.rows) / 2
        source = self.source[views]
        return replace(
            self,
            source=source if self.parallel else source - drop,
            centre=self.centre[views] + raise_by * self.v[views] - drop,
            v=self.v[views],
            u=self.u[views],
            depth=self.depth[views],
            rows=last - first,
            grid_shape=(top - bottom, *self.grid_shape[1:]),
        )

    def by_whole(self, slopes: Tensor, rows: slice) -> Tensor:
        """Turn derivatives by the vectors of a `block`, (view, 5, 3), into ones by those of the whole."""
        first, last, _ = rows.indices(self.rows)
        slopes = slopes.clone()
        slopes[:, 2] += (first + last - self.rows) / 2 * slopes[:, 1]
        return slopes


def refuse_arc(geometry: ScanGeometry) -> None:
    """Refuse to align an arc detector."""
    if geometry.arc_detector:
        raise GeometryError(
            "alignment: expected a flat detector, got an arc, which is no longer one around the source once it is "
            "moved; pass poses to move the object"
        )


def placed_rays(geometry: ScanGeometry, poses: Tensor | None = None, alignment: Tensor | None = None) -> Tensor:
    """Return the rays (view, 4, 3) in mm that a detector in its place sees of a moved object.

    Raises:
        GeometryError: an alignment of an arc detector.
    """
    rays = geometry.rays()
    if alignment is not None:
        refuse_arc(geometry)
        rays = aligned_rays(rays, alignment)
    return rays if poses is None else moved_rays(rays, poses, parallel=geometry.parallel)


def lines(
    geometry: ScanGeometry, grid: VolumeGrid, poses: Tensor | None = None, alignment: Tensor | None = None
) -> Lines:
    """Express the rays of a geometry in the voxels of a grid, within the graph of poses and alignment.

    Args:
        geometry: where the rays ran.
        grid: the voxels.
        poses: rigid motion of the object per view (view, 6), or None.
        alignment: rigid displacement of the detector per view (view, 6), or None (see `aligned_rays`).
    """
    source, centre, v, u = placed_rays(geometry, poses, alignment).unbind(1)
    depth = torch.zeros_like(source) if geometry.parallel else across(centre - source, v)
    along, bend = columns(geometry)
    spacing = torch.tensor(grid.spacing, dtype=torch.float64)
    return Lines(
        source=source / spacing if geometry.parallel else grid.to_index(source),
        centre=grid.to_index(centre),
        v=v / spacing,
        u=u / spacing,
        depth=depth / spacing,
        along=along,
        bend=bend,
        rows=geometry.detector.shape[0],
        parallel=geometry.parallel,
        spacing=grid.spacing,
        grid_shape=grid.shape,
    )


def columns(geometry: ScanGeometry) -> tuple[Tensor, Tensor]:
    """Return, per column, steps along u and the bend towards the source (DERIVATIONS.md, eq. 2).

    Rigid motion leaves both alone.
    """
    n = geometry.detector.shape[1]
    steps = torch.arange(n, dtype=torch.float64) - (n - 1) / 2
    if not geometry.arc_detector:
        return steps, torch.zeros_like(steps)
    source, centre, v, u = geometry.rays()[:1].unbind(1)
    radius, pitch = across(centre - source, v).norm(), u.norm()
    gamma = steps * pitch / radius
    return gamma.sin() * radius / pitch, gamma.cos() - 1
