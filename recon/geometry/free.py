"""Free trajectories: every view states its source, detector centre, v step and u step."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from recon.errors import GeometryError
from recon.geometry.base import Detector, ScanGeometry, select
from recon.grid import VolumeGrid

_SAME = 1e-6  # relative; what readers keep of a vector in text with seven digits

Vectors = tuple[tuple[tuple[float, float, float], ...], ...]


@dataclass(frozen=True, kw_only=True)
class FreeBeam(ScanGeometry):
    """Any trajectory, tilt or per-view calibration, given by the rays themselves.

    Args:
        vectors: per view source (or ray direction), detector centre, v step, u step: (view, 4, 3), mm, (z, y, x).
        detector: shape and curve; pitch and offset are those of the vectors and are not read.
        parallel_rays: the first vector is a direction shared by the rays of the view.

    Raises:
        GeometryError: vectors of another shape, not finite, a detector without area, a source in the detector, or an
            arc that does not face the source with one radius and pitch in all views.
    """

    vectors: Vectors
    detector: Detector
    parallel_rays: bool = False

    def __post_init__(self) -> None:
        rays = torch.as_tensor(self.vectors, dtype=torch.float64)
        if rays.ndim != 3 or rays.shape[1:] != (4, 3) or len(rays) == 0:
            raise GeometryError(f"vectors: expected (view, 4, 3) with at least one view, got {tuple(rays.shape)}")
        _check_views(rays, self.parallel_rays)
        if self.detector.curve == "arc":
            _check_arcs(rays, self.parallel_rays)
        object.__setattr__(self, "vectors", _tuples(rays))

    @classmethod
    def of(cls, geometry: ScanGeometry) -> "FreeBeam":
        """Write any geometry out view by view."""
        return cls(vectors=_tuples(geometry.rays()), detector=geometry.detector, parallel_rays=geometry.parallel)

    @property
    def parallel(self) -> bool:
        """Tell whether the rays of a view share a direction."""
        return self.parallel_rays

    def rays(self) -> Tensor:
        """Return the vectors as a tensor: (view, 4, 3), float64."""
        return torch.tensor(self.vectors, dtype=torch.float64)

    def check_grid(self, grid: VolumeGrid) -> None:
        """Refuse a grid that holds the source of a view."""
        if self.parallel:
            return
        sources = self.rays()[:, 0]
        index = grid.to_index(sources)
        held = ((index > -0.5) & (index < torch.tensor(grid.shape) - 0.5)).all(1)
        if bool(held.any()):
            z, y, x = sources[_first(held)].tolist()
            raise GeometryError(
                f"grid: expected every source outside it, got that of view {_first(held)} at (z, y, x) = "
                f"({z:g}, {y:g}, {x:g}) mm inside; lower shape or spacing, or move centre"
            )

    def __len__(self) -> int:
        return len(self.vectors)

    def __getitem__(self, views: int | slice | Sequence[int] | Tensor) -> "FreeBeam":
        return FreeBeam(vectors=select(self.vectors, views), detector=self.detector, parallel_rays=self.parallel_rays)


def _check_views(rays: Tensor, parallel: bool) -> None:
    """Refuse the first view whose detector has no area or whose rays run inside the detector."""
    if not bool(torch.isfinite(rays).all()):
        raise GeometryError(
            f"vectors: expected finite numbers, view {_first(~torch.isfinite(rays).all(2).all(1))} has others"
        )
    source, centre, v, u = rays.unbind(1)
    direction = source if parallel else centre - source
    normal = torch.linalg.cross(v, u)
    area, sizes = normal.norm(dim=1), v.norm(dim=1) * u.norm(dim=1)
    flat = area <= 1e-9 * sizes.clamp_min(1e-30)
    if bool(flat.any()):
        raise GeometryError(
            f"vectors: v and u steps of view {_first(flat)} span no area; they must not be parallel or zero"
        )
    depth = (normal * direction).sum(1).abs() / (area * direction.norm(dim=1)).clamp_min(1e-30)
    if bool((depth < 1e-6).any()):
        raise GeometryError(f"vectors: the source of view {_first(depth < 1e-6)} lies in the plane of the detector")


def _check_arcs(rays: Tensor, parallel: bool) -> None:
    """Refuse arcs that one rule per column cannot describe."""
    if parallel:
        raise GeometryError("detector: expected curve='flat' for parallel rays, got 'arc'; an arc needs a source")
    source, centre, v, u = rays.unbind(1)
    depth = centre - source
    depth = depth - (depth * v).sum(1, keepdim=True) / (v * v).sum(1, keepdim=True) * v
    sizes = torch.stack([depth.norm(dim=1), u.norm(dim=1)], dim=1)
    other = ((sizes - sizes[0]).abs() > _SAME * sizes[0]).any(1)
    if bool(other.any()):
        raise GeometryError(
            f"vectors: expected one arc radius and u pitch, {sizes[0].tolist()} mm as in view 0, "
            f"got {sizes[_first(other)].tolist()} in view {_first(other)}; split the scan, or use curve='flat'"
        )
    tilts = torch.stack([(u * depth).sum(1) / sizes[:, 0], (u * v).sum(1) / v.norm(dim=1)]).abs() / sizes[:, 1]
    if bool((tilts > _SAME).any()):
        raise GeometryError(
            f"vectors: expected u steps of an arc at right angles to v and to the ray to its middle, got "
            f"another angle in view {_first((tilts > _SAME).any(0))}; use curve='flat' for a tilted detector"
        )


def _tuples(rays: Tensor) -> Vectors:
    return tuple(tuple((z, y, x) for z, y, x in view) for view in rays.tolist())


def _first(bad: Tensor) -> int:
    return int(bad.nonzero()[0, 0])
