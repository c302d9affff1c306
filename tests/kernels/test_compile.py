"""Kernels compile wherever they can, and say when they do."""

from pathlib import Path

import numpy as np
import pytest
from numba.core import caching

from recon.kernels.cpu import compile


def fill(begin: int, end: int, values: np.ndarray, value: float) -> None:
    for i in range(begin, end):
        values[i] = value


def number(begin: int, end: int, scratch: np.ndarray, values: np.ndarray) -> None:
    for i in range(begin, end):
        scratch[0] = i
        values[i] += scratch[0] + len(scratch)


def test_an_installation_that_cannot_be_written_caches_elsewhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", "removed on the next line, put back afterwards")
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    monkeypatch.setattr(compile.numba.config, "CACHE_DIR", "")
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [caching.UserProvidedCacheLocator])
    monkeypatch.setattr(compile, "_private_cache", lambda: str(tmp_path))
    values = np.zeros(5)
    compile.kernel(fill)(5, values, 3.0)
    assert values.tolist() == [3.0] * 5
    assert list(tmp_path.rglob("*.nbi"))


def test_listeners_hear_of_a_compilation_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(compile.numba.config, "CACHE_DIR", str(tmp_path))
    heard: list[str] = []
    monkeypatch.setattr(compile, "_listeners", [heard.append])
    kernel = compile.kernel(fill)
    values = np.zeros(5)
    kernel(5, values, 3.0)
    kernel(5, values, 4.0)
    assert values.tolist() == [4.0] * 5
    assert heard == ["fill"]


def test_another_type_is_announced_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(compile.numba.config, "CACHE_DIR", str(tmp_path))
    heard: list[str] = []
    monkeypatch.setattr(compile, "_listeners", [heard.append])
    for kernel in (compile.kernel(fill), compile.kernel(fill)):  # the second one finds both in the cache
        kernel(3, np.zeros(3), 1.0)
        kernel(3, np.zeros(3, dtype=np.float32), 1.0)
    assert heard == ["fill", "fill"]


def test_a_cache_folder_of_others_is_not_trusted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(compile.tempfile, "tempdir", str(tmp_path))
    first = Path(compile._private_cache())
    assert first.stat().st_mode & 0o077 == 0
    assert Path(compile._private_cache()) == first
    first.chmod(0o777)
    assert Path(compile._private_cache()) != first


@pytest.mark.parametrize("jobs", [0, 1, 2, 7, 100])
def test_every_job_is_done_once(jobs: int) -> None:
    values = np.zeros(jobs)
    compile.kernel(number)(jobs, values, scratch=3)
    assert values.tolist() == [i + 3 for i in range(jobs)]


def test_a_helper_is_compiled_once_for_all_numbers_passed_to_it() -> None:
    @compile.inline
    def twice(a, b):  # type: ignore[no-untyped-def]
        return a + b

    def both(begin, end, values):  # type: ignore[no-untyped-def]
        for i in range(begin, end):
            values[i] = twice(i, 0) + twice(i, 1)

    values = np.zeros(3)
    compile.kernel(both)(3, values)
    assert values.tolist() == [1.0, 3.0, 5.0]
    assert len(twice.overloads) == 1
