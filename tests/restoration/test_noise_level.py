import pytest
import torch

from recon.errors import NumericalError, ShapeError
from recon.random import generator
from restoration.denoisers import noise_level


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=generator(seed))


@pytest.mark.parametrize("sigma", [3.0, 60.0])
def test_white_noise_is_told_exactly(sigma: float) -> None:
    image = 40 + sigma * noise(2, 200, 200)
    assert noise_level(image) == pytest.approx(sigma, rel=0.01)


def test_edges_and_air_hardly_count() -> None:
    y, x = torch.meshgrid(*2 * [torch.linspace(-1, 1, 256)], indexing="ij")
    radius = torch.hypot(y, x)
    body = torch.where(radius < 0.8, 40.0, -1000.0) + torch.where(radius < 0.2, 800.0, 0.0)
    noisy = body + torch.where(radius < 0.8, 30.0, 0.0) * noise(256, 256)
    assert noise_level(noisy) == pytest.approx(30, rel=0.05)  # measured 3 % above


def test_an_image_without_a_body_is_judged_as_a_whole() -> None:
    assert noise_level(-1000 + 5 * noise(128, 128)) == pytest.approx(5, rel=0.02)


def test_a_constant_image_has_no_noise() -> None:
    assert noise_level(torch.full((1, 32, 32), 7.0)) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("image", "error"),
    [
        (torch.zeros(4), ShapeError),
        (torch.zeros(4, 4, dtype=torch.int32), ShapeError),
        (torch.full((4, 4), float("nan")), NumericalError),
    ],
)
def test_what_is_no_image_is_refused(image: torch.Tensor, error: type[Exception]) -> None:
    with pytest.raises(error, match="image"):
        noise_level(image)
