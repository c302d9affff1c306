"""Whether every GPU kernel gives what the plain twin gives, and the same bits twice: small cases of odd sizes."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from bench import adjoint_gap
from torch import Tensor

from recon import kernels
from recon.geometry import ConeBeam, Detector, FreeBeam, ParallelBeam, ScanGeometry, rotation_matrices
from recon.grid import VolumeGrid
from recon.kernels import reference
from recon.kernels.lines import Lines, lines
from recon.kernels.maps import Maps, maps

SLICE = VolumeGrid(shape=(1, 17, 19), spacing=(1.3, 0.9, 1.2), centre=(0.1, 0.4, -0.6))
BOX = VolumeGrid(shape=(5, 11, 9), spacing=(1.5, 0.8, 1.1), centre=(0.3, -0.5, 0.7))
ROW = Detector(shape=(1, 27), pitch=(1.0, 1.4), offset=(0.1, -0.35))
PANEL = Detector(shape=(7, 13), pitch=(1.7, 1.6), offset=(0.4, -0.3))
FAN = {"source_to_axis": 30.0, "source_to_detector": 47.0}
TASKS = ("forward", "adjoint", "backproject", "backproject_adjoint", "ray_gradient", "map_gradient")
PRECISIONS = {"backproject": ("single", "half")}


@dataclass(frozen=True)
class Case:
    """Rays and shadows of one geometry, and how many volumes at once."""

    name: str
    geometry: ScanGeometry
    grid: VolumeGrid
    batch: int = 1
    poses: Tensor | None = None
    precisions: tuple[str, ...] = ("single",)  # of projecting

    def rays(self) -> Lines:
        return lines(self.geometry, self.grid, self.poses)

    def places(self) -> Maps:
        return maps(self.geometry, self.grid, unit=30.0, poses=self.poses)


def cases(slices: int) -> Iterator[Case]:
    arc = replace(PANEL, curve="arc")
    cone = ConeBeam.circular(5, detector=PANEL, start=0.2, **FAN)
    yield Case("fan", ConeBeam.circular(7, detector=ROW, start=0.1, **FAN), SLICE, batch=2)
    yield Case("stack", ParallelBeam.circular(6, detector=ROW, start=0.1), SLICE, slices, precisions=kernels.PRECISIONS)
    yield Case("cone", cone, BOX, batch=2)
    yield Case("cone, arc", replace(cone, detector=arc), BOX)
    yield Case("tilted, moved", tilted(cone), BOX, poses=wobble(5))


def tilted(cone: ScanGeometry) -> FreeBeam:
    """Turn the detector of each view by its own small rotation."""
    rays = cone.rays()
    turns = 0.1 * torch.randn(len(rays), 3, generator=torch.Generator().manual_seed(1)).double()
    rays[:, 2:] = rays[:, 2:] @ rotation_matrices(turns)
    return FreeBeam(vectors=rays.tolist(), detector=cone.detector)


def wobble(views: int) -> Tensor:
    draw = torch.randn(views, 6, generator=torch.Generator().manual_seed(2)).double()
    return draw * torch.tensor([0.5, 0.5, 0.5, 0.05, 0.05, 0.05])


def check_all(bench: Any, row: Any) -> None:
    """Add a row for every case, task and precision."""
    for case in cases(9 if bench.interpreted else 65):
        rays, places = case.rays(), case.places()
        for task in TASKS:
            for precision in case.precisions if task in ("forward", "adjoint") else PRECISIONS.get(task, ("single",)):
                name = task if precision == "single" else f"{task}, {precision}"
                check = Check(bench, case, rays, places, task, precision)
                bench.add(row(workload=case.name, task=name, tool="check"), check)


@dataclass(frozen=True)
class Check:
    """Fill a row with the error of one kernel against its twin in double precision."""

    bench: Any
    case: Case
    rays: Lines
    places: Maps
    task: str
    precision: str

    def __call__(self, row: Any) -> None:
        result, again = (self.run(self.task) for _ in range(2))
        truth = getattr(reference, self.task)(*self.arguments(self.task, torch.float64, "cpu"))
        row.error = 100 * float((result.cpu().double() - truth).abs().max() / truth.abs().max())
        row.repeats = bool(torch.equal(result, again))
        if self.task == "adjoint":
            (volume,), (values,) = (self.data(task) for task in ("forward", "adjoint"))
            row.gap = adjoint_gap(self.run("forward").cpu(), values, volume, result.cpu())

    def run(self, task: str) -> Tensor:
        """Call a kernel on the device."""
        rays, *data = self.arguments(task, torch.float32, self.bench.device)
        return kernels.find(task, data[0], self.precision)(rays, *data)

    def arguments(self, task: str, dtype: torch.dtype, device: Any) -> list[Any]:
        told = self.places if task in ("backproject", "backproject_adjoint", "map_gradient") else self.rays
        return [told, *(one.to(device=device, dtype=dtype) for one in self.data(task))]

    def data(self, task: str) -> list[Tensor]:
        """Return random input in the order that a kernel takes it."""
        draw = torch.Generator().manual_seed(3)
        volume = torch.rand(self.case.batch, *self.case.grid.shape, generator=draw)
        values = torch.rand(self.case.batch, *self.case.geometry.shape, generator=draw)
        if task in ("forward", "backproject_adjoint"):
            return [volume]
        if task in ("adjoint", "backproject"):
            return [values]
        return [volume, values] if task == "ray_gradient" else [values, volume]
