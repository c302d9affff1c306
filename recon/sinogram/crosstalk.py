"""Cross-talk: detector pixels that count some of their neighbours' photons."""

import torch
from torch import Tensor

from recon import checks
from recon.errors import ConfigError

_MOST = 0.25  # beyond it some patterns of photons would not be seen at all


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
