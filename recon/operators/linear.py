"""The algebra of linear operators: apply, transpose, compose, add, scale, subset, with autograd throughout."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from recon import checks
from recon.errors import ConfigError, NumericalError, ShapeError
from recon.random import generator

Shape = tuple[int, ...]


class LinearOperator(ABC):
    """A linear map between arrays of fixed shapes; leading batch axes are free.

    A concrete operator defines the two shapes, `_forward` and `_adjoint` (both on one batch axis). Everything else
    follows: ``A @ x``, ``A.T @ y``, ``B @ A``, ``A + B``, ``2.0 * A``, gradients of any order, `norm` and
    `adjoint_error`. Operators are immutable.
    """

    __array_ufunc__ = None  # numpy's numbers leave `factor * operator` to the operator

    @property
    @abstractmethod
    def domain_shape(self) -> Shape:
        """Shape of what the operator is applied to."""

    @property
    @abstractmethod
    def range_shape(self) -> Shape:
        """Shape of what the operator gives."""

    @abstractmethod
    def _forward(self, x: Tensor) -> Tensor:
        """Apply to (batch, *domain_shape)."""

    @abstractmethod
    def _adjoint(self, y: Tensor) -> Tensor:
        """Apply the exact transpose to (batch, *range_shape)."""

    @property
    def axes(self) -> tuple[str, str]:
        """Names of the axes of both shapes, for messages."""
        return "domain axes", "range axes"

    def __call__(self, x: Tensor) -> Tensor:
        """Apply the operator to an array with any leading batch axes, on the array's device."""
        checks.shaped("x", checks.floating("x", x), self.domain_shape, self.axes[0])
        batch = x.shape[: x.ndim - len(self.domain_shape)]
        flat = x.reshape(-1, *self.domain_shape)
        out: Tensor = _Apply.apply(flat, self, self.T)  # type: ignore[no-untyped-call]
        return out.reshape(*batch, *self.range_shape)

    def __matmul__(self, other: Any) -> Any:
        if isinstance(other, LinearOperator):
            return Composition(self, other)
        return self(other)

    def __add__(self, other: "LinearOperator") -> "LinearOperator":
        return Sum(self, other) if isinstance(other, LinearOperator) else NotImplemented

    def __sub__(self, other: "LinearOperator") -> "LinearOperator":
        return Sum(self, -other) if isinstance(other, LinearOperator) else NotImplemented

    def __neg__(self) -> "LinearOperator":
        return Scaled(self, -1.0)

    def __mul__(self, factor: float) -> "LinearOperator":
        return Scaled(self, factor)

    __rmul__ = __mul__

    @property
    def T(self) -> "LinearOperator":
        """The exact transpose."""
        return Transpose(self)

    def norm(
        self,
        *,
        iterations: int = 20,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
        device: "torch.device | str" = "cpu",
    ) -> float:
        """Estimate the largest singular value by the power method, on a device.

        The estimate approaches from below, so steps derived from it want a margin of a few per cent.
        """
        x = torch.rand(self.domain_shape, generator=generator(seed), dtype=dtype).to(device)
        size = 0.0
        with torch.no_grad():
            for _ in range(iterations):
                x = self.T(self(x / x.norm()))
                size = float(x.norm())
                if size == 0.0:
                    return 0.0
        return math.sqrt(size)

    def adjoint_error(
        self, *, seed: int = 0, dtype: torch.dtype = torch.float64, device: "torch.device | str" = "cpu"
    ) -> float:
        """Measure |⟨Ax, y⟩ - ⟨x, Aᵀy⟩| / (‖Ax‖ ‖y‖) for random x and y, on a device.

        A matched pair gives rounding: below 1e-12 in float64 and below 1e-5 in float32.
        """
        draw = generator(seed)
        x = torch.randn(self.domain_shape, generator=draw, dtype=dtype).to(device)
        y = torch.randn(self.range_shape, generator=draw, dtype=dtype).to(device)
        with torch.no_grad():
            ax, aty = self(x), self.T(y)
        gap = (ax.double() * y.double()).sum() - (x.double() * aty.double()).sum()
        scale = float(ax.double().norm() * y.double().norm())
        if scale == 0.0:
            raise NumericalError("adjoint_error: the operator gives zero for random input; nothing can be compared")
        return abs(float(gap)) / scale


