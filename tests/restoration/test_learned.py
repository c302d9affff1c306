"""Weights on the disk, and the denoiser that uses them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from recon.errors import CheckpointError, ConfigError, NumericalError, ShapeError
from recon.random import generator
from restoration.denoisers import learned
from restoration.denoisers.learned import Learned
from restoration.networks import make
from restoration.weights.store import SHIPPED, load_weights, read_card, save_weights

SMALL: dict[str, dict[str, Any]] = {"UNet": {"widths": [4, 8]}, "REDCNN": {"width": 4}}
CARD = {"units": "HU", "unit": 500.0, "training patients": {"kind": ["head"], "seeds": [100000, 100001]}}


@pytest.fixture(params=SMALL)
def small(request: pytest.FixtureRequest, tmp_path: Path) -> Learned:
    """A small network with random weights, on the disk."""
    kind: str = request.param
    model = make(kind, SMALL[kind])
    rng = generator(1)
    weights = {key: 0.1 * torch.randn(value.shape, generator=rng) for key, value in model.state_dict().items()}
    card = {**CARD, "name": "small", "architecture": kind, "settings": SMALL[kind]}
    save_weights(tmp_path / "small.safetensors", weights, card)
    return Learned("small", tmp_path)


def picture(*shape: int) -> Tensor:
    return 100 * torch.randn(shape, generator=generator(2))


def test_weights_come_back(small: Learned) -> None:
    model, card = load_weights(small.path)
    assert small.missing() == ""
    assert card["name"] == "small"
    assert card["training patients"] == CARD["training patients"]
    assert not any(value.requires_grad for value in model.parameters())


@pytest.mark.parametrize("shape", [(1, 40, 33), (3, 24, 24), (2, 5, 70)])
def test_slices_of_any_size_keep_their_shape_and_bits(small: Learned, shape: tuple[int, ...]) -> None:
    image = picture(*shape)
    before = image.clone()
    found = small(image, noise=20.0)
    assert found.shape == image.shape
    assert found.dtype == torch.float32
    assert torch.equal(found, small(image, noise=20.0))
    assert torch.equal(image, before)
    for k in range(shape[0]):
        assert torch.equal(small(image[k : k + 1], noise=20.0)[0], found[k])


def test_a_large_image_in_tiles_is_the_image_in_one(small: Learned, monkeypatch: pytest.MonkeyPatch) -> None:
    image = picture(1, 150, 170)
    whole = small(image, noise=20.0)
    monkeypatch.setattr(learned, "_TILE", 48)
    monkeypatch.setattr(learned, "_HALO", 48)
    torch.testing.assert_close(small(image, noise=20.0), whole, rtol=0, atol=1e-3)  # HU; 3e-5 was measured


def test_strength_scales_the_level_or_the_residual(small: Learned) -> None:
    image = picture(1, 32, 32)
    whole, half = small(image, noise=20.0), small(image, noise=20.0, strength=0.5)
    assert float((whole - image).abs().max()) > 1
    if small.card["architecture"] == "UNet":
        assert torch.equal(half, small(image, noise=10.0))
        assert not torch.equal(half, whole)
    else:
        torch.testing.assert_close(half, (image + whole) / 2, rtol=1e-5, atol=1e-3)


def test_the_noise_is_estimated_if_it_is_not_told(small: Learned) -> None:
    image = picture(1, 32, 32)
    assert torch.equal(small(image), small(image, noise=learned.noise_level(image[0])))


@pytest.mark.parametrize(
    ("image", "settings", "error"),
    [
        (picture(32), {}, ShapeError),
        (torch.full((1, 32, 32), torch.nan), {}, NumericalError),
        (picture(1, 32, 32), {"noise": -1.0}, ConfigError),
        (picture(1, 32, 32), {"strength": -1.0}, ConfigError),
    ],
)
def test_bad_input_is_refused(
    small: Learned, image: Tensor, settings: dict[str, float], error: type[Exception]
) -> None:
    with pytest.raises(error):
        small(image, **settings)


def _flip(path: Path) -> None:
    whole = bytearray(path.read_bytes())
    whole[-3] ^= 1
    path.write_bytes(whole)


def _state(**changes: Any) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        card = path.with_suffix(".json")
        card.write_text(json.dumps({**json.loads(card.read_text()), **changes}))

    return change


DAMAGES: list[tuple[Callable[[Path], object], str]] = [
    (lambda path: path.unlink(), "expected weights, got no file"),
    (lambda path: path.with_suffix(".json").unlink(), "expected a card"),
    (lambda path: path.with_suffix(".json").write_text("{"), "expected JSON"),
    (lambda path: path.with_suffix(".json").write_text("{}"), "got none of name"),
    (_flip, "expected the SHA-256"),
    (_state(units="1/mm"), "expected units to be HU, got '1/mm'"),
    (_state(architecture="ResNet"), "expected architecture"),
    (_state(settings={"widths": [4, 16]}), "expected the weights of"),
]


@pytest.mark.parametrize(("damage", "words"), DAMAGES, ids=[words for _, words in DAMAGES])
def test_damage_is_told_even_after_use(small: Learned, damage: Callable[[Path], object], words: str) -> None:
    assert small.missing() == ""
    damage(small.path)
    assert words in small.missing()
    with pytest.raises(CheckpointError):
        small(picture(1, 32, 32))


def test_names_and_cards_that_cannot_be_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"ending in \.safetensors"):
        save_weights(tmp_path / "small.pt", {}, CARD)
    with pytest.raises(ConfigError, match="card: expected"):
        save_weights(tmp_path / "small.safetensors", {}, CARD)


@pytest.mark.parametrize("name", ["unet", "red-cnn"])
def test_what_is_shipped_fits_its_card_and_removes_noise(name: str) -> None:
    path = SHIPPED / f"{name}.safetensors"
    denoiser, card = Learned(name), read_card(path)
    assert denoiser.missing() == ""
    assert path.stat().st_size < 12e6
    assert card["training patients"]["seeds"][0] >= 100_000
    assert card["scores"]["drop"] > 0
    clean = torch.full((1, 64, 64), -100.0)
    clean[:, 16:48, 16:48] = 60.0
    noisy = clean + 40 * torch.randn(clean.shape, generator=generator(0))
    error = (denoiser(noisy) - clean).square().mean().sqrt()
    assert float(error) < 15  # of 40 HU; 8.6 and 13.5 were measured
