"""A score is a number with all that it rests on; it prints as one line and stores as JSON."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from recon.errors import FormatError


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What numbers were measured on: a protocol without its mask's voxels.

    Args:
        reference: what the image was compared with.
        window: (low, high) to which both images were clipped, or None.
        data_range: the range of values that count.
        region: what the mask covered, or nothing.
        voxels: how many voxels counted, or None for all.
        dimensions: 2 for slices, 3 for volumes.
        unit: unit of the images.
    """

    reference: str
    window: tuple[float, float] | None
    data_range: float
    region: str
    voxels: int | None
    dimensions: Literal[2, 3]
    unit: str

    def described(self, note: str) -> str:
        """Return the conditions in words, with what else a metric rests on."""
        return ", ".join(part for part in (*self._values(), note, self._place(), self._reference()) if part)

    def __str__(self) -> str:
        return self.described(f"{self.dimensions}-D")

    def _values(self) -> tuple[str, str]:
        stated = f"data range {self.data_range:g} {self.unit}"
        if self.window is None:
            return "no window", stated
        low, high = self.window
        return f"window {low:g}..{high:g} {self.unit}", "" if math.isclose(self.data_range, high - low) else stated

    def _place(self) -> str:
        return "" if self.voxels is None else f"{self.region or 'mask'} of {self.voxels} voxels"

    def _reference(self) -> str:
        return f"reference: {self.reference}"


@dataclass(frozen=True, kw_only=True)
class Score:
    """A number with its unit, its direction and the conditions it was measured under.

    Args:
        metric: the metric's name.
        label: how the metric is printed.
        value: the number.
        unit: its unit, nothing for a ratio.
        better: whether lower or higher is better.
        note: what else the metric rests on.
        conditions: what it was measured on.
    """

    metric: str
    label: str
    value: float
    unit: str
    better: Literal["lower", "higher"]
    note: str
    conditions: Conditions

    @property
    def protocol(self) -> str:
        """What the number rests on, in words."""
        return self.conditions.described(self.note)

    def __str__(self) -> str:
        return f"{self.label} {self.value:.4g}{' ' * bool(self.unit)}{self.unit} ({self.protocol})"

    def row(self) -> dict[str, str | float]:
        """Return the row of a table: name, value, unit, direction and protocol."""
        return {
            "name": self.metric,
            "value": self.value,
            "unit": self.unit,
            "direction": f"{self.better} is better",
            "protocol": self.protocol,
        }

    def as_dict(self) -> dict[str, Any]:
        """Return what `json` can store; an infinite value becomes a string, for which JSON has no number."""
        stored = asdict(self)
        return stored if math.isfinite(self.value) else {**stored, "value": repr(self.value)}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> "Score":
        """Return the score that `as_dict` stored.

        Raises:
            FormatError: a field is missing, unknown or no number.
        """
        try:
            fields = {**stored["conditions"]}
            window = fields["window"]
            fields["window"] = None if window is None else (float(window[0]), float(window[1]))
            return cls(**{**stored, "value": float(stored["value"]), "conditions": Conditions(**fields)})
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise FormatError(f"score: expected the fields that Score.as_dict stores, got {error}") from None
