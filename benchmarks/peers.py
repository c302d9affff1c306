"""The other toolboxes, each behind one shape of call: data in, a function that does the timed work out.

Whatever a toolbox lets one prepare (its arrays, its projector, its sparse matrix) is made before the clock starts.
"""

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recon.geometry import ConeBeam, ParallelBeam
from recon.geometry.convert import (
    from_astra_values,
    from_astra_volume,
    to_astra,
    to_astra_values,
    to_astra_volume,
)
from recon.grid import VolumeGrid

Geometry = ParallelBeam | ConeBeam
Work = Callable[[], Tensor]
Prepare = Callable[[Geometry, VolumeGrid, Tensor], Work]

PACKAGES = ("astra-toolbox", "itk-rtk", "scikit-image")


def installed() -> dict[str, str]:
    """Return the version of every peer, or "not installed"."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def set_threads(count: int) -> None:
    """Give RTK its threads; ASTRA's processor code and scikit-image use one, whatever is set."""
    try:
        import itk
    except ImportError:
        return
    itk.MultiThreaderBase.SetGlobalMaximumNumberOfThreads(count)
    itk.MultiThreaderBase.SetGlobalDefaultNumberOfThreads(count)


def astra_forward(model: str) -> Prepare:
    return lambda geometry, grid, volume: _astra("FP", model, geometry, grid, volume=volume)


def astra_adjoint(model: str) -> Prepare:
    return lambda geometry, grid, values: _astra("BP", model, geometry, grid, values=values)


def astra_fbp(model: str) -> Prepare:
    return lambda geometry, grid, values: _astra("FBP", model, geometry, grid, values=values)


def astra_iterations(method: str, model: str, count: int) -> Prepare:
    return lambda geometry, grid, values: _astra(method, model, geometry, grid, values=values, iterations=count)


def _astra(
    algorithm: str,
    model: str,
    geometry: Geometry,
    grid: VolumeGrid,
    *,
    volume: Tensor | None = None,
    values: Tensor | None = None,
    iterations: int = 1,
) -> Work:
    import astra

    proj_geom, vol_geom = to_astra(geometry, grid)
    name = model if isinstance(geometry, ParallelBeam) else f"{model}_fanflat"
    image = astra.data2d.create("-vol", vol_geom, 0 if volume is None else to_astra_volume(volume, vol_geom))
    sinogram = astra.data2d.create("-sino", proj_geom, 0 if values is None else to_astra_values(values, proj_geom))
    settings = astra.astra_dict(algorithm)
    settings["ProjectorId"] = astra.create_projector(name, proj_geom, vol_geom)
    settings["ProjectionDataId"] = sinogram
    settings["VolumeDataId" if algorithm == "FP" else "ReconstructionDataId"] = image

    def work() -> Tensor:
        if algorithm != "FP":
            astra.data2d.store(image, 0)
        number = astra.algorithm.create(settings)
        astra.algorithm.run(number, iterations)
        astra.algorithm.delete(number)
        if algorithm == "FP":
            return from_astra_values(astra.data2d.get(sinogram), proj_geom)
        return from_astra_volume(astra.data2d.get(image), vol_geom)

    return work


def astra_matrix_forward(geometry: Geometry, grid: VolumeGrid, volume: Tensor) -> Work:
    matrix, proj_geom, vol_geom = _matrix(geometry, grid)
    flat = to_astra_volume(volume, vol_geom).ravel()
    return lambda: from_astra_values((matrix @ flat).reshape(len(geometry), -1), proj_geom)


def astra_matrix_adjoint(geometry: Geometry, grid: VolumeGrid, values: Tensor) -> Work:
    matrix, proj_geom, vol_geom = _matrix(geometry, grid)
    flat = to_astra_values(values, proj_geom).ravel()
    return lambda: from_astra_volume((matrix.T @ flat).reshape(grid.shape[1:]), vol_geom)


def _matrix(geometry: Geometry, grid: VolumeGrid) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """Write ASTRA's line model down as a sparse matrix: minutes and gigabytes for W1."""
    import astra

    proj_geom, vol_geom = to_astra(geometry, grid)
    name = "line" if isinstance(geometry, ParallelBeam) else "line_fanflat"
    number = astra.projector.matrix(astra.create_projector(name, proj_geom, vol_geom))
    return astra.matrix.get(number), proj_geom, vol_geom


