"""Projections as planes (row, view, column), whose neighbours are adjacent columns and consecutive views."""

import math
import warnings

import torch
from torch import Tensor

from recon.errors import CTWarning
from recon.geometry import ConeBeam, ScanGeometry
from recon.geometry.base import Circular
from recon.geometry.coverage import coverage

_FEWEST = 3  # views that make a circle


def planes(projections: Tensor) -> Tensor:
    """Return projections (view, row, column) as planes (row, view, column), contiguous."""
    return projections.detach().transpose(0, 1).contiguous()


def projections(planes: Tensor) -> Tensor:
    """Return planes (row, view, column) as projections (view, row, column), contiguous."""
    return planes.transpose(0, 1).contiguous()


def periodic(geometry: ScanGeometry) -> bool:
    """Tell whether the last view is a neighbour of the first: views in order that close the circle.

    Warns where consecutive views are not neighbours, as every method here takes them to be.
    """
    if not isinstance(geometry, Circular) or len(geometry) < _FEWEST:
        return False
    steps = torch.tensor(geometry.angles, dtype=torch.float64).diff()
    if bool((steps > 0).any()) and bool((steps < 0).any()):
        warnings.warn(
            "scan: the views are not in the order of their angles, and consecutive ones are taken as neighbours; sort "
            "them with scan[order] first",
            CTWarning,
            stacklevel=4,
        )
        return False
    if isinstance(geometry, ConeBeam) and geometry.pitch:
        return False
    span = float(steps.sum().abs())
    return coverage(geometry.angles).full and abs(span + float(steps.abs().median()) - 2 * math.pi) < 0.5
