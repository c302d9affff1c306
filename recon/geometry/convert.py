"""Geometries and arrays to and from ASTRA, without importing it: its geometries are plain dictionaries.

ASTRA's lengths have no unit; here they are mm. Its angles, and its detector's columns and rows, run as ours do. Its
arrays do not: see `to_astra_volume` and `to_astra_values`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recon.errors import GeometryError, ShapeError
from recon.geometry.base import Detector, ScanGeometry
from recon.geometry.cone import ConeBeam
from recon.geometry.free import FreeBeam
from recon.geometry.parallel import ParallelBeam
from recon.grid import VolumeGrid

AstraDict = dict[str, Any]

_SAME = 1e-9  # share of a voxel within which a height counts as that of the slice
_DISTANCES = ("DistanceOriginSource", "DistanceOriginDetector")
_KEYS_2D = ("DetectorWidth", "DetectorCount", "ProjectionAngles")
_KEYS_3D = ("DetectorSpacingX", "DetectorSpacingY", "DetectorRowCount", "DetectorColCount", "ProjectionAngles")
_KEYS = {
    "parallel": _KEYS_2D,
    "fanflat": _KEYS_2D + _DISTANCES,
    "parallel_vec": ("DetectorCount", "Vectors"),
    "fanflat_vec": ("DetectorCount", "Vectors"),
    "parallel3d": _KEYS_3D,
    "cone": _KEYS_3D + _DISTANCES,
    "parallel3d_vec": ("DetectorRowCount", "DetectorColCount", "Vectors"),
    "cone_vec": ("DetectorRowCount", "DetectorColCount", "Vectors"),
}


def to_astra(geometry: ScanGeometry, grid: VolumeGrid) -> tuple[AstraDict, AstraDict]:
    """Write a geometry and a grid as ASTRA's projection and volume geometry, lengths in mm.

    One detector row in the plane of one slice makes a 2-D geometry, all else a 3-D one. A detector offset, a helix
    and a free trajectory make the kinds that end in _vec.

    Args:
        geometry: any geometry with a flat detector.
        grid: the voxels; in 2-D their sizes along y and x must agree.

    Returns:
        The dictionaries that `astra.create_proj_geom` and `astra.create_vol_geom` would give.

    Raises:
        GeometryError: a curved detector, or pixels that are not square in 2-D.

    Source:
        ASTRA toolbox documentation, "Creating projection geometries"; checked against version 2.5.0.
    """
    if geometry.arc_detector:
        raise GeometryError(
            "detector: expected curve='flat' for ASTRA, got 'arc', which its CPU and 2-D code do not know; rebin the "
            "data to a flat detector, or project with recon.Projector"
        )
    planar = _is_planar(geometry, grid)
    if planar:
        _refuse_rectangles(grid)
    return _projections(geometry, planar), _volume(grid, planar)


def from_astra(
    proj_geom: Mapping[str, Any], vol_geom: Mapping[str, Any] | None = None
) -> tuple[ScanGeometry, VolumeGrid | None]:
    """Read ASTRA's projection geometry, and volume geometry if given, as lengths in mm.

    What a 2-D geometry leaves open is filled in: one row as high as a column is wide, and one slice at z = 0 as
    thick as a pixel is wide.

    Args:
        proj_geom: parallel, fanflat, parallel3d, cone, or one of these by vectors (_vec).
        vol_geom: with or without a window; without one its voxels are 1 mm wide.

    Returns:
        ParallelBeam, ConeBeam, or FreeBeam for vectors; and the grid, or None.

    Raises:
        GeometryError: an unknown type, a missing entry, or a geometry that no scanner can have.
    """
    kind = str(proj_geom.get("type"))
    if kind not in _KEYS:
        raise GeometryError(f"proj_geom: expected a type among {', '.join(_KEYS)}, got {kind!r}")
    missing = [key for key in _KEYS[kind] if key not in proj_geom]
    if missing:
        raise GeometryError(
            f"proj_geom: expected the entries {', '.join(_KEYS[kind])} of {kind!r}, {', '.join(missing)} are missing; "
            "make it with astra.create_proj_geom"
        )
    geometry = _from_vectors(proj_geom, kind) if kind.endswith("_vec") else _from_angles(proj_geom, kind)
    return geometry, None if vol_geom is None else _grid(vol_geom)


def to_astra_volume(volume: Tensor, vol_geom: Mapping[str, Any]) -> np.ndarray:
    """Order a volume (z, y, x) as ASTRA stores it: in 2-D (y, x) with the largest y first, in 3-D (z, y, x)."""
    array = _array(volume)
    if "GridSliceCount" in vol_geom:
        return array
    return np.ascontiguousarray(_single(array, 0, "volume")[::-1])


def from_astra_volume(array: np.ndarray, vol_geom: Mapping[str, Any]) -> Tensor:
    """Order a volume of ASTRA as ours: (z, y, x), all axes growing."""
    volume = array if "GridSliceCount" in vol_geom else array[None, ::-1]
    return torch.from_numpy(np.array(volume, order="C"))


def to_astra_values(values: Tensor, proj_geom: Mapping[str, Any]) -> np.ndarray:
    """Order line integrals (view, row, column) as ASTRA does: in 2-D (view, column), in 3-D (row, view, column)."""
    array = _array(values)
    if "DetectorCount" in proj_geom:
        return _single(array, 1, "values")
    return np.ascontiguousarray(array.swapaxes(0, 1))


def from_astra_values(array: np.ndarray, proj_geom: Mapping[str, Any]) -> Tensor:
    """Order line integrals of ASTRA as ours: (view, row, column)."""
    values = array[:, None] if "DetectorCount" in proj_geom else array.swapaxes(0, 1)
    return torch.from_numpy(np.array(values, order="C"))


def _is_planar(geometry: ScanGeometry, grid: VolumeGrid) -> bool:
    """Tell whether all rays run in the middle of the grid's only slice."""
    if geometry.detector.shape[0] != 1 or grid.shape[0] != 1:
        return False
    first, centre, _, u = geometry.rays()[..., 0].unbind(1)
    above = first if geometry.parallel else first - grid.centre[0]
    heights = torch.stack([above, centre - grid.centre[0], u])
    return bool((heights.abs() <= _SAME * grid.spacing[0]).all())


