"""NumPy arrays, one (.npy): headers are read and believed only as far as the file is long; objects are refused."""

import math
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from recon.errors import FormatError, UnsafeFileError
from recon.grid import VolumeGrid
from recon.io.atomic import atomic_write
from recon.io.limits import check_bytes, translated

_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read_npy(path: Path, limit: int) -> NDArray[Any]:
    """Read one array.

    Raises:
        UnsafeFileError: an array of Python objects.
        FormatError: a damaged header, or a size that does not agree with the file's.
        ResourceError: more bytes than the limit.
    """
    with translated(path, "npy"), path.open("rb") as file:
        return read_stream(file, str(path), path.stat().st_size, limit)


def read_stream(file: IO[bytes], where: str, stored: int, limit: int) -> NDArray[Any]:
    """Read one array from a stream of `stored` bytes."""
    version = np.lib.format.read_magic(file)
    if version not in _HEADERS:
        raise FormatError(f"{where}: expected npy version 1 or 2, got {version}; save it again")
    shape, fortran, dtype = _HEADERS[version](file, max_header_size=10_000)
    if dtype.hasobject:
        raise UnsafeFileError(f"{where}: expected numbers, got Python objects, which can run code; save plain arrays")
    wanted = _bytes_of(where, shape, dtype)
    check_bytes(where, wanted, limit)
    if file.tell() + wanted != stored:
        raise FormatError(
            f"{where}: expected {wanted} bytes for {shape} {dtype}, got {stored - file.tell()}; it is truncated"
        )
    flat = np.frombuffer(file.read(wanted), dtype=dtype)
    return flat.reshape(shape, order="F" if fortran else "C")


def write_npy(path: Path, values: NDArray[Any]) -> None:
    """Write one array."""
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.lib.format.write_array(file, np.ascontiguousarray(values), allow_pickle=False)


def begin_npy(path: Path, grid: VolumeGrid, unit: str) -> int:
    """Begin a float32 volume; return where in the file its values begin. There is no place for spacing and unit."""
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": grid.shape})
        return file.tell()


def _bytes_of(where: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    if any(isinstance(n, bool) or n < 0 for n in shape):
        raise FormatError(f"{where}: expected sizes of 0 or more, got {shape}; the header is damaged")
    return math.prod(shape) * dtype.itemsize
