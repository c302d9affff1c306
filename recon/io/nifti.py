"""NIfTI-1 (.nii, .nii.gz): header and data, read strictly; x to the right in the file, to the left here."""

import contextlib
import gzip
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray

from recon.errors import FormatError
from recon.grid import VolumeGrid
from recon.io.atomic import atomic_write
from recon.io.limits import check_shape, translated
from recon.io.orientation import oriented
from recon.io.volume import Volume, as_float32, pieces

_HEADER: Final = 348
_TYPES: Final = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
_MILLIMETRES: Final = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}  # unknown is taken as mm, as every reader does
_RAS: Final = np.array([-1.0, -1.0, 1.0])  # NIfTI's x and y run to the right and to the front


@dataclass(frozen=True, kw_only=True)
class _Header:
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    start: int
    scale: tuple[float, float]
    affine: NDArray[np.floating]
    text: str


def read_nifti(path: Path, limit: int) -> Volume:
    """Read a volume; any axis-aligned orientation is turned to (z, y, x) of our world.

    Raises:
        FormatError: damaged or cut, an oblique orientation, a scale or spacing that is zero or not finite.
        ResourceError: more bytes than the limit.
    """
    with translated(path, "NIfTI"), path.open("rb") as raw:
        file = _unzipped(raw)
        header = _header(path, file.read(_HEADER))
        wanted = check_shape(str(path), header.shape, max(4, header.dtype.itemsize), limit)
        wanted = wanted // max(4, header.dtype.itemsize) * header.dtype.itemsize
        _discard(file, header.start - _HEADER, path)
        content = file.read(wanted)
        if len(content) != wanted:
            raise FormatError(
                f"{path}: expected {wanted} bytes for {header.shape}, got {len(content)}; it is truncated"
            )
        if file is not raw:
            file.read(1)  # reaching the end compares gzip's checksum
    stored = np.frombuffer(content, dtype=header.dtype).reshape(header.shape, order="F")
    return _placed(path, _scaled(path, stored, header.scale), header)


def write_nifti(path: Path, volume: Volume) -> None:
    """Write float32 NIfTI-1 with position, spacing and unit; compressed if the name ends in .gz."""
    with atomic_write(path) as temporary, temporary.open("wb") as raw:
        file = zipped(raw) if path.suffix.lower() == ".gz" else contextlib.nullcontext(raw)
        with file as target:
            target.write(_header_bytes(volume.grid, volume.unit))
            for piece in pieces(volume.values):
                target.write(piece)


def zipped(file: IO[bytes]) -> gzip.GzipFile:
    """Compress what is written into a file; equal content gives equal bytes."""
    return gzip.GzipFile(fileobj=file, mode="wb", compresslevel=4, mtime=0, filename="")


def _unzipped(file: IO[bytes]) -> "IO[bytes] | gzip.GzipFile":
    zipped = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    return gzip.GzipFile(fileobj=file) if zipped else file


def _header(path: Path, raw: bytes) -> _Header:
    """Parse and check the fixed header."""
    if len(raw) < _HEADER:
        raise FormatError(f"{path}: expected a header of {_HEADER} bytes, got {len(raw)}; it is truncated")
    order = "<" if struct.unpack("<i", raw[:4])[0] == _HEADER else ">"
    dims = struct.unpack(order + "8h", raw[40:56])
    code = struct.unpack(order + "h", raw[70:72])[0]
    if code not in _TYPES:
        raise FormatError(f"{path}: datatype: expected a real number type ({sorted(_TYPES)}), got code {code}")
    start, slope, shift = struct.unpack(order + "3f", raw[108:120])
    if not (math.isfinite(start) and _HEADER + 4 <= start < 1 << 30):
        raise FormatError(f"{path}: vox_offset: expected 352 or more, got {start}")
    return _Header(
        shape=_shape(path, dims),
        dtype=np.dtype(order + _TYPES[code]),
        start=int(start),
        scale=_scale(path, slope, shift),
        affine=_affine(path, raw, order),
        text=raw[148:228].split(b"\0")[0].decode("latin-1"),
    )


def _shape(path: Path, dims: tuple[int, ...]) -> tuple[int, int, int]:
    rank = dims[0]
    if not 2 <= rank <= 7 or any(n < 1 for n in dims[1 : rank + 1]) or any(n > 1 for n in dims[4 : rank + 1]):
        raise FormatError(f"{path}: dim: expected one volume with 2 or 3 axes of 1 or more, got {list(dims)}")
    return dims[1], dims[2], dims[3] if rank > 2 else 1


def _scale(path: Path, slope: float, shift: float) -> tuple[float, float]:
    """Return slope and intercept; zero means none, as the standard says."""
    if not (math.isfinite(slope) and math.isfinite(shift)):
        raise FormatError(
            f"{path}: scl_slope, scl_inter: expected finite numbers, got {slope}, {shift}; correct the header"
        )
    return (slope, shift) if slope != 0 else (1.0, 0.0)


