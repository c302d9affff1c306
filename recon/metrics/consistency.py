"""Do neighbouring slices fit together? Changes from slice to slice, and similarity on coronal and sagittal planes."""

from collections.abc import Callable
from typing import Final, Literal

from torch import Tensor

from recon import checks
from recon.errors import ShapeError
from recon.metrics.fidelity import ssim
from recon.metrics.metric import Metric, Protocol, checked_mask, masked, pair
from recon.metrics.metric import data_range as checked_range

#: The axis across each plane: coronal planes are (z, x) at each y, sagittal ones (z, y) at each x.
_AXIS: Final = {"coronal": -2, "sagittal": -1}

Plane = Literal["coronal", "sagittal"]


def slice_change(
    x: Tensor,
    reference: Tensor,
    *,
    data_range: float,
    mask: Tensor | None = None,
) -> float:
    """Return the RMSE of differences from slice to slice, over the data range; 0 for equal volumes.

    What is wrong in all slices alike does not count. Flicker that differs at random in each slice by σ gives
    √2 σ / range. It is per slice and not per mm: compare volumes of one slice spacing only.

    Args:
        x: volume to judge (..., z, y, x), at least 2 slices.
        reference: what it should be.
        data_range: range of values that count, in the unit of the volumes; never guessed.
        mask: True where voxels count; both of two neighbours must. None for all.

    Raises:
        ConfigError: a data range that is not above 0.
        ShapeError: fewer than 2 slices, shapes that differ, or a mask without two neighbours.
        NumericalError: NaN or Inf.
    """
    x, reference = _volumes(x, reference)
    inside = None if mask is None else _neighbours(checked_mask(mask, x))
    change = (x - reference).diff(dim=-3)
    return float(masked(change, inside).square().mean().sqrt()) / checked_range(data_range)


def reformat_ssim(
    x: Tensor,
    reference: Tensor,
    *,
    plane: Plane,
    data_range: float,
    mask: Tensor | None = None,
) -> float:
    """Return the mean structural similarity of coronal (z, x) or sagittal (z, y) planes, 1 for equal volumes.

    The kernel is 11 voxels wide along both axes, whatever their spacing; with fewer slices it is cut as `ssim` says.

    Args:
        x: volume to judge (..., z, y, x), at least 2 slices.
        reference: what it should be.
        plane: "coronal" or "sagittal".
        data_range: range of values that count, in the unit of the volumes; never guessed.
        mask: True where the centres of kernels count, or None for all.

    Raises:
        ConfigError: another plane, or a data range that is not above 0.
        ShapeError: fewer than 2 slices, or shapes that differ.
        NumericalError: NaN or Inf.

    Source:
        Wang, Bovik, Sheikh and Simoncelli 2004, IEEE Transactions on Image Processing 13(4): 600-612, eq. 13.
    """
    axis = _AXIS[checks.choice("plane", plane, tuple(_AXIS))]
    x, reference = (volume.movedim(axis, -3) for volume in _volumes(x, reference))
    turned = None if mask is None else checked_mask(mask, x.movedim(-3, axis)).movedim(axis, -3)
    return ssim(x, reference, data_range=data_range, mask=turned)


def _volumes(x: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    x, reference = pair(x, reference)
    if x.ndim < 3 or x.shape[-3] < 2:
        raise ShapeError(f"x: expected a volume (z, y, x) of 2 or more slices, got {tuple(x.shape)}")
    return x, reference


def _neighbours(mask: Tensor) -> Tensor:
    """Return where a voxel and the one of the next slice are both in the mask."""
    both = mask.narrow(-3, 0, mask.shape[-3] - 1) & mask.narrow(-3, 1, mask.shape[-3] - 1)
    if not bool(both.any()):
        raise ShapeError("mask: expected a voxel that is True in two neighbouring slices, got none; widen it")
    return both


def _change(x: Tensor, reference: Tensor, protocol: Protocol) -> float:
    return slice_change(x, reference, data_range=protocol.range, mask=protocol.mask)


def _reformat(plane: Plane) -> Callable[[Tensor, Tensor, Protocol], float]:
    """Return the similarity on planes under a protocol."""

    def function(x: Tensor, reference: Tensor, protocol: Protocol) -> float:
        return reformat_ssim(x, reference, plane=plane, data_range=protocol.range, mask=protocol.mask)

    return function


#: Metrics of volumes that see how slices fit together, by name.
CONSISTENCY: Final = {
    metric.name: metric
    for metric in (
        Metric(
            name="slice-change",
            label="slice change",
            unit="",
            better="lower",
            function=_change,
            note=lambda protocol: "from slice to slice, over the data range",
        ),
        Metric(
            name="ssim-coronal",
            label="SSIM",
            unit="",
            better="higher",
            function=_reformat("coronal"),
            note=lambda protocol: "11x11 Gaussian, coronal planes",
            source="Wang, Bovik, Sheikh and Simoncelli 2004, on coronal planes",
        ),
        Metric(
            name="ssim-sagittal",
            label="SSIM",
            unit="",
            better="higher",
            function=_reformat("sagittal"),
            note=lambda protocol: "11x11 Gaussian, sagittal planes",
            source="Wang, Bovik, Sheikh and Simoncelli 2004, on sagittal planes",
        ),
    )
}
