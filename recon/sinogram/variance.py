"""How uncertain measured line integrals are."""

import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from recon.errors import ConfigError
from recon.scan import Scan

FEWEST = 20.0  # mean photons below which the formula of the variance fails
_SMOOTHING = 1.5  # columns and rows, standard deviation of the Gaussian


def variance(scan: Scan) -> Tensor:
    """Return the variance of the values of a scan, infinite where a weight of 0 says that nothing was measured.

    It is one over the weights where the scan has any, and else follows from photons and electronic noise:
    e^p/I (1 + e^p/I (electronic - 1.25)), with the noisy values smoothed within each view and cut at 0 in the place of
    the unknown mean p, and at least `FEWEST` mean photons.

    Args:
        scan: values, and weights or the calibration's photons.

    Returns:
        (view, row, column), dimensionless, in the scan's type and on its device.

    Raises:
        ConfigError: neither weights nor photons, or weights that are 0 everywhere.

    Source:
        Ma, Liang et al. 2012, Medical Physics 39(7): 4051.
    """
    if scan.weights is not None:
        if not bool((scan.weights > 0).any()):
            raise ConfigError("weights: expected some above 0, got 0 everywhere; leave them out and state the photons")
        return 1 / scan.weights.to(scan.values)
    rarity = 1 / mean_photons(scan).clamp_min(FEWEST)
    return (rarity * (1 + rarity * (scan.calibration.electronic - 1.25))).to(scan.values)


def mean_photons(scan: Scan) -> Tensor:
    """Estimate the mean photons behind each value (view, row, column), float64; weights stand in where none are known.

    Raises:
        ConfigError: neither weights nor photons.
    """
    if scan.calibration.photons is None:
        if scan.weights is None:
            raise ConfigError(
                "scan: expected weights, or calibration.photons to work them out, got neither; state the photons of a "
                "pixel without an object (in [calibration] of the settings on the command line)"
            )
        return scan.weights.double()
    smooth = gaussian_filter(scan.values.detach().double().cpu().numpy(), (0, _SMOOTHING, _SMOOTHING), mode="nearest")
    mean = torch.from_numpy(smooth).clamp_min(0).to(scan.values.device)
    return scan.calibration.photons * torch.exp(-mean)
