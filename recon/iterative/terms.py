"""What iterations minimise: a sum of smooth terms, and of terms whose proximal map is known."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor

from recon import checks, memory
from recon.errors import ConfigError, ShapeError
from recon.operators import LinearOperator, Projector, subsets

_NORM_MARGIN = 1.05  # the power method approaches the norm from below
_GRAZING = 1e-3  # share of the longest ray below which a ray only grazes the grid and carries no weight


class SmoothTerm(ABC):
    """A differentiable convex function of an image; leading batch axes are summed."""

    @abstractmethod
    def value(self, x: Tensor) -> Tensor:
        """Return the value as a float64 scalar."""

    @abstractmethod
    def gradient(self, x: Tensor) -> Tensor:
        """Return the gradient, shaped like the image."""

    @abstractmethod
    def curvature(self, x: Tensor, *, everywhere: bool = False) -> Tensor:
        """Return a diagonal D: the parabola with value and slope taken at x and bend D lies above the term.

        Args:
            x: where the parabola touches.
            everywhere: ask for one D that serves every x, as methods with momentum need.
        """

    def value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return both, sharing the work where a term can."""
        return self.value(x), self.gradient(x)


class ProximableTerm(ABC):
    """A convex function, perhaps not differentiable, whose proximal map can be computed."""

    @abstractmethod
    def value(self, x: Tensor) -> Tensor:
        """Return the value as a float64 scalar, infinite where the term forbids the image."""

    @abstractmethod
    def prox(self, x: Tensor, step: float) -> Tensor:
        """Return the z that minimises ½‖z - x‖² + step · value(z)."""


Term = SmoothTerm | ProximableTerm
Terms = Sequence[Term]


