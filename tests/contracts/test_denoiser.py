"""What every denoiser promises: a new one is a line in `DENOISERS` of restoration.denoisers."""

import re

import numpy as np
import pytest
import torch
from torch import Tensor

from recon.errors import ConfigError, NumericalError, ShapeError
from restoration.denoisers import DENOISERS, Denoiser, denoiser, noise_level
from restoration.denoisers.classical import CLASSICAL
from restoration.plug_in import plug_in

NOISE = 30.0  # HU


def smoothed(plane: np.ndarray, noise: float) -> np.ndarray:
    """Smooth a slice by the mean of its 4 neighbours and itself, as a user might."""
    around = [np.roll(plane, shift, axis) for axis in (0, 1) for shift in (-1, 1)]
    return (plane + sum(around)) / 5


EVERY = {**DENOISERS, "a user's own": lambda: plug_in(smoothed)}


def usable(name: str) -> Denoiser:
    found = EVERY[name]()
    if found.missing():
        pytest.skip(f"{name} {found.missing()}")
    return found


@pytest.fixture(params=list(EVERY))
def each(request: pytest.FixtureRequest) -> Denoiser:
    return usable(request.param)


@pytest.fixture(params=[one.name for one in CLASSICAL])
def classical(request: pytest.FixtureRequest) -> Denoiser:
    return usable(request.param)


def disc(size: int = 96) -> Tensor:
    """Draw a body of 40 HU with an organ of 100 HU, in air."""
    y, x = torch.meshgrid(*2 * (torch.linspace(-1, 1, size),), indexing="ij")
    image = torch.full((size, size), -1000.0)
    image[y**2 + x**2 < 0.8] = 40.0
    image[(y - 0.2) ** 2 + x**2 < 0.08] = 100.0
    return image


def noisy(image: Tensor, *, seed: int = 0) -> Tensor:
    return image + NOISE * torch.randn(image.shape, generator=torch.Generator().manual_seed(seed))


def test_it_says_what_it_is(each: Denoiser) -> None:
    assert each.label
    assert each.source
    assert re.fullmatch(r"[a-z0-9_-]+", each.name)


@pytest.mark.parametrize("value", [-1000.0, 0.0, 40.0, 3000.0])
def test_a_constant_image_stays_constant(each: Denoiser, value: float) -> None:
    image = torch.full((24, 20), value)
    assert torch.equal(each(image), image)


@pytest.mark.parametrize("value", [-1000.0, 0.0, 3000.0])
def test_a_constant_image_stays_constant_also_where_noise_is_stated(classical: Denoiser, value: float) -> None:
    image = torch.full((24, 20), value)
    torch.testing.assert_close(classical(image, noise=NOISE), image, rtol=0, atol=1e-3)  # HU; 0 measured


def test_no_strength_leaves_the_image_as_it_is(each: Denoiser) -> None:
    image = noisy(disc(32))
    same = each(image, strength=0)
    assert torch.equal(same, image)
    assert same.data_ptr() != image.data_ptr()


@pytest.mark.parametrize("noise", [None, NOISE])
def test_noise_falls_and_the_image_comes_nearer(each: Denoiser, noise: float | None) -> None:
    """Measured: RMSE 9 to 20 HU of 30 HU by the classical ones, and 45 % of the noise or less left by all."""
    truth = disc()
    image = noisy(truth)
    result = each(image, noise=noise)
    inside = (slice(16, 36), slice(38, 58))  # of the body, apart from the organ
    assert float(result[inside].std()) < 0.8 * float(image[inside].std())
    assert noise_level(result) < 0.6 * noise_level(image)
    if each.name in [one.name for one in CLASSICAL]:
        assert float((result - truth).square().mean().sqrt()) < 0.7 * NOISE


def test_more_strength_is_smoother(classical: Denoiser) -> None:
    image = noisy(disc())
    levels = [noise_level(classical(image, noise=NOISE, strength=strength)) for strength in (0, 0.5, 1, 2)]
    assert levels == sorted(levels, reverse=True)
    assert levels[3] < levels[0]


def test_strength_is_a_factor_on_the_noise(classical: Denoiser) -> None:
    image = noisy(disc(40))
    assert torch.equal(classical(image, noise=NOISE, strength=0.5), classical(image, noise=NOISE / 2))


def test_the_same_image_gives_the_same_bits_and_is_left_alone(each: Denoiser) -> None:
    image = noisy(disc(48))
    before = image.clone()
    first, second = each(image), each(image)
    assert torch.equal(first, second)
    assert torch.equal(image, before)


def test_a_volume_is_its_slices(each: Denoiser) -> None:
    planes = [noisy(disc(48), seed=seed) * factor for seed, factor in ((1, 1.0), (2, 0.5))]
    volume = each(torch.stack(planes))
    assert volume.shape == (2, 48, 48)
    assert volume.dtype == torch.float32
    # Networks that take several slices at once may round otherwise.
    torch.testing.assert_close(volume, torch.stack([each(plane) for plane in planes]), rtol=0, atol=0.05)


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (7, 5), (1, 33, 16)])
def test_small_and_odd_sizes(each: Denoiser, shape: tuple[int, ...]) -> None:
    image = noisy(torch.zeros(shape))
    result = each(image, noise=NOISE)
    assert result.shape == image.shape
    assert bool(result.isfinite().all())


def test_other_layouts_and_types_are_taken(classical: Denoiser) -> None:
    image = noisy(disc(40))
    turned = classical(image.T.contiguous().T)
    assert torch.equal(turned, classical(image))
    double = classical(image.double())
    assert double.dtype == torch.float64
    torch.testing.assert_close(double.float(), classical(image), rtol=0, atol=1e-3)
    assert not classical(image.requires_grad_()).requires_grad


def test_bad_input_is_refused(each: Denoiser) -> None:
    image = disc(24)
    with pytest.raises(ShapeError, match=r"image: expected \(z, y, x\) or \(y, x\)"):
        each(image[0])
    with pytest.raises(ShapeError, match="image: expected float32 or float64"):
        each(image.int())
    with pytest.raises(NumericalError, match="image: expected finite values, got 1"):
        each(image.index_fill(0, torch.tensor([3]), 0).index_put((torch.tensor(1),) * 2, torch.tensor(float("nan"))))
    with pytest.raises(ConfigError, match="strength: expected"):
        each(image, strength=-1)
    with pytest.raises(ConfigError, match="noise: expected"):
        each(image, noise=float("nan"))
    with pytest.raises(ConfigError, match="noise: expected 0 or more in HU, got -2"):
        each(image, noise=-2)


def test_the_nearest_name_is_offered() -> None:
    with pytest.raises(ConfigError, match=r"denoiser: expected one of nlm, .*got 'wavelets'; did you mean 'wavelet'\?"):
        denoiser("wavelets")
    with pytest.raises(ConfigError, match=r"got 'xyz'$"):
        denoiser("xyz")


def test_what_to_install_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("restoration.denoisers.classical.find_spec", lambda name: None)
    advice = 'install it with: pip install "raymend[compare]"'
    assert denoiser("nlm").missing() == f"needs scikit-image; {advice}"
    with pytest.raises(ConfigError, match=rf"wavelet: needs scikit-image and PyWavelets; {re.escape(advice)}"):
        denoiser("wavelet")(disc(8))
