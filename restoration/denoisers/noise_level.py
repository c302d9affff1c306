"""How noisy is an image? One number from the image alone, the same for tuning, training and use."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, minimum_filter
from torch import Tensor

from recon import checks
from recon.errors import ShapeError

_SMOOTH = 2.0  # pixels; noise of CT is finer than this, most of anatomy is coarser
_BODY = -500.0  # HU; air carries less noise than what is to be denoised
_MARGIN = 13  # pixels; the Gaussian sees the surface of the body from half of them
_LEAST = 0.01  # share of the pixels that the body must fill to be asked alone
_MEDIAN = 0.6744897501960817  # of the magnitude of a standard normal number


def noise_level(image: Tensor) -> float:
    """Estimate the standard deviation of the noise inside the body, in HU.

    It is the median magnitude of what a Gaussian of 2 pixels takes away, scaled so that white noise is told exactly;
    coarse noise is told too low, and texture counts as noise.

    Args:
        image: HU, (z, y, x) or (y, x).

    Raises:
        ShapeError: an image that is not of floating point, or has other axes.
        NumericalError: NaN or Inf.

    Source:
        The median as a robust scale of details: Donoho and Johnstone 1994, Biometrika 81(3): 425-455, section 2.
    """
    if checks.all_finite("image", checks.floating("image", image)).ndim not in (2, 3):
        raise ShapeError(f"image: expected (z, y, x) or (y, x), got {tuple(image.shape)}")
    planes = image.detach().cpu().double().reshape(-1, *image.shape[-2:]).numpy()
    smooth = gaussian_filter(planes, (0, _SMOOTH, _SMOOTH), mode="nearest")
    inside = minimum_filter(smooth > _BODY, (1, _MARGIN, _MARGIN))
    details = np.abs(planes - smooth)
    median = np.median(details[inside] if inside.mean() >= _LEAST else details)
    return float(median) / (_MEDIAN * _gain())


def _gain() -> float:
    """Return the share of the standard deviation of white noise that the details keep."""
    point: NDArray[np.float64] = np.zeros((33, 33))
    point[16, 16] = 1
    return math.sqrt(float(np.square(point - gaussian_filter(point, _SMOOTH)).sum()))
