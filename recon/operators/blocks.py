"""The projector in blocks of views and slabs of slices, for volumes and projections that memory holds only in part.

Every sample of a ray lies between two slices, and volumes are zero beyond their ends: so the projections of slabs add
up to those of the volume, and each slab gets its part of the transpose from the rows that see it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from recon import kernels, memory
from recon.kernels.lines import Lines
from recon.kernels.maps import Maps

_TABLE = 96  # bytes per ray of what the kernels tabulate, at the most


class Block(NamedTuple):
    """Some views and the rows of them that see some slices."""

    views: slice
    rows: slice
    slices: slice


@dataclass(frozen=True, eq=False)
class Blocks:
    """Cuts of a projector, with the rays of each block.

    Args:
        lines: the rays of all views, in voxels of the whole grid.
        maps: where slices fall on the detector.
    """

    lines: Lines
    maps: Maps
    _kept: dict[tuple[int, ...], Lines] = field(default_factory=dict)

    def forward(self, volume: Tensor) -> Tensor:
        """Integrate volumes (batch, z, y, x) along every ray: (batch, view, row, column)."""
        out = memory.like(volume, (len(volume), *self.lines.shape)).zero_()
        for _, slabs in self._cut(len(volume), volume.itemsize):
            for block in slabs:
                part = kernels.find("forward", volume)(self._lines(block), volume[:, block.slices].contiguous())
                out[:, block.views, block.rows] += part
            memory.release()
        return out

    def adjoint(self, projections: Tensor) -> Tensor:
        """Spread projections (batch, view, row, column) back over the voxels with the weights of `forward`."""
        out = memory.like(projections, (len(projections), *self.lines.grid_shape)).zero_()
        for _, slabs in self._cut(len(projections), projections.itemsize):
            for block in slabs:
                values = projections[:, block.views, block.rows].contiguous()
                out[:, block.slices] += kernels.find("adjoint", values)(self._lines(block), values)
            memory.release()
        return out

    def _cut(self, batch: int, itemsize: int) -> Iterator[tuple[slice, list[Block]]]:
        """Yield, per block of views, the slabs that its rays cross."""
        _, y, x = self.lines.grid_shape
        slabs = memory.even_parts(self.lines.grid_shape[0], batch * y * x * itemsize)
        rows = [self._rows(slices) for slices in slabs]
        tallest = max([part.stop - part.start for part in rows], default=1)
        steps = memory.even_parts(self.lines.shape[0], batch * tallest * self.lines.shape[2] * itemsize)
        for views in steps:
            yield views, [Block(views, r, s) for r, s in zip(rows, slabs, strict=True) if r.start < r.stop]

    def _rows(self, slices: slice) -> slice:
        first, last = self.maps.rows_seen(slices)
        return slice(max(first, 0), max(0, min(last, self.lines.rows)))

    def _lines(self, block: Block) -> Lines:
        """Return the rays of a block; they are kept, tables and all, where that takes no more than a block may."""
        key = tuple(number for part in block for number in (part.start, part.stop))
        made = self._kept.get(key) or self.lines.block(*block)
        tables = _TABLE * made.shape[0] * made.shape[2]
        if tables * (len(self._kept) + 1) <= memory.current().work:
            self._kept[key] = made
        return made
