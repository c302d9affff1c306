"""Geometries as JSON text: the class's name and its fields, in mm and rad."""

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recon.errors import FormatError, GeometryError
from recon.geometry import ConeBeam, Detector, FreeBeam, ParallelBeam, ScanGeometry

_TYPES: dict[str, type[ScanGeometry]] = {c.__name__: c for c in (ConeBeam, FreeBeam, ParallelBeam)}


def geometry_to_json(geometry: ScanGeometry) -> str:
    """Write a geometry as JSON; numbers read back to the last bit."""
    content = {"type": type(geometry).__name__, **_fields(geometry)}
    content["detector"] = _fields(geometry.detector)
    return json.dumps(content, allow_nan=False)


def geometry_from_json(text: str, where: str = "geometry") -> ScanGeometry:
    """Read a geometry from JSON.

    Raises:
        FormatError: no JSON, an unknown type, missing or unknown fields, or numbers that no scanner can have.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{where}: expected JSON, got {text[:40]!r} ({error})") from error
    if not isinstance(content, dict) or content.get("type") not in _TYPES:
        kind = content.get("type") if isinstance(content, dict) else type(content).__name__
        raise FormatError(f"{where}: expected a type among {', '.join(sorted(_TYPES))}, got {kind!r}")
    kind = _TYPES[content.pop("type")]
    content["detector"] = _make(Detector, content.get("detector"), f"{where}.detector")
    made: ScanGeometry = _make(kind, content, where)
    return made


def check_rays(path: Path, geometry: ScanGeometry, rays: NDArray[Any]) -> None:
    """Compare a geometry with the rays stored beside it, (view, 4, zyx) in mm.

    Raises:
        FormatError: they differ.
    """
    own = geometry.rays().numpy()
    if rays.shape != own.shape or not np.allclose(rays, own, rtol=0, atol=1e-6):
        raise FormatError(f"{path}: the datasets 'geometry' and 'rays' contradict each other; write the scan again")


def _fields(item: Any) -> dict[str, Any]:
    return {f.name: getattr(item, f.name) for f in fields(item)}


def _make(kind: Any, content: object, where: str) -> Any:
    """Build a dataclass from a mapping; lists become tuples."""
    known = {f.name for f in fields(kind)}
    if not isinstance(content, Mapping) or not set(content) <= known:
        got = sorted(set(content) - known) if isinstance(content, Mapping) else type(content).__name__
        raise FormatError(f"{where}: expected the fields {', '.join(sorted(known))}, got {got}")
    try:
        return kind(**{name: _tuples(value) for name, value in content.items()})
    except (GeometryError, TypeError, ValueError, RuntimeError) as error:
        raise FormatError(f"{where}: {error}") from error


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
