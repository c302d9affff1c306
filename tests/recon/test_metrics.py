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


def protocol(**settings):
    return Protocol(**{"reference": "phantom", "window": (0.0, 400.0), **settings})


PROTOCOL = protocol()
SIZES = [(1, 1), (3, 2), (1, 1, 40), (15, 15), (48, 49), (2, 51, 48)]


@pytest.mark.parametrize("metric", FIDELITY.values(), ids=FIDELITY)
class TestEveryMetric:
    def test_prefers_equal_images(self, metric):
        x = image(48, 52)
        same, other = metric(x, x, PROTOCOL), metric(x + image(48, 52, seed=1), x, PROTOCOL)
        assert same < other if metric.better == "lower" else same > other

    def test_gets_worse_with_noise(self, metric):
        x, noise = image(64, 64), image(64, 64, seed=3) - 200
        worse = [metric(x + level * noise, x, PROTOCOL) for level in (0.01, 0.1, 1.0)]
        assert worse == sorted(worse, reverse=metric.better == "higher")

    def test_is_symmetric(self, metric):
        x, y = image(50, 49), image(50, 49, seed=1)
        assert metric(x, y, PROTOCOL) == pytest.approx(metric(y, x, PROTOCOL), rel=1e-12)

    @pytest.mark.parametrize("shape", SIZES)
    @pytest.mark.parametrize("value", [0.0, 7.0])
    def test_is_defined_for_constant_images_or_says_how_large_they_must_be(self, metric, shape, value):
        x = torch.full(shape, value)
        if min(shape[-2:]) < metric.least:
            with pytest.raises(ShapeError, match=f"at least {metric.least} × {metric.least} pixels"):
                metric(x, x, PROTOCOL)
            return
        for y in (x + 5, image(*shape).float()):
            assert not math.isnan(metric(x, y, PROTOCOL))
        assert metric(x, x, PROTOCOL) == {"rmse": 0.0, "psnr": math.inf}.get(metric.name, pytest.approx(1.0, abs=1e-12))

    def test_looks_only_at_the_mask(self, metric):
        x, y = image(1, 60, 60), image(1, 60, 60, seed=1)
        mask = torch.zeros(60, 60, dtype=torch.bool)
        mask[8:15, 8:15] = True
        inside, changed = protocol(mask=mask), y.clone()
        changed[0, 21:, 21:] = 0.0
        # The features of FSIM are found in the whole image: this shifts it by 0.029, and without a mask by 0.25.
        near = {"abs": 0.04} if metric.name == "fsim" else {"rel": 1e-12}
        assert metric(x, changed, inside) == pytest.approx(metric(x, y, inside), **near)
        assert abs(metric(x, changed, PROTOCOL) - metric(x, y, PROTOCOL)) > 0.01

    def test_clips_to_the_window_first(self, metric):
        x, y = image(52, 52), image(52, 52, seed=1)
        windowed = protocol(window=(100.0, 300.0))
        assert windowed.range == 200.0
        assert metric(x, y, windowed) == metric(x.clamp(100, 300), y.clamp(100, 300), windowed)
        assert metric(x, y, windowed) != metric(x, y, PROTOCOL)

    def test_refuses_what_it_cannot_judge(self, metric):
        x = image(50, 50)
        with pytest.raises(ShapeError, match="equal shapes"):
            metric(x, image(50, 56), PROTOCOL)
        for bad in (math.nan, math.inf):
            with pytest.raises(NumericalError, match="reference: expected finite values"):
                metric(x, torch.full_like(x, bad), PROTOCOL)
        with pytest.raises(CTError, match="expected"):
            metric(x.half(), x.half(), PROTOCOL)

    def test_leaves_its_input_alone(self, metric):
        x, y = image(52, 52), image(52, 52, seed=1)
        before = x.clone(), y.clone()
        metric(x, y, protocol(window=(100.0, 300.0)))
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


