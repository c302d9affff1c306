"""What a reader may spend: regular files only, sizes checked before memory is taken, one kind of error."""

import errno
import hashlib
import math
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from recon import checks
from recon.checks import available_memory
from recon.errors import (
    ConfigError,
    CTError,
    FormatError,
    GeometryError,
    MissingExtraError,
    ResourceError,
    ShapeError,
)
from recon.sizes import in_words

DEFLATE_RATIO = 1100  # deflate cannot pack tighter than 1032 : 1; a larger claim is a lie


def regular_file(path: "str | os.PathLike[str]") -> Path:
    """Return the path of an existing regular file.

    Raises:
        FormatError: nothing there, or a folder, pipe or device.
    """
    given = Path(os.fspath(path))
    try:
        mode = os.stat(given).st_mode
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise FormatError(f"{given}: expected a file, got none ({reason}); check the path") from error
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe, device or socket"
        raise FormatError(f"{given}: not a regular file (expected a file, got {kind}); copy the data into a file first")
    return given


def byte_limit(max_bytes: int | None) -> int:
    """Return the largest array a reader may make: `max_bytes`, or half of the available memory."""
    if max_bytes is None:
        return available_memory() // 2
    if not checks.whole(max_bytes) or max_bytes < 1:
        raise ConfigError(f"max_bytes: expected a whole number of bytes above 0, got {max_bytes!r}")
    return int(max_bytes)


def check_bytes(where: str, wanted: int, limit: int) -> None:
    """Refuse a declared size beyond the limit, before anything is allocated."""
    if wanted > limit:
        raise ResourceError(
            f"{where}: needs {in_words(wanted)} (expected at most {in_words(limit)}); "
            "raise max_bytes, free memory, or read a part of it"
        )


def check_shape(where: str, shape: Sequence[int], itemsize: int, limit: int) -> int:
    """Return the bytes of a declared shape; refuse negative, empty and too large ones."""
    if any(n < 0 for n in shape):
        raise FormatError(f"{where}: expected sizes of 1 or more, got {tuple(shape)}; the file is damaged")
    if any(n == 0 for n in shape):
        raise FormatError(f"{where}: expected data, got an empty array {tuple(shape)}")
    wanted = math.prod(int(n) for n in shape) * itemsize
    check_bytes(where, wanted, limit)
    return wanted


def checksum(path: Path) -> str:
    """Return the sha256 of a file, or of the names and contents of all files in a folder."""
    if path.is_dir():
        files = sorted(item for item in path.rglob("*") if item.is_file())
        lines = "".join(f"{checksum(item)} {item.relative_to(path).as_posix()}\n" for item in files)
        return hashlib.sha256(lines.encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stamp(path: Path) -> tuple[int, ...]:
    """Return what tells a file from a later one of its name: its number, size and time of change."""
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def check_stamp(path: Path, expected: tuple[int, ...]) -> None:
    """Refuse a file that is no longer the one it was.

    Raises:
        FormatError: it is gone, or it has changed.
    """
    advice = "put the same file back and run the same command again"
    try:
        same = stamp(path) == expected
    except OSError as error:
        raise FormatError(f"{path}: expected the file the run began with, but it is gone; {advice}") from error
    if not same:
        raise FormatError(f"{path}: expected the file the run began with, but it has changed since; {advice}")


@contextmanager
def translated(where: "str | os.PathLike[str]", what: str) -> Iterator[None]:
    """Turn whatever a parser throws at damaged input into one error that names the file.

    Parsers of foreign formats promise no set of exceptions, so all of them are caught here and nowhere else. Settings
    that cannot be used are the file's fault, too: what comes from the caller is checked before.
    """
    name = os.fspath(where)
    try:
        yield
    except MissingExtraError:
        raise
    except (ConfigError, GeometryError, ShapeError) as error:
        raise FormatError(f"{name}: {error}") from error
    except CTError:
        raise
    except MemoryError as error:
        raise ResourceError(f"{name}: not enough memory to read this {what}; read a part of it") from error
    except RecursionError as error:
        raise FormatError(f"{name}: nested too deeply for a {what}; the file is damaged or hostile") from error
    except Exception as error:
        if getattr(error, "errno", None) in (errno.ENOMEM, errno.EMFILE):
            raise ResourceError(f"{name}: the system refused ({error}); free memory or files") from error
        raise FormatError(
            f"{name}: cannot be read as {what} ({_reason(error)}); it is damaged, truncated or mislabelled"
        ) from error


def _reason(error: Exception) -> str:
    """Say why in one line; name the checksum where a filter of HDF5 or zip found one wrong."""
    text = " ".join(str(error).split())[:200] or type(error).__name__
    if "filter returned failure" in text or "checksum" in text or "CRC" in text:
        return f"checksum does not match: {text}"
    return text
