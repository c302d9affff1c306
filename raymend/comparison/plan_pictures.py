"""Figures of a sweep over dose and views: the surface of each method, and what is best for each exposure."""

import io
import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from raymend.comparison.plan import Plan, Point

_COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8d6e63")
_COLUMNS: Final = 3
_MARKS: Final = "osD^vP*X"


def surfaces(plan: "Plan") -> bytes:
    """Show the metric over dose and views, a panel for each method, in one scale of colours."""
    from matplotlib.figure import Figure

    photons, views = _axes_of(plan)
    count = len(plan.entrants)
    columns = min(_COLUMNS, count)
    rows = -(-count // columns)
    width, height = 1.5 + 0.75 * len(photons), 1.2 + 0.42 * len(views)
    figure = Figure(figsize=(columns * width + 0.9, rows * height + 0.6), layout="constrained")
    panels = np.ravel(figure.subplots(rows, columns, squeeze=False))
    values = [_surface(plan, entrant.name, photons, views) for entrant in plan.entrants]
    known = np.concatenate([each[np.isfinite(each)] for each in values])
    span = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    shown: Any = None
    for panel, entrant, surface in zip(panels, plan.entrants, values, strict=False):
        colours = "viridis_r" if plan.measure.better == "lower" else "viridis"
        shown = panel.imshow(surface, cmap=colours, vmin=span[0], vmax=span[1], origin="lower", aspect="auto")
        panel.set_title(entrant.name, loc="left", fontsize=10)
        panel.set_xticks(range(len(photons)), [f"{dose:.3g}" for dose in photons])
        panel.set_yticks(range(len(views)), [str(number) for number in views])
        panel.set(xlabel="photons per pixel and view", ylabel="views")
        _write_values(panel, surface, span, lower=plan.measure.better == "lower")
    for panel in panels[count:]:
        panel.set_axis_off()
    figure.colorbar(shown, ax=list(panels), label=_label(plan), aspect=30, pad=0.01)
    figure.suptitle(f"{plan.case}: {plan.measure.label} over dose and views", x=0.01, ha="left", fontsize=11)
    return _png(figure)


def fronts(plan: "Plan") -> bytes:
    """Draw the metric over the exposure: all points, and the line of those worth theirs, labelled by views."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 5.0), layout="constrained")
    axes = figure.subplots()
    for number, entrant in enumerate(plan.entrants):
        colour, mark = _COLOURS[number % len(_COLOURS)], _MARKS[number % len(_MARKS)]
        points = [point for point in plan.of(entrant.name) if math.isfinite(point.mean)]
        axes.plot([p.exposure for p in points], [p.mean for p in points], mark, color=colour, alpha=0.3, markersize=4)
        _line(axes, plan.front(entrant.name), colour, mark, entrant.name)
    axes.set(xscale="log", xlabel="photons per pixel over all views (proportional to the dose)", ylabel=_label(plan))
    axes.grid(visible=True, alpha=0.25)
    axes.legend(frameon=False)
    axes.set_title(f"{plan.case}: what is best for each exposure; numbers are views", loc="left", fontsize=11)
    return _png(figure)


def _line(axes: Any, front: "tuple[Point, ...]", colour: str, mark: str, name: str) -> None:
    means = np.array([point.mean for point in front])
    ends = np.array([(point.low, point.high) for point in front]).reshape(-1, 2)
    spread = np.nan_to_num(np.abs(ends.T - means), nan=0.0)
    places = [point.exposure for point in front]
    axes.errorbar(places, means, yerr=spread, fmt=f"-{mark}", color=colour, label=name, markersize=6, capsize=2)
    for point in front:
        axes.annotate(
            str(point.views), (point.exposure, point.mean), xytext=(4, 5), textcoords="offset points", fontsize=7.5,
            color=colour,
        )  # fmt: skip


def _axes_of(plan: "Plan") -> tuple[list[float], list[int]]:
    return sorted({point.photons for point in plan.points}), sorted({point.views for point in plan.points})


def _surface(plan: "Plan", method: str, photons: list[float], views: list[int]) -> "np.ndarray[Any, Any]":
    """Return the metric (views, photons), NaN where there is none."""
    found = np.full((len(views), len(photons)), np.nan)
    for point in plan.of(method):
        found[views.index(point.views), photons.index(point.photons)] = point.mean
    return found


def _write_values(panel: Any, surface: "np.ndarray[Any, Any]", span: tuple[float, float], *, lower: bool) -> None:
    """Write each number in a colour that can be read on its own."""
    middle = sum(span) / 2
    for (row, column), value in np.ndenumerate(surface):
        text = "–" if np.isnan(value) else f"{value:.3g}"
        dark = np.isnan(value) or ((value < middle) if lower else (value > middle))
        panel.text(column, row, text, ha="center", va="center", fontsize=8, color="black" if dark else "white")


def _label(plan: "Plan") -> str:
    return f"{plan.measure.label} ({plan.measure.unit})" if plan.measure.unit else plan.measure.label


def _png(figure: "Figure") -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=144, metadata={"Software": "raymend"})
    return file.getvalue()
