"""What channels an observer looks through: Laguerre-Gauss functions and Gabor functions around a known place."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from recon import checks
from recon.errors import ConfigError

_OCTAVE = 6 * math.log(2) / math.pi  # width of a Gabor function in wavelengths for a bandwidth of one octave


def laguerre_gauss(
    shape: tuple[int, int],
    *,
    spacing: float | tuple[float, float],
    width: float,
    number: int = 6,
    centre: tuple[float, float] = (0.0, 0.0),
) -> Tensor:
    """Return Laguerre-Gauss channels (channel, y, x): √2/a exp(−π r²/a²) Lₚ(2π r²/a²) for p = 0 to number − 1.

    They are orthonormal as integrals over the plane in mm, and fit signals that are round, without a direction. A
    Gaussian signal of deviation s is the first channel where a = √(2π) s.

    Args:
        shape: pixels (y, x).
        spacing: size of a pixel (y, x) in mm, or one number for both.
        width: a in mm.
        number: of channels.
        centre: of the signal (y, x) in mm from the centre of the image.

    Raises:
        ConfigError: counts or lengths that are not above 0.

    Source:
        Gallas and Barrett 2003, Journal of the Optical Society of America A 20(9): 1725-1738.
    """
    y, x = _coordinates(shape, spacing, centre)
    width = checks.positive("width", width)
    checks.counts("number", (number,), 1)
    square = 2 * math.pi * (y * y + x * x) / width**2
    before, now, found = torch.zeros_like(square), torch.ones_like(square), []
    for p in range(number):
        found.append(now)
        before, now = now, ((2 * p + 1 - square) * now - p * before) / (p + 1)
    return math.sqrt(2) / width * torch.exp(-square / 2) * torch.stack(found)


def gabor(
    shape: tuple[int, int],
    *,
    spacing: float | tuple[float, float],
    frequencies: Sequence[float],
    orientations: int = 5,
    centre: tuple[float, float] = (0.0, 0.0),
) -> Tensor:
    """Return Gabor channels (channel, y, x): exp(−4 ln2 r²/w²) cos(2π f t + φ), t along the orientation.

    Each frequency has a bandwidth of one octave, from 2f/3 to 4f/3, so that w = 6 ln2 / (π f), orientations spread
    evenly over half a turn, and phases of 0 and a quarter turn.

    Args:
        shape: pixels (y, x).
        spacing: size of a pixel (y, x) in mm, or one number for both.
        frequencies: centres of the pass bands in 1/mm; an octave apart they touch. Those of the source are 3/128,
            3/64, 3/32 and 3/16 per pixel.
        orientations: how many.
        centre: of the signal (y, x) in mm from the centre of the image.

    Raises:
        ConfigError: counts, lengths or frequencies that are not above 0, or a band beyond the Nyquist frequency.

    Source:
        Yu, Leng, Chen, Kofler, Carter and McCollough 2013, Medical Physics 40(4): 041908.
    """
    y, x = _coordinates(shape, spacing, centre)
    checks.counts("orientations", (orientations,), 1)
    limit = 0.5 / max(checks.lengths("spacing", spacing, 2))
    if not isinstance(frequencies, Sequence) or not frequencies:
        raise ConfigError(f"frequencies: expected a sequence of one or more in 1/mm, got {frequencies!r}")
    found = []
    for f in (checks.positive("frequencies", f, unit="1/mm") for f in frequencies):
        if 4 / 3 * f > limit * (1 + 1e-9):
            raise ConfigError(f"frequencies: expected at most {0.75 * limit:g}/mm, whose band ends at Nyquist, got {f}")
        envelope = torch.exp(-4 * math.log(2) * (y * y + x * x) * (f / _OCTAVE) ** 2)
        for k in range(orientations):
            turn = math.pi * k / orientations
            phase = 2 * math.pi * f * (x * math.cos(turn) + y * math.sin(turn))
            found += [envelope * torch.cos(phase), envelope * torch.sin(phase)]
    return torch.stack(found)


def _coordinates(
    shape: tuple[int, int], spacing: float | tuple[float, float], centre: tuple[float, float]
) -> tuple[Tensor, Tensor]:
    """Return the distance of pixels from a centre along y (y, 1) and x (1, x), in mm."""
    sizes = zip(
        checks.counts("shape", shape, 2),
        checks.lengths("spacing", spacing, 2),
        checks.position("centre", centre, 2),
        strict=True,
    )
    y, x = ((torch.arange(n, dtype=torch.float64) - (n - 1) / 2) * step - middle for n, step, middle in sizes)
    return y[:, None], x[None, :]
