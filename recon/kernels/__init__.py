"""Kernels by operation and device: the device of the input decides, nothing falls back silently."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from recon.errors import ResourceError

Kernel = Callable[[Any, Tensor], Tensor]


def find(operation: str, tensor: Tensor) -> Kernel:
    """Return the kernel of an operation for the device a tensor is on.

    Raises:
        ResourceError: no kernel exists for that device.
    """
    if tensor.device.type != "cpu":
        raise ResourceError(
            f"{operation}: expected a tensor on the CPU, got {tensor.device}; move it with .cpu(), there is no kernel "
            f"for {tensor.device.type} in this version"
        )
    from recon.kernels import cpu

    kernel: Kernel = getattr(cpu, operation)
    return kernel
