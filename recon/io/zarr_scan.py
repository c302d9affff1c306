"""raymend's scan as a Zarr store: the content of the HDF5 file in a folder of chunks, each with its checksum.

Layout: the group's attribute `raymend` with `format`, `version`, `software`, `calibration` (value and unit of each
number) and a checksum over all metadata; arrays `values`, `weights`, `poses` and `rays` with unit and named axes;
`geometry` (JSON: class and fields, mm and rad) and `provenance` (a JSON list) as bytes, so that chunks protect them.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from recon.errors import FormatError
from recon.io.atomic_folder import atomic_folder
from recon.io.geometry_json import check_rays, geometry_from_json, geometry_to_json
from recon.io.keys import number
from recon.io.limits import check_stamp, stamp, translated
from recon.io.zarr_array import StoredArray
from recon.io.zarr_look import walk, zarr_library
from recon.io.zarr_own import SCAN, own_attributes, write_root
from recon.io.zarr_store import put_array, put_text, read_text, read_whole
from recon.scan import Calibration, Scan
from recon.stored import StoredScan, stays

_AXES: Final = ("view", "row", "column")
_UNITS: Final = {"photons": "1", "electronic": "1", "water": "1/mm", "energy": "keV"}
_KINDS: Final = {"float32": torch.float32, "float64": torch.float64}


def write_zarr_scan(path: Path, scan: Scan) -> None:
    """Write a scan with geometry, units, calibration and provenance.

    Raises:
        MissingExtraError: zarr is not installed.
        ConfigError: a place that cannot be written, or that holds something else.
        ResourceError: the disk is full; nothing is left behind.
    """
    zarr_library("writing Zarr")
    with atomic_folder(path) as folder:
        put_array(folder / "values", scan.values, unit="1", axes=_AXES)
        if scan.weights is not None:
            put_array(folder / "weights", scan.weights, unit="1", axes=_AXES)
        if scan.poses is not None:
            put_array(folder / "poses", scan.poses, unit="mm,mm,mm,rad,rad,rad", axes=("view", "shift zyx, turn zyx"))
        put_array(
            folder / "rays", scan.geometry.rays(), unit="mm", axes=("view", "source, centre, v step, u step", "zyx")
        )
        put_text(folder / "geometry", geometry_to_json(scan.geometry))
        if scan.provenance:
            put_text(folder / "provenance", json.dumps(scan.provenance))
        arrays = sorted(item.name for item in folder.iterdir())
        write_root(folder, SCAN, arrays, raymend={"calibration": _calibration_to_json(scan.calibration)})


def read_zarr_scan(path: Path, limit: int) -> Scan:
    """Read a scan that `write_zarr_scan` wrote; within a budget of memory, large projections stay in the store.

    Args:
        path: the store.
        limit: bytes of the largest array to make.

    Raises:
        FormatError: another version, missing chunks, checksums that do not match, parts that contradict each other.
        UnsafeFileError: links.
        ResourceError: an array beyond the limit.
    """
    with translated(path, "Zarr"):
        for _ in walk(path):
            pass  # a link or pipe anywhere is refused
        said = own_attributes(path, SCAN)["raymend"]
        arrays = said["arrays"]
        geometry = geometry_from_json(read_text(path / "geometry", limit), f"{path}:geometry")
        check_rays(path, geometry, _read(path, "rays", limit).numpy())
        about: dict[str, Any] = {
            "geometry": geometry,
            "poses": _read(path, "poses", limit) if "poses" in arrays else None,
            "calibration": _calibration(path, said["calibration"]),
            "provenance": _steps(path, read_text(path / "provenance", limit)) if "provenance" in arrays else (),
        }
        if stays(geometry):
            return StoredScan(source=ZarrSource.of(path, arrays, geometry.shape), **about)
        weights = _read(path, "weights", limit) if "weights" in arrays else None
        return Scan(values=_read(path, "values", limit), weights=weights, **about)


@dataclass(frozen=True, kw_only=True, eq=False)
class ZarrSource:
    """The arrays of a scan in a Zarr store, of which only the chunks asked for are read.

    Args:
        path: the store.
        dtype: type of the values.
        arrays: "values" and, where there are any, "weights".
        stamp: what the file system said of the store's metadata when it was looked through.
    """

    path: Path
    dtype: torch.dtype
    arrays: Mapping[str, StoredArray]
    stamp: tuple[int, ...]

    @classmethod
    def of(cls, path: Path, names: list[str], shape: tuple[int, int, int]) -> "ZarrSource":
        """Look at a store.

        Raises:
            FormatError: arrays of another shape or type than the geometry's and float32 or float64; missing chunks.
        """
        described = stamp(path / "zarr.json")
        wanted: list[str] = [name for name in ("values", "weights") if name in names or name == "values"]
        arrays: dict[str, StoredArray] = {name: StoredArray.of(path / name, sys.maxsize) for name in wanted}
        for array in arrays.values():
            if array.dtype.name not in _KINDS or array.shape != shape:
                raise FormatError(
                    f"{array.folder}: expected (view, row, column) = {shape} in float32 or float64, got {array.shape} "
                    f"in {array.dtype}"
                )
        return cls(path=path, dtype=_KINDS[arrays["values"].dtype.name], arrays=arrays, stamp=described)

    @property
    def weighted(self) -> bool:
        """Whether there are weights."""
        return "weights" in self.arrays

    def read(self, name: str, views: slice, rows: slice) -> torch.Tensor:
        """Read part of an array.

        Raises:
            FormatError: the store is gone, has changed, or is damaged.
        """
        check_stamp(self.path / "zarr.json", self.stamp)
        return torch.from_numpy(self.arrays[name].read(views, rows))


def _read(path: Path, name: str, limit: int) -> torch.Tensor:
    array = StoredArray.of(path / name, limit)
    if array.dtype.name not in _KINDS:
        raise FormatError(f"{array.folder}: expected float32 or float64, got {array.dtype}")
    return torch.from_numpy(read_whole(array))


def _calibration_to_json(calibration: Calibration) -> dict[str, dict[str, Any]]:
    given = {name: getattr(calibration, name) for name in _UNITS}
    return {name: {"value": float(x), "unit": _UNITS[name]} for name, x in given.items() if x is not None}


def _calibration(path: Path, said: Mapping[str, Any]) -> Calibration:
    return Calibration(**{name: number(str(path), name, said[name]["value"]) for name in _UNITS if name in said})


def _steps(path: Path, text: str) -> tuple[str, ...]:
    steps = json.loads(text)
    if not isinstance(steps, list):
        raise FormatError(f"{path}:provenance: expected a list, got {text[:40]!r}")
    return tuple(str(step) for step in steps)
