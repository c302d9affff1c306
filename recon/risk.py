"""Stein's unbiased risk estimate of the image: how wrong a reconstruction is, without knowing the truth."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from recon import checks
from recon.errors import ConfigError
from recon.random import generator

Estimator = Callable[[Tensor], Tensor]  # from projections (view, row, column) to an image
_EPSILON = 0.05  # of the noise that an estimator is probed with, in standard deviations of the scan's own


@dataclass(frozen=True, kw_only=True, eq=False)
class Risk:
    """The mean squared error of an image that any estimator makes, estimated from one noisy scan.

    Mean (x(y) - A y)² - mean (A n)² + 2 mean (A n)(x(y + εn) - x(y))/ε, n drawn with the variance of the noise. The
    error is that against A p, the image of noise-free projections: what the reconstruction A itself blurs is not in
    it, nor is what an estimator shows more sharply than A counted in its favour.

    Args:
        values: measured line integrals (view, row, column).
        noise: draws n of their noise (draw, view, row, column), over which the estimate is averaged; 0 where nothing
            was measured.
        noisy_image: A y, the voxels that count.
        noise_image: A n, the voxels that count.
        mask: True for voxels that count, or None for all.

    Source:
        Ramani, Blu and Unser 2008, IEEE Transactions on Image Processing 17(9): 1540-1554, eq. 14; with a linear
        reconstruction of the data as the reference.
    """

    values: Tensor
    noise: Tensor
    noisy_image: Tensor
    noise_image: Tensor
    mask: Tensor | None = None

    @classmethod
    def of(
        cls,
        values: Tensor,
        variance: Tensor,
        reconstruct: Estimator,
        *,
        mask: Tensor | None = None,
        colour: Callable[[Tensor], Tensor] | None = None,
        seed: int = 0,
    ) -> Self:
        """Draw the noise from a seed and reconstruct what all estimators are compared with.

        Args:
            values: measured line integrals (view, row, column).
            variance: their variance, same shape; infinite where nothing was measured.
            reconstruct: a linear reconstruction A, such as filtered backprojection.
            mask: True for voxels that count, or None for all.
            colour: turns independent standard normal noise (view, row, column) into noise that is as correlated as the
                scan's, of the same variance; None for independent noise.
            seed: what the noise is drawn from.

        Raises:
            ConfigError: a mask that does not fit the image or has no voxel.
            NumericalError: an image with NaN or Inf.
        """
        deviation = torch.where(variance.isfinite(), variance.sqrt(), torch.zeros_like(values))
        white = torch.randn(values.shape, generator=generator(seed)).to(values)
        noise = deviation * (white if colour is None else colour(white))
        return cls(
            values=values,
            noise=noise,
            noisy_image=counting(reconstruct(values), mask),
            noise_image=counting(reconstruct(noise), mask),
            mask=mask,
        )

    def __call__(self, estimator: Estimator) -> float:
        """Return the estimated mean squared error in the unit of the image squared; it may fall below 0."""
        image = counting(estimator(self.values), self.mask)
        answer = (counting(estimator(self.values + _EPSILON * self.noise), self.mask) - image) / _EPSILON
        excess = 2 * (self.noise_image * answer).mean() - self.noise_image.square().mean()
        return float((image - self.noisy_image).square().mean() + excess)


def counting(image: Tensor, mask: Tensor | None) -> Tensor:
    """Return the voxels that count, in double precision: differences of means follow."""
    image = checks.all_finite("image", image.detach())
    if mask is None:
        return image.double().flatten()
    if mask.shape != image.shape or not bool(mask.any()):
        raise ConfigError(
            f"mask: expected True for some of {tuple(image.shape)} voxels, got {tuple(mask.shape)} with "
            f"{int(mask.sum())}; leave it out to count all"
        )
    return image[mask.to(image.device)].double()
