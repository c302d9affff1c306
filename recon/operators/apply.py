"""Operators in torch's machinery: autograd of any order, `torch.func`, and one opaque operation for `torch.compile`."""

import itertools
import secrets
from collections import OrderedDict
from typing import Any, Protocol
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from recon.errors import ConfigError

_KEPT = 32  # operators that compiled code has used last and that live on, for a `backward` after their last reference


class Linear(Protocol):
    """What is applied: a linear operator, see `recon.operators.linear`."""

    @property
    def domain_shape(self) -> tuple[int, ...]:
        """Shape of what the operator is applied to."""

    @property
    def range_shape(self) -> tuple[int, ...]:
        """Shape of what the operator gives."""

    def _forward(self, x: Tensor) -> Tensor: ...

    def _adjoint(self, y: Tensor) -> Tensor: ...


_registered: "WeakValueDictionary[int, Linear]" = WeakValueDictionary()
_used: "OrderedDict[int, Linear]" = OrderedDict()  # by compiled code, the last one last
_numbers = itertools.count(secrets.randbits(48))  # no other process's: compilers keep code, with shapes, on the disk


def register(operator: Linear) -> int:
    """Give an operator a number by which compiled code, which holds tensors and numbers alone, finds it again."""
    number = next(_numbers)
    _registered[number] = operator
    return number


def apply(x: Tensor, operator: Linear, number: int, transposed: bool) -> Tensor:
    """Apply an operator or its transpose to (batch, *shape), in the graph of the array."""
    if torch.compiler.is_compiling():
        out: Tensor = torch.ops.raymend.apply(x, number, transposed)
    else:
        out = _Apply.apply(x, operator, transposed)  # type: ignore[no-untyped-call]
    return out


class _Apply(torch.autograd.Function):
    """Apply an operator; its derivative is the transpose, applied the same way, so any order works."""

    @staticmethod
    def forward(x: Tensor, operator: Linear, transposed: bool) -> Tensor:
        """Apply the operator outside the graph."""
        return (operator._adjoint if transposed else operator._forward)(x.detach())

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep the operator alone: a linear map's derivative does not ask where it is taken."""
        _, ctx.operator, ctx.transposed = inputs

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        """Apply the transpose, itself differentiable."""
        grad: Tensor = _Apply.apply(grads[0].contiguous(), ctx.operator, not ctx.transposed)  # type: ignore[no-untyped-call]
        return grad, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        """Apply the operator to the tangent."""
        out: Tensor = _Apply.apply(tangent.contiguous(), ctx.operator, ctx.transposed)  # type: ignore[no-untyped-call]
        return out

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], x: Tensor, *rest: Any) -> tuple[Tensor, int]:
        """Take the mapped axis into the batch."""
        mapped = x.movedim(in_dims[0], 0)
        out: Tensor = _Apply.apply(mapped.flatten(0, 1), *rest)  # type: ignore[no-untyped-call]
        return out.unflatten(0, mapped.shape[:2]), 0


_library = torch.library.Library("raymend", "FRAGMENT")
_library.define("apply(Tensor x, int operator, bool transposed) -> Tensor")


def _found(number: int) -> Linear:
    """Return the operator of a number, and keep it: the graph of compiled code holds the number alone."""
    operator = _registered.get(number)
    if operator is None:
        raise ConfigError(
            f"operator: expected one that compiled code can still find, got one that is gone, as {_KEPT} others have "
            "been used since; keep a reference to it until backward is done"
        )
    _used[number] = operator
    _used.move_to_end(number)
    if len(_used) > _KEPT:
        _used.popitem(last=False)
    return operator


def _run(x: Tensor, number: int, transposed: bool) -> Tensor:
    operator = _found(number)
    return (operator._adjoint if transposed else operator._forward)(x.detach()).contiguous()


def _shape(x: Tensor, number: int, transposed: bool) -> Tensor:
    operator = _found(number)
    return x.new_empty(x.shape[0], *(operator.domain_shape if transposed else operator.range_shape))


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, *ctx.which = inputs


def _transpose(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
    number, transposed = ctx.which
    return torch.ops.raymend.apply(grad.contiguous(), number, not transposed), None, None


_library.impl("apply", _run, "CompositeExplicitAutograd")
torch.library.register_fake("raymend::apply", _shape, lib=_library)
torch.library.register_autograd("raymend::apply", _transpose, setup_context=_keep, lib=_library)
