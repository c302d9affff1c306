"""XCAT and NCAT phantoms: raw float32 with a log or an Interfile header, and AVS fields of labels."""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from recon import checks
from recon.errors import FormatError, UnsafeFileError
from recon.grid import VolumeGrid
from recon.io.limits import check_shape, regular_file, translated
from recon.io.volume import Volume, as_float32

Found = tuple[Volume, list[str]]

_LONGEST: Final = 1 << 20  # bytes of a log or header; real ones have some 40 KB
_PER: Final = ("cm", "pixel")
_CLOSE: Final = 1e-3  # relative: tables are printed with four digits
_AVS: Final = {"byte": "u1", "xdr_short": ">i2", "xdr_integer": ">i4", "xdr_float": ">f4", "xdr_double": ">f8"}


@dataclass(frozen=True, kw_only=True)
class _Header:
    """What a header says: counts and steps (z, y, x), and where the values are."""

    grid: VolumeGrid
    dtype: str
    data: Path


def read_xcat(path: Path, limit: int, *, per: str | None = None) -> Found:
    """Read attenuation that XCAT wrote.

    Args:
        path: the log, the Interfile header, or the raw `*_atn_N.bin` with one of them beside it.
        limit: largest array to make, in bytes.
        per: "cm" or "pixel", what voxels count by where no log says so; None leaves the unit open.

    Returns:
        Values (z, y, x) and what the files leave open: x is taken to run to the left, y to the back and z to the head,
        as slices are stored.

    Raises:
        FormatError: a size other than the header's, values that fit neither table of the log, damage.
        UnsafeFileError: a header that names a file outside its folder.
        ResourceError: more than the limit.
    """
    if per is not None:
        checks.choice("per", per, _PER)
    with translated(path, "XCAT"):
        head = path if looks_like(path) else _beside(path)
        text = _text(head)
        if is_interfile(text):
            return _unscaled(_interfile(head, text), limit, per)
        return _by_log(head, text, path, limit)


def read_avs(path: Path, limit: int) -> Found:
    """Read an AVS field of labels, as NCAT slices are kept; the unit is open and a voxel taken as 1 mm.

    Raises:
        FormatError: another kind of field, or a size other than the header's.
        UnsafeFileError: a field whose values are in other files.
        ResourceError: more than the limit.
    """
    with translated(path, "AVS field"):
        with path.open("rb") as file:
            head, ends, _ = file.read(_LONGEST).partition(b"\f\f")
        if not ends:
            raise FormatError(f"{path}: expected two form feeds behind the header, got none; it is truncated")
        pairs = _pairs(head.decode("latin-1"), r"^\s*(\w+)\s*=\s*(\S+)")
        if re.search(rb"^\s*(variable|coord)\s+\d", head, re.M):
            raise UnsafeFileError(f"{path}: expected values in the file, got names of other files; join them")
        shape, dtype = _avs_shape(path, pairs), pairs.get("data", "")
        if dtype not in _AVS:
            raise FormatError(f"{path}: data: expected {', '.join(_AVS)}, got {dtype!r}; convert it")
        array = _raw(path, _AVS[dtype], shape, limit, start=len(head) + len(ends))
        volume = Volume(values=as_float32(str(path), array), grid=VolumeGrid(shape=shape))
        return volume, ["voxel size: not stored, taken as 1 mm"]


def is_interfile(text: str) -> bool:
    """Tell an Interfile header."""
    return text.lstrip().upper().startswith("!INTERFILE")


def is_log(text: str) -> bool:
    """Tell the log of XCAT."""
    return re.search(r"^\s*array_size\s*=", text, re.M) is not None and "pixel width" in text


def looks_like(path: Path) -> bool:
    """Tell whether a file is a header or log, by its content."""
    with path.open("rb") as file:
        head = file.read(1 << 16)
    if b"\0" in head:
        return False
    text = head.decode("latin-1")
    return is_interfile(text) or is_log(text)


def _text(path: Path) -> str:
    with path.open("rb") as file:
        raw = file.read(_LONGEST + 1)
    if len(raw) > _LONGEST:
        raise FormatError(f"{path}: expected a header of at most {_LONGEST} bytes, got more; it is something else")
    return raw.decode("latin-1")