def _refuse_rectangles(grid: VolumeGrid) -> None:
    _, y, x = grid.spacing
    if abs(y - x) > _SAME * x:
        raise GeometryError(
            f"spacing: expected square pixels for ASTRA in 2-D, got {y:g} mm along y and {x:g} mm along x, for which "
            "its line and linear projectors return wrong lengths; use grid.resampled with one spacing"
        )


def _projections(geometry: ScanGeometry, planar: bool) -> AstraDict:
    if isinstance(geometry, FreeBeam) or _is_shifted(geometry, planar):
        return _vectors(geometry, planar)
    assert isinstance(geometry, ParallelBeam | ConeBeam)
    kinds = ("parallel", "fanflat") if planar else ("parallel3d", "cone")
    dictionary = {"type": kinds[not geometry.parallel], **_detector(geometry.detector, planar)}
    dictionary["ProjectionAngles"] = np.array(geometry.angles)
    if isinstance(geometry, ConeBeam):
        lengths = geometry.source_to_axis, geometry.source_to_detector - geometry.source_to_axis
        dictionary.update(zip(_DISTANCES, lengths, strict=True))
    return dictionary


def _is_shifted(geometry: ScanGeometry, planar: bool) -> bool:
    """Tell whether angles alone do not say where source and detector are."""
    v_offset, u_offset = geometry.detector.offset
    heights = geometry.rays()[:, :2, 0]  # a plane that all rays share needs no height in 2-D
    return u_offset != 0 or (not planar and (v_offset != 0 or bool(heights.any())))


def _detector(detector: Detector, planar: bool) -> AstraDict:
    (rows, columns), (v, u) = detector.shape, detector.pitch
    if planar:
        return {"DetectorWidth": u, "DetectorCount": columns}
    return {
        "DetectorSpacingX": u, "DetectorSpacingY": v, "DetectorRowCount": rows, "DetectorColCount": columns,
    }  # fmt: skip


def _vectors(geometry: ScanGeometry, planar: bool) -> AstraDict:
    """Write source or ray, detector centre, column step and (3-D) row step per view, as x, y and (3-D) z."""
    rays = geometry.rays()
    if geometry.parallel:
        rays[:, 0] *= -1  # ASTRA's rays point to the source
    order, axes = ([0, 1, 3], [2, 1]) if planar else ([0, 1, 3, 2], [2, 1, 0])
    vectors = rays[:, order][..., axes].flatten(1).numpy()
    rows, columns = geometry.detector.shape
    kinds = ("parallel_vec", "fanflat_vec") if planar else ("parallel3d_vec", "cone_vec")
    shape = {"DetectorCount": columns} if planar else {"DetectorRowCount": rows, "DetectorColCount": columns}
    return {"type": kinds[not geometry.parallel], **shape, "Vectors": vectors}


