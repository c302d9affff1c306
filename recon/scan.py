"""A scan: line integrals with the geometry, weights, motion and calibration they belong to."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from recon import checks
from recon.errors import ConfigError, FormatError, ShapeError
from recon.geometry.base import ScanGeometry, view_numbers
from recon.geometry.pose import check_poses, picked
from recon.units import WATER

_MOST = 50.0  # line integrals beyond exp(-50) of the beam cannot be measured: such values are counts


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What turns line integrals into quantities.

    Args:
        photons: mean photons per pixel without an object, or None if unknown.
        electronic: variance of the electronic noise in photons squared.
        water: attenuation of water at the scan's energy in 1/mm, for HU.
        energy: effective energy in keV, or None if unknown.
    """

    photons: float | None = None
    electronic: float = 0.0
    water: float = WATER
    energy: float | None = None

    def __post_init__(self) -> None:
        for name in ("photons", "energy"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, checks.positive(name, getattr(self, name), unit=""))
        object.__setattr__(self, "water", checks.positive("water", self.water, unit="1/mm"))
        if checks.finite("electronic", self.electronic) < 0:
            raise ConfigError(f"electronic: expected a variance of 0 or more, got {self.electronic}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Scan:
    """Projections that cannot be separated from their geometry, units and calibration.

    Args:
        geometry: where the rays ran.
        values: line integrals of attenuation (view, row, column), dimensionless, float32 or float64.
        weights: inverse variance of the values, same shape, or None for equal weights.
        poses: rigid motion of the object (view, 6) in mm and rad, or None for a still object.
        calibration: photons, electronic noise, attenuation of water, energy.
        provenance: what happened to the data so far, oldest first.

    Values and poses may require a gradient, which results of `fbp` and `fdk` then have.

    Raises:
        ShapeError: an array that does not fit the geometry, or a dtype other than float32 and float64.
        FormatError: values that look like raw counts.
        NumericalError: NaN or Inf.
    """

    geometry: ScanGeometry
    values: Tensor
    weights: Tensor | None = None
    poses: Tensor | None = None
    calibration: Calibration = field(default_factory=Calibration)
    provenance: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _refuse_integers(self.values)
        for name in ("values", "weights"):
            array = getattr(self, name)
            if array is not None:
                self._check_shape(name, checks.floating(name, array))
                self._check_content(name, array)
        if self.weights is not None:
            checks.together("weights", self.weights, "the values", self.values)
        if self.poses is not None:
            object.__setattr__(self, "poses", check_poses(self.poses, len(self.geometry)))

    def __len__(self) -> int:
        return len(self.geometry)

    def __getitem__(self, views: int | slice | Sequence[int] | Tensor) -> "Scan":
        """Return a scan of some of the views."""
        pick = view_numbers(views, len(self))
        return self.changed(
            geometry=self.geometry[views],
            values=self.values[pick],
            weights=None if self.weights is None else self.weights[pick],
            poses=picked(self.poses, pick),
        )

    @property
    def dtype(self) -> torch.dtype:
        """The type of the values."""
        return self.values.dtype

    @property
    def held(self) -> Tensor | None:
        """The values if they are in memory, where a gradient can reach them."""
        return self.values

    def block(self, views: slice, rows: slice) -> Tensor:
        """Return the values of some views and rows (view, row, column)."""
        return self.values[views, rows]

    def empty(self, *shape: int) -> Tensor:
        """Return a tensor of the values' type, on their device, with arbitrary content."""
        return self.values.new_empty(shape)

    def moved(self, poses: Tensor) -> "Scan":
        """Return the same data with the motion of the object stated: (view, 6), mm and rad."""
        return self.changed(poses=poses)

    def with_values(self, values: Tensor, step: str) -> "Scan":
        """Return the scan with other values and a line in its provenance that says what was done."""
        return self.changed(values=values, provenance=(*self.provenance, step))

    def noted(self, step: str) -> "Scan":
        """Return the scan with another line in its provenance."""
        return self.changed(provenance=(*self.provenance, step))

    def changed(self, **changes: Any) -> "Scan":
        """Return the scan with other fields, checked again."""
        return replace(self, **changes)

    def to(self, device: "torch.device | str") -> "Scan":
        """Return the scan with its arrays on another device."""
        if self.values.device == torch.device(device):
            return self
        weights = None if self.weights is None else self.weights.to(device)
        return self.changed(values=self.values.to(device), weights=weights)

    def _check_shape(self, name: str, array: Tensor) -> None:
        if tuple(array.shape) != self.geometry.shape:
            checks.shaped(name, array, self.geometry.shape, "view, row, column")
            raise ShapeError(f"{name}: expected (view, row, column) = {self.geometry.shape}, got {tuple(array.shape)}")

    def _check_content(self, name: str, array: Tensor) -> None:
        """Refuse what values or weights, or a part of them, cannot hold."""
        checks.all_finite(name, array)
        array = array.detach()
        if name == "weights" and float(array.amin()) < 0:
            raise ShapeError("weights: expected inverse variances of 0 or more, got negative ones")
        if name == "values" and float(array.amax()) > _MOST:
            raise FormatError(
                f"values: expected line integrals up to {_MOST:g}, got {float(array.amax()):g}, {_AS_COUNTS}"
            )


_AS_COUNTS = (
    "which looks like raw counts; turn counts into line integrals with recon.line_integrals "
    "(or --log on the command line)"
)


def _refuse_integers(values: Tensor) -> None:
    if isinstance(values, Tensor) and not values.is_floating_point() and not values.is_complex():
        raise FormatError(f"values: expected line integrals in float32, got {values.dtype}, {_AS_COUNTS}")
