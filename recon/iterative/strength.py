"""How strong a prior should be, from how noisy the data make the image."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from recon import checks, memory
from recon.errors import ConfigError
from recon.field_of_view import pitch_at_axis
from recon.grid import VolumeGrid
from recon.iterative.priors import (
    AnisotropicDiffusion,
    GeneralisedGaussian,
    Huber,
    NonLocal,
    Prior,
    Quadratic,
    RoundedTV,
)
from recon.iterative.priors.base import cell
from recon.iterative.terms import LeastSquares

_LOOKED_AT = 64  # views that tell the noise where no weights do
_NOISELESS = 1e-4  # standard deviation that is taken where line integrals have less noise


def ray_density(data: LeastSquares, grid: VolumeGrid) -> float:
    """Return how densely rays, each counted by its weight, cross the image: the lower quartile over voxels.

    Args:
        data: the weighted misfit.
        grid: where the image lives.

    Returns:
        Sum of weights per mm and rad (per mm² and rad, for a volume), AᵀW1 / (2π · volume).

    Raises:
        ConfigError: no ray crosses the grid with a weight above 0.
    """
    shape = data.operator.range_shape
    weights = memory.like(data.data, shape, fill=1) if data.weights is None else data.weights
    with torch.no_grad():
        crossed = data.operator.T @ weights.expand(torch.broadcast_shapes(weights.shape, shape))
    seen = crossed[crossed > 0]
    if not seen.numel():
        raise ConfigError("weights: expected rays with a weight above 0 that cross the grid, got none")
    quartile = float(seen.flatten().kthvalue(1 + (seen.numel() - 1) // 4).values)
    return quartile / (2 * math.pi * cell(grid.shape, grid.spacing))


@dataclass(frozen=True, kw_only=True)
class Noise:
    """What the noise of the data leaves in an image.

    Args:
        level: standard deviation in 1/mm at the resolution.
        step: the resolution as a distance between samples in mm: the detector's pitch at the axis, or the voxels'.
        dimensions: of the image, 2 or 3.
    """

    level: float
    step: float
    dimensions: int

    @classmethod
    def of(cls, data: LeastSquares, grid: VolumeGrid, variance: float = 1.0) -> "Noise":
        """Predict the noise from the weights, √(π / (24 density step³)) in a slice, over √step in a volume.

        Args:
            data: the weighted misfit.
            grid: where the image lives.
            variance: what the weights are to be divided by.

        Source:
            Riederer, Pelc and Chesler 1978, Physics in Medicine and Biology 23(3): 446-454: the noise power of
            filtered backprojection is |f| / (2 density), here up to the frequency 1 / (2 step) in all directions.
        """
        step, dimensions = _step(data, grid), 2 if min(grid.shape) == 1 else 3
        density = ray_density(data, grid) / variance
        thick = 1.0 if dimensions == 2 else step
        return cls(level=math.sqrt(math.pi / (24 * density * step**3 * thick)), step=step, dimensions=dimensions)

    @property
    def volume(self) -> float:
        """What a sample fills, in mm² or mm³."""
        return self.step**self.dimensions


def _step(data: LeastSquares, grid: VolumeGrid) -> float:
    """Return the larger one of the voxels and of the detector's pitch at the axis."""
    geometry = getattr(data.operator, "geometry", None)
    return grid.spacing[-1] if geometry is None else max(grid.spacing[-1], pitch_at_axis(geometry)[1])


