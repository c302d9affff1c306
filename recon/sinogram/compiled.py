"""The steps of `recon.sinogram.reference` by compiled kernels, for tensors on the CPU."""

from typing import Any

import torch
from torch import Tensor

from recon.kernels.cpu import sinogram as kernels
from recon.kernels.cpu.compile import Kernel

_SMALL = 1 << 17  # points that one thread does in a millisecond or two, a hundred times in a restoration


def sweep(q: Tensor, y: Tensor, w: Tensor, right: Tensor, below: Tensor, strength: float, periodic: bool) -> Tensor:
    """Return q after each point has been solved for once, its neighbours held."""
    out = q.clone(memory_format=torch.contiguous_format)
    _, views, columns = q.shape
    parts = (kernels.FIRST, kernels.LAST) if periodic and views % 2 else (kernels.ALL,)
    arrays = [array.contiguous().view(-1).numpy() for array in (out, y, w, right, below)]
    for part in parts:
        for colour in (0, 1):
            _run(kernels.sweep, q, *arrays, float(strength), colour, part, views, columns, periodic)
    return out


def diffusivity(q: Tensor, corner: float, periodic: bool) -> Tensor:
    """Return one over the rounded size of the slope."""
    q = q.contiguous()
    out = torch.empty_like(q)
    _, views, columns = q.shape
    _run(kernels.diffusivity, q, q.view(-1).numpy(), out.view(-1).numpy(), float(corner), views, columns, periodic)
    return out


def diffuse(
    q: Tensor, y: Tensor, w: Tensor, strength: float, threshold: float, step: float, mode: tuple[float, float],
    diagonals: bool, periodic: bool,
) -> Tensor:  # fmt: skip
    """Return q after one semi-implicit step of anisotropic diffusion towards sub-pixel samples."""
    q = q.contiguous()
    out = torch.empty_like(q)
    _, views, columns = q.shape
    arrays = [array.contiguous().view(-1).numpy() for array in (q, out, y, w)]
    numbers = float(strength), float(threshold), float(step), *mode
    _run(kernels.diffuse, q, *arrays, *numbers, diagonals, views, columns, periodic)
    return out


def diffuse_across_rows(
    q: Tensor, y: Tensor, w: Tensor, strength: float, threshold: float, step: float, mode: tuple[float, float],
    diagonals: bool, periodic: bool,
) -> Tensor:  # fmt: skip
    """Return q after one step of anisotropic diffusion whose neighbours are those of the next rows, too."""
    q = q.contiguous()
    out = torch.empty_like(q)
    rows, views, columns = q.shape
    arrays = [array.contiguous().view(-1).numpy() for array in (q, out, y, w)]
    numbers = float(strength), float(threshold), float(step), *mode
    _run(kernels.diffuse_across_rows, q, *arrays, *numbers, diagonals, views, columns, rows, periodic)
    return out


def _run(kernel: Kernel, q: Tensor, *arguments: Any) -> None:
    """Run a kernel for all views of all planes, on several threads where that pays."""
    jobs = q.shape[0] * q.shape[1]
    (kernel.alone if q.numel() < _SMALL else kernel)(jobs, *arguments)
