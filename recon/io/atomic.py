"""Every write: into a temporary file beside the target, then one rename, so that a file is old or new, never half."""

import errno
import hashlib
import os
import secrets
import shutil
import socket
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from recon.errors import ConfigError, CTError, ResourceError
from recon.io.zarr_own import check_replaceable

_PREFIX = ".raymend-"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FULL_TEXTS = ("No space left", "File too large", " requested and ")


@contextmanager
def atomic_write(path: "str | os.PathLike[str]") -> Iterator[Path]:
    """Give a temporary path in the target's folder and put it in place when the block ends well.

    The temporary path keeps the target's suffixes, so that libraries recognise the format. Whatever ends the block
    early, an interrupt included, removes the temporary file and leaves an old target as it was.

    Args:
        path: the file to make or replace; a link is followed.

    Raises:
        ConfigError: the target is a folder or device, or its folder is missing or not writable.
        ResourceError: the disk is full.
    """
    target = check_writable(path)
    temporary = temporary_beside(target)
    try:
        with translated_write(target):
            yield temporary
            sync(temporary)
            os.replace(temporary, target)
            sync(target.parent)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def temporary_beside(target: Path) -> Path:
    """Return a free name beside a target, and remove what killed processes left there."""
    _sweep(target.parent)
    return target.parent / f"{_own_prefix()}{secrets.token_hex(4)}{_suffixes(target)}"


def check_writable(path: "str | os.PathLike[str]", inputs: Sequence["str | os.PathLike[str]"] = ()) -> Path:
    """Return the resolved target of a write, or refuse it; call this before a long computation.

    Args:
        path: where the output is to go; a name ending in .zarr may be that of a store raymend wrote.
        inputs: files and stores the output must not replace or be put into.

    Raises:
        ConfigError: a folder or device, a missing or unwritable folder, or one of the inputs.
    """
    target = Path(os.path.realpath(os.fspath(path)))
    with translated_write(target):
        mode = target.stat().st_mode if target.exists() else stat.S_IFREG
        _check_kind(target, mode)
        if any(target.is_relative_to(os.path.realpath(os.fspath(item))) for item in inputs):
            raise ConfigError(f"{target}: expected an output apart from the inputs, got an input; choose another name")
    return target


def _check_kind(target: Path, mode: int) -> None:
    if target.suffix.lower() == ".zarr":
        check_replaceable(target)
    elif stat.S_ISDIR(mode):
        raise ConfigError(f"{target}: expected a file to write, got a folder; add a file name with a suffix")
    elif not stat.S_ISREG(mode):
        raise ConfigError(f"{target}: expected a regular file to write, got a pipe, device or socket")
    if not target.parent.is_dir():
        raise ConfigError(f"{target}: expected an existing folder, got none at {target.parent}; make it first")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise ConfigError(
            f"{target}: expected a writable folder, got {target.parent}; choose another or change its rights"
        )


@contextmanager
def locked_folder(folder: "str | os.PathLike[str]") -> Iterator[None]:
    """Hold a folder for one run; a second run ends at once and names the first one's process.

    The lock ends with its process, however that ends.

    Raises:
        ConfigError: another process holds the folder, or it cannot be written.
    """
    import fcntl

    lock = check_writable(Path(os.fspath(folder)) / ".raymend.lock")
    with lock.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            owner = file.read().strip() or "unknown"
            raise ConfigError(f"{folder}: in use by process {owner}; wait for it or choose another folder") from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


@contextmanager
def translated_write(target: Path) -> Iterator[None]:
    """Say in one line what the system refused."""
    try:
        yield
    except CTError:
        raise
    except MemoryError as error:
        raise ResourceError(f"{target}: not enough memory to write; write a part of it") from error
    except OSError as error:
        if disk_full(error):
            raise ResourceError(
                f"{target}: the disk is full; free space or write elsewhere (nothing was left behind)"
            ) from error
        reason = error.strerror or " ".join(str(error).split())[:200]
        raise ConfigError(
            f"{target}: cannot be written ({reason}); check the folder, its rights and the name"
        ) from error


def disk_full(error: OSError) -> bool:
    """Recognise a full disk also where a library keeps only its text: h5py, and numpy, which counts what it wrote."""
    return error.errno in _FULL or any(text in str(error) for text in _FULL_TEXTS)


def _suffixes(target: Path) -> str:
    joined = "".join(target.suffixes[-2:])
    return joined if len(joined.encode()) <= 32 else target.suffix[:16]


def _own_prefix() -> str:
    """Name host and process, so that only leftovers of dead processes of this host are swept."""
    host = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]
    return f"{_PREFIX}{host}-{os.getpid()}-"


def _sweep(folder: Path) -> None:
    """Remove what killed processes of this host left; no clock is asked."""
    host = _own_prefix().split("-")[1]
    with suppress(OSError):
        for left in folder.glob(f"{_PREFIX}{host}-*"):
            pid = left.name.split("-")[2]
            if pid.isdigit() and not _alive(int(pid)):
                remove(left)


def remove(path: Path) -> None:
    """Remove a file or a folder with all that is in it; what is gone already is no matter."""
    with suppress(FileNotFoundError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def sync(path: Path) -> None:
    """Push a file or folder to the disk; folders cannot be synced everywhere."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:
        if not path.is_dir():
            raise
    finally:
        os.close(handle)
