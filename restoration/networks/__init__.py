"""Networks, without anything that was learnt."""

from collections.abc import Mapping
from typing import Any, Final

from recon import checks
from recon.errors import ConfigError
from restoration.networks.red_cnn import REDCNN
from restoration.networks.unet import UNet

__all__ = ["NETWORKS", "REDCNN", "UNet", "make"]

#: Networks by name.
NETWORKS: Final[Mapping[str, type[UNet] | type[REDCNN]]] = {"UNet": UNet, "REDCNN": REDCNN}


def make(architecture: str, settings: Mapping[str, Any]) -> UNet | REDCNN:
    """Make a network by name, with random weights.

    Args:
        architecture: one of `NETWORKS`.
        settings: what it is made of.

    Raises:
        ConfigError: an unknown name, or settings that it has not.
    """
    checks.choice("architecture", architecture, tuple(NETWORKS))
    try:
        return NETWORKS[architecture](**settings)
    except TypeError as error:
        raise ConfigError(f"settings: expected those of {architecture}, got {dict(settings)} ({error})") from error
