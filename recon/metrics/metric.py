"""A metric is a number with a unit and a direction; a protocol says on what it is computed."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from recon import checks
from recon.errors import ConfigError, ShapeError


@dataclass(frozen=True, kw_only=True, eq=False)
class Protocol:
    """Fix all that a number depends on besides the images; print it beside the number.

    Args:
        data_range: difference between the largest and the least value that count, in the images' unit; it is never
            guessed from the images. None for the width of the window.
        window: (low, high) to which both images are clipped first, or None.
        mask: True where voxels count, the image's shape, or None for all.
        dimensions: 2 to treat the last two axes as images and average over the others, 3 for volumes.
        unit: unit of the images, such as "HU" or "1/mm".

    Raises:
        ConfigError: a range or window that is empty or missing.
    """

    data_range: float | None = None
    window: tuple[float, float] | None = None
    mask: Tensor | None = None
    dimensions: Literal[2, 3] = 2
    unit: str = "HU"

    def __post_init__(self) -> None:
        if self.window is not None and not self.window[0] < self.window[1]:
            raise ConfigError(f"window: expected (low, high) with low below high, got {self.window}")
        if self.data_range is None and self.window is None:
            raise ConfigError("data_range: expected a number, or a window to take it from, got neither")
        if self.dimensions not in (2, 3):
            raise ConfigError(f"dimensions: expected 2 or 3, got {self.dimensions!r}")
        if self.data_range is not None:
            data_range(self.data_range)

    @property
    def range(self) -> float:
        """The data range, stated or from the window."""
        if self.data_range is not None:
            return float(self.data_range)
        assert self.window is not None  # checked when made
        return float(self.window[1] - self.window[0])

    def windowed(self, image: Tensor) -> Tensor:
        """Return the image clipped to the window."""
        return image if self.window is None else image.clamp(*self.window)

    def __str__(self) -> str:
        window = "no window" if self.window is None else f"window [{self.window[0]:g}, {self.window[1]:g}] {self.unit}"
        mask = "" if self.mask is None else f", {int(self.mask.sum())} voxels of a mask"
        return f"{window}, data range {self.range:g} {self.unit}, {self.dimensions}-D{mask}"


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A number that judges an image against a reference.

    Args:
        name: the word by which comparisons ask for it.
        unit: its unit; "image" for that of the images.
        better: whether lower or higher is better.
        function: computes it from the windowed image, the windowed reference and the protocol.
        source: where it is defined.
    """

    name: str
    unit: str
    better: Literal["lower", "higher"]
    function: Callable[[Tensor, Tensor, Protocol], float]
    source: str = ""

    def __call__(self, x: Tensor, reference: Tensor, protocol: Protocol) -> float:
        """Return the number for an image and its reference."""
        return self.function(protocol.windowed(x), protocol.windowed(reference), protocol)

    def unit_under(self, protocol: Protocol) -> str:
        """Return the unit to print."""
        return protocol.unit if self.unit == "image" else self.unit


def pair(x: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """Return two images of equal shapes and finite values in float64, in which all metrics are computed.

    Raises:
        ShapeError: other types, or shapes that differ, or nothing in them.
        NumericalError: NaN or Inf.
    """
    for name, image in (("x", x), ("reference", reference)):
        checks.all_finite(name, checks.floating(name, image))
    if x.shape != reference.shape or x.numel() == 0:
        raise ShapeError(
            f"x, reference: expected equal shapes with something in them, got {tuple(x.shape)} and "
            f"{tuple(reference.shape)}; crop or resample one of them"
        )
    return x.detach().double(), reference.detach().to(x.device).double()


def masked(values: Tensor, mask: Tensor | None) -> Tensor:
    """Return the values where the mask is True, or all of them.

    Raises:
        ShapeError: a mask that is not boolean, does not fit, or is False everywhere.
    """
    if mask is None:
        return values.flatten()
    if mask.dtype != torch.bool or tuple(mask.shape) != tuple(values.shape[values.ndim - mask.ndim :]):
        raise ShapeError(f"mask: expected booleans {tuple(values.shape)}, got {mask.dtype} {tuple(mask.shape)}")
    if not bool(mask.any()):
        raise ShapeError("mask: expected at least one True, got none")
    return values[mask.to(values.device).expand_as(values)]


def data_range(value: float) -> float:
    """Return a data range above zero.

    Raises:
        ConfigError: it is not a finite number above zero.
    """
    if not checks.finite("data_range", value) > 0:
        raise ConfigError(f"data_range: expected a number above 0 in the images' unit, got {value}")
    return float(value)
