"""Pictures of a comparison for papers: light, with stated windows, one scale for all methods."""

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from torch import Tensor

from raymend.comparison import wording
from raymend.comparison.outcome import Measure, Outcome, Shown
from raymend.comparison.views import Box, Spectra, View, chosen, spectra, view
from raymend.figures import Window

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Okabe and Ito's, told apart by colour-blind readers too; yellow darkened for white paper.
COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b58900", "#56b4e9", "#7f7f7f")
_MARK: Final = "#e69f00"
_ACROSS: Final = 5  # images beside each other
_STYLE: Any = {
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "font.family": "sans-serif",
    "font.size": 8.5,
    "axes.titlesize": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.labelcolor": "#333333",
    "xtick.color": "#333333",
    "ytick.color": "#333333",
    "legend.frameon": False,
    "lines.linewidth": 1.2,
}


def images(outcome: Outcome, shown: Shown, window: Window | None = None) -> "Figure":
    """Draw the images of a case in one window, what they differ from the reference by, and a detail of both.

    Args:
        outcome: of the comparison.
        shown: one of its cases.
        window: (low, high) in HU, or None for the setup's.
    """
    with _styled():
        return _sheet(view(outcome, shown, window))


def files(outcome: Outcome) -> dict[str, bytes]:
    """Draw every picture: the metrics with their intervals, and images, profile and noise power of each case.

    Args:
        outcome: of the comparison.

    Returns:
        PNG files by name.
    """
    with _styled():
        found = {"metrics.png": _png(_overview(outcome))}
        for name, shown in zip(file_names(outcome), outcome.shown, strict=True):
            seen = view(outcome, shown)
            found[f"{name}-images.png"] = _png(_sheet(seen))
            found[f"{name}-profile.png"] = _png(_profile(outcome, seen))
            power = spectra(seen)
            if power.lines:
                found[f"{name}-noise-power.png"] = _png(_noise(outcome, seen, power))
    return found


def file_names(outcome: Outcome) -> list[str]:
    """Return the cases' names as file names, each different; a path gives its last part."""
    plain = [re.sub(r"[^\w.-]+", "-", re.split(r"[/\\]", one.name)[-1]).strip("-.") for one in outcome.shown]
    plain = [name[:60] or "case" for name in plain]
    return [name if plain.count(name) == 1 else f"{name}-{k}" for k, name in enumerate(plain, start=1)]


@contextmanager
def _styled() -> Iterator[None]:
    import matplotlib

    with matplotlib.rc_context(_STYLE):
        yield


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _png(figure: "Figure") -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=150, metadata={"Software": "raymend"})
    return file.getvalue()


