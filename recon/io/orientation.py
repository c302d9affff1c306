"""From a file's index directions to our world: x to the left, y to the back, z to the head."""

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from recon.errors import FormatError
from recon.grid import VolumeGrid

_TILT: Final = 1e-3  # largest off-axis part of a direction that still counts as along an axis


def oriented(
    where: str, values: NDArray[Any], directions: NDArray[np.floating], first: NDArray[np.floating]
) -> tuple[NDArray[Any], VolumeGrid]:
    """Turn an array (i, j, k) into (z, y, x) with every step positive, and state its grid.

    Args:
        where: the file, for messages.
        values: the array.
        directions: (3, 3), column i is the step (x, y, z) in mm of index i.
        first: position (x, y, z) in mm of index (0, 0, 0).

    Raises:
        FormatError: a direction that is zero, or not along an axis.
    """
    axes, steps = axis_aligned(where, directions)
    array = values.transpose([axes[2], axes[1], axes[0]])
    for axis, step in zip((2, 1, 0), steps, strict=True):
        if step < 0:
            array = np.flip(array, axis)
    shape = (int(array.shape[0]), int(array.shape[1]), int(array.shape[2]))
    centre = [float(f) + s * (n - 1) / 2 for f, s, n in zip(first, steps, shape[::-1], strict=True)]
    return array, VolumeGrid(shape=shape, spacing=_backwards([abs(s) for s in steps]), centre=_backwards(centre))


def axis_aligned(where: str, directions: NDArray[np.floating]) -> tuple[list[int], list[float]]:
    """Find, per world axis x, y, z, the array axis that runs along it and its signed step.

    Raises:
        FormatError: a direction that is zero, or not along an axis.
    """
    lengths = np.linalg.norm(directions, axis=0)
    if (lengths < 1e-9).any() or abs(np.linalg.det(directions / np.maximum(lengths, 1e-30))) < 0.5:
        raise FormatError(
            f"{where}: affine: expected three independent directions, got {directions.tolist()}; correct the header"
        )
    axes = [int(a) for a in np.abs(directions / lengths).argmax(axis=1)]
    off = np.abs(directions / lengths)[[0, 1, 2], axes]
    if sorted(axes) != [0, 1, 2] or (off < 1 - _TILT).any():
        angle = math.degrees(math.acos(min(1.0, float(off.min()))))
        raise FormatError(
            f"{where}: affine: expected axes along left, back and head, got an oblique volume ({angle:.1f} degrees); "
            "resample it to straight axes first"
        )
    return axes, [float(directions[i, axes[i]]) for i in range(3)]


def _backwards(xyz: list[float]) -> tuple[float, float, float]:
    return xyz[2], xyz[1], xyz[0]