def without_weights(values: Tensor) -> float:
    """Estimate the variance of line integrals that comes without weights, from second differences along columns.

    Args:
        values: line integrals (view, row, column).

    Returns:
        The variance, from the median of absolute differences; 1e-8 where there is less, or too few columns to tell.

    Source:
        Donoho and Johnstone 1994, Biometrika 81(3): 425-455 (median absolute deviation over 0.6745).
    """
    if values.shape[-1] < 3:
        return _NOISELESS**2
    values = values[..., :: max(1, values.shape[-3] // _LOOKED_AT), :, :]
    bends = (values[..., 2:] - 2 * values[..., 1:-1] + values[..., :-2]).abs().flatten()
    spread = float(bends[bends > 0].median()) if bool((bends > 0).any()) else 0.0
    return max(spread / 0.6745 / math.sqrt(6), _NOISELESS) ** 2


def prior_from_noise(name: str, data: LeastSquares, grid: VolumeGrid, *, guide: Tensor | None = None) -> Prior:
    """Make a prior by name, with the strength and corner that suit how noisy the data make the image.

    The numbers were chosen for the least RMSE on simulated heads and trunks at 2e4 and 2e5 photons. Corners are
    multiples of the noise; strengths of priors with edges grow with the square root of the dose, so that the image
    is smoothed less the less noise there is.

    Args:
        name: one of `PRIORS`.
        data: the weighted misfit; without weights the noise is estimated from the data.
        grid: where the image lives.
        guide: for "nonlocal", an image (z, y, x) in 1/mm that shows what is alike, such as FBP with a Hann window.

    Raises:
        ConfigError: an unknown name, or "nonlocal" without a guide.
    """
    make = PRIORS[checks.choice("prior", name, tuple(PRIORS))]
    variance = without_weights(data.data) if data.weights is None else 1.0
    prior = make(Noise.of(data, grid, variance), guide, grid)
    return prior.stronger(variance).on(grid)  # weights of 1 where they ought to be 1 / variance


def _edges(
    kind: type[Huber] | type[GeneralisedGaussian] | type[AnisotropicDiffusion], push: float, corner: float
) -> Callable[[Noise, Tensor | None, VolumeGrid], Prior]:
    """Return how to make a prior from its push at steep slopes and its corner, in units of the noise."""

    def make(noise: Noise, guide: Tensor | None, grid: VolumeGrid) -> Prior:
        slope = corner * noise.level / noise.step
        return kind(strength=_push(push, noise) / slope, corner=slope)

    return make


def _push(push: float, noise: Noise) -> float:
    """Return a strength of total variation from one for images whose voxels are 1 and have noise of 1."""
    return _IN_SPACE[noise.dimensions] * push * noise.step / (noise.level * noise.volume)


def _tv(noise: Noise, guide: Tensor | None, grid: VolumeGrid) -> Prior:
    return RoundedTV(strength=_push(_TV_PUSH, noise), corner=_TV_CORNER * noise.level / noise.step)


def _quadratic(noise: Noise, guide: Tensor | None, grid: VolumeGrid) -> Prior:
    return Quadratic(strength=_QUADRATIC * noise.step**2 / (noise.level**2 * noise.volume))


def _nonlocal(noise: Noise, guide: Tensor | None, grid: VolumeGrid) -> Prior:
    if guide is None:
        raise ConfigError('start: expected an image for the prior "nonlocal" to compare patches in, such as FBP')
    steps = [step for n, step in zip(grid.shape, grid.spacing, strict=True) if n > 1] or [1.0]
    return NonLocal(
        guide=guide, scale=_SCALE * noise.level, strength=_NONLOCAL / (noise.level**2 * noise.volume),
        search=_SEARCH[noise.dimensions] * max(steps), patch=_PATCH * max(steps), spacing=grid.spacing,
    )  # fmt: skip


_TV_PUSH, _TV_CORNER = 0.3, 0.03
_IN_SPACE = {2: 1.0, 3: 3.0}  # neighbours in other slices show the same object: the prior may count more
_QUADRATIC = 0.1
_NONLOCAL, _SCALE = 12.0, 1.2  # the guide has less noise than the image without a prior: a Hann window took some
_SEARCH, _PATCH = {2: 4.0, 3: 2.0}, 1.0  # voxels

#: The priors by name.
PRIORS: dict[str, Callable[[Noise, Tensor | None, VolumeGrid], Prior]] = {
    "quadratic": _quadratic,
    "huber": _edges(Huber, 0.22, 0.08),
    "ggmrf": _edges(GeneralisedGaussian, 0.2, 0.08),
    "tv": _tv,
    "diffusion": _edges(AnisotropicDiffusion, 0.8, 0.5),
    "nonlocal": _nonlocal,
}
