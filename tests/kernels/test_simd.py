"""Sixteen lanes at a time: every operation against numpy, in each form that this processor can run."""

import os
import subprocess
import sys

import numba
import numpy as np
import pytest

from recon.errors import ConfigError, ResourceError
from recon.kernels.cpu import simd
from recon.kernels.cpu.compile import kernel


@kernel
def arithmetic(job0, job1, a, b, out, ends):
    x, y = simd.load(a, 0), simd.load(b, 0)
    simd.store(out, 0, x + y)
    simd.store(out, 16, x - y)
    simd.store(out, 32, x * y)
    simd.store(out, 48, x / y)
    simd.store(out, 64, simd.minimum(x, y))
    simd.store(out, 80, simd.maximum(x, y))
    simd.store(out, 96, simd.absolute(x))
    simd.store(out, 112, simd.fill(np.float32(2.5)) + simd.lane_numbers())
    whole = simd.truncated(x)
    simd.store(out, 128, simd.as_floats(whole))
    simd.store(out, 144, simd.as_floats(whole - simd.fill_ints(3) + whole))
    ends[0], ends[1] = simd.first(whole), simd.last(whole)


@kernel
def stacked(job0, job1, scratch, out):
    """Write to arrays of three kinds and read them back, one of them with lanes."""
    values, doubles, numbers = simd.local_floats(16), simd.local_doubles(3), simd.local_ints(5)
    for k in range(16):
        values[k] = k
    for k in range(len(doubles)):
        doubles[k] = k + 0.5
    for k in range(len(numbers)):
        numbers[k] = k << 40
    simd.store(scratch, 0, simd.load(values, 0) + simd.lane_numbers())
    for k in range(16):
        out[k] = scratch[k] + doubles[k % 3] + numbers[k % 5]


@kernel
def picked(job0, job1, array, base, index, shift, out):
    """Read with both forms; the indices come as floats."""
    places = simd.truncated(simd.load(index, 0))
    simd.store(out, 0, simd.pick(array, base, places, shift))
    simd.store(out, 16, simd.pick_wide(array, base, places, shift))


@kernel
def picked_wide(job0, job1, array, base, index, shift, out):
    simd.store(out, 0, simd.pick_wide(array, base, simd.truncated(simd.load(index, 0)), shift))


def test_arithmetic_is_that_of_numpy() -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(16).astype(np.float32) * 10 for _ in range(2))
    out = np.full(160, np.nan, np.float32)
    ends = np.zeros(2)
    arithmetic(1, a, b, out, ends)
    whole = np.trunc(a)
    ramp = np.float32(2.5) + np.arange(16, dtype=np.float32)
    expected = [a + b, a - b, a * b, a / b, np.minimum(a, b), np.maximum(a, b), abs(a), ramp, whole, 2 * whole - 3]
    np.testing.assert_array_equal(out.reshape(-1, 16), expected)
    assert ends.tolist() == [whole[0], whole[-1]]


def test_arrays_on_the_stack_and_in_the_scratch_hold_what_is_written() -> None:
    out = np.zeros(16)
    stacked(1, out, scratch=16)
    k = np.arange(16)
    assert out.tolist() == (2.0 * k + k % 3 + 0.5 + (k % 5) * 2.0**40).tolist()


def check_picks() -> None:
    """Read rising, falling and level places, at every shift that fits."""
    array = np.random.default_rng(1).standard_normal(200).astype(np.float32)
    for step in (0.0, 0.3, 1.0, 1.9, -0.6, -1.0, -1.9):
        places = np.floor(np.arange(16) * np.float32(step) + 0.4)
        places -= places.min()
        for base in (0, 7, 64):
            for shift in range(32 - int(places.max())):
                out = np.full(32, np.nan, np.float32)
                picked(1, array, base, places.astype(np.float32), shift, out)
                np.testing.assert_array_equal(out.reshape(2, 16), [array[base + places.astype(int) + shift]] * 2)
    for step in (2.0, 3.1, 3.9, -2.7, -3.9):
        places = np.floor(np.arange(16) * step)
        places -= places.min()
        out = np.full(16, np.nan, np.float32)
        picked_wide(1, array, 33, places.astype(np.float32), 1, out)
        np.testing.assert_array_equal(out, array[34 + places.astype(int)])


def test_picked_places_are_those_asked_for() -> None:
    check_picks()


def offered() -> list[str]:
    every = list(simd.NAMES)
    return every[every.index(simd.instruction_set()) :]


@pytest.mark.parametrize("name", simd.NAMES)
def test_every_form_picks_the_same(name: str) -> None:
    if name not in offered():
        pytest.skip(f"this processor has no {name}")
    script = (
        "from recon.kernels.cpu import simd; from tests.kernels.test_simd import check_picks\n"
        f"assert simd.instruction_set() == {name!r}; check_picks()"
    )
    run(script, RAYMEND_SIMD=name)


def run(script: str, **settings: str) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **settings}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_settings_of_numba_count() -> None:
    script = "from recon.kernels.cpu import simd; print(simd.instruction_set())"
    assert run(script, NUMBA_CPU_NAME="generic", RAYMEND_SIMD="") == "portable"


def test_an_unknown_form_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYMEND_SIMD", "mmx")
    with pytest.raises(ConfigError, match="expected one of avx512, avx2, portable, got 'mmx'"):
        simd.instruction_set()


def test_a_form_the_processor_lacks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba.core.config, "CPU_FEATURES", "+sse2")
    monkeypatch.setenv("RAYMEND_SIMD", "avx512")
    with pytest.raises(ResourceError, match=r"RAYMEND_SIMD: expected one of portable.*got 'avx512'; unset"):
        simd.instruction_set()


def test_compiled_code_is_kept_apart_by_form(monkeypatch: pytest.MonkeyPatch) -> None:
    keys, names = set(), offered()
    for name in names:
        monkeypatch.setenv("RAYMEND_SIMD", name)
        keys.add(picked._compiled._cache._index_key((), numba.core.registry.cpu_target.target_context.codegen()))
    assert len(keys) == len(names)
