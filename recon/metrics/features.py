"""Feature similarity (FSIM): do two images show edges and lines at the same places, and equally steep ones?"""

import math
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d

from recon.errors import ShapeError
from recon.metrics.metric import checked_mask, checked_window, pair

#: Fewest pixels along y and x: one wavelength of the coarsest filter.
LEAST: Final = 48

_SCALES, _ORIENTATIONS = 4, 4
_SHORTEST, _STEP = 6.0, 2.0  # pixels, and the factor from one scale to the next
_BANDWIDTH = 0.55  # standard deviation over centre of a log-Gabor filter
_SPREAD = math.pi / _ORIENTATIONS / 1.2  # rad; standard deviation of a filter about its orientation
_CUTOFF, _ORDER = 0.45, 15  # cycles per pixel, and the order of the Butterworth low-pass
_NOISE = 2.0  # standard deviations above the mean energy of noise at which features begin
_OVERRATED = 1.7  # by this factor the energy of noise is overestimated (Kovesi 1999)
_GREYS = 255.0  # the constants below are on this scale
_LIKE_CONGRUENCY, _LIKE_GRADIENT = 0.85, 160.0
_SIZE = 256  # pixels to which the shorter side is brought by averaging
_TINY = 1e-8  # grey levels: far above rounding (1e-12), far below anything seen
_PIXELS = 1 << 18  # pixels judged at once; each takes 0.6 kB


