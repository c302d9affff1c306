"""Stein's unbiased risk estimate for restored projections: how wrong the image made from them is."""

import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from recon import risk
from recon.sinogram.crosstalk import checked_crosstalk, noise_share, spread
from recon.sinogram.planes import planes, projections
from recon.sinogram.restorers import Gibbs, Restorer

Reconstruction = risk.Estimator


@dataclass(frozen=True, kw_only=True, eq=False)
class Risk:
    """The mean squared error in the image that a restorer leaves, estimated from one noisy scan; see `recon.risk`.

    Args:
        image: the estimate for any way from projections to an image.
        variance: variance of the line integrals as planes (plane, view, column); infinite where nothing was measured.
        periodic: the views close the circle.
        reconstruct: a linear reconstruction of projections (view, row, column).
    """

    image: risk.Risk
    variance: Tensor
    periodic: bool
    reconstruct: Reconstruction

    @classmethod
    def of(
        cls,
        values: Tensor,
        variance: Tensor,
        reconstruct: Reconstruction,
        *,
        periodic: bool,
        mask: Tensor | None = None,
        crosstalk: float = 0.0,
        seed: int = 0,
    ) -> Self:
        """Draw the noise from a seed and reconstruct what all restorers are compared with.

        Args:
            values: measured line integrals (view, row, column).
            variance: their variance, same shape.
            reconstruct: a linear reconstruction of projections (view, row, column).
            periodic: the views close the circle.
            mask: True for voxels that count, or None for all.
            crosstalk: share of its photons that a pixel loses to each neighbour, which correlates the noise.
            seed: what the noise is drawn from.

        Raises:
            ConfigError: a share out of range, or a mask that does not fit.
        """
        y, uncertain = planes(values), planes(variance)
        measured = uncertain.isfinite()
        if not bool(measured.all()):  # what was not measured has no noise: all candidates start from the same filling
            y = torch.where(measured, y, Gibbs()(y, uncertain, periodic=periodic))
        kept = math.sqrt(noise_share(checked_crosstalk(crosstalk), values.shape[1]))

        def colour(white: Tensor) -> Tensor:
            return spread(white, crosstalk) / kept

        image = risk.Risk.of(
            projections(y),
            projections(uncertain),
            reconstruct,
            mask=mask,
            seed=seed,
            colour=colour if crosstalk else None,
        )
        return cls(image=image, variance=uncertain, periodic=periodic, reconstruct=reconstruct)

    @property
    def noise_image(self) -> Tensor:
        """The reconstruction of the noise, the voxels that count."""
        return self.image.noise_image

    def __call__(self, restorer: Restorer) -> float:
        """Return the estimated mean squared error in the unit of the image squared; it may fall below 0."""

        def estimate(values: Tensor) -> Tensor:
            restored = restorer(planes(values), self.variance, periodic=self.periodic)
            return self.reconstruct(projections(restored))

        return self.image(estimate)
