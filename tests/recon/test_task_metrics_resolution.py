"""Edge transfer of discs blurred by a known Gaussian, with and without noise, and what it refuses."""

import math

import pytest
import torch
from scipy.stats import ncx2

from recon.errors import ConfigError, NumericalError, ShapeError
from recon.metrics import edge_transfer
from recon.random import generator

RADIUS, WIDTH = 15.0, 6.0  # mm


def disc(sigma, *, n=128, spacing=(0.5, 0.5), centre=(0.0, 0.0), contrast=100.0):
    """Return a disc blurred by a Gaussian, exact at the middle of pixels: a noncentral chi-squared distribution."""
    y, x = ((torch.arange(n, dtype=torch.float64) - (n - 1) / 2) * d - c for d, c in zip(spacing, centre, strict=True))
    r = torch.hypot(y[:, None], x[None, :]).numpy()
    return contrast * torch.as_tensor(ncx2.cdf((RADIUS / sigma) ** 2, 2, (r / sigma) ** 2))


def transfer(images, **settings):
    return edge_transfer(images, **{"spacing": 0.5, "radius": RADIUS, "half_width": WIDTH, **settings})


def falls_to(level, sigma):
    return math.sqrt(-math.log(level) / 2) / (math.pi * sigma)


# Measured: 0.17 % of 1 at most, and 0.23 % of f50 and f10, where the blur is narrowest and the disc centred on pixels.
@pytest.mark.parametrize("sigma", [0.3, 0.6, 1.0])
@pytest.mark.parametrize("centre", [(0.0, 0.0), (0.13, -1.21)])
@pytest.mark.parametrize("spacing", [(0.5, 0.5), (0.45, 0.5)])
def test_a_gaussian_blurred_disc_has_the_gaussians_transfer(sigma, centre, spacing):
    found = transfer(disc(sigma, centre=centre, spacing=spacing), centre=centre, spacing=spacing)
    expected = torch.exp(-2 * math.pi**2 * sigma**2 * found.frequency**2)
    assert float((found.values - expected).abs().max()) < 0.004
    assert found.f50 == pytest.approx(falls_to(0.5, sigma), rel=0.005)
    assert found.contrast == pytest.approx(100, rel=1e-3)
    if falls_to(0.1, sigma) < 1 / max(spacing):
        assert found.f10 == pytest.approx(falls_to(0.1, sigma), rel=0.005)


def test_an_average_over_noise_comes_near_and_tells_the_noise():
    noisy = disc(0.6, contrast=-100) + 10 * torch.randn(50, 128, 128, generator=generator(1), dtype=torch.float64)
    found = transfer(noisy)
    assert found.f50 == pytest.approx(falls_to(0.5, 0.6), rel=0.02)
    assert found.f10 == pytest.approx(falls_to(0.1, 0.6), rel=0.03)
    assert found.noise == pytest.approx(10, rel=0.01)
    assert found.contrast == pytest.approx(-100, rel=0.01)
    assert found.images == 50
    assert transfer(noisy.reshape(5, 10, 128, 128)).f50 == found.f50
    assert str(found).startswith("TTF of a -99.9")
    assert str(found).endswith("(50 images, disc of radius 15 mm, profile of ±6 mm, pixels of 0.5 x 0.5 mm)")


def test_a_wrong_centre_costs_what_the_bessel_function_says():
    found = transfer(disc(0.6), centre=(0.0, 0.4))
    blur = torch.exp(-2 * math.pi**2 * 0.36 * found.frequency**2) * torch.special.bessel_j0(
        2 * math.pi * 0.4 * found.frequency
    )
    low = found.frequency < 0.5
    assert torch.allclose(found.values[low], blur[low], atol=0.01)  # measured 0.006


def test_level_and_contrast_do_not_matter():
    image = disc(0.6)
    assert torch.allclose(transfer(-7 * image + 1000).values, transfer(image).values, atol=1e-9)


@pytest.mark.parametrize("value", [0.0, 0.1, -1000.0])
def test_a_constant_image_has_no_edge(value):
    with pytest.raises(NumericalError, match="expected an edge, got a contrast of"):
        transfer(torch.full((128, 128), value))


def test_noise_alone_has_no_edge():
    with pytest.raises(NumericalError, match="expected an edge"):
        transfer(torch.randn(128, 128, generator=generator(2)))


def test_refuses_what_it_cannot_judge():
    image, small = disc(0.6), disc(0.6)[:20, :20]
    small[6:14, 6:14] = 100.0  # a square, which has too few pixels around its centre
    for settings in ({"half_width": 1.9}, {"half_width": 15.0}, {"radius": -1.0}, {"spacing": 0.0}):
        with pytest.raises(ConfigError, match="expected"):
            transfer(image, **settings)
    with pytest.raises(ShapeError, match="21 mm around the centre"):
        transfer(image, centre=(0.0, 12.0))
    with pytest.raises(ShapeError, match="images: expected images"):
        transfer(image[0])
    with pytest.raises(ShapeError, match="bins"):
        edge_transfer(small, spacing=0.5, radius=2.1, half_width=2.0)
    with pytest.raises(NumericalError, match="finite"):
        transfer(torch.full((128, 128), math.inf))
    with pytest.raises(NumericalError, match=r"level: expected the transfer to fall to 0\.1 below 2/mm"):
        _ = transfer(disc(0.1)).f10
    with pytest.raises(ConfigError, match="level: expected a share"):
        transfer(image).at(1.0)