def fsim(x: Tensor, reference: Tensor, *, window: tuple[float, float] | str, mask: Tensor | None = None) -> float:
    """Return the mean feature similarity of all slices, 0 to 1; 1 for equal images.

    Both images are clipped to the window and mapped to 0..255, the scale of the constants; slices are averaged over
    F × F pixels where F is the shorter side over 256, rounded (halves up), at least 1; blocks that the image does not
    fill are averaged over what there is. Frequencies are in cycles per pixel at odd sizes, too, where published
    programs divide by n − 1 instead of n; outside of the image is the window's lower end.

    Where neither image has a feature, as in constant images, all pixels weigh the same and only gradients are
    compared: equal images give 1 and two constants nearly 1, as the index sees features, not levels.

    Args:
        x: image to judge (..., y, x), at least 48 × 48 pixels.
        reference: what it should be.
        window: (low, high), in the unit of the images, or "chest", "abdomen" or "neuro" in HU; the index depends on
            it, so it is never guessed.
        mask: True where pixels count, or None for all. Features are found in the whole image.

    Raises:
        ConfigError: a window that is missing or empty.
        ShapeError: less than 48 pixels along y or x; shapes that differ.
        NumericalError: NaN or Inf.

    Source:
        Zhang, Zhang, Mou and Zhang 2011, IEEE Transactions on Image Processing 20(8): 2378-2386, eqs. 4 to 8.
    """
    x, reference = pair(x, reference)
    if x.ndim < 2 or min(x.shape[-2:]) < LEAST:
        raise ShapeError(
            f"x: expected at least {LEAST} × {LEAST} pixels (y, x), one wavelength of the coarsest filter of FSIM, got "
            f"{tuple(x.shape)}; judge so small an image by rmse or ssim"
        )
    low, high = checked_window(window)
    weights = _slices(_weights(x, mask))
    greys = [_slices((image.clamp(low, high) - low) * (_GREYS / (high - low))) for image in (x, reference)]
    some = max(1, _PIXELS // greys[0][0].numel())
    parts = zip(*(image.split(some) for image in (*greys, weights)), strict=True)
    found = torch.cat([_index(a, b, w) for a, b, w in parts])
    return float(found[~found.isnan()].mean())  # NaN where the mask takes nothing of a slice


def phase_congruency(image: Tensor) -> Tensor:
    """Return how much the Fourier components agree in phase, 0 to 1: near 1 at edges and lines, 0 in noise.

    Args:
        image: grey levels (..., y, x), float64; the threshold for noise is the image's own.

    Source:
        Kovesi 1999, Videre 1(3): 1-26, with the settings of Zhang et al. 2011, section II-A.
    """
    shape = tuple(image.shape[-2:])
    radial, angular = _radial(shape, image.device), _angular(shape, image.device)
    # Without the mean, which no filter passes, a constant image has no response at all but rounding.
    spectrum = torch.fft.fft2(image - image.mean(dim=(-2, -1), keepdim=True))
    energy, amplitude = torch.zeros_like(image), torch.zeros_like(image)
    for spread in angular:
        filters = radial * spread
        responses = torch.fft.ifft2(spectrum[..., None, :, :] * filters)
        sizes = responses.abs()
        energy += (_energy(responses) - _threshold(sizes[..., 0, :, :], filters)).clamp_min(0)
        amplitude += sizes.sum(dim=-3)
    return energy / (amplitude + _TINY)


def gradient(image: Tensor) -> Tensor:
    """Return the size of Scharr's gradient (..., y, x), twice the slope per pixel; outside the image is 0."""
    kernel = torch.tensor([[3.0, 0, -3], [10, 0, -10], [3, 0, -3]], dtype=image.dtype, device=image.device) / 16
    slopes = conv2d(image.flatten(0, -3)[:, None], torch.stack([kernel, kernel.T])[:, None], padding=1)
    return slopes.square().sum(dim=1).sqrt().reshape(image.shape)


def _weights(x: Tensor, mask: Tensor | None) -> Tensor:
    """Return 1 where pixels count and 0 elsewhere, of the images' shape."""
    return torch.ones_like(x) if mask is None else checked_mask(mask, x).to(x)


def _slices(image: Tensor) -> Tensor:
    """Return all slices (slice, y, x), averaged to about 256 pixels along the shorter side."""
    slices = image.reshape(-1, *image.shape[-2:])
    factor = max(1, math.floor(min(slices.shape[1:]) / _SIZE + 0.5))
    # Blocks that the image does not fill are averaged over what there is, so that a mask at the rim counts, too.
    return avg_pool2d(slices[:, None], factor, ceil_mode=True)[:, 0]


def _index(x: Tensor, reference: Tensor, weights: Tensor) -> Tensor:
    """Return the index of each slice (Zhang 2011, eqs. 4 to 8), NaN where nothing counts."""
    congruency, other = phase_congruency(x), phase_congruency(reference)
    alike = _alike(congruency, other, _LIKE_CONGRUENCY) * _alike(gradient(x), gradient(reference), _LIKE_GRADIENT)
    features = weights * torch.maximum(congruency, other)
    none = features.sum(dim=(-2, -1), keepdim=True) == 0
    features = torch.where(none, weights, features)
    return (alike * features).sum(dim=(-2, -1)) / features.sum(dim=(-2, -1))


def _alike(a: Tensor, b: Tensor, constant: float) -> Tensor:
    """Return the similarity of two maps, 1 where they agree (Zhang 2011, eqs. 4 and 5)."""
    return (2 * a * b + constant) / (a * a + b * b + constant)


def _energy(responses: Tensor) -> Tensor:
    """Return the amplitude that agrees with the mean phase of all scales, less what deviates from it (Kovesi 1999)."""
    total = responses.sum(dim=-3, keepdim=True)
    turned = responses * (total.conj() / (total.abs() + _TINY))
    return (turned.real - turned.imag.abs()).sum(dim=-3)


def _threshold(finest: Tensor, filters: Tensor) -> Tensor:
    """Return the energy below which responses are taken for noise (Kovesi 1999).

    The finest scale sees mostly noise: the median of its squared amplitude, exponentially distributed, gives the
    mean. The energy of all scales follows from the filters; their even parts are summed in the frequency domain,
    where squares add up to the same (Parseval).
    """
    power = _median(finest.square().flatten(-2)) / math.log(2) / filters[0].square().sum()
    combined = filters.sum(dim=0)
    even = (combined + combined.flip(0, 1).roll((1, 1), (0, 1))) / 2
    above = (math.sqrt(math.pi / 2) + _NOISE * math.sqrt(2 - math.pi / 2)) / _OVERRATED
    threshold: Tensor = power.sqrt() * even.square().sum().sqrt() * above
    return threshold[..., None, None]


def _median(values: Tensor) -> Tensor:
    """Return the median along the last axis, the mean of the middle two if their number is even."""
    n = values.shape[-1]
    return (values.kthvalue((n + 1) // 2).values + values.kthvalue(n // 2 + 1).values) / 2


def _frequencies(shape: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the frequencies along y and x in cycles per pixel."""
    y, x = (torch.fft.fftfreq(n, dtype=torch.float64, device=device) for n in shape)
    return y[:, None], x[None, :]


def _radial(shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Return the log-Gabor transfer functions by frequency (scale, y, x), 0 for the mean."""
    radius = torch.hypot(*_frequencies(shape, device))
    low = 1 / (1 + (radius / _CUTOFF) ** (2 * _ORDER))
    waves = _SHORTEST * _STEP ** torch.arange(_SCALES, dtype=torch.float64, device=device)
    away = torch.log(radius * waves[:, None, None])  # -inf for the mean, so that its weight is 0
    return low * torch.exp(-0.5 * (away / math.log(_BANDWIDTH)) ** 2)


def _angular(shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Return the transfer functions by angle (orientation, y, x); y points down."""
    y, x = _frequencies(shape, device)
    turns = math.pi / _ORIENTATIONS * torch.arange(_ORIENTATIONS, dtype=torch.float64, device=device)
    away = torch.atan2(-y, x) - turns[:, None, None]
    away = torch.atan2(away.sin(), away.cos())
    return torch.exp(-0.5 * (away / _SPREAD) ** 2)