def _sheet(seen: View) -> "Figure":
    """Draw blocks of images, differences and details, a method per column."""
    columns = [("reference", seen.reference), *seen.planes.items()]
    across = min(_ACROSS, len(columns))
    blocks = -(-len(columns) // across)
    height, width = (part.stop - part.start for part in seen.box)
    step = 7.6 / across
    tall = blocks * (2 * step * height / width + step + 0.45) + 0.35
    figure = _figure(8.8, tall)
    ratios = [height / width, height / width, 1.0] * blocks
    figure.get_layout_engine().set(h_pad=0.02, hspace=0.01)  # type: ignore[call-arg, union-attr]
    places = figure.subplots(3 * blocks, across, squeeze=False, height_ratios=ratios)
    drawn: list[Any] = []
    for place in places.flat:
        place.set_axis_off()
    for at, (name, plane) in enumerate(columns):
        rows = places[3 * (at // across) : 3 * (at // across) + 3, at % across]
        drawn = _column(rows, seen, name, plane) or drawn
    _scales(figure, places, seen, drawn)
    return figure


def _column(rows: Any, seen: View, name: str, plane: Tensor) -> list[Any]:
    """Draw a method's image, difference and detail; the reference has marks instead of a difference."""
    rows[0].set_title(name)
    first = _grey(rows[0], plane, seen.box, seen.window)
    detail = _grey(rows[2], plane, seen.detail, seen.detail_window)
    if plane is seen.reference:
        _marks(rows[0], seen)
        return []
    gap = (plane - seen.reference)[seen.box].numpy()
    second = rows[1].imshow(gap, cmap="RdBu_r", vmin=-seen.limit, vmax=seen.limit, aspect=_aspect(seen))
    return [first, second, detail]


def _grey(place: Any, plane: Tensor, box: Box, window: Window) -> Any:
    return place.imshow(plane[box].numpy(), cmap="gray", vmin=window[0], vmax=window[1], interpolation="nearest")


def _aspect(seen: View) -> float:
    _, dy, dx = seen.shown.grid.spacing
    return dy / dx


def _marks(place: Any, seen: View) -> None:
    """Mark the detail and the profile's line."""
    from matplotlib.patches import Rectangle

    rows, columns = seen.detail
    corner = columns.start - seen.box[1].start - 0.5, rows.start - seen.box[0].start - 0.5
    place.add_patch(
        Rectangle(corner, columns.stop - columns.start, rows.stop - rows.start, fill=False, edgecolor=_MARK)
    )
    y, offset = seen.row - seen.box[0].start, seen.box[1].start
    place.plot([seen.columns.start - offset, seen.columns.stop - 1 - offset], [y, y], color=_MARK, linewidth=0.8)


def _scales(figure: "Figure", places: Any, seen: View, drawn: Sequence[Any]) -> None:
    """Add the colour scales beside the first block, one per row."""
    if not drawn:
        return
    words = ("HU", "difference (HU)", "detail (HU)")
    for row, (what, word) in enumerate(zip(drawn, words, strict=True)):
        scale = figure.colorbar(what, ax=places[row, :].tolist(), label=word, aspect=18, pad=0.01, shrink=0.9)
        scale.outline.set_visible(False)


def _overview(outcome: Outcome) -> "Figure":
    """Draw a panel per metric: means with intervals of every method, and the cases as small dots."""
    count, methods = len(outcome.measures), len(outcome.entrants)
    across = min(3, count)
    down = -(-count // across)
    figure = _figure(1.2 + 2.7 * across, down * (0.9 + 0.24 * methods))
    places = figure.subplots(down, across, squeeze=False, sharey=True)
    for place, measure in zip(places.flat, outcome.measures, strict=False):
        _panel(place, outcome, measure)
    for place in list(places.flat)[count:]:
        place.set_axis_off()
    return figure


def _panel(place: Any, outcome: Outcome, measure: Measure) -> None:
    names, whole = wording.labels(outcome), wording.overall(outcome)
    best = outcome.best(whole, measure.name)
    for y, name in enumerate(names):
        row = outcome.row(whole, name, measure.name)
        cases = [outcome.row(shown.name, name, measure.name).mean for shown in outcome.shown]
        colour = COLOURS[0] if name == best else "#444444"
        place.plot(cases, [y] * len(cases), "o", color=colour, alpha=0.3, markersize=3, markeredgewidth=0)
        place.plot([row.low, row.high], [y, y], color=colour, linewidth=1.6)
        place.plot([row.mean], [y], "o", color=colour, markersize=5)
    place.set_yticks(range(len(names)), names)
    place.set_ylim(len(names) - 0.5, -0.5)
    place.tick_params(axis="y", length=0)
    place.grid(axis="x", color="#e4e4e4", linewidth=0.7)
    place.set_axisbelow(True)
    place.set_title(f"{wording.titled(measure)}, {wording.DIRECTION[measure.better]}", loc="left")


def _profile(outcome: Outcome, seen: View) -> "Figure":
    x = seen.shown.grid.axes()[2][seen.columns].tolist()
    figure = _figure(6.4, 3.0)
    place = figure.subplots()
    place.plot(x, seen.reference[seen.row, seen.columns].tolist(), color="#bbbbbb", linewidth=4, label="reference")
    for name, style in _lines(outcome, seen, list(seen.planes)):
        place.plot(x, seen.planes[name][seen.row, seen.columns].tolist(), label=name, **style)
    place.set(xlabel=f"x (mm), y = {seen.height:.0f} mm", ylabel="HU")
    return _legend(figure, place, seen)


def _noise(outcome: Outcome, seen: View, power: Spectra) -> "Figure":
    figure = _figure(6.4, 3.0)
    place = figure.subplots()
    for name, style in _lines(outcome, seen, list(power.lines)):
        line = power.lines[name]
        place.plot(line.frequency.tolist(), line.values.tolist(), label=name, **style)
    place.set(xlabel="frequency (1/mm)", ylabel="noise power (HU² mm²)")
    place.set_xlim(left=0)
    place.set_ylim(bottom=0)
    return _legend(figure, place, seen)


def _lines(outcome: Outcome, seen: View, names: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the methods to draw with their colours, which are the same in all pictures."""
    order = wording.labels(outcome)
    for name in chosen(outcome, seen.shown, names):
        at = order.index(name)
        dashed = {"linestyle": "--"} if at // len(COLOURS) % 2 else {}
        yield name, {"color": COLOURS[at % len(COLOURS)], **dashed}


def _legend(figure: "Figure", place: Any, seen: View) -> "Figure":
    place.grid(color="#eeeeee", linewidth=0.7)
    place.set_title(seen.shown.name, loc="left")
    figure.legend(loc="outside right upper", fontsize="small")
    return figure
