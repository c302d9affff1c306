"""Dose reduction of a scan that was measured: what it would have been with fewer photons."""

import math
import warnings
from dataclasses import replace

import torch
from torch import Tensor

from recon import checks
from recon.errors import ConfigError, CTWarning, ShapeError
from recon.random import generator
from recon.scan import Scan
from recon.sinogram.crosstalk import checked_crosstalk, noise_share, spread
from recon.statistics import logarithm, noise_weights, starvation, stated_photons

_SAMPLE = 4_000_000  # values that an estimate of the noise looks at
_MEDIAN = 0.4549  # of a squared standard normal variable
_TOO_QUIET = 10.0  # times less variance than the photons would give: the noise was taken out, or never was there
_UNEVEN = 2.0  # factor between weights and what the photons say beyond which the beam is not flat


def reduce_dose(
    scan: Scan, fraction: float, *, seed: int, incident: Tensor | None = None, crosstalk: float = 0.0
) -> Scan:
    """Turn a scan into one of a lower dose: keep its noise and insert only what is missing.

    Photons are thinned at random, which makes the reduced scan's noise that of fewer photons, whatever their number;
    electronic noise, which a lower dose does not lower, is topped up. The scan's own noise is part of the result, so
    that several reductions of one scan are not independent of each other.

    Args:
        scan: line integrals with noise; its calibration states photons and electronic noise.
        fraction: share of the dose to keep, above 0 and up to 1.
        seed: what the inserted noise is drawn from.
        incident: mean photons without an object, broadcastable to (view, row, column), where a bow-tie or the tube
            current makes them differ; None for the calibration's photons everywhere.
        crosstalk: share of its photons that a pixel loses to each neighbour; the quantum noise is correlated by it.

    Returns:
        The scan at the lower dose, with weights for it (0 where they were 0) and photons scaled in its calibration.

    Raises:
        ConfigError: a fraction or share out of range, a scan without photons or noise, or weights that contradict its
            photons.
        ShapeError: incident photons that do not fit the scan.

    Source:
        Žabić et al. 2013, Medical Physics 40(3): 031102, for the variances; thinning of Poisson variables for quanta.
    """
    _check_fraction(fraction)
    checked_crosstalk(crosstalk)
    beam = _beam(scan, incident)
    _check_noise(scan, beam)
    if incident is None:
        _check_even(scan, beam)
    values, starved = _reduced(scan, beam, fraction, crosstalk, generator(seed))
    kept = noise_share(crosstalk, scan.geometry.detector.shape[0])  # of the quanta's variance, not of the electrons'
    reduced = fraction * beam.to(values.device)
    weights = noise_weights(values, reduced / kept, scan.calibration.electronic / kept**2).to(values.dtype)
    steps = [f"dose reduced to {100 * fraction:g} % of {float(beam.mean()):g} photons per pixel, seed {seed}"]
    if starved:
        steps.append(starvation(starved, values.numel()))
        warnings.warn(f"values: {steps[-1]}; expect streaks", CTWarning, stacklevel=2)
    return scan.changed(
        values=values,
        weights=weights if scan.weights is None else weights * (scan.weights > 0),
        calibration=replace(scan.calibration, photons=fraction * float(beam.mean())),
        provenance=(*scan.provenance, *steps),
    )


