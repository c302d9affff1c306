"""The channelised Hotelling observer against the analytic detectability in white noise, and its exact interval."""

import math

import pytest
import torch
from scipy.special import ndtr

from recon.errors import ConfigError, NumericalError, ShapeError
from recon.metrics import detectability, gabor, hotelling, laguerre_gauss
from recon.random import generator

N, SIGMA, NOISE = 24, 2.0, 20.0  # pixels of 0.8 mm, mm, HU
STEP = 0.8
LG = laguerre_gauss((N, N), spacing=STEP, width=math.sqrt(2 * math.pi) * SIGMA, number=4)


def white(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def blob(amplitude):
    at = (torch.arange(N, dtype=torch.float64) - (N - 1) / 2) * STEP
    return amplitude * torch.exp(-(at[:, None] ** 2 + at[None, :] ** 2) / (2 * SIGMA**2))


# Measured with 6 000 images of each kind: +1.1 % and +0.7 %.
@pytest.mark.parametrize("amplitude", [8.0, 20.0])
def test_a_gaussian_signal_in_white_noise_has_the_analytic_detectability(amplitude):
    truth = amplitude * SIGMA * math.sqrt(math.pi) / (NOISE * STEP)  # the signal's norm over the noise
    absent, present = (NOISE * white(6000, N, N, seed=seed) for seed in (0, 1))
    found = hotelling(present + blob(amplitude) + 40, absent + 40, LG)
    assert found.value == pytest.approx(truth, rel=0.05)
    assert found.low < truth < found.high
    assert found.auc[0] == pytest.approx(float(ndtr(truth / math.sqrt(2))), rel=0.02)
    assert found.auc[1] < found.auc[0] < found.auc[2]


def test_channels_see_the_part_of_the_signal_in_their_span():
    channels = gabor((N, N), spacing=STEP, frequencies=(0.08, 0.16), orientations=3)
    signal = blob(20.0).roll((1, 2), (0, 1))
    flat = channels.flatten(1)
    seen = flat @ signal.flatten()
    truth = float((seen @ torch.linalg.solve(flat @ flat.T, seen)).sqrt()) / NOISE
    absent, present = (NOISE * white(4000, N, N, seed=seed) for seed in (2, 3))
    assert truth < float(signal.norm()) / NOISE
    assert hotelling(present + signal, absent, channels).value == pytest.approx(truth, rel=0.05)  # measured -0.3 %


def test_few_images_have_no_bias_and_an_interval_that_holds_the_truth():
    """Of 400 ensembles of 2 x 10 images in 4 channels 90.5 % hold the truth and 51.5 % lie below it."""
    channels, signal = torch.eye(4, dtype=torch.float64).reshape(4, 2, 2), torch.tensor([[1.5, 0.0], [0.0, 0.0]])
    draws = white(400, 2, 10, 2, 2, seed=4)
    found = [hotelling(a + signal, b, channels, level=0.9) for a, b in draws]
    held = sum(each.low <= 1.5 <= each.high for each in found) / 400
    below = sum(each.value < 1.5 for each in found) / 400
    assert held == pytest.approx(0.9, abs=0.05)
    assert below == pytest.approx(0.5, abs=0.08)


def test_no_signal_gives_little_and_the_interval_starts_at_0():
    found = hotelling(white(300, N, N, seed=5), white(200, N, N, seed=6), LG)
    assert found.low == 0.0
    assert found.value < 0.2
    assert found.auc[1] == 0.5
    assert (found.present, found.absent, found.channels) == (300, 200, 4)
    assert "95 % interval 0 to" in str(found)
    assert str(found).endswith("by 4 channels from 300 images with the signal and 200 without")


def test_a_strong_signal_has_a_large_number_and_a_wider_level_a_wider_interval():
    a, b = white(60, N, N, seed=7) + blob(1000.0), white(60, N, N, seed=8)
    wide, narrow = (hotelling(a, b, LG, level=level) for level in (0.99, 0.5))
    assert wide.value == narrow.value == pytest.approx(1000 * SIGMA * math.sqrt(math.pi) / STEP, rel=0.3)
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high


def test_the_limit_for_strong_signals_joins_the_exact_numbers():
    below, above = (detectability._noncentrality(ratio, 4, 115, 0.975) for ratio in (2.4999e6, 2.5001e6))
    assert above / below == pytest.approx(2.5001 / 2.4999, rel=1e-4)  # measured 4e-6


def test_scale_and_leading_axes_do_not_matter():
    a, b = white(40, N, N, seed=9) + blob(1.0), white(40, N, N, seed=10)
    found = hotelling(a, b, LG)
    scale = torch.tensor([1.0, 5.0, 0.1, 30.0], dtype=torch.float64)[:, None, None]
    other = hotelling((3 * a + 1).reshape(4, 10, N, N), 3 * b + 1, LG * scale)
    assert other.value == pytest.approx(found.value, rel=1e-6)


def test_laguerre_gauss_channels_are_orthonormal_and_the_first_is_the_gaussian():
    products = LG.flatten(1) @ LG.flatten(1).T * STEP**2
    # The plane ends at 9.6 mm: measured 5e-5 for the fourth.
    assert torch.allclose(products, torch.eye(4, dtype=torch.float64), atol=1e-4)
    shape = blob(1.0)
    assert torch.allclose(LG[0] / LG[0].max(), shape / shape.max(), rtol=1e-12)


def test_gabor_channels_pass_an_octave():
    f, n = 0.125, 256
    wave = gabor((1, n), spacing=1.0, frequencies=(f,), orientations=1)[0, 0]
    spectrum = torch.fft.rfft(wave).abs()
    passed = torch.fft.rfftfreq(n)[spectrum >= spectrum.max() / 2]
    assert float(passed[0]) == pytest.approx(2 / 3 * f, abs=1 / n)
    assert float(passed[-1]) == pytest.approx(4 / 3 * f, abs=1 / n)
    assert gabor((8, 9), spacing=0.5, frequencies=(0.1, 0.2), orientations=5).shape == (20, 8, 9)


def test_channels_follow_the_signal():
    moved = laguerre_gauss((31, 31), spacing=0.5, width=3.0, number=2, centre=(2.0, -1.0))
    assert torch.allclose(
        moved, laguerre_gauss((31, 31), spacing=0.5, width=3.0, number=2).roll((4, -2), (1, 2)), atol=1e-4
    )


@pytest.mark.parametrize("value", [0.0, 7.0])
def test_constant_images_are_refused(value):
    with pytest.raises(NumericalError, match="do not vary; take noisy images"):
        hotelling(torch.full((9, N, N), value) + 1, torch.full((9, N, N), value), LG)


def test_refuses_what_it_cannot_judge():
    a, b = white(9, N, N), white(9, N, N, seed=1)
    with pytest.raises(NumericalError, match="independent of each other"):
        hotelling(a, b, torch.cat([LG, LG[:1] - LG[1:2]]))
    with pytest.raises(ShapeError, match="6 or more in all for 4 channels, got 3 and 2"):
        hotelling(a[:3], b[:2], LG)
    with pytest.raises(ShapeError, match="of one size"):
        hotelling(a[..., 1:], b, LG)
    with pytest.raises(NumericalError, match="absent: expected finite"):
        hotelling(a, torch.full_like(b, math.nan), LG)
    with pytest.raises(ConfigError, match="level: expected a share"):
        hotelling(a, b, LG, level=95)
    for settings in ({"width": 0.0}, {"width": 1.0, "number": 0}, {"width": 1.0, "spacing": -1.0}):
        with pytest.raises(ConfigError, match="expected"):
            laguerre_gauss((N, N), **{"spacing": 1.0, **settings})
    with pytest.raises(ConfigError, match=r"frequencies: expected at most 0\.375/mm"):
        gabor((N, N), spacing=1.0, frequencies=(0.4,))
    for none in ((), 0.1):
        with pytest.raises(ConfigError, match="frequencies: expected a sequence of one or more"):
            gabor((N, N), spacing=1.0, frequencies=none)
