"""What a file or store is, by its content; names and suffixes are not believed."""

import os
import zlib
from pathlib import Path
from typing import Final

import h5py

from recon.errors import FormatError
from recon.io.hdf5 import open_hdf5, text_of
from recon.io.hdf5_scan import FORMAT
from recon.io.limits import regular_file, translated
from recon.io.probe import probe
from recon.io.xcat import looks_like
from recon.io.zarr_look import is_old, is_store, metadata
from recon.io.zarr_own import SCAN, own_kind
from recon.io.zarr_volume import holds_volume

_MAGIC: Final = (
    (0, b"MATLAB 5.0 MAT-file", "matlab"),
    (0, b"MATLAB 7.3 MAT-file", "matlab73"),
    (0, b"PK\x03\x04", "npz"),
    (0, b"PK\x05\x06", "npz"),
    (0, b"\x93NUMPY", "npy"),
    (128, b"DICM", "dicom"),
    (344, b"n+1\0", "nifti"),
    (344, b"ni1\0", "nifti-pair"),
    (4, b"n+2\0\r\n\x1a\n", "nifti2"),
    (0, b"II*\0", "tiff"),
    (0, b"MM\0*", "tiff"),
    (0, b"II+\0", "tiff"),
    (0, b"MM\0+", "tiff"),
    (0, b"\x89PNG\r\n\x1a\n", "png"),
    (1, b"VMS.XI", "xim"),
    (0, b"ObjectType", "metaimage"),
    (0, b"NRRD", "nrrd"),
    (0, b"!INTERFILE", "xcat"),
    (0, b"# AVS", "avs field"),
)
_HDF5: Final = b"\x89HDF\r\n\x1a\n"
_NOT_READ: Final = {
    "matlab73": "a MATLAB v7.3 file; save it in MATLAB with save(..., '-v7')",
    "nifti-pair": "one half of a NIfTI pair; convert it to a single .nii file",
    "nifti2": "NIfTI-2; convert it to NIfTI-1",
    "png": "a PNG picture, which holds no attenuation; use the data it was made from",
    "xim": "a Varian XIM frame, which is not read yet",
    "metaimage": "a MetaImage, which is not read yet; convert it to NIfTI",
    "nrrd": "an NRRD file, which is not read yet; convert it to NIfTI",
    "hdf5": "an HDF5 file of an unknown layout",
    "nexus": "a NeXus file, which is not read yet; convert it to Data Exchange",
    "zarr": "a Zarr store of an unknown layout",
    "zarr2": "a Zarr store of version 2, which is not read; write it again in version 3",
    "gzip": "gzip data other than NIfTI; unpack it first",
}
SCANS: Final = ("raymend scan", "zarr scan", "data exchange", "matlab", "npz", "npy")
VOLUMES: Final = ("nifti", "dicom", "tiff", "zarr volume", "npy", "npz", "xcat", "avs field")


def found(path: "str | os.PathLike[str]") -> Path:
    """Return the path of an existing regular file or Zarr store.

    Raises:
        FormatError: nothing there, or another folder, a pipe or device.
    """
    given = Path(os.fspath(path))
    return given if is_store(given) else regular_file(given)


def detect(path: Path) -> str:
    """Return the kind of a file or Zarr store, or "unknown"."""
    if is_store(path):
        return _zarr_layout(path)
    with translated(path, "file"), path.open("rb") as file:
        head = file.read(1024)
    if not head:
        raise FormatError(f"{path}: expected data, got an empty file; was it completely written?")
    for offset, magic, kind in _MAGIC:
        if head[offset : offset + len(magic)] == magic:
            return kind
    if any(head[at : at + 8] == _HDF5 for at in (0, 512)):
        return _hdf5_layout(path)
    if head[:2] == b"\x1f\x8b":
        return _inside_gzip(head)
    return "xcat" if looks_like(path) else "unknown"


def expect(path: Path, kind: str, wanted: tuple[str, ...], what: str) -> None:
    """Refuse a kind that does not hold what is asked for, and say what the file is instead."""
    if kind in wanted:
        return
    if kind in _NOT_READ:
        raise FormatError(f"{path}: expected {what}, got {_NOT_READ[kind]}")
    if kind == "unknown" or not wanted:
        hint = ": DICM is missing at byte 128" if path.suffix.lower() in (".dcm", ".ima") else ""
        kinds = ", ".join(dict.fromkeys(wanted or (*SCANS, *VOLUMES)))
        raise FormatError(f"{path}: expected {what} ({kinds}), got unknown content{hint}; it may be damaged")
    other = "read_volume" if kind in VOLUMES else "read_scan"
    raise FormatError(f"{path}: expected {what}, got {kind}; use {other}")


def _zarr_layout(path: Path) -> str:
    with translated(path, "Zarr"):
        if is_old(path):
            return "zarr2"
        own = own_kind(path)
        if own is not None:
            return "zarr scan" if own == SCAN else "zarr volume"
        return "zarr volume" if holds_volume(metadata(path)) else "zarr"


def _hdf5_layout(path: Path) -> str:
    probe(path)
    with open_hdf5(path) as file:
        own = file.attrs.get("format")
        if own is not None and text_of(own) == FORMAT:
            return FORMAT
        group = file.get("exchange", getlink=True)
        if isinstance(group, h5py.HardLink):
            return "data exchange"
        if any(file[name].attrs.get("NX_class") in ("NXentry", b"NXentry") for name in _groups(file)):
            return "nexus"
        return "nexus" if "entry1" in file else "hdf5"


def _groups(file: h5py.File) -> list[str]:
    """Name the first groups that are really in this file."""
    names = [name for name in list(file)[:20] if isinstance(file.get(name, getlink=True), h5py.HardLink)]
    return [name for name in names if isinstance(file[name], h5py.Group)]


def _inside_gzip(head: bytes) -> str:
    """Look at the first bytes that gzip data unpacks to."""
    try:
        inner = zlib.decompressobj(31).decompress(head, 352)
    except zlib.error:
        return "gzip"
    if inner[344:348] == b"n+1\0":
        return "nifti"
    return "nifti2" if inner[4:8] == b"n+2\0" else "gzip"
