"""The projector: line integrals of a volume along the rays of a scan, and their exact transpose."""

import math
from collections.abc import Sequence
from typing import Self

from torch import Tensor

from recon import checks, kernels, memory
from recon.errors import ConfigError
from recon.geometry import ScanGeometry
from recon.geometry.base import view_numbers
from recon.geometry.pose import check_poses
from recon.grid import VolumeGrid
from recon.kernels.lines import Lines, lines
from recon.kernels.maps import maps
from recon.operators.blocks import Blocks
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
        precision: of what GPU kernels multiply, for stacks of slices in one plane: "single", "tf32" or "half" (stored,
            too). Sums are in single precision, and the pair stays matched. The CPU knows "single" only.

    Raises:
        ShapeError: poses that do not fit the number of views.
        ConfigError: poses that require a gradient.
        GeometryError: a grid that reaches the source.

    Source:
        Joseph 1982, IEEE Transactions on Medical Imaging 1(3): 192-196 (kernels/DERIVATIONS.md, section 1).
    """

    def __init__(
        self,
        *,
        grid: VolumeGrid,
        geometry: ScanGeometry,
        poses: Tensor | None = None,
        precision: str = "single",
    ) -> None:
        geometry.check_grid(grid)
        self.precision = checks.choice("precision", precision, kernels.PRECISIONS)
        self.grid, self.geometry = grid, geometry
        if isinstance(poses, Tensor) and poses.requires_grad:
            raise ConfigError(
                "poses: expected numbers without a gradient, got a tensor that requires one; this version has no "
                "gradient with respect to motion, pass poses.detach()"
            )
        self.poses = None if poses is None else check_poses(poses, len(geometry))
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
        """The rays in voxel units, made once per projector."""
        if self._lines is None:
            self._lines = lines(self.geometry, self.grid, self.poses)
        return self._lines

    @property
    def blocks(self) -> Blocks:
        """The rays in blocks, for use within a budget of memory."""
        if self._blocks is None:
            unit = 1.0  # where weights of backprojection are 1, which projection has no use for
            self._blocks = Blocks(
                self.lines, maps(self.geometry, self.grid, unit=unit, poses=self.poses), self.precision
            )
        return self._blocks

    def in_blocks(self, like: Tensor) -> bool:
        """Tell whether a budget of memory holds, and a batch is more than one block or to be sent to other devices."""
        size = len(like) * (math.prod(self.domain_shape) + math.prod(self.range_shape)) * like.itemsize
        budget = memory.current()
        sent = bool(budget.devices) and not like.is_cuda
        return budget.limit is not None and (sent or 2 * size > budget.work)

    def __getitem__(self, views: int | slice | Sequence[int] | Tensor) -> Self:
        """Return the projector of some of the views."""
        poses = None if self.poses is None else self.poses[view_numbers(views, len(self.geometry))]
        return type(self)(grid=self.grid, geometry=self.geometry[views], poses=poses, precision=self.precision)

    def __repr__(self) -> str:
        moved = "" if self.poses is None else ", poses=..."
        coarse = "" if self.precision == "single" else f", precision={self.precision!r}"
        return f"Projector(grid={self.grid!r}, geometry={self.geometry!r}{moved}{coarse})"

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