def noise_photons(scan: Scan) -> float | None:
    """Estimate the photons per pixel without an object from the noise between neighbouring views.

    The object and electronic noise count as noise here, so that few views and small details make it an underestimate;
    cross-talk makes it an overestimate.

    Returns:
        Photons, infinite without any noise; None for fewer than three views.

    Source:
        Second differences have six times the variance of values; their median is that of a normal distribution.
    """
    if len(scan) < 3:
        return None
    values = scan.block(slice(None), slice(None, None, max(1, math.prod(scan.geometry.shape) // _SAMPLE)))
    values = values.detach().double()
    ripple = (values[2:] - 2 * values[1:-1] + values[:-2]) ** 2 / 6
    typical = float((ripple * torch.exp(-values[1:-1])).median())
    return _MEDIAN / typical if typical > 0 else math.inf


def _reduced(scan: Scan, beam: Tensor, fraction: float, crosstalk: float, rng: torch.Generator) -> tuple[Tensor, int]:
    """Draw line integrals at the lower dose, view by view, and count those that less than one photon reached."""
    out, starved = scan.empty(*scan.geometry.shape), 0
    beam = beam.expand(scan.geometry.shape)
    for view in range(len(scan)):
        one = slice(view, view + 1)
        values = scan.block(one, slice(None)).detach().cpu().double()
        photons = beam[one] * torch.exp(-values)
        photons = fraction * photons + _missing(photons, scan.calibration.electronic, fraction, crosstalk, rng)
        line, few = logarithm(photons, fraction * beam[one])
        out[one], starved = line.to(out), starved + few
    return out, starved


def _missing(photons: Tensor, electronic: float, fraction: float, crosstalk: float, rng: torch.Generator) -> Tensor:
    """Draw the noise that scaled photons lack, with a mean of 0.

    Scaling by f leaves f² of the variances of quanta and electronics, where a scan of lower dose has f and 1: so
    f(1 - f) and 1 - f² are missing. The binomial distribution has the first and makes f·n + noise Poisson again.
    """
    whole = photons.round().clamp_min(0)
    thinned = torch.binomial(whole, torch.full_like(whole, fraction), generator=rng)
    noise = spread(thinned - fraction * whole, crosstalk)
    electrons = torch.randn(photons.shape, generator=rng, dtype=photons.dtype)
    return noise + electrons * math.sqrt(electronic * (1 - fraction**2))


def _beam(scan: Scan, incident: Tensor | None) -> Tensor:
    """Return the photons without an object, broadcastable to the scan, on the CPU in float64."""
    if incident is None:
        return torch.full((1, 1, 1), _stated(scan), dtype=torch.float64)
    beam = checks.all_finite("incident", checks.floating("incident", incident)).detach().cpu().double()
    try:
        torch.broadcast_to(beam, scan.geometry.shape)
    except RuntimeError as error:
        raise ShapeError(
            f"incident: expected a shape that broadcasts to (view, row, column) = {scan.geometry.shape}, got "
            f"{tuple(beam.shape)}"
        ) from error
    if not bool((beam > 0).all()):
        raise ConfigError(f"incident: expected photons above 0 per pixel, got {float(beam.min())}")
    return beam


def _stated(scan: Scan) -> float:
    try:
        return stated_photons(scan)
    except ConfigError as error:
        found = noise_photons(scan)
        if found is None or not 1 <= found <= 1e8:
            raise
        raise ConfigError(f"{error}; if what its views differ by is noise, they are about {found:.2g}") from None


def _check_fraction(fraction: float) -> None:
    if not 0 < checks.finite("fraction", fraction) <= 1:
        raise ConfigError(
            f"fraction: expected a share of the dose above 0 and up to 1, got {fraction}; 25 % is 0.25, and noise "
            "cannot be taken out of a scan by stating a higher dose"
        )


def _check_noise(scan: Scan, beam: Tensor) -> None:
    found, said = noise_photons(scan), float(beam.mean())
    if found is not None and found > _TOO_QUIET * said:
        raise ConfigError(
            f"scan: expected the noise of {said:g} photons per pixel, got that of {found:.3g} or more between its "
            "views; state the photons that it has, and if it has no noise, give it a dose in its simulation"
        )


def _check_even(scan: Scan, beam: Tensor) -> None:
    """Refuse a scan whose own weights say that the beam differs between columns; they come from its simulation."""
    if scan.weights is None:
        return
    flat = noise_weights(scan.values, beam.to(scan.values.device), scan.calibration.electronic)
    ratio = torch.where(scan.weights > 0, scan.weights / flat, torch.nan).flatten(0, 1).nanmedian(0).values
    ratio = ratio[~ratio.isnan()]
    least, most = (float(ratio.min()), float(ratio.max())) if len(ratio) else (1.0, 1.0)
    if not 1 / _UNEVEN <= least <= most <= _UNEVEN:
        raise ConfigError(
            f"weights: expected those of {float(beam.mean()):g} photons in every pixel, got {least:.3g} to {most:.3g} "
            "times them by column, as behind a bow-tie; pass incident=, the photons per column (Dose.incident), or "
            "drop weights that are none of noise"
        )
