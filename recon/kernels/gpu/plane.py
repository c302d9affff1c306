"""In-plane scans: one image, and stacks of images."""

from torch import Tensor

from recon.errors import ResourceError
from recon.kernels.lines import Lines


def applies(lines: Lines, tensor: Tensor) -> bool:
    """Tell whether this path takes these rays."""
    return False


def forward(lines: Lines, volume: Tensor, precision: str = "single") -> Tensor:
    """Not built yet."""
    raise ResourceError("this version has no GPU kernel for in-plane scans")


def adjoint(lines: Lines, projections: Tensor, precision: str = "single") -> Tensor:
    """Not built yet."""
    raise ResourceError("this version has no GPU kernel for in-plane scans")
