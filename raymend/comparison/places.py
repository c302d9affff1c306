"""Where cases are reconstructed and judged: grids, masks, and images brought to another grid."""

from typing import Any, Final

import numpy as np
import torch
from scipy.ndimage import map_coordinates
from torch import Tensor

from phantoms import Anatomy, Phantom
from phantoms.voxels import Scannable
from raymend.low_dose import inside
from recon import Scan, ScanGeometry, VolumeGrid, default_grid, field_of_view
from recon.errors import ConfigError, ShapeError
from recon.io import Volume

_MARGIN: Final = 1.05  # width of the image over that of the object
_TRUNK, _HEAD = 430.0, 260.0  # mm; wide enough for every patient
_SLICES: Final = 16  # of a cone-beam case at most
_OFF: Final = 0.3  # voxels between the grid and that of an object made of voxels, against the inverse crime


def around(thing: Scannable, geometry: ScanGeometry, size: int) -> VolumeGrid:
    """Return a grid of square slices that holds an object, or the field of view where that is smaller."""
    width = min(2 * field_of_view(geometry)[0], width_of(thing))
    off = 0.0 if isinstance(thing, Phantom) else _OFF * width / size
    return _slices(geometry, size, width, off)


def over_field(geometry: ScanGeometry, size: int) -> VolumeGrid:
    """Return a grid of square slices over the field of view."""
    return _slices(geometry, size, 2 * field_of_view(geometry)[0], 0.0)


def width_of(thing: Any) -> float:
    """Return how wide an image of an object should be, in mm."""
    if isinstance(thing, Anatomy):
        return _HEAD if thing.kind in ("head", "jaw") else _TRUNK
    if isinstance(thing, Phantom):
        low, high = thing.bounds
        return _MARGIN * 2 * max(*(abs(end) for end in (*low[1:], *high[1:])))
    return float(max(thing.grid.extent[1:]))


def covered(scan: Scan, grid: VolumeGrid) -> tuple[Tensor, str]:
    """Return where all views see the image, and what that is called; the whole image if it lies inside."""
    found = inside(scan, grid)
    if found is None or bool(found.all()):
        return torch.ones(grid.shape, dtype=torch.bool), ""
    return found, "field of view"


def stride(views: int, wanted: int | None, name: str) -> int:
    """Return every how manyth view leaves as many as wanted.

    Raises:
        ConfigError: more views than there are.
    """
    if wanted is None:
        return 1
    if wanted > views:
        raise ConfigError(f"views: expected at most the {views} of {name}, got {wanted}")
    return max(1, round(views / wanted))


def on_grid(volume: Volume, grid: VolumeGrid, *, resample: bool, name: str) -> tuple[Tensor, str]:
    """Return the values of a volume on a grid, and what was done to bring them there.

    Raises:
        ShapeError: another grid, unless resampling was asked for.
        ConfigError: a volume that does not reach over the grid.
    """
    if _same(volume.grid, grid):
        return volume.values.float(), ""
    if not resample:
        raise ShapeError(
            f"{name}: expected the reference on the grid of the image, {grid!r}, got {volume.grid!r}; resample=True "
            "(--resample) brings it there by linear interpolation"
        )
    z, y, x = torch.meshgrid(*grid.axes(), indexing="ij")
    places = volume.grid.to_index(torch.stack((z, y, x), dim=-1)).numpy()
    most = np.array(volume.grid.shape) - 0.5
    if not bool(((places >= -0.5) & (places <= most)).all()):
        raise ConfigError(f"{name}: expected a reference that reaches over the image, {grid!r}, got {volume.grid!r}")
    moved = map_coordinates(volume.values.double().numpy(), np.moveaxis(places, -1, 0), order=1, mode="nearest")
    return torch.from_numpy(moved).float(), ", which was resampled by linear interpolation"


def _slices(geometry: ScanGeometry, size: int, width: float, off: float) -> VolumeGrid:
    whole, step = default_grid(geometry), width / size
    if whole.shape[0] == 1:
        return VolumeGrid(shape=(1, size, size), spacing=(1.0, step, step), centre=(0.0, off, -off))
    count = min(_SLICES, max(1, int(whole.extent[0] / step)))
    return VolumeGrid(shape=(count, size, size), spacing=(step,) * 3, centre=(whole.centre[0], off, -off))


def _same(one: VolumeGrid, other: VolumeGrid) -> bool:
    """Tell whether two grids are equal to a hundredth of a voxel."""
    near = all(
        abs(a - b) <= 0.01 * step
        for pair in ((one.spacing, other.spacing), (one.centre, other.centre))
        for a, b, step in zip(*pair, one.spacing, strict=True)
    )
    return one.shape == other.shape and near
