"""DICOM CT slices: one file or a folder of one series, in HU."""

import math
import warnings
import zlib
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from recon.errors import CTWarning, FormatError, MissingExtraError, ResourceError
from recon.io.limits import check_bytes, check_shape, translated
from recon.io.orientation import oriented
from recon.io.volume import Volume, as_float32

_CT_IMAGE: Final = "1.2.840.10008.5.1.4.1.1.2"
_DEFLATED: Final = "1.2.840.10008.1.2.1.99"
_NEEDED: Final = (
    "Rows", "Columns", "PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient", "RescaleSlope",
    "RescaleIntercept", "BitsAllocated",
)  # fmt: skip
_MOST_FILES: Final = 20_000
_EVEN: Final = 0.01  # mm; how far slice positions may stray from even steps


def read_dicom(path: Path, limit: int) -> Volume:
    """Read CT slices as a volume in HU at the patient's position.

    Args:
        path: one slice, or a folder whose DICOM files are one series; other files in it are left out with a warning.
        limit: most bytes of the volume.

    Raises:
        MissingExtraError: pydicom is not installed.
        FormatError: no DICOM, truncated, several series, missing slices, gantry tilt, no rescaling, an unknown
            compression.
        ResourceError: more bytes than the limit.
    """
    files = _files(path)
    slices = [_slice(file, limit) for file in files]
    _check_alike(path, slices)
    rows, columns = int(slices[0].Rows), int(slices[0].Columns)
    check_shape(str(path), (len(slices), rows, columns), 4, limit)
    slices, directions = _in_order(path, slices)
    stack = np.stack([_hounsfield(file, path) for file in slices])
    first = np.array([float(c) for c in slices[0].ImagePositionPatient])
    array, grid = oriented(str(path), stack.transpose(2, 1, 0), directions, first)
    return Volume(values=as_float32(str(path), array), grid=grid, unit="HU")


def is_dicom(path: Path) -> bool:
    """Tell whether a file carries DICM at byte 128."""
    with translated(path, "file"), path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    with translated(path, "folder"):
        inside = sorted(item for item in path.iterdir() if item.is_file())
    if len(inside) > _MOST_FILES:
        raise FormatError(
            f"{path}: expected at most {_MOST_FILES} files, got {len(inside)}; keep one series per folder"
        )
    files = [item for item in inside if is_dicom(item)]
    if not files:
        raise FormatError(f"{path}: expected DICOM files, got {len(inside)} files and DICM is missing in each")
    if len(files) < len(inside):
        warnings.warn(
            f"{path}: {len(inside) - len(files)} files are not DICOM and were left out", CTWarning, stacklevel=4
        )
    return files


def _slice(path: Path, limit: int) -> Any:
    """Read one file and check that it is a complete CT slice."""
    try:
        import pydicom
    except ImportError as error:
        raise MissingExtraError("pydicom", "io", "reading DICOM") from error
    check_bytes(str(path), path.stat().st_size, limit)
    with translated(path, "DICOM"):
        _check_inflated(path, pydicom.filereader.read_file_meta_info(path), limit)
        dataset = pydicom.dcmread(path)
        _check_slice(path, dataset)
        return dataset


def _check_inflated(path: Path, meta: Any, limit: int) -> None:
    """Refuse a deflated file that unpacks to more than the limit."""
    if meta.get("TransferSyntaxUID") != _DEFLATED:
        return
    start = 144 + int(meta.FileMetaInformationGroupLength)  # preamble, DICM, and the length element itself
    inflate = zlib.decompressobj(-15)
    if len(inflate.decompress(path.read_bytes()[start:], limit + 1)) > limit:
        raise ResourceError(f"{path}: unpacks to more than {limit} bytes; raise max_bytes if you trust it")


def _check_slice(path: Path, dataset: Any) -> None:
    kind = dataset.get("SOPClassUID")
    if kind != _CT_IMAGE and not (kind in (None, "") and dataset.get("Modality") == "CT"):  # removed with the identity
        name = getattr(kind, "name", kind)
        raise FormatError(f"{path}: SOPClassUID: expected CT Image Storage, got {name}; export single CT slices")
    missing = [name for name in _NEEDED if dataset.get(name) in (None, "")]
    if missing:
        raise FormatError(
            f"{path}: expected {', '.join(_NEEDED)}, got none of {', '.join(missing)}; it is truncated or not original"
        )
    slope = float(dataset.RescaleSlope)
    if slope == 0 or not math.isfinite(slope):
        raise FormatError(f"{path}: RescaleSlope: expected a finite number other than 0, got {slope}")
    if "PixelData" not in dataset:
        raise FormatError(f"{path}: PixelData: expected pixels, got none; the file is truncated")
    _check_pixels(path, dataset)
    tilt = float(dataset.get("GantryDetectorTilt") or 0)
    if abs(tilt) > 0.05:
        raise FormatError(
            f"{path}: GantryDetectorTilt: expected 0, got {tilt:g} degrees; "
            "sheared slices are no straight volume, resample them first"
        )


