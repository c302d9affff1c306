"""The numbers of the demonstration, each with the conditions it was measured under."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import avg_pool2d

from recon import VolumeGrid
from recon.metrics import Protocol, psnr, rmse, ssim

if TYPE_CHECKING:
    from torch import Tensor

SOFT_TISSUE, LUNG = (-160.0, 240.0), (-1350.0, 150.0)  # HU, as radiologists set them
RANGE = 2000.0  # HU; the peak of the PSNR
_BODY = -900.0  # HU; what lies above is the body, lungs included
_SOLID = 0.5  # share of the attenuation of dense material above which noise is measured
_STEEPEST = 0.005  # share of the pixels that count as edges


@dataclass(frozen=True, kw_only=True)
class Region:
    """A square of pixels in one slice, and where it lies in mm."""

    z: int
    y: slice
    x: slice
    centre: tuple[float, float, float]
    side: float

    def __str__(self) -> str:
        z, y, x = self.centre
        return f"{self.side:.0f} mm square at (z, y, x) = ({z:.0f}, {y:.0f}, {x:.0f}) mm"


def scores(image: "Tensor", truth: "Tensor") -> dict[str, float]:
    """Return RMSE and PSNR in the body and SSIM in the soft-tissue window."""
    mask = body(truth)
    window = Protocol(reference="phantom", window=SOFT_TISSUE)
    return {
        "rmse": rmse(image, truth, mask=mask),
        "psnr": psnr(image, truth, data_range=RANGE, mask=mask),
        "ssim": ssim(window.windowed(image), window.windowed(truth), data_range=window.range, mask=mask),
    }


def body(truth: "Tensor") -> "Tensor":
    """Return where the body is, lungs included."""
    return truth > _BODY


def conditions() -> tuple[str, ...]:
    """Say what the numbers were measured on."""
    return (
        f"RMSE: in the body (truth above {_BODY:g} HU, lungs included), no window",
        f"PSNR: in the body, data range {RANGE:g} HU",
        f"SSIM: in the body, window {SOFT_TISSUE[0]:g} to {SOFT_TISSUE[1]:g} HU, data range "
        f"{SOFT_TISSUE[1] - SOFT_TISSUE[0]:g} HU, Gaussian window of 11 pixels, sigma 1.5",
    )


def noise(image: "Tensor", region: Region) -> float:
    """Return the standard deviation in a region, in HU."""
    return float(image[region.z, region.y, region.x].double().std())


def quiet_region(image: "Tensor", grid: VolumeGrid) -> Region:
    """Find the flattest square of the middle slice that is filled with tissue or other material, not air."""
    z = image.shape[0] // 2
    size = max(3, min(image.shape[1:]) // 14)
    plane = image[z : z + 1].double()
    mean = avg_pool2d(plane, size, stride=1)[0]
    spread = (avg_pool2d(plane**2, size, stride=1)[0] - mean**2).clamp_min(0)
    allowed = mean + 1000 > _SOLID * dense(plane + 1000)  # air is -1000 HU
    if bool(allowed.any()):
        spread = torch.where(allowed, spread, torch.inf)
    top, left = divmod(int(spread.argmin()), spread.shape[1])
    return _region(grid, z, top, left, size)


def dense(image: "Tensor") -> float:
    """Return the 95th percentile of attenuations: that of the denser material in view."""
    values = image.flatten()
    return float(torch.quantile(values[:: max(1, len(values) // 1_000_000)], 0.95))


def steepness(image: "Tensor", guide: "Tensor") -> float:
    """Return the mean slope across the edges of a guide, in HU per pixel; noise averages out over many edges."""
    z = image.shape[0] // 2
    gy, gx = _slopes(guide[z])
    size = torch.hypot(gy, gx)
    edges = size >= torch.quantile(size.flatten()[:: max(1, size.numel() // 1_000_000)], 1 - _STEEPEST)
    iy, ix = _slopes(image[z])
    return float(((iy * gy + ix * gx) / size.clamp_min(1e-12))[edges].mean())


def _slopes(plane: "Tensor") -> tuple["Tensor", "Tensor"]:
    y, x = torch.gradient(plane.double())
    return y, x


def _region(grid: VolumeGrid, z: int, top: int, left: int, size: int) -> Region:
    axes = grid.axes()
    rows, columns = slice(top, top + size), slice(left, left + size)
    middle = float(axes[0][z]), float(axes[1][rows].mean()), float(axes[2][columns].mean())
    return Region(z=z, y=rows, x=columns, centre=middle, side=size * grid.spacing[2])
