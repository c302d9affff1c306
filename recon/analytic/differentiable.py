"""Filtered backprojection in a graph: gradients with respect to the values and the poses of a scan, block by block."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

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


def _slopes(
    recipe: Recipe, scan: Projections, shape: tuple[int, ...], grad: Tensor, wanted: tuple[bool, bool]
) -> tuple[Tensor, Tensor]:
    by_values = memory.like(grad, shape, fill=0) if wanted[0] else grad.new_zeros(0)
    by_matrices = torch.zeros_like(recipe.maps.matrices)
    for slices in recipe.slabs():
        rows = recipe.rows_of(slices)
        slab = grad[slices][None].contiguous()
        for views in recipe.blocks(rows):
            block = recipe.maps.block(views, rows, slices)
            if wanted[0]:
                spread = kernels.find("backproject_adjoint", slab)(block, slab)[0]
                _unfilter(recipe, scan, views, rows, spread, by_values)
            if wanted[1]:
                filtered = recipe.filtered(scan, views, rows)[None]
                found = kernels.find("map_gradient", slab)(block, filtered, slab).to(by_matrices)
                by_matrices[views] += recipe.maps.by_whole(found, rows, slices)
            memory.release()
    return by_values, by_matrices


def _unfilter(
    recipe: Recipe, scan: Projections, views: slice, rows: tuple[int, int], slopes: Tensor, out: Tensor
) -> None:
    """Add to derivatives by values what those by the filtered values of some views and rows give."""
    seen, at = recipe.seen(rows)
    inner = slopes[:, at].clone()
    inner[:, :1] += slopes[:, : at.start].sum(1, keepdim=True)  # rows beyond the detector repeat its outer ones
    inner[:, -1:] += slopes[:, at.stop :].sum(1, keepdim=True)
    begin, _, _ = views.indices(len(out))
    for part in recipe.parts(views, seen, out.device):
        with torch.enable_grad():
            values = scan.block(part, seen).detach().requires_grad_()
            filtered = recipe.filter(values, part, seen)
        local = inner[part.start - begin : part.stop - begin]
        out[part, seen] += torch.autograd.grad(filtered, values, local)[0]
