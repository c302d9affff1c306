"""Feature similarity against piq, against closed forms of its parts, and at the limits of what it can judge."""

import math
import time

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from skimage import data

from recon import fsim
from recon.errors import ConfigError, NumericalError, ShapeError
from recon.metrics import FIDELITY, Protocol, features
from recon.random import generator

GREYS = (0.0, 255.0)


def camera(n):
    return torch.as_tensor(data.camera()[:n, :n].astype(np.float64))


def blurred(image, sigma):
    return torch.as_tensor(gaussian_filter(image.numpy(), sigma))


def noisy(image, level, seed=0):
    return (image + level * torch.randn(image.shape, generator=generator(seed), dtype=torch.float64)).clamp(*GREYS)


# The values are those of piq 0.8.0 (`piq.fsim.fsim`, data_range 255, not chromatic), which reproduces the authors'
# program to 1e-5. We take the mean of the middle two as the median and count angles as that program does, piq does
# not: with piq's choices both agree to 8e-8 in every case here, with ours to 3e-6, and 1.0e-4 at 128 pixels.
@pytest.mark.parametrize(
    ("n", "distorted", "expected", "tolerance"),
    [
        (512, lambda x: blurred(x, 2.0), 0.901292189, 1e-6),
        (512, lambda x: torch.floor(x / 32) * 32, 0.908155832, 2e-6),
        (512, lambda x: noisy(x, 20.0), 0.850250866, 3e-6),
        (256, lambda x: blurred(x, 2.0), 0.899412710, 4e-6),
        (256, lambda x: torch.floor(x / 32) * 32, 0.887020007, 4e-6),
        (256, lambda x: noisy(x, 20.0), 0.555925793, 5e-6),
        (128, lambda x: blurred(x, 2.0), 0.934883550, 2e-5),
        (128, lambda x: torch.floor(x / 32) * 32, 0.843037424, 2e-4),
    ],
)
def test_agrees_with_piq(n, distorted, expected, tolerance):
    assert fsim(distorted(camera(n)), camera(n), window=GREYS) == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize("shape", [(48, 48), (49, 63), (3, 50, 51), (2, 2, 48, 100), (385, 400)])
def test_is_1_for_equal_images_symmetric_and_between_0_and_1(shape):
    x, y = (255 * torch.rand(shape, generator=generator(seed)) for seed in (0, 1))
    assert fsim(x, x, window=GREYS) == pytest.approx(1.0, abs=1e-12)
    assert 0 < fsim(x, y, window=GREYS) < 0.99
    assert fsim(x, y, window=GREYS) == fsim(y, x, window=GREYS)


def test_falls_with_noise_and_with_blur():
    x = camera(256)
    for worse in ([noisy(x, level) for level in (2, 5, 10, 20, 40)], [blurred(x, s) for s in (0.5, 1, 2, 4, 8)]):
        found = [fsim(y, x, window=GREYS) for y in worse]
        assert found == sorted(found, reverse=True)
        assert found[0] - found[-1] > 0.2


def test_of_a_batch_is_the_mean_of_its_slices():
    x = torch.stack([camera(96), camera(192)[96:, 96:], camera(288)[192:, 192:]])
    y = torch.stack([noisy(x[0], 10), blurred(x[1], 1.5), noisy(x[2], 30)])
    slices = [fsim(a, b, window=GREYS) for a, b in zip(x, y, strict=True)]
    assert fsim(x, y, window=GREYS) == pytest.approx(np.mean(slices), abs=1e-14)


def test_does_not_change_when_both_images_are_turned_mirrored_or_rescaled_with_the_window():
    x = camera(95)
    y = noisy(x, 15)
    expected = fsim(y, x, window=GREYS)
    for turn in (lambda a: a.flip(0), lambda a: a.flip(1), lambda a: a.T, lambda a: a.rot90(1, (0, 1))):
        assert fsim(turn(y), turn(x), window=GREYS) == pytest.approx(expected, abs=1e-12)
    low, high = (scale * 2.0 - 1000 for scale in GREYS)
    assert fsim(2 * y - 1000, 2 * x - 1000, window=(low, high)) == pytest.approx(expected, abs=1e-12)
    # At even sizes the highest frequency has one sign only, which turning changes; measured 2e-5.
    even, other = camera(96), noisy(camera(96), 15)
    turned = fsim(other.rot90(1, (0, 1)), even.rot90(1, (0, 1)), window=GREYS)
    assert turned == pytest.approx(fsim(other, even, window=GREYS), abs=1e-4)


