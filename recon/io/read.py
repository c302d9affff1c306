"""`read_scan` and `read_volume`: any file we know, chosen by its content."""

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Final

from recon import checks
from recon.errors import ConfigError, CTWarning, FormatError
from recon.grid import VolumeGrid
from recon.io.data_exchange import read_data_exchange
from recon.io.detect import SCANS, VOLUMES, detect, expect, found
from recon.io.dicom import read_dicom
from recon.io.hdf5_scan import FORMAT, read_hdf5_scan
from recon.io.limits import byte_limit, check_shape, checksum
from recon.io.matlab import read_matlab
from recon.io.nifti import read_nifti
from recon.io.npy import read_npy
from recon.io.npz import read_npz_scan, read_npz_volume
from recon.io.npz_scan import holds_scan, read_own_npz
from recon.io.raw import RawScan, StatedGeometry, check_axes, stated, to_scan, with_geometry
from recon.io.tiff import read_tiff
from recon.io.volume import Volume, as_float32
from recon.io.xcat import read_avs, read_xcat
from recon.io.zarr_look import is_store
from recon.io.zarr_scan import read_zarr_scan
from recon.io.zarr_volume import read_zarr_volume
from recon.scan import Scan
from recon.sinogram.centre import find_centre, with_centre

Name = str | os.PathLike[str]
_OWN_NPZ: Final = "raymend npz"
_OWN: Final[dict[str, Callable[[Path, int], Scan]]] = {
    FORMAT: read_hdf5_scan,
    "zarr scan": read_zarr_scan,
    _OWN_NPZ: read_own_npz,
}
_WITH_DOUBTS: Final[dict[str, Callable[[Path, int], tuple[Volume, list[str]]]]] = {
    "tiff": read_tiff,
    "npz": read_npz_volume,
    "xcat": read_xcat,
    "avs field": read_avs,
}


def read_scan(
    path: Name,
    *,
    geometry: StatedGeometry | None = None,
    pitch: float | tuple[float, float] | None = None,
    centre: float | str | None = None,
    air: float | None = None,
    max_bytes: int | None = None,
) -> Scan:
    """Read projections with their geometry: raymend HDF5 and Zarr, Data Exchange, MATLAB v5, .npz, .npy.

    Counts with flat and dark fields become line integrals. What the file leaves open is a warning.

    Args:
        path: the file, or the folder of a Zarr store; its content decides, not its name.
        geometry: takes the place of the file's; or a function that makes it from the data's (view, row, column).
        pitch: step between detector pixels (v, u) in mm for files that do not state it; one number for both.
        centre: the detector's u offset in mm, or "find" to search for the axis; None keeps the file's.
        air: count without an object, for counts without flat fields.
        max_bytes: largest array to make; half of the available memory by default.

    Returns:
        The scan, float32 unless the file is raymend's own; its provenance holds the name and sha256 of the file.

    Raises:
        ConfigError: settings that cannot be used, or that the file leaves no place for.
        FormatError: damaged, truncated, unknown or contradicting; also what is not a regular file.
        UnsafeFileError: Python objects, or HDF5 or Zarr that points to other files.
        MissingExtraError: a format whose library is not installed.
        ResourceError: more than `max_bytes`.
    """
    file, limit = found(path), byte_limit(max_bytes)
    step = None if pitch is None else checks.lengths("pitch", pitch, 2)
    if air is not None:
        checks.positive("air", air, unit="counts")
    kind = _kind(file, limit)
    _refuse_idle(file, kind, pitch=pitch, air=air, geometry=geometry)
    if kind in _OWN:
        scan = _stated(file, _OWN[kind](file, limit), geometry)
    else:
        raw = _raw(file, kind, limit, None if step is None else (step[0], step[1]), geometry)
        scan = to_scan(with_geometry(raw, geometry), air=air)
    return _centred(_noted(scan, file), centre)


