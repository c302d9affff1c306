"""Weights of networks on the disk: a safetensors file, and a JSON card beside it that says what they are."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from recon.errors import CheckpointError, ConfigError
from recon.io.atomic import atomic_write
from restoration.networks import NETWORKS, make

#: Where the weights that raymend ships are.
SHIPPED: Final = Path(__file__).parent

UNITS: Final = "HU"
_NEEDED: Final = ("name", "architecture", "settings", "units", "unit", "training patients", "sha256")


def save_weights(path: "str | os.PathLike[str]", weights: Mapping[str, Tensor], card: Mapping[str, Any]) -> None:
    """Write weights and their card; the checksum is put on the card.

    Args:
        path: of the weights, ending in .safetensors; the card goes beside it as .json.
        weights: by name, as `state_dict` gives them.
        card: name, architecture, settings, units, unit (HU that the network sees as 1), training patients ({"kind":
            [...], "seeds": [first, last]}), and whatever else is worth telling.

    Raises:
        ConfigError: another suffix, a card that lacks one of these, or a target that cannot be written.
        ResourceError: the disk is full.
    """
    target = _named(path)
    lacking = [key for key in _NEEDED if key not in card and key != "sha256"]
    if lacking:
        raise ConfigError(f"card: expected {', '.join(_NEEDED[:-1])}, got none of {', '.join(lacking)}; add them")
    with atomic_write(target) as temporary:
        save_file({name: value.detach().cpu().contiguous().clone() for name, value in weights.items()}, temporary)
        whole = {**card, "sha256": _checksum(temporary)}
    with atomic_write(target.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(whole, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def load_weights(path: "str | os.PathLike[str]") -> tuple[nn.Module, dict[str, Any]]:
    """Read a network with its weights, and its card.

    Args:
        path: of the weights, ending in .safetensors.

    Raises:
        ConfigError: another suffix.
        CheckpointError: a file that is missing, damaged or not the one its card tells of, or a card that does not fit
            the network.
    """
    target, card = _named(path), read_card(path)
    if not target.is_file():
        raise CheckpointError(f"{target}: expected weights, got no file; install raymend again, or train them")
    found = _checksum(target)
    if found != card["sha256"]:
        raise CheckpointError(
            f"{target}: expected the SHA-256 {card['sha256']} of its card, got {found}; install raymend again, or "
            "train the weights again"
        )
    try:
        model = make(card["architecture"], card["settings"])
        model.load_state_dict({name: value.float() for name, value in load_file(target).items()})
    except (SafetensorError, RuntimeError, ConfigError) as error:
        raise CheckpointError(
            f"{target}: expected the weights of {card['architecture']} {card['settings']}, got others ({error}); take "
            "the card that was written with them"
        ) from error
    return model.eval().requires_grad_(False), card


def read_card(path: "str | os.PathLike[str]") -> dict[str, Any]:
    """Read and check the card of weights.

    Args:
        path: of the weights, ending in .safetensors.

    Raises:
        ConfigError: another suffix.
        CheckpointError: a card that is missing or damaged, or tells of an unknown network or unit.
    """
    target = _named(path).with_suffix(".json")
    try:
        card: dict[str, Any] = json.loads(target.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(
            f"{target}: expected a card beside the weights, got none ({error.strerror}); install raymend again"
        ) from error
    except ValueError as error:
        raise CheckpointError(f"{target}: expected JSON, got {error}; install raymend again") from error
    lacking = [key for key in _NEEDED if not isinstance(card, dict) or key not in card]
    if lacking:
        raise CheckpointError(f"{target}: expected {', '.join(_NEEDED)}, got none of {', '.join(lacking)}")
    for key, known in (("architecture", tuple(NETWORKS)), ("units", (UNITS,))):
        if card[key] not in known:
            raise CheckpointError(
                f"{target}: expected {key} to be {' or '.join(known)}, got {card[key]!r}; take weights of this version"
            )
    return card


def _named(path: "str | os.PathLike[str]") -> Path:
    target = Path(path)
    if target.suffix != ".safetensors":
        raise ConfigError(f"{target}: expected a name ending in .safetensors, got {target.suffix or 'none'}")
    return target


def _checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
