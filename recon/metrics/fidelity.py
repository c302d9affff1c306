"""How close an image is to a reference."""

import math
from collections.abc import Callable
from typing import Any, Final, Literal

import torch
from torch import Tensor

from recon import checks
from recon.errors import ConfigError, ShapeError
from recon.metrics.features import LEAST, fsim
from recon.metrics.metric import Metric, Protocol, checked_mask, checked_window, masked, pair
from recon.metrics.metric import data_range as checked_range

_SIGMA = 1.5  # pixels
_WIDTHS = {"gaussian": 11, "uniform": 7}  # pixels
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
    x: Tensor,
    reference: Tensor,
    *,
    data_range: float,
    dimensions: Literal[2, 3] = 2,
    mask: Tensor | None = None,
    kernel: Literal["gaussian", "uniform"] = "gaussian",
) -> float:
    """Return the mean structural similarity, 1 for equal images.

    K1 = 0.01 and K2 = 0.03. The Gaussian kernel is 11 pixels wide with sigma 1.5 and its covariances are those of the
    population, as published; the uniform one is 7 pixels wide with covariances of a sample, as scikit-image has it by
    default. Only kernels that lie inside the image count. Along an axis of fewer pixels the kernel is cut to the
    largest odd width that fits, so that any image has a value, a single pixel included.

    Args:
        x: image to judge.
        reference: what it should be.
        data_range: range of values that count, in the unit of the images; never guessed.
        dimensions: 2 to average over all slices (y, x), 3 to slide a cube over (z, y, x).
        mask: True where the centres of kernels count, or None for all.
        kernel: "gaussian" or "uniform".

    Source:
        Wang, Bovik, Sheikh and Simoncelli 2004, IEEE Transactions on Image Processing 13(4): 600-612, eq. 13.
    """
    x, reference = pair(x, reference)
    if dimensions not in (2, 3) or x.ndim < dimensions:
        raise ConfigError(f"dimensions: expected 2 or 3 and at least so many axes, got {dimensions} and {x.ndim} axes")
    checks.choice("kernel", kernel, tuple(_WIDTHS))
    kernels = [_kernel(kernel, n) for n in x.shape[x.ndim - dimensions :]]
    samples = math.prod(len(weights) for weights in kernels)
    correction = samples / (samples - 1) if kernel == "uniform" and samples > 1 else 1.0
    similarity = _similarity(x, reference, kernels, checked_range(data_range), correction)
    inner = None if mask is None else _inner(checked_mask(mask, x), kernels)
    return float(masked(similarity, inner).mean())


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


def _plain(x: Tensor, reference: Tensor, protocol: Protocol) -> float:
    return rmse(x, reference, mask=protocol.mask)


def _peak(x: Tensor, reference: Tensor, protocol: Protocol) -> float:
    return psnr(x, reference, data_range=protocol.range, mask=protocol.mask)


def _gaussian(x: Tensor, reference: Tensor, protocol: Protocol) -> float:
    return ssim(x, reference, data_range=protocol.range, dimensions=protocol.dimensions, mask=protocol.mask)


def _uniform(x: Tensor, reference: Tensor, protocol: Protocol) -> float:
    settings: dict[str, Any] = {"dimensions": protocol.dimensions, "mask": protocol.mask, "kernel": "uniform"}
    return ssim(x, reference, data_range=protocol.range, **settings)


def _features(x: Tensor, reference: Tensor, protocol: Protocol) -> float:
    if protocol.dimensions != 2:
        raise ConfigError(f"dimensions: expected 2, as FSIM is defined for slices, got {protocol.dimensions}")
    return fsim(x, reference, window=checked_window(protocol.window), mask=protocol.mask)


def _correlated(x: Tensor, reference: Tensor, protocol: Protocol) -> float:
    return correlation(x, reference, mask=protocol.mask)


