"""A comparison as plain text for the terminal, and as Markdown."""

import math
import textwrap
from collections.abc import Iterator, Sequence
from typing import Final

from raymend.comparison import wording
from raymend.comparison.outcome import ALL, Measure, Outcome

_WIDTH: Final = 100  # columns of a terminal that all of it should fit
_GAP: Final = "  "

Line = tuple[str, list[str], str]  # a method, its numbers or none, and why there are none


def table(outcome: Outcome) -> str:
    """Return all numbers as text: a block per case, then the means over cases, changes, protocol and tuning.

    Args:
        outcome: of a comparison.
    """
    parts = [line for case in blocks(outcome) for line in (*_block(outcome, case), "")]
    parts += [*_changes(outcome), *_headlines(outcome), "", *_conditions(outcome)]
    return "\n".join(line.rstrip() for line in parts)


def markdown(outcome: Outcome) -> list[str]:
    """Return the numbers as lines of Markdown: a table per case and one of the means over cases.

    Args:
        outcome: of a comparison.
    """
    lines = [line for case in reversed(blocks(outcome)) for line in (*_markdown_block(outcome, case), "")]
    lines += [f"- {_plain(f'{m.label}: {m.protocol}')}" for m in outcome.measures]
    lines += [f"- {_plain(f'{name}: {value}')}" for name, value in wording.conditions(outcome)]
    return lines


def blocks(outcome: Outcome) -> list[str]:
    """Return the names of the cases, and "all" where there are several."""
    return [shown.name for shown in outcome.shown] + [ALL] * (len(outcome.shown) > 1)


def _block(outcome: Outcome, case: str) -> Iterator[str]:
    yield from _wrapped(_about(outcome, case), "")
    names = wording.labels(outcome)
    columns = [
        [_heading(measure), *(_cell(outcome, case, name, measure) for name in names)] for measure in outcome.measures
    ]
    for part in _fitting(names, columns, 8):
        measures = [outcome.measures[at] for at in part]
        headings = ["method", *(_heading(measure) for measure in measures), "s"]
        yield from _aligned(headings, [_line(outcome, case, name, measures) for name in names])


def _fitting(names: Sequence[str], columns: Sequence[Sequence[str]], besides: int) -> Iterator[list[int]]:
    """Split columns, given by their texts, so that each part fits the terminal; yield their numbers."""
    room = _WIDTH - len(_GAP) - max(len(name) for name in ("method", *names)) - besides
    part: list[int] = []
    left = room
    for at, column in enumerate(columns):
        width = len(_GAP) + max(len(text) for text in column)
        if part and width > left:
            yield part
            part, left = [], room
        part.append(at)
        left -= width
    yield part


def _line(outcome: Outcome, case: str, method: str, measures: Sequence[Measure]) -> Line:
    reason = failure(outcome, case, method)
    if reason:
        return method, [], reason
    return method, [*(_cell(outcome, case, method, m) for m in measures), _seconds(outcome, case, method)], ""


def failure(outcome: Outcome, case: str, method: str) -> str:
    """Return why a method has no numbers of a case, or of all of them, or nothing."""
    if case != ALL:
        message = outcome.cell(case, method).message
        return f"failed: {message}" if message else ""
    failed = [shown.name for shown in outcome.shown if outcome.cell(shown.name, method).message]
    return f"failed on {', '.join(failed)}" if failed else ""


def seconds(outcome: Outcome, case: str, method: str) -> float:
    """Return the seconds of an image, or their mean over all cases."""
    names = [shown.name for shown in outcome.shown] if case == ALL else [case]
    times = [outcome.cell(name, method).seconds for name in names]
    return math.fsum(times) / len(times)


def duration(value: float) -> str:
    """Return seconds in few digits."""
    if math.isnan(value):
        return "-"
    return f"{value:.0f}" if value >= 99.5 else f"{value:.3g}" if value >= 9.95 else f"{value:.2g}"


def _seconds(outcome: Outcome, case: str, method: str) -> str:
    return duration(seconds(outcome, case, method))


def _cell(outcome: Outcome, case: str, method: str, measure: Measure) -> str:
    """Return mean and interval, with a star before the best."""
    row, places = outcome.row(case, method, measure.name), wording.decimals(outcome, measure.name)
    star = "*" if outcome.best(case, measure.name) == method else " "
    return f"{star}{wording.number(row.mean, places)} {wording.ends(row, places)}".rstrip()


def _heading(measure: Measure) -> str:
    return f" {wording.titled(measure)}"  # over the number, not the star


