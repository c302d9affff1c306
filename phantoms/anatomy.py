"""Patients without end: a trunk or a head drawn from a seed, textured, as an object to scan."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from phantoms.belly import belly
from phantoms.brain import head, vault
from phantoms.chest import chest
from phantoms.draw import Draw
from phantoms.jaw import jaw
from phantoms.materials import ENERGY, attenuation, hu_to_attenuation
from phantoms.organs import Canvas, Organ, paint
from phantoms.texture import Noise
from phantoms.torso import around_spine, build, outer, skeleton
from phantoms.voxels import VolumeObject, block_mean, samples_of
from recon import checks
from recon.geometry import ScanGeometry
from recon.geometry.pose import check_poses
from recon.grid import VolumeGrid
from recon.kernels.lines import placed_rays

#: What a patient can be centred on, and the height of that in mm above the middle of the heart or of the brain.
ANATOMIES: Final = {"thorax": 0.0, "abdomen": -190.0, "head": 0.0, "jaw": -100.0}

_HALF: Final = (140.0, 205.0)  # half sides (y, x) in mm of a box that holds every patient
_DEEP: Final = (-150.0, 130.0)  # heights in mm relative to the middle of a kind between which there is anatomy


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """A random patient: the same seed gives the same one, to the bit, on every grid.

    Trunks differ in size, fat, contrast agent, bones, vessels, bowel, nodules and low-contrast lesions, heads in skull,
    furrows, ventricles and lesions, jaws in teeth, fillings and glands; the base of the skull is coarse. Organs have
    soft edges of 1 to 2 mm and random fields for texture (see `phantoms.texture`). They are defined in mm at every
    point, not on voxels, but not as shapes with exact chords: a scan integrates a raster of `spacing` through a
    projector. Reconstruct on another, coarser spacing: one of the same voxels is the inverse crime (see
    `VolumeObject`).

    Args:
        seed: what the patient is drawn from.
        kind: "thorax", with the middle of the heart at z = 0, "abdomen", at the kidneys, "head", at the middle of the
            brain, or "jaw", between the rows of teeth. Trunk and head of a seed do not belong together.
        energy: of the beam in keV; HU become attenuation there.
        spacing: of the raster that is scanned in mm, in the plane; along z it is twice as wide.

    Raises:
        ConfigError: an unknown kind, or a seed, energy or spacing that cannot be.

    Source:
        raymend's own; sizes and HU are those of adults in CT.
    """

    seed: int
    kind: str = "thorax"
    energy: float = ENERGY
    spacing: float = 0.6
    water: float = field(init=False)

    def __post_init__(self) -> None:
        checks.choice("kind", self.kind, tuple(ANATOMIES))
        object.__setattr__(self, "spacing", checks.positive("spacing", self.spacing))
        object.__setattr__(self, "water", attenuation("water", self.energy))
        Draw(self.seed)

    @property
    def name(self) -> str:
        """Kind and seed."""
        return f"{self.kind} of patient {self.seed}"

    @property
    def bounds(self) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
        """Lowest and highest corner (z, y, x) in mm of a box that holds the patient; who is cut at the ends."""
        return (_DEEP[0], -_HALF[0], -_HALF[1]), (_DEEP[1], *_HALF)

    def hounsfield(self, z: float, y: Tensor, x: Tensor) -> Tensor:
        """Return a plane in HU (y, x) at a height and at rows and columns in mm, each growing."""
        if not _DEEP[0] <= z <= _DEEP[1]:
            return torch.full((len(y), len(x)), -1000.0)
        canvas = Canvas(z=z + ANATOMIES[self.kind], y=y.numpy(), x=x.numpy(), noise=self._noise)
        return torch.from_numpy(paint(self._organs, canvas))

    def rasterised(
        self, grid: VolumeGrid, *, oversampling: int | tuple[int, int, int] = 2, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """Draw the patient on a grid: each voxel is the mean of evenly spaced points in it.

        Args:
            grid: the voxels.
            oversampling: points per voxel (z, y, x); one number n means n³, but n² on a grid of one slice.
            dtype: of the result.

        Returns:
            Attenuation in 1/mm (z, y, x).

        Raises:
            ConfigError: an oversampling that is not whole numbers of 1 or more.
        """
        samples = samples_of(grid, oversampling)
        counts: Any = tuple(n * k for n, k in zip(grid.shape, samples, strict=True))
        steps: Any = tuple(d / k for d, k in zip(grid.spacing, samples, strict=True))
        z, y, x = replace(grid, shape=counts, spacing=steps).axes()
        out = torch.empty(grid.shape, dtype=dtype)
        for k in range(grid.shape[0]):
            layers = [self._plane(float(height), y, x) for height in z[k * samples[0] : (k + 1) * samples[0]]]
            out[k] = block_mean(torch.stack(layers).mean(0), samples[1:]).to(dtype)
        return out

    def line_integrals(
        self,
        geometry: ScanGeometry,
        poses: Tensor | None = None,
        *,
        subrays: int | tuple[int, int] = 1,
        averaging: str = "log",
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """Project a raster of the patient, as high as the rays need; see `Phantom.line_integrals` for the arguments.

        Raises:
            ConfigError: sub-rays that are not whole numbers of 1 or more, or an unknown averaging.
            ResourceError: a raster beyond the available memory.
        """
        raster = self.voxels(*_seen(geometry, poses))
        return raster.line_integrals(geometry, poses, subrays=subrays, averaging=averaging, dtype=dtype)

    def voxels(self, low: float, high: float) -> VolumeObject:
        """Return the raster between two heights in mm, one slice if they are equal."""
        low, high = max(low, _DEEP[0]), min(max(high, low), _DEEP[1])
        tall = 2 * self.spacing
        slices = 1 if high - low < 1e-6 else max(1, int(np.ceil((high - low) / tall))) + 2
        rows, columns = (int(np.ceil(2 * side / self.spacing)) for side in _HALF)
        checks.fits_memory("patient", 8 * slices * rows * columns, advice="raise spacing, or scan fewer rows")
        grid = VolumeGrid(
            shape=(slices, rows, columns),
            spacing=(tall, self.spacing, self.spacing),
            centre=((low + high) / 2, 0.0, 0.0),
        )
        return VolumeObject(
            values=self.rasterised(grid, oversampling=1),
            grid=grid,
            name=self.name,
            water=self.water,
            energy=self.energy,
        )

    def _plane(self, z: float, y: Tensor, x: Tensor) -> Tensor:
        return hu_to_attenuation(self.hounsfield(z, y, x), self.energy).clamp_min(0)

    @cached_property
    def _noise(self) -> Noise:
        return Noise(self.seed)

    @cached_property
    def _organs(self) -> list[Organ]:
        """Everything, in the order in which it is painted."""
        draw = Draw(self.seed)
        if self.kind in ("head", "jaw"):
            skull = vault(draw)
            return [*jaw(draw), *head(draw, self._noise, skull)]
        body = build(draw)
        soft = [*outer(draw, body), *around_spine(draw, body), *chest(draw, body), *belly(draw, body)]
        return [*soft, *skeleton(draw, body)]


def anatomy(*, seed: int, kind: str = "thorax", energy: float = ENERGY, spacing: float = 0.6) -> Anatomy:
    """Make a random patient; see `Anatomy`.

    Args:
        seed: what the patient is drawn from.
        kind: "thorax", "abdomen", "head" or "jaw".
        energy: of the beam in keV.
        spacing: of the raster that is scanned in mm.
    """
    return Anatomy(seed=seed, kind=kind, energy=energy, spacing=spacing)


def _seen(geometry: ScanGeometry, poses: Tensor | None) -> tuple[float, float]:
    """Return the lowest and highest z in mm at which a ray can meet the patient."""
    rows, columns = geometry.detector.shape
    moved = None if poses is None else check_poses(poses, len(geometry)).detach().cpu()
    source, centre, v, u = placed_rays(geometry, moved).unbind(1)
    heights = []
    for row in (-rows / 2, rows / 2) if rows > 1 else (0.0,):
        for column in (-columns / 2, columns / 2):
            pixel = centre + row * v + column * u
            start, way = (pixel, source) if geometry.parallel else (source, pixel - source)
            flat = way[:, 1:].norm(dim=1).clamp_min(1e-6)
            nearest = -(start[:, 1:] * way[:, 1:]).sum(1) / flat.square()
            reach = float(np.hypot(*_HALF)) / flat
            heights += [start[:, 0] + (nearest + side * reach) * way[:, 0] for side in (-1, 1)]
    every = torch.cat(heights)
    return float(every.min()), float(every.max())
