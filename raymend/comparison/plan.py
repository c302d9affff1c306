"""`raymend.plan`: image quality over dose and views, and what is best for each dose."""

import csv
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any, Final

from raymend.comparison.cases import Simulated
from raymend.comparison.catalogue import TUNING, cases_of
from raymend.comparison.engine import Comparison, Progress, Run, silent
from raymend.comparison.methods import methods_of
from raymend.comparison.outcome import Entrant, Measure
from raymend.comparison.run import folder_for, setup_of, workers
from raymend.comparison.setup import Setup
from raymend.comparison.store import Store
from recon import checks
from recon.errors import ConfigError
from recon.io.atomic import atomic_write

#: Columns of the CSV.
COLUMNS: Final = ("method", "photons", "views", "exposure", "metric", "unit", "mean", "low", "high", "pareto")


@dataclass(frozen=True, kw_only=True)
class Point:
    """The quality that a method reaches with a dose per view and a number of views.

    Args:
        method: its name.
        photons: per pixel and view without an object.
        views: how many there are.
        mean: of the metric over the noise draws, NaN where the method failed.
        low: lower end of its 95 % interval.
        high: upper end.
        message: why there is no number, or nothing.
    """

    method: str
    photons: float
    views: int
    mean: float
    low: float
    high: float
    message: str = ""

    @property
    def exposure(self) -> float:
        """Photons per pixel over all views, to which the dose is proportional."""
        return self.photons * self.views


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """Image quality over dose and views.

    Args:
        case: what was scanned, in words.
        measure: the metric.
        entrants: the methods.
        points: a point for each method, dose and number of views.
        setup: what all share, but for photons and views.
    """

    case: str
    measure: Measure
    entrants: tuple[Entrant, ...]
    points: tuple[Point, ...]
    setup: Setup

    def of(self, method: str) -> tuple[Point, ...]:
        """Return the points of one method."""
        return tuple(point for point in self.points if point.method == method)

    def front(self, method: str) -> tuple[Point, ...]:
        """Return the points of a method that no other one beats with no more exposure, by growing exposure."""
        sign = 1 if self.measure.better == "lower" else -1
        best, found = math.inf, []
        for point in sorted(self.of(method), key=lambda p: (p.exposure, sign * p.mean)):
            if math.isfinite(point.mean) and sign * point.mean < best:
                best = sign * point.mean
                found.append(point)
        return tuple(found)

    def table(self) -> str:
        """Return the fronts as text: per method the points worth their exposure."""
        unit = f" {self.measure.unit}" if self.measure.unit else ""
        lines = [f"{self.case}: {self.measure.label}{unit} ({self.measure.protocol})"]
        for entrant in self.entrants:
            lines.append(f"\n{entrant.name}: {entrant.label} ({entrant.tuning})")
            lines += [f"  {_spot(point)}: {point.mean:.4g}{_ends(point)}{unit}" for point in self.front(entrant.name)]
            lines += sorted({f"  failed: {point.message}" for point in self.of(entrant.name) if point.message})
        return "\n".join(lines)

    def to_csv(self, path: "str | PathLike[str]") -> None:
        """Write one line per method, dose and number of views."""
        with atomic_write(path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            for point in self.points:
                numbers = ["" if math.isnan(n) else f"{n:.6g}" for n in (point.mean, point.low, point.high)]
                worth = "yes" if point in self.front(point.method) else "no"
                head = (point.method, f"{point.photons:g}", point.views, f"{point.exposure:g}")
                writer.writerow((*head, self.measure.name, self.measure.unit, *numbers, worth))

    def to_json(self, path: "str | PathLike[str]") -> None:
        """Write everything."""
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps(self.as_dict(), indent=1, ensure_ascii=False) + "\n")

    def as_dict(self) -> dict[str, Any]:
        """Return what `json` can store."""
        points = [asdict(p) | {"exposure": p.exposure, "pareto": p in self.front(p.method)} for p in self.points]
        return {
            "case": self.case,
            "metric": asdict(self.measure),
            "methods": [asdict(entrant) for entrant in self.entrants],
            "points": [
                {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in p.items()} for p in points
            ],
            "setup": self.setup.as_dict(),
        }