def _aligned(headings: Sequence[str], lines: Sequence[Line]) -> Iterator[str]:
    """Yield lines in columns; the reason of a failure runs on instead of its numbers."""
    known = [[name, *cells] for name, cells, _ in lines if cells]
    widths = [max(len(row[i]) for row in (headings, *known)) for i in range(len(headings))]
    widths[0] = max(len(name) for name in (headings[0], *(name for name, _, _ in lines)))
    yield _GAP + _GAP.join(cell.ljust(width) for cell, width in zip(headings, widths, strict=True))
    for name, cells, reason in lines:
        if cells:
            yield _GAP + _GAP.join(cell.ljust(width) for cell, width in zip((name, *cells), widths, strict=True))
        else:
            yield from _wrapped(reason, f"{_GAP}{name.ljust(widths[0])}{_GAP} ")


def _about(outcome: Outcome, case: str) -> str:
    if case == ALL:
        return f"{ALL}: mean of {len(outcome.shown)} cases"
    shown = next(one for one in outcome.shown if one.name == case)
    parts = [shown.about, f"reference: {shown.kind}", shown.region and f"where: {shown.region}"]
    return f"{case}: {'; '.join(part for part in parts if part)}"


def _changes(outcome: Outcome) -> Iterator[str]:
    """Yield the changes from the baseline with their paired intervals."""
    baseline, *others = wording.labels(outcome)
    cells = {name: [_change(outcome, name, measure) for measure in outcome.measures] for name in others}
    if all(cell == "-" for row in cells.values() for cell in row):
        return
    paired = wording.counted(len(outcome.shown), "case") if len(outcome.shown) > 1 else "noise draws"
    yield f"change from {baseline}, paired over {paired}"
    columns = [[m.label, *(cells[name][at] for name in others)] for at, m in enumerate(outcome.measures)]
    for part in _fitting(others, columns, 0):
        lines = [(name, [cells[name][at] for at in part], "") for name in others]
        yield from _aligned(["method", *(outcome.measures[at].label for at in part)], lines)
    yield ""


def _change(outcome: Outcome, method: str, measure: Measure) -> str:
    found = wording.change(outcome, method, measure.name)
    if found is None:
        return "-"
    count = wording.compared(outcome, method, measure.name)
    return wording.signed(found) + (f" ({wording.counted(count, 'case')})" if count < len(outcome.shown) else "")


def _headlines(outcome: Outcome) -> Iterator[str]:
    for measure in outcome.measures:
        yield from _wrapped(wording.headline(outcome, measure), "")


def _conditions(outcome: Outcome) -> Iterator[str]:
    yield "* best mean; brackets: 95 % intervals"
    for measure in outcome.measures:
        yield from _wrapped(f"{measure.protocol}; {wording.DIRECTION[measure.better]}", f"{measure.label}: ")
    for entrant in outcome.entrants:
        words = "; ".join(part for part in (entrant.label, entrant.tuning, entrant.note) if part)
        yield from _wrapped(words, f"{entrant.name}: ")
    for name, value in wording.conditions(outcome):
        yield from _wrapped(value, f"{name}: ")
    for note in outcome.notes:
        yield from _wrapped(note, "note: ")


def _wrapped(text: str, start: str) -> list[str]:
    """Break a text into lines, those after the first indented."""
    return textwrap.wrap(
        start + text, _WIDTH, subsequent_indent=2 * _GAP, break_long_words=False, break_on_hyphens=False
    )


def _markdown_block(outcome: Outcome, case: str) -> Iterator[str]:
    yield f"**{_plain(_about(outcome, case))}**"
    yield ""
    headings = ["method", *(f"{wording.titled(m)}, {m.better}" for m in outcome.measures), "s"]
    yield _row(headings)
    yield _row(["---"] * len(headings))
    for entrant in outcome.entrants:
        reason = failure(outcome, case, entrant.name)
        cells = [_bold(outcome, case, entrant.name, measure) for measure in outcome.measures]
        cells = [reason, *[""] * (len(cells) - 1)] if reason else cells
        yield _row([entrant.name, *cells, _seconds(outcome, case, entrant.name)])


def _bold(outcome: Outcome, case: str, method: str, measure: Measure) -> str:
    row, places = outcome.row(case, method, measure.name), wording.decimals(outcome, measure.name)
    value = wording.number(row.mean, places)
    value = f"**{value}**" if outcome.best(case, measure.name) == method else value
    return f"{value} {wording.ends(row, places)}".rstrip()


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell if cell == '---' else _plain(cell) for cell in cells)} |"


def _plain(text: str) -> str:
    """Keep a text from being read as a cell's end or as HTML."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
