"""Objects wider than the detector: noticing them, and continuing their projections."""

import warnings

import torch
from torch import Tensor

from recon.analytic.weights import is_half_fan
from recon.errors import CTWarning
from recon.geometry import ConeBeam, ParallelBeam
from recon.scan import Scan

_HIGH = 0.05  # an edge above this share of the largest value means the object leaves the detector
_LOOKED_AT = 60  # views at least, where there are as many
_EDGE = 3  # columns averaged at each edge, so that noise alone is no object


def cut_share(scan: Scan) -> float:
    """Return the share of detector rows, over some of the views, in which the object leaves the detector.

    The short side of a shifted detector over a full turn always cuts the object and does not count.
    """
    geometry = scan.geometry
    if geometry.shape[2] < 4 * _EDGE:
        return 0.0
    values = scan.block(slice(0, None, max(1, len(geometry) // _LOOKED_AT)), slice(None)).detach()
    edges = torch.stack([values[..., :_EDGE].mean(2), values[..., -_EDGE:].mean(2)])
    if isinstance(geometry, ParallelBeam | ConeBeam) and len(geometry) > 1 and is_half_fan(geometry):
        edges = edges[1:] if geometry.detector.offset[1] > 0 else edges[:1]
    return float((edges.amax(0) > _HIGH * max(abs(float(end)) for end in values.aminmax())).double().mean())


def warn_truncation(scan: Scan) -> None:
    """Say when the object leaves the detector, which brightens the image towards the edge of the field of view."""
    cut = cut_share(scan)
    if cut > 0.01:
        warnings.warn(
            f"values: {cut:.0%} of the detector rows are cut off at an edge (above {_HIGH:.0%} of the maximum); "
            'the object is wider than the field of view, try padding="edge"',
            CTWarning,
            stacklevel=5,
        )


def continued(values: Tensor, positions: Tensor, extra: int) -> Tensor:
    """Continue rows at both ends as ellipses around the axis, squared values being linear in squared position.

    An ellipse A sqrt(1 - x²/R²) is fitted to the last columns of each row; it ends at no more than twice the
    distance of the detector's edge, which bounds rows that rise towards the edge.
    """
    left = _ellipse(values.flip(-1), -positions.flip(0), extra).flip(-1)
    return torch.cat([left, values, _ellipse(values, positions, extra)], dim=-1)


def _ellipse(values: Tensor, positions: Tensor, extra: int) -> Tensor:
    """Return `extra` samples beyond the last column."""
    fitted = max(4, values.shape[-1] // 32)
    x = (positions**2).to(values)
    step = positions[-1] - positions[-2]
    beyond = ((positions[-1] + step * torch.arange(1, extra + 1)) ** 2).to(values)
    squared = values[..., -fitted:].clamp_min(0) ** 2
    near = x[-fitted:] - x[-fitted:].mean()
    fall = -(squared * near).sum(-1, keepdim=True) / (near**2).sum()
    level = squared.mean(-1, keepdim=True)
    fall = torch.maximum(fall, level / (3 * x[-1]))
    height = level - fall * (beyond - x[-fitted:].mean())
    within = height > 0  # beyond, the root has no slope that a gradient could survive
    return torch.where(within, torch.where(within, height, 1.0).sqrt(), 0.0)
