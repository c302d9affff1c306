"""How noise is distributed over spatial frequencies: the noise power spectrum (NPS), in two dimensions and radial."""

import math
from dataclasses import dataclass
from typing import Final, Literal

import torch
from torch import Tensor

from recon import checks
from recon.errors import NumericalError, ShapeError
from recon.metrics.regions import slices

#: What is taken off each region: its mean, a polynomial fitted to it, or the mean of all regions pixel by pixel.
Detrend = Literal["mean", "plane", "quadratic", "ensemble"]

_TERMS: Final = {"mean": 1, "plane": 3, "quadratic": 6, "ensemble": 0}


@dataclass(frozen=True, kw_only=True, eq=False)
class RadialNoise:
    """A noise power spectrum averaged over rings.

    Args:
        frequency: mean frequency of each ring, in 1/mm.
        values: mean of the spectrum over it, in unit² mm².
        samples: frequencies of the two-dimensional spectrum in it.
        unit: unit of the images.
    """

    frequency: Tensor
    values: Tensor
    samples: Tensor
    unit: str

    @property
    def mean_frequency(self) -> float:
        """The mean frequency in 1/mm, weighted with the spectrum.

        Raises:
            NumericalError: no noise at all.
        """
        total = self.values.sum()
        if not total > 0:
            raise NumericalError("mean_frequency: expected noise, got a spectrum of 0; constant regions have none")
        return float((self.frequency * self.values).sum() / total)

    @property
    def peak_frequency(self) -> float:
        """The frequency of the largest value, in 1/mm.

        Raises:
            NumericalError: no noise at all.
        """
        if not self.values.max() > 0:
            raise NumericalError("peak_frequency: expected noise, got a spectrum of 0; constant regions have none")
        return float(self.frequency[self.values.argmax()])


@dataclass(frozen=True, kw_only=True, eq=False)
class NoisePower:
    """A noise power spectrum with all that it rests on.

    Args:
        values: the spectrum (y, x) in unit² mm², frequency 0 first, as `torch.fft.fftfreq` orders it.
        spacing: size of a pixel (y, x) in mm.
        detrend: what was taken off each region.
        regions: how many regions were averaged.
        unit: unit of the images.
    """

    values: Tensor
    spacing: tuple[float, float]
    detrend: Detrend
    regions: int
    unit: str

    @property
    def frequencies(self) -> tuple[Tensor, Tensor]:
        """Frequencies along y and x, in 1/mm."""
        pairs = zip(self.values.shape, self.spacing, strict=True)
        y, x = (torch.fft.fftfreq(n, step, dtype=torch.float64, device=self.values.device) for n, step in pairs)
        return y, x

    @property
    def variance(self) -> float:
        """The integral over all frequencies: the variance of the detrended regions, in unit²."""
        ny, nx = self.values.shape
        return float(self.values.sum()) / (ny * self.spacing[0] * nx * self.spacing[1])

    def radial(self, *, width: float | None = None) -> RadialNoise:
        """Return the mean over rings up to the smaller of the two Nyquist frequencies.

        Frequency 0 is left out, as detrending takes it off; so are the corners beyond the Nyquist frequency.

        Args:
            width: of a ring in 1/mm; None for the larger of the two steps of the spectrum. Empty rings are left out.

        Raises:
            ConfigError: a width that is not above 0.
            ShapeError: no frequency between 0 and the Nyquist frequency.
        """
        y, x = self.frequencies
        radius = torch.hypot(y[:, None], x[None, :])
        steps = [1 / (n * step) for n, step in zip(self.values.shape, self.spacing, strict=True)]
        width = max(steps) if width is None else checks.positive("width", width, unit="1/mm")
        kept = (radius > 0) & (radius <= 0.5 / max(self.spacing) * (1 + 1e-9))
        if not bool(kept.any()):
            raise ShapeError(f"values: expected regions of 2 × 2 pixels or more, got {tuple(self.values.shape)}")
        ring = (radius[kept] / width).round().long()
        sums = torch.zeros(3, int(ring.max()) + 1, dtype=torch.float64, device=ring.device)
        sums.index_add_(1, ring, torch.stack([torch.ones_like(radius[kept]), radius[kept], self.values[kept]]))
        samples, frequency, values = sums[:, sums[0] > 0]
        return RadialNoise(
            frequency=frequency / samples, values=values / samples, samples=samples.long(), unit=self.unit
        )

    def __str__(self) -> str:
        (dy, dx), (ny, nx) = self.spacing, self.values.shape
        return (
            f"NPS of {math.sqrt(self.variance):.4g} {self.unit} noise ({self.regions} regions of {ny} x {nx} pixels of "
            f"{dy:g} x {dx:g} mm, {self.detrend} taken off)"
        )