def _volume(grid: VolumeGrid, planar: bool) -> AstraDict:
    z, y, x = grid.shape
    slices = {} if planar else {"GridSliceCount": z}
    window = {}
    for name, axis in (("X", 2), ("Y", 1), ("Z", 0))[: 2 if planar else 3]:
        window[f"WindowMin{name}"] = grid.centre[axis] - grid.extent[axis] / 2
        window[f"WindowMax{name}"] = grid.centre[axis] + grid.extent[axis] / 2
    return {"option": window, "GridRowCount": y, "GridColCount": x, **slices}


def _from_angles(proj_geom: Mapping[str, Any], kind: str) -> ScanGeometry:
    angles = tuple(float(angle) for angle in np.ravel(proj_geom["ProjectionAngles"]))
    if "DetectorCount" in proj_geom:
        shape, pitch = (1, int(proj_geom["DetectorCount"])), (float(proj_geom["DetectorWidth"]),) * 2
    else:
        shape = int(proj_geom["DetectorRowCount"]), int(proj_geom["DetectorColCount"])
        pitch = float(proj_geom["DetectorSpacingY"]), float(proj_geom["DetectorSpacingX"])
    detector = Detector(shape=shape, pitch=pitch)
    if kind.startswith("parallel"):
        return ParallelBeam(angles=angles, detector=detector)
    source, distance = (float(proj_geom[key]) for key in _DISTANCES)
    return ConeBeam(angles=angles, detector=detector, source_to_axis=source, source_to_detector=source + distance)


def _from_vectors(proj_geom: Mapping[str, Any], kind: str) -> FreeBeam:
    vectors = torch.as_tensor(np.array(proj_geom["Vectors"], dtype=np.float64))
    numbers = 6 if "DetectorCount" in proj_geom else 12
    if vectors.ndim != 2 or vectors.shape[1] != numbers or len(vectors) == 0:
        raise GeometryError(f"proj_geom: expected Vectors (view, {numbers}) for {kind!r}, got {tuple(vectors.shape)}")
    rays = _rays_2d(vectors) if numbers == 6 else vectors.unflatten(1, (4, 3))[:, [0, 1, 3, 2]].flip(2)
    parallel = kind.startswith("parallel")
    if parallel:
        rays[:, 0] *= -1
    rows = 1 if numbers == 6 else int(proj_geom["DetectorRowCount"])
    columns = int(proj_geom["DetectorCount" if numbers == 6 else "DetectorColCount"])
    v, u = (max(float(step), 1e-9) for step in rays[0, 2:].norm(dim=1))  # FreeBeam refuses a step of 0 by name
    detector = Detector(shape=(rows, columns), pitch=(v, u))
    return FreeBeam(
        vectors=rays.tolist(),  # type: ignore[arg-type]
        detector=detector,
        parallel_rays=parallel,
    )


def _rays_2d(vectors: Tensor) -> Tensor:
    """Turn (view, 6) into rays (view, 4, 3) in the plane z = 0, with rows as high as columns are wide."""
    rays = torch.zeros(len(vectors), 4, 3, dtype=torch.float64)
    rays[:, [0, 1, 3], 1:] = vectors.unflatten(1, (3, 2)).flip(2)
    rays[:, 2, 0] = rays[:, 3].norm(dim=1)
    return rays


def _grid(vol_geom: Mapping[str, Any]) -> VolumeGrid:
    counts = [int(vol_geom.get(f"Grid{name}Count", 1)) for name in ("Slice", "Row", "Col")]
    window = vol_geom.get("option", {})
    low = [float(window.get(f"WindowMin{a}", -n / 2)) for a, n in zip("ZYX", counts, strict=True)]
    high = [float(window.get(f"WindowMax{a}", n / 2)) for a, n in zip("ZYX", counts, strict=True)]
    spacing = [(b - a) / max(n, 1) for a, b, n in zip(low, high, counts, strict=True)]
    if "GridSliceCount" not in vol_geom:
        spacing[0] = spacing[2]
    centre = tuple((a + b) / 2 for a, b in zip(low, high, strict=True))
    return VolumeGrid(shape=tuple(counts), spacing=tuple(spacing), centre=centre)  # type: ignore[arg-type]


def _array(tensor: Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.detach().cpu().numpy(), dtype=np.float32)


def _single(array: np.ndarray, axis: int, name: str) -> np.ndarray:
    """Drop an axis of length 1."""
    if array.ndim != 3 or array.shape[axis] != 1:
        word = "slice (1, y, x)" if axis == 0 else "row (view, 1, column)"
        raise ShapeError(f"{name}: expected one {word} for a 2-D geometry, got {array.shape}")
    return array.squeeze(axis)