def _affine(path: Path, raw: bytes, order: str) -> NDArray[np.floating]:
    """Return (3, 4): index (i, j, k) to position in NIfTI's RAS world in mm."""
    steps = struct.unpack(order + "8f", raw[76:108])
    qform, sform = struct.unpack(order + "hh", raw[252:256])
    unit = raw[123] & 7
    if unit not in _MILLIMETRES:
        raise FormatError(f"{path}: xyzt_units: expected a length, got code {unit}")
    rank = struct.unpack(order + "h", raw[40:42])[0]
    if any(not (math.isfinite(s) and s > 0) for s in steps[1 : min(rank, 3) + 1]):
        raise FormatError(f"{path}: pixdim: expected steps above 0, got {steps[1:4]}; correct the header")
    if sform > 0:
        affine: NDArray[np.floating] = np.array(struct.unpack(order + "12f", raw[280:328]), dtype=np.float64).reshape(
            3, 4
        )
    elif qform > 0:
        affine = _from_quaternion(struct.unpack(order + "6f", raw[256:280]), steps)
    else:
        affine = np.diag([*steps[1:4], 1.0])[:3]
    if not np.isfinite(affine).all():
        raise FormatError(f"{path}: affine: expected finite numbers, got {affine.tolist()}; correct the header")
    scaled: NDArray[np.floating] = affine * _MILLIMETRES[unit]
    return scaled


def _from_quaternion(numbers: tuple[float, ...], steps: tuple[float, ...]) -> NDArray[np.floating]:
    """Build the affine from the header's unit quaternion (NIfTI-1 standard, method 2)."""
    b, c, d = numbers[:3]
    a = math.sqrt(max(0.0, 1 - (b * b + c * c + d * d)))
    turn = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    handed = -1.0 if steps[0] < 0 else 1.0
    return np.column_stack([turn * np.array([steps[1], steps[2], steps[3] * handed]), numbers[3:6]])


def _scaled(path: Path, stored: NDArray[Any], scale: tuple[float, float]) -> NDArray[Any]:
    if scale == (1.0, 0.0):
        return stored
    return stored.astype(np.float64) * scale[0] + scale[1]


def _placed(path: Path, values: NDArray[Any], header: _Header) -> Volume:
    """Turn (i, j, k) into (z, y, x) with every step positive."""
    array, grid = oriented(str(path), values, header.affine[:, :3] * _RAS[:, None], header.affine[:, 3] * _RAS)
    unit = header.text if header.text in ("HU", "1/mm") else "unknown"
    return Volume(values=as_float32(str(path), array), grid=grid, unit=unit)


def begin_nifti(path: Path, grid: VolumeGrid, unit: str) -> int:
    """Begin a float32 volume; return where in the file its values begin."""
    head = _header_bytes(grid, unit)
    path.write_bytes(head)
    return len(head)


def _header_bytes(grid: VolumeGrid, unit: str) -> bytes:
    """Return the header of a float32 volume, and the four bytes that say there is no extension."""
    (nz, ny, nx), (dz, dy, dx) = grid.shape, grid.spacing
    if max(nx, ny, nz) > 32767:
        raise FormatError(f"grid: expected at most 32767 voxels per axis for NIfTI-1, got {grid.shape}; write .tif")
    z, y, x = (float(axis[0]) for axis in grid.axes())
    raw = bytearray(_HEADER + 4)
    struct.pack_into("<i", raw, 0, _HEADER)
    struct.pack_into("<8h", raw, 40, 3, nx, ny, nz, 1, 1, 1, 1)
    struct.pack_into("<2h", raw, 70, 16, 32)
    struct.pack_into("<8f", raw, 76, 1, dx, dy, dz, 0, 0, 0, 0)
    struct.pack_into("<3f", raw, 108, _HEADER + 4, 1, 0)
    raw[123] = 2
    raw[148 : 148 + len(unit)] = unit.encode()
    struct.pack_into("<2h", raw, 252, 1, 1)
    struct.pack_into("<6f", raw, 256, 0, 0, 1, -x, -y, z)  # half a turn about z
    struct.pack_into("<12f", raw, 280, -dx, 0, 0, -x, 0, -dy, 0, -y, 0, 0, dz, z)
    raw[344:348] = b"n+1\0"
    return bytes(raw)


def _discard(file: Any, count: int, path: Path) -> None:
    """Skip header extensions piece by piece."""
    while count > 0:
        piece = file.read(min(count, 1 << 20))
        if not piece:
            raise FormatError(f"{path}: expected {count} more bytes before the data, got none; it is truncated")
        count -= len(piece)
