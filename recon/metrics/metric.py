"""A metric is a number with a unit and a direction; a protocol says on what it is computed."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, get_args

import torch
from torch import Tensor

from recon import checks
from recon.errors import ConfigError, ShapeError
from recon.metrics.score import Conditions, Score

#: What an image is compared with: the object itself, or a reconstruction of it without noise or at the full dose.
Reference = Literal["phantom", "noise-free reconstruction", "full-dose reconstruction"]

#: Windows in HU by name: centre -600 and width 1500, 50 and 400, 40 and 80.
WINDOWS: Final = {"chest": (-1350.0, 150.0), "abdomen": (-150.0, 250.0), "neuro": (0.0, 80.0)}

#: The limits of a window, or the name of one in HU.
Window = tuple[float, float] | str


@dataclass(frozen=True, kw_only=True, eq=False)
class Protocol:
    """Fix all that a number depends on besides the images; print it beside the number.

    Args:
        reference: what the images are compared with, "phantom", "noise-free reconstruction" or "full-dose
            reconstruction"; the same image scores differently against each.
        window: (low, high) to which both images are clipped first, or "chest", "abdomen" or "neuro"; None for no
            clipping.
        data_range: difference between the largest and the least value that count, in the images' unit; it is never
            guessed from the images. None for the width of the window.
        mask: True where voxels count, the image's shape, or None for all.
        region: what the mask covers, such as "body".
        dimensions: 2 to treat the last two axes as images and average over the others, 3 for volumes.
        unit: unit of the images, such as "HU" or "1/mm".

    Raises:
        ConfigError: a reference, range or window that is missing, unknown or empty.
        ShapeError: a mask that is not boolean or False everywhere.
    """

    reference: Reference | None = None
    window: Window | None = None
    data_range: float | None = None
    mask: Tensor | None = None
    region: str = ""
    dimensions: Literal[2, 3] = 2
    unit: str = "HU"

    def __post_init__(self) -> None:
        if self.reference not in get_args(Reference):
            raise ConfigError(
                f"reference: expected what images are compared with, one of {', '.join(get_args(Reference))}, got "
                f"{self.reference!r}"
            )
        if isinstance(self.window, str) and self.unit != "HU":
            raise ConfigError(f"window: expected (low, high) in {self.unit}, got {self.window!r}, which is in HU")
        if self.data_range is None and self.window is None:
            raise ConfigError("data_range: expected a number, or a window to take it from, got neither")
        if self.dimensions not in (2, 3):
            raise ConfigError(f"dimensions: expected 2 or 3, got {self.dimensions!r}")
        if self.mask is not None:
            _booleans(self.mask)
        elif self.region:
            raise ConfigError(f"region: expected a mask for {self.region!r}, got none")
        data_range(self.range)

    @property
    def limits(self) -> tuple[float, float] | None:
        """The low and high end of the window, if there is one."""
        return None if self.window is None else checked_window(self.window)

    @property
    def range(self) -> float:
        """The data range, stated or from the window."""
        if self.data_range is not None:
            return self.data_range
        low, high = checked_window(self.window)
        return high - low

    @property
    def conditions(self) -> Conditions:
        """All of it that can be printed and stored."""
        return Conditions(
            reference=str(self.reference),
            window=self.limits,
            data_range=float(self.range),
            region=self.region,
            voxels=None if self.mask is None else int(self.mask.sum()),
            dimensions=self.dimensions,
            unit=self.unit,
        )

    def windowed(self, image: Tensor) -> Tensor:
        """Return the image clipped to the window."""
        return image if self.limits is None else image.clamp(*self.limits)

    def __str__(self) -> str:
        return str(self.conditions)


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A number that judges an image against a reference.

    Args:
        name: the word by which comparisons ask for it.
        label: how it is printed.
        unit: its unit; "image" for that of the images.
        better: whether lower or higher is better.
        function: computes it from the windowed image, the windowed reference and the protocol.
        note: says what else it rests on under a protocol.
        least: fewest pixels along y and x.
        source: where it is defined.
    """

    name: str
    label: str
    unit: str
    better: Literal["lower", "higher"]
    function: Callable[[Tensor, Tensor, Protocol], float]
    note: Callable[[Protocol], str] = lambda protocol: ""
    least: int = 1
    source: str = ""

    def __call__(self, x: Tensor, reference: Tensor, protocol: Protocol) -> float:
        """Return the number for an image and its reference."""
        x, reference = pair(x, reference)  # before the window hides what is infinite
        return self.function(protocol.windowed(x), protocol.windowed(reference), protocol)

    def score(self, x: Tensor, reference: Tensor, protocol: Protocol) -> Score:
        """Return the number with all that it rests on."""
        return Score(
            metric=self.name,
            label=self.label,
            value=self(x, reference, protocol),
            unit=self.unit_under(protocol),
            better=self.better,
            note=self.note(protocol),
            conditions=protocol.conditions,
        )

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
    return values.flatten() if mask is None else values[checked_mask(mask, values)]


def checked_mask(mask: Tensor, values: Tensor) -> Tensor:
    """Return a mask of the shape and on the device of the values; one for the last axes stands for all others.

    Raises:
        ShapeError: a mask that is not boolean, does not fit, or is False everywhere.
    """
    if tuple(_booleans(mask).shape) != tuple(values.shape[values.ndim - mask.ndim :]):
        raise ShapeError(f"mask: expected booleans {tuple(values.shape)}, got {mask.dtype} {tuple(mask.shape)}")
    return mask.to(values.device).expand_as(values)


def data_range(value: float) -> float:
    """Return a data range above zero.

    Raises:
        ConfigError: it is not a finite number above zero.
    """
    if not checks.finite("data_range", value) > 0:
        raise ConfigError(f"data_range: expected a number above 0 in the images' unit, got {value}")
    return float(value)


def checked_window(window: object) -> tuple[float, float]:
    """Return the low and high end of a window given by its limits or by its name.

    Raises:
        ConfigError: it is missing, unknown, not finite or empty.
    """
    if isinstance(window, str):
        return WINDOWS[checks.choice("window", window, tuple(WINDOWS))]
    if not isinstance(window, tuple | list) or len(window) != 2:
        raise ConfigError(f"window: expected (low, high) or one of {', '.join(WINDOWS)}, got {window!r}")
    low, high = (checks.finite("window", end) for end in window)
    if not low < high:
        raise ConfigError(f"window: expected (low, high) with low below high, got {window}")
    return low, high


def _booleans(mask: Tensor) -> Tensor:
    """Return a boolean mask with at least one True."""
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        raise ShapeError(f"mask: expected a tensor of booleans, got {getattr(mask, 'dtype', type(mask).__name__)}")
    if not bool(mask.any()):
        raise ShapeError("mask: expected at least one True, got none")
    return mask
