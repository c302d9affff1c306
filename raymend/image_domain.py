"""Penalised weighted least squares on the image, from FBP or FDK on; its strength follows from the noise or SURE."""

from typing import Any

from torch import Tensor

from raymend.low_dose import judged
from recon import ConeBeam, ParallelBeam, Scan, VolumeGrid, memory
from recon.analytic.fbp import prepare
from recon.errors import ConfigError
from recon.iterative import Prior, Solution, TotalVariation, pwls


def image_domain(
    scan: Scan, grid: VolumeGrid, *, prior: str | Prior | TotalVariation = "huber", tune: str = "noise", **settings: Any
) -> Solution:
    """Reconstruct a noisy scan by penalised weighted least squares, starting from FBP or FDK with a Hann window.

    Args:
        scan: noisy line integrals of any geometry; one without filtered backprojection starts from zeros.
        grid: where to reconstruct.
        prior: a name or a prior, as for `pwls`.
        tune: "noise", or "sure" to choose the strength by the estimated error inside the field of view.
        settings: of `pwls`, which explains them.

    Raises:
        ConfigError: a setting out of range; "sure" or "nonlocal" for a geometry without filtered backprojection, or
            "sure" for a scan without a noise level.
    """
    if has_analytic(scan):

        def start(values: Tensor) -> Tensor:
            return smooth_start(scan.changed(values=values, weights=None), grid)

        settings = {"start": start} | settings
    elif tune == "sure" or prior == "nonlocal":
        raise ConfigError(
            f"scan: expected a geometry with filtered backprojection for tune='sure' and the prior 'nonlocal', got "
            f"{type(scan.geometry).__name__}; take tune='noise' and another prior"
        )
    if tune == "sure":
        settings = judged(scan, grid, limited_angle=True) | settings
    return pwls(scan, grid, prior=prior, tune=tune, **settings)


def has_analytic(scan: Scan) -> bool:
    """Tell whether a scan can be reconstructed by FBP or FDK."""
    geometry = scan.geometry
    return isinstance(geometry, ParallelBeam) or (isinstance(geometry, ConeBeam) and not geometry.pitch)


def smooth_start(scan: Scan, grid: VolumeGrid) -> Tensor:
    """Return FBP or FDK with a Hann window, without what is below 0."""
    image = prepare(scan, grid, window="hann", limited_angle=True).image(scan)
    return memory.blockwise(lambda part: part.clamp_min(0), image, out=image)
