"""The contract of operators, and numbers equal to the CPU's, for every geometry."""

from collections.abc import Callable

import pytest
import torch

from recon import kernels
from recon.kernels.maps import maps
from recon.operators import LinearOperator
from tests.contracts.geometries import CASES, Case
from tests.contracts.operators import CHECKS, draw
from tests.gpu.on_device import OnDevice, close, everywhere, on_gpu

Check = Callable[[LinearOperator], None]
SOME = [case for case in CASES if case.name in ("parallel", "cone, flat")]
QUICK = [
    check for check in CHECKS if check.__name__ in ("is_adjoint_in_float32", "takes_an_empty_batch", "repeats_itself")
]
each = pytest.mark.parametrize("case", CASES, ids=str)
some = pytest.mark.parametrize("case", SOME, ids=str)
ROUNDING = {torch.float32: 1e-5, torch.float64: 1e-11}  # each is within 5e-6 of the twin in single precision


@on_gpu
@each
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_projector_keeps_the_contract(device: torch.device, case: Case, check: Check) -> None:
    check(OnDevice(case.projector(), device))


@pytest.mark.parametrize("device", ["interpreter"], indirect=True)
@some
@pytest.mark.parametrize("check", QUICK, ids=lambda check: check.__name__)
def test_the_contract_can_be_asked_of_a_device(device: torch.device, case: Case, check: Check) -> None:
    check(OnDevice(case.projector(), device))


def projects_as_the_cpu_does(case: Case, device: torch.device, dtype: torch.dtype) -> None:
    a = case.projector()
    x, y = draw(2, *a.domain_shape, dtype=dtype), draw(2, *a.range_shape, dtype=dtype)
    from recon.kernels import cpu

    close(a @ x.to(device), cpu.forward(a.lines, x), ROUNDING[dtype])
    close(a.T @ y.to(device), cpu.adjoint(a.lines, y), ROUNDING[dtype])


def reads_as_the_cpu_does(case: Case, device: torch.device, dtype: torch.dtype) -> None:
    from recon.kernels import cpu

    places = maps(case.geometry, case.grid, unit=30.0, poses=case.poses)
    x, y = draw(2, *case.grid.shape, dtype=dtype), draw(2, *case.geometry.shape, dtype=dtype)
    image = kernels.find("backproject", y.to(device))(places, y.to(device))
    close(image, cpu.backproject(places, y), ROUNDING[dtype])
    shadow = kernels.find("backproject_adjoint", x.to(device))(places, x.to(device))
    close(shadow, cpu.backproject_adjoint(places, x), ROUNDING[dtype])


@on_gpu
@each
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_numbers_are_those_of_the_cpu(device: torch.device, case: Case, dtype: torch.dtype) -> None:
    projects_as_the_cpu_does(case, device, dtype)
    reads_as_the_cpu_does(case, device, dtype)


@pytest.mark.parametrize("device", ["interpreter"], indirect=True)
@some
def test_numbers_of_the_interpreter_are_those_of_the_cpu(device: torch.device, case: Case) -> None:
    projects_as_the_cpu_does(case, device, torch.float32)
    reads_as_the_cpu_does(case, device, torch.float32)


@everywhere
def test_input_of_any_layout_is_taken(device: torch.device) -> None:
    a = SOME[1].projector()
    x = draw(2, *a.domain_shape, dtype=torch.float32).to(device)
    expected = a @ x
    strided = torch.zeros(2, *(2 * n for n in a.domain_shape), device=device)[:, ::2, ::2, ::2]
    strided.copy_(x)
    for other in (strided, x.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)):
        assert not other.is_contiguous()
        assert torch.equal(a @ other, expected)
    assert torch.equal(a @ x[:1].expand(3, *a.domain_shape), expected[:1].expand(3, *a.range_shape))
    shifted = torch.zeros(x.numel() + 1, device=device)[1:].view(x.shape)  # not aligned to 16 bytes
    shifted.copy_(x)
    close(a @ shifted, expected, 1e-6)
