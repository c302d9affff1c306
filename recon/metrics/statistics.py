"""Is one method better than another? Paired differences over the same cases, with an interval."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from scipy.special import ndtr, stdtrit
from torch import Tensor

from recon import checks
from recon.errors import ConfigError, NumericalError, ShapeError
from recon.random import generator

_AT_ONCE = 1 << 22  # cases drawn at once


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean change with the interval that a bootstrap over cases gives.

    Args:
        value: the change over all cases.
        low: lower end.
        high: upper end.
        level: share of intervals that would hold the truth if there were many cases.
        cases: how many cases there are.
        relative: whether it is a share of the baseline rather than a difference.
    """

    value: float
    low: float
    high: float
    level: float
    cases: int
    relative: bool

    def __str__(self) -> str:
        scale, unit = (100, " %") if self.relative else (1, "")
        value, low, high = (f"{scale * number:+.3g}{unit}" for number in (self.value, self.low, self.high))
        return f"{value} ({100 * self.level:g} % interval {low} to {high}, {self.cases} cases)"


def paired_change(
    values: Sequence[float] | Tensor,
    baseline: Sequence[float] | Tensor,
    *,
    seed: int,
    relative: bool = False,
    level: float = 0.95,
    resamples: int = 10_000,
) -> Interval:
    """Return the mean change from a baseline with its paired bootstrap interval (expanded percentiles).

    Cases are drawn with replacement, both methods' numbers of a case together. A case is what could have been another
    one, such as a patient: average over its slices and noise seeds first. Plain percentiles are too narrow with few
    cases; these are moved out as far as Student's distribution lies outside the normal one: of the intervals at 95 %,
    91 % hold the truth with 5 cases and 95 % with 10 (normal differences; plain percentiles 83 % and 91 %).

    Args:
        values: numbers of the method, one per case.
        baseline: numbers of the baseline on the same cases, in the same order.
        seed: of the draws.
        relative: return mean(values) / mean(baseline) − 1 instead of the mean of the differences.
        level: confidence, between 0 and 1.
        resamples: how many times all cases are drawn.

    Raises:
        ShapeError: numbers of cases that differ, or fewer than 2.
        NumericalError: NaN or Inf, such as the PSNR of equal images.
        ConfigError: a level or number of resamples that means nothing, or a relative change of a baseline that is not
            above zero in every case.

    Source:
        Hesterberg 2015, The American Statistician 69(4): 371-386 (expanded percentile interval).
    """
    pairs = torch.stack(_cases(values, baseline))
    if not 0 < checks.finite("level", level) < 1:
        raise ConfigError(f"level: expected a share between 0 and 1, such as 0.95, got {level}")
    checks.counts("resamples", (resamples,), 1)
    if relative and not bool((pairs[1] > 0).all()):
        raise ConfigError("relative: expected a baseline above 0 in every case, got 0 or less; take the difference")
    change = _relative if relative else _difference
    drawn = _drawn(pairs, change, resamples, generator(seed))
    tail = _tail(level, pairs.shape[1])
    low, high = torch.quantile(drawn, torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    value = float(change(pairs.mean(dim=1)))
    return Interval(value=value, low=low, high=high, level=level, cases=pairs.shape[1], relative=relative)


def _cases(values: Sequence[float] | Tensor, baseline: Sequence[float] | Tensor) -> list[Tensor]:
    numbers = [torch.as_tensor(each, dtype=torch.float64).cpu() for each in (values, baseline)]
    if numbers[0].ndim != 1 or numbers[0].shape != numbers[1].shape or len(numbers[0]) < 2:
        raise ShapeError(
            "values, baseline: expected one number per case, of the same 2 or more cases, got "
            f"{tuple(numbers[0].shape)} and {tuple(numbers[1].shape)}"
        )
    for name, each in zip(("values", "baseline"), numbers, strict=True):
        if not bool(each.isfinite().all()):
            at = int((~each.isfinite()).nonzero()[0])
            raise NumericalError(f"{name}: expected finite numbers, got {float(each[at])} in case {at}; leave it out")
    return numbers


def _tail(level: float, cases: int) -> float:
    """Return the share of draws below an interval: that of Student's quantile, with the spread of draws mended."""
    quantile = stdtrit(cases - 1, (1 - level) / 2)
    return float(ndtr(quantile * math.sqrt(cases / (cases - 1))))


def _drawn(pairs: Tensor, change: Callable[[Tensor], Tensor], resamples: int, source: torch.Generator) -> Tensor:
    """Return the change in each resample."""
    cases = pairs.shape[1]
    parts, left = [], resamples
    while left:
        some = min(left, max(1, _AT_ONCE // cases))
        at = torch.randint(cases, (some, cases), generator=source)
        parts.append(change(pairs[:, at].mean(dim=-1)))
        left -= some
    return torch.cat(parts)


def _difference(means: Tensor) -> Tensor:
    return means[0] - means[1]


def _relative(means: Tensor) -> Tensor:
    return means[0] / means[1] - 1
