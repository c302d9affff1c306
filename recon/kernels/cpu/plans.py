"""What a kernel works out from rays once and keeps for as long as they live: a solver projects hundreds of times."""

import functools
import weakref
from collections.abc import Callable
from typing import Generic, TypeVar

from recon.kernels.lines import Lines

Plan = TypeVar("Plan")


class Kept(Generic[Plan]):
    """A function of rays that is called once for each `Lines` object."""

    def __init__(self, make: Callable[[Lines], Plan]) -> None:
        self._make = make
        self.plans: dict[int, Plan] = {}  # by identity of the rays, removed when these go
        functools.update_wrapper(self, make)

    def __call__(self, lines: Lines) -> Plan:
        """Return the plan of some rays, made on the first call."""
        key = id(lines)
        if key not in self.plans:
            plan = self._make(lines)
            weakref.finalize(lines, self.plans.pop, key, None)
            self.plans[key] = plan
        return self.plans[key]
