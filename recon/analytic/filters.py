"""The ramp filter, band-limited in space so that it has no DC error, and its windows."""

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from recon import checks
from recon.errors import ConfigError

Window = Literal["ram-lak", "shepp-logan", "cosine", "hamming", "hann"]
WINDOWS: tuple[str, ...] = get_args(Window)


def ramp_response(
    columns: int, pitch: float, *, window: str = "ram-lak", cutoff: float = 1.0, angular: bool = False
) -> Tensor:
    """Return the frequency response of the ramp filter for zero-padded rows.

    Args:
        columns: number of samples per row.
        pitch: sample step, in mm, or in rad if `angular`.
        window: one of `WINDOWS`.
        cutoff: highest frequency kept, as a share of the Nyquist frequency, above 0 and up to 1.
        angular: samples are equally spaced in fan angle (arc detector).

    Returns:
        Real response for `torch.fft.rfft` of rows padded to `padded_length(columns)` (float64).

    Raises:
        ConfigError: an unknown window or a cut-off outside (0, 1].

    Source:
        Kak and Slaney 1988, Principles of Computerized Tomographic Imaging, eqs. 61 and 3.4.1 (eq. 104 to 106).
    """
    checks.choice("window", window, WINDOWS)
    if not 0 < checks.finite("cutoff", cutoff) <= 1:
        raise ConfigError(f"cutoff: expected a share of the Nyquist frequency above 0 and up to 1, got {cutoff}")
    length = padded_length(columns)
    n = torch.fft.fftfreq(length, 1 / length, dtype=torch.float64)
    kernel = torch.where(n % 2 == 0, 0.0, -1 / (math.pi * n * pitch) ** 2)
    kernel[0] = 1 / (4 * pitch**2)
    if angular:
        kernel = kernel * _equiangular(n * pitch)
    response: Tensor = torch.fft.rfft(kernel).real * pitch
    return response * window_values(window, cutoff, len(response))


def padded_length(columns: int) -> int:
    """Return an even length that is fast to transform and keeps a convolution over a row from wrapping around."""
    return min(odd << max(1, (-(-2 * columns // odd) - 1).bit_length()) for odd in (1, 3, 5, 9, 15))


def window_values(window: str, cutoff: float, count: int) -> Tensor:
    """Sample a window from zero to the Nyquist frequency; it ends at the cut-off."""
    f = torch.linspace(0, 1, count, dtype=torch.float64) / cutoff
    shapes = {
        "ram-lak": torch.ones_like(f),
        "shepp-logan": torch.sinc(f / 2),
        "cosine": torch.cos(math.pi / 2 * f),
        "hamming": 0.54 + 0.46 * torch.cos(math.pi * f),
        "hann": 0.5 + 0.5 * torch.cos(math.pi * f),
    }
    return torch.where(f <= 1, shapes[window], 0.0)


def filter_rows(values: Tensor, response: Tensor) -> Tensor:
    """Convolve the last axis with a filter given by its response; the length stays."""
    columns = values.shape[-1]
    length = 2 * (len(response) - 1)
    spectrum = torch.fft.rfft(values, n=length).mul_(response.to(values))
    filtered: Tensor = torch.fft.irfft(spectrum, n=length)[..., :columns]
    return filtered


def _equiangular(angle: Tensor) -> Tensor:
    """Return (angle / sin angle)², the change of variable from a line to a fan of equal angles."""
    within = angle.abs() < math.pi  # the padding reaches angles that no fan has
    safe = torch.where(within & (angle != 0), angle, torch.ones_like(angle))
    return torch.where(angle == 0, 1.0, torch.where(within, (safe / safe.sin()) ** 2, 0.0))
