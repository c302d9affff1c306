"""Compile with numba, cache the result, and say so when it takes a while."""

import contextlib
import functools
import hashlib
import os
import stat
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numba
import torch
from numba.core import types
from numba.core.caching import FunctionCache

from recon.kernels.cpu import simd, workers

Listener = Callable[[str], None]
_listeners: list[Listener] = []


def on_compile(listener: Listener) -> None:
    """Call a function with the kernel's name whenever one is about to be compiled (not when the cache has it)."""
    _listeners.append(listener)


class Kernel:
    """A function of (begin, end, ...) that does the jobs numbered from begin to end - 1, compiled on first use.

    Calling it with the number of jobs in place of the two does them all, on several threads. With `scratch`, the
    function gets an array of so many numbers after them, undefined and its thread's own.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._compiled = _jit(function, announced=True)
        functools.update_wrapper(self, function)

    @property
    def stats(self) -> Any:
        """What numba counts of its cache, and where it is."""
        return self._compiled.stats

    def __call__(self, jobs: int, *arguments: Any, scratch: int = 0, dtype: torch.dtype = torch.float32) -> None:
        """Do all jobs."""

        def worker() -> workers.Work:
            space = (torch.empty(scratch, dtype=dtype).numpy(),) if scratch else ()
            return lambda begin, end: self._compiled(begin, end, *space, *arguments)

        workers.share(worker, jobs)

    def alone(self, jobs: int, *arguments: Any) -> None:
        """Do all jobs on this thread: where they take less than others need to wake up, above all on a busy machine."""
        self._compiled(0, jobs, *arguments)


def kernel(function: Callable[..., Any]) -> Kernel:
    """Compile a kernel on first use; later processes read it from the cache."""
    return Kernel(function)


def inline(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a helper that only kernels can call: without a wrapper, a call from Python would crash."""
    compiled = _jit(function, announced=False, inline="never", no_cpython_wrapper=True)

    def template(arguments: Iterable[Any], named: Any) -> Any:
        """Take the number 0 for any integer, where numba would compile once more for each number that is passed."""
        return type(compiled).get_call_template(compiled, tuple(map(types.unliteral, arguments)), named)

    compiled.get_call_template = template
    result: Callable[..., Any] = compiled
    return result


def _jit(function: Callable[..., Any], *, announced: bool, **options: Any) -> Any:
    """Compile without numba's run-time system: kernels allocate nothing, and counting references costs time."""
    options |= {"nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True, "_nrt": False}
    compiled = numba.njit(**options)(function)
    make: type[_Cache] = _AnnouncedCache if announced else _Cache
    try:
        compiled._cache = make(function)
    except RuntimeError:  # no folder to cache in: read-only installation without a home
        os.environ["NUMBA_CACHE_DIR"] = _private_cache()
        numba.config.reload_config()
        compiled._cache = make(function)
    return compiled


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
    """Return a digest of all kernels: numba looks at a function's own file, not at those of the helpers it calls."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


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
