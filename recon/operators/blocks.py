"""The projector in blocks of views and slabs of slices, for volumes and projections that memory holds only in part.

Every sample of a ray lies between two slices, and volumes are zero beyond their ends: so the projections of slabs add
up to those of the volume, and each slab gets its part of the transpose from the rows that see it.
"""

from collections.abc import Iterable, Iterator, Sequence
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
        precision: of the GPU kernels.
    """

    lines: Lines
    maps: Maps
    precision: str = "single"
    _kept: dict[tuple[int, ...], Lines] = field(default_factory=dict)

    def forward(self, volume: Tensor) -> Tensor:
        """Integrate volumes (batch, z, y, x) along every ray: (batch, view, row, column)."""
        out = memory.like(volume, (len(volume), *self.lines.shape), fill=0)
        self._add_projections(volume, (block for cut in self.cuts(volume) for block in cut), out)
        return out

    def adjoint(self, projections: Tensor) -> Tensor:
        """Spread projections (batch, view, row, column) back over the voxels with the weights of `forward`."""
        out = memory.like(projections, (len(projections), *self.lines.grid_shape), fill=0)
        blocks = (block for cut in self.cuts(projections) for block in cut)
        pieces = ((block, projections[:, block.views, block.rows]) for block in blocks)
        self._add_volumes(pieces, out)
        return out

    def ray_gradient(self, volume: Tensor, projections: Tensor) -> Tensor:
        """Differentiate the sum of projected volumes times projections by the rays: (view, 5, 3), float64."""
        out = torch.zeros(self.lines.shape[0], 5, 3, dtype=torch.float64)

        def work(block: Block, device: torch.device | None) -> Tensor:
            rows = projections[:, block.views, block.rows]
            return self._worked("ray_gradient", block, device, volume[:, block.slices], rows)

        for block, part in memory.in_turn((block for cut in self.cuts(volume) for block in cut), work):
            out[block.views] += self.lines.by_whole(part.to(out), block.rows)
            memory.release()
        return out

    def project(self, volume: Tensor, cut: Sequence[Block]) -> Tensor:
        """Integrate volumes along the rays of one cut: (batch, view, row, column)."""
        views = cut[0].views
        out = volume.new_zeros(len(volume), views.stop - views.start, *self.lines.shape[1:])
        self._add_projections(volume, cut, out, first=views.start)
        return out

    def spread(self, values: Tensor, cut: Sequence[Block], out: Tensor) -> None:
        """Add to volumes (batch, z, y, x) what projections of one cut, (batch, view, row, column), give."""
        self._add_volumes(((block, values[:, :, block.rows]) for block in cut), out)

    def _add_projections(self, volume: Tensor, blocks: Iterable[Block], out: Tensor, first: int = 0) -> None:
        def work(block: Block, device: torch.device | None) -> Tensor:
            return self._worked("forward", block, device, volume[:, block.slices])

        for block, part in memory.in_turn(blocks, work):
            views = slice(block.views.start - first, block.views.stop - first)
            out[:, views, block.rows] += part.to(out.device)
            memory.release()

    def _add_volumes(self, pieces: Iterable[tuple[Block, Tensor]], out: Tensor) -> None:
        def work(piece: tuple[Block, Tensor], device: torch.device | None) -> Tensor:
            return self._worked("adjoint", piece[0], device, piece[1])

        for (block, _), part in memory.in_turn(pieces, work):
            out[:, block.slices] += part.to(out.device)
            memory.release()

    def _worked(self, operation: str, block: Block, device: torch.device | None, *pieces: Tensor) -> Tensor:
        """Return what a kernel makes of a block's pieces, on a device if they are on the CPU."""
        here = [(piece if device is None or piece.is_cuda else piece.to(device)).contiguous() for piece in pieces]
        precision = "single" if operation == "ray_gradient" else self.precision
        return kernels.find(operation, here[0], precision)(self._lines(block), *here)

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
