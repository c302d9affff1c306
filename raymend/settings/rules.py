"""Checks of single values in a settings file; pydantic runs them and collects what they refuse."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from recon import checks
from recon.errors import ConfigError

MOST_VIEWS = 10_000_000


@dataclass(frozen=True)
class Rule:
    """A check that returns the value to keep and raises ConfigError; it marks the type of a field."""

    check: Callable[[Any], Any]

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_plain_validator_function(self.checked)

    def checked(self, value: Any) -> Any:
        """Return the checked value; numbers beyond float64 are not finite."""
        try:
            return self.check(value)
        except OverflowError as error:
            raise ConfigError(f"expected a finite number, got {str(value)[:20]}…") from error


def length(value: Any) -> float:
    """Check a length above 0 mm."""
    return checks.positive("", value)


def positive(value: Any) -> float:
    """Check a number above 0."""
    return checks.positive("", value, unit="")


def finite(value: Any) -> float:
    """Check a finite number."""
    return checks.finite("", value)


def variance(value: Any) -> float:
    """Check a number of 0 or more."""
    if checks.finite("", value) < 0:
        raise ConfigError(f"expected a number of 0 or more, got {value!r}")
    return float(value)


def devices(value: Any) -> str:
    """Check the name of the CPU, of a GPU, or of several GPUs."""
    if not isinstance(value, str) or not re.fullmatch(r"cpu|cuda(:\d+)?(,cuda:\d+)*", value):
        raise ConfigError(f"expected cpu, cuda, or GPUs such as cuda:0,cuda:1, got {value!r}")
    return value


def share(value: Any) -> float:
    """Check a number above 0 and up to 1."""
    if not 0 < checks.finite("", value) <= 1:
        raise ConfigError(f"expected a number above 0 and up to 1, got {value!r}")
    return float(value)


def whole(value: Any) -> int:
    """Check a count of 1 or more."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_VIEWS:
        raise ConfigError(f"expected a valid integer from 1 to {MOST_VIEWS:,}, got {str(value)[:20]!r}")
    return value


def angles(value: Any) -> tuple[float, ...]:
    """Check a list of one or more angles."""
    if not isinstance(value, list) or not value:
        raise ConfigError(f"expected a list of one or more angles in degrees, got {value!r}")
    return tuple(checks.finite("", item, unit="degrees") for item in value)


def choice(*allowed: str) -> Callable[[Any], str]:
    """Make the check of a word of a list."""
    return lambda value: checks.choice("", value, allowed)


def steps(count: int) -> Callable[[Any], tuple[float, ...]]:
    """Make the check of `count` steps in mm; one number stands for all."""
    return lambda value: checks.lengths("", _no_text(value), count)


def position(count: int) -> Callable[[Any], tuple[float, ...]]:
    """Make the check of `count` coordinates in mm."""
    return lambda value: checks.position("", value, count)


def counts(count: int) -> Callable[[Any], tuple[int, ...]]:
    """Make the check of `count` whole numbers."""
    return lambda value: checks.counts("", value, count)


def voxels(value: Any) -> int | tuple[int, ...]:
    """Check one number of voxels across, or (z, y, x)."""
    return whole(value) if not isinstance(value, list) else checks.counts("", value, 3)


def offset(value: Any) -> tuple[float, ...]:
    """Check an offset (v, u) in mm; one number is that along u."""
    pair: Sequence[Any] = value if isinstance(value, list) else (0.0, value)
    return checks.position("", pair, 2)


def grey_range(value: Any) -> tuple[float, ...]:
    """Check a window (low, high)."""
    if not isinstance(value, list) or len(value) != 2 or not finite(value[0]) < finite(value[1]):
        raise ConfigError(f"expected [low, high] in HU with low below high, got {value!r}")
    return float(value[0]), float(value[1])


def _no_text(value: Any) -> Any:
    """Keep text from being taken as a list of letters."""
    if isinstance(value, str):
        raise ConfigError(f"expected numbers in mm, got {value[:20]!r}")
    return value
