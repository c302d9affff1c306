"""What a file is, as understood, and what looks wrong in it."""

import math
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from recon.analytic.truncation import cut_share
from recon.errors import CTError, CTWarning
from recon.field_of_view import field_of_view
from recon.geometry import ConeBeam, ParallelBeam, ScanGeometry
from recon.io.detect import SCANS, VOLUMES, detect, expect, found
from recon.io.read import read_scan, read_volume
from recon.io.volume import Volume
from recon.io.zarr_look import is_store, walk
from recon.scan import Scan
from recon.sizes import in_words

_TRUNCATED: Final = 0.05  # share of the largest line integral that the detector's edge may see


def describe(
    path: str | os.PathLike[str], *, max_bytes: int | None = None, reader: Callable[..., Scan] | None = None
) -> dict[str, Any]:
    """Read a file and say what was understood, for `raymend info`.

    Args:
        path: a scan, a volume, a Zarr store, or a folder of DICOM slices.
        max_bytes: largest array to make.
        reader: reads a scan in the place of `read_scan`, called with path and `max_bytes=`.

    Returns:
        Plain values: file, kind, size, shape, range, geometry or grid, calibration, provenance, and `warnings`, a
        list of what looks wrong.

    Raises:
        FormatError: neither a scan nor a volume, or damaged.
    """
    given = Path(os.fspath(path))
    kind = "dicom" if given.is_dir() and not is_store(given) else detect(found(given))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", CTWarning)
        content = reader(given, max_bytes=max_bytes) if reader else _scan_or_volume(given, kind, max_bytes)
    said = [str(item.message) for item in caught if issubclass(item.category, CTWarning)]
    head = {"file": given.name, "kind": kind, "size": _size(given)}
    parts = _of_scan(content) if isinstance(content, Scan) else _of_volume(content)
    return {**head, **parts, "warnings": said + doubts(content)}


def doubts(content: Scan | Volume) -> list[str]:
    """List what looks wrong in a scan or volume, each with what to do."""
    if isinstance(content, Volume):
        return _volume_doubts(content)
    angles = getattr(content.geometry, "angles", None)
    return [*(_angle_doubts(angles) if angles else []), *_value_doubts(content), *_coverage_doubts(content)]


def _size(given: Path) -> str:
    if is_store(given):
        return in_words(sum(file.st_size for _, file in walk(given)))
    return "folder" if given.is_dir() else in_words(given.stat().st_size)


def _scan_or_volume(given: Path, kind: str, max_bytes: int | None) -> Scan | Volume:
    """Read as a scan where the kind allows it, else as a volume; .npz and .npy can be either."""
    if kind not in (*SCANS, *VOLUMES):
        expect(given, kind, (), "a scan or a volume")
    if kind not in SCANS:
        return read_volume(given, max_bytes=max_bytes)
    try:
        return read_scan(given, max_bytes=max_bytes)
    except CTError as first:
        if kind not in ("npz", "npy"):
            raise
        try:
            return read_volume(given, max_bytes=max_bytes)
        except CTError:
            raise first from None


def _of_scan(scan: Scan) -> dict[str, Any]:
    g, c = scan.geometry, scan.calibration
    calibration = {"photons": c.photons, "electronic": c.electronic, "water [1/mm]": c.water, "energy [keV]": c.energy}
    return {
        "holds": "scan",
        "shape": dict(zip(("view", "row", "column"), scan.values.shape, strict=True)),
        "range": _range(scan.values),
        "geometry": _geometry(g),
        "calibration": calibration,
        "weights": scan.weights is not None,
        "poses": scan.poses is not None,
        "provenance": list(scan.provenance),
    }


def _of_volume(volume: Volume) -> dict[str, Any]:
    g = volume.grid
    return {
        "holds": "volume",
        "shape": dict(zip(("z", "y", "x"), g.shape, strict=True)),
        "range": _range(volume.values),
        "unit": volume.unit,
        "spacing [mm]": g.spacing,
        "centre [mm]": g.centre,
    }


