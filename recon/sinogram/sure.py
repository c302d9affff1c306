"""Stein's unbiased risk estimate of the image: how wrong a restored scan's image is, without knowing the truth."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from recon import checks
from recon.errors import ConfigError
from recon.random import generator
from recon.sinogram.planes import planes, projections
from recon.sinogram.restorers import Gibbs, Restorer

Reconstruction = Callable[[Tensor], Tensor]
_EPSILON = 0.05  # of the noise that a restorer is probed with, in standard deviations of the scan's own


@dataclass(frozen=True, kw_only=True, eq=False)
class Risk:
    """The mean squared error in the image that a restorer leaves, estimated from one noisy scan.

    Mean (A q(y) - A y)² - mean (A n)² + 2 mean (A n)(A q(y + εn) - A q(y))/ε, n drawn with the variance of the noise.
    The error is that against the image of noise-free projections, A p: what reconstruction itself blurs is not in it.

    Args:
        values: measured line integrals as planes (plane, view, column).
        variance: their variance; infinite where nothing was measured.
        periodic: the views close the circle.
        reconstruct: a linear reconstruction A of projections (view, row, column).
        mask: True for voxels that count, or None for all.
        noise: a draw n of the noise, as planes.
        noisy_image: A y, the voxels that count.
        noise_image: A n, the voxels that count.

    Source:
        Ramani, Blu and Unser 2008, IEEE Transactions on Image Processing 17(9): 1540-1554, eq. 14.
    """

    values: Tensor
    variance: Tensor
    periodic: bool
    reconstruct: Reconstruction
    mask: Tensor | None
    noise: Tensor
    noisy_image: Tensor
    noise_image: Tensor

    @classmethod
    def of(
        cls,
        values: Tensor,
        variance: Tensor,
        reconstruct: Reconstruction,
        *,
        periodic: bool,
        mask: Tensor | None = None,
        seed: int = 0,
    ) -> Self:
        """Draw the noise from a seed and reconstruct what all restorers are compared with.

        Args:
            values: measured line integrals (view, row, column).
            variance: their variance, same shape.
            reconstruct: a linear reconstruction of projections (view, row, column).
            periodic: the views close the circle.
            mask: True for voxels that count, or None for all.
            seed: what the noise is drawn from.
        """
        y, spread = planes(values), planes(variance)
        measured = spread.isfinite()
        if not bool(measured.all()):  # what was not measured has no noise: all candidates start from the same filling
            y = torch.where(measured, y, Gibbs()(y, spread, periodic=periodic))
        drawn = torch.randn(values.shape, generator=generator(seed)).to(y)
        noise = torch.where(measured, spread.sqrt() * planes(drawn), torch.zeros_like(y))
        images = [_counting(reconstruct(projections(part)), mask) for part in (y, noise)]
        return cls(
            values=y, variance=spread, periodic=periodic, reconstruct=reconstruct, mask=mask, noise=noise,
            noisy_image=images[0], noise_image=images[1],
        )  # fmt: skip

    def __call__(self, restorer: Restorer) -> float:
        """Return the estimated mean squared error in the unit of the image squared; it may fall below 0."""
        restored = restorer(self.values, self.variance, periodic=self.periodic)
        probed = restorer(self.values + _EPSILON * self.noise, self.variance, periodic=self.periodic)
        image = self._image(restored)
        answer = self._image((probed - restored) / _EPSILON)
        return float(
            (image - self.noisy_image).square().mean()
            - self.noise_image.square().mean()
            + 2 * (self.noise_image * answer).mean()
        )

    def _image(self, part: Tensor) -> Tensor:
        return _counting(self.reconstruct(projections(part)), self.mask)


def _counting(image: Tensor, mask: Tensor | None) -> Tensor:
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
