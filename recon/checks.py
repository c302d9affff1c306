"""Checks at the boundary: each names the argument, what was expected, what came and what to do."""

import math
import os
from collections.abc import Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import TypeGuard

import numpy as np
import torch
from torch import Tensor
from torch._C import _functorch

from recon.errors import ConfigError, CTError, NumericalError, ResourceError, ShapeError

_MIN_LENGTH = 1e-9  # mm; below this a length is a unit mistake or a denormal, not a size
_SMALL = 1 << 26  # bytes that are not worth asking the system about
_FALLBACK = 4 << 30  # bytes taken as available where the system does not say


def finite(name: str, value: float, *, error: type[CTError] = ConfigError, unit: str = "") -> float:
    """Return a finite real number as float."""
    if not real(value) or not math.isfinite(value):
        raise error(f"{name}: expected a finite number{_in(unit)}, got {value!r}")
    return float(value)


def positive(name: str, value: float, *, error: type[CTError] = ConfigError, unit: str = "mm") -> float:
    """Return a finite number above zero as float."""
    number = finite(name, value, error=error, unit=unit)
    if number < _MIN_LENGTH:
        raise error(f"{name}: expected a finite number above 0{_in(unit)}, got {value!r}")
    return number


def counts(name: str, value: Sequence[int], length: int, *, error: type[CTError] = ConfigError) -> tuple[int, ...]:
    """Return `length` whole numbers of 1 or more."""
    items = tuple(value) if isinstance(value, Sequence | np.ndarray) else ()
    if len(items) != length or not all(whole(n) and n >= 1 for n in items):
        raise error(f"{name}: expected {length} whole numbers of 1 or more, got {value!r}")
    return tuple(int(n) for n in items)


def lengths(
    name: str, value: float | Sequence[float], length: int, *, error: type[CTError] = ConfigError
) -> tuple[float, ...]:
    """Return `length` steps in mm, all above zero; one number stands for all of them."""
    items = tuple(value) if isinstance(value, Sequence | np.ndarray) else (value,) * length
    if len(items) != length:
        raise error(f"{name}: expected one number or {length} numbers in mm, got {value!r}")
    return tuple(positive(name, item, error=error) for item in items)


def position(
    name: str, value: Sequence[float], length: int, *, error: type[CTError] = ConfigError
) -> tuple[float, ...]:
    """Return `length` finite coordinates in mm."""
    items = tuple(value) if isinstance(value, Sequence | np.ndarray) else ()
    if len(items) != length:
        raise error(f"{name}: expected {length} numbers in mm, got {value!r}")
    return tuple(finite(name, item, error=error, unit="mm") for item in items)


def choice(name: str, value: str, allowed: Sequence[str], *, error: type[CTError] = ConfigError) -> str:
    """Return a word of a list, or name the list."""
    if value not in allowed:
        raise error(f"{name}: expected one of {', '.join(allowed)}, got {value!r}")
    return value


def together(name: str, value: Tensor, other: str, reference: Tensor) -> Tensor:
    """Return a tensor on the device of another one, or say which two they are on."""
    if value.device != reference.device:
        raise ConfigError(
            f"{name}: expected a tensor on {reference.device} like {other}, got one on {value.device}; move one with "
            ".to(device)"
        )
    return value


def floating(name: str, value: Tensor) -> Tensor:
    """Return a float32 or float64 tensor, or say how to convert."""
    if not isinstance(value, Tensor):
        raise ShapeError(f"{name}: expected a torch tensor, got {type(value).__name__}; wrap it with torch.as_tensor")
    if value.dtype not in (torch.float32, torch.float64):
        raise ShapeError(f"{name}: expected float32 or float64, got {value.dtype}; convert it with .float()")
    return value


def shaped(name: str, value: Tensor, shape: Sequence[int], axes: str) -> Tensor:
    """Return a tensor whose last axes have the given shape; leading axes are a batch."""
    tail = tuple(value.shape[max(0, value.ndim - len(shape)) :])
    if tail != tuple(shape):
        got = tuple(value.shape)
        hint = "; the axes look swapped" if sorted(tail) == sorted(shape) else ""
        raise ShapeError(f"{name}: expected ({axes}) = {tuple(shape)} after any batch axes, got {got}{hint}")
    return value


def all_finite(name: str, value: Tensor) -> Tensor:
    """Return a tensor without NaN or Inf, or count them and name the first."""
    if _mapped(value):
        raise ConfigError(
            f"{name}: expected the same for all items of torch.func.vmap, got one of each; loop over the items"
        )
    if math.isfinite(float(value.detach().sum())):  # NaN and Inf survive a sum, which takes no memory
        return value
    bad = ~torch.isfinite(value)
    if bool(bad.any()):
        first = tuple(int(i) for i in bad.nonzero()[0])
        raise NumericalError(
            f"{name}: expected finite values, got {int(bad.sum())} of {value.numel()} NaN or Inf, the first at "
            f"{first}; mask or interpolate them before reconstruction"
        )
    return value


def fits_memory(name: str, size: int, *, advice: str = "take fewer or larger voxels, or reconstruct in parts") -> None:
    """Refuse an array or a job of `size` bytes beyond the available memory, before anything is allocated.

    Raises:
        ResourceError: more than can be taken; with both numbers.
    """
    if size < _SMALL:
        return
    free = available_memory()
    if size > free:
        raise ResourceError(
            f"{name}: about {size / 2**30:.1f} GiB of memory needed, {free / 2**30:.1f} GiB available; {advice}"
        )


def available_memory() -> int:
    """Return the bytes that can be taken without swapping, within the process's container."""
    known = [n for n in (_meminfo(), _container()) if n is not None]
    return min(known) if known else _FALLBACK


def whole(value: object) -> TypeGuard[int]:
    """Tell whether a value is a whole number, numpy's included; truth values are none."""
    return isinstance(value, Integral) and not isinstance(value, bool | np.bool_)


def real(value: object) -> TypeGuard[float]:
    """Tell whether a value is a real number, numpy's included; truth values are none."""
    return isinstance(value, Real) and not isinstance(value, bool | np.bool_)


def _mapped(value: Tensor) -> bool:
    """Tell whether a tensor stands for the items of `torch.func.vmap`, whose numbers cannot be read."""
    if torch.compiler.is_compiling():
        return False
    while _functorch.is_functorch_wrapped_tensor(value):
        if _functorch.is_batchedtensor(value):
            return True
        value = _functorch.get_unwrapped(value)
    return False


def _in(unit: str) -> str:
    return f" in {unit}" if unit else ""


def _meminfo() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return _physical()


def _physical() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError, AttributeError):
        return None


def _container() -> int | None:
    try:
        most, used = (Path(f"/sys/fs/cgroup/memory.{name}").read_text().strip() for name in ("max", "current"))
        return max(0, int(most) - int(used))
    except (OSError, ValueError):
        return None
