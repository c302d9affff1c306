"""Numbers of one image under the setup's protocol, and how that protocol is printed."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from torch import Tensor

from raymend.comparison.cases import Prepared
from raymend.comparison.outcome import Measure, Shown
from raymend.comparison.setup import WINDOWED, Setup
from raymend.comparison.task import TASK_MEASURES, protocol
from recon.metrics import CONSISTENCY, FIDELITY, Metric, Protocol

_RANGE: Final = 2000.0  # HU; of metrics that do not depend on it, for which a protocol asks all the same
_METRICS: Final[dict[str, Metric]] = {**FIDELITY, **CONSISTENCY}


def fidelity(setup: Setup) -> list[str]:
    """Return the metrics that compare single images with the reference."""
    return [name for name in setup.metrics if name in _METRICS]


def score(name: str, image: Tensor, prepared: Prepared, setup: Setup) -> float:
    """Return one metric of one image."""
    return _METRICS[name](image, prepared.reference, _protocol(name, setup, prepared.kind, prepared.mask))


def measures(setup: Setup, shown: Sequence[Shown]) -> tuple[Measure, ...]:
    """Return the metrics as printed, with what all cases have in common of their protocol."""
    return tuple(_measure(name, setup, shown) for name in setup.metrics)


def _measure(name: str, setup: Setup, shown: Sequence[Shown]) -> Measure:
    if name in TASK_MEASURES:
        return replace(TASK_MEASURES[name], protocol=protocol(name, setup))
    metric = _METRICS[name]
    kinds = sorted({one.kind for one in shown})
    regions = sorted({one.region or "whole image" for one in shown})
    under = _protocol(name, setup, kinds[0], None)
    words = under.conditions.described(metric.note(under)).rpartition(", reference:")[0]
    text = f"{words}, {' or '.join(regions)}, reference: {' or '.join(kinds)}"
    unit, better = metric.unit_under(under), metric.better
    return Measure(name=name, label=metric.label, unit=unit, better=better, protocol=text)


def _protocol(name: str, setup: Setup, kind: str, mask: Tensor | None) -> Protocol:
    if name in WINDOWED:
        return Protocol(reference=kind, window=setup.limits, mask=mask)  # type: ignore[arg-type]
    return Protocol(reference=kind, data_range=_RANGE, mask=mask)  # type: ignore[arg-type]
