"""Means with 95 % intervals: over noise draws and few cases by Student's distribution, over more by the bootstrap."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from scipy.special import stdtrit

from recon.metrics import Interval, paired_change

_LEVEL: Final = 0.95
NAN: Final = math.nan

#: Cases from which on a bootstrap over them is worth its name; of fewer it is far too narrow.
FEWEST: Final = 5


@dataclass(frozen=True, kw_only=True)
class Mean:
    """A mean and the ends of its interval, NaN where there is none."""

    mean: float
    low: float = NAN
    high: float = NAN


def over_draws(values: Sequence[float]) -> Mean:
    """Return the mean over noise draws; a single draw has no interval."""
    count = len(values)
    if count == 0 or not all(math.isfinite(value) for value in values):
        return Mean(mean=NAN)
    mean = math.fsum(values) / count
    if count == 1:
        return Mean(mean=mean)
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))
    half = float(stdtrit(count - 1, (1 + _LEVEL) / 2)) * spread / math.sqrt(count)
    return Mean(mean=mean, low=mean - half, high=mean + half)


def over_cases(means: Sequence[float], *, seed: int) -> Mean:
    """Return the mean over cases with its interval; a method without a number of each case has neither.

    A mean over other cases than those of the next line would compare cases, not methods. Two cases give no interval.
    """
    if len(means) == 0 or not all(math.isfinite(mean) for mean in means):
        return Mean(mean=NAN)
    if len(means) < 3:
        return Mean(mean=math.fsum(means) / len(means))  # of two, Student's interval says nothing
    if len(means) < FEWEST:
        return over_draws(means)
    found = paired_change(means, [0.0] * len(means), seed=seed)
    return Mean(mean=found.value, low=found.low, high=found.high)


def relative_change(values: Sequence[float], baseline: Sequence[float], *, seed: int) -> Interval:
    """Return the mean relative change over paired cases, two or more, with its interval."""
    if len(values) >= FEWEST:
        return paired_change(values, baseline, seed=seed, relative=True)
    level = math.fsum(baseline) / len(baseline)
    found = over_draws([(mine - theirs) / level for mine, theirs in zip(values, baseline, strict=True)])
    return Interval(value=found.mean, low=found.low, high=found.high, level=_LEVEL, cases=len(values), relative=True)