class _Apply(torch.autograd.Function):
    """Apply an operator; its derivative is the transpose, applied the same way, so any order works."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, operator: LinearOperator, transpose: LinearOperator) -> Tensor:
        """Apply the operator outside the graph."""
        ctx.pair = (transpose, operator)
        return operator._forward(x.detach())

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        """Apply the transpose, itself differentiable."""
        transpose, operator = ctx.pair
        grad: Tensor = _Apply.apply(grads[0].contiguous(), transpose, operator)  # type: ignore[no-untyped-call]
        return grad, None, None


class Transpose(LinearOperator):
    """The transpose of an operator."""

    def __init__(self, operator: LinearOperator) -> None:
        self._operator = operator

    @property
    def domain_shape(self) -> Shape:
        """The operator's range."""
        return self._operator.range_shape

    @property
    def range_shape(self) -> Shape:
        """The operator's domain."""
        return self._operator.domain_shape

    @property
    def axes(self) -> tuple[str, str]:
        """The operator's names, swapped."""
        return self._operator.axes[1], self._operator.axes[0]

    @property
    def T(self) -> LinearOperator:
        """The operator itself."""
        return self._operator

    def _forward(self, x: Tensor) -> Tensor:
        return self._operator._adjoint(x)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self._operator._forward(y)


class Composition(LinearOperator):
    """First the inner operator, then the outer one."""

    def __init__(self, outer: LinearOperator, inner: LinearOperator) -> None:
        if outer.domain_shape != inner.range_shape:
            raise ShapeError(
                f"composition: the outer operator expects {outer.domain_shape}, the inner one gives {inner.range_shape}"
            )
        self._outer, self._inner = outer, inner

    @property
    def domain_shape(self) -> Shape:
        """The inner operator's domain."""
        return self._inner.domain_shape

    @property
    def range_shape(self) -> Shape:
        """The outer operator's range."""
        return self._outer.range_shape

    def _forward(self, x: Tensor) -> Tensor:
        return self._outer._forward(self._inner._forward(x))

    def _adjoint(self, y: Tensor) -> Tensor:
        return self._inner._adjoint(self._outer._adjoint(y))


class Sum(LinearOperator):
    """The sum of two operators of equal shapes."""

    def __init__(self, left: LinearOperator, right: LinearOperator) -> None:
        if (left.domain_shape, left.range_shape) != (right.domain_shape, right.range_shape):
            raise ShapeError(
                f"sum: expected equal shapes, got {left.domain_shape} -> {left.range_shape} and "
                f"{right.domain_shape} -> {right.range_shape}"
            )
        self._left, self._right = left, right

    @property
    def domain_shape(self) -> Shape:
        """The shared domain."""
        return self._left.domain_shape

    @property
    def range_shape(self) -> Shape:
        """The shared range."""
        return self._left.range_shape

    def _forward(self, x: Tensor) -> Tensor:
        return self._left._forward(x) + self._right._forward(x)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self._left._adjoint(y) + self._right._adjoint(y)


class Scaled(LinearOperator):
    """A number times an operator."""

    def __init__(self, operator: LinearOperator, factor: float) -> None:
        if not checks.real(factor):
            raise ConfigError(
                f"factor: expected a number, got {type(factor).__name__}; use Diagonal for weights per element"
            )
        self._operator, self._factor = operator, checks.finite("factor", factor)

    @property
    def domain_shape(self) -> Shape:
        """The operator's domain."""
        return self._operator.domain_shape

    @property
    def range_shape(self) -> Shape:
        """The operator's range."""
        return self._operator.range_shape

    def _forward(self, x: Tensor) -> Tensor:
        return self._factor * self._operator._forward(x)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self._factor * self._operator._adjoint(y)


class Identity(LinearOperator):
    """Give back what comes."""

    def __init__(self, shape: Sequence[int]) -> None:
        self._shape = tuple(shape)

    @property
    def domain_shape(self) -> Shape:
        """The shape."""
        return self._shape

    @property
    def range_shape(self) -> Shape:
        """The shape."""
        return self._shape

    def _forward(self, x: Tensor) -> Tensor:
        return x.clone()

    def _adjoint(self, y: Tensor) -> Tensor:
        return y.clone()


class Diagonal(LinearOperator):
    """Multiply element by element, for example with the square root of statistical weights."""

    def __init__(self, weights: Tensor) -> None:
        self._weights = checks.all_finite("weights", checks.floating("weights", weights))

    @property
    def domain_shape(self) -> Shape:
        """The weights' shape."""
        return tuple(self._weights.shape)

    @property
    def range_shape(self) -> Shape:
        """The weights' shape."""
        return tuple(self._weights.shape)

    def _forward(self, x: Tensor) -> Tensor:
        return x * self._weights.to(x)

    def _adjoint(self, y: Tensor) -> Tensor:
        return y * self._weights.to(y)
