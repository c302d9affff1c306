"""What is measured: four scanners with their grids, with random data or with a ball whose line integrals are known."""

import math
from dataclasses import dataclass, replace

import torch
from accuracy import ball_integrals, ball_on
from peers import Geometry
from torch import Tensor

from recon.geometry import ConeBeam, Detector, ParallelBeam
from recon.grid import VolumeGrid
from recon.kernels.lines import lines
from recon.kernels.reference import view_rays
from recon.operators import Projector

FIELD = 256.0  # mm, width of the image
DISTANCES = {"source_to_axis": 570.0, "source_to_detector": 1040.0}
DENSITY = 0.02  # 1/mm, that of water, at the middle of the ball that is reconstructed
SAMPLED = 24  # views that errors and updates are taken from


@dataclass(frozen=True, kw_only=True)
class Workload:
    """A scanner and a grid; `scale` makes up for views or slices that were left out, and the note says so."""

    name: str
    geometry: Geometry
    grid: VolumeGrid
    batch: int = 1
    scale: float = 1.0
    note: str = ""

    def volume(self) -> Tensor:
        return torch.rand(self._shape(self.grid.shape), generator=torch.Generator().manual_seed(1))

    def values(self) -> Tensor:
        return torch.rand(self._shape(self.geometry.shape), generator=torch.Generator().manual_seed(2))

    def ball_values(self) -> Tensor:
        return (DENSITY * ball_integrals(self.geometry, 1)).float()

    def ball(self) -> Tensor:
        """Draw the ball as means over pixels; in 3-D, which needs much memory, as values at the voxels' middles."""
        return DENSITY * ball_on(self.grid, 4 if self.grid.shape[0] == 1 else 1)

    def seen(self) -> Tensor:
        """Return which voxels all views see: beyond them, in the corners of W4, no method of inversion can be right."""
        detector = self.geometry.detector
        half = detector.shape[1] * detector.pitch[1] / 2
        if isinstance(self.geometry, ConeBeam):
            half = self.geometry.source_to_axis * math.sin(math.atan(half / self.geometry.source_to_detector))
        _, y, x = self.grid.axes()
        inside = (y[:, None] ** 2 + x**2).sqrt() < half - 2 * self.grid.spacing[2]
        return inside.expand(self.grid.shape)

    def sampled(self) -> Geometry:
        return self.geometry[:: max(1, len(self.geometry) // SAMPLED)]

    def few(self, views: int, *, scaled: bool = True) -> "Workload":
        """Keep some views of a full turn; times are scaled unless what is done to the volume weighs as much."""
        full = len(self.geometry)
        if views >= full or not isinstance(self.geometry, ConeBeam):
            return self
        kept = ConeBeam.circular(views, detector=self.geometry.detector, start=0.003, **DISTANCES)
        note = f"{views} of {full} views" + ", scaled" * scaled
        return replace(self, geometry=kept, scale=full / views if scaled else 1.0, note=note)

    def half_pixel_off(self) -> "Workload":
        """Put axis and origin where scikit-image has them, in the middle of pixel n // 2, for even n."""
        step = self.grid.spacing[2]
        detector = replace(self.geometry.detector, offset=(0.0, -step / 2))
        grid = replace(self.grid, centre=(0.0, step / 2, -step / 2))
        return replace(self, geometry=replace(self.geometry, detector=detector), grid=grid)

    def slice(self) -> "Workload":
        """Keep one slice of a stack; times are scaled."""
        return replace(self, batch=1, scale=float(self.batch), note=f"one slice, × {self.batch}")

    def backward_updates(self) -> float:
        return self.batch * math.prod(self.grid.shape) * len(self.geometry)

    def forward_updates(self) -> float:
        """Count the lines of voxels along every ray, from chords through the grid in some of the views."""
        geometry = self.sampled()
        chords = Projector(grid=self.grid, geometry=geometry) @ torch.ones(self.grid.shape)
        rays = lines(geometry, self.grid)
        total = 0.0
        for view, chord in enumerate(chords):
            direction = view_rays(rays, view)[1].abs()
            share = direction[:, 1:].amax(1) / direction.norm(dim=1)
            total += float((chord.flatten().double() / self.grid.spacing[2] * share).sum())
        return self.batch * total * len(self.geometry) / len(geometry)

    def _shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape if self.batch == 1 else (self.batch, *shape)


def workloads(quick: bool, part: int = 8) -> dict[str, Workload]:
    """Make W1 to W4, a part as large when it has to be quick."""
    part = part if quick else 1
    zoom = DISTANCES["source_to_detector"] / DISTANCES["source_to_axis"]
    size, bins, turns = 512 // part, 768 // part, 720 // part
    step = FIELD / size
    flat = VolumeGrid(shape=(1, size, size), spacing=(step, step, step))
    row = Detector(shape=(1, bins), pitch=(step * zoom, step * zoom))
    fan = ConeBeam.circular(turns, detector=row, start=0.003, **DISTANCES)
    parallel = ParallelBeam.circular(turns, detector=Detector(shape=(1, size), pitch=(step, step)), start=0.003)
    coarse = 256 // part
    step = FIELD / coarse
    panel = Detector(shape=(384 // part, 384 // part), pitch=(step * zoom, step * zoom))
    box = VolumeGrid(shape=(coarse, coarse, coarse), spacing=(step, step, step))
    cone = ConeBeam.circular(360 // part, detector=panel, start=0.003, **DISTANCES)
    return {
        "W1": Workload(name="W1", geometry=fan, grid=flat),
        "W2": Workload(name="W2", geometry=fan, grid=flat, batch=4 if quick else 32),
        "W3": Workload(name="W3", geometry=cone, grid=box),
        "W4": Workload(name="W4", geometry=parallel, grid=flat),
    }


def c_arm(quick: bool, part: int = 8) -> Workload:
    """Make a problem of RabbitCT's size: 512³ voxels of half a millimetre, 496 views of 1248 × 960 pixels."""
    part = part if quick else 1
    size, step = 512 // part, 0.5 * part
    panel = Detector(shape=(960 // part, 1248 // part), pitch=(0.32 * part, 0.32 * part))
    cone = ConeBeam.circular(496 // part, detector=panel, source_to_axis=750.0, source_to_detector=1200.0)
    return Workload(name="C-arm", geometry=cone, grid=VolumeGrid(shape=(size, size, size), spacing=(step, step, step)))
