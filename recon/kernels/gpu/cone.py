"""Cone beams whose detector rows are parallel to z."""

from torch import Tensor

from recon.errors import ResourceError
from recon.kernels.lines import Lines


def applies(lines: Lines, tensor: Tensor) -> bool:
    """Tell whether this path takes these rays."""
    return False


def forward(lines: Lines, volume: Tensor) -> Tensor:
    """Not built yet."""
    raise ResourceError("this version has no GPU kernel for cone beams")


def adjoint(lines: Lines, projections: Tensor) -> Tensor:
    """Not built yet."""
    raise ResourceError("this version has no GPU kernel for cone beams")
