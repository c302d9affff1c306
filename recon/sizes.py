"""Sizes of memory in bytes and in words."""

import re

from recon import checks
from recon.errors import ConfigError

_UNITS = {"": 1, "b": 1, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40}
_UNITS |= {"kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def parse_size(size: "int | str") -> int:
    """Return a number of bytes, given as such or as text: "800MiB", "6GiB", "6 GB".

    Raises:
        ConfigError: no number above 0, or an unknown unit.
    """
    if checks.whole(size) and int(size) > 0:
        return int(size)
    found = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([a-zA-Z]*)\s*", size) if isinstance(size, str) else None
    if found is None or found[2].lower() not in _UNITS or not 0 < float(found[1]) < 1e15:
        raise ConfigError(f"memory: expected a size such as 6GiB or 800MiB, got {size!r}")
    return int(float(found[1]) * _UNITS[found[2].lower()])


def in_words(size: float) -> str:
    """Write a number of bytes with a unit."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.4g} {unit}"
        size /= 1024
    return f"{size:.4g} TiB"
