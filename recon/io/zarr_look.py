"""Zarr with care: what a store claims is looked at here before the library sees it.

Zarr reads a missing chunk as zeros, follows links to anywhere and unpacks what it finds. So metadata are read here
first and links are refused; `zarr_array` compares the chunks there with those expected, and what a chunk would unpack
to with what one may hold.
"""

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from recon.errors import FormatError, MissingExtraError, UnsafeFileError

_MARKS: Final = ("zarr.json", ".zgroup", ".zarray", ".zattrs", ".zmetadata")
_MOST_METADATA = 1 << 26  # bytes
NOT_WRITTEN: Final = "the store was not completely written or copied"


def zarr_library(feature: str) -> Any:
    """Return the library, or say how to install it."""
    try:
        import zarr
    except ImportError as error:
        raise MissingExtraError("zarr", "io", feature) from error
    return zarr


def is_store(path: "str | os.PathLike[str]") -> bool:
    """Tell whether a folder is meant as a Zarr store: by its name, or by what lies in it."""
    name = os.fspath(path)
    if not os.path.isdir(name):
        return False
    return name.lower().rstrip("/").endswith(".zarr") or any(os.path.lexists(Path(name) / mark) for mark in _MARKS)


def is_old(path: Path) -> bool:
    """Tell whether a store is of Zarr version 2, whose filters may run code from the file."""
    return not os.path.lexists(path / "zarr.json") and any(os.path.lexists(path / mark) for mark in _MARKS)


def walk(folder: Path, inside: str = "") -> Iterator[tuple[str, os.stat_result]]:
    """Yield every file of a store by its path inside.

    Raises:
        UnsafeFileError: a link.
        FormatError: a pipe, device or socket.
    """
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        name = f"{inside}{entry.name}"
        if entry.is_symlink():
            raise UnsafeFileError(f"{entry.path}: a link, which may lead out of the store; copy the data into it")
        if entry.is_dir(follow_symlinks=False):
            yield from walk(Path(entry.path), f"{name}/")
        elif entry.is_file(follow_symlinks=False):
            yield name, entry.stat(follow_symlinks=False)
        else:
            raise FormatError(f"{entry.path}: not a regular file (expected a chunk, got a pipe, device or socket)")


def metadata(folder: Path) -> dict[str, Any]:
    """Read the zarr.json of a group or array.

    Raises:
        UnsafeFileError: a link.
        FormatError: none there, or not the JSON of Zarr version 3.
    """
    file = folder / "zarr.json"
    try:
        found = os.lstat(file)
    except OSError as error:
        raise FormatError(f"{folder}: expected zarr.json, got none ({error.strerror}); {NOT_WRITTEN}") from error
    if stat.S_ISLNK(found.st_mode):
        raise UnsafeFileError(f"{file}: a link, which may lead out of the store; copy the data into it")
    if not stat.S_ISREG(found.st_mode) or not 0 < found.st_size <= _MOST_METADATA:
        got = f"{found.st_size} bytes" if found.st_size else "an empty file"
        raise FormatError(f"{file}: expected JSON, got {got}; was it completely written?")
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{file}: expected JSON, got unknown content ({error}); it may be damaged") from error
    if not isinstance(content, dict) or content.get("zarr_format") != 3:
        raise FormatError(f"{file}: expected the metadata of Zarr version 3, got unknown content; it may be damaged")
    return content
