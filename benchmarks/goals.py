"""What the times should reach, and whether they do: computed from the rows of one run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LEVELS = ("floor", "goal", "stretch")
HEAD = ("what", "measured", *LEVELS, "reached")
TEXT = """## Goals

Computed from the rows below. `× peer` is the peer's wall time over raymend's; times and ratios are wall times and hold
on a quiet machine.
"""

Rows = Mapping[tuple[str, str, str], Any]


class MissingError(LookupError):
    """A row that a goal needs was not measured."""


@dataclass(frozen=True, kw_only=True)
class Goal:
    """A number read from the rows and up to three levels for it; None for a level that is not set."""

    what: str
    unit: str
    levels: tuple[float | None, float | None, float | None]
    read: Callable[[Rows], float]
    most: bool = False  # the levels are upper bounds

    def reached(self, value: float) -> str:
        """Name the highest level that a value reaches."""
        named = [(name, level) for name, level in zip(LEVELS, self.levels, strict=True) if level is not None]
        met = [name for name, level in named if (value < level if self.most else value >= level)]
        return met[-1] if met else "**below the floor**" if not self.most else "**above the floor**"


def number(rows: Rows, workload: str, task: str, field: str) -> float:
    """Read a number of one of raymend's rows."""
    value = getattr(rows.get((workload, task, "raymend")), field, None)
    if value is None:
        raise MissingError(f"no {workload} {task}")
    return float(value)


def rate(workload: str, task: str, *levels: float) -> Goal:
    """Want updates per second."""
    return Goal(
        what=f"{workload} {task}",
        unit="GUPS",
        levels=_three(levels),
        read=lambda rows: number(rows, workload, task, "gups"),
    )


def faster(workload: str, task: str, tool: str, *levels: float) -> Goal:
    """Want raymend to be some times faster than a peer; a name that ends in * stands for the fastest of several."""
    family = tool.rstrip("* ")
    several = tool.endswith("*")

    def read(rows: Rows) -> float:
        number(rows, workload, task, "wall")
        measured = [
            row.wall_ratio
            for (*where, name), row in rows.items()
            if where == [workload, task] and (name == tool or (several and name.startswith(family)))
        ]
        ratios = [float(ratio) for ratio in measured if ratio is not None]
        if not ratios:
            raise MissingError(f"no {workload} {task} by {family}")
        return min(ratios)

    unit = f"× fastest {family}" if several else f"× {tool}"
    return Goal(what=f"{workload} {task}", unit=unit, levels=_three(levels), read=read)


def _three(levels: Sequence[float]) -> tuple[float | None, float | None, float | None]:
    first, second, third = (*levels, None, None)[:3]
    return first, second, third


def longer(task: str, than: str) -> Callable[[Rows], float]:
    return lambda rows: number(rows, "start", task, "wall") - number(rows, "start", than, "wall")


GOALS = (
    rate("W1", "forward", 2, 2.5, 5),
    faster("W1", "forward", "ASTRA line", 15, 20, 40),
    rate("W1", "adjoint", 0.6, 1, 1.5),
    faster("W1", "adjoint", "ASTRA line", 6, 11, 16),
    rate("W2", "forward", 6, 7, 12),
    faster("W2", "forward", "ASTRA matrix", 4),
    rate("W2", "adjoint", 3.5, 4.5, 8),
    faster("W2", "adjoint", "ASTRA matrix", 4),
    rate("W3", "backprojection", 2.5, 3.5, 6),
    faster("W3", "FDK", "RTK", 15, 25, 40),
    faster("W3", "forward", "RTK Joseph", 8, 15, 25),
    faster("W3", "adjoint", "RTK Joseph", 10, 20, 35),
    faster("W4", "FBP", "ASTRA*", 8, 12, 20),
    faster("W4", "FBP", "scikit-image", 8, 12, 20),
    Goal(
        what="W4 FBP, the ball where all views see it",
        unit="dB PSNR",
        levels=(49.2, None, None),
        read=lambda rows: number(rows, "W4", "FBP", "psnr"),
    ),
    faster("W1", "SIRT, an iteration", "ASTRA line", 8, 12, 20),
    Goal(
        what="raymend demo with nothing compiled, all in all",
        unit="s",
        levels=(15, None, None),
        read=lambda rows: number(rows, "start", "raymend demo, nothing cached", "wall"),
        most=True,
    ),
    Goal(
        what="first calls from a warm cache, beyond import",
        unit="s",
        levels=(1, None, None),
        read=longer("first calls, all cached", "import recon, a process"),
        most=True,
    ),
    Goal(
        what="import recon",
        unit="s",
        levels=(1.5, None, None),
        read=lambda rows: number(rows, "start", "import recon", "wall"),
        most=True,
    ),
)


