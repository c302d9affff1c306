"""What a denoiser is: one call from a noisy image to a quieter one, slice by slice."""

from abc import ABC, abstractmethod
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recon import checks
from recon.errors import ConfigError, NumericalError, ShapeError
from restoration.denoisers.noise_level import noise_level

Plane = NDArray[np.float32]


class Denoiser(Protocol):
    """Anything that turns a noisy image in HU into a quieter one."""

    @property
    def name(self) -> str:
        """As on the command line."""

    @property
    def label(self) -> str:
        """As in tables and figures."""

    @property
    def source(self) -> str:
        """Author, year and where it was published."""

    def missing(self) -> str:
        """Say why it cannot run here, or nothing."""

    def __call__(self, image: Tensor, *, noise: float | None = None, strength: float = 1.0) -> Tensor:
        """Return the image with less noise; see `Slicewise`."""


class Slicewise(ABC):
    """A denoiser that treats one slice after the other, each by itself.

    Args:
        name: as on the command line.
        label: as in tables and figures.
        source: author, year and where it was published.
    """

    name: str
    label: str
    source: str

    def missing(self) -> str:
        """Say why it cannot run here, or nothing."""
        return ""

    def __call__(self, image: Tensor, *, noise: float | None = None, strength: float = 1.0) -> Tensor:
        """Return the image with less noise.

        Args:
            image: HU, (z, y, x) or (y, x).
            noise: standard deviation of its noise in HU, or None to estimate that of each slice by `noise_level`.
            strength: factor on the noise that is assumed; above 1 is smoother, 0 leaves the image as it is.

        Returns:
            HU, shaped and typed like the image.

        Raises:
            ConfigError: it cannot run here (see `missing`), or a noise or strength below 0.
            ShapeError: an image that is not of floating point, has other axes or no pixels; a result of another shape.
            NumericalError: NaN or Inf in the image or in the result.
        """
        slices = _slices(image)
        level, factor = _at_least_zero("noise", noise, " in HU"), _at_least_zero("strength", strength, "")
        if reason := self.missing():
            raise ConfigError(f"{self.name}: {reason}")
        if not factor:
            return image.detach().clone()
        planes = [self._checked(self._plane(part.numpy(), level, factor), part) for part in slices]
        return torch.stack(planes).reshape(image.shape).to(image)

    def _plane(self, plane: Plane, noise: float | None, strength: float) -> Any:
        """Denoise a slice (y, x) whose noise may not be known."""
        level = strength * (noise_level(torch.from_numpy(plane)) if noise is None else noise)
        return self._denoised(plane, level) if level > 0 else plane

    @abstractmethod
    def _denoised(self, plane: Plane, noise: float) -> Any:
        """Return a slice (y, x) in HU without its noise, whose standard deviation is above 0."""

    def _checked(self, found: Any, plane: Tensor) -> Tensor:
        """Return a result as float32 if it is a finite slice of the same shape."""
        result = found.detach().cpu() if isinstance(found, Tensor) else self._tensor(found)
        if result.shape != plane.shape or result.is_complex():
            kind = " of complex numbers" if result.is_complex() else ""
            raise ShapeError(
                f"{self.name}: expected a result of (y, x) = {tuple(plane.shape)}, got {tuple(result.shape)}{kind}"
            )
        bad = int((~torch.isfinite(result)).sum())
        if bad:
            raise NumericalError(f"{self.name}: expected a finite result, got {bad} of {result.numel()} NaN or Inf")
        return result.float()

    def _tensor(self, found: Any) -> Tensor:
        array = np.asarray(found)
        if array.dtype.kind not in "biufc":
            raise ConfigError(f"{self.name}: expected a result of numbers, got {type(found).__name__}")
        return torch.from_numpy(np.ascontiguousarray(array))


def _slices(image: Tensor) -> Tensor:
    """Return the slices of an image (slice, y, x) as float32 on the CPU, apart from the image."""
    checks.all_finite("image", checks.floating("image", image))
    if image.ndim not in (2, 3) or not image.numel():
        raise ShapeError(f"image: expected (z, y, x) or (y, x) with pixels, got {tuple(image.shape)}")
    copy = image.detach().to("cpu", torch.float32, copy=True)
    return copy.reshape(-1, *image.shape[-2:]).contiguous()


def _at_least_zero(name: str, value: float | None, unit: str) -> float | None:
    if value is not None and checks.finite(name, value) < 0:
        raise ConfigError(f"{name}: expected 0 or more{unit}, got {value}")
    return value
