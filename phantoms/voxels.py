"""Objects made of voxels: any CT volume, scanned through a projector."""

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from scipy.ndimage import map_coordinates
from torch import Tensor

from phantoms.materials import ENERGY, attenuation, hu_to_attenuation
from phantoms.phantom import AVERAGES, fine_beam, subrays_of
from recon import checks
from recon.errors import ConfigError, CTWarning, ShapeError
from recon.geometry import ScanGeometry
from recon.grid import VolumeGrid
from recon.io import Volume
from recon.operators import Projector
from recon.units import WATER

_AT_ONCE = 1 << 22  # rays whose line integrals are held at a time


class Scannable(Protocol):
    """What `simulate` can scan: a phantom, a patient, a volume."""

    @property
    def name(self) -> str:
        """What it is called, for provenance."""

    @property
    def water(self) -> float:
        """Attenuation of water in 1/mm at the energy of the object's."""

    def line_integrals(
        self,
        geometry: ScanGeometry,
        poses: Tensor | None = None,
        *,
        subrays: int | tuple[int, int] = 1,
        averaging: str = "log",
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """Integrate the attenuation along every ray."""


@dataclass(frozen=True, kw_only=True, eq=False)
class VolumeObject:
    """Voxels as an object to scan.

    Its line integrals are those of a projector, not exact: the object is what the projector interpolates between the
    voxels. So keep the object's grid apart from the one that is reconstructed on, best finer and shifted by a fraction
    of a voxel: a reconstruction on the same voxels is tested on its own discretisation, and looks better than it is.

    Args:
        values: attenuation in 1/mm (z, y, x), 0 or more.
        grid: where the voxels are, relative to the scanner; the rotation axis is at (·, 0, 0).
        name: what the object is called, for provenance.
        water: attenuation of water in 1/mm at the same energy, for HU.
        energy: of the beam in keV that the values were made for, or None where it is unknown.

    Raises:
        ShapeError: values that do not fit the grid.
        NumericalError: NaN or Inf.
    """

    values: Tensor
    grid: VolumeGrid
    name: str = "volume"
    water: float = WATER
    energy: float | None = None

    def __post_init__(self) -> None:
        checks.shaped("values", checks.floating("values", self.values), self.grid.shape, "z, y, x")
        if self.values.ndim != 3:
            raise ShapeError(f"values: expected (z, y, x) = {self.grid.shape}, got {tuple(self.values.shape)}")
        checks.all_finite("values", self.values)
        object.__setattr__(self, "water", checks.positive("water", self.water, unit="1/mm"))

    def __repr__(self) -> str:
        """Print the name and the grid; voxels are not read."""
        return f"<VolumeObject {self.name}: {self.grid!r}>"

    @classmethod
    def of(
        cls,
        volume: Volume,
        *,
        energy: float = ENERGY,
        measured_at: float = ENERGY,
        unit: str | None = None,
        centred: bool = True,
        name: str = "volume",
    ) -> "VolumeObject":
        """Make an object of a CT volume, such as `recon.read_volume` reads.

        Args:
            volume: in HU or 1/mm.
            energy: of the beam that will scan it in keV; HU become attenuation there.
            measured_at: effective energy in keV of the scan it came from.
            unit: "HU" or "1/mm" for files that do not state it; None takes the volume's.
            centred: put the middle of the volume on the rotation axis, at z = 0; False keeps the file's positions.
            name: what the object is called.

        Raises:
            ConfigError: a unit that is neither stated nor given.

        Values that no material has, below -1000 HU or 0/mm, as padding and noise in air are, become those of nothing,
        with a warning.
        """
        kind = checks.choice("unit", volume.unit if unit is None else unit, ("HU", "1/mm", "unknown"))
        if kind == "unknown":
            raise ConfigError('unit: expected "HU" or "1/mm", got a volume that states none; pass unit="HU"')
        mu = hu_to_attenuation(volume.values, energy, measured_at=measured_at) if kind == "HU" else volume.values
        below = int((mu < 0).sum())
        if below:
            least = f"{float(volume.values.min()):g} {kind}"
            warnings.warn(
                f"volume: {below} of {mu.numel()} values lie below those of nothing, down to {least}; they became 0/mm",
                CTWarning,
                stacklevel=2,
            )
        middle = (0.0, 0.0, 0.0)
        grid = volume.grid.region(volume.grid.shape, middle) if centred else volume.grid
        used = energy if kind == "HU" else None
        return cls(values=mu.clamp_min(0), grid=grid, name=name, water=attenuation("water", energy), energy=used)

    @classmethod
    def labelled(
        cls,
        volume: Volume,
        tissues: Mapping[int, str | tuple[str, float]],
        *,
        energy: float = ENERGY,
        centred: bool = True,
        name: str = "labels",
    ) -> "VolumeObject":
        """Make an object of a volume of labels, such as NCAT slices are.

        Args:
            volume: one label per voxel; pass `grid` to `read_volume` where the file states no voxel size.
            tissues: what a label stands for: a material of `phantoms.MATERIALS`, or one with a density in g/cm³.
            energy: of the beam in keV.
            centred: put the middle of the volume on the rotation axis, at z = 0.
            name: what the object is called.

        Raises:
            ConfigError: labels without a tissue, or an unknown material.
        """
        left = sorted(set(volume.values.unique().tolist()) - set(tissues))
        if left:
            raise ConfigError(f"tissues: expected one for every label, got none for {left}; name a material for each")
        mu = torch.zeros_like(volume.values)
        for label, tissue in tissues.items():
            material, density = (tissue, None) if isinstance(tissue, str) else tissue
            mu[volume.values == label] = attenuation(material, energy, density=density)
        grid = volume.grid.region(volume.grid.shape, (0.0, 0.0, 0.0)) if centred else volume.grid
        return cls(values=mu, grid=grid, name=name, water=attenuation("water", energy), energy=energy)

    def line_integrals(
        self,
        geometry: ScanGeometry,
        poses: Tensor | None = None,
        *,
        subrays: int | tuple[int, int] = 1,
        averaging: str = "log",
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """Project the voxels; see `Phantom.line_integrals` for the arguments.

        Raises:
            ConfigError: sub-rays that are not whole numbers of 1 or more, or an unknown averaging.
            GeometryError: a volume that reaches the source.
        """
        checks.choice("averaging", averaging, AVERAGES)
        counts = subrays_of(geometry, subrays)
        projector = Projector(grid=self.grid, geometry=fine_beam(geometry, counts), poses=poses)
        out = torch.empty(geometry.shape, dtype=torch.float64)
        step = max(1, _AT_ONCE // math.prod(projector.range_shape[1:]))
        for first in range(0, len(geometry), step):
            views = slice(first, min(first + step, len(geometry)))
            out[views] = _averaged((projector[views] @ self.values).double(), counts, averaging)
        return out.to(dtype)

    def rasterised(
        self, grid: VolumeGrid, *, oversampling: int | tuple[int, int, int] = 3, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """Draw the object on a grid: each voxel is the mean of evenly spaced points in it, linear between voxels.

        Args:
            grid: the voxels; the object's own are warned about, see the class.
            oversampling: points per voxel (z, y, x); one number n means n³, but n² on a grid of one slice.
            dtype: of the result.

        Returns:
            Attenuation in 1/mm (z, y, x), 0 outside the object.
        """
        if grid == self.grid:
            warnings.warn(
                f"grid: {grid!r} is the object's own; a reconstruction on it is tested on its own discretisation. "
                "Choose another spacing or centre",
                CTWarning,
                stacklevel=2,
            )
        samples = samples_of(grid, oversampling)
        fine = VolumeGrid(
            shape=tuple(n * k for n, k in zip(grid.shape, samples, strict=True)),  # type: ignore[arg-type]
            spacing=tuple(d / k for d, k in zip(grid.spacing, samples, strict=True)),  # type: ignore[arg-type]
            centre=grid.centre,
        )
        z, y, x = (axis.numpy() for axis in fine.axes())
        out = torch.empty(grid.shape, dtype=dtype)
        for k in range(grid.shape[0]):
            layers = [self._plane(height, y, x) for height in z[k * samples[0] : (k + 1) * samples[0]]]
            mean = torch.from_numpy(np.mean(layers, axis=0))
            out[k] = block_mean(mean, samples[1:]).to(dtype)
        return out

    def _plane(self, z: float, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Sample a plane; the outer half of the outer voxels has their value, and nothing is outside."""
        planes = np.meshgrid([z], y, x, indexing="ij")
        index = self.grid.to_index(torch.from_numpy(np.stack(planes, -1)[0])).numpy()
        size = np.array(self.grid.shape)
        outside = ((index < -0.5) | (index > size - 0.5)).any(-1)
        places = np.moveaxis(np.clip(index, 0, size - 1), -1, 0)
        found = map_coordinates(self.values.numpy(), places, output=np.float64, order=1)
        return np.where(outside, 0.0, found)


def samples_of(grid: VolumeGrid, oversampling: int | tuple[int, int, int]) -> tuple[int, int, int]:
    """Return points per voxel (z, y, x); one number stands for all, but not for z on a grid of one slice."""
    if isinstance(oversampling, int):
        oversampling = (1 if grid.shape[0] == 1 else oversampling, oversampling, oversampling)
    z, y, x = checks.counts("oversampling", oversampling, 3)
    return z, y, x


def block_mean(plane: Tensor, samples: tuple[int, int]) -> Tensor:
    """Average a plane over blocks of samples (y, x)."""
    rows, columns = (n // k for n, k in zip(plane.shape, samples, strict=True))
    return plane.reshape(rows, samples[0], columns, samples[1]).mean((1, 3))


def _averaged(values: Tensor, subrays: tuple[int, int], averaging: str) -> Tensor:
    """Average the sub-rays of each pixel: (view, row·v, column·u) to (view, row, column)."""
    (v, u), (views, rows, columns) = subrays, values.shape
    split = values.view(views, rows // v, v, columns // u, u)
    if averaging == "log":
        return split.mean((2, 4))
    return math.log(v * u) - torch.logsumexp(-split, (2, 4))
