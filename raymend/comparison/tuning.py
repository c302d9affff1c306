"""Equal tuning: every method with a strength tries as many of them on the same cases, apart from those of the test."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from raymend.comparison.cases import Case
from raymend.comparison.job import Job
from raymend.comparison.methods import Method, candidates
from raymend.comparison.outcome import Cell
from raymend.comparison.setup import Setup
from recon.errors import ConfigError

_APART: Final = 10_000  # between the seeds of test and tuning noise


def check_apart(methods: Sequence[Method], cases: Sequence[Case], tuning: Sequence[Case]) -> None:
    """Refuse patients of the test that settings or networks have seen.

    Raises:
        ConfigError: naming the case, and who has seen it.
    """
    for case in (*cases, *tuning):
        seen = [method.name for method in methods for patient in case.patients if method.trained(patient)]
        if seen:
            raise ConfigError(
                f"cases: expected patients that no network was trained on, got {case.name}, which {', '.join(seen)} "
                "has seen in training; take another patient, or leave the method out"
            )
    chosen_on = {patient: case.name for case in tuning for patient in case.patients}
    for case in cases:
        for patient in sorted(case.patients):
            if patient in chosen_on:
                raise ConfigError(
                    f"cases: expected patients apart from the tuning cases, got {case.name}, which is tuning case "
                    f"{chosen_on[patient]}; take another, or other tuning cases"
                )


def tuned(method: Method, setup: Setup) -> bool:
    """Tell whether a method has a strength that is chosen on tuning cases."""
    return method.tuning == "strength" and setup.budget > 1 and not method.missing()


def jobs_of(method: Method, cases: Iterable[Case], setup: Setup) -> list[Job]:
    """Return the jobs that choose a method's strength."""
    alike = replace(setup, draws=1, seed=setup.seed + _APART, metrics=("rmse",))
    return [
        Job(case=case, method=method, strength=strength, setup=alike, pictures=False)
        for case in cases
        if case.projections or method.needs == "image"
        for strength in candidates(setup.budget)
    ]


def best(jobs: Iterable[Job], cells: Mapping[str, Cell]) -> float | None:
    """Return the strength of the least error over the cases, or None where none has numbers for all.

    Errors of cases differ in size, so that their logarithms are averaged: equal shares count alike.
    """
    errors: dict[float, list[float]] = {}
    for job in jobs:
        values = cells[job.key].values.get("rmse", ())
        errors.setdefault(job.strength, []).extend(values or (math.nan,))
    means = {s: math.fsum(map(_log, found)) / len(found) for s, found in errors.items()}
    valid = {strength: mean for strength, mean in means.items() if not math.isnan(mean)}
    return min(valid, key=lambda strength: valid[strength]) if valid else None


def words(method: Method, setup: Setup, strength: float | None, cases: int) -> str:
    """Say how the settings of a method were chosen."""
    if method.tuning == "none":
        return "nothing to choose"
    if method.tuning == "self":
        return "chosen on each scan by SURE, without the truth"
    if strength is None:
        return "strength 1, not tuned" + (": it gives nothing on the tuning cases" if tuned(method, setup) else "")
    tried = candidates(setup.budget)
    edge = ", at the end of the range" if strength in (tried[0], tried[-1]) else ""
    on = f"{cases} tuning case{'s' if cases > 1 else ''}"
    return f"strength {strength:.3g} of {len(tried)} from {tried[0]:.3g} to {tried[-1]:.3g}, on {on}{edge}"


def _log(error: float) -> float:
    return math.log(max(error, 1e-12)) if not math.isnan(error) else math.nan
