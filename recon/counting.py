"""Moments of the logarithm of few photons: exact where the series in one over the photons fails, and the series."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import gammaln
from torch import Tensor

from recon import checks
from recon.errors import ConfigError

LEAST = 1.0  # photons: fewer cannot be turned into a line integral
_DIMMEST = 0.01  # mean photons at which the table begins; below, all values are one photon's or electronic noise
_BRIGHTEST = 1000.0  # mean photons where the series begins, if that is 40 electronic standard deviations or more
_KNOTS = 400
_NODES = 96  # of the Gauss-Legendre rule over 18 standard deviations
_NORMAL = 1e3  # electronic variance beside which quanta may as well be normally distributed

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Table:
    """What a detector makes of mean photons.

    Args:
        quanta: logarithms of mean detected photons, evenly spaced.
        counts: means of the photons it says, at least one each.
        bias: means of -ln(photons), less that of the mean photons.
        variance: variances of ln(photons).
        darker: the largest variance at so many photons or more.
    """

    quanta: Array
    counts: Array
    bias: Array
    variance: Array
    darker: Array


def log_moments(quanta: Tensor, electronic: float = 0.0) -> tuple[Tensor, Tensor]:
    """Return bias and variance of -ln(max(N, 1)), N a number of photons with electronic noise, exactly.

    Args:
        quanta: mean detected photons, above 0, any shape.
        electronic: variance of the electronic noise in photons squared.

    Returns:
        Mean above -ln(quanta) and variance, in float64, as many as the quanta, on their device. Sums over Poisson
        numbers of integrals over the normal noise up to 1000 photons, or 40 electronic standard deviations; the
        fourth order of the series beyond. Both agree with drawn noise to its sampling error from 0.1 photons on.

    Raises:
        ConfigError: quanta not above 0, or a negative electronic variance.
    """
    table, mean = _table(_checked(electronic)), _positive(quanta)
    x = np.log(mean)
    bias, variance = np.interp(x, table.quanta, table.bias), np.exp(np.interp(x, table.quanta, np.log(table.variance)))
    return _joined(quanta, x, table, mean, bias, electronic, 0), _joined(
        quanta, x, table, mean, variance, electronic, 1
    )


def cautious_variance(quanta: Tensor, electronic: float = 0.0) -> Tensor:
    """Return the variance of -ln(max(N, 1)), or the largest at more photons where that is larger.

    Of three photons and fewer many values are cut off at one photon, which makes them alike without making them right.

    Args, returns and raises as `log_moments`.
    """
    table, mean = _table(_checked(electronic)), _positive(quanta)
    x = np.log(mean)
    return _joined(quanta, x, table, mean, np.exp(np.interp(x, table.quanta, np.log(table.darker))), electronic, 1)


def quanta_behind(counts: Tensor, electronic: float = 0.0) -> Tensor:
    """Return the mean photons whose detected numbers, each taken as at least one, average to given counts.

    Args:
        counts: means of max(N, 1), any shape.
        electronic: variance of the electronic noise in photons squared.

    Returns:
        Mean photons from 0.01 on, float64, on the device of the counts.

    Raises:
        ConfigError: a negative electronic variance.
    """
    table, seen = _table(_checked(electronic)), counts.detach().double().cpu().numpy()
    found = np.where(seen < table.counts[-1], np.exp(np.interp(seen, table.counts, table.quanta)), seen)
    return torch.from_numpy(found).to(counts.device)


def _joined(
    quanta: Tensor, x: Array, table: _Table, mean: Array, tabled: Array, electronic: float, order: int
) -> Tensor:
    """Return tabled numbers, and those of the series beyond the table."""
    beyond = _series(np.maximum(mean, math.exp(table.quanta[-1])), electronic)[order]
    return torch.from_numpy(np.where(x < table.quanta[-1], tabled, beyond)).to(quanta.device)


def _series(mean: Array, electronic: float) -> tuple[Array, Array]:
    """Return bias and variance from moments of the relative deviation d of the photons, up to the fourth.

    E[ln(1 + d)] = -m2/2 + m3/3 - m4/4 and var = m2 - m3 + 11/12 m4 - m2²/4, where m4 = 3 m2² to this order.
    """
    second, third = 1 / mean + electronic / mean**2, 1 / mean**2
    return second / 2 - third / 3 + 0.75 * second**2, second - third + 2.5 * second**2


@lru_cache(maxsize=16)
def _table(electronic: float) -> _Table:
    sd = math.sqrt(electronic)
    x = np.linspace(math.log(_DIMMEST), math.log(max(_BRIGHTEST, 40 * sd)), _KNOTS)
    mean = np.exp(x)
    if electronic > _NORMAL:
        counts, first, second = _normal_moments(mean, np.sqrt(mean + electronic))
    else:
        numbers = np.arange(math.ceil(mean[-1] + 10 * math.sqrt(mean[-1])) + 1.0)
        share = np.exp(numbers * x[:, None] - mean[:, None] - gammaln(numbers + 1))
        counts, first, second = (share @ one for one in _normal_moments(numbers, np.full_like(numbers, sd)))
    variance = second - first**2
    darker = np.maximum.accumulate(variance[::-1])[::-1]
    return _Table(quanta=x, counts=counts, bias=x - first, variance=variance, darker=darker)


def _normal_moments(mean: Array, sd: Array) -> tuple[Array, Array, Array]:
    """Return the means of max(N, 1), its logarithm and its square, N normal of given means and deviations."""
    if not sd.any():
        logs = np.log(np.maximum(mean, LEAST))
        return np.maximum(mean, LEAST), logs, logs**2
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    low = np.maximum(mean - 9 * sd, LEAST)  # below it the logarithm is 0
    half = np.maximum(mean + 9 * sd - low, 0)[:, None] / 2
    number = low[:, None] + half * (nodes + 1)
    share = half * weights * np.exp(-(((number - mean[:, None]) / sd[:, None]) ** 2) / 2)
    share /= math.sqrt(2 * math.pi) * sd[:, None]
    logs = np.log(number)
    return LEAST + (share * (number - LEAST)).sum(1), (share * logs).sum(1), (share * logs**2).sum(1)


def _checked(electronic: float) -> float:
    if checks.finite("electronic", electronic) < 0:
        raise ConfigError(f"electronic: expected a variance of 0 or more in photons squared, got {electronic}")
    return float(electronic)


def _positive(quanta: Tensor) -> Array:
    mean: Array = checks.all_finite("quanta", quanta).detach().double().cpu().numpy()
    if not (mean > 0).all():
        raise ConfigError(f"quanta: expected mean photons above 0, got {mean.min()}")
    return mean
