"""Data Exchange HDF5 (synchrotrons): counts with flat and dark fields, angles in degrees."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from recon.errors import FormatError
from recon.geometry import Detector, ParallelBeam
from recon.io.hdf5 import open_hdf5, read_dataset, text_of
from recon.io.raw import RawScan, geometry_shape


def read_data_exchange(path: Path, limit: int, pitch: tuple[float, float] | None, *, geometry: bool = True) -> RawScan:
    """Read `/exchange` as parallel rays whose axis is in the detector's middle until it is searched for.

    Args:
        path: the file.
        limit: most bytes of one array.
        pitch: pixel step in mm.
        geometry: read the angles; False where the caller states a geometry.

    Raises:
        FormatError: missing data or angles, other axes than (theta, y, x), or another unit of angle.
    """
    with open_hdf5(path) as file:
        values = read_dataset(file, "exchange/data", limit)
        _check_order(path, file["exchange/data"])
        flats, darks = (_optional(file, f"exchange/{name}", limit) for name in ("data_white", "data_dark"))
        made = _parallel(path, values, _angles(file, path, limit), pitch or (1.0, 1.0)) if geometry else None
    doubt = "pixel size: expected it in the file, got none; taken as 1 mm, state pitch="
    return RawScan(
        where=str(path),
        values=values,
        counts=True,
        geometry=made,
        flats=flats,
        darks=darks,
        notes=["read as Data Exchange, parallel rays"],
        geometry_doubts=[] if pitch else [doubt],
    )


def _parallel(
    path: Path, values: NDArray[Any], angles: NDArray[np.float64], pitch: tuple[float, float]
) -> ParallelBeam:
    detector = Detector(shape=geometry_shape(str(path), values), pitch=pitch)
    return ParallelBeam(angles=tuple(float(a) for a in angles), detector=detector)


def _optional(file: Any, name: str, limit: int) -> NDArray[Any] | None:
    return read_dataset(file, name, limit) if name in file else None


def _check_order(path: Path, data: h5py.Dataset) -> None:
    axes = text_of(data.attrs.get("axes", "theta:y:x"))
    if axes.split(":") != ["theta", "y", "x"]:
        raise FormatError(f"{path}: exchange/data: expected the axes theta:y:x, got {axes!r}; reorder the data")


def _angles(file: Any, path: Path, limit: int) -> NDArray[np.float64]:
    """Return the view angles in rad; the format's unit is degrees unless the file says radians."""
    angles = read_dataset(file, "exchange/theta", limit).astype(np.float64).reshape(-1)
    unit = text_of(file["exchange/theta"].attrs.get("units", "degrees")).lower()
    if unit.startswith("rad"):
        return angles
    if not unit.startswith("deg"):
        raise FormatError(f"{path}: exchange/theta: expected degrees or radians, got {unit!r}")
    return np.radians(angles)
