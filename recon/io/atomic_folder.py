"""A folder that is old or new, never half: written beside its target, then exchanged with it in one step."""

import ctypes
import functools
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from recon.io.atomic import check_writable, remove, sync, temporary_beside, translated_write

_HERE: Final = -100  # AT_FDCWD: names are relative to the working folder
_EXCHANGE: Final = 2  # RENAME_EXCHANGE
_TRIES = 50


@contextmanager
def atomic_folder(path: "str | os.PathLike[str]") -> Iterator[Path]:
    """Give a new folder beside the target and put it in place when the block ends well.

    Whatever ends the block early, an interrupt included, removes the new folder and leaves an old target as it was.

    Args:
        path: the store to make or replace; its name ends in .zarr.

    Raises:
        ConfigError: what is there is no store of raymend's, or the folder it lies in is missing or not writable.
        ResourceError: the disk is full.
    """
    target = check_writable(path)
    temporary = temporary_beside(target)
    try:
        with translated_write(target):
            temporary.mkdir()
            yield temporary
            place_folder(temporary, target)
    finally:
        _cleared(temporary)


def place_folder(source: Path, target: Path) -> None:
    """Push a folder to the disk and put it where an old one of raymend's may be, which is removed then."""
    for path in tree(source):
        sync(path)
    check_writable(target)
    if not target.exists():
        os.rename(source, target)
    else:
        swap(source, target)
        remove(source)
    sync(target.parent)


def swap(one: Path, other: Path) -> None:
    """Let two folders change their names: in one step where the system can, else with the other one set aside."""
    exchange = _exchange()
    if exchange is not None and exchange(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0:
        return
    aside = other.with_name(f"{other.name}.old")
    os.rename(other, aside)
    try:
        os.rename(one, other)
    except BaseException:
        os.rename(aside, other)
        raise
    os.rename(aside, one)


def tree(folder: Path) -> Iterator[Path]:
    """Yield a folder and all that is in it, folders after their files."""
    for place, _, names in os.walk(folder, topdown=False):
        yield from (Path(place) / name for name in names)
        yield Path(place)


@functools.cache
def _exchange() -> Callable[..., int] | None:
    """Return the C library's renameat2, which only Linux has."""
    try:
        function: Callable[..., int] = ctypes.CDLL(None).renameat2
    except (OSError, AttributeError, TypeError):
        return None
    return function


def _cleared(folder: Path) -> None:
    """Remove a folder into which another thread may still be writing when an interrupt ends its work."""
    for _ in range(_TRIES):
        with suppress(OSError):
            remove(folder)
        if not folder.exists():
            return
        time.sleep(0.01)
