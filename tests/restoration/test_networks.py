"""Networks: what goes in comes out in the same shape, and what they cannot be made of is refused."""

import pytest
import torch
from torch import nn

from recon.errors import ConfigError
from recon.random import generator
from restoration.networks import REDCNN, UNet, make

SMALL = [UNet((4, 8, 8)), UNet((4, 8), level=False), REDCNN(4)]


def stirred(model: nn.Module) -> nn.Module:
    """Draw all weights, so that no layer is zero."""
    rng = generator(3)
    with torch.no_grad():
        for value in model.parameters():
            value.copy_(0.1 * torch.randn(value.shape, generator=rng))
    return model.eval()


@pytest.mark.parametrize("model", SMALL, ids=lambda m: f"{type(m).__name__}-{m.level}")
@pytest.mark.parametrize("shape", [(21, 34), (32, 27), (40, 24)])
def test_any_size_is_taken(model: nn.Module, shape: tuple[int, int]) -> None:
    image, level = torch.randn(2, 1, *shape, generator=generator(0)), torch.tensor([0.1, 0.2])
    whole = stirred(model)(image, level)
    assert whole.shape == image.shape
    one = torch.cat([model(image[k : k + 1], level[k : k + 1]) for k in range(2)])
    torch.testing.assert_close(whole, one, rtol=1e-5, atol=1e-6)  # 2.4e-7 was measured


def test_new_networks_change_nothing() -> None:
    image = torch.randn(1, 1, 32, 32, generator=generator(0))
    for model in (UNet((4, 8)), REDCNN(4)):
        torch.testing.assert_close(model(image, torch.tensor([0.1])), image, rtol=0, atol=0.2)  # a bias


def test_only_a_network_with_a_level_listens_to_it() -> None:
    image = torch.randn(1, 1, 32, 32, generator=generator(0))
    for model, listens in zip(SMALL, (True, False, False), strict=True):
        low, high = (stirred(model)(image, torch.tensor([level])) for level in (0.01, 1.0))
        assert torch.equal(low, high) is not listens


def test_red_cnn_is_as_published() -> None:
    model = REDCNN()
    assert sum(value.numel() for value in model.parameters()) == 2 * (25 * 96 + 4 * 25 * 96**2) + 9 * 96 + 1
    with torch.inference_mode():
        assert float(REDCNN(4)(torch.full((1, 1, 32, 32), -2.0)).max()) < 0  # no ReLU at the end


def test_what_no_network_is_made_of_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected one of"):
        make("ResNet", {})
    with pytest.raises(ConfigError, match="settings: expected those of UNet"):
        make("UNet", {"width": 4})
