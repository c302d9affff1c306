"""What a kernel works out from rays once and keeps for as long as they live: a solver projects hundreds of times."""

import functools
import weakref
from collections.abc import Callable, Hashable
from typing import Concatenate, Generic, ParamSpec, TypeVar

Rays = TypeVar("Rays")  # Lines or Maps
Plan = TypeVar("Plan")
More = ParamSpec("More")


class Kept(Generic[Rays, More, Plan]):
    """A function of rays, and of a device or a type, that is called once for each object and each of those."""

    def __init__(self, make: Callable[Concatenate[Rays, More], Plan]) -> None:
        self._make = make
        self.plans: dict[int, dict[Hashable, Plan]] = {}  # by identity of the rays, removed when these go
        functools.update_wrapper(self, make)

    def __call__(self, rays: Rays, *more: More.args, **named: More.kwargs) -> Plan:
        """Return the plan of some rays, made on the first call."""
        key = id(rays)
        if key not in self.plans:
            weakref.finalize(rays, self.plans.pop, key, None)
            self.plans[key] = {}
        plans, which = self.plans[key], (*more, *named.items())
        if which not in plans:
            plans[which] = self._make(rays, *more, **named)
        return plans[which]
