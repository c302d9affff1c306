"""Draws: numbers of a patient, from a seed."""

import math
from collections.abc import Sequence
from typing import TypeVar

import torch

from recon.random import generator

Item = TypeVar("Item")


class Draw:
    """Draw numbers one after the other from a seed; each call changes what the next one gives."""

    def __init__(self, seed: int) -> None:
        self._rng = generator(seed)

    def between(self, low: float, high: float) -> float:
        """Draw evenly."""
        return low + (high - low) * float(torch.rand(1, generator=self._rng, dtype=torch.float64))

    def around(self, mean: float, share: float) -> float:
        """Draw evenly within a share of a mean."""
        return mean * self.between(1 - share, 1 + share)

    def whole(self, low: int, high: int) -> int:
        """Draw a whole number, both ends included."""
        return low + int(torch.randint(high - low + 1, (1,), generator=self._rng))

    def chance(self, share: float) -> bool:
        """Draw whether something happens."""
        return self.between(0, 1) < share

    def one_of(self, items: Sequence[Item]) -> Item:
        """Draw an item."""
        return items[self.whole(0, len(items) - 1)]

    def direction(self) -> tuple[float, float, float]:
        """Draw a unit vector (z, y, x)."""
        z, turn = self.between(-1, 1), self.between(0, 2 * math.pi)
        flat = math.sqrt(1 - z * z)
        return z, flat * math.sin(turn), flat * math.cos(turn)
