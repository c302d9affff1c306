"""What regions of an image say without a reference: contrast to noise, uniformity, level of streaks."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from recon import checks
from recon.errors import ConfigError, ShapeError

_EULER = 0.5772156649015329
_LEAST_LINES = 8  # fewer give no distribution


def cnr(image: Tensor, *, signal: Tensor, background: Tensor) -> float:
    """Return the contrast-to-noise ratio |mean(signal) − mean(background)| / deviation(background).

    The deviation is that of a sample within the background of each image; means and variances are averaged over the
    leading axes. Where the background is constant, equal means give 0 and others infinity.

    Args:
        image: (..., y, x), in HU or any unit.
        signal: True on the insert, away from its edge; of the shape of the last axes.
        background: True on the background, at least 2 pixels that share none with the signal.

    Raises:
        ConfigError: regions that overlap.
        ShapeError: masks that are not boolean, do not fit or hold too little.
        NumericalError: NaN or Inf.

    Source:
        Samei et al. 2019, Medical Physics 46(11): e735-e756 (AAPM Task Group 233).
    """
    image = slices("image", image)
    inside, outside = region("signal", signal, image), region("background", background, image, least=2)
    if signal.shape == background.shape and bool((signal & background.to(signal.device)).any()):
        raise ConfigError("signal, background: expected regions apart, got pixels in both; take these out of one")
    contrast = abs(float(inside.mean() - outside.mean()))
    noise = math.sqrt(float(outside.var(dim=-1).mean()))
    if noise == 0:
        return math.inf if contrast else 0.0
    return contrast / noise


def uniformity(image: Tensor, *, centre: Tensor, periphery: Sequence[Tensor]) -> float:
    """Return the largest |mean(peripheral region) − mean(central region)|, in the unit of the image; 0 is best.

    Means are averaged over the leading axes first.

    Args:
        image: (..., y, x) of a uniform object.
        centre: True on the central region; of the shape of the last axes.
        periphery: one such mask for each peripheral region, usually four near the rim.

    Raises:
        ConfigError: no peripheral region.
        ShapeError: masks that are not boolean, do not fit or are False everywhere.
        NumericalError: NaN or Inf.

    Source:
        IEC 61223-3-5:2019, uniformity of CT numbers.
    """
    image = slices("image", image)
    if not isinstance(periphery, Sequence) or not periphery:
        raise ConfigError(
            f"periphery: expected a sequence of one mask for each region, got {type(periphery).__name__}; for a single "
            "region give [mask]"
        )
    middle = region("centre", centre, image).mean()
    return max(abs(float(region("periphery", mask, image).mean() - middle)) for mask in periphery)


def streak_level(image: Tensor, *, along: Literal["y", "x"]) -> float:
    """Return the location of Gumbel's distribution of the largest steps across streaks, in the unit of the image.

    On each line across the streaks the largest |difference| of neighbouring pixels is taken; the location of these
    is L₁ − 0.577 L₂ / ln 2 by their first two L-moments. Noise raises the level as well: compare it with that of a
    region of equal size and noise without streaks. Longer lines find larger steps. A constant region has level 0.

    Args:
        image: a rectangle of a uniform object (..., y, x), across which the streaks run, at least 8 lines in all.
        along: the axis along which streaks run; lines are taken along the other one.

    Raises:
        ConfigError: another axis.
        ShapeError: fewer than 8 lines, or lines of one pixel.
        NumericalError: NaN or Inf.

    Source:
        Imai et al. 2007, British Journal of Radiology 80(959): 911-918; Hosking 1990, Journal of the Royal
        Statistical Society B 52(1): 105-124 (L-moments).
    """
    checks.choice("along", along, ("y", "x"))
    image = slices("image", image)
    lines = (image if along == "y" else image.mT).flatten(0, -2)
    if lines.shape[0] < _LEAST_LINES or lines.shape[1] < 2:
        raise ShapeError(
            f"image: expected at least {_LEAST_LINES} lines of 2 or more pixels across streaks along {along}, got "
            f"{tuple(lines.shape)}; take a larger rectangle"
        )
    steps = lines.diff(dim=-1).abs().amax(dim=-1).sort().values
    n = len(steps)
    ranks = torch.arange(n, dtype=steps.dtype, device=steps.device) / (n - 1)
    first = steps.mean()
    second = 2 * (ranks * steps).mean() - first
    return float(first - _EULER / math.log(2) * second)


def slices(name: str, image: Tensor) -> Tensor:
    """Return images (..., y, x) in float64.

    Raises:
        ShapeError: another type, fewer than two axes or nothing in them.
        NumericalError: NaN or Inf.
    """
    checks.all_finite(name, checks.floating(name, image))
    if image.ndim < 2 or image.numel() == 0:
        raise ShapeError(f"{name}: expected images (..., y, x) with something in them, got {tuple(image.shape)}")
    return image.detach().double()


def region(name: str, mask: Tensor, image: Tensor, *, least: int = 1) -> Tensor:
    """Return the values of a region (..., value); the mask's axes are the last of the image.

    Raises:
        ShapeError: a mask that is not boolean, does not fit or holds too few values.
    """
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        kind = getattr(mask, "dtype", type(mask).__name__)
        raise ShapeError(f"{name}: expected a tensor of booleans, got {kind}")
    if mask.ndim < 1 or tuple(mask.shape) != tuple(image.shape[max(0, image.ndim - mask.ndim) :]):
        raise ShapeError(f"{name}: expected the last axes of {tuple(image.shape)}, got {tuple(mask.shape)}")
    if int(mask.sum()) < least:
        raise ShapeError(f"{name}: expected {least} or more pixels in the region, got {int(mask.sum())}; widen it")
    return image[..., mask.to(image.device)]
