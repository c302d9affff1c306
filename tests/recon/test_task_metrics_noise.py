"""Noise power: closed forms of white and coloured noise, Parseval, detrending, and what it refuses."""

import math

import pytest
import torch

from recon.errors import ConfigError, NumericalError, ShapeError
from recon.metrics import noise_power, noise_regions
from recon.random import generator


def white(*shape, seed=0, level=20.0):
    return level * torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


@pytest.mark.parametrize("shape", [(64, 32, 32), (3, 40, 25, 31)])
@pytest.mark.parametrize("spacing", [0.5, (0.4, 0.7)])
def test_white_noise_has_variance_times_pixel_area(shape, spacing):
    found = noise_power(white(*shape) + 1000, spacing=spacing)
    area = math.prod(found.spacing)
    pixels = shape[-1] * shape[-2]
    # 65 536 and 93 000 samples give the level to 0.6 % and 0.5 %; measured 0.7 % and 0.8 %.
    assert float(found.values.sum() / (pixels - 1)) == pytest.approx(400 * area, rel=0.02)
    assert float(found.values[0, 0]) == pytest.approx(0, abs=1e-20)
    ring = found.radial()
    spread = (2 / (ring.samples * found.regions)).sqrt()
    assert bool(((ring.values / (400 * area) - 1).abs() < 4.5 * spread).all())
    assert float(ring.frequency.max()) <= 0.5 / max(found.spacing)


def test_each_ring_of_much_white_noise_is_within_2_percent():
    ring = noise_power(white(2000, 16, 16), spacing=0.8).radial()
    assert torch.allclose(ring.values, torch.full_like(ring.values, 400 * 0.64), rtol=0.02)  # measured 0.8 %


@pytest.mark.parametrize("detrend", ["mean", "plane", "quadratic", "ensemble"])
def test_the_integral_is_the_variance_of_what_is_left(detrend):
    noise = white(12, 9, 14)
    found = noise_power(noise, spacing=(0.3, 0.6), detrend=detrend)
    if detrend == "mean":
        assert found.variance == pytest.approx(float(noise.var(dim=(1, 2), correction=0).mean()), rel=1e-12)
    if detrend == "ensemble":
        assert found.variance == pytest.approx(float(noise.var(dim=0).mean()), rel=1e-12)
    kept = {"mean": 125, "plane": 123, "quadratic": 120, "ensemble": 126}[detrend] / 126
    assert found.variance == pytest.approx(400 * kept, rel=0.12)  # 1 512 samples give 3.6 %; measured 3.0 %


def test_filtered_noise_has_the_filter_squared():
    noise = white(500, 32, 32)
    f = torch.fft.fftfreq(32, 0.5, dtype=torch.float64)
    transfer = torch.exp(-2 * math.pi**2 * 0.6**2 * (f[:, None] ** 2 + f[None, :] ** 2))
    coloured = torch.fft.ifft2(torch.fft.fft2(noise) * transfer).real
    found = noise_power(coloured, spacing=0.5).radial()
    radial = torch.exp(-4 * math.pi**2 * 0.6**2 * found.frequency**2)
    low = found.frequency < 0.4
    assert torch.allclose(found.values[low], 100 * radial[low], rtol=0.05)  # measured 1.8 %
    assert found.mean_frequency < noise_power(noise, spacing=0.5).radial().mean_frequency
    assert found.peak_frequency <= found.frequency[1]


@pytest.mark.parametrize("detrend", ["plane", "quadratic", "ensemble"])
def test_detrending_takes_off_what_it_says(detrend):
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(20.0), indexing="ij")
    trend = {"plane": 3 * y - 2 * x, "quadratic": y * x - 2 * y * y + x * x, "ensemble": 1000 * torch.rand(16, 20)}
    noise = white(8, 16, 20)
    clean = noise_power(noise, spacing=1.0, detrend=detrend)
    found = noise_power(noise + trend[detrend].double(), spacing=1.0, detrend=detrend)
    assert torch.allclose(found.values, clean.values, rtol=1e-6, atol=1e-6)
    assert noise_power(noise + trend[detrend], spacing=1.0).variance > 1.2 * clean.variance


def test_constant_regions_have_no_noise_and_no_mean_frequency():
    found = noise_power(torch.full((3, 8, 8), 0.1), spacing=1.0)
    assert found.variance == pytest.approx(0, abs=1e-25)
    flat = noise_power(torch.zeros(3, 8, 8), spacing=1.0).radial()
    for number in ("mean_frequency", "peak_frequency"):
        with pytest.raises(NumericalError, match=f"{number}: expected noise"):
            getattr(flat, number)


def test_prints_with_all_that_it_rests_on():
    found = noise_power(torch.tensor([[3.0, -3.0], [-3.0, 3.0]]), spacing=(0.5, 0.4))
    assert str(found) == "NPS of 3 HU noise (1 regions of 2 x 2 pixels of 0.5 x 0.4 mm, mean taken off)"


def test_regions_are_the_squares_inside_the_mask():
    image = torch.arange(2 * 12 * 10.0).reshape(2, 12, 10)
    assert noise_regions(image, size=4).shape == (2 * 5 * 4, 4, 4)
    mask = torch.zeros(12, 10, dtype=torch.bool)
    mask[3:9, 2:7] = True
    found = noise_regions(image, size=4, step=1, mask=mask)
    assert found.shape == (2 * 3 * 2, 4, 4)
    assert torch.equal(found[0], image[0, 3:7, 2:6].double())
    assert torch.equal(found[-1], image[1, 5:9, 3:7].double())


def test_refuses_what_it_cannot_judge():
    noise = white(4, 8, 8)
    with pytest.raises(ConfigError, match="spacing: expected"):
        noise_power(noise, spacing=0.0)
    with pytest.raises(ConfigError, match="detrend: expected one of mean"):
        noise_power(noise, spacing=1.0, detrend="cubic")
    with pytest.raises(ShapeError, match='2 or more for "ensemble"'):
        noise_power(noise[:1], spacing=1.0, detrend="ensemble")
    with pytest.raises(ShapeError, match="2 × 2 pixels or more"):
        noise_power(noise[..., :1], spacing=1.0)
    with pytest.raises(NumericalError, match="regions: expected finite"):
        noise_power(torch.full((4, 8, 8), math.nan), spacing=1.0)
    with pytest.raises(ConfigError, match="width: expected"):
        noise_power(noise, spacing=1.0).radial(width=-1.0)
    with pytest.raises(ShapeError, match="size: expected at most 8"):
        noise_regions(noise, size=9)
    with pytest.raises(ShapeError, match="mask: expected room"):
        noise_regions(noise, size=4, mask=torch.zeros(8, 8, dtype=torch.bool))
    with pytest.raises(ShapeError, match="mask: expected booleans"):
        noise_regions(noise, size=4, mask=torch.ones(8, 8))
