"""How sharply edges are drawn: the modulation transfer of a disc's edge, at the disc's contrast and noise."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from recon import checks
from recon.errors import ConfigError, NumericalError, ShapeError
from recon.metrics.regions import slices

_FINE = 10  # bins of the edge per pixel
_POINTS = 256  # frequencies up to 1 / pixel
_SEEN = 3.0  # standard errors of the contrast below which there is no edge


@dataclass(frozen=True, kw_only=True, eq=False)
class EdgeTransfer:
    """A modulation or task transfer function with all that it rests on.

    Of a method that is not linear it holds only at this contrast and noise, for which it is called task transfer.

    Args:
        frequency: in 1/mm, from 0 to 1 / pixel.
        values: the transfer, 1 at frequency 0.
        contrast: mean of the disc's plateau minus that around it, in the unit of the images.
        noise: standard deviation of pixels on both plateaus of single images, in the unit of the images.
        images: how many images were averaged.
        spacing: size of a pixel (y, x) in mm.
        radius: of the disc in mm.
        half_width: of the edge's profile to each side in mm.
        unit: unit of the images.
    """

    frequency: Tensor
    values: Tensor
    contrast: float
    noise: float
    images: int
    spacing: tuple[float, float]
    radius: float
    half_width: float
    unit: str

    def at(self, level: float) -> float:
        """Return the first frequency in 1/mm at which the transfer falls to a level, such as 0.5.

        Raises:
            ConfigError: a level outside of 0 to 1.
            NumericalError: it stays above the level up to 1 / pixel.
        """
        if not 0 < checks.finite("level", level) < 1:
            raise ConfigError(f"level: expected a share between 0 and 1, such as 0.5, got {level}")
        below = (self.values <= level).nonzero()
        if len(below) == 0:
            raise NumericalError(
                f"level: expected the transfer to fall to {level:g} below {float(self.frequency[-1]):g}/mm, got "
                f"{float(self.values.min()):.3g} at least; take smaller pixels"
            )
        k = int(below[0])
        (f0, f1), (v0, v1) = self.frequency[k - 1 : k + 1].tolist(), self.values[k - 1 : k + 1].tolist()
        return float(f0 + (f1 - f0) * (v0 - level) / (v0 - v1))

    @property
    def f50(self) -> float:
        """The frequency at which half of the contrast is left, in 1/mm."""
        return self.at(0.5)

    @property
    def f10(self) -> float:
        """The frequency at which a tenth of the contrast is left, in 1/mm."""
        return self.at(0.1)

    def __str__(self) -> str:
        return (
            f"TTF of a {self.contrast:.4g} {self.unit} edge in {self.noise:.3g} {self.unit} noise ({self.images} "
            f"images, disc of radius {self.radius:g} mm, profile of ±{self.half_width:g} mm, pixels of "
            f"{self.spacing[0]:g} x {self.spacing[1]:g} mm)"
        )


def edge_transfer(
    images: Tensor,
    *,
    spacing: float | tuple[float, float],
    radius: float,
    half_width: float,
    centre: tuple[float, float] = (0.0, 0.0),
    unit: str = "HU",
) -> EdgeTransfer:
    """Return the transfer function at the edge of a disc, averaged over images of it.

    Pixels are sorted by their distance from the centre into bins of a tenth of a pixel, over all images; the profile
    is differentiated, windowed (flat over the inner half, then falling to 0 as a cosine) and transformed. What bins
    and differences blur is divided out; what pixels average is not. A disc blurred by a Gaussian of s mm has
    exp(−2π² s² f²). The edge's curvature changes this by about (s / radius)²; an error e of the centre multiplies it
    by J₀(2π e f). Noise that is left after averaging raises the values where the transfer is small.

    Args:
        images: of one disc with different noise, or a single one (..., y, x).
        spacing: size of a pixel (y, x) in mm, or one number for both.
        radius: of the disc in mm, more than `half_width`.
        half_width: how far the profile reaches to each side of the edge, in mm; the edge's blur must end within half
            of it, and nothing else may lie in it. Its outer halves give contrast and noise.
        centre: of the disc (y, x) in mm from the centre of the image.
        unit: unit of the images.

    Raises:
        ConfigError: lengths that are not above 0, or a profile that reaches the centre or is shorter than 4 pixels.
        ShapeError: a profile that leaves the image, or distances of which no pixel has one.
        NumericalError: NaN or Inf, or a contrast within 3 of its standard errors, such as that of constant images.

    Source:
        Richard, Husarik, Yadava, Murphy and Samei 2012, Medical Physics 39(7): 4115-4122; ICRU Report 87 (2012).
    """
    dy, dx = checks.lengths("spacing", spacing, 2)
    radius, half_width = checks.positive("radius", radius), checks.positive("half_width", half_width)
    if not 4 * max(dy, dx) <= half_width < radius:
        raise ConfigError(
            f"half_width: expected {4 * max(dy, dx):g} mm (4 pixels) or more and less than the radius of {radius:g} "
            f"mm, got {half_width:g}"
        )
    images = slices("images", images)
    images = images.reshape(-1, *images.shape[-2:])
    distance = _distance(images, (dy, dx), checks.position("centre", centre, 2), radius + half_width)
    near = (distance - radius).abs() <= half_width
    offset, values = distance[near] - radius, images[:, near]
    contrast, noise = _plateaus(offset, values, half_width)
    width = min(dy, dx) / _FINE
    edge = _profile(offset, values.mean(dim=0), half_width, width)
    frequency = torch.linspace(0, 1 / max(dy, dx), _POINTS + 1, dtype=torch.float64, device=edge.device)
    return EdgeTransfer(
        frequency=frequency,
        values=_transfer(edge, width, half_width, frequency),
        contrast=contrast,
        noise=noise,
        images=len(images),
        spacing=(dy, dx),
        radius=radius,
        half_width=half_width,
        unit=unit,
    )


def _distance(images: Tensor, spacing: tuple[float, float], centre: tuple[float, ...], reach: float) -> Tensor:
    """Return the distance of all pixels (y, x) from the centre in mm, if all within reach are in the image."""
    axes = []
    for name, n, step, middle in zip("yx", images.shape[-2:], spacing, centre, strict=True):
        if n * step / 2 - abs(middle) < reach:
            raise ShapeError(
                f"images: expected {reach:g} mm around the centre, radius and half_width, got "
                f"{n * step / 2 - abs(middle):g} along {name}; take a narrower profile or a larger image"
            )
        at = torch.arange(n, dtype=torch.float64, device=images.device) - (n - 1) / 2
        axes.append(at * step - middle)
    return torch.hypot(axes[0][:, None], axes[1][None, :])


def _plateaus(offset: Tensor, values: Tensor, half_width: float) -> tuple[float, float]:
    """Return contrast and noise of the profile's outer halves; values are (image, pixel)."""
    sides = [values[:, offset < -half_width / 2], values[:, offset > half_width / 2]]
    variances = [float(side.var()) for side in sides]
    contrast = float(sides[0].mean() - sides[1].mean())
    error = math.sqrt(sum(v / side.numel() for v, side in zip(variances, sides, strict=True)))
    scale = float(values.abs().max())
    if not abs(contrast) > max(_SEEN * error, 1e-9 * scale):
        raise NumericalError(
            f"images: expected an edge, got a contrast of {contrast:.3g} with a standard error of {error:.3g}; check "
            "centre and radius, or average more images"
        )
    return contrast, math.sqrt(sum(variances) / 2)


