"""MATLAB v5 files of two known layouts: the Helsinki Tomography Challenge and Fessler's toolbox (MIRT)."""

import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from recon.errors import FormatError
from recon.geometry import ConeBeam, Detector, ScanGeometry
from recon.io.keys import number
from recon.io.limits import check_bytes, translated
from recon.io.raw import RawScan, geometry_shape

_HTC = ("CtDataFull", "CtDataLimited")
_COMPRESSED = 15
_PIECE = 1 << 20


def read_matlab(path: Path, limit: int) -> RawScan:
    """Read a scan from a MATLAB v5 file.

    Raises:
        FormatError: a damaged file, or variables of no known layout; they are listed.
        ResourceError: more unpacked bytes than the limit.
    """
    from scipy.io import whosmat  # slow to import, and most scans are not MATLAB files

    check_bytes(str(path), _unpacked(path, limit), limit)
    with translated(path, "MATLAB v5"):
        names = {name: shape for name, shape, _ in whosmat(path)}
        for name in _HTC:
            if name in names:
                return _helsinki(path, _load(path, name)[name])
        if {"proj", "cg"} <= set(names):
            return _mirt(path, _load(path, "proj", "cg"))
    found = ", ".join(f"{name} {shape}" for name, shape in sorted(names.items())) or "no variables"
    raise FormatError(
        f"{path}: expected {', '.join(_HTC)} or proj with cg, got {found}; "
        "save the projections as .npz with angles, distances and pitch"
    )


def _load(path: Path, *names: str) -> dict[str, Any]:
    from scipy.io import loadmat

    loaded: dict[str, Any] = loadmat(path, variable_names=names, struct_as_record=False, squeeze_me=True)
    return loaded


def _unpacked(path: Path, limit: int) -> int:
    """Count the bytes that the file unpacks to, piece by piece without keeping them; stop beyond the limit."""
    total = 0
    with translated(path, "MATLAB v5"), path.open("rb") as file:
        order = "little" if file.read(128)[126:128] == b"IM" else "big"
        size = path.stat().st_size
        while len(tag := file.read(8)) == 8 and total <= limit:
            kind, length = (int.from_bytes(tag[i : i + 4], order) for i in (0, 4))  # type: ignore[arg-type]
            if file.tell() + length > size:
                raise FormatError(
                    f"{path}: expected an element of {length} bytes, got {size - file.tell()}; it is truncated"
                )
            total += _inflated(file, length, limit) if kind == _COMPRESSED else length
            if kind != _COMPRESSED:
                file.seek(length, 1)
    return total


def _inflated(file: Any, length: int, limit: int) -> int:
    inflate, total = zlib.decompressobj(), 0
    while length > 0 and total <= limit:
        piece = file.read(min(length, _PIECE))
        length -= len(piece)
        while piece and total <= limit:
            total += len(inflate.decompress(piece, _PIECE))
            piece = inflate.unconsumed_tail
    return total


def _helsinki(path: Path, content: Any) -> RawScan:
    """Read a scan of the Helsinki Tomography Challenge: a flat fan in ASTRA's sense of angle, which is ours."""
    settings = content.parameters
    if str(settings.distanceUnit) != "mm":
        raise FormatError(f"{path}: distanceUnit: expected mm, got {settings.distanceUnit!r}")
    values = np.asarray(content.sinogram)
    pitch = number(str(path), "pixelSizePost", settings.pixelSizePost)
    geometry = ConeBeam(
        angles=tuple(np.radians(np.atleast_1d(settings.angles).astype(np.float64)).tolist()),
        detector=Detector(shape=geometry_shape(str(path), values), pitch=(pitch, pitch)),
        source_to_axis=number(str(path), "distanceSourceOrigin", settings.distanceSourceOrigin),
        source_to_detector=number(str(path), "distanceSourceDetector", settings.distanceSourceDetector),
    )
    note = f"read as Helsinki Tomography Challenge, {settings.voltage} kV, angles from parameters.angles (degrees)"
    return RawScan(where=str(path), values=values, geometry=geometry, notes=[note])


def _mirt(path: Path, content: dict[str, Any]) -> RawScan:
    """Read a cone-beam scan of the Michigan toolbox: (s, t, view), turned to (view, row, column).

    Its source is at (-dso sin b, dso cos b), so our angle is b + pi and our columns run against its s; t is z.
    """
    where, data = str(path), content["cg"].data
    if str(data.type) != "fan" or str(data.units) != "mm" or number(where, "pitch", data.pitch) != 0:
        raise FormatError(
            f"{path}: cg: expected a circular fan or cone in mm, got {data.type}, {data.units}, pitch {data.pitch}"
        )
    values = np.atleast_3d(content["proj"]).transpose(2, 1, 0)[:, :, ::-1]
    note = "read as MIRT cone beam: angle b + pi, columns reversed"
    return RawScan(where=where, values=values, geometry=_mirt_geometry(path, data, values.shape), notes=[note])


def _mirt_geometry(path: Path, data: Any, shape: tuple[int, ...]) -> ScanGeometry:
    def get(name: str) -> float:
        return number(str(path), f"cg.{name}", getattr(data, name))

    focal = float(np.asarray(data.dfs).item())  # source to centre of curvature: 0 is an arc, infinity a flat panel
    if focal not in (0.0, math.inf):
        raise FormatError(f"{path}: cg.dfs: expected 0 (arc) or inf (flat), got {focal:g}")
    detector = Detector(
        shape=(shape[1], shape[2]),
        pitch=(get("dt"), get("ds")),
        offset=(0.0 - get("offset_t") * get("dt"), get("offset_s") * get("ds")),
        curve="flat" if focal else "arc",
    )
    return ConeBeam.circular(
        int(get("na")),
        detector=detector,
        source_to_axis=get("dso"),
        source_to_detector=get("dsd"),
        arc=math.radians(get("orbit")),
        start=math.radians(get("orbit_start")) + math.pi,
    )