def _beside(path: Path) -> Path:
    """Find the header of a raw file: the same name with .hv, or its log."""
    base = re.sub(r"_(atn|act)_\w+$", "", path.stem)
    names = (f"{base}_log", f"{base}.log", f"{path.stem}.hv", f"{path.stem}.h33")
    for name in names:
        if (path.parent / name).is_file():
            return path.parent / name
    raise FormatError(f"{path}: expected a header beside it ({', '.join(names)}), got none; give its path")


def _pairs(text: str, pattern: str) -> dict[str, str]:
    return {key.strip().lower(): value.strip() for key, value in re.findall(pattern, text, re.M)}


def _interfile(path: Path, text: str) -> _Header:
    if not re.search(r"^!?\s*END OF INTERFILE", text, re.M | re.I):
        raise FormatError(f"{path}: expected !END OF INTERFILE, got none; it is truncated")
    pairs = _pairs(text, r"^!?([^:=\n]+?)\s*:=[ \t]*(.*)$")
    kind = pairs.get("number format", ""), _whole(path, pairs, "number of bytes per pixel")
    if kind[0].lower() not in ("float", "short float") or kind[1] != 4:
        raise FormatError(f"{path}: number format: expected float of 4 bytes, got {kind[0]} of {kind[1]}; convert it")
    order = pairs.get("imagedata byte order", "LITTLEENDIAN").upper()
    if order not in ("LITTLEENDIAN", "BIGENDIAN"):
        raise FormatError(f"{path}: imagedata byte order: expected LITTLEENDIAN or BIGENDIAN, got {order}")
    return _Header(
        grid=_interfile_grid(path, pairs),
        dtype="<f4" if order == "LITTLEENDIAN" else ">f4",
        data=_named(path, pairs.get("name of data file", "")),
    )


def _interfile_grid(path: Path, pairs: dict[str, str]) -> VolumeGrid:
    """Make the grid; Interfile counts axes from the fastest."""
    axes = (3, 2, 1)
    shape = [_whole(path, pairs, f"matrix size [{k}]") for k in axes]
    spacing = [_number(path, pairs, f"scaling factor (mm/pixel) [{k}]") for k in axes]
    centre = []
    for k, n, step in zip(axes, shape, spacing, strict=True):
        name = f"first pixel offset (mm) [{k}]"
        centre.append(_number(path, pairs, name) + (n - 1) / 2 * step if name in pairs else 0.0)
    return _grid(shape, spacing, centre)


def _named(path: Path, name: str) -> Path:
    """Return the data file of a header, which must lie beside it."""
    if not name or name != Path(name).name or "\\" in name or name in (".", ".."):
        raise UnsafeFileError(f"{path}: name of data file: expected a file beside the header, got {name!r}")
    file = regular_file(path.parent / name)
    if file.resolve().parent != path.resolve().parent:
        raise UnsafeFileError(
            f"{path}: name of data file: expected a file beside the header, got a link to another folder"
        )
    return file


def _unscaled(header: _Header, limit: int, per: str | None) -> Found:
    array = _raw(header.data, header.dtype, header.grid.shape, limit)
    if per is None:
        return Volume(values=as_float32(str(header.data), array), grid=header.grid), []
    return _scaled(header, array, per), []


def _by_log(log: Path, text: str, given: Path, limit: int) -> Found:
    """Read what a log describes; the most frequent value tells the unit by the log's tables."""
    pairs = _pairs(text, r"^\s*([A-Za-z_ ]+?)\s*=\s*([-+.\dEe]+)")
    side, step = _whole(log, pairs, "array_size"), 10 * _number(log, pairs, "pixel width")
    first, last = _whole(log, pairs, "starting slice number"), _whole(log, pairs, "ending slice number")
    grid = _grid((last - first + 1, side, side), (10 * _number(log, pairs, "slice width"), step, step), (0.0, 0.0, 0.0))
    header = _Header(grid=grid, dtype="<f4", data=_of_log(log) if given == log else given)
    array = _raw(header.data, header.dtype, grid.shape, limit)
    return _scaled(header, array, _unit(log, array, _tables(text))), []


