"""Charts as numbers for SVG: paths, ticks and the marks of intervals; the template draws them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from raymend.comparison.intervals import Mean

WIDTH, HEIGHT = 480, 290  # of a chart, in units that a phone shows at two thirds
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 10, 26, 40
STRIP: Final = 160  # of the dots of a table's row
_INSET: Final = 8

#: Colours told apart by colour-blind readers too; after the last they begin again, dashed.
COLOURS: Final = 7


@dataclass(frozen=True, kw_only=True)
class Line:
    """Values along an axis, under a name.

    Args:
        name: of the method.
        style: number of its colour, -1 for the reference.
        x: positions.
        y: values.
        drawn: whether it is drawn before a reader asks for it.
    """

    name: str
    style: int
    x: Sequence[float]
    y: Sequence[float]
    drawn: bool = True


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A line as SVG."""

    name: str
    style: int
    path: str
    drawn: bool


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A chart as SVG: lines, and ticks at their places."""

    lines: tuple[Drawn, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    x_label: str
    y_label: str
    left: int = _LEFT
    right: int = WIDTH - _RIGHT
    top: int = _TOP
    bottom: int = HEIGHT - _BOTTOM


@dataclass(frozen=True, kw_only=True)
class Dots:
    """A row of the table as SVG: the mean, its interval, and the cases, at their places."""

    mean: float | None
    low: float | None
    high: float | None
    cases: tuple[float, ...]


def chart(lines: Sequence[Line], *, x_label: str, y_label: str, from_zero: bool = False) -> Chart:
    """Lay out lines on common axes; what is not drawn at first does not stretch them."""
    counted = [line for line in lines if line.drawn] or list(lines)
    xs = min(min(line.x) for line in counted), max(max(line.x) for line in counted)
    low, high = min(min(line.y) for line in counted), max(max(line.y) for line in counted)
    ys = _wide(0.0 if from_zero else low - 0.04 * (high - low), high + 0.04 * (high - low))
    return Chart(
        lines=tuple(
            Drawn(name=line.name, style=line.style, path=_path(line, xs, ys), drawn=line.drawn) for line in lines
        ),
        x_ticks=tuple((_at(x, xs, _LEFT, WIDTH - _RIGHT), _word(x)) for x in ticks(*xs)),
        y_ticks=tuple((_at(y, ys, HEIGHT - _BOTTOM, _TOP), _word(y)) for y in ticks(*ys)),
        x_label=x_label,
        y_label=y_label,
    )


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Return round numbers between two ends."""
    if not high > low:
        return [low]
    rough = (high - low) / most
    scale = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * scale for factor in (1, 2, 5, 10) if factor * scale >= rough)
    return [round(k * step, 12) for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def strip(found: Sequence[tuple[Mean, Sequence[float]]]) -> tuple[list[Dots], tuple[tuple[float, str], ...]]:
    """Lay out means with intervals, and the numbers of their cases, on one axis; return its ticks too.

    Args:
        found: for each row, mean and interval, and the means of the cases.
    """
    numbers = [n for mean, cases in found for n in (mean.mean, mean.low, mean.high, *cases) if math.isfinite(n)]
    if not numbers:
        return [Dots(mean=None, low=None, high=None, cases=()) for _ in found], ()
    ends = _wide(min(numbers), max(numbers))

    def at(value: float) -> float | None:
        return _at(value, ends, _INSET, STRIP - _INSET) if math.isfinite(value) else None

    dots = [
        Dots(mean=at(m.mean), low=at(m.low), high=at(m.high), cases=tuple(x for c in cases if (x := at(c)) is not None))
        for m, cases in found
    ]
    return dots, tuple((_at(x, ends, _INSET, STRIP - _INSET), _word(x)) for x in ticks(*ends, most=4))


def _wide(low: float, high: float) -> tuple[float, float]:
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _at(value: float, ends: tuple[float, float], first: float, last: float) -> float:
    low, high = _wide(*ends)
    return round(first + (value - low) / (high - low) * (last - first), 1)


def _path(line: Line, xs: tuple[float, float], ys: tuple[float, float]) -> str:
    points = [
        f"{_at(x, xs, _LEFT, WIDTH - _RIGHT):g} {_at(y, ys, HEIGHT - _BOTTOM, _TOP):g}"
        for x, y in zip(line.x, line.y, strict=True)
    ]
    return "M" + "L".join(points)


def _word(value: float) -> str:
    return f"{value:g}".replace("-", "−")
