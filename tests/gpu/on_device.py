"""What the tests on a GPU share: where they run, and an operator that works on a GPU whatever it is given."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from recon.operators import LinearOperator
from recon.operators.linear import Shape

_CUDA = pytest.param("cuda", marks=pytest.mark.gpu)
on_gpu = pytest.mark.parametrize("device", [_CUDA], indirect=True)
everywhere = pytest.mark.parametrize("device", [_CUDA, "interpreter"], indirect=True)


def interpreted(operation: str, tensor: Tensor, precision: str = "single") -> Any:
    """Stand for `recon.kernels.find`: the Triton kernel for tensors on the CPU, run by the interpreter."""
    from recon.kernels import gpu

    kernel = getattr(gpu, operation)
    return kernel if precision == "single" else partial(kernel, precision=precision)


class OnDevice(LinearOperator):
    """An operator that is applied on a device to tensors from the CPU, so that contracts written there hold for it."""

    def __init__(self, operator: LinearOperator, device: torch.device) -> None:
        self._operator, self._device = operator, device

    @property
    def domain_shape(self) -> Shape:
        return self._operator.domain_shape

    @property
    def range_shape(self) -> Shape:
        return self._operator.range_shape

    def _forward(self, x: Tensor) -> Tensor:
        return self._run(self._operator, x)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self._run(self._operator.T, y)

    def _run(self, operator: LinearOperator, x: Tensor) -> Tensor:
        result: Tensor = operator @ x.to(self._device)
        assert result.device == self._device
        return result.cpu()


def close(found: Tensor, expected: Tensor, share: float) -> None:
    """Compare with a share of the largest value, wherever the tensors are and whatever their type."""
    assert found.shape == expected.shape
    most = float(expected.detach().abs().max())
    difference = float((found.detach().cpu().double() - expected.detach().cpu().double()).abs().max())
    assert difference <= share * most, f"{difference / most:.1e} of the largest value"