def noise_power(
    regions: Tensor, *, spacing: float | tuple[float, float], detrend: Detrend = "mean", unit: str = "HU"
) -> NoisePower:
    """Return the noise power spectrum of an ensemble of regions: mean |DFT|² dy dx / (ny nx), in unit² mm².

    White noise of variance σ² has σ² dy dx at all frequencies, apart from those that detrending takes off: 0 by the
    mean, low ones in part by a polynomial. The integral over all frequencies is the variance of what is left
    (Parseval). "ensemble" takes off what is the same in all regions, such as structure in repeated scans, and divides
    by 1 − 1/regions for what noise it takes along. Constant regions have a spectrum of 0.

    Args:
        regions: the same part of repeated scans, or uniform parts of one (..., y, x); see `noise_regions`.
        spacing: size of a pixel (y, x) in mm, or one number for both.
        detrend: "mean", "plane" or "quadratic" of each region, or "ensemble".
        unit: unit of the images.

    Raises:
        ConfigError: a spacing that is not above 0, or an unknown detrending.
        ShapeError: less than 2 × 2 pixels or than the polynomial has terms, or "ensemble" of a single region.
        NumericalError: NaN or Inf.

    Source:
        Siewerdsen, Cunningham and Jaffray 2002, Medical Physics 29(11): 2655-2671; ICRU Report 87 (2012).
    """
    dy, dx = checks.lengths("spacing", spacing, 2)
    checks.choice("detrend", detrend, tuple(_TERMS))
    noise = slices("regions", regions)
    noise = noise.reshape(-1, *noise.shape[-2:])
    count, ny, nx = noise.shape
    if min(ny, nx) < 2 or (detrend == "quadratic" and min(ny, nx) < 3):
        raise ShapeError(f"regions: expected 2 × 2 pixels or more, 3 × 3 for quadratic, got {ny} × {nx}")
    if detrend == "ensemble" and count < 2:
        raise ShapeError('regions: expected 2 or more for "ensemble", got 1; take off the mean or a plane instead')
    power = torch.fft.fft2(_detrended(noise, detrend)).abs().square().mean(dim=0)
    return NoisePower(values=power * (dy * dx / (ny * nx)), spacing=(dy, dx), detrend=detrend, regions=count, unit=unit)


def noise_regions(image: Tensor, *, size: int, step: int | None = None, mask: Tensor | None = None) -> Tensor:
    """Return all squares of an image that lie in a mask (region, y, x), in float64.

    Args:
        image: (..., y, x).
        size: pixels along each side.
        step: pixels from one square to the next; None for half their side, as overlapping ones use the data better.
        mask: True where the object is uniform (y, x), or None for all.

    Raises:
        ConfigError: a size or step that is no whole number above 0.
        ShapeError: no square fits.
        NumericalError: NaN or Inf.
    """
    checks.counts("size", (size,), 1)
    step = max(1, size // 2) if step is None else checks.counts("step", (step,), 1)[0]
    image = slices("image", image)
    if size > min(image.shape[-2:]):
        raise ShapeError(f"size: expected at most {min(image.shape[-2:])} pixels, the image's side, got {size}")
    squares = image.unfold(-2, size, step).unfold(-2, size, step).flatten(-4, -3)
    if mask is None:
        return squares.reshape(-1, size, size)
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool or mask.shape != image.shape[-2:]:
        raise ShapeError(f"mask: expected booleans {tuple(image.shape[-2:])}, got {getattr(mask, 'shape', mask)}")
    inside = mask.to(image.device).unfold(-2, size, step).unfold(-2, size, step).flatten(-2).all(dim=-1).flatten()
    if not bool(inside.any()):
        raise ShapeError(f"mask: expected room for a square of {size} pixels, got none; take smaller ones or steps")
    return squares[..., inside, :, :].reshape(-1, size, size)


def _detrended(noise: Tensor, detrend: Detrend) -> Tensor:
    """Return regions (region, y, x) without their trend."""
    count, ny, nx = noise.shape
    if detrend == "ensemble":
        return (noise - noise.mean(dim=0)) / math.sqrt(1 - 1 / count)
    y, x = (torch.linspace(-1, 1, n, dtype=torch.float64, device=noise.device) for n in (ny, nx))
    y, x = (each.flatten() for each in torch.meshgrid(y, x, indexing="ij"))
    powers = torch.stack([torch.ones_like(y), y, x, y * x, y * y, x * x][: _TERMS[detrend]], dim=1)
    basis = torch.linalg.qr(powers).Q
    # The mean goes first, so that regions that are constant give 0 and not the rounding of their level.
    flat = (noise - noise.mean(dim=(-2, -1), keepdim=True)).flatten(1)
    left: Tensor = flat - (flat @ basis) @ basis.T
    return left.reshape(noise.shape)
