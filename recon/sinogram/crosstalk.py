"""Cross-talk: detector pixels that count some of their neighbours' photons."""

import math

import torch
from torch import Tensor

from recon import checks
from recon.errors import ConfigError
from recon.scan import Scan
from recon.statistics import weights_of

_MOST = 0.25  # beyond it some patterns of photons would not be seen at all
_SAMPLE = 4_000_000  # values that an estimate looks at
_BLOCK = (8, 16)  # views and columns that are judged together as quiet or not
_QUIET = 0.2  # share of the blocks that certainly show noise alone
_RESTLESS = 1.6  # times the energy of those, beyond which the object is seen, too; noise alone varies by a sixth
_OUTLIER = 3.0  # standard deviations at which a value is cut
_REPEATS = 1.94  # 1 + 2 ((2/3)² + (1/6)²): second differences of independent noise repeat themselves
_SURE = 2.0  # standard errors above 0 that a correlation counts from


def checked_crosstalk(share: float) -> float:
    """Return a share of photons that a neighbour can count: 0 up to 0.25."""
    if not 0 <= checks.finite("crosstalk", share) < _MOST:
        raise ConfigError(
            f"crosstalk: expected the share of its photons that a pixel loses to each neighbour, 0 to {_MOST:g}, got "
            f"{share}; 0.05 is much"
        )
    return float(share)


def spread(photons: Tensor, share: float) -> Tensor:
    """Let each pixel lose a share of its photons to each neighbour in its row and, with several rows, its column.

    At the edges a pixel keeps what would leave the detector, so that a uniform beam stays uniform.

    Args:
        photons: photons (view, row, column) before cross-talk.
        share: share of its photons that a pixel loses to each neighbour, 0 to 0.25.

    Returns:
        Photons (view, row, column); of independent noise the variance falls by `noise_share`.

    Raises:
        ConfigError: a share out of range.
    """
    share = checked_crosstalk(share)
    axes = [axis for axis in (1, 2) if share and photons.shape[axis] > 1]
    for axis in axes:
        flow = share * photons.diff(dim=axis)
        still = torch.zeros_like(photons.narrow(axis, 0, 1))
        photons = photons + torch.cat([flow, still], axis) - torch.cat([still, flow], axis)
    return photons


def noise_share(share: float, rows: int = 1) -> float:
    """Return what `spread` leaves of the variance of independent noise, away from the edges."""
    along = (1 - 2 * share) ** 2 + 2 * share**2
    return along if rows == 1 else along**2


def correlation_of(share: float) -> float:
    """Return the correlation of neighbours in a row that `spread` gives to independent noise."""
    return 2 * share * (1 - 2 * share) / noise_share(share)


def crosstalk_of(correlation: float) -> float:
    """Return the cross-talk that correlates the noise of neighbours so much: 0 for none, below 0.25 for any."""
    low, high = 0.0, _MOST
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if correlation_of(middle) > correlation else (middle, high)
    return low


def estimated_crosstalk(scan: Scan) -> float:
    """Estimate the cross-talk of a detector from the noise of a scan.

    Second differences along the views are nearly pure noise, each over its standard deviation by the scan's weights or
    photons. Where blocks of 8 views and 16 columns have more energy than the quietest, the object is in them, and they
    are left out. The correlation of neighbouring columns in the others tells the share. Whatever else correlates
    neighbours, such as a scintillator's glow or resampling, counts as cross-talk; electronic noise, which is
    independent, lowers the share to what describes all the noise together.

    Args:
        scan: noisy line integrals, with weights or photons if there are any; the noise of photons behind the values
            as they are is assumed otherwise.

    Returns:
        The share of its photons that a pixel loses to each neighbour, below 0.25; 0 where the correlation is within
        two standard errors of none, or for fewer than 10 views or 16 columns. Of 20 000 values it is within 0.01.

    Raises:
        ConfigError: weights that are 0 everywhere.
    """
    ripple, measured = _ripple(scan)
    product, energy, pairs = _neighbours(*_quiet(ripple, measured))
    if not energy > 0:
        return 0.0
    correlation = product / energy
    return crosstalk_of(correlation) if correlation > _SURE * math.sqrt(_REPEATS / pairs) else 0.0


def _ripple(scan: Scan) -> tuple[Tensor, Tensor]:
    """Return second differences along views in standard deviations (up to a factor), and where all three are known."""
    rows = slice(None, None, max(1, math.prod(scan.geometry.shape) // _SAMPLE))
    values = scan.block(slice(None), rows).detach().double()
    if scan.weights is None and scan.calibration.photons is None:
        weights = torch.exp(-values.clamp_min(0))
    else:
        weights = weights_of(scan)[:, rows].to(values)
    known = weights > 0
    return values.diff(n=2, dim=0) * weights[1:-1].sqrt(), known[2:] & known[1:-1] & known[:-2]


def _quiet(ripple: Tensor, measured: Tensor) -> tuple[Tensor, Tensor]:
    """Return the blocks (block, view, column) without the object in them, and where something was measured."""
    ripple, measured = (_blocks(part) for part in (ripple, measured))
    count = measured.sum((1, 2))
    some = count > 0
    ripple, measured = ripple[some], measured[some]
    if not len(ripple):
        return ripple, measured
    energy = (ripple.square() * measured).sum((1, 2)) / count[some]
    calm = energy <= _RESTLESS * energy.sort().values[int(_QUIET * len(energy))]
    return ripple[calm], measured[calm]


def _blocks(of: Tensor) -> Tensor:
    """Return whole blocks (block, view, column) of planes (view, row, column)."""
    high, wide = _BLOCK
    blocks = of.unfold(0, high, high).unfold(2, wide, wide) if min(of.shape[0] // high, of.shape[2] // wide) else of[:0]
    return blocks.reshape(-1, high, wide)


def _neighbours(ripple: Tensor, measured: Tensor) -> tuple[float, float, int]:
    """Return the mean product of neighbouring columns, the mean square, and of how many pairs, without outliers."""
    both = measured[..., 1:] & measured[..., :-1]
    if not bool(both.any()):
        return 0.0, 0.0, 0
    most = _OUTLIER * float(ripple[measured].square().mean().sqrt())
    ripple = ripple.clamp(-most, most)
    product = (ripple[..., 1:] * ripple[..., :-1])[both].mean()
    return float(product), float(ripple[measured].square().mean()), int(both.sum())
