"""The projector in blocks of views and slabs of slices, for volumes and projections that memory holds only in part.

Every sample of a ray lies between two slices, and volumes are zero beyond their ends: so the projections of slabs add
up to those of the volume, and each slab gets its part of the transpose from the rows that see it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from recon import kernels, memory
from recon.kernels.lines import Lines
from recon.kernels.maps import Maps

_FRAME = 48  # slices that a kernel adds to those it lays out, at the most
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
        out = memory.like(volume, (len(volume), *self.lines.shape))
        for cut in self.cuts(volume):
            out[:, cut[0].views] = self.project(volume, cut)
        return out

    def adjoint(self, projections: Tensor) -> Tensor:
        """Spread projections (batch, view, row, column) back over the voxels with the weights of `forward`."""
        out = memory.like(projections, (len(projections), *self.lines.grid_shape), fill=0)
        for cut in self.cuts(projections):
            self.spread(projections[:, cut[0].views], cut, out)
        return out

    def ray_gradient(self, volume: Tensor, projections: Tensor) -> Tensor:
        """Differentiate the sum of projected volumes times projections by the rays: (view, 5, 3), float64."""
        out = torch.zeros(self.lines.shape[0], 5, 3, dtype=torch.float64)
        for cut in self.cuts(volume):
            for block in cut:
                slab = volume[:, block.slices].contiguous()
                values = projections[:, block.views, block.rows].contiguous()
                found = kernels.find("ray_gradient", slab)(self._lines(block), slab, values).to(out)
                out[block.views] += self.lines.by_whole(found, block.rows)
                memory.release()
        return out

    def project(self, volume: Tensor, cut: Sequence[Block]) -> Tensor:
        """Integrate volumes along the rays of one cut: (batch, view, row, column)."""
        views = cut[0].views
        out = volume.new_zeros(len(volume), views.stop - views.start, *self.lines.shape[1:])
        for block in cut:
            slab = volume[:, block.slices].contiguous()
            out[:, :, block.rows] += kernels.find("forward", slab)(self._lines(block), slab)
            memory.release()
        return out

    def spread(self, values: Tensor, cut: Sequence[Block], out: Tensor) -> None:
        """Add to volumes (batch, z, y, x) what projections of one cut, (batch, view, row, column), give."""
        for block in cut:
            rows = values[:, :, block.rows].contiguous()
            out[:, block.slices] += kernels.find("adjoint", rows)(self._lines(block), rows)
            memory.release()

    def cuts(self, like: Tensor) -> Iterator[list[Block]]:
        """Yield, per block of views, the slabs that its rays cross, for tensors of a batch and type."""
        size = len(like) * like.itemsize
        slabs = self._slabs(size)
        rows = [self._rows(slices) for slices in slabs]
        seen = [(part, slices) for part, slices in zip(rows, slabs, strict=True) if part.start < part.stop]
        seen = seen or [(slice(0, 1), slice(0, 1))]
        for views in memory.even_parts(self.lines.shape[0], size * self.lines.rows * self.lines.shape[2]):
            yield [Block(views, *part) for part in seen]

    def reserve(self) -> None:
        """Keep room for one block, before arrays take it."""
        self._slabs(4)

    def _slabs(self, size: int) -> list[slice]:
        count, y, x = self.lines.grid_shape
        return memory.even_parts(count, size * y * x, extra=_FRAME * size * y * x, least=_FRAME // 3)

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
