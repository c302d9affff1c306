"""The tables of a settings file: what may be stated about a scan and its reconstruction; all of it is optional."""

from dataclasses import dataclass, field, fields, replace
from typing import Annotated, Any, ClassVar

from raymend.reconstruction import METHODS
from raymend.settings import rules
from raymend.settings.rules import Rule
from recon.analytic.fbp import PADDINGS
from recon.analytic.filters import WINDOWS
from recon.errors import ConfigError
from recon.sinogram.restore import TUNINGS

Count = Annotated[int | None, Rule(rules.whole)]
Finite = Annotated[float | None, Rule(rules.finite)]
Length = Annotated[float | None, Rule(rules.length)]
Positive = Annotated[float | None, Rule(rules.positive)]
Pair = tuple[float, float] | None
Triple = tuple[float, float, float] | None

KINDS = ("parallel", "cone", "helical")


class Table:
    """What tables share: keys of other names are refused, and the names are known."""

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    def given(self, *names: str) -> dict[str, Any]:
        """Return what is stated, of these names or of all."""
        wanted = names or [item.name for item in fields(self)]  # type: ignore[arg-type]
        return {name: getattr(self, name) for name in wanted if getattr(self, name) is not None}


@dataclass(frozen=True, kw_only=True)
class GeometryTable(Table):
    """How the scanner moves.

    Args:
        kind: "parallel", "cone" (a circle; one detector row makes a fan) or "helical".
        views: number of views, evenly spread; None for that of the data.
        angles_degrees: the angle of each view, in the place of `views`.
        arc_degrees: what even views cover, its end left out; 180 for parallel rays, 360 for a cone.
        start_degrees: the angle of the first view.
        source_to_axis: distance in mm.
        source_to_detector: distance in mm.
        pitch: advance of a helix per turn in mm.
        turns: turns of a helix, in the place of `arc_degrees`.
        middle_degrees: the angle at which a helix passes z = 0; None for its middle.
    """

    kind: Annotated[str, Rule(rules.choice(*KINDS))]
    views: Count = None
    angles_degrees: Annotated[tuple[float, ...] | None, Rule(rules.angles)] = None
    arc_degrees: Positive = None
    start_degrees: Finite = None
    source_to_axis: Length = None
    source_to_detector: Length = None
    pitch: Finite = None
    turns: Positive = None
    middle_degrees: Finite = None

    def __post_init__(self) -> None:
        problems = [*self._about_angles(), *self._about_distances(), *self._about_helix()]
        if problems:
            raise ConfigError("\n".join(problems))

    def _about_angles(self) -> list[str]:
        spread = self.given("views", "arc_degrees", "start_degrees", "turns")
        if self.angles_degrees is not None and spread:
            return [
                f"angles_degrees: expected no {', '.join(spread)} beside the list of angles; remove one or the other"
            ]
        return (
            ["turns: expected no arc_degrees beside it; remove one"] if {"turns", "arc_degrees"} <= set(spread) else []
        )

    def _about_distances(self) -> list[str]:
        names = ("source_to_axis", "source_to_detector")
        if self.kind == "parallel":
            return [
                f"{name}: expected none for parallel rays; remove it, or kind = 'cone'" for name in self.given(*names)
            ]
        missing = [name for name in names if name not in self.given(*names)]
        return [f"{name}: expected a distance in mm for kind = {self.kind!r}, got none; add it" for name in missing]

    def _about_helix(self) -> list[str]:
        if self.kind != "helical":
            named = self.given("pitch", "turns", "middle_degrees")
            return [f"{name}: belongs to kind = 'helical', got kind = {self.kind!r}; remove it" for name in named]
        missing = [] if self.pitch is not None else ["pitch: expected the advance per turn in mm, got none; add it"]
        if not self.given("turns", "arc_degrees", "angles_degrees"):
            missing.append("turns: expected the number of turns, got none; add it, or arc_degrees or angles_degrees")
        return missing


@dataclass(frozen=True, kw_only=True)
class DetectorTable(Table):
    """The detector: shape (row, column), pitch and offset (v, u) in mm, curve flat or arc.

    Without a `[geometry]` it changes the detector that the scan file states.
    """

    shape: Annotated[tuple[int, int] | None, Rule(rules.counts(2))] = None
    pitch: Annotated[Pair, Rule(rules.steps(2))] = None
    offset: Annotated[Pair, Rule(rules.offset)] = None
    curve: Annotated[str | None, Rule(rules.choice("flat", "arc"))] = None


@dataclass(frozen=True, kw_only=True)
class GridTable(Table):
    """The voxels: shape (z, y, x) or one number across, spacing and centre (z, y, x) in mm."""

    shape: Annotated[int | tuple[int, int, int] | None, Rule(rules.voxels)] = None
    spacing: Annotated[float | tuple[float, float, float] | None, Rule(rules.steps(3))] = None
    centre: Annotated[Triple, Rule(rules.position(3))] = None


@dataclass(frozen=True, kw_only=True)
class ReconstructionTable(Table):
    """What `raymend reconstruct` may be told, in the words of its options."""

    method: Annotated[str | None, Rule(rules.choice(*METHODS))] = None
    window: Annotated[str | None, Rule(rules.choice(*WINDOWS))] = None
    cutoff: Annotated[float | None, Rule(rules.share)] = None
    padding: Annotated[str | None, Rule(rules.choice(*PADDINGS))] = None
    limited_angle: bool | None = None
    iterations: Count = None
    strength: Positive = None
    tune: Annotated[str | None, Rule(rules.choice(*TUNINGS))] = None
    unit: Annotated[str | None, Rule(rules.choice("hu", "mm"))] = None
    window_hu: Annotated[Pair, Rule(rules.grey_range)] = None
    device: Annotated[str | None, Rule(rules.devices)] = None


@dataclass(frozen=True, kw_only=True)
class CalibrationTable(Table):
    """What turns counts into line integrals and attenuation into HU.

    Args:
        log: the file holds counts; `photons` is the count without an object.
        photons: mean photons per pixel without an object.
        electronic: variance of the electronic noise in photons squared.
        water: attenuation of water in 1/mm; None for that at `energy`, if stated, or that of the scan.
        energy: effective energy in keV.
    """

    log: bool | None = None
    photons: Positive = None
    electronic: Annotated[float | None, Rule(rules.variance)] = None
    water: Positive = None
    energy: Positive = None


@dataclass(frozen=True, kw_only=True)
class RunSettings(Table):
    """All tables of a settings file."""

    geometry: GeometryTable | None = None
    detector: DetectorTable = field(default_factory=DetectorTable)
    grid: GridTable = field(default_factory=GridTable)
    reconstruction: ReconstructionTable = field(default_factory=ReconstructionTable)
    calibration: CalibrationTable = field(default_factory=CalibrationTable)

    def overridden(self, **tables: dict[str, Any]) -> "RunSettings":
        """Return the settings with what is not None in the place of what the file states."""
        new = {
            name: replace(getattr(self, name), **{key: value for key, value in values.items() if value is not None})
            for name, values in tables.items()
        }
        return replace(self, **new)


TABLES: dict[str, type[Table]] = {
    "geometry": GeometryTable,
    "detector": DetectorTable,
    "grid": GridTable,
    "reconstruction": ReconstructionTable,
    "calibration": CalibrationTable,
}
