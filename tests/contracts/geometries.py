"""Geometries that every contract about rays is asked of: a new one is a line in `GEOMETRIES`."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from recon.geometry import ConeBeam, Detector, FreeBeam, ParallelBeam, ScanGeometry, rotation_matrices
from recon.grid import VolumeGrid
from recon.operators import Projector

# Odd and even sizes, three different steps, off the axis: nothing that a swap or a sign could hide behind.
VOLUME = VolumeGrid(shape=(3, 6, 7), spacing=(1.5, 0.8, 1.1), centre=(0.3, -0.5, 0.7))
SLICE = VolumeGrid(shape=(1, 7, 6), spacing=(1.3, 0.9, 1.2), centre=(0.1, 0.4, -0.6))
LINE = Detector(shape=(1, 9), pitch=(1.0, 1.4), offset=(0.1, -0.35))
PANEL = Detector(shape=(4, 9), pitch=(1.7, 1.6), offset=(0.4, -0.3))


def turned(geometry: ScanGeometry, seed: int) -> FreeBeam:
    """Tilt the detector of each view by its own small rotation, as a calibration would."""
    rays = geometry.rays()
    turns = rotation_matrices(0.2 * torch.randn(len(rays), 3, generator=torch.Generator().manual_seed(seed)).double())
    rays[:, 2:] = rays[:, 2:] @ turns
    return FreeBeam(vectors=rays, detector=geometry.detector, parallel_rays=geometry.parallel)


def cone(views: int, detector: Detector, **settings: float) -> ConeBeam:
    return ConeBeam.circular(views, detector=detector, source_to_axis=30, source_to_detector=47, **settings)


def helix(detector: Detector) -> ConeBeam:
    return ConeBeam.helical(
        5, detector=detector, source_to_axis=30, source_to_detector=47, pitch=1.9, turns=1.3, start=0.4
    )


def curved(detector: Detector) -> Detector:
    return replace(detector, curve="arc")


HALF = replace(LINE, offset=(0.0, 5.1))

GEOMETRIES: dict[str, tuple[ScanGeometry, VolumeGrid]] = {
    "parallel": (ParallelBeam.circular(5, detector=LINE, start=0.1), SLICE),
    "parallel, right angles": (ParallelBeam.circular(4, detector=PANEL, arc=2 * math.pi), VOLUME),
    "parallel, 45 degrees": (ParallelBeam.circular(2, detector=LINE, start=math.pi / 4), SLICE),
    "fan, flat": (cone(5, LINE), SLICE),
    "fan, arc": (cone(5, curved(LINE)), SLICE),
    "half-fan, flat": (cone(4, HALF), SLICE),
    "half-fan, arc": (cone(4, curved(HALF)), SLICE),
    "short scan": (cone(5, LINE, arc=math.pi + 0.4, start=-0.7), SLICE),
    "uneven angles": (
        ConeBeam(angles=(0.3, -0.2, 1.7), detector=LINE, source_to_axis=30, source_to_detector=47),
        SLICE,
    ),
    "cone, flat": (cone(5, PANEL), VOLUME),
    "cone, arc": (cone(5, curved(PANEL)), VOLUME),
    "cone, one view": (cone(1, PANEL, start=0.6), VOLUME),
    "helix, flat": (helix(PANEL), VOLUME),
    "helix, arc": (helix(curved(PANEL)), VOLUME),
    "free": (FreeBeam.of(cone(4, PANEL, start=0.2)), VOLUME),
    "free, arc": (FreeBeam.of(cone(4, curved(PANEL), start=0.2)), VOLUME),
    "free, parallel": (FreeBeam.of(ParallelBeam.circular(4, detector=PANEL, start=0.2)), VOLUME),
    "free, tilted": (turned(cone(4, PANEL), seed=1), VOLUME),
    "free, parallel and tilted": (turned(ParallelBeam.circular(4, detector=PANEL), seed=2), VOLUME),
}


@dataclass(frozen=True)
class Case:
    """A geometry with the grid it looks at, and motion or none."""

    name: str
    geometry: ScanGeometry
    grid: VolumeGrid
    poses: Tensor | None = None

    def projector(self) -> Projector:
        return Projector(grid=self.grid, geometry=self.geometry, poses=self.poses)

    def __str__(self) -> str:
        return self.name


def wobble(views: int) -> Tensor:
    """Motion of about a millimetre and six degrees, different in every view."""
    return torch.randn(views, 6, generator=torch.Generator().manual_seed(views)).double() * torch.tensor(
        [1.0, 1.0, 1.0, 0.1, 0.1, 0.1]
    )


STILL = [Case(name, geometry, grid) for name, (geometry, grid) in GEOMETRIES.items()]
MOVED = [replace(case, name=f"{case.name}, moved", poses=wobble(len(case.geometry))) for case in STILL]
CASES = STILL + MOVED


def doubled(geometry: ScanGeometry) -> ScanGeometry:
    """Make every length twice as long."""
    d = geometry.detector
    detector = replace(d, pitch=tuple(2 * p for p in d.pitch), offset=tuple(2 * o for o in d.offset))
    if isinstance(geometry, ConeBeam):
        distances = {name: 2 * getattr(geometry, name) for name in ("source_to_axis", "source_to_detector", "pitch")}
        return replace(geometry, detector=detector, **distances)
    if isinstance(geometry, FreeBeam):
        return replace(geometry, vectors=2 * geometry.rays(), detector=detector)
    return replace(geometry, detector=detector)
