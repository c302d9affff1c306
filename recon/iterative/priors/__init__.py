"""What images look like: penalties on differences between voxels, in mm, so that voxels may change size."""

from recon.iterative.priors.base import Prior
from recon.iterative.priors.neighbours import (
    AnisotropicDiffusion,
    GeneralisedGaussian,
    Huber,
    NeighbourPrior,
    Quadratic,
)
from recon.iterative.priors.nonlocal_means import NonLocal
from recon.iterative.priors.total_variation import RoundedTV, TotalVariation

__all__ = [
    "AnisotropicDiffusion",
    "GeneralisedGaussian",
    "Huber",
    "NeighbourPrior",
    "NonLocal",
    "Prior",
    "Quadratic",
    "RoundedTV",
    "TotalVariation",
]
