"""What every linear operator promises."""

import re
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from recon.errors import ConfigError, NumericalError, ResourceError, ShapeError
from recon.operators import Diagonal, Gradient, Identity, LinearOperator, gradient_norm
from recon.operators.linear import Shape
from tests.contracts.geometries import CASES, Case
from tests.contracts.operators import CHECKS, OPERATORS, dense, draw, example

Check = Callable[[LinearOperator], None]
each = pytest.mark.parametrize("name", list(OPERATORS))


@cache
def operator(name: str) -> LinearOperator:
    return OPERATORS[name]()


@each
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_operator(name: str, check: Check) -> None:
    check(operator(name))


@each
@pytest.mark.parametrize("transposed", [False, True])
def test_wrong_input_is_refused_with_advice(name: str, transposed: bool) -> None:
    a = operator(name).T if transposed else operator(name)
    shape = a.domain_shape
    wider = (*shape[:-1], shape[-1] + 1)
    with pytest.raises(ShapeError, match=rf"x: expected .*{re.escape(str(shape))}.*got {re.escape(str(wider))}"):
        a @ torch.zeros(wider)
    with pytest.raises(ShapeError, match=rf"x: expected .*{re.escape(str(shape))}"):
        a @ torch.zeros(shape[1:])
    for dtype in (torch.float16, torch.bfloat16, torch.int32, torch.uint8, torch.complex64, torch.bool):
        with pytest.raises(ShapeError, match=rf"x: expected float32 or float64, got {dtype}; convert"):
            a @ torch.zeros(shape, dtype=dtype)
    with pytest.raises(ShapeError, match="x: expected a torch tensor, got ndarray; wrap it"):
        a @ np.zeros(shape, dtype=np.float32)


def test_projector_names_its_axes_and_notices_swapped_ones() -> None:
    a = example("cone, flat")
    with pytest.raises(ShapeError, match=r"x: expected \(z, y, x\) = \(3, 6, 7\).*axes look swapped"):
        a @ torch.zeros(7, 6, 3)
    with pytest.raises(ShapeError, match=r"x: expected \(view, row, column\) = \(5, 4, 9\)"):
        a.T @ torch.zeros(4, 5, 8)


def test_projector_says_what_to_do_on_a_device_without_kernels() -> None:
    a = example("cone, flat")
    with pytest.raises(ResourceError, match=r"forward: expected .*got meta.*\.cpu\(\)"):
        a @ torch.zeros(a.domain_shape, device="meta")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_some_views_are_some_rows(case: Case) -> None:
    a, n = case.projector(), len(case.geometry)
    x = draw(*a.domain_shape)
    full = a @ x
    for views in (slice(None, None, 2), slice(None, None, -1), [n - 1, 0], torch.arange(n) % 2 == 0, -1, np.int64(0)):
        rows = torch.arange(n).tolist()[views] if isinstance(views, slice) else views
        # An arc takes radius and pitch from the first view it holds, which rounds: 9e-16 measured, else bit for bit.
        torch.testing.assert_close(a[views] @ x, full[rows].reshape(-1, *full.shape[1:]), rtol=1e-12, atol=1e-12)
        assert a[views].adjoint_error() < 1e-12


def test_projector_keeps_its_own_poses() -> None:
    case = next(case for case in CASES if case.name == "cone, flat, moved")
    poses = case.poses.clone()
    a = Case("", case.geometry, case.grid, poses).projector()
    poses.zero_()
    assert torch.equal(a @ torch.ones(a.domain_shape), case.projector() @ torch.ones(a.domain_shape))


