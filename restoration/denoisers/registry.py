"""Denoisers by name."""

import difflib
from collections.abc import Callable
from importlib import import_module
from typing import Final, cast

from recon.errors import ConfigError
from restoration.denoisers.classical import CLASSICAL
from restoration.denoisers.denoiser import Denoiser


def _learned(name: str) -> Callable[[], Denoiser]:
    """Return how to make a trained network, whose module is loaded only then."""

    def make() -> Denoiser:
        return cast(Denoiser, import_module("restoration.denoisers.learned").Learned(name))

    return make


#: How to make each denoiser, by its name on the command line; a new one is a line here.
DENOISERS: Final[dict[str, Callable[[], Denoiser]]] = {
    **{one.name: type(one) for one in CLASSICAL},
    **{name: _learned(name) for name in ("red-cnn", "unet")},
}


def denoiser(name: str) -> Denoiser:
    """Return a denoiser by its name, ready to be called.

    Args:
        name: "nlm", "bilateral", "tv", "wavelet", "red-cnn" or "unet".

    Raises:
        ConfigError: an unknown name; the nearest one is offered.
    """
    if name not in DENOISERS:
        close = difflib.get_close_matches(str(name).lower(), DENOISERS, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ConfigError(f"denoiser: expected one of {', '.join(DENOISERS)}, got {name!r}{hint}")
    return DENOISERS[name]()
