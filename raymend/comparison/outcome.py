"""What a comparison found: numbers with intervals, images, and what could not be done; as table, CSV and JSON."""

import csv
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING, Any, Final, Literal

from torch import Tensor

from raymend.comparison.intervals import Mean, over_cases, over_draws, relative_change
from raymend.comparison.setup import Setup
from recon import checks
from recon.grid import VolumeGrid
from recon.io.atomic import atomic_write
from recon.metrics import Interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: The name of the rows that average over cases.
ALL: Final = "all"

#: Columns of the CSV.
COLUMNS: Final = ("case", "method", "metric", "unit", "mean", "low", "high")


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A metric as printed: its label, unit, direction, and all that it rests on, in words."""

    name: str
    label: str
    unit: str
    better: Literal["lower", "higher"]
    protocol: str


@dataclass(frozen=True, kw_only=True)
class Entrant:
    """A method as it took part.

    Args:
        name: as asked for.
        label: in words.
        source: the paper.
        tuning: how its settings were chosen, in words.
        note: what a reader should know, such as the drop of a network out of its domain; or nothing.
    """

    name: str
    label: str
    source: str
    tuning: str
    note: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Shown:
    """A case with what pictures need.

    Args:
        name: as asked for.
        about: the object, scanner and dose in words.
        reference: image to compare with, in HU (z, y, x).
        kind: what the reference is, such as "phantom".
        grid: of the images.
        mask: True where voxels count.
        region: what the mask covers, in words.
    """

    name: str
    about: str
    reference: Tensor
    kind: str
    grid: VolumeGrid
    mask: Tensor
    region: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Cell:
    """What one method did on one case.

    Args:
        values: numbers by metric, one per noise draw; none where it failed.
        images: of the first draws, at most two, in HU (z, y, x).
        seconds: for one image.
        message: why there are no numbers, or nothing.
    """

    values: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    images: tuple[Tensor, ...] = ()
    seconds: float = math.nan
    message: str = ""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the table: the mean of a metric with the ends of its 95 % interval, NaN where there is none."""

    case: str
    method: str
    metric: str
    unit: str
    mean: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """The result of a comparison.

    Args:
        setup: what all methods share.
        entrants: the methods, in the order asked for; the first is the baseline of paired changes.
        shown: the cases, in the order asked for.
        measures: the metrics, in the order asked for.
        cells: what was found, by (case, method).
        tuning: the tuning cases in words, or nothing.
        notes: what a reader should know about the whole.
    """

    setup: Setup
    entrants: tuple[Entrant, ...]
    shown: tuple[Shown, ...]
    measures: tuple[Measure, ...]
    cells: Mapping[tuple[str, str], Cell]
    tuning: str = ""
    notes: tuple[str, ...] = ()

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """All numbers: per case an interval over noise draws, then, of several cases, one over cases."""
        found = [self._row(case.name, m, e.name) for case in self.shown for m in self.measures for e in self.entrants]
        if len(self.shown) > 1:
            found += [self._row(ALL, measure, entrant.name) for measure in self.measures for entrant in self.entrants]
        return tuple(found)

    def row(self, case: str, method: str, metric: str) -> Row:
        """Return one line of the table; the case may be "all"."""
        return next(row for row in self.rows if (row.case, row.method, row.metric) == (case, method, metric))

    def cell(self, case: str, method: str) -> Cell:
        """Return what one method did on one case."""
        return self.cells[case, method]

    def best(self, case: str, metric: str) -> str | None:
        """Return the method with the best mean, or None where none has a number."""
        measure = self.measure(metric)
        sign = 1 if measure.better == "lower" else -1
        rows = [row for row in self.rows if (row.case, row.metric) == (case, metric) and math.isfinite(row.mean)]
        return min(rows, key=lambda row: sign * row.mean).method if rows else None

    def measure(self, metric: str) -> Measure:
        """Return a metric by name."""
        names = [measure.name for measure in self.measures]
        return self.measures[names.index(checks.choice("metric", metric, names))]

    def change(self, method: str, metric: str, *, baseline: str | None = None) -> Interval | None:
        """Return the relative change from a baseline, paired over cases, with its interval.

        Args:
            method: one of the entrants.
            metric: one of the measures.
            baseline: another entrant, or None for the first.

        Returns:
            None where fewer than two cases have numbers of both above zero.
        """
        first = baseline or self.entrants[0].name
        pairs = [
            (mine, theirs)
            for case in self.shown
            for mine, theirs in [(self._mean(case.name, method, metric), self._mean(case.name, first, metric))]
            if math.isfinite(mine) and math.isfinite(theirs) and theirs > 0
        ]
        if len(pairs) < 2 or method == first:
            return None
        values, theirs = zip(*pairs, strict=True)
        return relative_change(values, theirs, seed=self.setup.seed)

    def failures(self) -> list[tuple[str, str, str]]:
        """Return case, method and reason of every cell without numbers."""
        return [(case, method, cell.message) for (case, method), cell in self.cells.items() if cell.message]

    def table(self) -> str:
        """Return the numbers as text: a line per case and method, a column per metric, the best marked by *."""
        from raymend.comparison.text import table

        return table(self)

    def to_csv(self, path: "str | PathLike[str]") -> None:
        """Write case, method, metric, unit, mean, low and high, one number a line."""
        with atomic_write(path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            for row in self.rows:
                numbers = ["" if math.isnan(n) else f"{n:.6g}" for n in (row.mean, row.low, row.high)]
                writer.writerow((row.case, row.method, row.metric, row.unit, *numbers))

    def to_json(self, path: "str | PathLike[str]") -> None:
        """Write everything but the images."""
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps(self.as_dict(), indent=1, ensure_ascii=False) + "\n")

    def as_dict(self) -> dict[str, Any]:
        """Return what `json` can store: setup, methods, cases, metrics, numbers per draw, changes and failures."""
        return {
            "setup": self.setup.as_dict(),
            "methods": [asdict(entrant) for entrant in self.entrants],
            "cases": [{"name": s.name, "about": s.about, "reference": s.kind, "region": s.region} for s in self.shown],
            "metrics": [asdict(measure) for measure in self.measures],
            "tuning": self.tuning,
            "notes": list(self.notes),
            "rows": [_finite(asdict(row)) for row in self.rows],
            "cells": [
                _finite({"case": case, "method": method, "seconds": cell.seconds, "message": cell.message})
                | {"values": {name: list(values) for name, values in cell.values.items()}}
                for (case, method), cell in self.cells.items()
            ],
        }

    def figure(self, case: int | str = 0, *, window: tuple[float, float] | None = None) -> "Figure":
        """Draw the images of a case, their differences from the reference, and a part enlarged.

        Args:
            case: its number or name.
            window: (low, high) in HU, or None for the setup's.
        """
        from raymend.comparison.pictures import images

        return images(self, self._shown(case), window)

    def report(self, path: "str | PathLike[str]") -> None:
        """Write one self-contained HTML page."""
        from raymend.comparison.page import page

        text = page(self)
        with atomic_write(path) as temporary:
            temporary.write_text(text, encoding="utf-8")

    def _shown(self, case: int | str) -> Shown:
        if isinstance(case, int):
            return self.shown[case]
        names = [shown.name for shown in self.shown]
        return self.shown[names.index(checks.choice("case", case, names))]

    def _row(self, case: str, measure: Measure, method: str) -> Row:
        found = self._over_cases(measure.name, method) if case == ALL else self._over_draws(case, measure.name, method)
        return Row(case=case, method=method, metric=measure.name, unit=measure.unit, **asdict(found))

    def _over_draws(self, case: str, metric: str, method: str) -> Mean:
        return over_draws(self.cells[case, method].values.get(metric, ()))

    def _over_cases(self, metric: str, method: str) -> Mean:
        means = [self._mean(shown.name, method, metric) for shown in self.shown]
        return over_cases(means, seed=self.setup.seed)

    def _mean(self, case: str, method: str, metric: str) -> float:
        return self._over_draws(case, metric, method).mean


def _finite(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with None for what is no finite number, for which JSON has no word."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}


def names_of(things: Iterable[Any]) -> list[str]:
    """Return the names of entrants, cases or measures."""
    return [thing.name for thing in things]
