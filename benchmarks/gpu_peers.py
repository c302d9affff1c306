"""Other GPU toolboxes, each behind one shape of call: data on the GPU in, a function to be timed and a note out.

Whatever a toolbox lets one prepare is made before the clock starts. None of them is needed: one that cannot be imported
is a row that says so. All were written from their documentation; rows that fail say why.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import peers
import torch
from torch import Tensor

from recon.bridges import AstraProjector
from recon.geometry import ConeBeam, ParallelBeam
from recon.geometry.convert import to_astra, to_astra_values
from recon.grid import VolumeGrid

Geometry = ParallelBeam | ConeBeam
Prepared = tuple[Callable[[], Any], str]
Prepare = Callable[[Geometry, VolumeGrid, Tensor], Prepared]

PACKAGES = ("astra-toolbox", "diffct", "tigre", "pytigre", "leapct", "torch-radon")
LOOP = "one slice after the other"
ROUND_TRIP = "data to and from the CPU included"


def astra_forward(geometry: Geometry, grid: VolumeGrid, volume: Tensor) -> Prepared:
    projector = AstraProjector(grid=grid, geometry=geometry)
    return lambda: projector @ volume, _astra_note(projector, volume)


def astra_adjoint(geometry: Geometry, grid: VolumeGrid, values: Tensor) -> Prepared:
    projector = AstraProjector(grid=grid, geometry=geometry)
    return lambda: projector.T @ values, _astra_note(projector, values)


def _astra_note(projector: AstraProjector, data: Tensor) -> str:
    """Say how far the pair is from matched, where the problem is small enough to ask."""
    gap = f"adjoint gap {projector.adjoint_error(dtype=torch.float32, device=data.device):.0e}"
    return f"{LOOP}; {gap}" if data.ndim == 4 else gap


def astra_fdk(geometry: Geometry, grid: VolumeGrid, values: Tensor) -> Prepared:
    """Use ASTRA's own arrays on the CPU, which is how its FDK takes data; copies are a part of the time."""
    import astra

    proj_geom, vol_geom = to_astra(geometry, grid)
    settings = astra.astra_dict("FDK_CUDA")
    settings["ReconstructionDataId"] = astra.data3d.create("-vol", vol_geom)
    settings["ProjectionDataId"] = astra.data3d.create("-sino", proj_geom, to_astra_values(values, proj_geom))
    number = astra.algorithm.create(settings)
    return lambda: astra.algorithm.run(number), ROUND_TRIP


def astra_fbp(geometry: Geometry, grid: VolumeGrid, values: Tensor) -> Prepared:
    import astra

    proj_geom, vol_geom = to_astra(geometry, grid)
    settings = astra.astra_dict("FBP_CUDA")
    settings["ReconstructionDataId"] = astra.data2d.create("-vol", vol_geom)
    settings["ProjectionDataId"] = astra.data2d.create("-sino", proj_geom, to_astra_values(values, proj_geom))
    number = astra.algorithm.create(settings)
    return lambda: astra.algorithm.run(number), ROUND_TRIP


def diffct_forward(geometry: Geometry, grid: VolumeGrid, volume: Tensor) -> Prepared:
    projector = peers.diffct_projector(geometry, grid, backend="numba", device=volume.device)
    image = volume.squeeze(-3) if grid.shape[0] == 1 else volume
    return lambda: projector.project(image), ""


def diffct_adjoint(geometry: Geometry, grid: VolumeGrid, values: Tensor) -> Prepared:
    projector = peers.diffct_projector(geometry, grid, backend="numba", device=values.device)
    flat = grid.shape[0] == 1
    data = values.squeeze(-2) if flat else values.transpose(-1, -2).contiguous()
    return lambda: projector.backproject(data), ""


def tigre_forward(geometry: Geometry, grid: VolumeGrid, volume: Tensor) -> Prepared:
    import tigre

    scanner, angles = _tigre(geometry, grid), np.asarray(geometry.angles, np.float32)
    array = np.ascontiguousarray(volume.cpu().numpy())
    return lambda: tigre.Ax(array, scanner, angles, projection_type="interpolated"), ROUND_TRIP


def tigre_adjoint(geometry: Geometry, grid: VolumeGrid, values: Tensor) -> Prepared:
    import tigre

    scanner, angles = _tigre(geometry, grid), np.asarray(geometry.angles, np.float32)
    array = np.ascontiguousarray(values.cpu().numpy())
    return lambda: tigre.Atb(array, scanner, angles, backprojection_type="matched"), ROUND_TRIP


def tigre_fdk(geometry: Geometry, grid: VolumeGrid, values: Tensor) -> Prepared:
    from tigre.algorithms import fdk

    scanner, angles = _tigre(geometry, grid), np.asarray(geometry.angles, np.float32)
    array = np.ascontiguousarray(values.cpu().numpy())
    return lambda: fdk(array, scanner, angles), ROUND_TRIP


