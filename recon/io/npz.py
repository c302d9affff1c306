"""NumPy archives (.npz): scans and volumes by the names of their arrays; nothing is unpickled."""

import math
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from recon.errors import FormatError
from recon.geometry import ConeBeam, Detector, ScanGeometry
from recon.grid import VolumeGrid
from recon.io.atomic import atomic_write
from recon.io.geometry_json import geometry_from_json, geometry_to_json
from recon.io.keys import USED, geometry_from_keys
from recon.io.limits import DEFLATE_RATIO, check_bytes, translated
from recon.io.npy import read_stream
from recon.io.raw import RawScan, geometry_shape
from recon.io.volume import Volume, as_float32
from recon.scan import Scan

_VALUES: Final = ("values", "sinogram", "projections", "sino", "proj", "prep")
_COUNTS: Final = ("counts", "ct")
_FLATS: Final = ("flats", "flat", "open_beam", "white")
_DARKS: Final = ("darks", "dark")
_IMAGES: Final = (("hu", "HU"), ("recon_hu", "HU"), ("volume", "unknown"), ("image", "unknown"), ("phantom", "unknown"))
_SPACING: Final = ("spacing", "spacing_mm_zyx", "voxel_size", "pixel_mm")
_MOST_MEMBERS: Final = 10_000


def read_npz_scan(path: Path, limit: int, pitch: tuple[float, float] | None, *, geometry: bool = True) -> RawScan:
    """Read projections with their geometry: JSON in `geometry`, or plain names (see `geometry_from_keys`).

    Args:
        path: the archive.
        limit: most bytes of one array.
        pitch: pixel step in mm that takes the place of the file's.
        geometry: read the geometry; False where the caller states one.

    Raises:
        FormatError: damaged, no projections, or no usable geometry.
        UnsafeFileError: Python objects inside.
        ResourceError: an array beyond the limit.
    """
    with _archive(path) as names:
        given = names.given(_VALUES + _COUNTS)
        if len(given) != 1:
            raise FormatError(
                f"{path}: expected one of {', '.join(_VALUES + _COUNTS)}, got {names.listed()}; rename the array"
            )
        values = names.read(given[0], limit)
        flats, darks = (names.read(found[0], limit) if (found := names.given(k)) else None for k in (_FLATS, _DARKS))
        settings = {name: names.read(name, limit) for name in names if name.lower() in (*USED, "geometry", "photons")}
    made, notes, doubts = _geometry(path, values, settings, set(names), pitch) if geometry else (None, [], [])
    return RawScan(
        where=str(path),
        values=values,
        counts=given[0] in _COUNTS,
        geometry=made,
        flats=flats,
        darks=darks,
        photons=float(settings["photons"]) if "photons" in settings else None,
        notes=[f"read from the array {given[0]}", *notes],
        doubts=doubts,
    )


def read_npz_volume(path: Path, limit: int) -> tuple[Volume, list[str]]:
    """Read an image with its spacing; also return what the file leaves open.

    Raises:
        FormatError: damaged, or no image inside.
    """
    with _archive(path) as names:
        found = [(name, unit) for name, unit in _IMAGES if name in names]
        if not found:
            wanted = ", ".join(name for name, _ in _IMAGES)
            raise FormatError(
                f"{path}: expected an image in one of {wanted}, got {names.listed()}; use read_scan for projections"
            )
        name, unit = found[0]
        values = as_float32(f"{path}:{name}", _three(path, names.read(name, limit)))
        steps = names.given(_SPACING)
        spacing = names.read(steps[0], limit) if steps else np.ones(1)
        heights = names.read("z_mm", limit) if "z_mm" in names else None
        unit = str(names.read("unit", limit)) if "unit" in names else unit
        centre = names.read("centre", limit) if "centre" in names else np.zeros(3)
    z, y, x = (float(c) for c in centre.reshape(-1))
    if heights is not None:
        z = float(heights[0] + heights[-1]) / 2
    shape = (int(values.shape[0]), int(values.shape[1]), int(values.shape[2]))
    grid = VolumeGrid(shape=shape, spacing=_steps(path, spacing), centre=(z, y, x))
    return Volume(values=values, grid=grid, unit=unit), [] if steps else ["voxel size: not stored, taken as 1 mm"]


def write_npz_scan(path: Path, scan: Scan) -> None:
    """Write a scan's values, geometry (JSON) and photons; zip keeps a checksum per array."""
    content: dict[str, Any] = {
        "values": scan.values.detach().cpu().numpy(),
        "geometry": geometry_to_json(scan.geometry),
    }
    if scan.calibration.photons is not None:
        content["photons"] = scan.calibration.photons
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **content)


