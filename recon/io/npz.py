"""NumPy archives (.npz): scans and volumes by the names of their arrays; nothing is unpickled."""

import math
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from recon.errors import ConfigError, FormatError
from recon.geometry import ConeBeam, Detector, ScanGeometry
from recon.grid import VolumeGrid
from recon.io.geometry_json import geometry_from_json
from recon.io.keys import PITCH, USED, geometry_from_keys, numbers
from recon.io.limits import translated
from recon.io.npz_archive import open_archive
from recon.io.npz_scan import read_calibration
from recon.io.raw import RawScan, geometry_shape
from recon.io.volume import UNITS, Volume, as_float32

_VALUES: Final = ("values", "sinogram", "projections", "sino", "proj", "prep")
_COUNTS: Final = ("counts", "ct")
_FLATS: Final = ("flats", "flat", "open_beam", "white")
_DARKS: Final = ("darks", "dark")
_IMAGES: Final = (("hu", "HU"), ("recon_hu", "HU"), ("volume", "unknown"), ("image", "unknown"), ("phantom", "unknown"))
_SPACING: Final = ("spacing", "spacing_mm_zyx", "voxel_size", "pixel_mm")


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
    with open_archive(path) as names:
        given = names.given(_VALUES + _COUNTS)
        if len(given) != 1:
            raise FormatError(
                f"{path}: expected one of {', '.join(_VALUES + _COUNTS)}, got {names.listed()}; rename the array"
            )
        values = names.read(given[0], limit)
        flats, darks = (names.read(found[0], limit) if (found := names.given(k)) else None for k in (_FLATS, _DARKS))
        settings = {name: names.read(name, limit) for name in names if name.lower() in (*USED, "geometry")}
        calibration = read_calibration(names, limit)
    _refuse_pitch(path, pitch, settings)
    with translated(path, "npz"):
        made, notes, doubts = _geometry(path, values, settings, set(names), pitch) if geometry else (None, [], [])
    return RawScan(
        where=str(path),
        values=values,
        counts=given[0] in _COUNTS,
        geometry=made,
        flats=flats,
        darks=darks,
        calibration=calibration,
        notes=[f"read from the array {given[0]}", *notes],
        geometry_doubts=doubts,
    )


def read_npz_volume(path: Path, limit: int) -> tuple[Volume, list[str]]:
    """Read an image with its spacing; also return what the file leaves open.

    Raises:
        FormatError: damaged, or no image inside.
    """
    with open_archive(path) as names:
        found = [(name, unit) for name, unit in _IMAGES if name in names]
        if not found:
            wanted = ", ".join(name for name, _ in _IMAGES)
            raise FormatError(
                f"{path}: expected an image in one of {wanted}, got {names.listed()}; use read_scan for projections"
            )
        name, unit = found[0]
        values = as_float32(f"{path}:{name}", _three(path, names.read(name, limit)))
        steps = names.given(_SPACING)
        spacing = _steps(path, names.read(steps[0], limit)) if steps else (1.0, 1.0, 1.0)
        unit = str(names.read("unit", limit)) if "unit" in names else unit
        if unit not in UNITS:
            raise FormatError(f"{path}: unit: expected one of {', '.join(UNITS)}, got {unit[:40]!r}")
        centre = numbers(str(path), "centre", names.read("centre", limit), 3) if "centre" in names else (0.0, 0.0, 0.0)
        z, y, x = centre
        if "z_mm" in names:
            heights = numbers(str(path), "z_mm", names.read("z_mm", limit))
            z = (heights[0] + heights[-1]) / 2
        shape = (int(values.shape[0]), int(values.shape[1]), int(values.shape[2]))
        grid = VolumeGrid(shape=shape, spacing=spacing, centre=(z, y, x))
        volume = Volume(values=values, grid=grid, unit=unit)
    return volume, [] if steps else ["voxel size: not stored, taken as 1 mm"]


def _refuse_pitch(path: Path, pitch: tuple[float, float] | None, settings: dict[str, Any]) -> None:
    if pitch is not None and "geometry" in settings:
        raise ConfigError(f"pitch: expected none for {path}, whose geometry states the detector; leave it out")


def _geometry(
    path: Path, values: NDArray[Any], settings: dict[str, Any], names: set[str], pitch: tuple[float, float] | None
) -> tuple[ScanGeometry, list[str], list[str]]:
    """Find the geometry: JSON, plain names, or that of a known file that does not state its own."""
    if "geometry" in settings:
        return geometry_from_json(str(settings.pop("geometry")), f"{path}:geometry"), ["geometry from JSON"], []
    if names == {"prep", "recon_hu"} and values.shape == (1000, 900):
        return _xcist(), ["read as the XCIST fan-beam example"], ["geometry: not stored, taken from XCIST's example"]
    doubts = []
    if pitch is not None:
        settings = {name: value for name, value in settings.items() if name.lower() not in PITCH}
        settings["pitch"] = np.asarray(pitch)
    elif not set(PITCH) & {name.lower() for name in settings}:
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
    steps = numbers(str(path), "spacing", spacing, 1, 3)
    return (steps[0], steps[-2] if len(steps) > 1 else steps[0], steps[-1])
