"""Whether a Zarr store was written by raymend, and whether it is as it was written.

zarr.json has no checksum of its own, so the root of our stores holds one: over what it says itself, and over the
metadata of every array below.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from recon.errors import ConfigError, CTError, FormatError
from recon.io.zarr_look import metadata, walk

SCAN: Final = "raymend scan"
VOLUME: Final = "raymend volume"
VERSION: Final = 1
_ARRAYS: Final = {SCAN: ("values", "weights", "poses", "geometry", "rays", "provenance"), VOLUME: ("0",)}
_FILE: Final = re.compile(r"(?:([^/]+)/)?(?:zarr\.json|c(?:/\d+)+)")


def own_kind(path: Path) -> str | None:
    """Return the format that a store of raymend's states, or None for any other folder."""
    try:
        said = metadata(path)["attributes"]["raymend"]["format"]
    except (CTError, KeyError, TypeError):
        return None
    return said if isinstance(said, str) and said in _ARRAYS else None


def own_attributes(path: Path, kind: str) -> dict[str, Any]:
    """Return what the root of raymend's own store says, checked against its checksum.

    Args:
        path: the store.
        kind: `SCAN` or `VOLUME`.

    Raises:
        FormatError: another format or version, or metadata that are not as they were written.
    """
    attributes = metadata(path).get("attributes")
    said = attributes.get("raymend") if isinstance(attributes, dict) else None
    if not isinstance(attributes, dict) or not isinstance(said, dict) or said.get("format") != kind:
        raise FormatError(f"{path}: expected {kind!r} in zarr.json, got unknown content; it may be damaged")
    version = said.get("version")
    if type(version) is not int or not 1 <= version <= VERSION:
        raise FormatError(f"{path}: expected format version 1 to {VERSION}, got {str(version)[:20]}; update raymend")
    arrays = said.get("arrays")
    if not isinstance(arrays, list) or not set(map(str, arrays)) <= set(_ARRAYS[kind]):
        raise FormatError(f"{path}: expected the names of its arrays, got {str(arrays)[:60]}; it is damaged")
    if said.get("checksum") != _checksum(path, attributes, arrays):
        raise FormatError(
            f"{path}: checksum does not match: the metadata in zarr.json are not as they were written; write it again"
        )
    return attributes


def write_root(path: Path, kind: str, arrays: Sequence[str], **attributes: Mapping[str, Any]) -> None:
    """Write the zarr.json of a store whose arrays are written; without it, there is no store.

    Args:
        path: the store.
        kind: `SCAN` or `VOLUME`.
        arrays: their names.
        attributes: by group; to "raymend" format, version and checksum are added.
    """
    about = {"format": kind, "version": VERSION, "software": "raymend", "arrays": list(arrays)}
    whole: dict[str, Any] = {**attributes, "raymend": {**about, **attributes.get("raymend", {})}}
    whole["raymend"]["checksum"] = _checksum(path, json.loads(json.dumps(whole)), arrays)
    content = {"zarr_format": 3, "node_type": "group", "attributes": whole}
    (path / "zarr.json").write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")


def check_replaceable(target: Path) -> None:
    """Refuse to replace what raymend did not write, and a store that other files were put into.

    Raises:
        ConfigError: a file, a folder of another kind, or other files inside.
    """
    if not os.path.lexists(target):
        return
    advice = "choose another name, or remove it"
    if not target.is_dir():
        raise ConfigError(f"{target}: expected a new name or a store of raymend's, got a file; {advice}")
    kind = own_kind(target)
    if kind is None:
        raise ConfigError(f"{target}: expected a new name or a store of raymend's, got a folder; {advice}")
    try:
        other = next((name for name, _ in walk(target) if not _belongs(name, kind)), None)
    except CTError as error:
        raise ConfigError(f"{target}: expected a store of raymend's; {error}") from error
    if other is not None:
        raise ConfigError(
            f"{target}: expected a store of raymend's, got {other} in it, which it did not write; {advice}"
        )


def _belongs(name: str, kind: str) -> bool:
    found = _FILE.fullmatch(name)
    return found is not None and (found[1] in _ARRAYS[kind] if found[1] else name == "zarr.json")


def _checksum(path: Path, attributes: Mapping[str, Any], arrays: Sequence[str]) -> str:
    """Return the sha256 of the parts of the metadata that raymend wrote and reads."""
    own = {name: value for name, value in attributes["raymend"].items() if name != "checksum"}
    parts = [own, attributes.get("ome"), *(metadata(path / name) for name in sorted(arrays))]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