class _Archive:
    """The arrays of an archive by name, each checked before it is read."""

    def __init__(self, path: Path, file: zipfile.ZipFile) -> None:
        self.path, self.file = path, file
        members = file.infolist()
        if len(members) > _MOST_MEMBERS:
            raise FormatError(f"{path}: expected at most {_MOST_MEMBERS} arrays, got {len(members)}")
        self.members = {m.filename.removesuffix(".npy"): m for m in members if m.filename.endswith(".npy")}
        if not self.members:
            found = ", ".join(m.filename for m in members[:5]) or "nothing"
            raise FormatError(f"{path}: expected NumPy arrays in the archive, got {found}; unpack it first")

    def __iter__(self) -> Iterator[str]:
        return iter(self.members)

    def __contains__(self, name: str) -> bool:
        return name in self.members

    def given(self, names: Sequence[str]) -> list[str]:
        """Return those of the names that are there."""
        return [name for name in names if name in self.members]

    def listed(self) -> str:
        """List the names for a message."""
        return ", ".join(sorted(self.members)[:20])

    def read(self, name: str, limit: int) -> NDArray[Any]:
        """Read one array; the sizes that the archive and the array declare must agree with what is stored."""
        member, where = self.members[name], f"{self.path}:{name}"
        check_bytes(where, member.file_size, limit)
        if member.file_size > DEFLATE_RATIO * max(member.compress_size, 1) + 1024:
            raise FormatError(
                f"{where}: expected less than {member.file_size} bytes from {member.compress_size}; it is damaged"
            )
        with self.file.open(member) as stream:
            array = read_stream(stream, where, member.file_size, limit)
            stream.read(1)  # reaching the end compares the checksum
        return array


@contextmanager
def _archive(path: Path) -> Iterator[_Archive]:
    with translated(path, "npz"), zipfile.ZipFile(path) as file:
        yield _Archive(path, file)


def _geometry(
    path: Path, values: NDArray[Any], settings: dict[str, Any], names: set[str], pitch: tuple[float, float] | None
) -> tuple[ScanGeometry, list[str], list[str]]:
    """Find the geometry: JSON, plain names, or that of a known file that does not state its own."""
    if "geometry" in settings:
        return geometry_from_json(str(settings.pop("geometry")), f"{path}:geometry"), ["geometry from JSON"], []
    settings.pop("photons", None)
    if names == {"prep", "recon_hu"} and values.shape == (1000, 900):
        return _xcist(), ["read as the XCIST fan-beam example"], ["geometry: not stored, taken from XCIST's example"]
    doubts = []
    if pitch is not None:
        settings = {
            name: value for name, value in settings.items() if name.lower() not in ("pitch", "pixel_size", "det_mm")
        }
        settings["pitch"] = np.asarray(pitch)
    elif not {"pitch", "pixel_size", "detector_pitch", "det_mm"} & {name.lower() for name in settings}:
        settings["pitch"] = np.ones(1)
        doubts = ["pixel size: expected it in the file, got none; taken as 1 mm, state pitch="]
        if {"sdd", "dsd", "source_to_detector"} & {name.lower() for name in settings}:
            raise FormatError(f"{path}: pitch: expected the step between detector pixels in mm, got none; pass pitch=")
    geometry, notes = geometry_from_keys(str(path), settings, geometry_shape(str(path), values))
    return geometry, notes, doubts


def _xcist() -> ScanGeometry:
    """State the scanner of XCIST's reconstruction example.

    Its views start at the top (-y) and run clockwise in our sense. The scanner's column offset of -1.25 is not in
    the projections: reversed rays agree best at an offset of 0.
    """
    return ConeBeam(
        angles=tuple(-2 * math.pi * k / 1000 for k in range(1000)),
        detector=Detector(shape=(1, 900), curve="arc"),
        source_to_axis=550,
        source_to_detector=950,
    )


def _three(path: Path, values: NDArray[Any]) -> NDArray[Any]:
    if values.ndim not in (2, 3) or values.size == 0:
        raise FormatError(f"{path}: expected an image (z, y, x) or (y, x), got shape {values.shape}")
    return values if values.ndim == 3 else values[None]


def _steps(path: Path, spacing: NDArray[Any]) -> tuple[float, float, float]:
    steps = [float(s) for s in spacing.reshape(-1)]
    if len(steps) not in (1, 3):
        raise FormatError(f"{path}: spacing: expected one number or (z, y, x) in mm, got {len(steps)} numbers")
    return (steps[0], steps[0], steps[0]) if len(steps) == 1 else (steps[0], steps[1], steps[2])