def worst_gap(rows: Rows) -> float:
    """Return the largest adjoint gap of raymend's pairs in single precision."""
    gaps = [row.gap for (_, task, tool), row in rows.items() if tool == "raymend" and task == "adjoint"]
    if not [gap for gap in gaps if gap is not None]:
        raise MissingError("no adjoint")
    return max(float(gap) for gap in gaps if gap is not None)


def per_forward(rows: Rows) -> float:
    return number(rows, "W3", "gradient to poses", "wall") / number(rows, "W3", "forward", "wall")


GPU_GOALS = (
    rate("C-arm", "backprojection", 400, 600, 900),
    rate("C-arm", "backprojection, half", 500, 700, 1000),
    *(rate(stack, "forward", 800, 1500, 2200) for stack in ("W2", "W2, 128 slices")),
    *(rate(stack, "adjoint", 400, 800, 1200) for stack in ("W2", "W2, 128 slices")),
    *(rate(stack, "adjoint, half", 800, 1500, 2200) for stack in ("W2", "W2, 128 slices")),
    rate("W3", "forward", 250, 450, 600),
    rate("W3", "adjoint", 150, 250, 350),
    *(faster("W1", task, "ASTRA CUDA", 2, 4, 6) for task in ("forward", "adjoint")),
    *(faster("W3", task, "ASTRA CUDA", 2, 4, 6) for task in ("forward", "adjoint", "FDK")),
    Goal(what="adjoint gap, the worst", unit="of |Ax| |y|", levels=(1e-5, 1e-6, None), read=worst_gap, most=True),
    Goal(
        what="W3 gradient to poses", unit="× a forward projection", levels=(4, None, None), read=per_forward, most=True
    ),
)


def judge(rows: Sequence[Any], goals: Sequence[Goal] = GOALS) -> list[tuple[str, ...]]:
    """Return a line of cells for every goal."""
    index = {(row.workload, row.task, row.tool): row for row in rows}
    return [_judged(goal, index) for goal in goals]


def _judged(goal: Goal, rows: Rows) -> tuple[str, ...]:
    levels = ("" if level is None else f"{'< ' * goal.most}{level:g}" for level in goal.levels)
    try:
        value = goal.read(rows)
    except MissingError as reason:
        return goal.what, "", *levels, f"not measured: {reason}"
    return goal.what, f"{value:.3g} {goal.unit}", *levels, goal.reached(value)


def section(rows: Sequence[Any], load: Sequence[float] | None = None) -> str:
    """Write the goals as a section of Markdown; a load average above 1 at the start is said."""
    busy = load is not None and load[0] > 1
    warning = ["**The machine was busy at the start: what wall times say here is not a result.**\n"] if busy else []
    return "\n".join([TEXT, *warning, *lines(judge(rows)), ""])


def lines(judged: Sequence[tuple[str, ...]]) -> list[str]:
    """Write judged goals as a table of Markdown."""
    return ["| " + " | ".join(cells) + " |" for cells in (HEAD, ("---",) * len(HEAD), *judged)]
