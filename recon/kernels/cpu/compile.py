"""Compile with numba, cache the result, and say so when it takes a while."""

import functools
import hashlib
import os
import tempfile
import time
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


def kernel(function: Callable[..., Any]) -> "CompiledKernel":
    """Compile a parallel kernel on first use; later processes read it from the cache."""
    return CompiledKernel(function)


def inline(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a helper that kernels call."""
    compiled: Callable[..., Any] = _jit(function, inline="never", parallel=False)
    return compiled


class CompiledKernel:
    """A numba function that announces its compilation."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._name = function.__name__.strip("_").replace("_", " ")
        self._dispatcher = _jit(function, parallel=True)
        self.__doc__ = function.__doc__

    def __call__(self, *arguments: Any) -> Any:
        """Run, compiling first if these types are new."""
        if self._is_new(arguments):
            for listener in _listeners:
                listener(self._name)
        return self._dispatcher(*arguments)

    def _is_new(self, arguments: tuple[Any, ...]) -> bool:
        if not _listeners or not hasattr(self._dispatcher, "get_call_template"):
            return False
        types = tuple(numba.typeof(a) for a in arguments)
        if types in self._dispatcher.overloads:
            return False
        cache = getattr(self._dispatcher, "_cache", None)
        index = getattr(cache, "_cache_file", None)
        return index is None or not os.path.exists(index._index_path)


def _jit(function: Callable[..., Any], **options: Any) -> Any:
    compiled = numba.njit(nogil=True, error_model="numpy", **options)(function)
    try:
        compiled._cache = _Cache(function)
    except RuntimeError:  # no folder to cache in: read-only installation without a home
        os.environ.setdefault("NUMBA_CACHE_DIR", _private_cache())
        numba.config.reload_config()
        compiled._cache = _Cache(function)
    return compiled


class _Cache(FunctionCache):
    """Numba's cache of one function, which also tells the forms of `simd` apart."""

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        return *super()._index_key(sig, codegen), simd.instruction_set(), _toolkit()


@functools.cache
def _toolkit() -> str:
    """Return a digest of `simd`, which numba does not know to be part of the kernels it is compiled into."""
    return hashlib.sha256(Path(simd.__file__).read_bytes()).hexdigest()


def _private_cache() -> str:
    folder = os.path.join(tempfile.gettempdir(), f"raymend-kernels-{os.getuid() if hasattr(os, 'getuid') else 'user'}")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    return folder


def compile_time(call: Callable[[], Any]) -> float:
    """Measure the seconds a call takes beyond its second run."""
    start = time.perf_counter()
    call()
    first = time.perf_counter() - start
    start = time.perf_counter()
    call()
    return max(0.0, first - (time.perf_counter() - start))
