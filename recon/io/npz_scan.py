"""raymend's scans as NumPy archives (.npz): all that the HDF5 file keeps, for programs that read no HDF5.

Arrays: `format`; `values`, `weights`, `poses` in their own dtype; `geometry` (JSON) and `provenance` (lines) as text;
`photons`, `electronic`, `water`, `energy` as numbers. Unlike HDF5 it states no units beside the numbers, and its only
checksums are those of zip, which are too short to trust in an archive.
"""

from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recon.errors import FormatError
from recon.io.atomic import atomic_write
from recon.io.geometry_json import geometry_from_json, geometry_to_json
from recon.io.keys import number
from recon.io.npz_archive import Archive, open_archive
from recon.scan import Calibration, Scan

FORMAT: Final = "raymend scan 1"
_ARRAYS: Final = ("values", "weights", "poses")
_NUMBERS: Final = ("photons", "electronic", "water", "energy")


def write_npz_scan(path: Path, scan: Scan) -> None:
    """Write a scan with everything it holds."""
    content: dict[str, Any] = {"format": FORMAT, "geometry": geometry_to_json(scan.geometry)}
    arrays: dict[str, Tensor | None] = {name: getattr(scan, name) for name in _ARRAYS}
    content |= {name: array.detach().cpu().numpy() for name, array in arrays.items() if array is not None}
    numbers = {name: getattr(scan.calibration, name) for name in _NUMBERS}
    content |= {name: np.float64(value) for name, value in numbers.items() if value is not None}
    if scan.provenance:
        content["provenance"] = np.array(scan.provenance)
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **content)


def holds_scan(path: Path, limit: int) -> bool:
    """Tell whether `write_npz_scan` wrote an archive."""
    with open_archive(path) as archive:
        return "format" in archive and str(archive.read("format", limit)).startswith("raymend scan")


def read_own_npz(path: Path, limit: int) -> Scan:
    """Read a scan that `write_npz_scan` wrote.

    Raises:
        FormatError: another version, a missing part, parts that do not fit each other.
        UnsafeFileError: Python objects inside.
        ResourceError: an array beyond the limit.
    """
    with open_archive(path) as archive:
        version = str(archive.read("format", limit))
        if version != FORMAT:
            raise FormatError(f"{path}: expected {FORMAT!r}, got {version[:40]!r}; update raymend")
        steps = archive.read("provenance", limit).reshape(-1) if "provenance" in archive else ()
        return Scan(
            geometry=geometry_from_json(str(archive.read("geometry", limit)), f"{path}:geometry"),
            values=_tensor(path, "values", archive.read("values", limit)),
            weights=_optional(archive, "weights", limit),
            poses=_optional(archive, "poses", limit),
            calibration=read_calibration(archive, limit),
            provenance=tuple(str(step) for step in steps),
        )


def read_calibration(archive: Archive, limit: int) -> Calibration:
    """Read what an archive states of photons, electronic noise, water and energy."""
    where, given = str(archive.path), archive.given(_NUMBERS)
    return Calibration(**{name: number(where, name, archive.read(name, limit)) for name in given})


def _optional(archive: Archive, name: str, limit: int) -> Tensor | None:
    return _tensor(archive.path, name, archive.read(name, limit)) if name in archive else None


def _tensor(path: Path, name: str, array: NDArray[Any]) -> Tensor:
    if array.dtype not in (np.float32, np.float64):
        raise FormatError(f"{path}:{name}: expected float32 or float64, got {array.dtype}")
    return torch.from_numpy(np.array(array, order="C"))