def _tigre(geometry: Geometry, grid: VolumeGrid) -> Any:
    import tigre

    scanner = tigre.geometry()
    scanner.DSO, scanner.DSD = geometry.source_to_axis, geometry.source_to_detector  # type: ignore[union-attr]
    scanner.nDetector, scanner.dDetector = np.array(geometry.detector.shape), np.array(geometry.detector.pitch)
    scanner.sDetector = scanner.nDetector * scanner.dDetector
    scanner.nVoxel, scanner.dVoxel = np.array(grid.shape), np.array(grid.spacing)
    scanner.sVoxel = scanner.nVoxel * scanner.dVoxel
    scanner.offOrigin, scanner.offDetector = np.zeros(3), np.zeros(2)
    scanner.accuracy, scanner.mode = 0.5, "cone"
    return scanner


def leap_forward(geometry: Geometry, grid: VolumeGrid, volume: Tensor) -> Prepared:
    toolbox, values = _leap(geometry, grid), volume.new_zeros(geometry.shape)
    return lambda: toolbox.project(values, volume), ""


def leap_adjoint(geometry: Geometry, grid: VolumeGrid, values: Tensor) -> Prepared:
    toolbox, volume = _leap(geometry, grid), values.new_zeros(grid.shape)
    return lambda: toolbox.backproject(values, volume), ""


def leap_fdk(geometry: Geometry, grid: VolumeGrid, values: Tensor) -> Prepared:
    toolbox, volume = _leap(geometry, grid), values.new_zeros(grid.shape)
    return lambda: toolbox.FBP(values, volume), ""


def _leap(geometry: Geometry, grid: VolumeGrid) -> Any:
    from leapctype import tomographicModels

    (rows, columns), (v, u) = geometry.detector.shape, geometry.detector.pitch
    middle, degrees = ((rows - 1) / 2, (columns - 1) / 2), np.rad2deg(np.asarray(geometry.angles, np.float32))
    toolbox = tomographicModels()
    toolbox.set_gpu(0)
    source, detector = geometry.source_to_axis, geometry.source_to_detector  # type: ignore[union-attr]
    toolbox.set_conebeam(len(geometry), rows, columns, v, u, *middle, degrees, source, detector)
    z, y, x = grid.shape
    toolbox.set_volume(x, y, z, grid.spacing[2], grid.spacing[0])
    return toolbox


def radon_forward(geometry: Geometry, grid: VolumeGrid, volume: Tensor) -> Prepared:
    radon, images = _radon(geometry, grid, volume.device), volume.squeeze(-3).contiguous()
    return lambda: radon.forward(images), ""


def radon_adjoint(geometry: Geometry, grid: VolumeGrid, values: Tensor) -> Prepared:
    radon, data = _radon(geometry, grid, values.device), values.squeeze(-2).contiguous()
    return lambda: radon.backprojection(data), ""


def _radon(geometry: Geometry, grid: VolumeGrid, device: torch.device) -> Any:
    """Make a fan beam in units of pixels, with the interface of torch-radon 1 or 2, whichever there is."""
    import torch_radon

    step, columns = grid.spacing[2], geometry.detector.shape[1]
    source = geometry.source_to_axis / step  # type: ignore[union-attr]
    beyond = geometry.source_to_detector / step - source  # type: ignore[union-attr]
    angles, pitch = np.asarray(geometry.angles, np.float32), geometry.detector.pitch[1] / step
    if hasattr(torch_radon, "RadonFanbeam"):
        return torch_radon.RadonFanbeam(grid.shape[2], angles, source, beyond, columns, pitch)
    box = torch_radon.Volume2D()
    box.set_size(*grid.shape[1:])
    return torch_radon.FanBeam(columns, torch.from_numpy(angles).to(device), source, beyond, pitch, volume=box)


def _pairs(forward: Prepare, adjoint: Prepare, *names: str) -> list[tuple[str, str, Prepare]]:
    return [(name, task, call) for name in names for task, call in (("forward", forward), ("adjoint", adjoint))]


MODULES = {
    "ASTRA CUDA": "astra",
    "diffct": "diffct",
    "torch-radon": "torch_radon",
    "LEAP": "leapctype",
    "TIGRE": "tigre",
}
TOOLS: dict[str, list[tuple[str, str, Prepare]]] = {
    "ASTRA CUDA": [
        *_pairs(astra_forward, astra_adjoint, "W1", "W3", "W2"),
        ("W4", "FBP", astra_fbp),
        ("W3", "FDK", astra_fdk),
        ("C-arm", "FDK", astra_fdk),
    ],
    "diffct": _pairs(diffct_forward, diffct_adjoint, "W1", "W2", "W3"),
    "torch-radon": _pairs(radon_forward, radon_adjoint, "W1", "W2"),
    "LEAP": [*_pairs(leap_forward, leap_adjoint, "W3"), ("W3", "FDK", leap_fdk), ("C-arm", "FDK", leap_fdk)],
    "TIGRE": [*_pairs(tigre_forward, tigre_adjoint, "W3"), ("W3", "FDK", tigre_fdk), ("C-arm", "FDK", tigre_fdk)],
}
