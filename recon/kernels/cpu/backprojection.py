"""Which compiled kernel backprojects for FBP and FDK, and the frames of zeros that each one reads."""

from typing import Any

import torch
from torch import Tensor

from recon.kernels import forms
from recon.kernels.cpu import resample, shadow
from recon.kernels.maps import Maps

_FEWEST_SLICES = 5  # that fill enough of sixteen lanes
_TILE_VALUES = 1e5  # of a tile, to leave the second-level cache room for views


def backproject(maps: Maps, values: Tensor) -> Tensor:
    """Sum projections (batch, view, row, column) read at each voxel's shadow: (batch, z, y, x)."""
    if _steady(maps, values):
        return _steady_backprojection(maps, values.detach())
    if _flat_stack(maps, values):
        return _parallel_backprojection(maps, values.detach())
    if _fan(maps, values):
        return _fan_backprojection(maps, values.detach())
    z, y, x = maps.grid_shape
    padded = torch.nn.functional.pad(values.transpose(2, 3), (1, 1, 1, 1))
    out = values.new_empty(len(values), y, x, z)
    shadow.shadow_backprojection(
        len(values) * y,
        padded.detach().flatten(2).numpy(),
        *shadow_arguments(maps),
        out.numpy(),
    )
    return out.permute(0, 3, 1, 2).contiguous()


def _steady(maps: Maps, values: Tensor) -> bool:
    """Tell whether columns of voxels have steady shadows and fill the lanes."""
    return values.dtype == torch.float32 and maps.grid_shape[0] >= _FEWEST_SLICES and forms.steady(maps)


def _flat_stack(maps: Maps, values: Tensor) -> bool:
    """Tell whether every slice is seen by parallel rays of its own."""
    return values.dtype == torch.float32 and forms.flat_stack(maps)


def _parallel_backprojection(maps: Maps, values: Tensor) -> Tensor:
    rows, columns = maps.detector_shape
    out = values.new_empty(len(values), *maps.grid_shape)
    framed = values.new_zeros(len(values), 2, values.shape[1], rows + 2, resample.padded(columns))
    for side, ordered in enumerate((values, values.flip(3))):
        framed[:, side, :, 1:-1, resample.MARGIN : resample.MARGIN + columns] = ordered
    matrices = maps.matrices / maps.matrices[:, 2:, 3:]
    jobs = len(values) * maps.grid_shape[0] * -(-maps.grid_shape[1] // shadow.STRIP)
    shadow.parallel_backprojection(
        jobs, framed.flatten(1).numpy(), matrices.numpy(), rows, columns, out.numpy(), scratch=_strip(maps)
    )
    return out


def _fan(maps: Maps, values: Tensor) -> bool:
    """Tell whether one slice is seen by one detector row in its plane, and all of it well ahead of the source."""
    _, y, x = maps.grid_shape
    lanes = -(-x // 16) * 16
    if values.dtype != torch.float32 or not forms.one_plane(maps, lanes):
        return False
    if not maps.arc:
        corners = torch.tensor([(0, b, c, 1) for b in (0, y - 1) for c in (0, lanes - 1)], dtype=torch.float64)
        return bool((maps.matrices[:, 2] @ corners.T > 0).all())
    # Every line is seen from its middle under 45 degrees to either side: half of it is shorter than the way there.
    middle = maps.matrices[:, 1:] @ torch.tensor([0, (y - 1) / 2, (lanes - 1) / 2, 1], dtype=torch.float64)
    half = (maps.matrices[:, 1:, 1] * (y / 2)).norm(dim=1) + (maps.matrices[:, 1:, 2] * (lanes / 2)).norm(
        dim=1
    ) * 2**0.5
    return bool((middle.norm(dim=1) > half).all())


def _fan_backprojection(maps: Maps, values: Tensor) -> Tensor:
    columns = maps.detector_shape[1]
    framed = torch.nn.functional.pad(values[:, :, 0], (resample.MARGIN, 3 * resample.MARGIN))
    out = values.new_empty(len(values), *maps.grid_shape)
    shadow.fan_backprojection(
        len(values) * -(-maps.grid_shape[1] // shadow.STRIP),
        framed.contiguous().numpy(),
        maps.matrices.contiguous().numpy(),
        maps.arc,
        maps.scale,
        columns,
        out[:, 0].numpy(),
        scratch=_strip(maps),
    )
    return out


def _steady_backprojection(maps: Maps, values: Tensor) -> Tensor:
    rows, columns = maps.detector_shape
    out = values.new_empty(len(values), *maps.grid_shape)
    framed = values.new_zeros(*values.shape[:2], columns + 2, resample.padded(rows))
    framed[:, :, 1:-1, resample.MARGIN : resample.MARGIN + rows] = values.transpose(2, 3)
    tile = max(4, min(16, int((_TILE_VALUES / maps.grid_shape[0]) ** 0.5)))
    shadow.steady_backprojection(
        len(values) * -(-maps.grid_shape[1] // tile) * -(-maps.grid_shape[2] // tile),
        framed.flatten(1).numpy(),
        *shadow_arguments(maps),
        tile,
        out.numpy(),
        scratch=resample.SCRATCH + tile**2 * -(-maps.grid_shape[0] // 32) * 32,
    )
    return out


def shadow_arguments(maps: Maps) -> tuple[Any, ...]:
    """Return what tells a kernel where on the detector a voxel falls."""
    where = maps.matrices.contiguous().numpy(), maps.arc, maps.scale, maps.shift.numpy(), maps.middle
    return *where, *maps.detector_shape


def _strip(maps: Maps) -> int:
    """Return the floats of working space where lanes run along x."""
    return resample.SCRATCH + shadow.STRIP * -(-maps.grid_shape[2] // 32) * 32
