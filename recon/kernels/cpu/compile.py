"""Compile with numba, cache the result, and say so when it takes a while."""

import contextlib
import functools
import hashlib
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import FunctionCache

from recon.kernels.cpu import simd

Listener = Callable[[str], None]
_listeners: list[Listener] = []


def on_compile(listener: Listener) -> None:
    """Call a function with the kernel's name whenever one is about to be compiled (not when the cache has it)."""
    _listeners.append(listener)


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a parallel kernel on first use; later processes read it from the cache."""
    return _jit(function, announced=True, parallel=True)


def inline(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a helper that kernels call."""
    return _jit(function, announced=False, inline="never", parallel=False)


def _jit(function: Callable[..., Any], *, announced: bool, **options: Any) -> Callable[..., Any]:
    compiled = numba.njit(nogil=True, error_model="numpy", **options)(function)
    make: type[_Cache] = _AnnouncedCache if announced else _Cache
    try:
        compiled._cache = make(function)
    except RuntimeError:  # no folder to cache in: read-only installation without a home
        os.environ["NUMBA_CACHE_DIR"] = _private_cache()
        numba.config.reload_config()
        compiled._cache = make(function)
    result: Callable[..., Any] = compiled
    return result


class _Cache(FunctionCache):
    """Numba's cache of one function, which also tells the forms of `simd` apart."""

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        return *super()._index_key(sig, codegen), simd.instruction_set(), _toolkit()


class _AnnouncedCache(_Cache):
    """A cache that says when it has nothing, which is when numba starts to compile."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        found = super().load_overload(sig, target_context)
        if found is None:
            for listener in _listeners:
                listener(self._py_func.__name__.strip("_").replace("_", " "))
        return found


@functools.cache
def _toolkit() -> str:
    """Return a digest of `simd`, which numba does not know to be part of the kernels it is compiled into."""
    return hashlib.sha256(Path(simd.__file__).read_bytes()).hexdigest()


def _private_cache() -> str:
    """Return a folder that only this user can write: what lies in it is run."""
    if not hasattr(os, "getuid"):
        return tempfile.mkdtemp(prefix="raymend-kernels-")
    folder = os.path.join(tempfile.gettempdir(), f"raymend-kernels-{os.getuid()}")
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder, mode=0o700)
    found = os.lstat(folder)
    ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077
    return folder if ours else tempfile.mkdtemp(prefix="raymend-kernels-")
