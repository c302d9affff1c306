"""Any rays."""

from torch import Tensor

from recon.errors import ResourceError
from recon.kernels.lines import Lines


def forward(lines: Lines, volume: Tensor) -> Tensor:
    """Not built yet."""
    raise ResourceError("this version has no GPU kernel for these rays")


def adjoint(lines: Lines, projections: Tensor) -> Tensor:
    """Not built yet."""
    raise ResourceError("this version has no GPU kernel for these rays")
