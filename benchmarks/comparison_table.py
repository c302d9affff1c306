"""The part of RESULTS.md that `comparisons.py` fills."""

from collections.abc import Iterator
from typing import Any

TEXT = """# Comparisons

Written by `benchmarks/comparisons.py`. Each table is what the command above it prints, run where the data are; it
writes figures and a report, too. Numbers are means with 95 % intervals; settings were tuned with equal
budgets on cases apart from those tested. Times are for one image and hold for the machine at that moment only.
"""


def lines(rows: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of all comparisons."""
    yield from TEXT.splitlines()
    for row in rows.values():
        yield from ("", f"## {row['title']}", "", "```bash", row["command"], "```", "")
        yield f"{row['date']}, {row['processor']}, {row['cores']} cores, {row['seconds']} s."
        yield ""
        yield from row["table"]
        for case, method, reason in row["failures"]:
            yield f"- {method} on {case}: {reason}"
