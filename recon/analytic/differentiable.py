"""Filtered backprojection in a graph: gradients with respect to the values and the poses of a scan, block by block."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor
from torch._C import _functorch

from recon import kernels, memory
from recon.analytic.recipe import Advance, Projections, Recipe
from recon.errors import ConfigError
from recon.geometry.pose import in_graph
from recon.scan import Scan


def reconstruct(recipe: Recipe, scan: Scan, *, progress: Advance | None = None) -> Tensor:
    """Return the image (z, y, x) of a scan, within the graph of its values and poses if they are in one."""
    values = scan.held
    if not torch.is_grad_enabled() or not (in_graph(values) or recipe.graph is not None):
        return recipe.image(scan, progress=progress)
    matrices = recipe.maps.matrices if recipe.graph is None else recipe.graph
    out: Tensor = _Image.apply(values, matrices, recipe, scan, progress)  # type: ignore[no-untyped-call]
    return out


def refuse_functional() -> None:
    """Refuse to work under derivatives of `torch.func`, which wrap every tensor that is made: kernels need numbers."""
    if torch.compiler.is_compiling():
        return
    levels = _functorch.get_interpreter_stack() or ()
    if any(level.key() != _functorch.TransformType.Vmap for level in levels):
        _refuse_forwards()


def _refuse_forwards() -> NoReturn:
    raise ConfigError(
        "fbp, fdk: expected a derivative by backward or torch.autograd.grad, got torch.func or forward mode; use "
        "requires_grad_ and backward, or a Projector, which takes these by its volumes"
    )


class _Image(torch.autograd.Function):
    """The image as a function of the values and of the maps' matrices."""

    @staticmethod
    def forward(
        values: Tensor | None, matrices: Tensor, recipe: Recipe, scan: Scan, progress: Advance | None
    ) -> Tensor:
        """Reconstruct outside the graph."""
        return recipe.placed(matrices).image(_numbers(scan, values), progress=progress)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep the values, which the gradient to poses needs; they are filtered again."""
        values, matrices, ctx.recipe, ctx.scan, _ = inputs
        ctx.save_for_backward(values, matrices)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        """Transpose backprojection and filter for the values, differentiate backprojection for the matrices."""
        wanted = (ctx.needs_input_grad[0], ctx.needs_input_grad[1])
        by_values, by_matrices = _Slopes.apply(  # type: ignore[no-untyped-call]
            grads[0].contiguous(), *ctx.saved_tensors, ctx.recipe, ctx.scan, wanted
        )
        return by_values if wanted[0] else None, by_matrices if wanted[1] else None, None, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> NoReturn:
        """Refuse."""
        _refuse_forwards()


class _Slopes(torch.autograd.Function):
    """The gradients. That by the values is linear in the image's, and its derivative is the reconstruction."""

    @staticmethod
    def forward(
        grad: Tensor, values: Tensor | None, matrices: Tensor, recipe: Recipe, scan: Scan, wanted: tuple[bool, bool]
    ) -> tuple[Tensor, Tensor]:
        """Differentiate by values (view, row, column) and matrices (view, 3, 4)."""
        return _slopes(recipe.placed(matrices), _numbers(scan, values), scan.geometry.shape, grad.detach(), wanted)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        """Keep what the reconstruction needs."""
        _, _, matrices, ctx.recipe, ctx.scan, ctx.wanted = inputs
        ctx.save_for_backward(matrices)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        """Reconstruct; poses and truncated projections have no second derivative."""
        if ctx.wanted[1] or ctx.recipe.continuation is not None:
            raise ConfigError(
                'fbp, fdk: expected a first derivative by poses, or with padding="edge", got a second one, which does '
                "not exist; take the first without create_graph, or use a Projector"
            )
        (matrices,) = ctx.saved_tensors
        back = _Image.apply(grads[0].contiguous(), matrices, ctx.recipe, ctx.scan, None)  # type: ignore[no-untyped-call]
        return back, None, None, None, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> NoReturn:
        """Refuse."""
        _refuse_forwards()


@dataclass(frozen=True)
class _Held:
    """Values as a recipe reads them; those of a gradient may be any."""

    values: Tensor

    @property
    def dtype(self) -> torch.dtype:
        return self.values.dtype

    def block(self, views: slice, rows: slice) -> Tensor:
        return self.values[views, rows]

    def empty(self, *shape: int) -> Tensor:
        return self.values.new_empty(shape)


def _numbers(scan: Scan, values: Tensor | None) -> Projections:
    """Return what is read of a scan, in no graph."""
    return scan if values is None else _Held(values.detach())


class _Block(NamedTuple):
    """Some slices, the rows that see them, and some views."""

    slices: slice
    rows: tuple[int, int]
    views: slice


def _blocks(recipe: Recipe) -> Iterator[_Block]:
    for slices in recipe.slabs():
        rows = recipe.rows_of(slices)
        for views in recipe.blocks(rows):
            yield _Block(slices, rows, views)


def _slopes(
    recipe: Recipe, scan: Projections, shape: tuple[int, ...], grad: Tensor, wanted: tuple[bool, bool]
) -> tuple[Tensor, Tensor]:
    by_values = memory.like(grad, shape, fill=0) if wanted[0] else grad.new_zeros(0)
    by_matrices = torch.zeros_like(recipe.maps.matrices)

    def work(block: _Block, device: torch.device | None) -> tuple[Tensor | None, Tensor | None]:
        slab = grad[block.slices][None]
        slab = (slab if device is None or slab.is_cuda else slab.to(device)).contiguous()
        part = recipe.maps.block(block.views, block.rows, block.slices)
        values = matrices = None
        if wanted[0]:
            values = _unfilter(recipe, scan, block, kernels.find("backproject_adjoint", slab)(part, slab)[0])
        if wanted[1]:
            filtered = recipe.filtered(scan, block.views, block.rows, slab.device)[None]
            matrices = kernels.find("map_gradient", slab)(part, filtered, slab)
        return values, matrices

    for block, (values, matrices) in memory.in_turn(_blocks(recipe), work):
        if values is not None:
            by_values[block.views, recipe.seen(block.rows)[0]] += values.to(by_values)
        if matrices is not None:
            by_matrices[block.views] += recipe.maps.by_whole(matrices.to(by_matrices), block.rows, block.slices)
        del values, matrices
        memory.release()
    return by_values, by_matrices


def _unfilter(recipe: Recipe, scan: Projections, block: _Block, slopes: Tensor) -> Tensor:
    """Turn derivatives by filtered values of some views and rows into ones by the values."""
    seen, at = recipe.seen(block.rows)
    inner = slopes[:, at].clone()
    inner[:, :1] += slopes[:, : at.start].sum(1, keepdim=True)  # rows beyond the detector repeat its outer ones
    inner[:, -1:] += slopes[:, at.stop :].sum(1, keepdim=True)
    begin, _, _ = block.views.indices(len(recipe.weights))
    columns = 0
    for part in recipe.parts(block.views, seen, inner.device):
        with torch.enable_grad():
            values = scan.block(part, seen).detach().to(inner.device).requires_grad_()
            filtered = recipe.filter(values, part, seen)
        local = inner[part.start - begin : part.stop - begin]
        columns = values.shape[-1]
        local[..., :columns] = torch.autograd.grad(filtered, values, local)[0]  # in place: they are as wide or wider
    return inner[..., :columns]