def _of_log(log: Path) -> Path:
    """Find the one raw file of attenuation that a log describes."""
    base = re.sub(r"(_log|\.log)$", "", log.name)
    files = sorted(item for item in log.parent.iterdir() if re.fullmatch(re.escape(base) + r"_atn_\w+\.bin", item.name))
    if len(files) != 1:
        raise FormatError(f"{log}: expected one {base}_atn_N.bin beside it, got {len(files)}; give the path of one")
    return regular_file(files[0])


def _tables(text: str) -> dict[str, list[float]]:
    """Return the attenuations that a log lists, by what they are per."""
    found: dict[str, list[float]] = {}
    for per, block in re.findall(
        r"Attenuation Coefficients?[^\n]*?\(1/(cm|pixel)\)(.*?)(?=Attenuation|\Z)", text, re.S
    ):
        values = [float(value) for value in re.findall(r"=\s*([.\d]+(?:[Ee][-+]?\d+)?)\s*$", block, re.M)]
        found.setdefault(per, []).extend(values)
    return found


def _unit(path: Path, array: NDArray[Any], tables: dict[str, list[float]]) -> str:
    """Tell what voxels count by: most voxels of a body are of one tissue, whose value is in one of the tables."""
    values, counts = np.unique(array[array > 0], return_counts=True)
    if not len(values):
        raise FormatError(f"{path}: expected voxels above 0, got none; the raw file may be an activity or empty")
    most = float(values[counts.argmax()])
    fits = [per for per in _PER if any(math.isclose(most, v, rel_tol=_CLOSE) for v in tables.get(per, []))]
    if not fits:
        raise FormatError(
            f"{path}: expected the most frequent value of the voxels, {most:g}, among its attenuations in 1/cm or "
            "1/pixel, got neither; is it the log of another phantom?"
        )
    return fits[0]  # both fit only where a pixel is 1 cm


def _scaled(header: _Header, array: NDArray[Any], per: str) -> Volume:
    """Turn values into 1/mm."""
    unit = 10.0 if per == "cm" else header.grid.spacing[2]
    values = as_float32(str(header.data), array.astype(np.float64) / unit)
    return Volume(values=values, grid=header.grid, unit="1/mm")


def _raw(path: Path, dtype: str, shape: tuple[int, int, int], limit: int, *, start: int = 0) -> NDArray[Any]:
    """Read values, x fastest, after checking that the file holds exactly so many."""
    check_shape(str(path), shape, 4, limit)
    wanted, stored = math.prod(shape) * np.dtype(dtype).itemsize, path.stat().st_size - start
    if stored != wanted:
        raise FormatError(
            f"{path}: expected {wanted} bytes for (z, y, x) = {shape}, got {stored}; it is cut or of another header"
        )
    with path.open("rb") as file:
        file.seek(start)
        return np.frombuffer(file.read(wanted), dtype=dtype).reshape(shape)


def _avs_shape(path: Path, pairs: dict[str, str]) -> tuple[int, int, int]:
    rank = _whole(path, pairs, "ndim")
    if rank not in (2, 3) or _whole(path, pairs, "veclen") != 1 or pairs.get("field") != "uniform":
        raise FormatError(f"{path}: expected a uniform field of 2 or 3 axes and one value per point, got {pairs}")
    x, y = _whole(path, pairs, "dim1"), _whole(path, pairs, "dim2")
    return (_whole(path, pairs, "dim3") if rank == 3 else 1), y, x


def _grid(shape: Any, spacing: Any, centre: Any) -> VolumeGrid:
    return VolumeGrid(shape=tuple(shape), spacing=tuple(spacing), centre=tuple(centre))


def _whole(path: Path, pairs: dict[str, str], key: str) -> int:
    value = pairs.get(key, "")
    if not re.fullmatch(r"-?\d{1,9}", value):
        raise FormatError(f"{path}: {key}: expected a whole number, got {value!r}; the header is damaged")
    return int(value)


def _number(path: Path, pairs: dict[str, str], key: str) -> float:
    try:
        value = float(pairs.get(key, ""))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise FormatError(f"{path}: {key}: expected a finite number, got {pairs.get(key, '')!r}; the header is damaged")
    return value
