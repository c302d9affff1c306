"""How every Triton kernel is started: on the device and the stream of its tensors, or interpreted where there is none.

Triton's interpreter runs kernels on the CPU, tensor by tensor, when TRITON_INTERPRET=1 is set before Triton is loaded.
It takes a tenth of a millisecond for each operation whatever the size of a block: `INTERPRETED` therefore chooses wide
blocks, through the same body.
"""

from collections.abc import Callable
from typing import Any

import torch
import triton
from torch import Tensor

from recon.errors import ResourceError

INTERPRETED = bool(triton.knobs.runtime.interpret)
MOST = 65535  # programs along the second and the third axis of a launch

# Called instead of the kernel where it is set: benchmarks/instructions.py compiles what would run, without a GPU.
record: Callable[[Any, tuple[int, ...], tuple[Any, ...], dict[str, Any]], None] | None = None


def launch(kernel: Any, grid: tuple[int, ...], *arguments: Any, warps: int = 4, **constants: Any) -> None:
    """Run a kernel over a grid of up to three axes of programs; the first may be as long as needed.

    Args:
        kernel: a function of `triton.jit`.
        grid: how many programs; nothing runs if any number is 0.
        arguments: what the kernel takes: tensors on one device, and numbers.
        warps: groups of 32 threads that share a program.
        constants: its compile-time constants.
    """
    if any(count > MOST for count in grid[1:]):
        raise ResourceError(
            f"batch or views: expected at most {MOST} at a time on a GPU, got {max(grid[1:])}; take parts of them"
        )
    if 0 in grid:
        return
    if record is not None:
        record(kernel, grid, arguments, {**constants, "num_warps": warps})
        return
    device = next(argument.device for argument in arguments if isinstance(argument, Tensor))
    settings = {**constants, "num_warps": warps, "enable_fp_fusion": True}
    if device.type == "cpu":
        kernel[grid](*arguments, **settings)
        return
    with torch.cuda.device(device):
        kernel[grid](*arguments, **settings)


def cdiv(count: int, size: int) -> int:
    """Return how many blocks of a size hold a count."""
    return -(-count // size)
