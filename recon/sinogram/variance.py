"""How uncertain measured line integrals are."""

from torch import Tensor

from recon.scan import Scan
from recon.statistics import mean_quanta, stated_photons, weights_of


def variance(scan: Scan) -> Tensor:
    """Return the variance of the values of a scan, infinite where a weight of 0 says that nothing was measured.

    It is one over the scan's weights, or over those that follow from its photons and electronic noise (see
    `recon.statistics.weights_of`).

    Args:
        scan: values, and weights or the calibration's photons.

    Returns:
        (view, row, column), dimensionless, in the scan's type and on its device.

    Raises:
        ConfigError: neither weights nor photons, or weights that are 0 everywhere.
    """
    return 1 / weights_of(scan)


def mean_photons(scan: Scan) -> Tensor:
    """Estimate the mean photons behind each value (view, row, column), float64; weights stand in where none are known.

    Raises:
        ConfigError: neither weights nor photons.
    """
    if scan.calibration.photons is None and scan.weights is not None:
        return scan.weights.double()
    return mean_quanta(scan.values, stated_photons(scan), scan.calibration.electronic)
