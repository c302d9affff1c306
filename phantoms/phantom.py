"""Phantom: solids in order, their exact line integrals and their picture on a grid."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from phantoms import kernel
from phantoms.shapes import HalfSpace, Shape, Vector
from recon import checks
from recon.errors import ConfigError
from recon.geometry import FreeBeam, ScanGeometry
from recon.geometry.pose import check_poses
from recon.grid import VolumeGrid
from recon.kernels.lines import Lines, lines
from recon.units import WATER

RULES = ("additive", "nested")
AVERAGES = ("exponential", "log")

_MILLIMETRES = VolumeGrid(shape=(1, 1, 1))  # the grid whose voxel indices are positions in mm


@dataclass(frozen=True, kw_only=True)
class Phantom:
    """Solids whose attenuations add up, or of which the later hide the earlier.

    Args:
        shapes: the solids, in order; lengths in mm, densities in 1/mm.
        rule: "additive" (Shepp-Logan), or "nested": where solids overlap the last one counts (FORBILD).
        name: what the phantom is called, for provenance.
        water: attenuation of water in 1/mm that the densities refer to, for HU.

    Raises:
        ConfigError: no shape, or an unknown rule.
    """

    shapes: tuple[Shape, ...]
    rule: str = "nested"
    name: str = "phantom"
    water: float = WATER

    def __post_init__(self) -> None:
        object.__setattr__(self, "shapes", tuple(self.shapes))
        checks.choice("rule", self.rule, RULES)
        object.__setattr__(self, "water", checks.positive("water", self.water, unit="1/mm"))
        if not self.shapes or not all(isinstance(shape, Shape) for shape in self.shapes):
            raise ConfigError(f"shapes: expected at least one Shape, got {self.shapes!r}")

    def __repr__(self) -> str:
        """Print the name and the number of solids; hundreds of them are not read."""
        return f"<Phantom {self.name}: {len(self.shapes)} {self.rule} shapes>"

    @property
    def nested(self) -> bool:
        """Tell whether later solids hide earlier ones."""
        return self.rule == "nested"

    @property
    def bounds(self) -> tuple[Vector, Vector]:
        """Lowest and highest corner (z, y, x) in mm of a box that holds every solid."""
        centres = np.array([shape.centre for shape in self.shapes])
        halves = np.array([shape.half_extent for shape in self.shapes])
        low, high = (centres - halves).min(0).tolist(), (centres + halves).max(0).tolist()
        return (low[0], low[1], low[2]), (high[0], high[1], high[2])

    def attenuation(self, points: Tensor) -> Tensor:
        """Return the attenuation in 1/mm (float64) at points (…, zyx) in mm."""
        places = points.to(torch.float64).reshape(-1, 3)
        values = torch.zeros(len(places), dtype=torch.float64)
        for shape in self.shapes:
            inside = _held(shape, places)
            values[inside] = shape.density if self.nested else values[inside] + shape.density
        return values.view(points.shape[:-1])

    def line_integrals(
        self,
        geometry: ScanGeometry,
        poses: Tensor | None = None,
        *,
        subrays: int | tuple[int, int] = 1,
        averaging: str = "log",
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """Integrate the attenuation along every ray, exactly.

        Rays are whole lines: nothing is cut off at the source or at the detector.

        Args:
            geometry: where the rays run.
            poses: motion of the phantom per view (view, 6), mm and rad, or None for a still one.
            subrays: rays per pixel, spread evenly over its area, as (v, u); one number n means n × n, but n along
                u alone on a detector of one row, which sees a plane. 1 is the ray through the pixel's centre.
            averaging: "log" averages the line integrals of sub-rays, "exponential" the photons they let through.
            dtype: of the result; the computation is in float64.

        Returns:
            (view, row, column), dimensionless.

        Raises:
            ConfigError: sub-rays that are not whole numbers of 1 or more, or an unknown averaging.
        """
        checks.choice("averaging", averaging, AVERAGES)
        counts = subrays_of(geometry, subrays)
        rays = _fine_lines(geometry, poses, counts)
        views = tuple(part.numpy() for part in (rays.source, rays.centre, rays.v, rays.u, rays.depth))
        out = np.empty(geometry.shape)
        kernel.project(
            geometry.shape[0] * geometry.shape[1],
            self._tables(),
            views,
            rays.along.numpy(),
            rays.bend.numpy(),
            rays.parallel,
            counts,
            averaging == "log",
            out,
            scratch=6 * (len(self.shapes) + 1) + geometry.shape[2] * math.prod(counts),
            dtype=torch.float64,
        )
        return torch.from_numpy(out).to(dtype)

    def rasterised(
        self, grid: VolumeGrid, *, oversampling: int | tuple[int, int, int] = 3, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """Draw the phantom on a grid: each voxel is the mean of evenly spaced points in it.

        Args:
            grid: the voxels.
            oversampling: points per voxel (z, y, x); one number n means n³, but n² on a grid of one slice, which
                stands for a plane. 1 takes the attenuation at the voxel's centre.
            dtype: of the result.

        Returns:
            Attenuation in 1/mm (z, y, x).

        Raises:
            ConfigError: an oversampling that is not whole numbers of 1 or more.
        """
        if isinstance(oversampling, int):
            oversampling = (1 if grid.shape[0] == 1 else oversampling, oversampling, oversampling)
        samples = checks.counts("oversampling", oversampling, 3)
        step = np.array(grid.spacing) / samples
        first = np.array(grid.centre) - (np.array(grid.shape) * samples - 1) / 2 * step
        out = np.zeros(grid.shape)
        points = math.prod(grid.shape[1:]) * math.prod(samples[1:])
        kernel.rasterise(len(out), self._tables(), first, step, samples, out, scratch=points, dtype=torch.float64)
        return torch.from_numpy(out).to(dtype)

    def moved(self, shift: Vector = (0.0, 0.0, 0.0), turn: Vector = (0.0, 0.0, 0.0)) -> Self:
        """Return the phantom after p -> R p + shift, R from a rotation vector `turn` in rad (z, y, x)."""
        return replace(self, shapes=tuple(shape.moved(shift, turn) for shape in self.shapes))

    def scaled(self, factor: float) -> Self:
        """Return the phantom with all lengths multiplied and the attenuations as they are."""
        return replace(self, shapes=tuple(shape.scaled(factor) for shape in self.shapes))

    def with_shapes(self, shapes: Iterable[Shape], *, at: int | None = None) -> Self:
        """Return the phantom with more solids, inserted before position `at` or, by default, last."""
        place = len(self.shapes) if at is None else at
        return replace(self, shapes=(*self.shapes[:place], *shapes, *self.shapes[place:]))

    def _tables(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool]:
        """Return solids, their clips relative to their centres, the first clip of each, and the rule."""
        table = np.array([_row(shape) for shape in self.shapes])
        clips = [_clip_row(shape, clip) for shape in self.shapes for clip in shape.clips]
        firsts = np.concatenate([[0], np.cumsum([len(shape.clips) for shape in self.shapes])])
        return table, np.array(clips, dtype=np.float64).reshape(-1, 4), firsts.astype(np.int64), self.nested


def subrays_of(geometry: ScanGeometry, subrays: int | tuple[int, int]) -> tuple[int, int]:
    """Return rays per pixel (v, u); one number stands for both, but for u alone on a detector of one row."""
    if isinstance(subrays, int):
        subrays = (1 if geometry.detector.shape[0] == 1 else subrays, subrays)
    v, u = checks.counts("subrays", subrays, 2)
    return v, u


def fine_beam(geometry: ScanGeometry, subrays: tuple[int, int]) -> FreeBeam:
    """Return the rays of a detector whose pixels are split up into (v, u)."""
    rows, columns = geometry.detector.shape
    rays = geometry.rays()
    rays[:, 2] /= subrays[0]
    rays[:, 3] /= subrays[1]
    detector = replace(
        geometry.detector, shape=(rows * subrays[0], columns * subrays[1]), pitch=(1.0, 1.0), offset=(0.0, 0.0)
    )
    vectors: Any = rays.tolist()
    return FreeBeam(vectors=vectors, detector=detector, parallel_rays=geometry.parallel)


def _fine_lines(geometry: ScanGeometry, poses: Tensor | None, subrays: tuple[int, int]) -> Lines:
    """Return the rays of a detector whose pixels are split up, in mm."""
    if poses is not None:
        poses = check_poses(poses, len(geometry))
    return lines(fine_beam(geometry, subrays), _MILLIMETRES, poses)


def _held(shape: Shape, places: Tensor) -> Tensor:
    """Find the places inside a solid; most lie outside its bounding sphere and are not looked at closely."""
    away = places - torch.tensor(shape.centre, dtype=torch.float64)
    (near,) = (away.square().sum(-1) <= (shape.radius * (1 + 1e-9)) ** 2).nonzero(as_tuple=True)
    return near[shape.contains(places[near])]


def _row(shape: Shape) -> list[float]:
    """Write a solid as a row of the kernel's table."""
    form = shape.profile
    curved = [float(form.curved), form.round, form.middle, form.slope]
    caps = [float(capped) for capped in form.caps]
    frame = shape.into_frame().flatten().tolist()
    radius = shape.radius * (1 + 1e-12) if math.isfinite(shape.radius) else math.inf
    return [*shape.centre, *frame, *curved, *caps, radius, *shape.half_extent, shape.density]


def _clip_row(shape: Shape, clip: HalfSpace) -> list[float]:
    away = sum(n * c for n, c in zip(clip.normal, shape.centre, strict=True))
    return [*clip.normal, clip.offset - away]