def _sliding(width: int, shape: str) -> Callable[[Protocol], str]:
    """Return what describes a kernel under a protocol."""

    def note(protocol: Protocol) -> str:
        return f"{'x'.join([str(width)] * protocol.dimensions)} {shape}{', per slice' * (protocol.dimensions == 2)}"

    return note


#: The metrics of this file by name, as comparisons ask for them.
FIDELITY: Final = {
    metric.name: metric
    for metric in (
        Metric(name="rmse", label="RMSE", unit="image", better="lower", function=_plain),
        Metric(name="psnr", label="PSNR", unit="dB", better="higher", function=_peak),
        Metric(
            name="ssim",
            label="SSIM",
            unit="",
            better="higher",
            function=_gaussian,
            note=_sliding(_WIDTHS["gaussian"], "Gaussian"),
            source="Wang, Bovik, Sheikh and Simoncelli 2004, IEEE Transactions on Image Processing 13(4): 600-612",
        ),
        Metric(
            name="ssim-uniform",
            label="SSIM",
            unit="",
            better="higher",
            function=_uniform,
            note=_sliding(_WIDTHS["uniform"], "uniform"),
            source="Wang, Bovik, Sheikh and Simoncelli 2004, with the kernel that scikit-image has by default",
        ),
        Metric(
            name="fsim",
            label="FSIM",
            unit="",
            better="higher",
            function=_features,
            note=lambda protocol: "per slice",
            least=LEAST,
            source="Zhang, Zhang, Mou and Zhang 2011, IEEE Transactions on Image Processing 20(8): 2378-2386",
        ),
        Metric(name="correlation", label="correlation", unit="", better="higher", function=_correlated),
    )
}


def _kernel(shape: str, n: int) -> Tensor:
    """Return weights that fit into n pixels and add up to 1."""
    width = min(_WIDTHS[shape], n - 1 + n % 2)
    at = torch.arange(width, dtype=torch.float64) - (width - 1) / 2
    weights = torch.ones_like(at) if shape == "uniform" else torch.exp(-0.5 * (at / _SIGMA) ** 2)
    return weights / weights.sum()


def _similarity(x: Tensor, reference: Tensor, kernels: list[Tensor], peak: float, correction: float) -> Tensor:
    """Return the local similarity wherever all kernels lie inside (Wang 2004, eq. 13)."""
    c1, c2 = (_K1 * peak) ** 2, (_K2 * peak) ** 2
    mean_x, mean_r = _averaged(x, kernels), _averaged(reference, kernels)
    var_x = correction * (_averaged(x * x, kernels) - mean_x**2)
    var_r = correction * (_averaged(reference * reference, kernels) - mean_r**2)
    both = correction * (_averaged(x * reference, kernels) - mean_x * mean_r)
    above = (2 * mean_x * mean_r + c1) * (2 * both + c2)
    return above / ((mean_x**2 + mean_r**2 + c1) * (var_x + var_r + c2))


def _averaged(image: Tensor, kernels: list[Tensor]) -> Tensor:
    """Average with a kernel that slides along the last axes, where it lies inside."""
    for axis, weights in enumerate(kernels, start=image.ndim - len(kernels)):
        places = image.shape[axis] - len(weights) + 1
        # A sum of shifted views: unfolding would take eleven times the memory.
        blend = torch.zeros_like(image.narrow(axis, 0, places))
        for k, weight in enumerate(weights.tolist()):
            blend.add_(image.narrow(axis, k, places), alpha=weight)
        image = blend
    return image


def _inner(mask: Tensor, kernels: list[Tensor]) -> Tensor:
    """Return the mask over the voxels in the middle of kernels."""
    for axis, weights in enumerate(kernels, start=mask.ndim - len(kernels)):
        cut = len(weights) // 2
        mask = mask.narrow(axis, cut, mask.shape[axis] - 2 * cut)
    if not bool(mask.any()):
        raise ShapeError("mask: expected a True that half a kernel of SSIM separates from the rim, got none; widen it")
    return mask