def _profile(offset: Tensor, values: Tensor, half_width: float, width: float) -> Tensor:
    """Return the edge spread function in the middle of even bins, between the means of what pixels fall into each."""
    bins = 2 * int(half_width / width)
    at = ((offset + bins * width / 2) / width).floor().long().clamp(0, bins - 1)
    sums = torch.zeros(3, bins, dtype=torch.float64, device=values.device)
    sums.index_add_(1, at, torch.stack([torch.ones_like(offset), offset, values]))
    filled = sums[0] > 0
    if float(filled.double().mean()) < 0.5:
        raise ShapeError(
            f"images: expected pixels at most distances from the centre, got {int(filled.sum())} of {bins} bins of "
            f"{width:g} mm filled; take a larger disc or smaller pixels"
        )
    place, mean = (sums[1:] / sums[0])[:, filled]
    even = (torch.arange(bins, dtype=torch.float64, device=values.device) - (bins - 1) / 2) * width
    right = torch.searchsorted(place, even).clamp(1, len(place) - 1)
    share = (even - place[right - 1]) / (place[right] - place[right - 1])
    edge: Tensor = mean[right - 1] + share * (mean[right] - mean[right - 1])
    return edge


def _transfer(edge: Tensor, width: float, half_width: float, frequency: Tensor) -> Tensor:
    """Return the modulus of the transform of the profile's slope, 1 at 0, without the blur of bins and differences."""
    slope = edge.diff()
    at = (torch.arange(len(slope), dtype=torch.float64, device=edge.device) - (len(slope) - 1) / 2) * width
    taper = ((at.abs() / half_width - 0.5) / 0.5).clamp(0, 1)
    line = slope * (0.5 + 0.5 * torch.cos(math.pi * taper))
    turned = 2 * math.pi * frequency[:, None] * at
    size = torch.hypot(torch.cos(turned) @ line, torch.sin(turned) @ line)
    found: Tensor = size / size[0] / torch.sinc(width * frequency).square()
    return found
