"""Volumes as Zarr stores with the metadata of OME-NGFF 0.5, which viewers of microscopes and of CT read.

The array `0` is (z, y, x) in float32; scale is the spacing and translation the position of the first voxel, in mm. The
attribute `raymend` adds the unit of the values, the centre to the last bit, and a checksum over all metadata.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from recon.errors import FormatError
from recon.grid import VolumeGrid
from recon.io.atomic_folder import atomic_folder
from recon.io.chunks import chunks_of
from recon.io.keys import numbers
from recon.io.limits import check_bytes, translated
from recon.io.volume import UNITS, Volume, as_float32
from recon.io.zarr_array import StoredArray
from recon.io.zarr_look import metadata, walk, zarr_library
from recon.io.zarr_own import VOLUME, own_attributes, own_kind, write_root
from recon.io.zarr_store import begin_array, read_whole

_AXES: Final = ("z", "y", "x")
_MILLIMETRES: Final = {"nanometer": 1e-6, "micrometer": 1e-3, "millimeter": 1.0, "centimeter": 10.0, "meter": 1e3}


def write_zarr_volume(path: Path, volume: Volume) -> None:
    """Write a float32 volume.

    Raises:
        MissingExtraError: zarr is not installed.
        ConfigError: a place that cannot be written, or that holds something else.
        ResourceError: the disk is full; nothing is left behind.
    """
    zarr_library("writing Zarr")
    with atomic_folder(path) as folder:
        begin_zarr_volume(folder, volume.grid)
        write_slices(folder, 0, volume.values.detach().cpu().numpy())
        end_zarr_volume(folder, volume.grid, volume.unit)


def begin_zarr_volume(folder: Path, grid: VolumeGrid) -> None:
    """Begin a float32 volume without any chunk; a chunk holds one slice or a part of it, so that any slab is whole."""
    begin_array(folder / "0", grid.shape, "float32", chunks=chunks_of((1, *grid.shape[1:]), 4), names=_AXES)


def write_slices(folder: Path, first: int, values: NDArray[Any]) -> list[Path]:
    """Write slices (slice, y, x) from slice `first` on, and return the folders they lie in."""
    array = zarr_library("writing Zarr").open_array(
        store=str(folder / "0"), mode="r+", zarr_format=3, config={"write_empty_chunks": True}
    )
    for number in range(len(values)):
        array[first + number] = np.asarray(values[number], dtype=np.float32)
    return [folder / "0" / "c" / str(first + number) for number in range(len(values))]


def end_zarr_volume(folder: Path, grid: VolumeGrid, unit: str) -> None:
    """Write what the store is; without it, there is no store."""
    about = {"unit": unit, "centre": list(grid.centre)}
    write_root(folder, VOLUME, ["0"], ome={"version": "0.5", "multiscales": [_multiscale(grid)]}, raymend=about)


def read_zarr_volume(path: Path, limit: int) -> Volume:
    """Read raymend's own volume, or the finest image of another store with OME-NGFF 0.5 metadata.

    Args:
        path: the store.
        limit: bytes of the largest array to make.

    Raises:
        FormatError: other axes than z, y, x; missing chunks, checksums that do not match, contradicting positions.
        UnsafeFileError: links.
        ResourceError: more bytes than the limit.
    """
    with translated(path, "Zarr"):
        for _ in walk(path):
            pass  # a link or pipe anywhere is refused
        own = own_kind(path) == VOLUME
        attributes = own_attributes(path, VOLUME) if own else metadata(path)["attributes"]
        dataset, axes = _finest(path, attributes["ome"])
        array = StoredArray.of(_inside(path, dataset["path"]), limit)
        if len(array.shape) != 3:
            raise FormatError(f"{array.folder}: expected (z, y, x), got shape {array.shape}")
        check_bytes(str(array.folder), 4 * math.prod(array.shape), limit)
        grid = _grid(path, array.shape, axes, dataset)
        said = attributes["raymend"] if own else {}
        if own:
            grid = _centred(path, grid, said["centre"])
        values = as_float32(str(array.folder), read_whole(array))
        return Volume(values=values, grid=grid, unit=said["unit"] if said.get("unit") in UNITS else "unknown")


def holds_volume(said: Mapping[str, Any]) -> bool:
    """Tell whether the metadata of a group are those of an OME-NGFF 0.5 image."""
    attributes = said.get("attributes")
    ome = attributes.get("ome") if isinstance(attributes, dict) else None
    return isinstance(ome, dict) and "multiscales" in ome


def _multiscale(grid: VolumeGrid) -> dict[str, Any]:
    first = [float(axis[0]) for axis in grid.axes()]
    steps = [{"type": "scale", "scale": list(grid.spacing)}, {"type": "translation", "translation": first}]
    return {
        "name": "volume",
        "axes": [{"name": name, "type": "space", "unit": "millimeter"} for name in _AXES],
        "datasets": [{"path": "0", "coordinateTransformations": steps}],
    }


def _finest(path: Path, ome: Mapping[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the first image and the axes."""
    if ome.get("version") != "0.5":
        raise FormatError(f"{path}: expected OME-NGFF 0.5, got {str(ome.get('version'))[:20]!r}; convert it")
    scales = ome["multiscales"][0]
    axes = scales["axes"]
    names = tuple(axis["name"] for axis in axes)
    if names != _AXES:
        raise FormatError(f"{path}: expected the axes z, y, x, got {', '.join(map(str, names))[:60]}; keep one channel")
    if "coordinateTransformations" in scales:
        raise FormatError(f"{path}: expected positions beside each image, got some for all of them; write it again")
    return scales["datasets"][0], axes