@pytest.mark.parametrize("shape", [(40, 37), (7, 7), (9, 20, 19)])
def test_ssim_with_a_uniform_kernel_is_the_default_of_scikit_image(shape):
    x, y = image(*shape), image(*shape) + 0.3 * image(*shape, seed=1)
    expected = structural_similarity(x.numpy(), y.numpy(), data_range=400.0)
    found = ssim(x, y, data_range=400.0, dimensions=len(shape), kernel="uniform")
    assert found == pytest.approx(expected, abs=1e-12)
    with pytest.raises(ConfigError, match="kernel: expected one of gaussian, uniform"):
        ssim(x, y, data_range=400.0, kernel="box")


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
    body = Protocol(reference="phantom", window=(-160.0, 240.0), mask=mask, region="body")
    assert str(body) == "window -160..240 HU, 2-D, body of 4 voxels, reference: phantom"
    wide = Protocol(reference="noise-free reconstruction", data_range=2000.0, dimensions=3)
    assert str(wide) == "no window, data range 2000 HU, 3-D, reference: noise-free reconstruction"
    assert FIDELITY["rmse"].unit_under(body) == "HU"
    assert FIDELITY["psnr"].unit_under(body) == "dB"


@pytest.mark.parametrize(("name", "centre", "width"), [("chest", -600, 1500), ("abdomen", 50, 400), ("neuro", 40, 80)])
def test_windows_have_names(name, centre, width):
    named = Protocol(reference="phantom", window=name)
    assert named.limits == (centre - width / 2, centre + width / 2)
    assert named.range == width
    assert named.windowed(torch.tensor([-3000.0, centre, 3000.0])).tolist() == [
        *named.limits[:1],
        centre,
        centre + width / 2,
    ]


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"window": None}, "data_range: expected a number, or a window"),
        ({"data_range": 0.0}, "data_range: expected a number above 0"),
        ({"window": (3.0, 3.0)}, "window: .* low below high"),
        ({"window": (0.0, math.inf)}, "window: expected a finite number"),
        ({"window": 400.0}, "window: expected .low, high. or one of chest, abdomen, neuro, got 400"),
        ({"window": "bone"}, "window: expected one of chest, abdomen, neuro, got 'bone'"),
        ({"window": "chest", "unit": "1/mm"}, "window: expected .low, high. in 1/mm, got 'chest', which is in HU"),
        ({"reference": None}, "reference: expected what images are compared with, one of phantom, noise-free"),
        ({"reference": "truth"}, "reference: .* got 'truth'"),
        ({"dimensions": 4}, "dimensions"),
        ({"region": "body"}, "region: expected a mask for 'body'"),
    ],
)
def test_a_protocol_refuses_what_means_nothing(settings, word):
    with pytest.raises(ConfigError, match=word):
        protocol(**settings)


@pytest.mark.parametrize("mask", [torch.zeros(3, 3, dtype=torch.bool), torch.ones(3, 3), [[True]]])
def test_the_mask_of_a_protocol_holds_something(mask):
    with pytest.raises(ShapeError, match="mask"):
        protocol(mask=mask)


@pytest.mark.parametrize("mask", [torch.zeros(3, 3, dtype=torch.bool), torch.ones(3, 3), torch.ones(2, 3) > 0])
def test_a_mask_must_fit_and_hold_something(mask):
    with pytest.raises(ShapeError, match="mask"):
        rmse(image(3, 3), image(3, 3), mask=mask)


def test_ssim_needs_a_mask_that_fits_and_leaves_its_kernel_room():
    x, rim, thin = image(2, 30, 30), torch.zeros(30, 30, dtype=torch.bool), torch.ones(3, 3, dtype=torch.bool)
    rim[:5] = True
    with pytest.raises(ShapeError, match="mask: expected a True that half a kernel of SSIM separates from the rim"):
        ssim(x, x, data_range=400.0, mask=rim)
    assert ssim(x, x, data_range=400.0, mask=rim, kernel="uniform") == pytest.approx(1.0)
    with pytest.raises(ShapeError, match="mask: expected booleans"):
        ssim(x, x, data_range=400.0, mask=thin)
    y = image(2, 30, 30, seed=1)
    flat = ssim(x, y, data_range=400.0, mask=~rim, dimensions=3)
    assert flat == ssim(x, y, data_range=400.0, mask=(~rim).expand_as(x), dimensions=3)
