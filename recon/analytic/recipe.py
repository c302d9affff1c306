"""Filtered backprojection block by block: some views and some slices at a time, so that memory stays small."""

import math
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from recon import devices, kernels, memory
from recon.analytic.filters import filter_rows, ramp_response
from recon.analytic.truncation import continued
from recon.analytic.weights import cosine
from recon.geometry import ConeBeam, ParallelBeam
from recon.geometry.pose import in_graph
from recon.grid import VolumeGrid
from recon.kernels.maps import Maps, maps

AnyBeam = ParallelBeam | ConeBeam
Advance = Callable[[int, int], None]

_FILTERED = 1 << 23  # bytes of temporary arrays while rows are filtered: twice as many leave the caches
_FILTERED_ON_GPU = 1 << 28  # the same, enough to keep a GPU busy


class Projections(Protocol):
    """What a recipe reads of a scan."""

    @property
    def dtype(self) -> torch.dtype:
        """The type of the values."""

    def block(self, views: slice, rows: slice) -> Tensor:
        """Return the values of some views and rows (view, row, column)."""

    def empty(self, *shape: int) -> Tensor:
        """Return a tensor of the values' type, on their device, with arbitrary content."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Recipe:
    """All that filtered backprojection needs to know of a geometry and a grid, made once and used for every block.

    Args:
        grid: where to reconstruct.
        maps: where the voxels fall on the detector, which is widened by `sides`.
        weights: how much each ray counts, the step between views included, (view, 1, column).
        cosine: the obliquity of each ray, (1, row, column), or None for parallel rays.
        response: the filter's frequency response.
        sides: columns of zeros on the left and on the right, where filtered values do not vanish.
        continuation: positions of the columns in mm where projections are continued beyond them, or None.
        level: a single slice in the very plane of a single row, which has no neighbours.
        precision: of what GPU kernels read: "single", or "half" for filtered projections stored in half precision.
        graph: the matrices of `maps` in the graph of poses that require a gradient, or None.
    """

    grid: VolumeGrid
    maps: Maps
    weights: Tensor
    cosine: Tensor | None
    response: Tensor
    sides: tuple[int, int]
    continuation: Tensor | None
    level: bool
    precision: str = "single"
    graph: Tensor | None = None

    @classmethod
    def of(
        cls,
        geometry: AnyBeam,
        grid: VolumeGrid,
        weights: Tensor,
        *,
        window: str,
        cutoff: float,
        padding: str,
        poses: Tensor | None = None,
        precision: str = "single",
    ) -> "Recipe":
        """Make the recipe of a scan whose rays carry the weights of `redundancy`."""
        wide, sides = _widened(geometry)
        columns = wide.detector.shape[1]
        extra = columns if padding == "edge" else 0
        unit = geometry.source_to_axis if isinstance(geometry, ConeBeam) else 1.0
        placed = maps(wide, grid, unit=unit, poses=poses)
        return cls(
            grid=grid,
            maps=replace(placed, matrices=placed.matrices.detach()),
            weights=weights,
            cosine=cosine(geometry) if isinstance(geometry, ConeBeam) else None,
            response=_response(wide, columns + 2 * extra, window, cutoff),
            sides=sides,
            continuation=wide.detector.coordinates()[1] if extra else None,
            level=_in_the_row(geometry, grid),
            precision=precision,
            graph=placed.matrices if in_graph(poses) else None,
        )

    def placed(self, matrices: Tensor) -> "Recipe":
        """Return the recipe with other numbers in its maps."""
        return replace(self, maps=replace(self.maps, matrices=matrices.detach()), graph=None)

    def image(self, scan: Projections, *, progress: Advance | None = None) -> Tensor:
        """Return the whole image (z, y, x) in 1/mm; it lies on the disk where a budget of memory says so.

        Raises:
            ResourceError: a GPU that runs out of memory.
        """
        slabs = self.slabs(scan.empty(0).device)
        if len(slabs) == 1 and not memory.current().devices:
            return self.slab(scan, slabs[0], progress=progress)
        out = memory.like(scan.empty(0), self.grid.shape)
        for slices, part in self.in_turn(scan, slabs, progress=progress):
            out[slices] = part
            memory.release()
        return out

    def in_turn(
        self, scan: Projections, slabs: list[slice], done: Container[slice] = (), *, progress: Advance | None = None
    ) -> Iterator[tuple[slice, Tensor]]:
        """Yield slabs that are not done yet and what they hold, each made on the next device of the budget."""

        def work(number: int, device: torch.device | None) -> Tensor:
            return self.slab(scan, slabs[number], progress=_within(progress, number, len(slabs)), device=device)

        missing = [number for number, slices in enumerate(slabs) if slices not in done]
        for number, part in memory.in_turn(missing, work):
            yield slabs[number], part

    def slabs(self, device: torch.device | None = None) -> list[slice]:
        """Cut the grid into slabs of slices that fit into the budget's block, all but the last equally thick."""
        return slabs_of(self.grid, device)

    def slab(
        self, scan: Projections, slices: slice, *, progress: Advance | None = None, device: torch.device | None = None
    ) -> Tensor:
        """Return some slices of the image (slice, y, x) in 1/mm, adding up blocks of views.

        It is made on the scan's device, or on another one if that is the CPU.
        """
        here = scan.empty(0).device
        where = device if device is not None and here.type == "cpu" else here
        rows = self.rows_of(slices)
        blocks = self.blocks(rows, where)
        image = None
        for number, views in enumerate(blocks):
            if progress is not None:
                progress(number, len(blocks))
            with devices.told_when_full("filtered projections", where):
                values = self.filtered(scan, views, rows, where)
            part = kernels.find("backproject", values, self.precision)(
                self.maps.block(views, rows, slices), values[None]
            )[0]
            image = part if image is None else image.add_(part)
            del values, part
            memory.release()
        assert image is not None
        return image

    def rows_of(self, slices: slice) -> tuple[int, int]:
        """Return the range of rows that some slices are read from; it may begin and end beyond the detector."""
        return (0, 1) if self.level else self.maps.rows_seen(slices)

    def blocks(self, rows: tuple[int, int], device: torch.device | None = None) -> list[slice]:
        """Cut the views into blocks whose filtered rows fit into the budget's block."""
        size = 2 * 4 * (rows[1] - rows[0]) * self.maps.detector_shape[1]
        return memory.even_parts(len(self.weights), size, device=device)

    def filtered(
        self, scan: Projections, views: slice, rows: tuple[int, int], device: torch.device | None = None
    ) -> Tensor:
        """Return weighted and filtered projections (view, row, column), at the sampling of the rotation axis.

        The outer rows are repeated once beyond the detector: a pixel has an extent, and half of it lies beyond its
        middle.
        """
        begin, end, _ = views.indices(len(self.weights))
        where = scan.empty(0).device if device is None else device
        out = torch.empty(end - begin, rows[1] - rows[0], self.maps.detector_shape[1], dtype=scan.dtype, device=where)
        seen, at = self.seen(rows)
        for part in self.parts(views, seen, where):
            values = scan.block(part, seen).detach().to(where)
            out[part.start - begin : part.stop - begin, at] = self.filter(values, part, seen)
        out[:, : at.start] = out[:, at.start : at.start + 1]
        out[:, at.stop :] = out[:, at.stop - 1 : at.stop]
        return out

    def seen(self, rows: tuple[int, int]) -> tuple[slice, slice]:
        """Return which rows of the detector lie among some that may be beyond it, and where among them."""
        count = self.maps.detector_shape[0]
        first, last = min(max(rows[0], 0), count - 1), max(min(rows[1], count), 1)
        before = min(max(-rows[0], 0), rows[1] - rows[0] - (last - first))
        return slice(first, last), slice(before, before + last - first)

    def parts(self, views: slice, rows: slice, device: torch.device) -> list[slice]:
        """Cut views into blocks that are filtered at once."""
        begin, end, _ = views.indices(len(self.weights))
        together = _FILTERED if device.type == "cpu" else _FILTERED_ON_GPU
        step = max(1, together // (24 * len(self.response) * (rows.stop - rows.start)))
        return [slice(at, min(at + step, end)) for at in range(begin, end, step)]

    def filter(self, values: Tensor, views: slice, rows: slice) -> Tensor:
        """Weight, filter and widen the values of some views and rows (view, row, column)."""
        values = values * self.weights[views].to(values)
        if self.cosine is not None:
            values *= self.cosine[:, rows].to(values)
        values = torch.nn.functional.pad(values, self.sides) if any(self.sides) else values
        if self.continuation is None:
            return filter_rows(values, self.response)
        columns = values.shape[-1]
        longer = continued(values, self.continuation, columns)
        return filter_rows(longer, self.response)[..., columns : 2 * columns]


def slabs_of(grid: VolumeGrid, device: torch.device | None = None) -> list[slice]:
    """Cut a grid into slabs of slices that fit into the budget's block."""
    return memory.even_parts(grid.shape[0], 4 * grid.shape[1] * grid.shape[2], device=device)


def _response(geometry: AnyBeam, columns: int, window: str, cutoff: float) -> Tensor:
    """Return the ramp filter's response at the sampling of the rotation axis (DERIVATIONS.md, section 3)."""
    pitch = geometry.detector.pitch[1]
    if not isinstance(geometry, ConeBeam):
        return ramp_response(columns, pitch, window=window, cutoff=cutoff)
    if not geometry.arc_detector:
        return ramp_response(columns, pitch / geometry.magnification, window=window, cutoff=cutoff)
    angle = pitch / geometry.source_to_detector
    response = ramp_response(columns, angle, window=window, cutoff=cutoff, angular=True)
    return response / geometry.source_to_axis


def _widened(geometry: AnyBeam) -> tuple[AnyBeam, tuple[int, int]]:
    """Add empty columns to the short side of an offset detector; return how many on either side."""
    detector = geometry.detector
    offset, pitch = detector.offset[1], detector.pitch[1]
    extra = math.ceil(2 * abs(offset) / pitch)
    if extra == 0:
        return geometry, (0, 0)
    shift = -math.copysign(extra * pitch / 2, offset)
    wide = replace(
        detector, shape=(detector.shape[0], detector.shape[1] + extra), offset=(detector.offset[0], offset + shift)
    )
    return replace(geometry, detector=wide), (extra, 0) if offset > 0 else (0, extra)


def _in_the_row(geometry: AnyBeam, grid: VolumeGrid) -> bool:
    """Tell a single slice in the very plane of a single row."""
    (v, _), pitch = geometry.detector.coordinates(), geometry.detector.pitch[0]
    return len(v) == grid.shape[0] == 1 and max(abs(float(v[0])), abs(grid.centre[0])) < 1e-6 * pitch


def _within(progress: Advance | None, number: int, count: int) -> Advance | None:
    """Report the steps of one slab as steps of all."""
    if progress is None:
        return None
    return lambda done, steps: progress(number * steps + done, count * steps)
