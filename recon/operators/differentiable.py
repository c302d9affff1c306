"""The projector in the graph of its rays: gradients with respect to poses and the detector's alignment."""

from typing import Any, Protocol

import torch
from torch import Tensor

from recon.errors import ConfigError
from recon.kernels.lines import Lines

_COUNT = 5  # source, centre, v, u and depth, the tensors of `Lines` that motion changes


class Rays(Protocol):
    """What projects along rays, and knows how the result changes with them."""

    def settle(self, source: Tensor, centre: Tensor, v: Tensor, u: Tensor, depth: Tensor) -> None:
        """Take the numbers of the rays, the same in every call."""

    def _forward(self, x: Tensor) -> Tensor: ...

    def _adjoint(self, y: Tensor) -> Tensor: ...

    def ray_gradient(self, volume: Tensor, projections: Tensor) -> Tensor:
        """Differentiate the sum of projected volumes times projections by the tensors of the rays: (view, 5, 3)."""


def project(x: Tensor, lines: Lines, rays: Rays, *, transposed: bool) -> Tensor:
    """Project along rays, or back along them, within the graph of the array and of the lines."""
    vectors = (lines.source, lines.centre, lines.v, lines.u, lines.depth)
    out: Tensor = _Project.apply(x, *vectors, rays, transposed)  # type: ignore[no-untyped-call]
    return out


class _Project(torch.autograd.Function):
    """A(lines) x or A(lines)ᵀ x: any order in x, and once in the lines."""

    @staticmethod
    def forward(x: Tensor, *rest: Any) -> Tensor:
        """Apply the projector or its transpose outside the graph."""
        *vectors, rays, transposed = rest
        rays.settle(*(vector.detach() for vector in vectors))
        out: Tensor = (rays._adjoint if transposed else rays._forward)(x.detach())
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep everything: the gradient to the rays needs the array."""
        *tensors, ctx.rays, ctx.transposed = inputs
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        """Apply the transpose for the array, and the same kernel in both directions for the rays."""
        x, *vectors = ctx.saved_tensors
        grad = grads[0].contiguous()
        slopes: list[Any] = [None] * _COUNT
        if any(ctx.needs_input_grad[1:-2]):
            volume, projections = (grad, x) if ctx.transposed else (x, grad)
            found: Tensor = _Slopes.apply(volume, projections, *vectors, ctx.rays)  # type: ignore[no-untyped-call]
            slopes = list(found.unbind(1))
        back = None
        if ctx.needs_input_grad[0]:
            back = _Project.apply(grad, *vectors, ctx.rays, not ctx.transposed)  # type: ignore[no-untyped-call]
        return back, *slopes, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        """Apply the operator to the tangent; a tangent of the rays is refused."""
        along, *others = tangents[: 1 + _COUNT]
        if any(other is not None for other in others):
            raise ConfigError(
                "poses, alignment: expected reverse mode (backward, torch.func.grad), got a forward-mode derivative"
            )
        _, *vectors = ctx.saved_tensors
        out: Tensor = _Project.apply(along, *vectors, ctx.rays, ctx.transposed)  # type: ignore[no-untyped-call]
        return out

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], x: Tensor, *rest: Any) -> tuple[Tensor, int]:
        """Take the mapped axis into the batch."""
        if any(axis is not None for axis in in_dims[1:]):
            raise ConfigError("poses, alignment: expected one motion for all items of torch.func.vmap, got one of each")
        mapped = x.movedim(in_dims[0], 0)
        out: Tensor = _Project.apply(mapped.flatten(0, 1), *rest)  # type: ignore[no-untyped-call]
        return out.unflatten(0, mapped.shape[:2]), 0


class _Slopes(torch.autograd.Function):
    """The gradient with respect to the rays, which has no derivative of its own."""

    @staticmethod
    def forward(volume: Tensor, projections: Tensor, *rest: Any) -> Tensor:
        """Differentiate by source, centre, v, u and depth: (view, 5, 3)."""
        *vectors, rays = rest
        rays.settle(*(vector.detach() for vector in vectors))
        found: Tensor = rays.ray_gradient(volume.detach(), projections.detach())
        return found

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep nothing."""

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        """Refuse."""
        raise ConfigError(
            "poses, alignment: expected a first derivative, got a second one through the rays, which does not exist; "
            "take it without create_graph, or detach the first"
        )

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], volume: Tensor, projections: Tensor, *rest: Any) -> Any:
        """Differentiate item by item."""
        parts = []
        for item in range(info.batch_size):
            pair = (
                tensor if axis is None else tensor.select(axis, item)
                for tensor, axis in zip((volume, projections), in_dims, strict=False)
            )
            parts.append(_Slopes.apply(*pair, *rest))  # type: ignore[no-untyped-call]
        return torch.stack(parts), 0
