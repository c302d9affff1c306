"""Can a known signal be told from noise? The channelised Hotelling observer, its detectability and its interval."""

import math
from dataclasses import dataclass

import torch
from scipy.special import chdtri, ncfdtr, ndtr
from torch import Tensor

from recon import checks
from recon.errors import ConfigError, NumericalError, ShapeError
from recon.metrics.regions import slices

_SINGULAR = 1e-12  # least eigenvalue of the channels' correlations that can be inverted
_STEPS = 200  # halvings at most
_CLOSE = 1e-9  # of the noncentrality
_LARGE = 1e7  # noncentrality above which only the spread of the covariance matters, to 1/√1e7


@dataclass(frozen=True, kw_only=True)
class Detectability:
    """How well an observer tells images with a signal from others, with the interval of it.

    Args:
        value: detectability d', the distance of the observer's means in standard deviations; without a unit.
        low: lower end of its interval.
        high: upper end.
        level: share of intervals that would hold the truth if there were many ensembles.
        present: images with the signal.
        absent: images without it.
        channels: how many channels the observer has.
    """

    value: float
    low: float
    high: float
    level: float
    present: int
    absent: int
    channels: int

    @property
    def auc(self) -> tuple[float, float, float]:
        """The area under the ROC curve Φ(d'/√2), and both ends of its interval."""
        value, low, high = (float(ndtr(d / math.sqrt(2))) for d in (self.value, self.low, self.high))
        return value, low, high

    def __str__(self) -> str:
        area, least, most = self.auc
        return (
            f"d' {self.value:.4g} ({100 * self.level:g} % interval {self.low:.4g} to {self.high:.4g}), AUC {area:.4g} "
            f"({least:.4g} to {most:.4g}) by {self.channels} channels from {self.present} images with the signal and "
            f"{self.absent} without"
        )


def hotelling(present: Tensor, absent: Tensor, channels: Tensor, *, level: float = 0.95) -> Detectability:
    """Return the detectability of a signal by a channelised Hotelling observer, with its exact interval.

    With S the pooled covariance of the channels' responses and v the difference of their means, d'² = vᵀ S⁻¹ v. From
    m and n images this follows Fisher's noncentral distribution if responses are normal with one covariance: with p
    channels, (m + n − p − 1) m n / (p (m + n) (m + n − 2)) d'² has p and m + n − p − 1 degrees of freedom and the
    noncentrality m n d'² / (m + n). The interval inverts it; the value is the noncentrality of which half of all
    ensembles give less, which takes off the bias of few images. No observer is trained on one part and tested on
    another, so that all images count. It is the observer's without internal noise: an upper bound for humans.

    Args:
        present: images with the signal at a known place (..., y, x), each with noise of its own.
        absent: images without it (..., y, x), with other noise of the same kind: noise that both share makes the
            interval wrong.
        channels: (channel, y, x), from `laguerre_gauss` or `gabor`; their scale does not matter.
        level: confidence, between 0 and 1.

    Raises:
        ConfigError: a level that is no share.
        ShapeError: sizes that differ, or fewer than channels + 2 images.
        NumericalError: NaN or Inf; responses that do not vary, as in constant images, or depend on each other.

    Source:
        Wunderlich, Noo, Gallas and Heilbrun 2015, IEEE Transactions on Medical Imaging 34(2): 453-464; median of the
        noncentral distribution as the value.
    """
    if not 0 < checks.finite("level", level) < 1:
        raise ConfigError(f"level: expected a share between 0 and 1, such as 0.95, got {level}")
    with_signal, without = (_responses(n, i, channels) for n, i in (("present", present), ("absent", absent)))
    m, n, p = len(with_signal), len(without), with_signal.shape[1]
    free = m + n - p - 1
    if min(m, n) < 2 or free < 1:
        raise ShapeError(
            f"present, absent: expected 2 or more images each and {p + 2} or more in all for {p} channels, got {m} and "
            f"{n}; take more images or fewer channels"
        )
    scale = m * n / (m + n)
    ratio = _squared_distance(with_signal, without) * scale * free / (p * (m + n - 2))
    shares = (0.5, (1 + level) / 2, (1 - level) / 2)
    value, low, high = (math.sqrt(_noncentrality(ratio, p, free, share) / scale) for share in shares)
    return Detectability(value=value, low=low, high=high, level=level, present=m, absent=n, channels=p)


def _responses(name: str, images: Tensor, channels: Tensor) -> Tensor:
    """Return what each channel gives for each image (image, channel)."""
    images, channels = slices(name, images), slices("channels", channels)
    if channels.ndim != 3 or images.shape[-2:] != channels.shape[1:]:
        raise ShapeError(
            f"{name}, channels: expected images (..., y, x) and channels (channel, y, x) of one size, got "
            f"{tuple(images.shape)} and {tuple(channels.shape)}"
        )
    return images.reshape(-1, images.shape[-2] * images.shape[-1]) @ channels.to(images.device).flatten(1).T


def _squared_distance(a: Tensor, b: Tensor) -> float:
    """Return vᵀ S⁻¹ v of two samples (image, channel), each channel scaled to variance 1 first."""
    b = b.to(a.device)
    left = torch.cat([a - a.mean(dim=0), b - b.mean(dim=0)])
    spread = left.square().sum(dim=0).div(len(left) - 2).sqrt()
    largest = torch.cat([a, b]).abs().amax(dim=0)
    if bool((spread <= 1e-9 * largest).any()):
        still = int((spread <= 1e-9 * largest).nonzero()[0])
        raise NumericalError(
            f"present, absent: expected noise, got responses of channel {still} that do not vary; take noisy images"
        )
    left = left / spread
    values, vectors = torch.linalg.eigh(left.T @ left / (len(left) - 2))
    if float(values[0]) < _SINGULAR * float(values[-1]):
        raise NumericalError(
            f"channels: expected responses independent of each other, got correlations with eigenvalues from "
            f"{float(values[0]):.2g} to {float(values[-1]):.2g}; take fewer channels"
        )
    between = vectors.T @ ((a.mean(dim=0) - b.mean(dim=0)) / spread)
    return float((between.square() / values).sum())


def _noncentrality(ratio: float, p: int, free: int, share: float) -> float:
    """Return the noncentrality at which a share of ratios lies below this one, 0 where there is none."""
    if ratio <= 0 or ncfdtr(p, free, 0.0, ratio) <= share:
        return 0.0
    if p * ratio > _LARGE:
        return float(p * ratio * chdtri(free, share) / free)
    low, high = 0.0, max(1.0, p * ratio)
    while ncfdtr(p, free, high, ratio) > share:
        low, high = high, 2 * high
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if ncfdtr(p, free, middle, ratio) > share else (low, middle)
        if high - low <= _CLOSE * high:
            break
    return (low + high) / 2
