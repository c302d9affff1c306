"""Several metrics of one image under one protocol."""

from collections.abc import Sequence

from torch import Tensor

from recon import checks
from recon.errors import ConfigError
from recon.metrics.fidelity import FIDELITY
from recon.metrics.metric import Metric, Protocol
from recon.metrics.score import Score


def evaluate(
    x: Tensor,
    reference: Tensor,
    protocol: Protocol,
    *,
    metrics: Sequence[str | Metric] = ("rmse", "psnr", "ssim", "fsim"),
) -> tuple[Score, ...]:
    """Judge an image by several metrics; `Score.row` of each is the row of a table.

    Args:
        x: image to judge.
        reference: what it should be.
        protocol: what the numbers rest on.
        metrics: names from `FIDELITY`, or metrics.

    Returns:
        One score per metric, in their order.

    Raises:
        ConfigError: an unknown metric, none at all, no protocol, or one without what a metric needs.
        ShapeError: shapes that differ, or an image too small for a metric.
        NumericalError: NaN or Inf in an image.
    """
    if not isinstance(protocol, Protocol):
        raise ConfigError(f"protocol: expected a Protocol, without which no number means anything, got {protocol!r}")
    if isinstance(metrics, str) or not metrics:
        raise ConfigError(f"metrics: expected a sequence of names such as ('rmse', 'ssim'), got {metrics!r}")
    return tuple(_named(metric).score(x, reference, protocol) for metric in metrics)


def _named(metric: str | Metric) -> Metric:
    return metric if isinstance(metric, Metric) else FIDELITY[checks.choice("metrics", metric, tuple(FIDELITY))]