def clear() -> None:
    """Let go of everything ASTRA holds."""
    try:
        import astra
    except ImportError:
        return
    astra.clear()


def rtk_forward(geometry: Geometry, grid: VolumeGrid, volume: Tensor) -> Work:
    from itk import RTK

    scanner, image = _rtk_geometry(geometry), _rtk_image(_to_rtk(volume), grid.spacing[2])

    def work() -> Tensor:
        empty = _rtk_image(np.zeros(geometry.shape, np.float32), geometry.detector.pitch[1])
        project = RTK.JosephForwardProjectionImageFilter[type(image), type(image)].New()
        return _rtk_run(project, scanner, empty, image)

    return work


def rtk_adjoint(geometry: Geometry, grid: VolumeGrid, values: Tensor) -> Work:
    from itk import RTK

    scanner, data = _rtk_geometry(geometry), _rtk_image(values.numpy(), geometry.detector.pitch[1])

    def work() -> Tensor:
        project = RTK.JosephBackProjectionImageFilter[type(data), type(data)].New()
        return _from_rtk(_rtk_run(project, scanner, _rtk_empty(grid), data), grid)

    return work


def rtk_fdk(geometry: Geometry, grid: VolumeGrid, values: Tensor) -> Work:
    from itk import RTK

    scanner, data = _rtk_geometry(geometry), _rtk_image(values.numpy(), geometry.detector.pitch[1])

    def work() -> Tensor:
        reconstruct = RTK.FDKConeBeamReconstructionFilter[type(data)].New()
        return _from_rtk(_rtk_run(reconstruct, scanner, _rtk_empty(grid), data), grid)

    return work


def _rtk_run(filter_: Any, scanner: Any, first: Any, second: Any) -> Tensor:
    import itk

    filter_.SetInput(0, first)
    filter_.SetInput(1, second)
    filter_.SetGeometry(scanner)
    filter_.Update()
    return torch.from_numpy(itk.array_from_image(filter_.GetOutput()).copy())


def _rtk_geometry(geometry: Geometry) -> Any:
    from itk import RTK

    if not isinstance(geometry, ConeBeam):
        raise ValueError("RTK is compared in fan and cone beam only")
    scanner = RTK.ThreeDCircularProjectionGeometry.New()
    for angle in geometry.angles:
        scanner.AddProjectionInRadians(geometry.source_to_axis, geometry.source_to_detector, angle)
    return scanner


def _rtk_image(array: np.ndarray, step: float) -> Any:
    """Make an image of equal steps whose middle is at 0; the views of projections need no position."""
    import itk

    image = itk.image_from_array(np.ascontiguousarray(array))
    image.SetSpacing([step] * 3)
    image.SetOrigin([-(n - 1) / 2 * step for n in array.shape[::-1]])
    return image


def _rtk_empty(grid: VolumeGrid) -> Any:
    z, y, x = grid.shape
    return _rtk_image(np.zeros((y, 3 if z == 1 else z, x), np.float32), grid.spacing[2])


def _to_rtk(volume: Tensor) -> np.ndarray:
    """Order a volume as RTK does: its rotation axis is y, and its z is our -y; to RTK one slice has no height."""
    if len(volume) == 1:
        volume = volume.expand(3, -1, -1)
    return np.ascontiguousarray(volume.permute(1, 0, 2).flip(0).numpy())


def _from_rtk(volume: Tensor, grid: VolumeGrid) -> Tensor:
    ours = volume.flip(0).permute(1, 0, 2)
    return ours.sum(0, keepdim=True) if grid.shape[0] == 1 else ours


def skimage_fbp(geometry: Geometry, grid: VolumeGrid, values: Tensor) -> Work:
    from skimage.transform import iradon

    sinogram = np.ascontiguousarray(values[:, 0].T.numpy())
    degrees = np.rad2deg(np.asarray(geometry.angles))
    step = grid.spacing[2]

    def work() -> Tensor:
        image = iradon(sinogram, theta=degrees, output_size=grid.shape[2], circle=False)
        return torch.from_numpy(image[None, ::-1] / step)

    return work
