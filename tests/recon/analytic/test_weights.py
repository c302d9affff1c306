"""The weights that make every ray count once."""

import math
from dataclasses import replace

import pytest
import torch

from recon.analytic.filters import filter_rows, ramp_response, window_values
from recon.analytic.weights import redundancy
from recon.geometry import ConeBeam, Detector, ParallelBeam
from recon.geometry.coverage import coverage


def short_scan(extra: float = 0.0, views: int = 1440, curve: str = "arc") -> ConeBeam:
    detector = Detector(shape=(1, 41), pitch=(10, 10), curve=curve)
    needed = math.pi + 2 * 205 / 1000
    return ConeBeam.circular(
        views, detector=detector, source_to_axis=500, source_to_detector=1000, arc=needed + extra, start=0.7
    )


@pytest.mark.parametrize("extra", [0.0, 0.4, 1.5])
def test_parker_weights_sum_to_a_half_turn_along_each_column(extra: float) -> None:
    """Column c and its opposite together cover every direction once: within 0.2 %."""
    sums = redundancy(short_scan(extra))[:, 0].sum(0)
    assert torch.allclose((sums + sums.flip(0)) / 2, torch.full_like(sums, math.pi), rtol=2e-3)


def test_a_parker_weight_and_that_of_the_opposite_ray_sum_to_one() -> None:
    geometry = short_scan(0.3)
    step = geometry.angles[1] - geometry.angles[0]
    weights = redundancy(geometry)[:, 0] / step
    fan = geometry.fan_angles()
    for column in (0, 7, 20, 33, 40):
        for view in (0, 100, 300):
            opposite = view + (math.pi - 2 * float(fan[column])) / step
            low = int(opposite)
            if low + 1 >= len(geometry):
                continue
            other = torch.lerp(weights[low, 40 - column], weights[low + 1, 40 - column], opposite - low)
            assert float(weights[view, column] + other) == pytest.approx(1, abs=2e-3)


def test_steps_of_a_closed_circle_sum_to_the_circle() -> None:
    uneven = (0.0, 0.1, 0.3, 0.9, 1.5, 2.2, 2.9)
    assert float(coverage(uneven, half_turn=True).steps.sum()) == pytest.approx(math.pi)
    assert float(coverage((*uneven, math.pi), half_turn=True).steps.sum()) == pytest.approx(math.pi)


def test_a_full_parallel_turn_counts_each_line_once() -> None:
    geometry = ParallelBeam.circular(60, detector=Detector(shape=(1, 5)), arc=2 * math.pi)
    assert float(redundancy(geometry)[:, 0, 0].sum()) == pytest.approx(math.pi)


def test_offset_weights_and_their_mirror_sum_to_one() -> None:
    detector = Detector(shape=(1, 30), pitch=(10, 10), offset=(0, 100))
    geometry = ConeBeam.circular(36, detector=detector, source_to_axis=500, source_to_detector=1000)
    weights = redundancy(geometry)[0, 0] / (2 * math.pi / 36)
    assert torch.allclose(weights[:10] + weights[:10].flip(0), torch.ones(10, dtype=torch.float64))
    assert torch.allclose(weights[10:], torch.ones(20, dtype=torch.float64))


def test_the_ramp_has_the_analytic_dc_value() -> None:
    """The band-limited ramp's sum is not zero on a finite row; a frequency-sampled one's would be (Kak and Slaney)."""
    response = ramp_response(256, 0.5)
    assert 0 < float(response[0]) < 1e-2 * float(response[-1])
    assert float(response[-1]) == pytest.approx(1.0, rel=1e-3)  # 1 / (2 pitch)


def test_filtering_does_not_wrap_around() -> None:
    row = torch.zeros(64, dtype=torch.float64)
    row[0] = 1.0
    filtered = filter_rows(row, ramp_response(64, 1.0))
    expected = torch.tensor(
        [0.25] + [-1 / (math.pi * n) ** 2 if n % 2 else 0.0 for n in range(1, 64)], dtype=torch.float64
    )
    assert torch.allclose(filtered, expected, atol=1e-12)


def test_windows_start_at_one_and_end_at_the_cutoff() -> None:
    for name in ("ram-lak", "shepp-logan", "cosine", "hamming", "hann"):
        values = window_values(name, 0.5, 101)
        assert float(values[0]) == pytest.approx(1.0)
        assert float(values[51:].abs().max()) == 0.0


def uneven(case: str) -> list[float]:
    rng = torch.Generator().manual_seed(3)
    return {
        "pairs": [math.radians(i + e) for i in range(180) for e in (0, 0.02)],
        "360 at random": (math.pi * torch.rand(360, generator=rng, dtype=torch.float64)).tolist(),
        "60 at random": (math.pi * torch.rand(60, generator=rng, dtype=torch.float64)).tolist(),
        "dwell, then steps": [math.radians(a) for a in [*(i / 10 for i in range(200)), *range(20, 180, 2)]],
        "golden angle": [(i * math.pi * (math.sqrt(5) - 1) / 2) for i in range(100)],
        "three": [0.0, math.pi / 3, 2 * math.pi / 3],
    }[case]


@pytest.mark.parametrize(
    "case", ["pairs", "360 at random", "60 at random", "dwell, then steps", "golden angle", "three"]
)
def test_uneven_views_close_the_circle(case: str) -> None:
    found = coverage(uneven(case), half_turn=True)
    assert found.full
    assert float(found.steps.sum()) == pytest.approx(math.pi)


@pytest.mark.parametrize(("views", "share"), [(5, 0.5), (20, 0.8), (60, 0.95), (360, 0.98), (720, 0.9)])
def test_an_arc_does_not_close_the_circle(views: int, share: float) -> None:
    assert not coverage([share * math.pi * i / views for i in range(views)], half_turn=True).full


def test_a_detector_that_shares_less_than_a_column_has_weights() -> None:
    detector = Detector(shape=(1, 9), pitch=(1.0, 1.4), offset=(0.0, 5.1))
    for curve in ("flat", "arc"):
        beam = ConeBeam.circular(4, detector=replace(detector, curve=curve), source_to_axis=30, source_to_detector=47)
        weights = redundancy(beam) / (2 * math.pi / 4)
        assert bool(((weights >= 0) & (weights <= 1 + 1e-12)).all())
        assert float(weights.amax()) == pytest.approx(1)