def read_volume(path: Name, *, grid: VolumeGrid | None = None, max_bytes: int | None = None) -> Volume:
    """Read a volume: NIfTI, DICOM CT (a slice or a folder), TIFF, Zarr with OME-NGFF 0.5 metadata, .npy, .npz, XCAT.

    XCAT's raw files are read by the path of their log, or of an Interfile header, which states no unit: only with a log
    attenuation becomes 1/mm. NCAT slices are AVS fields of labels.

    Args:
        path: file, Zarr store, or folder of DICOM slices; the content decides, not the name.
        grid: takes the place of the file's.
        max_bytes: largest array to make; half of the available memory by default.

    Returns:
        Values (z, y, x) in float32, grid and unit.

    Raises:
        FormatError: damaged, truncated, unknown, oblique; also what is not a regular file.
        UnsafeFileError: Python objects, a Zarr store with links, or a header that names files elsewhere.
        MissingExtraError: a format whose library is not installed.
        NumericalError: NaN or Inf.
        ResourceError: more than `max_bytes`.
    """
    limit = byte_limit(max_bytes)
    given = Path(os.fspath(path))
    volume, doubts = _volume(given, limit)
    if grid is not None:
        if volume.grid.shape != grid.shape:
            raise FormatError(f"{given}: expected (z, y, x) = {grid.shape} from the grid, got {volume.grid.shape}")
        volume, doubts = Volume(values=volume.values, grid=grid, unit=volume.unit), []
    for doubt in doubts:
        warnings.warn(f"{given}: {doubt}; state grid=", CTWarning, stacklevel=2)
    checks.all_finite(str(given), volume.values)
    return volume


def _raw(
    file: Path, kind: str, limit: int, pitch: tuple[float, float] | None, geometry: StatedGeometry | None
) -> RawScan:
    if kind == "data exchange":
        return read_data_exchange(file, limit, pitch, geometry=geometry is None)
    if kind == "matlab":
        return read_matlab(file, limit)
    if kind == "npz":
        return read_npz_scan(file, limit, pitch, geometry=geometry is None)
    return RawScan(where=str(file), values=read_npy(file, limit), geometry=None, notes=["read from a bare array"])


def states_detector(path: Name) -> bool:
    """Tell whether a scan's file always states its detector, so that `pitch` has no place in reading it."""
    file = found(path)
    return _kind(file, byte_limit(None)) in (*_OWN, "matlab")


def _kind(file: Path, limit: int) -> str:
    """Return the kind of a scan's file; raymend's own archives are told from others."""
    kind = detect(file)
    expect(file, kind, SCANS, "projections")
    return _OWN_NPZ if kind == "npz" and holds_scan(file, limit) else kind


def _refuse_idle(file: Path, kind: str, *, pitch: object, air: object, geometry: object) -> None:
    """Refuse settings that would change nothing."""
    if air is not None and kind in (*_OWN, "matlab"):
        raise ConfigError(f"air: expected none for {file}, which holds line integrals, not counts; leave it out")
    if pitch is None:
        return
    if geometry is not None:
        raise ConfigError("pitch: expected none beside geometry, which states the detector; leave it out")
    if kind in (*_OWN, "matlab"):
        raise ConfigError(
            f"pitch: expected none for {file}, which states its detector; leave it out, or pass geometry="
        )


def _stated(file: Path, scan: Scan, geometry: StatedGeometry | None) -> Scan:
    """Put the caller's geometry in the place of that of raymend's own file."""
    if geometry is None:
        return scan
    made = stated(geometry, scan.geometry.shape)
    check_axes(str(file), scan.geometry.shape, made)
    return scan.changed(geometry=made, provenance=(*scan.provenance, "geometry stated by the caller"))


def _noted(scan: Scan, file: Path) -> Scan:
    return scan.noted(f"read from {file.name}, sha256 {checksum(file)}")


def _centred(scan: Scan, centre: float | str | None) -> Scan:
    if centre is None:
        return scan
    if isinstance(centre, str):
        if centre != "find":
            raise ConfigError(f'centre: expected a detector offset in mm, "find" or None, got {centre!r}')
        return with_centre(scan, find_centre(scan))
    return with_centre(scan, centre)


def _volume(given: Path, limit: int) -> tuple[Volume, list[str]]:
    if given.is_dir() and not is_store(given):
        return read_dicom(given, limit), []
    file = found(given)
    kind = detect(file)
    expect(file, kind, VOLUMES, "a volume")
    if kind == "nifti":
        return read_nifti(file, limit), []
    if kind == "dicom":
        return read_dicom(file, limit), []
    if kind == "zarr volume":
        return read_zarr_volume(file, limit), []
    if kind in _WITH_DOUBTS:
        return _WITH_DOUBTS[kind](file, limit)
    return _bare(file, limit)


def _bare(file: Path, limit: int) -> tuple[Volume, list[str]]:
    array = read_npy(file, limit)
    if array.ndim not in (2, 3):
        raise FormatError(f"{file}: expected an image (z, y, x) or (y, x), got shape {array.shape}")
    check_shape(str(file), array.shape, 4, limit)
    values = as_float32(str(file), array if array.ndim == 3 else array[None])
    grid = VolumeGrid(shape=(int(values.shape[0]), int(values.shape[1]), int(values.shape[2])))
    return Volume(values=values, grid=grid), ["voxel size: not stored, taken as 1 mm"]
