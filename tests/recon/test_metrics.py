import math

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from recon.errors import ConfigError, CTError, NumericalError, ShapeError
from recon.metrics import FIDELITY, Protocol, correlation, matthews, psnr, rmse, ssim
from recon.random import generator
from recon.units import to_hu


def image(*shape, seed=0, scale=400.0):
    return scale * torch.rand(*shape, generator=generator(seed), dtype=torch.float64)


PROTOCOL = Protocol(data_range=400.0)


@pytest.mark.parametrize("metric", FIDELITY.values(), ids=FIDELITY)
class TestEveryMetric:
    def test_prefers_equal_images(self, metric):
        x = image(16, 20)
        same, other = metric(x, x, PROTOCOL), metric(x + image(16, 20, seed=1), x, PROTOCOL)
        assert same < other if metric.better == "lower" else same > other

    def test_gets_worse_with_noise(self, metric):
        x, noise = image(24, 24), image(24, 24, seed=3) - 200
        worse = [metric(x + level * noise, x, PROTOCOL) for level in (0.01, 0.1, 1.0)]
        assert worse == sorted(worse, reverse=metric.better == "higher")

    def test_is_symmetric(self, metric):
        x, y = image(12, 13), image(12, 13, seed=1)
        assert metric(x, y, PROTOCOL) == pytest.approx(metric(y, x, PROTOCOL), rel=1e-12)

    @pytest.mark.parametrize("shape", [(1, 1), (3, 2), (1, 1, 40), (15, 15)])
    @pytest.mark.parametrize("value", [0.0, 7.0])
    def test_is_defined_for_constant_images(self, metric, shape, value):
        x = torch.full(shape, value)
        for y in (x, x + 5, image(*shape).float()):
            assert not math.isnan(metric(x, y, PROTOCOL))

    def test_looks_only_at_the_mask(self, metric):
        x, y = image(1, 30, 30), image(1, 30, 30, seed=1)
        mask = torch.zeros(30, 30, dtype=torch.bool)
        mask[8:15, 8:15] = True
        protocol = Protocol(data_range=400.0, mask=mask)
        changed = y.clone()
        changed[0, 21:, 21:] = 1e4
        assert metric(x, changed, protocol) == pytest.approx(metric(x, y, protocol), rel=1e-12)

    def test_clips_to_the_window_first(self, metric):
        x, y = image(12, 12), image(12, 12, seed=1)
        windowed = Protocol(window=(100.0, 300.0))
        assert windowed.range == 200.0
        plain = metric(x.clamp(100, 300), y.clamp(100, 300), Protocol(data_range=200.0))
        assert metric(x, y, windowed) == plain

    def test_refuses_what_it_cannot_judge(self, metric):
        x = image(5, 5)
        with pytest.raises(ShapeError, match="equal shapes"):
            metric(x, image(5, 6), PROTOCOL)
        with pytest.raises(NumericalError, match="reference"):
            metric(x, x / 0, PROTOCOL)
        with pytest.raises(CTError, match="expected"):
            metric(x.half(), x.half(), PROTOCOL)

    def test_leaves_its_input_alone(self, metric):
        x, y = image(12, 12), image(12, 12, seed=1)
        before = x.clone(), y.clone()
        metric(x, y, Protocol(window=(100.0, 300.0)))
        assert torch.equal(x, before[0])
        assert torch.equal(y, before[1])


def test_rmse_has_the_closed_form():
    x = torch.tensor([[0.0, 3.0], [4.0, 0.0]])
    assert rmse(x, torch.zeros(2, 2)) == 2.5
    # 0.001/mm on water of 0.0192/mm is 52.08 HU
    assert rmse(to_hu(torch.full((4,), 0.0202)), to_hu(torch.full((4,), 0.0192))) == pytest.approx(52.083, rel=1e-4)


