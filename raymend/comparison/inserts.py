"""Where discs are added to an object, and what images show around them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, minimum_filter, uniform_filter
from torch import Tensor

from phantoms import Cylinder, Phantom
from recon import VolumeGrid
from recon.random import generator

#: A pixel (row, column) of the middle slice.
Site = tuple[int, int]

_BODY: Final = -500.0  # HU; what lies above is tissue, not lung or air
_LEAST: Final = 0.01  # share of the mask that it must fill to be asked for
_SMOOTH: Final = 1.0  # pixels; references may be noisy
_EQUAL: Final = 1.0  # HU; sites whose variation differs by less are taken in random order
_OFF: Final = (0.31, 0.17)  # pixels from the middle of one, so that an edge crosses pixels at many distances


@dataclass(frozen=True, kw_only=True)
class Discs:
    """Equal discs in the middle slice, each in a square of its own.

    Args:
        sites: the middle pixel of each square.
        reach: pixels from there to the square's rim.
        radius: in pixels, of the longer side of a pixel.
        grid: of the images.
    """

    sites: tuple[Site, ...]
    reach: int
    radius: float
    grid: VolumeGrid

    @property
    def spacing(self) -> tuple[float, float]:
        """Size of a pixel (y, x) in mm."""
        return self.grid.spacing[1], self.grid.spacing[2]

    @property
    def millimetres(self) -> float:
        """The radius in mm."""
        return self.radius * max(self.spacing)

    @property
    def centre(self) -> tuple[float, float]:
        """Place (y, x) of a disc in mm from the middle of its square."""
        return _OFF[0] * self.spacing[0], _OFF[1] * self.spacing[1]

    def phantom(self, contrast: float, water: float) -> Phantom:
        """Return what is added to the object: cylinders without end.

        Args:
            contrast: in HU.
            water: attenuation of water in 1/mm.
        """
        _, rows, columns = self.grid.axes()
        away = self.centre
        places = [(0.0, float(rows[row]) + away[0], float(columns[column]) + away[1]) for row, column in self.sites]
        size, density = (self.millimetres,) * 2, contrast / 1000 * water
        shapes = tuple(Cylinder(density=density, centre=place, semi=size, length=np.inf) for place in places)
        return Phantom(shapes=shapes, rule="additive", name="inserts", water=water)

    def squares(self, image: Tensor) -> Tensor:
        """Return the squares (..., site, y, x) of images (..., z, y, x), in double precision."""
        return squares(image, self.sites, self.reach)

    def within(self, low: float, high: float) -> Tensor:
        """Tell which pixels of a square (y, x) are as far from the disc's centre, in radii."""
        at = torch.arange(-self.reach, self.reach + 1, dtype=torch.float64)
        y, x = (at * step - away for step, away in zip(self.spacing, self.centre, strict=True))
        share = torch.hypot(y[:, None], x[None, :]) / self.millimetres
        return (share >= low) & (share <= high)


def squares(image: Tensor, sites: Sequence[Site], reach: int) -> Tensor:
    """Return squares around pixels of the middle slice (..., site, y, x), in double precision."""
    plane = image[..., image.shape[-3] // 2, :, :].double()
    size = 2 * reach + 1
    return torch.stack([plane[..., y - reach :, x - reach :][..., :size, :size] for y, x in sites], dim=-3)


def flat_sites(reference: Tensor, mask: Tensor, *, reach: int, count: int, seed: int) -> tuple[Site, ...]:
    """Return pixels of the middle slice whose squares vary least, lie in tissue and the mask, and do not overlap.

    Args:
        reference: HU (z, y, x).
        mask: True where voxels count (z, y, x).
        reach: pixels from the middle of a square to its rim.
        count: how many are wanted; there may be fewer.
        seed: for the order of squares that vary alike.

    Returns:
        The flattest first.
    """
    plane = gaussian_filter(reference[reference.shape[0] // 2].double().numpy(), _SMOOTH, mode="nearest")
    cost = _variation(plane, 2 * reach + 1)
    cost += _EQUAL * torch.rand(cost.shape, generator=generator(seed), dtype=torch.float64).numpy()
    cost[~_holding(in_tissue(plane, mask[mask.shape[0] // 2].numpy()), reach)] = np.inf
    found: list[Site] = []
    while len(found) < count:
        row, column = divmod(int(cost.argmin()), cost.shape[1])
        if not np.isfinite(cost[row, column]):
            break
        found.append((row, column))
        cost[max(0, row - 2 * reach) : row + 2 * reach + 1, max(0, column - 2 * reach) : column + 2 * reach + 1] = (
            np.inf
        )
    return tuple(found)


def _variation(plane: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Return the standard deviation in squares around all pixels."""
    level = plane - plane.mean()  # so that squares of large numbers do not cancel
    spread = uniform_filter(level**2, size) - uniform_filter(level, size) ** 2
    found: NDArray[np.float64] = np.sqrt(np.maximum(spread, 0))
    return found


def in_tissue(plane: NDArray[np.float64], mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return where the object is, in the mask: tissue, or the denser half of what is no patient."""
    found: NDArray[np.bool_] = mask & (plane > _BODY)
    if mask.any() and found.sum() < _LEAST * mask.sum():
        found = mask & (plane > (plane[mask].min() + plane[mask].max()) / 2)
    return found


def _holding(allowed: NDArray[np.bool_], reach: int) -> NDArray[np.bool_]:
    """Return the middles of squares that lie in what is allowed, and in the image."""
    found: NDArray[np.bool_] = minimum_filter(allowed, 2 * reach + 1, mode="constant", cval=False)
    return found