def test_depends_on_the_window_and_so_asks_for_it():
    x = camera(64)
    y = noisy(x, 20)
    assert fsim(y, x, window=(0.0, 4000.0)) > fsim(y, x, window=GREYS) + 0.1
    with pytest.raises(TypeError, match="window"):
        fsim(y, x)
    for bad in (None, (1.0, 1.0), 255.0, (0.0, math.nan)):
        with pytest.raises(ConfigError, match="window: expected"):
            fsim(y, x, window=bad)


def test_needs_a_window_and_slices_of_its_protocol():
    x = camera(64)
    with pytest.raises(ConfigError, match="window: expected"):
        FIDELITY["fsim"](x, x, Protocol(reference="phantom", data_range=255.0))
    with pytest.raises(ConfigError, match="dimensions: expected 2, as FSIM is defined for slices, got 3"):
        FIDELITY["fsim"](x[None], x[None], Protocol(reference="phantom", window=GREYS, dimensions=3))


def test_of_constant_images_compares_gradients_alone():
    x = torch.full((60, 65), 100.0)
    assert fsim(x, x, window=GREYS) == 1.0
    assert fsim(torch.zeros_like(x), torch.zeros_like(x), window=GREYS) == 1.0
    # Only the steps at the rim differ.
    steps = [features.gradient(level * torch.ones(1, 60, 65, dtype=torch.float64)) for level in (100.0, 101.0)]
    alike = (2 * steps[0] * steps[1] + 160) / (steps[0] ** 2 + steps[1] ** 2 + 160)
    assert fsim(x, x + 1, window=GREYS) == pytest.approx(float(alike.mean()), abs=1e-12)
    assert 0.93 < fsim(x, torch.zeros_like(x), window=GREYS) < 0.95  # 246 of 3900 pixels are the rim
    # Against an image that has features, these are what counts: 0.81.
    assert 0 < fsim(x, camera(65)[:60].float(), window=GREYS) < 0.9


@pytest.mark.parametrize("shape", [(47, 48), (100, 47), (64,), (1, 1, 40)])
def test_refuses_images_smaller_than_its_coarsest_filter(shape):
    with pytest.raises(ShapeError, match="at least 48 × 48 pixels"):
        fsim(torch.zeros(shape), torch.zeros(shape), window=GREYS)


def test_refuses_shapes_that_differ_and_nan():
    x = camera(64)
    with pytest.raises(ShapeError, match="equal shapes"):
        fsim(x, x[:, :60], window=GREYS)
    damaged = x.clone()
    damaged[3, 5] = math.nan
    with pytest.raises(NumericalError, match="x: expected finite values, got 1 of 4096"):
        fsim(damaged, x, window=GREYS)


def test_counts_only_where_the_mask_is_true():
    x = camera(512)
    y = x.clone()
    y[256:] = noisy(x[256:], 40)
    top = torch.zeros(512, 512, dtype=torch.bool)
    top[:200] = True
    # Noise below raises the threshold above, too: 0.994 in the first 200 rows, 0.781 in the others.
    assert fsim(y, x, window=GREYS, mask=top) > 0.99
    assert fsim(y, x, window=GREYS, mask=~top) < fsim(y, x, window=GREYS) < fsim(y, x, window=GREYS, mask=top)
    stack = torch.stack([x, y])
    only = torch.stack([torch.zeros_like(top), top])
    assert fsim(stack, stack.flip(0), window=GREYS, mask=only) == fsim(y, x, window=GREYS, mask=top)
    with pytest.raises(ShapeError, match="mask"):
        fsim(y, x, window=GREYS, mask=top[:5])


@pytest.mark.parametrize("shape", [(64, 96), (63, 81)])
def test_filters_are_log_gabor_functions_of_frequency_and_gaussian_in_angle(shape):
    device = torch.device("cpu")
    radial, angular = features._radial(shape, device), features._angular(shape, device)
    assert radial.shape == angular.shape == (4, *shape)
    assert float(radial[:, 0, 0].abs().max()) == 0.0
    for row, column in ((0, 5), (3, 0), (2, 7), (-4, 3), (-6, -9)):
        fy, fx = row / shape[0], column / shape[1]
        r, towards = math.hypot(fy, fx), math.atan2(-fy, fx)
        low = 1 / (1 + (r / 0.45) ** 30)
        for k, wavelength in enumerate((6, 12, 24, 48)):
            expected = low * math.exp(-(math.log(r * wavelength) ** 2) / (2 * math.log(0.55) ** 2))
            assert float(radial[k, row, column]) == pytest.approx(expected, rel=1e-12)
        for k in range(4):
            away = (towards - k * math.pi / 4 + math.pi) % (2 * math.pi) - math.pi
            expected = math.exp(-(away**2) / (2 * (math.pi / 4 / 1.2) ** 2))
            assert float(angular[k, row, column]) == pytest.approx(expected, rel=1e-12)


