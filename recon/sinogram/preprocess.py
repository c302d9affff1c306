"""From counts to line integrals: flat and dark fields, dead pixels, negative logarithm."""

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recon import checks, memory
from recon.errors import CTWarning, FormatError, NumericalError

_BLOCK = 1 << 25  # bytes of float64 that are worked on at a time
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
    _check_counts(counts)
    pixels = (int(counts.shape[1]), int(counts.shape[2]))
    dark = np.zeros(pixels) if darks is None else _mean_frame("darks", darks, pixels)
    beam = _beam(flats, dark, air, pixels, given=darks is not None)
    bad = _dead(beam)
    frames = _Frames(counts=counts, dark=dark, beam=np.where(bad, 1.0, beam), bad=bad)
    clamped, floor = _clamp(frames)
    values = memory.empty(counts.shape, name="values")
    for views, transmission in frames:
        block = -np.log(np.where(transmission <= 0, floor, transmission))
        _interpolate(block, bad)
        values[views] = torch.from_numpy(block)
        memory.release()
    return LineIntegrals(
        values=values,
        photons=float(beam[~bad].mean()),
        bad=torch.from_numpy(bad),
        clamped=clamped,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Frames:
    """Transmission in float64 by blocks of views, so that no more than one block is held; 1 at dead pixels."""

    counts: Tensor
    dark: Array
    beam: Array
    bad: NDArray[np.bool_]

    def __iter__(self) -> Iterator[tuple[slice, Array]]:
        for views in _blocks(self.counts):
            block = self.counts[views].detach().cpu().to(torch.float64).numpy()
            transmission = (block - self.dark) / self.beam
            transmission[:, self.bad] = 1.0
            yield views, transmission


def _blocks(counts: Tensor) -> Iterator[slice]:
    """Split the views into blocks of about `_BLOCK` bytes in float64."""
    step = max(1, _BLOCK // (8 * max(1, counts[0].numel())))
    return (slice(first, first + step) for first in range(0, len(counts), step))


def _check_counts(counts: Tensor) -> None:
    if counts.is_complex():
        raise FormatError(
            f"counts: expected real numbers, got {counts.dtype}; pass the magnitude if that is what you mean"
        )
    if counts.ndim != 3 or counts.numel() == 0:
        raise FormatError(f"counts: expected (view, row, column) with at least one pixel, got {tuple(counts.shape)}")
    if counts.is_floating_point() and not all(bool(counts[views].isfinite().all()) for views in _blocks(counts)):
        checks.all_finite("counts", counts)


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


def _clamp(frames: _Frames) -> tuple[int, float]:
    """Count the values without a positive count, and return the smallest positive transmission in their place."""
    number, living, floor = 0, 0, math.inf
    for _, transmission in frames:
        above = transmission > 0
        number += int(above.size - above.sum())
        living += int(above[:, ~frames.bad].sum())
        floor = min(floor, float(transmission.min(where=above, initial=math.inf)))
    if number == 0:
        return 0, floor
    if living == 0:
        raise NumericalError("counts: expected positive counts, got none above the dark field; was the beam on?")
    warnings.warn(
        f"counts: {number} of {frames.counts.numel()} values are not above the dark field, clamped to the smallest "
        f"positive transmission ({floor:.3g}, a line integral of {-math.log(floor):.3g})",
        CTWarning,
        stacklevel=4,
    )
    return number, floor


def interpolate_dead(values: Tensor, bad: Tensor) -> Tensor:
    """Fill dead pixels linearly along their rows; a row that is all dead takes its nearest living one.

    Args:
        values: line integrals (view, row, column).
        bad: which pixels are dead (row, column), not all of them.
    """
    filled = values.detach().cpu().numpy().copy()
    _interpolate(filled, bad.cpu().numpy())
    return torch.from_numpy(filled).to(values.device)


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
