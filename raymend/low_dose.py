"""Low-dose reconstruction: smooth the projections, with settings chosen by the error in the image, then FBP or FDK."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from recon import Scan, VolumeGrid
from recon.analytic.fbp import prepare
from recon.field_of_view import field_of_view
from recon.sinogram.restore import Restored, restore
from recon.sinogram.restorers import Restorer

_SLICES = 4  # of a volume that settings are chosen on
_STEP = 4.0  # mm between them at least, so that they differ


@dataclass(frozen=True, kw_only=True, eq=False)
class LowDose:
    """An image and the restored projections that it was made from.

    Args:
        image: attenuation in 1/mm (z, y, x).
        restored: the restored scan, how it was restored, and the scores of the candidates.
    """

    image: Tensor
    restored: Restored


def low_dose(
    scan: Scan,
    grid: VolumeGrid,
    *,
    method: str | Restorer | Iterable[Restorer] = "spad",
    strength: float = 1.0,
    tune: str = "sure",
    passes: int = 1,
    conjugate: bool = False,
    crosstalk: float | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    **settings: Any,
) -> LowDose:
    """Reconstruct a noisy scan by penalised weighted least squares on its projections, then FBP or FDK.

    Args:
        scan: noisy line integrals of parallel, fan or circular cone beams, with weights or with photons.
        grid: where to reconstruct.
        method: "gibbs", "tv", "perona-malik", "spad", "auto", a restorer, or candidates; see `restore`.
        strength: factor on the strength that was chosen; above 1 is smoother.
        tune: "sure" to choose the settings by the estimated error in the field of view of a few slices, or "none".
        passes: how often to restore, with variances from the last result; see `restore`.
        conjugate: join each ray with its reverse first; see `restore`.
        crosstalk: share of its photons that a pixel loses to each neighbour, or None to estimate it; see `restore`.
        seed: what the probing noise of "sure" is drawn from.
        progress: called with the number of candidates that are judged and of all, before each; see `restore`.
        settings: of `fbp` and `fdk`.

    Raises:
        ConfigError: a scan without a noise level, or a setting out of range.
        GeometryError: a geometry without filtered backprojection.
    """
    restored = restore(
        scan, method, strength=strength, tune=tune, passes=passes, conjugate=conjugate, crosstalk=crosstalk,
        seed=seed, progress=progress, **(_on_few_slices(scan, grid, settings) if tune == "sure" else {}),
    )  # fmt: skip
    return LowDose(image=prepare(restored.scan, grid, **settings).image(restored.scan), restored=restored)


def _on_few_slices(scan: Scan, grid: VolumeGrid, settings: dict[str, Any]) -> dict[str, Any]:
    """Return a linear reconstruction of a few slices, and the voxels of them inside the field of view."""
    linear = settings | {"padding": "zero"}  # continuing projections beyond the detector is not linear
    return judged(scan, few_slices(grid), **linear)


def judged(scan: Scan, grid: VolumeGrid, **settings: Any) -> dict[str, Any]:
    """Return what choosing by the estimated error asks for: FBP or FDK of values, and the voxels all views see."""
    recipe = prepare(scan, grid, **settings)

    def reconstruct(values: Tensor) -> Tensor:
        return recipe.image(scan.changed(values=values, weights=None))

    return {"reconstruct": reconstruct, "mask": inside(scan, grid)}


def few_slices(grid: VolumeGrid) -> VolumeGrid:
    """Return a grid of a few slices spread over the height of another."""
    slices = max(1, min(_SLICES, grid.shape[0], int(grid.extent[0] / _STEP)))
    spacing = (grid.extent[0] / slices, *grid.spacing[1:])
    return VolumeGrid(shape=(slices, *grid.shape[1:]), spacing=spacing, centre=grid.centre)


def inside(scan: Scan, grid: VolumeGrid) -> Tensor | None:
    """Return where the voxels of a grid are seen by all views (z, y, x), or None if none are."""
    radius, _ = field_of_view(scan.geometry)
    _, y, x = (torch.as_tensor(axis) for axis in grid.axes())
    disc = y[:, None] ** 2 + x**2 <= radius**2
    return disc.expand(grid.shape) if bool(disc.any()) else None
