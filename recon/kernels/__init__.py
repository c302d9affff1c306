"""Kernels by operation and device: the device of the input decides, nothing falls back silently."""

import functools
from collections.abc import Callable
from typing import Any

from torch import Tensor

from recon import devices
from recon.errors import ConfigError, ResourceError

Kernel = Callable[..., Tensor]
PRECISIONS = ("single", "tf32", "half")  # of what GPU kernels multiply; sums are always in single precision


def find(operation: str, tensor: Tensor, precision: str = "single") -> Kernel:
    """Return the kernel of an operation for the device a tensor is on.

    Raises:
        ConfigError: less than single precision on the CPU.
        ResourceError: no kernel exists for that device, or Triton is missing.
    """
    if tensor.device.type == "cpu":
        if precision != "single":
            raise ConfigError(f"precision: expected 'single' for tensors on the CPU, got {precision!r}")
        from recon.kernels import cpu

        kernel: Kernel = getattr(cpu, operation)
        return kernel
    if tensor.device.type != "cuda":
        raise ResourceError(
            f"{operation}: expected a tensor on the CPU or a CUDA GPU, got {tensor.device}; move it with .cpu(), there "
            f"is no kernel for {tensor.device.type}"
        )
    kernel = getattr(_gpu(), operation)
    told = kernel if precision == "single" else functools.partial(kernel, precision=precision)

    @functools.wraps(kernel)
    def run(*arguments: Any) -> Tensor:
        with devices.told_when_full(operation, tensor.device):
            return told(*arguments)

    return run


def _gpu() -> object:
    try:
        from recon.kernels import gpu
    except ModuleNotFoundError as error:
        if error.name != "triton":
            raise
        raise ResourceError(
            "GPU kernels need Triton, which this torch came without; install it: pip install 'raymend[triton]'"
        ) from error
    return gpu
