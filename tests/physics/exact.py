"""Exact line integrals of Gaussian blobs, with pixel positions written out again from CONVENTIONS.md.

Nothing here calls the code under test, so that a shared mistake cannot cancel; only free geometries, which are
nothing but positions, are asked for theirs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from recon.geometry import ConeBeam, FreeBeam, ParallelBeam, ScanGeometry
from recon.grid import VolumeGrid


@dataclass(frozen=True)
class Blob:
    """weight · exp(-|r - centre|² / (2 width²)); centre (z, y, x) and width in mm."""

    weight: float
    centre: tuple[float, float, float]
    width: float


def sampled(blobs: Sequence[Blob], grid: VolumeGrid) -> Tensor:
    """Evaluate blobs at voxel centres: (z, y, x), float64."""
    axes = [
        c + (torch.arange(n, dtype=torch.float64) - (n - 1) / 2) * d
        for n, d, c in zip(grid.shape, grid.spacing, grid.centre, strict=True)
    ]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    return sum((_bell(b, (points - _vector(b.centre)).square().sum(-1)) for b in blobs), torch.zeros(grid.shape))


def line_integrals(blobs: Sequence[Blob], geometry: ScanGeometry) -> Tensor:
    """Integrate blobs along all rays: (view, row, column), float64."""
    point, direction = rays(geometry)
    direction = direction / direction.norm(dim=-1, keepdim=True)
    total = torch.zeros(geometry.shape, dtype=torch.float64)
    for b in blobs:
        away = _vector(b.centre) - point
        squared = (away - (away * direction).sum(-1, keepdim=True) * direction).square().sum(-1)
        total += _bell(b, squared) * b.width * math.sqrt(2 * math.pi)
    return total


def rays(geometry: ScanGeometry) -> tuple[Tensor, Tensor]:
    """Return a point on, and the direction of, every ray: two tensors (view, row, column, 3), (z, y, x)."""
    views = [_free(geometry, i) if isinstance(geometry, FreeBeam) else _turning(geometry, i) for i in _views(geometry)]
    points, directions = (torch.stack(part) for part in zip(*views, strict=True))
    return points, directions


def _turning(geometry: ScanGeometry, i: int) -> tuple[Tensor, Tensor]:
    detector, theta = geometry.detector, geometry.angles[i]
    (rows, columns), (dv, du), (v0, u0) = detector.shape, detector.pitch, detector.offset
    v = (v0 + (torch.arange(rows, dtype=torch.float64) - (rows - 1) / 2) * dv)[:, None].expand(rows, columns)
    u = (u0 + (torch.arange(columns, dtype=torch.float64) - (columns - 1) / 2) * du)[None].expand(rows, columns)
    sin, cos = math.sin(theta), math.cos(theta)
    if isinstance(geometry, ParallelBeam):
        point = torch.stack([v, sin * u, cos * u], dim=-1)
        return point, _vector((0.0, cos, -sin)).expand_as(point)
    assert isinstance(geometry, ConeBeam)
    r, d = geometry.source_to_axis, geometry.source_to_detector
    z = geometry.pitch * (theta - geometry.middle) / (2 * math.pi)
    source = _vector((z, -r * cos, r * sin))
    along, depth = (d * (u / d).sin(), d * (u / d).cos()) if detector.curve == "arc" else (u, torch.full_like(u, d))
    direction = torch.stack([v, sin * along + cos * depth, cos * along - sin * depth], dim=-1)
    return source.expand_as(direction), direction


def _free(geometry: FreeBeam, i: int) -> tuple[Tensor, Tensor]:
    assert geometry.detector.curve == "flat"
    rows, columns = geometry.detector.shape
    source, centre, v, u = (_vector(vector) for vector in geometry.vectors[i])
    k = torch.arange(rows, dtype=torch.float64)[:, None, None] - (rows - 1) / 2
    j = torch.arange(columns, dtype=torch.float64)[None, :, None] - (columns - 1) / 2
    pixel = centre + k * v + j * u
    return (pixel, source.expand_as(pixel)) if geometry.parallel_rays else (source.expand_as(pixel), pixel - source)


def _views(geometry: ScanGeometry) -> range:
    return range(len(geometry))


def _vector(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def _bell(blob: Blob, squared: Tensor) -> Tensor:
    return blob.weight * (-squared / (2 * blob.width**2)).exp()
