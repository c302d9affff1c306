"""The page of a comparison: one file without a single request, that reads on a phone and prints."""

import math
import re
from collections.abc import Sequence
from typing import Any, Final

import raymend
from raymend.comparison import wording
from raymend.comparison.cards import Sizes, cards, marks
from raymend.comparison.charts import COLOURS, HEIGHT, STRIP, WIDTH, Chart, Line, chart, strip
from raymend.comparison.intervals import Mean
from raymend.comparison.outcome import ALL, Entrant, Measure, Outcome, Shown
from raymend.comparison.text import duration, failure, seconds
from raymend.comparison.views import Spectra, View, chosen, spectra, view
from raymend.rendering import render

_MINUS: Final = "−"


def page(outcome: Outcome, *, command: str = "") -> str:
    """Write a comparison as HTML; names and texts are escaped.

    Args:
        outcome: of the comparison.
        command: what repeats it, if it was a command.
    """
    seen = [view(outcome, shown) for shown in outcome.shown]
    sizes = Sizes.of(seen)
    first, *others = [wording.headline(outcome, measure) for measure in outcome.measures]
    return render(
        "compare.html.jinja",
        headline=_typeset(first),
        others=[_typeset(other) for other in others],
        facts=facts(outcome),
        tables=[_table(outcome, measure) for measure in outcome.measures],
        cases=[_case(outcome, one, sizes) for one in seen],
        conditions=[(name, _typeset(value)) for name, value in wording.conditions(outcome)],
        methods=[_method(outcome, entrant) for entrant in outcome.entrants],
        failures=_failures(outcome),
        notes=outcome.notes,
        command=command,
        setup=repr(outcome.setup),
        several=len(outcome.shown) > 1,
        baseline=outcome.entrants[0].name,
        strip_width=STRIP,
        chart_size=(WIDTH, HEIGHT),
        styles=range(COLOURS),
        lines=range(len(outcome.entrants)),
        version=raymend.__version__,
    )


def facts(outcome: Outcome) -> str:
    """Return in a line how much was compared, and against what."""
    setup = outcome.setup
    sizes = {shown.grid.shape for shown in outcome.shown}
    counts = [
        wording.counted(len(outcome.entrants), "method"),
        wording.counted(len(outcome.shown), "case"),
        wording.counted(setup.draws, "noise draw"),
        *(f"{columns} × {rows} pixels" for _, rows, columns in sizes if len(sizes) == 1),
    ]
    kinds = dict.fromkeys(shown.kind for shown in outcome.shown)
    return f"{' · '.join(counts)} · compared with the {' or the '.join(kinds)}"


def _typeset(text: str) -> str:
    """Use the minus sign for negative numbers."""
    return re.sub(r"(?<![\w-])-(?=\d)", _MINUS, text)


def _table(outcome: Outcome, measure: Measure) -> dict[str, Any]:
    """Return a metric's table: a row per method, the place of each in a strip of dots, and the ticks of that."""
    names = wording.labels(outcome)
    whole = wording.overall(outcome)
    per_case = {name: [outcome.row(s.name, name, measure.name).mean for s in outcome.shown] for name in names}
    found = [outcome.row(whole, name, measure.name) for name in names]
    dots, ticks = strip([(Mean(mean=row.mean, low=row.low, high=row.high), per_case[row.method]) for row in found])
    rows = [_row(outcome, measure, at) | {"dots": each} for at, each in enumerate(dots)]
    return {
        "title": wording.titled(measure),
        "label": measure.label,
        "direction": wording.DIRECTION[measure.better],
        "protocol": _typeset(measure.protocol),
        "headline": _typeset(wording.headline(outcome, measure)),
        "over": f"mean of {len(outcome.shown)} cases" if whole == ALL else whole,
        "cases": [shown.name for shown in outcome.shown] if whole == ALL else [],
        "ticks": ticks,
        "baseline": dots[0].mean,
        "rows": rows,
    }


def _row(outcome: Outcome, measure: Measure, at: int) -> dict[str, Any]:
    name, whole = outcome.entrants[at].name, wording.overall(outcome)
    changed = wording.change(outcome, name, measure.name)
    cases = [] if len(outcome.shown) == 1 else [_number(outcome, s.name, name, measure) for s in outcome.shown]
    return {
        "name": name,
        "style": at,
        "whole": _number(outcome, whole, name, measure),
        "change": ("", "") if changed is None else [_typeset(part) for part in wording.percent(changed)],
        "over": _over(outcome, measure, name),
        "judged": _judged(changed, measure),
        "rank": wording.ranks(outcome, whole, measure).get(name, ""),
        "cases": cases,
        "seconds": duration(seconds(outcome, whole, name)),
    }


def _over(outcome: Outcome, measure: Measure, name: str) -> str:
    """Return over how many cases a change is, where that is not all of them."""
    count = wording.compared(outcome, name, measure.name)
    return wording.counted(count, "case") if count < len(outcome.shown) else ""