def plan(
    methods: Iterable[Any],
    case: Any,
    *,
    photons: Sequence[float],
    views: Sequence[int],
    metric: str = "rmse",
    tuning: Iterable[Any] | None = None,
    out: "str | PathLike[str] | None" = None,
    resume: bool = False,
    processes: int | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> Plan:
    """Sweep dose and views, and find for every method what is best for each exposure.

    Args:
        methods: as for `compare`.
        case: a phantom, patient, volume or object; see `compare`.
        photons: doses per pixel and view.
        views: numbers of views.
        metric: what counts.
        tuning: cases that strengths are chosen on at every point, if `budget` is above 1.
        out: folder for cells, tables and figures; a sweep in it goes on where it stopped. None keeps nothing.
        resume: go on in a folder of another sweep, with the cells that fit.
        processes: how many work at a time; None for one per processor.
        progress: called with the numbers of finished cells and of all, and the last cell's name.
        settings: of `Setup`, but for photons, views and metrics; `budget` is 1 here unless stated.

    Raises:
        ConfigError: as for `compare`, no dose or number of views, or more than one case.
    """
    setup = setup_of({"budget": 1} | settings | {"metrics": (metric,)})
    cases = cases_of([case])
    if len(cases) != 1:
        raise ConfigError(f"case: expected one, got {len(cases)}")
    if not isinstance(cases[0], Simulated):
        raise ConfigError(f"case: expected an object to scan at each dose, got {cases[0].name}, which is measured")
    spots = _spots(photons, views)
    chosen_on = cases_of(TUNING if tuning is None else tuning)
    alike = Comparison.of(methods_of(methods), cases, chosen_on, setup)
    about = {**alike.about, "setup": {**setup.as_dict(), "photons": sorted(photons), "views": sorted(views)}}
    with folder_for(out, about, resume=resume) as folder:
        found = _swept(alike, spots, Store(folder), workers(processes), progress or silent)
        if out is not None:
            _write(found, folder)
    return found


def _spots(photons: Sequence[float], views: Sequence[int]) -> list[tuple[float, int]]:
    """Return all pairs of dose and views."""
    if not photons or not views:
        raise ConfigError(f"photons, views: expected one or more of each, got {len(photons)} and {len(views)}")
    doses = dict.fromkeys(checks.positive("photons", dose, unit="photons per pixel") for dose in photons)
    counts = dict.fromkeys(checks.counts("views", tuple(views), len(views)))
    return [(dose, count) for dose in doses for count in counts]


def _swept(
    alike: Comparison, spots: Sequence[tuple[float, int]], store: Store, processes: int, progress: Progress
) -> Plan:
    """Compare the methods at every spot."""
    points: list[Point] = []
    outcome = None
    for number, (photons, views) in enumerate(spots):
        here = replace(alike, setup=replace(alike.setup, photons=photons, views=views))
        run = Run(here, store, processes, _part(progress, number, len(spots), f"{photons:g} photons, {views} views"))
        outcome = run.outcome()
        for entrant in outcome.entrants:
            case, measure = outcome.shown[0].name, outcome.measures[0]
            row, message = outcome.row(case, entrant.name, measure.name), outcome.cell(case, entrant.name).message
            points.append(
                Point(
                    method=entrant.name, photons=photons, views=views, mean=row.mean, low=row.low, high=row.high,
                    message=message,
                )
            )  # fmt: skip
    assert outcome is not None  # there is one spot at least
    return Plan(
        case=outcome.shown[0].name, measure=outcome.measures[0], entrants=outcome.entrants, points=tuple(points),
        setup=alike.setup,
    )  # fmt: skip


def _part(progress: Progress, number: int, count: int, where: str) -> Progress:
    """Return the progress of one spot as part of all."""
    return lambda done, total, last: progress(number * total + done, count * total, f"{last}, {where}")


def _spot(point: Point) -> str:
    return f"{point.exposure:>10.3g} photons in all = {point.photons:>8.3g} x {point.views:>4} views"


def _ends(point: Point) -> str:
    return "" if math.isnan(point.low) else f" [{point.low:.4g}, {point.high:.4g}]"


def _write(found: Plan, folder: Path) -> None:
    for name, content in _pictures(found):
        with atomic_write(folder / name) as temporary:
            temporary.write_bytes(content)
    found.to_csv(folder / "plan.csv")
    found.to_json(folder / "plan.json")


def _pictures(found: Plan) -> Iterator[tuple[str, bytes]]:
    from raymend.comparison.plan_pictures import fronts, surfaces

    yield "surfaces.png", surfaces(found)
    yield "pareto.png", fronts(found)
