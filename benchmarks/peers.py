"""The other toolboxes, each behind one shape of call: data in, a function that does the timed work out.

Whatever a toolbox lets one prepare (its arrays, its projector, its sparse matrix) is made before the clock starts.
"""

from collections.abc import Callable
from functools import lru_cache
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

PACKAGES = ("astra-toolbox", "itk-rtk", "diffct", "scikit-image")


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
    """Multiply with ASTRA's line model as a sparse matrix; the slices of a stack are its columns, which is faster."""
    matrix, proj_geom, vol_geom = _matrix(geometry, grid)
    columns = np.stack([to_astra_volume(one, vol_geom).ravel() for one in _stack(volume)], axis=1)

    def work() -> Tensor:
        out = (matrix @ columns).T.reshape(-1, len(geometry), geometry.detector.shape[1])
        return torch.stack([from_astra_values(one, proj_geom) for one in out]).squeeze(0)

    return work


def astra_matrix_adjoint(geometry: Geometry, grid: VolumeGrid, values: Tensor) -> Work:
    matrix, proj_geom, vol_geom = _matrix(geometry, grid)
    columns = np.stack([to_astra_values(one, proj_geom).ravel() for one in _stack(values)], axis=1)

    def work() -> Tensor:
        out = (matrix.T @ columns).T.reshape(-1, *grid.shape[1:])
        return torch.stack([from_astra_volume(one, vol_geom) for one in out]).squeeze(0)

    return work


def _stack(data: Tensor) -> Tensor:
    return data if data.ndim == 4 else data[None]


@lru_cache(maxsize=1)
def _matrix(geometry: Geometry, grid: VolumeGrid) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """Write ASTRA's line model down as a sparse matrix: minutes and gigabytes for W1, so the last one is kept."""
    import astra

    proj_geom, vol_geom = to_astra(geometry, grid)
    name = "line" if isinstance(geometry, ParallelBeam) else "line_fanflat"
    number = astra.projector.matrix(astra.create_projector(name, proj_geom, vol_geom))
    matrix = astra.matrix.get(number).astype(np.float32)  # computed so by ASTRA, but handed out in float64
    astra.clear()
    return matrix, proj_geom, vol_geom


def forget_matrix() -> None:
    _matrix.cache_clear()


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


def rtk_iterations(method: str, count: int) -> Prepare:
    """Return conjugate gradients, or SART with all views in one subset, which is SIRT; both with Joseph's method."""
    return lambda geometry, grid, values: _rtk_iterations(method, count, geometry, grid, values)


def _rtk_iterations(method: str, count: int, geometry: Geometry, grid: VolumeGrid, values: Tensor) -> Work:
    from itk import RTK

    scanner, step = _rtk_geometry(geometry), geometry.detector.pitch[1]
    data = _rtk_image(values.numpy(), step)

    def work() -> Tensor:
        if method == "CGLS":
            solve = RTK.ConjugateGradientConeBeamReconstructionFilter[type(data)].New()
            solve.SetInputWeights(_rtk_image(np.ones(geometry.shape, np.float32), step))
        else:
            solve = RTK.SARTConeBeamReconstructionFilter[type(data), type(data)].New()
            solve.SetNumberOfProjectionsPerSubset(len(geometry))
            solve.SetLambda(1.0)
        solve.SetNumberOfIterations(count)
        solve.SetForwardProjectionFilter(solve.ForwardProjectionType_FP_JOSEPH)
        solve.SetBackProjectionFilter(solve.BackProjectionType_BP_JOSEPH)
        solve.SetDisableDisplacedDetectorFilter(True)
        return _from_rtk(_rtk_run(solve, scanner, _rtk_empty(grid), data), grid)

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


def diffct_forward(geometry: Geometry, grid: VolumeGrid, volume: Tensor) -> Work:
    projector = diffct_projector(geometry, grid)
    flat = grid.shape[0] == 1
    image = volume[0] if flat else volume

    def work() -> Tensor:
        values: Tensor = projector.project(image)
        return values[:, None] if flat else values.transpose(1, 2)

    return work


def diffct_adjoint(geometry: Geometry, grid: VolumeGrid, values: Tensor) -> Work:
    projector = diffct_projector(geometry, grid)
    flat = grid.shape[0] == 1
    data = values[:, 0] if flat else values.transpose(1, 2).contiguous()

    def work() -> Tensor:
        image: Tensor = projector.backproject(data)
        return image[None] if flat else image

    return work


def diffct_projector(geometry: Geometry, grid: VolumeGrid, backend: str = "torch", device: Any = "cpu") -> Any:
    """Make diffct's projector, "numba" on a GPU; it counts columns before rows and x before y."""
    import diffct

    if not isinstance(geometry, ConeBeam):
        raise ValueError("diffct is compared in fan and cone beam only")
    source, centre, v, u = (vector.flip(1).float().to(device) for vector in geometry.rays().unbind(1))
    v, u = (vector / vector.norm(dim=1, keepdim=True) for vector in (v, u))
    settings = {"voxel_spacing": grid.spacing[2], "backend": backend}
    (rows, columns), pitch = geometry.detector.shape, geometry.detector.pitch
    if rows == grid.shape[0] == 1:
        flat = tuple(vector[:, :2].contiguous() for vector in (source, centre, u))
        return diffct.Projector(flat, grid.shape[1:], columns, beam="fan", detector_spacing=pitch[1], **settings)
    shapes = grid.shape, (columns, rows)
    return diffct.Projector((source, centre, u, v), *shapes, beam="cone", detector_spacing=pitch[::-1], **settings)


def skimage_fbp(geometry: Geometry, grid: VolumeGrid, values: Tensor) -> Work:
    from skimage.transform import iradon

    sinogram = np.ascontiguousarray(values[:, 0].T.numpy())
    degrees = np.rad2deg(np.asarray(geometry.angles))
    step = grid.spacing[2]

    def work() -> Tensor:
        image = iradon(sinogram, theta=degrees, output_size=grid.shape[2], circle=False)
        return torch.from_numpy(image[None, ::-1] / step)

    return work
