"""In-plane scans: which rays keep their height, where they cross an image, and how slices and detector rows relate.

What kernels tabulate of them (DERIVATIONS.md, section 4), in float64 and on the CPU. A row at height z sees the slices
below and above it with the weights of a hat, in every view and on every step of its rays. So this is done once, on the
smaller of volume and projections, and what remains are plane images.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recon.kernels.lines import Lines
from recon.kernels.reference import main_axis

_LEVEL = 1e-7  # voxels by which rays may leave their plane and still count as in-plane
WIDEST = 0.75  # rad off the axis up to which single precision inverts a curved detector

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Blend:
    """The slices that the rows see: `below` with weight `down`, `above` with weight `up`, and the transpose of that.

    A slice is seen by its rows `seen[:, slice]`, with the weights `share[:, slice]`: the transpose gathers, too.
    """

    slices: int
    below: Tensor
    above: Tensor
    down: Tensor
    up: Tensor
    seen: Tensor
    share: Tensor
    aligned: bool  # every row sees the slice of its own number alone

    @property
    def first(self) -> bool:
        """Tell whether rows are no more than slices, so that slices are better blended than projections."""
        return len(self.below) <= self.slices

    def blend(self, slices: Tensor) -> Tensor:
        """Turn a stack of slices (batch, slice, ...) into what the rows see (batch, row, ...)."""
        if self.aligned:
            return slices
        return slices[:, self.below] * self.down + slices[:, self.above] * self.up

    def unblend(self, rows: Tensor) -> Tensor:
        """Apply the transpose of `blend`."""
        if self.aligned:
            return rows
        out = rows.new_zeros(len(rows), self.slices, *rows.shape[2:])
        for row, share in zip(self.seen, self.share, strict=True):
            out += rows[:, row] * share
        return out


def blend(lines: Lines, device: torch.device | None = None) -> Blend:
    """Work out which slices the rows of an in-plane scan see."""
    slices = lines.grid_shape[0]
    heights = row_heights(lines).clamp(-1.0, slices)
    below = heights.floor().long()
    share = heights - below
    seen, shares = _seen(torch.cat([below, below + 1]), torch.cat([1 - share, share]), slices)
    aligned = len(heights) == slices and bool((heights - torch.arange(slices)).abs().max() <= 1e-9)

    def weights(at: Tensor, weight: Tensor) -> Tensor:
        inside = (at >= 0) & (at < slices)
        return torch.where(inside, weight, 0.0).float()[:, None, None].to(device)

    return Blend(
        slices=slices,
        below=below.clamp(0, slices - 1).to(device),
        above=(below + 1).clamp(0, slices - 1).to(device),
        down=weights(below, 1 - share),
        up=weights(below + 1, share),
        seen=seen.to(device),
        share=shares[:, :, None, None].to(device),
        aligned=aligned,
    )


def _seen(at: Tensor, weight: Tensor, slices: int) -> tuple[Tensor, Tensor]:
    """Return, per slice, the rows that see it and with which weight: two tensors (most of any slice, slice).

    `at` and `weight` hold the slices below all rows, then those above.
    """
    inside = ((at >= 0) & (at < slices) & (weight > 0)).nonzero()[:, 0]
    order = inside[torch.argsort(at[inside], stable=True)]
    counts = torch.bincount(at[order], minlength=slices)
    place = torch.arange(len(order)) - (counts.cumsum(0) - counts)[at[order]]
    rows, shares = torch.zeros(2, int(counts.max()), slices, dtype=torch.float64)
    rows[place, at[order]] = (order % (len(at) // 2)).double()
    shares[place, at[order]] = weight[order]
    return rows.long(), shares.float()


def in_plane(lines: Lines) -> bool:
    """Tell whether every ray keeps its height z, and rows keep theirs in all views."""
    reach = max(lines.grid_shape)
    if lines.parallel:
        rise = (lines.source[:, 0].abs() / lines.source[:, 1:].abs().amax(1)).max() * reach
    else:
        rise = (lines.source[:, 0] - lines.centre[:, 0]).abs().max() if lines.shape[1] == 1 else torch.tensor(math.inf)
    upright = lines.v[:, 1:].abs().max() if lines.shape[1] > 1 else torch.tensor(0.0)
    across = (lines.u[:, 0].abs() * lines.along.abs().max()).max() + lines.depth[:, 0].abs().max()
    heights = _heights(lines)
    drift = (heights - heights[:1]).abs().max()
    return all(float(x) < _LEVEL for x in (rise, upright * lines.rows, across, drift))


def row_heights(lines: Lines) -> Tensor:
    """Return the z of each detector row in voxels, which an in-plane scan has in all views."""
    return _heights(lines)[0]


def _heights(lines: Lines) -> Tensor:
    rows = torch.arange(lines.rows, dtype=torch.float64) - (lines.rows - 1) / 2
    rise = lines.v[:, :1] if lines.rows > 1 else torch.zeros_like(lines.v[:, :1])
    return lines.centre[:, :1] + rows * rise


def curvature(lines: Lines) -> tuple[float, float]:
    """Return columns per radian of a curved detector and its widest angle off the axis, or zeros for a flat one."""
    if not bool(lines.bend.any()):
        return 0.0, 0.0
    spacing = torch.tensor(lines.spacing, dtype=torch.float64)
    arc = float((lines.depth[0] * spacing).norm() / (lines.u[0] * spacing).norm())
    return arc, float(torch.atan2(lines.along / arc, 1 + lines.bend).abs().max())


def _rays(lines: Lines) -> tuple[Tensor, Tensor]:
    """Return a point on, and the direction of, every ray of the middle row: (view, column, 3)."""
    pixel = lines.centre[:, None] + lines.along[:, None] * lines.u[:, None] + lines.bend[:, None] * lines.depth[:, None]
    source = lines.source[:, None].expand_as(pixel)
    return (pixel, source) if lines.parallel else (source, pixel - source)


def crossings(lines: Lines) -> tuple[Array, Array, Array, Array]:
    """Return whether y is the main axis, position on the middle line, slope and mm per line of every ray, flat."""
    origin, direction = _rays(lines)
    level = direction * torch.tensor([0.0, 1.0, 1.0], dtype=torch.float64)
    y_main = (main_axis(level) == 1).numpy().reshape(-1)
    oy, ox, dy, dx = (part.numpy().reshape(-1) for part in (*origin.unbind(-1)[1:], *direction.unbind(-1)[1:]))
    hy, hx = (lines.grid_shape[1] - 1) / 2, (lines.grid_shape[2] - 1) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = np.where(y_main, dx / dy, dy / dx)
    position = np.where(y_main, ox + (hy - oy) * slope, oy + (hx - ox) * slope)
    _, sy, sx = lines.spacing
    length = np.where(y_main, np.hypot(sy, sx * slope), np.hypot(sx, sy * slope))
    return y_main, position, slope, length


def lines_within(at: Array, slope: Array, low: Any, high: Any, total: Array, sure: bool = False) -> tuple[Array, Array]:
    """Return the lines [begin, end) with low < at + slope · (line - middle) < high: all such, or, if sure, no other."""
    middle, more = (total - 1) / 2, -1e-3 if sure else 1e-3
    flat = abs(slope) < 1e-9
    inverse = 1 / np.where(flat, 1.0, slope)
    a, b = (low - more - at) * inverse + middle, (high + more - at) * inverse + middle
    level = (at > low - more) & (at < high + more)
    begin = np.where(flat, np.where(level, 0.0, total), np.ceil(np.minimum(a, b)))
    end = np.where(flat, np.where(level, total, 0.0), np.floor(np.maximum(a, b)) + 1)
    return np.clip(begin, 0, total), np.clip(end, 0, total)


def column_maps(lines: Lines) -> Array:
    """Return, per view, numerator and denominator of a pixel's column over (1, y, x) (DERIVATIONS.md, eq. 12)."""
    middle = torch.tensor([(lines.grid_shape[1] - 1) / 2, (lines.grid_shape[2] - 1) / 2], dtype=torch.float64)
    source, centre, u = lines.source[:, 1:], lines.centre[:, 1:] - middle, lines.u[:, 1:]
    if lines.parallel:
        top, start = torch.stack([source[:, 1], -source[:, 0]], 1), centre
        bottom, base = torch.zeros_like(u), (u * torch.stack([source[:, 1], -source[:, 0]], 1)).sum(1)
    else:
        start = source - middle
        central = centre - start
        top = torch.stack([-central[:, 1], central[:, 0]], 1)
        bottom = torch.stack([u[:, 1], -u[:, 0]], 1)
        base = -(bottom * start).sum(1)
    above = torch.cat([-(top * start).sum(1, keepdim=True), top], 1)
    below = torch.cat([base[:, None], bottom], 1)
    sign = torch.sign(below[:, :1])
    scale = below[:, :1].abs().clamp_min(1e-300)
    return torch.stack([above * sign / scale, below * sign / scale], 1).numpy()


