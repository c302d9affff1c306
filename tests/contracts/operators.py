"""Operators, and what each must promise: a new operator is a line in `OPERATORS`, a new promise one in `CHECKS`."""

import pickle
from collections.abc import Callable

import torch
from torch import Tensor

from recon.operators import Diagonal, Gradient, Identity, LinearOperator
from tests.contracts.geometries import CASES, GEOMETRIES


def example(name: str) -> LinearOperator:
    """Make a projector of `GEOMETRIES`."""
    return next(case for case in CASES if case.name == name).projector()


def weights(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.5


def composition() -> LinearOperator:
    a = example("cone, flat")
    return Diagonal(weights(*a.range_shape)) @ a @ Diagonal(weights(*a.domain_shape))


OPERATORS: dict[str, Callable[[], LinearOperator]] = {
    **{case.name: case.projector for case in CASES},
    "gradient": lambda: Gradient((3, 4, 5), (1.0, 0.5, 2.0)),
    "gradient of one slice": lambda: Gradient((1, 4, 5)),
    "diagonal": lambda: Diagonal(weights(2, 3, 4)),
    "identity": lambda: Identity((2, 3, 4)),
    "composition": composition,
    "normal operator": lambda: example("fan, arc").T @ example("fan, arc"),
    "sum": lambda: example("fan, arc") + 0.5 * example("fan, flat"),
    "difference": lambda: example("fan, arc") - example("fan, flat"),
    "scaled": lambda: -2.5 * example("fan, arc"),
    "transpose": lambda: example("helix, arc, moved").T,
    "transpose of a composition": lambda: composition().T,
}
assert len(OPERATORS) == 2 * len(GEOMETRIES) + 11


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def dense(a: LinearOperator) -> Tensor:
    """Write an operator out as a matrix."""
    n = torch.Size(a.domain_shape).numel()
    return (a @ torch.eye(n, dtype=torch.float64).reshape(n, *a.domain_shape)).flatten(1).T


def is_linear(a: LinearOperator) -> None:
    x, y = draw(*a.domain_shape), draw(*a.domain_shape, seed=1)
    # 3e-15 measured.
    torch.testing.assert_close(a @ (2 * x - 3 * y), 2 * (a @ x) - 3 * (a @ y), rtol=1e-12, atol=1e-11)


def is_adjoint_in_float64(a: LinearOperator) -> None:
    for seed in range(3):
        assert a.adjoint_error(seed=seed) < 1e-12  # 3e-16 measured


def is_adjoint_in_float32(a: LinearOperator) -> None:
    for seed in range(3):
        assert a.adjoint_error(seed=seed, dtype=torch.float32) < 1e-5  # 3e-8 measured


def has_the_transposed_matrix(a: LinearOperator) -> None:
    torch.testing.assert_close(dense(a.T), dense(a).T, rtol=1e-12, atol=1e-12)


def transposes_back(a: LinearOperator) -> None:
    x = draw(*a.domain_shape)
    assert torch.equal(a.T.T @ x, a @ x)
    assert (a.T.domain_shape, a.T.range_shape) == (a.range_shape, a.domain_shape)


def differentiates_to_its_adjoint(a: LinearOperator) -> None:
    x, y = draw(*a.domain_shape).requires_grad_(), draw(*a.range_shape, seed=1)
    (gradient,) = torch.autograd.grad((a @ x * y).sum(), x)
    torch.testing.assert_close(gradient, a.T @ y, rtol=0, atol=0)


def passes_gradcheck(a: LinearOperator) -> None:
    x = draw(*a.domain_shape).requires_grad_()
    assert torch.autograd.gradcheck(a, x, fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda x: (a @ x).square(), x, fast_mode=True)


def takes_batches_as_a_loop_would(a: LinearOperator) -> None:
    x = draw(2, 3, *a.domain_shape)
    loop = torch.stack([torch.stack([a @ item for item in row]) for row in x])
    assert torch.equal(a @ x, loop)


def vmaps_as_a_loop_would(a: LinearOperator) -> None:
    x = draw(3, *a.domain_shape)
    assert torch.equal(torch.func.vmap(a)(x), torch.stack([a @ item for item in x]))
    backwards, last = x.movedim(0, -1), len(a.range_shape)
    assert torch.equal(torch.func.vmap(a, in_dims=-1, out_dims=last)(backwards), (a @ x).movedim(0, -1))
    slopes = torch.func.vmap(torch.func.grad(lambda item: (a @ item).square().sum()))(x)
    torch.testing.assert_close(slopes, 2 * (a.T @ (a @ x)), rtol=0, atol=0)


def differentiates_forwards_to_itself(a: LinearOperator) -> None:
    x, tangent = draw(*a.domain_shape), draw(*a.domain_shape, seed=1)
    assert torch.equal(torch.func.jvp(a, (x,), (tangent,))[1], a @ tangent)


def compiles(a: LinearOperator) -> None:
    """Without a break in the graph; under `torch.compile`, `a(x)` is what `a @ x` is elsewhere."""
    torch.compiler.reset()
    compiled = torch.compile(lambda x: a(2 * x).square(), backend="aot_eager", fullgraph=True)
    x, other = (draw(2, *a.domain_shape).requires_grad_() for _ in range(2))
    found, expected = compiled(x), (a @ (2 * other)).square()
    assert torch.equal(found, expected)
    slopes = torch.autograd.grad(found.sum(), x)[0], torch.autograd.grad(expected.sum(), other)[0]
    torch.testing.assert_close(*slopes, rtol=1e-12, atol=1e-12)  # a factor may be applied before or after


def takes_an_empty_batch(a: LinearOperator) -> None:
    assert (a @ torch.zeros(0, *a.domain_shape)).shape == (0, *a.range_shape)


def keeps_shape_and_dtype(a: LinearOperator) -> None:
    for dtype in (torch.float32, torch.float64):
        y = a @ draw(*a.domain_shape, dtype=dtype)
        assert tuple(y.shape) == a.range_shape
        assert y.dtype == dtype


def leaves_its_input_alone(a: LinearOperator) -> None:
    x = draw(*a.domain_shape)
    before = x.clone()
    (a @ x).zero_()
    assert torch.equal(x, before)


def takes_any_memory_layout(a: LinearOperator) -> None:
    x = draw(2, *a.domain_shape)
    backwards = x.permute(*reversed(range(x.ndim))).contiguous().permute(*reversed(range(x.ndim)))
    assert not backwards.is_contiguous()
    assert torch.equal(a @ backwards, a @ x)
    one = x[:1]
    assert torch.equal(a @ one.expand_as(x), (a @ one).expand(2, *a.range_shape))
    assert torch.equal(a @ x.requires_grad_(), a @ x.detach())


def pickles(a: LinearOperator) -> None:
    x = draw(*a.domain_shape)
    y = a @ x  # first, so that whatever it keeps travels along
    assert torch.equal(pickle.loads(pickle.dumps(a)) @ x, y)


def repeats_itself(a: LinearOperator) -> None:
    x = draw(*a.domain_shape)
    assert torch.equal(a @ x, a @ x)


def estimates_its_norm(a: LinearOperator) -> None:
    largest = float(torch.linalg.matrix_norm(dense(a), ord=2))
    estimate = a.norm(iterations=200, dtype=torch.float64)
    assert 0.99 * largest < estimate < (1 + 1e-9) * largest  # 0.9999 measured where the gap is smallest


CHECKS = [
    is_linear,
    is_adjoint_in_float64,
    is_adjoint_in_float32,
    has_the_transposed_matrix,
    transposes_back,
    differentiates_to_its_adjoint,
    passes_gradcheck,
    takes_batches_as_a_loop_would,
    vmaps_as_a_loop_would,
    differentiates_forwards_to_itself,
    compiles,
    takes_an_empty_batch,
    keeps_shape_and_dtype,
    leaves_its_input_alone,
    takes_any_memory_layout,
    pickles,
    repeats_itself,
    estimates_its_norm,
]
