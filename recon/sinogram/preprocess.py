"""From counts to line integrals: flat and dark fields, dead pixels, negative logarithm."""

import math
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recon import checks
from recon.errors import CTWarning, FormatError, NumericalError

_MOST_BAD = 0.05  # share of dead pixels beyond which interpolation would invent the image

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class LineIntegrals:
    """Line integrals and what had to be done to get them.

    Args:
        values: line integrals (view, row, column), float32.
        photons: mean count of a pixel without an object; photons if the detector gives one count per photon.
        bad: dead pixels that were interpolated (row, column).
        clamped: number of values that had no positive count and were clamped.
    """

    values: Tensor
    photons: float
    bad: Tensor
    clamped: int


def line_integrals(
    counts: Tensor,
    flats: Tensor | None = None,
    darks: Tensor | None = None,
    *,
    air: float | Tensor | None = None,
) -> LineIntegrals:
    """Turn counts into line integrals: -log((counts - dark) / (flat - dark)), means over the frames.

    Args:
        counts: measured projections (view, row, column), any real dtype.
        flats: frames without an object (frame, row, column) or (row, column).
        darks: frames without a beam, likewise; none means a detector without dark current.
        air: instead of flats, the count without an object, dark current taken off: a number or (row, column).

    Returns:
        Line integrals with the number of clamped values and the map of interpolated pixels; each repair also warns.

    Raises:
        FormatError: neither flats nor air, shapes that do not fit, flats darker than darks, too many dead pixels.
        NumericalError: NaN or Inf, or no positive count at all.
    """
    data = _counts(counts)
    pixels = (int(data.shape[1]), int(data.shape[2]))
    dark = np.zeros(pixels) if darks is None else _mean_frame("darks", darks, pixels)
    beam = _beam(flats, dark, air, pixels, given=darks is not None)
    bad = _dead(beam)
    transmission = (data - dark) / np.where(bad, 1.0, beam)
    del data
    clamped = _clamp(transmission, bad)
    values = -np.log(transmission)
    _interpolate(values, bad)
    return LineIntegrals(
        values=torch.from_numpy(values.astype(np.float32)),
        photons=float(beam[~bad].mean()),
        bad=torch.from_numpy(bad),
        clamped=clamped,
    )


def _counts(counts: Tensor) -> Array:
    if counts.is_complex():
        raise FormatError(
            f"counts: expected real numbers, got {counts.dtype}; pass the magnitude if that is what you mean"
        )
    if counts.ndim != 3 or counts.numel() == 0:
        raise FormatError(f"counts: expected (view, row, column) with at least one pixel, got {tuple(counts.shape)}")
    return _finite("counts", counts)


def _finite(name: str, value: Tensor) -> Array:
    array: Array = checks.all_finite(name, value.detach().cpu().to(torch.float64)).numpy()
    return array


def _mean_frame(name: str, frames: Tensor, pixels: tuple[int, int]) -> Array:
    """Average frames (frame, row, column) or take a single one (row, column)."""
    if frames.ndim not in (2, 3) or tuple(frames.shape[-2:]) != pixels or frames.numel() == 0:
        raise FormatError(
            f"{name}: expected (frame, row, column) with (row, column) = {pixels}, got {tuple(frames.shape)}; "
            "take them with the same detector read-out as the projections"
        )
    array = _finite(name, frames)
    return array if array.ndim == 2 else array.mean(axis=0)


def _beam(
    flats: Tensor | None, dark: Array, air: float | Tensor | None, pixels: tuple[int, int], *, given: bool
) -> Array:
    """Return the count per pixel that the beam alone gives."""
    if (flats is None) == (air is None):
        got = "neither" if flats is None else "both"
        raise FormatError(
            f"flats: expected flat fields or air, got {got}; counts need exactly one of them as their reference"
        )
    if air is not None:
        return _air(air, pixels)
    assert flats is not None
    beam = _mean_frame("flats", flats, pixels) - dark
    if given and float(np.median(beam)) < 0:
        raise FormatError(
            f"flats: expected flats brighter than darks, got a median difference of {np.median(beam):g}; "
            "they look swapped"
        )
    return beam


def _air(air: float | Tensor, pixels: tuple[int, int]) -> Array:
    if not isinstance(air, Tensor):
        return np.full(pixels, checks.positive("air", air, error=FormatError, unit="counts"))
    if tuple(air.shape) != pixels:
        raise FormatError(f"air: expected a number or (row, column) = {pixels}, got {tuple(air.shape)}")
    return _finite("air", air)


def _dead(beam: Array) -> NDArray[np.bool_]:
    """Map the pixels that the beam leaves dark; refuse too many."""
    bad: NDArray[np.bool_] = beam <= 0
    share = float(bad.mean())
    if share > _MOST_BAD:
        raise FormatError(
            f"flats: {bad.sum()} of {bad.size} pixels see no beam ({share:.0%}, expected at most {_MOST_BAD:.0%}); "
            "check the flat fields, or crop the projections to the lit part of the detector"
        )
    if share > 0:
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        warnings.warn(
            f"flats: {bad.sum()} dead pixels, the first at (row, column) = {where}, interpolated along their rows",
            CTWarning,
            stacklevel=4,
        )
    return bad


def _clamp(transmission: Array, bad: NDArray[np.bool_]) -> int:
    """Raise values without a positive count to the smallest positive one, in place; return how many."""
    transmission[:, bad] = 1.0
    low = transmission <= 0
    number = int(low.sum())
    if number == 0:
        return 0
    if bool((low | bad).all()):
        raise NumericalError("counts: expected positive counts, got none above the dark field; was the beam on?")
    floor = float(transmission[~low].min())
    transmission[low] = floor
    warnings.warn(
        f"counts: {number} of {low.size} values are not above the dark field, clamped to the smallest positive "
        f"transmission ({floor:.3g}, a line integral of {-math.log(floor):.3g})",
        CTWarning,
        stacklevel=4,
    )
    return number


def _interpolate(values: Array, bad: NDArray[np.bool_]) -> None:
    """Fill dead pixels linearly along their rows; a row that is all dead takes its nearest living one."""
    living = np.flatnonzero(~bad.all(axis=1))
    columns = np.arange(bad.shape[1])
    for row in np.flatnonzero(bad.any(axis=1) & ~bad.all(axis=1)):
        good = columns[~bad[row]]
        for view in values[:, row]:
            view[bad[row]] = np.interp(columns[bad[row]], good, view[good])
    for row in np.flatnonzero(bad.all(axis=1)):
        values[:, row] = values[:, living[np.argmin(np.abs(living - row))]]