@dataclass(frozen=True, eq=False)
class LeastSquares(SmoothTerm):
    """Measure the misfit of an image to data: ½ Σ wᵢ (Ax - b)ᵢ².

    Args:
        operator: A, for example a `Projector`.
        data: b, with the operator's range after any batch axes.
        weights: w, inverse variances of 0 or more that broadcast to the data, or None for ones.

    Raises:
        ShapeError: arrays that do not fit the operator, or negative weights.
        NumericalError: NaN or Inf in the data or weights.
    """

    operator: LinearOperator
    data: Tensor
    weights: Tensor | None = None
    _splits: dict[int, "tuple[LeastSquares, ...]"] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        checks.all_finite("data", checks.floating("data", self.data))
        checks.shaped("data", self.data, self.operator.range_shape, self.operator.axes[1])
        if self.weights is not None:
            object.__setattr__(self, "weights", _checked_weights(self.weights, self.data))

    def value(self, x: Tensor) -> Tensor:
        """Return ½ Σ w (Ax - b)²."""
        return self.energy(self.residual(x))

    def gradient(self, x: Tensor) -> Tensor:
        """Return Aᵀ w (Ax - b)."""
        return self.value_and_gradient(x)[1]

    def value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return both from one projection, block of views by block of views within a budget of memory."""
        energy = x.new_zeros((), dtype=torch.float64)

        def pull(views: slice, projected: Tensor) -> Tensor:
            nonlocal energy
            data, weights = self._views(views)
            ours = not projected.requires_grad and projected.data_ptr() != x.data_ptr()
            misfit = projected.sub_(data) if ours and data.ndim <= projected.ndim else projected - data
            weighted = misfit if weights is None else misfit * weights
            energy = energy + 0.5 * (weighted * misfit).sum(dtype=torch.float64)
            return weighted

        gradient = self._swept(pull, x)
        return energy, gradient

    def curvature(self, x: Tensor, *, everywhere: bool = True) -> Tensor:
        """Return Aᵀ w A 1, or the squared norm of √w A for operators that may have negative entries.

        Source:
            Erdogan and Fessler 1999, Physics in Medicine and Biology 44(11): 2835-2851, separable surrogates.
        """
        return self._curvature.to(x)

    def residual(self, x: Tensor) -> Tensor:
        """Return b - Ax."""
        projected = cast(Tensor, self.operator @ x)
        if projected.requires_grad or projected.shape != self.data.shape:
            return self.data - projected
        return memory.blockwise(torch.sub, self.data, projected)

    def energy(self, residual: Tensor) -> Tensor:
        """Return ½ Σ w r² in float64."""
        if residual.requires_grad:
            return 0.5 * (self.weighted(residual) * residual).sum(dtype=torch.float64)
        tensors = (residual,) if self.weights is None else (residual, self.weights.expand_as(residual))
        return residual.new_tensor(0.5 * memory.total(_energy, *tensors), dtype=torch.float64)

    def weighted(self, values: Tensor) -> Tensor:
        """Return w times something on the data's side."""
        if self.weights is None:
            return values
        if values.requires_grad:
            return values * self.weights
        return memory.blockwise(torch.mul, values, self.weights.expand_as(values))

    def spread(self, values: Tensor) -> Tensor:
        """Return Aᵀ w applied to something on the data's side."""
        return cast(Tensor, self.operator.T @ self.weighted(values))

    def zeros(self) -> Tensor:
        """Return an image of zeros that fits the operator and the data's batch axes, dtype and device."""
        batch = self.data.shape[: self.data.ndim - len(self.operator.range_shape)]
        shape = (*batch, *self.operator.domain_shape)
        memory.check_room("volume", math.prod(shape) * self.data.itemsize, self.data.device)
        return memory.like(self.data, shape, fill=0)

    def subset(self, views: slice | Sequence[int]) -> "LeastSquares":
        """Return the same term over some of the views (the first axis of the operator's range)."""
        operator = cast(Any, self.operator)[views]
        axis = self.data.ndim - len(self.operator.range_shape)
        pick = (slice(None),) * axis + (views,)
        weights = None if self.weights is None else self.weights.expand_as(self.data)[pick]
        return LeastSquares(operator, self.data[pick], weights)

    def split(self, count: int) -> "tuple[LeastSquares, ...]":
        """Return `count` terms over interleaved views, in the order in which to use them; made once."""
        if count == 1:
            return (self,)
        if count not in self._splits:
            if not hasattr(self.operator, "geometry"):
                raise ConfigError(
                    f"subsets: expected an operator with views, got {type(self.operator).__name__}; use 1 subset"
                )
            order = subsets(cast(Projector, self.operator), count)
            # Slices rather than lists of views: the subsets then share the memory of the data.
            self._splits[count] = tuple(self.subset(slice(views[0], None, count)) for views in order)
        return self._splits[count]

    @cached_property
    def _curvature(self) -> Tensor:
        with torch.no_grad():
            return self.measured_curvature()

    def measured_curvature(self) -> Tensor:
        """Compute the curvature anew, where keeping it would cost too much memory."""
        shape = self.operator.domain_shape
        if _nonnegative(self.operator):
            return self._swept(self._weighted_views, memory.like(self.data, shape, fill=1))
        size = self.operator.norm(iterations=50, dtype=self.data.dtype, device=self.data.device) * _NORM_MARGIN
        most = 1.0 if self.weights is None else float(self.weights.max())
        return self.data.new_full(shape, most * size**2)

    @cached_property
    def sums(self) -> tuple[Tensor, Tensor]:
        """Return what the rows and the columns of √w A add up to; its norm, where entries may be negative."""
        weights = self.data.new_ones(self.operator.range_shape) if self.weights is None else self.weights
        root = weights.expand(torch.broadcast_shapes(weights.shape, self.operator.range_shape)).sqrt()
        with torch.no_grad():
            if not _nonnegative(self.operator):
                size = self.operator.norm(iterations=50, dtype=self.data.dtype, device=self.data.device)
                bound = float(root.max()) * size * _NORM_MARGIN
                return torch.full_like(root, bound), self.data.new_full(self.operator.domain_shape, bound)
            lengths = cast(Tensor, self.operator @ memory.like(self.data, self.operator.domain_shape, fill=1))
            return root * lengths, cast(Tensor, self.operator.T @ root)

    def _swept(self, function: Callable[[slice, Tensor], Tensor], x: Tensor) -> Tensor:
        """Return Aᵀ f(A x), where f is told which views it gets; no more of them are held than a block may have."""
        operator, shape = self.operator, self.operator.domain_shape
        batch = x.reshape(-1, *shape)
        if not (isinstance(operator, Projector) and operator.in_blocks(batch)):
            return cast(Tensor, operator.T @ function(slice(None), cast(Tensor, operator @ x)))
        out = memory.like(batch, fill=0)
        for cut in operator.blocks.cuts(batch):
            projected = operator.blocks.project(batch, cut)
            values = function(cut[0].views, projected.reshape(*x.shape[: -len(shape)], *projected.shape[1:]))
            operator.blocks.spread(values.reshape(projected.shape), cut, out)
        return out.reshape(x.shape)

    def _views(self, views: slice) -> tuple[Tensor, Tensor | None]:
        """Return data and weights of some views."""
        if views == slice(None):
            return self.data, self.weights
        axis = self.data.ndim - len(self.operator.range_shape)
        pick = (*(slice(None),) * axis, views)
        return self.data[pick], None if self.weights is None else self.weights.expand_as(self.data)[pick]

    def _weighted_views(self, views: slice, values: Tensor) -> Tensor:
        weights = self._views(views)[1]
        return values if weights is None else values * weights


