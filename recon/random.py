"""Random numbers: drawn on the CPU from a seed of their own, then moved; global generators are never touched."""

from numbers import Integral

import torch

from recon.errors import ConfigError


def generator(seed: int) -> torch.Generator:
    """Make a CPU generator from a seed (a non-negative integer)."""
    if isinstance(seed, bool) or not isinstance(seed, Integral) or seed < 0:
        raise ConfigError(f"seed: expected an integer of 0 or more, got {seed!r}")
    return torch.Generator(device="cpu").manual_seed(int(seed))