def _number(outcome: Outcome, case: str, method: str, measure: Measure) -> dict[str, Any]:
    """Return a number with its interval, or why there is none."""
    row, places = outcome.row(case, method, measure.name), wording.decimals(outcome, measure.name)
    return {
        "mean": "" if math.isnan(row.mean) else _typeset(wording.number(row.mean, places)),
        "ends": _typeset(wording.ends(row, places)),
        "best": outcome.best(case, measure.name) == method,
        "failed": failure(outcome, case, method),
        "count": _count(outcome, case, method),
    }


def _count(outcome: Outcome, case: str, method: str) -> str:
    """Return on how many cases a method failed, where that is not all of them."""
    failed = sum(bool(outcome.cell(shown.name, method).message) for shown in outcome.shown)
    return f" on {failed} of {len(outcome.shown)}" if case == ALL and failed < len(outcome.shown) else ""


def _judged(changed: Mean | None, measure: Measure) -> str:
    """Return whether a change is clearly better or worse, for its colour."""
    if changed is None or not wording.clear(changed):
        return ""
    return "better" if (changed.mean < 0) == (measure.better == "lower") else "worse"


def _case(outcome: Outcome, seen: View, sizes: Sizes) -> dict[str, Any]:
    shown, power = seen.shown, spectra(seen)
    return {
        "name": shown.name,
        "about": shown.about,
        "reference": shown.kind,
        "region": shown.region,
        "cards": cards(seen, sizes, {name: _scores(outcome, shown, name) for name in seen.planes}),
        "marks": marks(seen),
        "window": _span(*seen.window),
        "detail": _span(*seen.detail_window),
        "limit": f"{seen.limit:g}",
        "slice": _slice(seen),
        "reduced": sizes.step,
        "profile": _profile(outcome, seen),
        "noise": _noise(outcome, seen, power),
        "said": power.said,
        "failed": [
            (name, outcome.cell(shown.name, name).message or "no image on the reference's grid was kept")
            for name in wording.labels(outcome)
            if name not in seen.planes
        ],
    }


def _scores(outcome: Outcome, shown: Shown, method: str) -> list[str]:
    """Return a method's numbers of a case with their units."""
    rows = [(outcome.row(shown.name, method, m.name), m) for m in outcome.measures]
    return [
        _typeset(f"{m.label} {wording.number(row.mean, wording.decimals(outcome, m.name))} {m.unit}").strip()
        for row, m in rows
        if not math.isnan(row.mean)
    ]


def _span(low: float, high: float) -> str:
    return _typeset(f"{low:g} to {high:g} HU")


def _slice(seen: View) -> str:
    count = seen.shown.reference.shape[0]
    return "" if count == 1 else f"slice {seen.number + 1} of {count}"


def _profile(outcome: Outcome, seen: View) -> Chart:
    x = seen.shown.grid.axes()[2][seen.columns].tolist()
    drawn = chosen(outcome, seen.shown, list(seen.planes))
    lines = [Line(name="reference", style=-1, x=x, y=seen.reference[seen.row, seen.columns].tolist())]
    lines += [
        Line(name=name, style=at, x=x, y=seen.planes[name][seen.row, seen.columns].tolist(), drawn=name in drawn)
        for at, name in _styled(outcome, list(seen.planes))
    ]
    return chart(lines, x_label=f"x (mm), at y = {seen.height:.0f} mm".replace("-", _MINUS), y_label="HU")


def _noise(outcome: Outcome, seen: View, power: Spectra) -> Chart | None:
    if not power.lines:
        return None
    drawn = chosen(outcome, seen.shown, list(power.lines))
    lines = [
        Line(
            name=name,
            style=at,
            x=power.lines[name].frequency.tolist(),
            y=power.lines[name].values.tolist(),
            drawn=name in drawn,
        )
        for at, name in _styled(outcome, list(power.lines))
    ]
    return chart(lines, x_label="frequency (1/mm)", y_label="noise power (HU² mm²)", from_zero=True)


def _styled(outcome: Outcome, names: Sequence[str]) -> list[tuple[int, str]]:
    """Return the methods with the numbers of their colours, which are the same in all pictures."""
    return [(at, entrant.name) for at, entrant in enumerate(outcome.entrants) if entrant.name in names]


def _method(outcome: Outcome, entrant: Entrant) -> dict[str, str]:
    return {
        "name": entrant.name,
        "label": entrant.label,
        "tuning": entrant.tuning,
        "note": entrant.note,
        "source": entrant.source,
        "seconds": duration(seconds(outcome, wording.overall(outcome), entrant.name)),
    }


def _failures(outcome: Outcome) -> list[tuple[str, str, list[str]]]:
    """Return method, reason and cases, cases with the same reason together."""
    found: dict[tuple[str, str], list[str]] = {}
    for case, method, reason in outcome.failures():
        found.setdefault((method, reason), []).append(case)
    return [(method, reason, cases) for (method, reason), cases in found.items()]