def test_algebra_is_that_of_matrices() -> None:
    a, b = example("fan, arc"), example("fan, flat")
    d = Diagonal(draw(*a.range_shape, seed=2))
    expected = dense(d) @ (2 * dense(a) - dense(b))
    torch.testing.assert_close(dense(d @ (2 * a - b)), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(dense((d @ (2 * a - b)).T), expected.T, rtol=1e-12, atol=1e-12)


def test_operators_that_do_not_fit_are_refused() -> None:
    a = example("fan, arc")
    with pytest.raises(ShapeError, match=r"composition: the outer operator expects .* the inner one gives"):
        a @ a
    with pytest.raises(ShapeError, match="sum: expected equal shapes"):
        a + a.T
    with pytest.raises(ConfigError, match=r"factor: expected a number, .*use Diagonal"):
        a * torch.ones(a.range_shape)
    with pytest.raises(ConfigError, match="factor: expected a finite number"):
        a * float("nan")
    with pytest.raises(NumericalError, match="weights: expected finite values, got 1 of 2"):
        Diagonal(torch.tensor([1.0, float("inf")]))


@pytest.mark.parametrize("shape", [(3, 4, 5), (1, 6, 6), (1, 1, 7), (2, 2, 2)])
def test_gradient_norm_bounds_from_above(shape: Shape) -> None:
    spacing = (1.0, 0.5, 2.0)
    largest = float(torch.linalg.matrix_norm(dense(Gradient(shape, spacing)), ord=2))
    # The bound is that of an endless grid: the fewer voxels the looser, 1.41 measured at two per axis.
    assert largest <= gradient_norm(shape, spacing) < 1.42 * largest


def test_a_norm_of_zero_is_zero_and_its_adjoint_cannot_be_judged() -> None:
    zero = 0.0 * Identity((3,))
    assert zero.norm() == 0.0
    with pytest.raises(NumericalError, match="gives zero for random input"):
        zero.adjoint_error()


class Broken(Diagonal):
    """A diagonal that is right until something is done to it."""

    def __init__(self) -> None:
        super().__init__(draw(2, 3, 4))


class WrongAdjoint(Broken):
    def _adjoint(self, y: Tensor) -> Tensor:
        return 1.01 * super()._adjoint(y)


class SlightlyWrongAdjoint(Broken):
    def _adjoint(self, y: Tensor) -> Tensor:
        return (1 + 1e-8) * super()._adjoint(y)


class CutsTheGraph(Broken):
    def __call__(self, x: Tensor) -> Tensor:
        return super().__call__(x.detach())


class Nonlinear(Broken):
    def _forward(self, x: Tensor) -> Tensor:
        return super()._forward(x).abs()


class Affine(Broken):
    def _forward(self, x: Tensor) -> Tensor:
        return super()._forward(x) + 1e-3


class InPlace(Broken):
    def _forward(self, x: Tensor) -> Tensor:
        return x.mul_(self._weights.to(x))


class AliasesItsInput(Identity):
    def _forward(self, x: Tensor) -> Tensor:
        return x


class MixesTheBatch(Broken):
    def _forward(self, x: Tensor) -> Tensor:
        return super()._forward(x[:1].expand_as(x))


class AlwaysSingle(Broken):
    def _forward(self, x: Tensor) -> Tensor:
        return super()._forward(x).float()


class RoundsToSingle(Broken):
    def _forward(self, x: Tensor) -> Tensor:
        return super()._forward(x.float()).to(x)


class Forgets(Broken):
    def _forward(self, x: Tensor) -> Tensor:
        self._weights = self._weights * 1.5
        return super()._forward(x)


class CannotTravel(Broken):
    def __init__(self) -> None:
        super().__init__()
        self._callback = lambda: None


class ReadsMemoryOrder(Broken):
    def _forward(self, x: Tensor) -> Tensor:
        return super()._forward(torch.as_strided(x, x.shape, torch.empty(x.shape).stride()))


class WrongNorm(Broken):
    def norm(self, **settings: object) -> float:
        return 1.1 * super().norm(**settings)


def notices(check: Check, a: LinearOperator) -> bool:
    try:
        check(a)
    except Exception:
        return True
    return False


@pytest.mark.parametrize(
    ("broken", "noticed_by"),
    [
        (SlightlyWrongAdjoint, "is_adjoint_in_float64"),
        (WrongAdjoint, "is_adjoint_in_float32"),
        (SlightlyWrongAdjoint, "has_the_transposed_matrix"),
        (CutsTheGraph, "differentiates_to_its_adjoint"),
        (WrongAdjoint, "passes_gradcheck"),
        (Nonlinear, "is_linear"),
        (Affine, "is_linear"),
        (InPlace, "leaves_its_input_alone"),
        (AliasesItsInput, "leaves_its_input_alone"),
        (MixesTheBatch, "takes_batches_as_a_loop_would"),
        (MixesTheBatch, "vmaps_as_a_loop_would"),
        (Forgets, "differentiates_forwards_to_itself"),
        (AlwaysSingle, "compiles"),
        (AlwaysSingle, "keeps_shape_and_dtype"),
        (RoundsToSingle, "is_adjoint_in_float64"),
        (Forgets, "repeats_itself"),
        (CannotTravel, "pickles"),
        (ReadsMemoryOrder, "takes_any_memory_layout"),
        (WrongNorm, "estimates_its_norm"),
    ],
)
def test_the_contract_notices_an_operator_broken_on_purpose(broken: type, noticed_by: str) -> None:
    (check,) = (check for check in CHECKS if check.__name__ == noticed_by)
    assert not notices(check, Diagonal(draw(2, 3, 4)))
    assert notices(check, broken() if issubclass(broken, Broken) else broken((2, 3, 4)))