def test_finds_step_edges_and_lines_where_they_are():
    step, line = torch.zeros(64, 96, dtype=torch.float64), torch.zeros(64, 96, dtype=torch.float64)
    step[:, 24:72] = 200.0
    line[:, 40] = 200.0
    edges = features.phase_congruency(step)[32]
    assert set(edges.topk(4).indices.tolist()) == {23, 24, 71, 72}
    # 0.81 on both sides of an edge, at most 0.3 from seven pixels on.
    assert float(edges[[23, 24, 71, 72]].min()) > 0.8
    assert float(torch.cat([edges[:17], edges[31:65], edges[79:]]).max()) < 0.35
    assert torch.allclose(edges, edges.flip(0), atol=1e-9)
    ridge = features.phase_congruency(line)[32]
    assert int(ridge.argmax()) == 40
    assert float(ridge[40]) > 0.99
    assert float(torch.cat([ridge[30:39], ridge[42:52]]).max()) < 0.1  # 0.55 beside it, 0.08 from there on


def test_phase_congruency_does_not_depend_on_contrast_or_level():
    x = camera(64)
    expected = features.phase_congruency(x)
    # What keeps 0/0 away counts as 1e-8 grey levels: 5e-9 at twice the contrast, 1e-6 at a hundredth.
    assert torch.allclose(features.phase_congruency(2 * x - 10), expected, atol=2e-8, rtol=0)
    assert torch.allclose(features.phase_congruency(0.01 * x + 70), expected, atol=3e-6, rtol=0)
    assert float(expected.max()) <= 1.0
    assert float(expected.min()) >= 0.0


def test_phase_congruency_finds_little_in_noise():
    noise = torch.randn(128, 128, generator=generator(0), dtype=torch.float64)
    found = features.phase_congruency(noise)
    assert float(found.mean()) < 0.05  # 0.034, and 0.28 in a photograph
    assert float((found == 0).double().mean()) > 0.5  # 0.62


def test_threshold_is_the_energy_of_the_filters_kernels():
    """In space as published: squared even parts of the kernels, and their products, added up over the image."""
    device, shape = torch.device("cpu"), (64, 80)
    filters = features._radial(shape, device) * features._angular(shape, device)[1]
    amplitude = torch.rand(shape, generator=generator(0), dtype=torch.float64)
    kernels = torch.fft.ifft2(filters).real * math.sqrt(filters[0].numel())
    own = sum(float((kernel**2).sum()) for kernel in kernels)
    mixed = sum(float((kernels[i] * kernels[j]).sum()) for i in range(4) for j in range(i + 1, 4))
    power = -float(np.median(amplitude.numpy() ** 2)) / math.log(0.5) / float((filters[0] ** 2).sum())
    tau = math.sqrt((2 * power * own + 4 * power * mixed) / 2)
    expected = (tau * math.sqrt(math.pi / 2) + 2 * math.sqrt((2 - math.pi / 2) * tau**2)) / 1.7
    assert float(features._threshold(amplitude, filters)) == pytest.approx(expected, rel=1e-12)


def test_gradient_of_a_plane_is_its_slope():
    y, x = torch.meshgrid(torch.arange(20.0), torch.arange(30.0), indexing="ij")
    inner = features.gradient((3 * y - 4 * x).double()[None])[0, 1:-1, 1:-1]
    # Scharr's kernel over 16 spans two pixels: twice the slope.
    assert torch.allclose(inner, torch.full_like(inner, 10.0), atol=1e-12)


def test_large_images_are_averaged_to_about_256_pixels():
    for n, size in ((383, 383), (384, 192), (512, 256), (639, 320), (640, 214), (1024, 256)):
        assert features._slices(torch.zeros(n, n)).shape == (1, size, size)
    x = torch.rand(512, 512, generator=generator(0), dtype=torch.float64)
    assert torch.allclose(features._slices(x)[0], x.reshape(256, 2, 256, 2).mean((1, 3)), atol=1e-15)


def test_takes_less_than_a_second_for_512_pixels():
    x = torch.rand(512, 512, generator=generator(0))
    y = torch.rand(512, 512, generator=generator(1))
    spent = []
    for _ in range(3):
        start = time.perf_counter()
        fsim(x, y, window=(0.0, 1.0))
        spent.append(time.perf_counter() - start)
    assert min(spent) < 1.0  # 0.1 s on one core
