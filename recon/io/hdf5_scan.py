"""raymend's own scan file: HDF5 that says what it is, with checksums over every byte that matters.

Layout: root attributes `format`, `version`, `software`; datasets `values`, `weights`, `poses` with unit and axes;
`geometry` (JSON: class and fields, mm and rad) and the same as plain numbers in `rays`; the group `calibration` with
one attribute per number; `provenance`, one line per step. The new object headers of HDF5 checksum the attributes,
fletcher32 the datasets; texts have a fixed length, as those of variable length lie outside any checksum.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
import torch
from numpy.typing import NDArray

from recon.errors import FormatError
from recon.io.atomic import atomic_write
from recon.io.chunks import chunks_of
from recon.io.geometry_json import check_rays, geometry_from_json, geometry_to_json
from recon.io.hdf5 import checked_dataset, open_hdf5, read_dataset, text_of
from recon.io.limits import check_stamp, stamp
from recon.scan import Calibration, Scan
from recon.stored import StoredScan, stays

FORMAT: Final = "raymend scan"
VERSION: Final = 1
_CALIBRATION_UNITS: Final = {"photons": "1", "electronic": "1", "water": "1/mm", "energy": "keV"}


def write_hdf5_scan(path: Path, scan: Scan) -> None:
    """Write a scan with geometry, units, calibration and provenance."""
    with atomic_write(path) as temporary, h5py.File(temporary, "w", libver="latest") as file:
        file.attrs.update({"format": np.bytes_(FORMAT), "version": VERSION, "software": np.bytes_("raymend")})
        _put(file, "values", scan.values.detach().cpu().numpy(), unit="1", axes="view,row,column")
        if scan.weights is not None:
            _put(file, "weights", scan.weights.detach().cpu().numpy(), unit="1", axes="view,row,column")
        if scan.poses is not None:
            unit = "mm,mm,mm,rad,rad,rad"
            _put(
                file, "poses", scan.poses.detach().cpu().numpy(), unit=unit, axes="view,shift z y x and rotation z y x"
            )
        _put(file, "geometry", _texts([geometry_to_json(scan.geometry)]), unit="mm,rad", axes="JSON")
        rays = scan.geometry.rays().numpy()
        _put(file, "rays", rays, unit="mm", axes="view,source or direction and centre and v step and u step,z y x")
        _put_calibration(file, scan.calibration)
        if scan.provenance:
            _put(file, "provenance", _texts(scan.provenance), unit="", axes="step")


def read_hdf5_scan(path: Path, limit: int) -> Scan:
    """Read a scan that `write_hdf5_scan` wrote.

    Raises:
        FormatError: another version, a missing part, a checksum that does not match, parts that contradict each other.
    """
    with open_hdf5(path) as file:
        _check_version(file, path)
        geometry = geometry_from_json(text_of(read_dataset(file, "geometry", limit)), f"{path}:geometry")
        check_rays(path, geometry, read_dataset(file, "rays", limit))
        poses = torch.from_numpy(read_dataset(file, "poses", limit)) if "poses" in file else None
        steps = read_dataset(file, "provenance", limit) if "provenance" in file else ()
        about: dict[str, Any] = {
            "geometry": geometry,
            "poses": poses,
            "calibration": _calibration(file, path),
            "provenance": tuple(text_of(step) for step in steps),
        }
        if stays(geometry):
            return StoredScan(source=HDF5Source.of(file, path, geometry.shape), **about)
        weights = torch.from_numpy(read_dataset(file, "weights", limit)) if "weights" in file else None
        return Scan(values=torch.from_numpy(read_dataset(file, "values", limit)), weights=weights, **about)


@dataclass(frozen=True, kw_only=True)
class HDF5Source:
    """The arrays of a scan in an HDF5 file, which is open only while a part is read.

    Args:
        path: the file.
        dtype: type of the values.
        weighted: whether there are weights.
        stamp: what the file system said of the file when it was looked through.
    """

    path: Path
    dtype: torch.dtype
    weighted: bool
    stamp: tuple[int, ...]

    @classmethod
    def of(cls, file: Any, path: Path, shape: tuple[int, int, int]) -> "HDF5Source":
        """Look at an open file.

        Raises:
            FormatError: arrays of another shape or type than the geometry's and float32 or float64.
        """
        kinds = {"f4": torch.float32, "f8": torch.float64}
        names = [name for name in ("values", "weights") if name in file or name == "values"]
        for name in names:
            dataset, where = checked_dataset(file, name, sys.maxsize)
            if dataset.dtype.str[1:] not in kinds or dataset.shape != shape:
                raise FormatError(
                    f"{where}: expected (view, row, column) = {shape} in float32 or float64, got {dataset.shape} in "
                    f"{dataset.dtype}"
                )
        kind = kinds[file["values"].dtype.str[1:]]
        return cls(path=path, dtype=kind, weighted="weights" in names, stamp=stamp(path))

    def read(self, name: str, views: slice, rows: slice) -> torch.Tensor:
        """Read part of an array.

        Raises:
            FormatError: the file is gone, has changed, or is damaged.
        """
        check_stamp(self.path, self.stamp)
        with open_hdf5(self.path) as file:
            values = np.ascontiguousarray(file[name][views, rows], dtype=file[name].dtype.newbyteorder("="))
        check_stamp(self.path, self.stamp)
        return torch.from_numpy(values)


def _put(file: Any, name: str, values: NDArray[Any], *, unit: str, axes: str) -> None:
    chunks = chunks_of(values.shape, values.itemsize)
    dataset = file.create_dataset(name, data=values, chunks=chunks, fletcher32=True, track_times=False)
    dataset.attrs.update({"unit": np.bytes_(unit or "1"), "axes": np.bytes_(axes)})


def _texts(lines: Sequence[str]) -> NDArray[np.bytes_]:
    return np.array([line.encode() for line in lines])


def _put_calibration(file: Any, calibration: Calibration) -> None:
    group = file.create_group("calibration")
    for name, unit in _CALIBRATION_UNITS.items():
        value = getattr(calibration, name)
        if value is not None:
            group.attrs[name] = float(value)
            group.attrs[f"{name}_unit"] = np.bytes_(unit)


def _calibration(file: Any, path: Path) -> Calibration:
    group = file.get("calibration")
    if group is None:
        raise FormatError(f"{path}: expected the group 'calibration', got none; write the scan again")
    names = [f.name for f in fields(Calibration) if f.name in group.attrs]
    return Calibration(**{name: float(group.attrs[name]) for name in names})


def _check_version(file: Any, path: Path) -> None:
    version = int(file.attrs.get("version", 0))
    if not 1 <= version <= VERSION:
        raise FormatError(f"{path}: expected format version 1 to {VERSION}, got {version}; update raymend")
