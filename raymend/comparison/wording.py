"""What a comparison found, in words, with as many digits as tell its methods apart."""

import math
import platform
from collections.abc import Sequence
from typing import Final

import numpy as np
import torch

import raymend
from raymend.comparison.intervals import FEWEST, Mean, over_draws
from raymend.comparison.outcome import ALL, Measure, Outcome, Row, names_of

_MOST: Final = 6  # decimals
_FEW: Final = 4  # tied methods that a sentence may name
_SIGN: Final = {"lower": -1, "higher": 1}

DIRECTION: Final = {"lower": "lower is better", "higher": "higher is better"}


def overall(outcome: Outcome) -> str:
    """Return the name of the rows that stand for the whole: those over cases, or those of the only case."""
    return ALL if len(outcome.shown) > 1 else outcome.shown[0].name


def decimals(outcome: Outcome, metric: str) -> int:
    """Return how many decimals show three digits of a metric, and two of what its methods differ by."""
    rows = [row for row in outcome.rows if row.metric == metric and math.isfinite(row.mean)]
    largest = max((abs(row.mean) for row in rows), default=0.0)
    digits = 2 - _exponent(largest)
    spreads = [_spread(rows, case) for case in dict.fromkeys(row.case for row in rows)]
    apart = [1 - _exponent(spread) for spread in spreads if spread > 0]
    wanted = max(digits, min(sorted(apart)[len(apart) // 2], digits + 2)) if apart else digits
    return min(max(wanted, 0), _MOST)


def number(value: float, places: int) -> str:
    """Return a number, or a dash where there is none."""
    return f"{value:.{places}f}" if math.isfinite(value) else "-" if math.isnan(value) else f"{value:g}"


def ends(found: Mean | Row, places: int) -> str:
    """Return the ends of an interval in brackets, or nothing where there is none."""
    if not (math.isfinite(found.low) and math.isfinite(found.high)):
        return ""
    return f"[{number(found.low, places)}, {number(found.high, places)}]"


def titled(measure: Measure) -> str:
    """Return a metric's label with its unit."""
    return f"{measure.label} ({measure.unit})" if measure.unit else measure.label


def change(outcome: Outcome, method: str, metric: str, baseline: str | None = None) -> Mean | None:
    """Return the relative change from a baseline, paired over cases, or over the noise draws of the only case.

    Returns:
        None where there is nothing to compare; no interval where there is one case of one draw.
    """
    first = baseline or outcome.entrants[0].name
    if method == first:
        return None
    if len(outcome.shown) > 1:
        found = outcome.change(method, metric, baseline=first)
        return None if found is None else Mean(mean=found.value, low=found.low, high=found.high)
    return _paired_draws(outcome, method, metric, first)


def compared(outcome: Outcome, method: str, metric: str) -> int:
    """Return how many cases have numbers of a method and of the baseline."""
    pairs = [
        [outcome.row(shown.name, name, metric).mean for name in (method, outcome.entrants[0].name)]
        for shown in outcome.shown
    ]
    return sum(all(map(math.isfinite, pair)) for pair in pairs)


def clear(found: Mean | None) -> bool:
    """Tell whether a change has an interval that leaves out 0."""
    return found is not None and (found.low > 0 or found.high < 0)


def signed(found: Mean) -> str:
    """Return a relative change in per cent with the ends of its interval."""
    return " ".join(part for part in percent(found) if part)


def percent(found: Mean) -> tuple[str, str]:
    """Return a relative change in per cent, and the ends of its interval or nothing."""
    places = 1 if abs(found.mean) < 0.1 else 0
    value, low, high = (f"{100 * each:+.{places}f}" for each in (found.mean, found.low, found.high))
    return f"{value} %", f"[{low}, {high}]" if math.isfinite(found.low) else ""


def ranks(outcome: Outcome, case: str, measure: Measure) -> dict[str, int]:
    """Return the rank of each method with a number, 1 for the best."""
    found = [row for row in outcome.rows if (row.case, row.metric) == (case, measure.name) and math.isfinite(row.mean)]
    ordered = sorted(found, key=lambda row: -_SIGN[measure.better] * row.mean)
    return {row.method: rank for rank, row in enumerate(ordered, start=1)}


def rivals(outcome: Outcome, measure: Measure) -> list[str]:
    """Return the first method and those that are not clearly behind it; none where no interval tells."""
    order = list(ranks(outcome, overall(outcome), measure))
    changes = [change(outcome, other, measure.name, order[0]) for other in order[1:]]
    known = [found for found in changes if found is not None and math.isfinite(found.low)]
    if not known:
        return []
    return order[:1] + [name for name, found in zip(order[1:], changes, strict=True) if not clear(found)]


def headline(outcome: Outcome, measure: Measure) -> str:
    """Say in a sentence which method is first in a metric, and by how much."""
    order = list(ranks(outcome, overall(outcome), measure))
    if not order:
        return f"No method has {measure.label} on {_all_cases(outcome)}."
    if len(order) == 1:
        return _alone(outcome, measure, order[0])
    tied = rivals(outcome, measure)
    if len(tied) > _FEW:
        return f"{tied[0]} has the best mean {measure.label}, {_crowd(outcome, tied)}."
    if len(tied) > 1:
        return f"{_listed(tied)} are tied for first in {measure.label}{_best_of(outcome, measure, tied)}."
    baseline = ", the baseline," if order[0] == outcome.entrants[0].name else ""
    return (
        f"{order[0]}{baseline} is first in {measure.label} on {_won(outcome, measure, order[0])}"
        f"{_beside(outcome, measure, order[0])}{'' if tied else '; a single draw gives no interval'}."
    )


def conditions(outcome: Outcome) -> list[tuple[str, str]]:
    """Return what all methods shared, as pairs of words."""
    setup = outcome.setup
    limits = setup.limits
    window = "none" if limits is None else f"{limits[0]:g} to {limits[1]:g} HU, data range {limits[1] - limits[0]:g} HU"
    sizes = list(dict.fromkeys(" × ".join(map(str, shown.reference.shape[1:])) for shown in outcome.shown))
    return [
        ("baseline", outcome.entrants[0].name),
        *_scans(outcome),
        ("images", f"{_listed(sizes)} pixels"),
        ("noise draws", _draws(outcome)),
        ("reference", _listed(list(dict.fromkeys(shown.kind for shown in outcome.shown)))),
        ("window", window),
        ("tuning", _tuning(outcome)),
        ("intervals", _intervals(outcome)),
        ("software", versions()),
    ]


def _scans(outcome: Outcome) -> list[tuple[str, str]]:
    """Return scanner and dose of the cases that have them."""
    setup, said = outcome.setup, []
    views = f"{setup.views} views" if setup.views else "all its views"
    if any(shown.kind != "full-dose reconstruction" for shown in outcome.shown):
        said += [("simulated scanner", f"{setup.preset}, {views}"), ("simulated dose", _dose(outcome))]
    if any(shown.about.startswith("measured scan") for shown in outcome.shown):
        said.append(("measured scans", f"{100 * setup.fraction:g} % of their dose; the cases say how many views"))
    return said


def _draws(outcome: Outcome) -> str:
    """Return how often the noise was drawn."""
    most = max((len(values) for cell in outcome.cells.values() for values in cell.values.values()), default=0)
    if most < 2:
        return "one; no interval over draws"
    return f"{most}, the first with seed {outcome.setup.seed}; the same for all methods"


def versions() -> str:
    """Return the versions of what the numbers come from."""
    python, arrays = platform.python_version(), str(torch.__version__)
    return f"raymend {raymend.__version__}, Python {python}, torch {arrays}, NumPy {np.__version__}"


def counted(count: int, thing: str) -> str:
    """Return a count with its noun."""
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def _exponent(value: float) -> int:
    return math.floor(math.log10(value)) if value > 0 and math.isfinite(value) else 0


def _spread(rows: Sequence[Row], case: str) -> float:
    means = [row.mean for row in rows if row.case == case]
    return max(means) - min(means)


def _paired_draws(outcome: Outcome, method: str, metric: str, baseline: str) -> Mean | None:
    case = outcome.shown[0].name
    mine, theirs = (outcome.cell(case, name).values.get(metric, ()) for name in (method, baseline))
    level = over_draws(theirs).mean
    if not mine or len(mine) != len(theirs) or not level > 0:
        return None
    found = over_draws([(one - other) / level for one, other in zip(mine, theirs, strict=True)])
    return found if math.isfinite(found.mean) else None


def _all_cases(outcome: Outcome) -> str:
    return f"all {len(outcome.shown)} cases" if len(outcome.shown) > 1 else outcome.shown[0].name


def _alone(outcome: Outcome, measure: Measure, name: str) -> str:
    """Say the number of the only method that has one."""
    row, places = outcome.row(overall(outcome), name, measure.name), decimals(outcome, measure.name)
    amount = " ".join(part for part in (number(row.mean, places), measure.unit, ends(row, places)) if part)
    alone = "" if len(outcome.entrants) == 1 else ", the only method with numbers,"
    return f"{name}{alone} reaches {amount} in {measure.label} on {_all_cases(outcome)}."


def _won(outcome: Outcome, measure: Measure, name: str) -> str:
    """Say on how many cases a method is first; it is so on average."""
    if len(outcome.shown) == 1:
        return outcome.shown[0].name
    count = sum(outcome.best(shown.name, measure.name) == name for shown in outcome.shown)
    whole = len(outcome.shown)
    return _all_cases(outcome) if count == whole else f"average and on {count} of {whole} cases"


def _beside(outcome: Outcome, measure: Measure, name: str) -> str:
    """Say how far a method is from the baseline."""
    baseline = outcome.entrants[0].name
    found = change(outcome, name, measure.name)
    if found is None:
        return ""
    if math.isfinite(found.low) and not clear(found):
        return f", no clear change from {baseline}: {signed(found)}"
    places = 1 if abs(found.mean) < 0.1 else 0
    value, one, two = (100 * abs(each) for each in (found.mean, found.low, found.high))
    inside = f" [{min(one, two):.{places}f}, {max(one, two):.{places}f}]" if math.isfinite(found.low) else ""
    return f", {value:.{places}f} %{inside} {'below' if found.mean < 0 else 'above'} {baseline}"


def _crowd(outcome: Outcome, tied: Sequence[str]) -> str:
    """Say that many are not clearly behind, and whether the baseline is one of them."""
    baseline = outcome.entrants[0].name
    among = f", {baseline} among them" if baseline in tied[1:] else ""
    return f"but {len(tied) - 1} others are not clearly behind{among}"


def _best_of(outcome: Outcome, measure: Measure, tied: Sequence[str]) -> str:
    """Say how far the first of tied methods is from a baseline that is not one of them."""
    if outcome.entrants[0].name in tied:
        return ""
    return _beside(outcome, measure, tied[0]).replace(", ", f"; {tied[0]} is ", 1)


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _dose(outcome: Outcome) -> str:
    setup = outcome.setup
    if setup.photons is None:
        return "no noise"
    return f"{setup.photons:g} photons per pixel and view, electronic noise of variance {setup.electronic:g}"


def _tuning(outcome: Outcome) -> str:
    budget = outcome.setup.budget
    tried = f"{budget} strengths each for methods that have one" if budget > 1 else "none: every method at its defaults"
    return "; ".join(part for part in (tried, outcome.tuning) if part)


def _intervals(outcome: Outcome) -> str:
    if outcome.setup.draws < 2 and len(outcome.shown) < 2:
        return "none: one case, one noise draw"
    within = "of a case over its noise draws (Student's distribution)" if outcome.setup.draws > 1 else ""
    how = "Student's distribution" if len(outcome.shown) < FEWEST else "bootstrap, expanded percentiles"
    across = f"of all over cases ({how})" if len(outcome.shown) > 1 else ""
    said = "; ".join(part for part in (within, across) if part)
    return f"95 %, {said}; changes are paired; not widened for the number of methods"


def labels(outcome: Outcome) -> list[str]:
    """Return the methods' names in order."""
    return names_of(outcome.entrants)
