"""How close an image is to a reference."""

import math
from typing import Final, Literal

import torch
from torch import Tensor

from recon.errors import ConfigError, ShapeError
from recon.metrics.metric import Metric, masked, pair
from recon.metrics.metric import data_range as checked_range

_SIGMA = 1.5  # pixels
_WIDTH = 11
_K1, _K2 = 0.01, 0.03


def rmse(x: Tensor, reference: Tensor, *, mask: Tensor | None = None) -> float:
    """Return the root of the mean squared difference, in the unit of the images.

    Args:
        x: image to judge.
        reference: what it should be.
        mask: True where voxels count, or None for all.
    """
    x, reference = pair(x, reference)
    return float(masked(x - reference, mask).square().mean().sqrt())


def psnr(x: Tensor, reference: Tensor, *, data_range: float, mask: Tensor | None = None) -> float:
    """Return the peak signal-to-noise ratio 20 log10(range / RMSE) in dB; infinite for equal images.

    Args:
        x: image to judge.
        reference: what it should be.
        data_range: the peak, in the unit of the images; never guessed.
        mask: True where voxels count, or None for all.
    """
    error, peak = rmse(x, reference, mask=mask), checked_range(data_range)
    return 20 * math.log10(peak / error) if error > 0 else math.inf


def ssim(
    x: Tensor, reference: Tensor, *, data_range: float, dimensions: Literal[2, 3] = 2, mask: Tensor | None = None
) -> float:
    """Return the mean structural similarity, 1 for equal images.

    The window is Gaussian, 11 pixels wide with sigma 1.5, the covariances are those of the population, K1 = 0.01
    and K2 = 0.03. Only windows that lie inside the image count. Along an axis of fewer than 11 pixels the window is
    cut to the largest odd width that fits, so that any image has a value, a single pixel included.

    Args:
        x: image to judge.
        reference: what it should be.
        data_range: range of values that count, in the unit of the images; never guessed.
        dimensions: 2 to average over all slices (y, x), 3 to slide a cube over (z, y, x).
        mask: True where the centres of windows count, or None for all.

    Source:
        Wang, Bovik, Sheikh and Simoncelli 2004, IEEE Transactions on Image Processing 13(4): 600-612, eq. 13.
    """
    x, reference = pair(x, reference)
    if dimensions not in (2, 3) or x.ndim < dimensions:
        raise ConfigError(f"dimensions: expected 2 or 3 and at least so many axes, got {dimensions} and {x.ndim} axes")
    windows = [_window(n) for n in x.shape[x.ndim - dimensions :]]
    similarity = _similarity(x, reference, windows, checked_range(data_range))
    return float(masked(similarity, _inner_mask(mask, windows)).mean())


def correlation(x: Tensor, reference: Tensor, *, mask: Tensor | None = None) -> float:
    """Return Pearson's correlation, -1 to 1; for a constant image 1 if both are equal and 0 otherwise.

    Args:
        x: image to judge.
        reference: what it should be.
        mask: True where voxels count, or None for all.
    """
    a, b = (masked(image, mask) for image in pair(x, reference))
    if torch.equal(a, b):
        return 1.0
    if a.min() == a.max() or b.min() == b.max():
        return 0.0
    a, b = a - a.mean(), b - b.mean()
    return max(-1.0, min(1.0, float((a / a.norm()) @ (b / b.norm()))))


def matthews(found: Tensor, truth: Tensor) -> float:
    """Return Matthews' correlation of two masks, -1 to 1; where it is undefined 1 if they are equal, 0 otherwise.

    Args:
        found: booleans to judge.
        truth: booleans as they should be.

    Raises:
        ShapeError: other types, or shapes that differ.

    Source:
        Matthews 1975, Biochimica et Biophysica Acta 405(2): 442-451.
    """
    for name, mask in (("found", found), ("truth", truth)):
        if not isinstance(mask, Tensor) or mask.dtype != torch.bool or mask.numel() == 0:
            raise ShapeError(
                f"{name}: expected a tensor of booleans, got {getattr(mask, 'dtype', type(mask).__name__)}"
            )
    if found.shape != truth.shape:
        raise ShapeError(f"found, truth: expected equal shapes, got {tuple(found.shape)} and {tuple(truth.shape)}")
    return correlation(found.double(), truth.double())


#: The metrics of this file by name, as comparisons ask for them.
FIDELITY: Final = {
    metric.name: metric
    for metric in (
        Metric(name="rmse", unit="image", better="lower", function=lambda x, r, p: rmse(x, r, mask=p.mask)),
        Metric(
            name="psnr",
            unit="dB",
            better="higher",
            function=lambda x, r, p: psnr(x, r, data_range=p.range, mask=p.mask),
        ),
        Metric(
            name="ssim",
            unit="",
            better="higher",
            function=lambda x, r, p: ssim(x, r, data_range=p.range, dimensions=p.dimensions, mask=p.mask),
            source="Wang, Bovik, Sheikh and Simoncelli 2004, IEEE Transactions on Image Processing 13(4): 600-612",
        ),
        Metric(name="correlation", unit="", better="higher", function=lambda x, r, p: correlation(x, r, mask=p.mask)),
    )
}


def _window(n: int) -> Tensor:
    """Return Gaussian weights that fit into n pixels and add up to 1."""
    width = min(_WIDTH, n - 1 + n % 2)
    at = torch.arange(width, dtype=torch.float64) - (width - 1) / 2
    weights = torch.exp(-0.5 * (at / _SIGMA) ** 2)
    return weights / weights.sum()


def _similarity(x: Tensor, reference: Tensor, windows: list[Tensor], peak: float) -> Tensor:
    """Return the local similarity wherever all windows lie inside (Wang 2004, eq. 13)."""
    c1, c2 = (_K1 * peak) ** 2, (_K2 * peak) ** 2
    mean_x, mean_r = _averaged(x, windows), _averaged(reference, windows)
    var_x = _averaged(x * x, windows) - mean_x**2
    var_r = _averaged(reference * reference, windows) - mean_r**2
    both = _averaged(x * reference, windows) - mean_x * mean_r
    above = (2 * mean_x * mean_r + c1) * (2 * both + c2)
    return above / ((mean_x**2 + mean_r**2 + c1) * (var_x + var_r + c2))


def _averaged(image: Tensor, windows: list[Tensor]) -> Tensor:
    """Average over a window that slides along the last axes, where it lies inside."""
    for axis, window in enumerate(windows, start=image.ndim - len(windows)):
        places = image.shape[axis] - len(window) + 1
        # A sum of shifted views: unfolding would take eleven times the memory.
        blend = torch.zeros_like(image.narrow(axis, 0, places))
        for k, weight in enumerate(window.tolist()):
            blend.add_(image.narrow(axis, k, places), alpha=weight)
        image = blend
    return image


def _inner_mask(mask: Tensor | None, windows: list[Tensor]) -> Tensor | None:
    """Return the mask over the voxels in the middle of windows."""
    if mask is None:
        return None
    for axis, window in enumerate(windows, start=mask.ndim - len(windows)):
        cut = len(window) // 2
        mask = mask.narrow(axis, cut, mask.shape[axis] - 2 * cut)
    return mask