def _inside(path: Path, name: object) -> Path:
    """Return the folder of an array by its path in the store, none of whose steps may lead out."""
    steps = str(name).split("/")
    if not isinstance(name, str) or any(step in ("", ".", "..") or "\0" in step for step in steps):
        raise FormatError(f"{path}: expected the path of an array inside the store, got {str(name)[:60]!r}")
    return path.joinpath(*steps)


def _grid(path: Path, shape: tuple[int, ...], axes: list[dict[str, Any]], dataset: Mapping[str, Any]) -> VolumeGrid:
    """Place the voxels by scale and translation."""
    units = [axis.get("unit") for axis in axes]
    if not set(units) <= set(_MILLIMETRES):
        raise FormatError(
            f"{path}: expected lengths in {', '.join(_MILLIMETRES)}, got "
            f"{', '.join(map(str, units))[:60]}; state the unit"
        )
    where, steps = str(path), {item["type"]: item for item in dataset["coordinateTransformations"]}
    if not {"scale"} <= set(steps) <= {"scale", "translation"}:
        raise FormatError(f"{path}: expected scale and translation, got {', '.join(map(str, steps))[:60]}")
    scale = numbers(where, "scale", steps["scale"]["scale"], 3)
    first = numbers(where, "translation", steps.get("translation", {"translation": [0.0] * 3})["translation"], 3)
    to_mm = [_MILLIMETRES[str(unit)] for unit in units]
    spacing = tuple(s * k for s, k in zip(scale, to_mm, strict=True))
    centre = tuple(t * k + (n - 1) / 2 * s for t, k, n, s in zip(first, to_mm, shape, spacing, strict=True))
    return VolumeGrid(shape=shape, spacing=spacing, centre=centre)  # type: ignore[arg-type]


def _centred(path: Path, grid: VolumeGrid, centre: object) -> VolumeGrid:
    """Put the centre to the last bit, where it agrees with the position of the first voxel."""
    exact = numbers(str(path), "centre", centre, 3)
    if any(abs(a - b) > 1e-6 * max(1.0, abs(b)) for a, b in zip(grid.centre, exact, strict=True)):
        raise FormatError(f"{path}: translation and centre contradict each other; write the volume again")
    return VolumeGrid(shape=grid.shape, spacing=grid.spacing, centre=(exact[0], exact[1], exact[2]))