@pytest.mark.parametrize("shape", [(40, 37), (11, 11), (64, 12)])
def test_ssim_and_psnr_agree_with_scikit_image(shape):
    x, y = image(*shape), image(*shape) + 0.3 * image(*shape, seed=1)
    expected = structural_similarity(
        x.numpy(), y.numpy(), data_range=400.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert ssim(x, y, data_range=400.0) == pytest.approx(expected, abs=1e-6)
    assert psnr(x, y, data_range=400.0) == pytest.approx(
        peak_signal_noise_ratio(x.numpy(), y.numpy(), data_range=400.0), abs=1e-9
    )


def test_ssim_of_a_volume_is_the_mean_of_its_slices_or_slides_a_cube():
    x, y = image(13, 20, 19), image(13, 20, 19, seed=1)
    slices = np.mean([ssim(a, b, data_range=400.0) for a, b in zip(x, y, strict=True)])
    assert ssim(x, y, data_range=400.0) == pytest.approx(slices, abs=1e-12)
    cube = structural_similarity(
        x.numpy(), y.numpy(), data_range=400.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert ssim(x, y, data_range=400.0, dimensions=3) == pytest.approx(cube, abs=1e-6)


def test_ssim_in_hu_survives_float32():
    x = (image(32, 32) + 1000).float()
    noisy = x + 20 * torch.randn(32, 32, generator=generator(1))
    assert ssim(noisy, x, data_range=400.0) == pytest.approx(ssim(noisy.double(), x.double(), data_range=400.0), abs=0)


def test_ssim_depends_on_the_range_and_so_asks_for_it():
    x = image(20, 20)
    y = x + 30 * torch.randn(20, 20, generator=generator(1), dtype=torch.float64)
    assert ssim(x, y, data_range=4095.0) > ssim(x, y, data_range=80.0)
    with pytest.raises(TypeError, match="data_range"):
        ssim(x, y)
    for bad in (0.0, -1.0, float("nan")):
        with pytest.raises(ConfigError, match="data_range"):
            ssim(x, y, data_range=bad)


def test_psnr_of_equal_images_is_infinite():
    assert psnr(image(3, 3), image(3, 3), data_range=1.0) == math.inf


def test_correlation_ignores_scale_and_offset():
    x = image(9, 9)
    assert correlation(x, 3 * x + 2) == pytest.approx(1.0, abs=1e-12)
    assert correlation(x, -x) == pytest.approx(-1.0, abs=1e-12)
    assert correlation(x, torch.ones_like(x)) == 0.0
    assert correlation(torch.ones_like(x), torch.ones_like(x)) == 1.0


def test_matthews_has_the_closed_form():
    truth = torch.tensor([1, 1, 1, 1, 0, 0, 0, 0, 0, 0], dtype=torch.bool)
    found = torch.tensor([1, 1, 1, 0, 1, 0, 0, 0, 0, 0], dtype=torch.bool)
    tp, tn, fp, fn = 3, 5, 1, 1
    expected = (tp * tn - fp * fn) / math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    assert matthews(found, truth) == pytest.approx(expected, abs=1e-12)
    assert matthews(truth, truth) == pytest.approx(1.0)
    assert matthews(~truth, truth) == pytest.approx(-1.0)
    assert matthews(torch.zeros_like(truth), truth) == 0.0
    with pytest.raises(ShapeError, match="booleans"):
        matthews(truth.float(), truth)
    with pytest.raises(ShapeError, match="equal shapes"):
        matthews(truth[:3], truth)


def test_a_protocol_says_what_a_number_rests_on():
    mask = torch.ones(2, 2, dtype=torch.bool)
    protocol = Protocol(window=(-160.0, 240.0), mask=mask)
    assert str(protocol) == "window [-160, 240] HU, data range 400 HU, 2-D, 4 voxels of a mask"
    assert FIDELITY["rmse"].unit_under(protocol) == "HU"
    assert FIDELITY["psnr"].unit_under(protocol) == "dB"


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({}, "data_range"),
        ({"data_range": 0.0}, "data_range"),
        ({"window": (3.0, 3.0)}, "window"),
        ({"data_range": 1.0, "dimensions": 4}, "dimensions"),
    ],
)
def test_a_protocol_refuses_what_means_nothing(settings, word):
    with pytest.raises(ConfigError, match=word):
        Protocol(**settings)


@pytest.mark.parametrize("mask", [torch.zeros(3, 3, dtype=torch.bool), torch.ones(3, 3), torch.ones(2, 3) > 0])
def test_a_mask_must_fit_and_hold_something(mask):
    with pytest.raises(ShapeError, match="mask"):
        rmse(image(3, 3), image(3, 3), mask=mask)
