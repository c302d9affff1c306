"""Kernels compile wherever they can, and say when they do."""

from pathlib import Path

import numba
import numpy as np
import pytest
from numba.core import caching

from recon.kernels.cpu import compile


def add(a: float, b: float) -> float:
    return a + b


def fill(values: np.ndarray, value: float) -> None:
    for i in numba.prange(len(values)):
        values[i] = value


def test_an_installation_that_cannot_be_written_caches_elsewhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", "removed on the next line, put back afterwards")
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    monkeypatch.setattr(compile.numba.config, "CACHE_DIR", "")
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [caching.UserProvidedCacheLocator])
    monkeypatch.setattr(compile, "_private_cache", lambda: str(tmp_path))
    assert compile.inline(add)(1.0, 2.0) == 3.0
    assert list(tmp_path.rglob("*.nbi"))


def test_listeners_hear_of_a_compilation_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(compile.numba.config, "CACHE_DIR", str(tmp_path))
    heard: list[str] = []
    monkeypatch.setattr(compile, "_listeners", [heard.append])
    kernel = compile.kernel(fill)
    values = np.zeros(5)
    kernel(values, 3.0)
    kernel(values, 4.0)
    assert values.tolist() == [4.0] * 5
    assert heard == ["fill"]


def test_another_type_is_announced_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(compile.numba.config, "CACHE_DIR", str(tmp_path))
    heard: list[str] = []
    monkeypatch.setattr(compile, "_listeners", [heard.append])
    for kernel in (compile.kernel(fill), compile.kernel(fill)):  # the second one finds both in the cache
        kernel(np.zeros(3), 1.0)
        kernel(np.zeros(3, dtype=np.float32), 1.0)
    assert heard == ["fill", "fill"]


def test_a_cache_folder_of_others_is_not_trusted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(compile.tempfile, "tempdir", str(tmp_path))
    first = Path(compile._private_cache())
    assert first.stat().st_mode & 0o077 == 0
    assert Path(compile._private_cache()) == first
    first.chmod(0o777)
    assert Path(compile._private_cache()) != first
