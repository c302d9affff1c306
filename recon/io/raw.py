"""What a reader found in a file, before it becomes a scan."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from recon.errors import CTWarning, FormatError
from recon.geometry import ScanGeometry
from recon.io.volume import as_float32
from recon.scan import Calibration, Scan
from recon.sinogram.preprocess import line_integrals

StatedGeometry = ScanGeometry | Callable[[tuple[int, int, int]], ScanGeometry]


@dataclass(frozen=True, kw_only=True, eq=False)
class RawScan:
    """Arrays and geometry as a file states them.

    Args:
        where: the file, for messages.
        values: line integrals, or counts, (view, row, column); (view, column) is one row.
        counts: the values are counts.
        geometry: as the file states it, or None.
        flats: frames without an object.
        darks: frames without a beam.
        calibration: what the file states of photons, noise, water and energy.
        notes: what was understood, for the provenance.
        geometry_doubts: what the file leaves open about its geometry; each becomes a warning, unless the caller
            states the geometry.
    """

    where: str
    values: NDArray[Any]
    geometry: ScanGeometry | None
    counts: bool = False
    flats: NDArray[Any] | None = None
    darks: NDArray[Any] | None = None
    calibration: Calibration = field(default_factory=Calibration)
    notes: list[str] = field(default_factory=list)
    geometry_doubts: list[str] = field(default_factory=list)

    def views(self) -> NDArray[Any]:
        """Return the values as (view, row, column)."""
        return three_axes(self.where, self.values)


def to_scan(raw: RawScan, *, air: float | None = None) -> Scan:
    """Make a scan: counts become line integrals, shapes are compared with the geometry, doubts are warned about.

    Raises:
        FormatError: no geometry, axes that do not fit it, counts without a reference, complex values.
    """
    if raw.geometry is None:
        raise FormatError(f"{raw.where}: expected a geometry in the file, got none; pass geometry=")
    values = raw.views()
    check_axes(raw.where, values.shape, raw.geometry)
    for doubt in raw.geometry_doubts:
        warnings.warn(f"{raw.where}: {doubt}", CTWarning, stacklevel=4)
    if raw.counts or air is not None:
        return _from_counts(raw, values, raw.geometry, air)
    if values.dtype.kind in "iu":
        raise FormatError(
            f"{raw.where}: expected line integrals, got {values.dtype}, which looks like raw counts; "
            "pass air= with the count without an object (--log on the command line)"
        )
    tensor = as_float32(raw.where, values)
    return Scan(geometry=raw.geometry, values=tensor, calibration=raw.calibration, provenance=tuple(raw.notes))


def three_axes(where: str, values: NDArray[Any]) -> NDArray[Any]:
    """Return (view, row, column); two axes are taken as (view, column), a single row."""
    if values.ndim not in (2, 3):
        raise FormatError(
            f"{where}: expected [view, row, column] or [view, column], got {values.ndim} axes {values.shape}"
        )
    if values.size == 0:
        raise FormatError(f"{where}: expected data, got an empty array {values.shape}")
    return values if values.ndim == 3 else values[:, None]


def check_axes(where: str, shape: tuple[int, ...], geometry: ScanGeometry) -> None:
    """Compare an array's shape with the geometry's; say so where the axes look swapped."""
    if tuple(shape) == geometry.shape:
        return
    swapped = "; the axes look swapped" if sorted(shape) == sorted(geometry.shape) else ""
    raise FormatError(
        f"{where}: expected [view, row, column] = {list(geometry.shape)} from the geometry, got {list(shape)}"
        f"{swapped}; reorder the array or correct the number of angles"
    )


def geometry_shape(where: str, values: NDArray[Any]) -> tuple[int, int]:
    """Return the detector's (row, column) that an array implies."""
    shape = three_axes(where, values).shape
    return int(shape[1]), int(shape[2])


def _from_counts(raw: RawScan, values: NDArray[Any], geometry: ScanGeometry, air: float | None) -> Scan:
    flats, darks = (None if a is None else real(raw.where, a) for a in (raw.flats, raw.darks))
    if air is not None and flats is not None:
        raise FormatError(f"{raw.where}: air: expected none beside the file's own flat fields, got {air}; leave it out")
    try:
        result = line_integrals(real(raw.where, values), flats, darks, air=air)
    except FormatError as error:
        raise FormatError(f"{raw.where}: {error}") from error
    notes = (
        *raw.notes,
        f"line integrals from counts; {int(result.bad.sum())} dead pixels, {result.clamped} clamped values",
    )
    calibration = replace(raw.calibration, photons=result.photons)
    return Scan(geometry=geometry, values=result.values, calibration=calibration, provenance=notes)


def real(where: str, array: NDArray[Any]) -> torch.Tensor:
    """Return real numbers as a tensor, in the dtype they are stored in where torch has it."""
    if array.dtype.kind not in "iuf":
        raise FormatError(f"{where}: expected real numbers, got {array.dtype}")
    kind = array.dtype.newbyteorder("=") if array.itemsize <= 8 else np.dtype(np.float64)
    return torch.from_numpy(np.require(array, dtype=kind, requirements=["C", "W"]))


def stated(geometry: StatedGeometry, shape: tuple[int, ...]) -> ScanGeometry:
    """Return the caller's geometry, made for data of (view, row, column) where it is a function of that."""
    return geometry if isinstance(geometry, ScanGeometry) else geometry((shape[0], shape[1], shape[2]))


def with_geometry(raw: RawScan, geometry: StatedGeometry | None) -> RawScan:
    """Put the caller's geometry in the place of the file's."""
    if geometry is None:
        return raw
    made = stated(geometry, raw.views().shape)
    return replace(raw, geometry=made, notes=[*raw.notes, "geometry stated by the caller"], geometry_doubts=[])