def _energy(residual: Tensor, weights: Tensor | None = None) -> Tensor:
    return residual * residual if weights is None else residual * residual * weights


@dataclass(frozen=True)
class Box(ProximableTerm):
    """Keep an image between two bounds: 0 inside, infinite outside.

    Args:
        low: least value allowed, in the image's unit.
        high: largest value allowed, in the image's unit.

    Raises:
        ConfigError: bounds that leave no room.
    """

    low: float = -float("inf")
    high: float = float("inf")

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise ConfigError(f"low, high: expected low at most high, got {self.low} and {self.high}; swap them")

    def value(self, x: Tensor) -> Tensor:
        """Return 0 if every voxel lies inside, infinity otherwise."""
        least, most = memory.ends(x)
        inside = self.low <= least and most <= self.high
        return x.new_tensor(0.0 if inside else float("inf"), dtype=torch.float64)

    def prox(self, x: Tensor, step: float = 1.0) -> Tensor:
        """Return the nearest image inside, whatever the step."""
        return memory.blockwise(lambda part: part.clamp(self.low, self.high), x)


@dataclass(frozen=True)
class NonNegative(Box):
    """Keep an image at 0 or above."""

    low: float = 0.0


def ray_weights(operator: LinearOperator, like: Tensor) -> Tensor:
    """Return one over the length of every ray inside the grid, the weights that make SIRT and SART.

    Rays that miss the grid, or only graze it (less than a thousandth of the longest), weigh nothing: what they
    measured lies elsewhere, and dividing by their length would blow it up.

    Args:
        operator: the projector.
        like: a tensor with the dtype and device to use.

    Returns:
        Weights over the operator's range in 1/mm.

    Source:
        Gilbert 1972, Journal of Theoretical Biology 36(1): 105-117; Andersen and Kak 1984, Ultrasonic Imaging 6(1).
    """
    with torch.no_grad():
        lengths = cast(Tensor, operator @ memory.like(like, operator.domain_shape, fill=1))
    return safe_inverse(lengths, floor=_GRAZING)


def safe_inverse(values: Tensor, *, floor: float = 1e-6) -> Tensor:
    """Return one over the values, and 0 where they do not exceed `floor` times the largest."""
    least = floor * max(memory.ends(values)[1], 0)
    return memory.blockwise(lambda part: inverse_above(part, least), values)


def inverse_above(values: Tensor, least: float) -> Tensor:
    """Return one over the values, and 0 where they do not exceed a positive number."""
    return torch.where(values > least, 1 / torch.where(values > least, values, 1), 0)


def _checked_weights(weights: Tensor, data: Tensor) -> Tensor:
    checks.all_finite("weights", checks.floating("weights", weights))
    try:
        torch.broadcast_shapes(weights.shape, data.shape)
    except RuntimeError:
        raise ShapeError(
            f"weights: expected a shape that broadcasts to the data's {tuple(data.shape)}, got {tuple(weights.shape)}"
        ) from None
    if memory.ends(weights)[0] < 0:
        raise ShapeError(f"weights: expected inverse variances of 0 or more, got {float(weights.min())}")
    return checks.together("weights", weights, "the data", data).to(data.dtype)


def _nonnegative(operator: LinearOperator) -> bool:
    return bool(getattr(operator, "nonnegative", isinstance(operator, Projector)))
