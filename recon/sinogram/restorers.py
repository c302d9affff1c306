"""Penalised weighted least squares in the projection domain: what smooths measured line integrals, one value each."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from recon import checks
from recon.errors import ConfigError
from recon.sinogram import reference

MODES = {"first": (1.0, 0.0), "second": (0.0, 1.0), "both": (1.0, 1.0)}
DIRECTIONS = (4, 8)


class _Steps(Protocol):
    """One implementation of the steps: plain torch, or compiled."""

    def sweep(
        self, q: Tensor, y: Tensor, w: Tensor, right: Tensor, below: Tensor, strength: float, periodic: bool
    ) -> Tensor:
        """See `reference.sweep`."""

    def diffusivity(self, q: Tensor, corner: float, periodic: bool) -> Tensor:
        """See `reference.diffusivity`."""

    def diffuse(
        self, q: Tensor, y: Tensor, w: Tensor, strength: float, threshold: float, step: float,
        mode: tuple[float, float], diagonals: bool, periodic: bool,
    ) -> Tensor:  # fmt: skip
        """See `reference.diffuse`."""

    def diffuse_across_rows(
        self, q: Tensor, y: Tensor, w: Tensor, strength: float, threshold: float, step: float,
        mode: tuple[float, float], diagonals: bool, periodic: bool,
    ) -> Tensor:  # fmt: skip
        """See `reference.diffuse_across_rows`."""


@dataclass(frozen=True, kw_only=True)
class Restorer(ABC):
    """A smoothing of noisy line integrals that trusts each by its variance.

    Calling it with values, their variance and whether the views close the circle returns the restored values.

    Args:
        strength: how much neighbours count against the measured value, over its variance; above 0.
        iterations: when to stop.

    Raises:
        ConfigError: a setting out of range.
    """

    name: ClassVar[str]
    strength: float
    iterations: int

    def __post_init__(self) -> None:
        checks.positive("strength", self.strength, unit="")
        checks.counts("iterations", (self.iterations,), 1)

    def __call__(self, values: Tensor, variance: Tensor, *, periodic: bool, plain: bool = False) -> Tensor:
        """Restore planes (plane, view, column).

        Args:
            values: measured line integrals, float32 or float64.
            variance: their variance, above 0; infinite where nothing was measured.
            periodic: the last view is a neighbour of the first.
            plain: use the plain torch twin of the compiled kernels, as on a GPU anyway.

        Returns:
            Restored line integrals, in the type and on the device of the values.
        """
        checks.floating("values", values)
        if values.ndim != 3 or values.shape != variance.shape or values.dtype != variance.dtype:
            raise ConfigError(
                f"variance: expected {tuple(values.shape)} in {values.dtype}, (plane, view, column) as the values, got "
                f"{tuple(variance.shape)} in {variance.dtype}"
            )
        if not bool((variance > 0).all()):
            raise ConfigError("variance: expected numbers above 0, got 0, less or NaN; leave noise-free values alone")
        steps = reference if plain or values.device.type != "cpu" else _compiled()
        q, y, w = values, values.contiguous(), (1 / variance).contiguous()
        for state in self._states(steps, q, y, w, periodic):
            q = state
        return q

    @abstractmethod
    def _states(self, steps: Any, q: Tensor, y: Tensor, w: Tensor, periodic: bool) -> Iterator[Tensor]:
        """Yield the estimates of all iterations."""


@dataclass(frozen=True, kw_only=True)
class Gibbs(Restorer):
    """Quadratic penalty on differences between neighbours, by red-black Gauss-Seidel sweeps.

    It minimises Σ (y - q)²/σ² + strength/2 Σ_i Σ_j w_ij (q_i - q_j)², whose solution is unique.

    Args:
        strength: how much neighbours count, over the variance of a value.
        iterations: sweeps.
        across_views: weight of neighbours in the next view; one of the next column is 1.

    Source:
        Wang, Li, Lu and Liang 2006, IEEE Transactions on Medical Imaging 25(10): 1272-1283.
    """

    name: ClassVar[str] = "gibbs"
    strength: float = 300.0
    iterations: int = 40
    across_views: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.positive("across_views", self.across_views, unit="")

    def _states(self, steps: _Steps, q: Tensor, y: Tensor, w: Tensor, periodic: bool) -> Iterator[Tensor]:
        right, below = torch.ones_like(q), torch.full_like(q, self.across_views)
        for _ in range(self.iterations):
            q = steps.sweep(q, y, w, right, below, self.strength, periodic)
            yield q


@dataclass(frozen=True, kw_only=True)
class TV(Restorer):
    """Total variation, by lagged diffusivity: weights of the edges from the last estimate, then Gauss-Seidel sweeps.

    It minimises 1/2 Σ (y - q)²/σ² + strength Σ sqrt(D_b² + D_v² + corner²).

    Args:
        strength: how much the total variation counts.
        iterations: updates of the edge weights.
        corner: difference between neighbours below which the penalty is quadratic; too small a one makes stairs.
        sweeps: Gauss-Seidel sweeps for each update.

    Source:
        Vogel and Oman 1996, SIAM Journal on Scientific Computing 17(1): 227-238 (lagged diffusivity).
    """

    name: ClassVar[str] = "tv"
    strength: float = 40.0
    iterations: int = 40
    corner: float = 0.02
    sweeps: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.positive("corner", self.corner, unit="")
        checks.counts("sweeps", (self.sweeps,), 1)

    def _states(self, steps: _Steps, q: Tensor, y: Tensor, w: Tensor, periodic: bool) -> Iterator[Tensor]:
        for _ in range(self.iterations):
            edges = steps.diffusivity(q, self.corner, periodic)
            for _ in range(self.sweeps):
                q = steps.sweep(q, y, w, edges, edges, self.strength, periodic)
            yield q


@dataclass(frozen=True, kw_only=True)
class SPAD(Restorer):
    """Anisotropic diffusion towards sub-pixel samples, stopped by first or second differences, or both.

    Not the descent of a convex cost: more than 15 to 30 iterations smooth too much, and detail wants 4 to 8.

    Args:
        strength: how much neighbours count, over the variance of a value.
        iterations: semi-implicit steps.
        mode: "first" differences stop at slopes, "second" ones only where slopes change, "both" at either.
        directions: 4 along the axes, or 8 with the diagonals at half the weight.
        kappa: difference that halves the diffusion, in standard deviations of the value.
        step: distance of the samples as a share of that to the neighbour, above 0 and up to 1.
        rows: take the next rows of the detector for neighbours, too: 6 directions instead of 4, or 26 instead of 8.

    Source:
        Inferred from the abstract of J South Med Univ 2025, 45(1): 162-169 (low-dose CT by sub-pixel anisotropic
        diffusion), not its equations; Perona and Malik 1990, IEEE TPAMI 12(7): 629-639 for the flow.
    """

    name: ClassVar[str] = "spad"
    strength: float = 2000.0
    iterations: int = 15
    mode: str = "both"
    directions: int = 8
    kappa: float = 3.0
    step: float = 0.5
    rows: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.choice("mode", self.mode, tuple(MODES))
        checks.positive("kappa", self.kappa, unit="standard deviations")
        if self.directions not in DIRECTIONS:
            raise ConfigError(f"directions: expected 4 or 8, got {self.directions!r}")
        if not 0 < checks.finite("step", self.step) <= 1:
            raise ConfigError(f"step: expected a share above 0 and up to 1, got {self.step!r}")

    def _states(self, steps: _Steps, q: Tensor, y: Tensor, w: Tensor, periodic: bool) -> Iterator[Tensor]:
        diagonals = self.directions == 8
        diffuse = steps.diffuse_across_rows if self.rows else steps.diffuse
        for _ in range(self.iterations):
            q = diffuse(
                q, y, w, self.strength, self.kappa, self.step, MODES[self.mode], diagonals, periodic
            )  # fmt: skip
            yield q


@dataclass(frozen=True, kw_only=True)
class PeronaMalik(Restorer):
    """Anisotropic diffusion between neighbours along the axes, stopped by their differences.

    Args:
        strength: how much neighbours count, over the variance of a value.
        iterations: semi-implicit steps.
        kappa: difference that halves the diffusion, in standard deviations of the value.

    Source:
        Perona and Malik 1990, IEEE TPAMI 12(7): 629-639.
    """

    name: ClassVar[str] = "perona-malik"
    strength: float = 1000.0
    iterations: int = 15
    kappa: float = 3.0

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.positive("kappa", self.kappa, unit="standard deviations")

    def _states(self, steps: _Steps, q: Tensor, y: Tensor, w: Tensor, periodic: bool) -> Iterator[Tensor]:
        for _ in range(self.iterations):
            q = steps.diffuse(q, y, w, self.strength, self.kappa, 1.0, MODES["first"], False, periodic)
            yield q


def _compiled() -> Any:
    """Import the compiled steps only when they are used: numba takes a while to load."""
    from recon.sinogram import compiled

    return compiled
