"""Geometry from plain names and numbers, in the spellings of the field."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from recon.errors import FormatError
from recon.geometry import ConeBeam, Detector, ParallelBeam, ScanGeometry

AXIS: Final = ("source_to_axis", "sod", "dso", "sad", "distancesourceorigin")
DETECTOR: Final = ("source_to_detector", "sdd", "dsd", "distancesourcedetector")
RADIANS: Final = ("angles", "theta", "angles_rad")
DEGREES: Final = ("angles_deg", "theta_deg", "angles_degrees")
PITCH: Final = ("pitch", "pixel_size", "detector_pitch", "det_mm")
USED: Final = (
    *AXIS,
    *DETECTOR,
    *RADIANS,
    *DEGREES,
    *PITCH,
    "sid",
    "offset",
    "curve",
    "n_angles",
    "arc_deg",
    "centre_col",
)

Plain = Mapping[str, Any]


def geometry_from_keys(where: str, keys: Plain, detector_shape: tuple[int, int]) -> tuple[ScanGeometry, list[str]]:
    """Build a geometry from names such as angles, DSO, DSD, pitch, offset, curve.

    Args:
        where: the file, for messages.
        keys: numbers by name, in any capitals; lengths in mm, angles in rad unless their name says degrees.
        detector_shape: (row, column) of the data.

    Returns:
        The geometry and, line by line, which spelling was taken for what.

    Raises:
        FormatError: a missing, ambiguous or contradicting name.
    """
    plain = {name.lower(): value for name, value in keys.items()}
    notes: list[str] = []
    axis, reach = _distances(where, plain, notes)
    angles = _angles(where, plain, notes)
    pitch = _pair(where, "pitch", _take(where, plain, PITCH, "pitch", notes))
    offset = _offset(where, plain, detector_shape[1], pitch)
    curve = str(np.asarray(plain.get("curve", "flat")))[:40]
    if curve not in ("flat", "arc"):
        raise FormatError(f"{where}: curve: expected flat or arc, got {curve!r}")
    detector = Detector(shape=detector_shape, pitch=pitch, offset=offset, curve=curve)
    if axis is None or reach is None:
        return ParallelBeam(angles=angles, detector=detector), [*notes, "no distances: parallel rays"]
    return ConeBeam(angles=angles, detector=detector, source_to_axis=axis, source_to_detector=reach), notes


def number(where: str, name: str, value: object) -> float:
    """Return one finite number."""
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "iuf":
        raise FormatError(f"{where}: {name}: expected one number, got {str(value)[:60]!r}")
    got = float(array.item())
    if not math.isfinite(got):
        raise FormatError(f"{where}: {name}: expected a finite number, got {got}")
    return got


def numbers(where: str, name: str, value: object, *lengths: int) -> tuple[float, ...]:
    """Return finite numbers, at least one; as many as one of the lengths says, if there are any."""
    array = np.asarray(value).reshape(-1)
    wanted = " or ".join(map(str, lengths)) or "1 or more"
    if array.dtype.kind not in "iuf" or array.size == 0 or (lengths and array.size not in lengths):
        got = f"{array.size} numbers" if array.dtype.kind in "iuf" else f"{array.size} of {array.dtype}"
        raise FormatError(f"{where}: {name}: expected {wanted} numbers, got {got}")
    return tuple(number(where, name, item) for item in array)


def _take(where: str, plain: Plain, spellings: Sequence[str], meaning: str, notes: list[str]) -> Any:
    """Return the value under one of its spellings, or None; refuse two that differ."""
    found = [name for name in spellings if name in plain]
    if not found:
        return None
    values = [np.asarray(plain[name]) for name in found]
    if any(not np.array_equal(values[0], value) for value in values[1:]):
        raise FormatError(f"{where}: {' and '.join(found)} both state {meaning} and differ; remove one")
    if found[0] != spellings[0]:
        notes.append(f"{meaning} taken from {found[0]}")
    return values[0]


def _distances(where: str, plain: Plain, notes: list[str]) -> tuple[float | None, float | None]:
    axis = _take(where, plain, AXIS, "source_to_axis", notes)
    reach = _take(where, plain, DETECTOR, "source_to_detector", notes)
    if "sid" in plain:
        axis, reach = _place_sid(where, plain["sid"], axis, reach, notes)
    if (axis is None) != (reach is None):
        missing = "source_to_axis" if axis is None else "source_to_detector"
        raise FormatError(
            f"{where}: expected both distances, got no {missing}; add it in mm, or leave both out for parallel rays"
        )
    if axis is None:
        return None, None
    return number(where, "source_to_axis", axis), number(where, "source_to_detector", reach)


def _place_sid(where: str, sid: Any, axis: Any, reach: Any, notes: list[str]) -> tuple[Any, Any]:
    """Read SID by its companion: beside a detector distance it ends at the axis, otherwise at the image."""
    if axis is None and reach is not None:
        notes.append("source_to_axis taken from sid (beside a detector distance)")
        return sid, reach
    if reach is None and axis is not None:
        notes.append("source_to_detector taken from sid (beside an axis distance)")
        return axis, sid
    raise FormatError(
        f"{where}: sid: expected a distance with one meaning, got {str(sid)[:60]}; it can be source to "
        "isocentre (write source_to_axis) or source to image (write source_to_detector)"
    )


def _angles(where: str, plain: Plain, notes: list[str]) -> tuple[float, ...]:
    radians = _take(where, plain, RADIANS, "angles", notes)
    degrees = _take(where, plain, DEGREES, "angles in degrees", notes)
    if (radians is None) == (degrees is None):
        return _even(where, plain, both=radians is not None)
    values = radians if radians is not None else np.radians(np.asarray(degrees, dtype=np.float64))
    array = np.asarray(values)
    if array.dtype.kind not in "iuf" or array.ndim != 1:
        raise FormatError(f"{where}: angles: expected a list of numbers, got {array.dtype} of shape {array.shape}")
    return tuple(float(a) for a in array)


def _even(where: str, plain: Plain, *, both: bool) -> tuple[float, ...]:
    """Spread angles evenly where only their number and arc (degrees, end left out) are stated."""
    if both or "n_angles" not in plain or "arc_deg" not in plain:
        got = "both radians and degrees" if both else "none"
        raise FormatError(
            f"{where}: angles: expected one list in radians, or angles_deg in degrees, got {got}; "
            "add it, or pass geometry="
        )
    views, arc = int(number(where, "n_angles", plain["n_angles"])), number(where, "arc_deg", plain["arc_deg"])
    if not 1 <= views <= 10_000_000:
        raise FormatError(f"{where}: n_angles: expected 1 to 10 million, got {views}")
    return tuple(math.radians(arc) * k / views for k in range(views))


def _pair(where: str, name: str, value: Any) -> tuple[float, float]:
    """Return (v, u) from a pair or from one number for both."""
    if value is None:
        raise FormatError(
            f"{where}: {name}: expected the step between detector pixels in mm, got none; add it, or pass pitch="
        )
    steps = numbers(where, f"{name}, one in mm or (v, u)", value, 1, 2)
    return steps[0], steps[-1]


def _offset(where: str, plain: Plain, columns: int, pitch: tuple[float, float]) -> tuple[float, float]:
    if "centre_col" in plain:
        column = number(where, "centre_col", plain["centre_col"])
        return 0.0, ((columns - 1) / 2 - column) * pitch[1]
    shifts = numbers(where, "offset, u in mm or (v, u)", plain.get("offset", 0.0), 1, 2)
    return (shifts[0], shifts[1]) if len(shifts) == 2 else (0.0, shifts[0])
