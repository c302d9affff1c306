"""The projector: line integrals of a volume along the rays of a scan, and their exact transpose."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

import torch
from torch import Tensor

from recon import checks, kernels, memory
from recon.errors import ConfigError
from recon.geometry import ScanGeometry
from recon.geometry.base import view_numbers
from recon.geometry.pose import check_alignment, check_poses, in_graph, numbers, picked
from recon.grid import VolumeGrid
from recon.kernels.lines import Lines, lines, refuse_arc
from recon.kernels.maps import maps
from recon.operators.blocks import Blocks
from recon.operators.differentiable import project
from recon.operators.linear import LinearOperator, Shape
from recon.scan import Scan


class Projector(LinearOperator):
    """Integrate attenuation along every ray: volume (z, y, x) in 1/mm to line integrals (view, row, column).

    ``A @ volume`` projects, ``A.T @ projections`` is the exact transpose, ``A[views]`` keeps some views.
    The device of the input decides where the work is done.

    Args:
        grid: where the volume lives.
        geometry: where the rays run.
        poses: rigid motion of the object per view (view, 6), mm and rad, or None for a still object.
        alignment: rigid displacement of a flat detector relative to the source, (view, 6) or (6,) for all views: a
            shift along (v, u, normal) in mm, then a turn about them in rad (see `recon.geometry.aligned_rays`).
        precision: of what GPU kernels multiply, for stacks of slices in one plane: "single", "tf32" or "half" (stored,
            too). Sums are in single precision, and the pair stays matched. The CPU knows "single" only.

    Poses and alignment may require a gradient, which any result then has.

    Raises:
        ShapeError: poses or an alignment that do not fit the number of views.
        GeometryError: a grid that reaches the source, or an alignment of an arc detector.

    Source:
        Joseph 1982, IEEE Transactions on Medical Imaging 1(3): 192-196 (kernels/DERIVATIONS.md, section 1).
    """

    def __init__(
        self,
        *,
        grid: VolumeGrid,
        geometry: ScanGeometry,
        poses: Tensor | None = None,
        alignment: Tensor | None = None,
        precision: str = "single",
    ) -> None:
        geometry.check_grid(grid)
        self.precision = checks.choice("precision", precision, kernels.PRECISIONS)
        self.grid, self.geometry = grid, geometry
        self.poses = None if poses is None else check_poses(poses, len(geometry))
        self.alignment = None if alignment is None else check_alignment(alignment, len(geometry))
        if alignment is not None:
            refuse_arc(geometry)
        self._lines: Lines | None = None
        self._blocks: Blocks | None = None
        if memory.current().limit is not None:
            self.blocks.reserve()

    @classmethod
    def of(cls, scan: Scan, grid: VolumeGrid) -> "Projector":
        """Make the projector of a scan, its motion included."""
        return cls(grid=grid, geometry=scan.geometry, poses=scan.poses)

    @property
    def domain_shape(self) -> Shape:
        """The volume (z, y, x)."""
        return self.grid.shape

    @property
    def range_shape(self) -> Shape:
        """The projections (view, row, column)."""
        return self.geometry.shape

    @property
    def axes(self) -> tuple[str, str]:
        """Names of the axes of both shapes."""
        return "z, y, x", "view, row, column"

    @property
    def lines(self) -> Lines:
        """The rays in voxel units, numbers without a graph, made once per projector."""
        if self._lines is None:
            self._lines = lines(self.geometry, self.grid, numbers(self.poses), numbers(self.alignment))
        return self._lines

    @property
    def blocks(self) -> Blocks:
        """The rays in blocks, for use within a budget of memory."""
        if self._blocks is None:
            unit = 1.0  # where weights of backprojection are 1, which projection has no use for
            motion = {"poses": numbers(self.poses), "alignment": numbers(self.alignment)}
            self._blocks = Blocks(self.lines, maps(self.geometry, self.grid, unit=unit, **motion), self.precision)
        return self._blocks

    @property
    def requires_grad(self) -> bool:
        """Whether poses or alignment require a gradient."""
        return in_graph(self.poses) or in_graph(self.alignment)

    def settle(self, source: Tensor, centre: Tensor, v: Tensor, u: Tensor, depth: Tensor) -> None:
        """Take the numbers of the rays: under `torch.func`, poses hold none that can be read from here."""
        if self._lines is None:
            made = lines(self.geometry, self.grid)
            self._lines = replace(made, source=source, centre=centre, v=v, u=u, depth=depth)

    def ray_gradient(self, volume: Tensor, projections: Tensor) -> Tensor:
        """Differentiate the sum of projected volumes times projections by the rays.

        Args:
            volume: (batch, z, y, x).
            projections: (batch, view, row, column).

        Returns:
            Derivatives by source, centre, v, u and depth of `lines`, (view, 5, 3), float64, on the CPU.
        """
        if self.in_blocks(volume):
            return self.blocks.ray_gradient(volume, projections)
        found = kernels.find("ray_gradient", volume)(self.lines, volume, projections)
        return found.to("cpu", torch.float64)

    def in_blocks(self, like: Tensor) -> bool:
        """Tell whether a budget of memory holds, and a batch is more than one block or to be sent to other devices."""
        size = len(like) * (math.prod(self.domain_shape) + math.prod(self.range_shape)) * like.itemsize
        budget = memory.current()
        sent = bool(budget.devices) and not like.is_cuda
        return budget.limit is not None and (sent or 2 * size > budget.work)

    def __getitem__(self, views: int | slice | Sequence[int] | Tensor) -> Self:
        """Return the projector of some of the views."""
        pick = view_numbers(views, len(self.geometry))
        motion = {"poses": picked(self.poses, pick), "alignment": picked(self.alignment, pick)}
        return type(self)(grid=self.grid, geometry=self.geometry[views], precision=self.precision, **motion)

    def __repr__(self) -> str:
        moved = "".join(f", {name}=..." for name in ("poses", "alignment") if getattr(self, name) is not None)
        coarse = "" if self.precision == "single" else f", precision={self.precision!r}"
        return f"Projector(grid={self.grid!r}, geometry={self.geometry!r}{moved}{coarse})"

    def __getstate__(self) -> dict[str, Any]:
        """Travel with the numbers of poses and alignment; a graph cannot be copied."""
        motion = {"poses": numbers(self.poses), "alignment": numbers(self.alignment)}
        return {**super().__getstate__(), **motion}

    def _traced(self, x: Tensor, *, transposed: bool) -> Tensor:
        if not self.requires_grad:
            return super()._traced(x, transposed=transposed)
        # Made anew every time, so that a `backward` frees the graph of its own result alone.
        made = lines(self.geometry, self.grid, self.poses, self.alignment)
        return project(x, made, self, transposed=transposed)

    def _forward(self, x: Tensor) -> Tensor:
        if self.in_blocks(x):
            return self.blocks.forward(x)
        memory.check_room("projections", len(x) * math.prod(self.range_shape) * x.itemsize, x.device)
        return kernels.find("forward", x, self.precision)(self.lines, x)

    def _adjoint(self, y: Tensor) -> Tensor:
        if self.in_blocks(y):
            return self.blocks.adjoint(y)
        memory.check_room("volume", len(y) * math.prod(self.domain_shape) * y.itemsize, y.device)
        return kernels.find("adjoint", y, self.precision)(self.lines, y)


def subsets(operator: Projector, count: int) -> list[list[int]]:
    """Split the views into `count` interleaved subsets, ordered so that neighbours in time are far apart in angle.

    Source:
        Guan and Gordon 1994, Physics in Medicine and Biology 39(11): 2005-2022, here by bit reversal.
    """
    views = len(operator.geometry)
    if not checks.whole(count) or not 1 <= count <= views:
        raise ConfigError(f"subsets: expected 1 to {views} subsets of {views} views, got {count!r}")
    return [list(range(first, views, int(count))) for first in _spread(int(count))]


def _spread(count: int) -> list[int]:
    """Order 0..count-1 by reversed bits."""
    bits = max(1, (count - 1).bit_length())
    return sorted(range(count), key=lambda i: int(f"{i:0{bits}b}"[::-1], 2))