def _geometry(geometry: ScanGeometry) -> dict[str, Any]:
    """Say the geometry in lengths and degrees."""
    d = geometry.detector
    said: dict[str, Any] = {"type": type(geometry).__name__, "views": len(geometry)}
    if isinstance(geometry, ConeBeam | ParallelBeam):
        low, high = (round(math.degrees(f(geometry.angles)), 6) for f in (min, max))
        said["angles [degrees]"] = {"from": low, "to": high}
    if isinstance(geometry, ConeBeam):
        said["source to axis [mm]"] = geometry.source_to_axis
        said["source to detector [mm]"] = geometry.source_to_detector
        said["advance per turn [mm]"] = geometry.pitch
    view = _field_of_view(geometry)
    return {**said, "detector": d.curve, "pitch [mm]": d.pitch, "offset [mm]": d.offset, "field of view [mm]": view}


def _range(values: torch.Tensor) -> dict[str, float]:
    return {"low": float(values.min()), "mean": float(values.double().mean()), "high": float(values.max())}


def _angle_doubts(angles: tuple[float, ...]) -> list[str]:
    """Look for degrees, repeated and unordered views."""
    found, turn = [], 2 * math.pi
    span = max(angles) - min(angles)
    if span > 2.5 * turn:
        found.append(f"angles: span {span:g} rad, {span / turn:.1f} turns; if these are degrees, convert them")
    steps = np.diff(np.asarray(angles))
    if len(steps) and (steps == 0).any():
        found.append(f"angles: {int((steps == 0).sum())} views repeat the one before")
    if len(steps) and not ((steps >= 0).all() or (steps <= 0).all()):
        found.append("angles: not in order; check that views and angles belong together")
    if len(steps) > 1 and abs(span - turn) < 1e-6:
        found.append("angles: the last view repeats the first; FBP shares its weight, iterative methods count it twice")
    return found


def _value_doubts(scan: Scan) -> list[str]:
    """Look for counts, noise below air, and pixels that never change."""
    values, found = scan.values, []
    if float(values.max()) > 20:
        found.append(
            f"values: up to {float(values.max()):g}; expected line integrals below about 12, are these counts?"
        )
    negative = float((values < -0.1).double().mean())
    if negative > 0.01:
        found.append(f"values: {negative:.1%} are below -0.1; is the air calibration right?")
    dead = int(_dead(values).sum())
    if dead:
        found.append(f"values: {dead} pixels are the same in every view; dead pixels make rings")
    return found


def _dead(values: torch.Tensor) -> torch.Tensor:
    """Map pixels that never change between pixels that do, along the row or the column; (row, column).

    What lies in the middle of an object, or beside it, is as still as its neighbours and no sign of a dead pixel.
    """
    if len(values) < 3:
        return torch.zeros(values.shape[1:], dtype=torch.bool)
    moves = values.amax(0) != values.amin(0)
    between = [(moves.cumsum(d) > 0) & (moves.flip(d).cumsum(d).flip(d) > 0) for d in (0, 1)]
    return ~moves & (values[0] != 0) & (between[0] | between[1])


def _field_of_view(geometry: ScanGeometry) -> dict[str, float]:
    with warnings.catch_warnings(action="ignore", category=CTWarning):  # it says how free trajectories are measured
        radius, half = field_of_view(geometry)
    return {"radius": radius, "height": 2 * half}


def _coverage_doubts(scan: Scan) -> list[str]:
    """Look for an object that reaches beyond the detector's edges."""
    cut = cut_share(scan)
    return [f"values: {cut:.0%} of the detector rows are cut off; the object is truncated"] if cut > 0.02 else []


def _volume_doubts(volume: Volume) -> list[str]:
    low = float(volume.values.min())
    if volume.unit == "HU" and low < -1100:
        return [f"values: down to {low:g} HU, below air; padding outside the field of view?"]
    if volume.unit == "unknown" and low < -500:
        return ["unit: not stored; values below -500 look like HU"]
    return []