def facing(maps: Array, ny: int, nx: int, around: int) -> bool:
    """Tell whether every pixel of the image and some around it lie well on the detector's side of the source."""
    return bool((maps[:, 1] @ _corners(ny + 2 * around + 2, nx + 2 * around + 2) > 1e-3).all())


def rays_per_pixel(maps: Array, ny: int, nx: int) -> Array:
    """Return the most rays per pixel along any line of either direction, in each view.

    Along a line, the rise of num / den is a constant over den squared, so it is steepest at one of its ends.
    """
    most = np.zeros(len(maps))
    for along, across, lines, pixels in ((2, 1, ny, nx), (1, 2, nx, ny)):
        line = np.arange(-1, lines + 1) - (lines - 1) / 2
        top, bottom = (maps[:, part, :1] + maps[:, part, across, None] * line for part in (0, 1))
        rise = abs(maps[:, 0, along, None] * bottom - maps[:, 1, along, None] * top)
        least = bottom - abs(maps[:, 1, along, None]) * (pixels + 1) / 2
        most = np.maximum(most, (rise / least**2).max(1))
    return most


def _corners(ny: int, nx: int) -> Array:
    y, x = (ny - 1) / 2, (nx - 1) / 2
    return np.array([[1, a, b] for a in (-y, y) for b in (-x, x)]).T