def _check_pixels(path: Path, dataset: Any) -> None:
    """Compare the stored bytes of uncompressed pixels with the declared size."""
    if int(dataset.get("NumberOfFrames") or 1) != 1 or int(dataset.get("SamplesPerPixel", 1)) != 1:
        raise FormatError(f"{path}: expected one grey frame, got {dataset.get('NumberOfFrames', 1)} frames")
    if dataset.file_meta.TransferSyntaxUID.is_compressed and dataset.file_meta.TransferSyntaxUID != _DEFLATED:
        return
    wanted = int(dataset.Rows) * int(dataset.Columns) * int(dataset.BitsAllocated) // 8
    if len(dataset.PixelData) < wanted:
        raise FormatError(
            f"{path}: PixelData: expected {wanted} bytes for {dataset.Rows} x {dataset.Columns}, got "
            f"{len(dataset.PixelData)}; the file is truncated"
        )


def _check_alike(path: Path, slices: list[Any]) -> None:
    """Refuse several series, and slices that differ in size or direction."""
    series = {str(item.get("SeriesInstanceUID")) for item in slices}
    if len(series) > 1:
        raise FormatError(f"{path}: expected one series, got {len(series)}; put each into a folder of its own")
    for name in ("Rows", "Columns", "PixelSpacing", "ImageOrientationPatient"):
        different = {str(item.get(name)) for item in slices}
        if len(different) > 1:
            raise FormatError(
                f"{path}: {name}: expected the same in all slices, got {' and '.join(sorted(different)[:3])}"
            )


def _in_order(path: Path, slices: list[Any]) -> tuple[list[Any], NDArray[np.floating]]:
    """Sort by position along the normal; return the steps (x, y, z) of column, row and slice."""
    with translated(path, "DICOM"):
        turn = np.array([float(c) for c in slices[0].ImageOrientationPatient]).reshape(2, 3)
        down, across = (float(s) for s in slices[0].PixelSpacing)
        positions = np.array([[float(c) for c in item.ImagePositionPatient] for item in slices])
        normal = np.cross(turn[0], turn[1])
        heights = positions @ normal
    if not (np.isfinite(positions).all() and np.isfinite(turn).all()):
        raise FormatError(f"{path}: ImagePositionPatient: expected finite numbers")
    order = np.argsort(heights)
    step = _step(path, slices[0], heights[order])
    directions = np.column_stack([turn[0] * across, turn[1] * down, normal * step])
    return [slices[i] for i in order], directions


def _step(path: Path, first: Any, heights: NDArray[np.floating]) -> float:
    """Return the distance of slices; refuse gaps and doubles."""
    if len(heights) == 1:
        thickness = first.get("SliceThickness")
        if thickness in (None, "") or not float(thickness) > 0:
            raise FormatError(
                f"{path}: SliceThickness: expected a length above 0 for a single slice, got {thickness!r}"
            )
        return float(thickness)
    steps = np.diff(heights)
    usual = float(np.median(steps))
    if steps.min() < _EVEN:
        raise FormatError(
            f"{path}: expected one slice per position, got two at {heights[int(steps.argmin())]:g} mm; remove one"
        )
    if np.abs(steps - usual).max() > _EVEN:
        worst = int(np.abs(steps - usual).argmax())
        raise FormatError(
            f"{path}: expected slices every {usual:g} mm, got {steps[worst]:g} mm between {heights[worst]:g} and "
            f"{heights[worst + 1]:g}; slices are missing"
        )
    return float(np.mean(steps))


def _hounsfield(dataset: Any, path: Path) -> NDArray[np.float32]:
    """Return one slice (y, x) in HU."""
    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        stored = dataset.pixel_array
    except Exception as error:  # decoders promise no set of exceptions
        if syntax.is_compressed and isinstance(error, RuntimeError | NotImplementedError | ImportError):
            raise FormatError(
                f"{path}: no decoder for {syntax.name}; install pylibjpeg with pylibjpeg-openjpeg, "
                "or unpack the file first"
            ) from error
        raise FormatError(
            f"{path}: PixelData: cannot be decoded ({' '.join(str(error).split())[:150]}); it is damaged"
        ) from error
    values = stored.astype(np.float64) * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
    hounsfield: NDArray[np.float32] = values.astype(np.float32)
    return hounsfield
