"""The threads that share the jobs of a kernel."""

import multiprocessing
import os
import threading

import numba
import pytest

from recon.kernels.cpu import workers


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("jobs", [0, 1, 3, 8, 9, 1000])
def test_ranges_make_up_the_jobs(jobs: int, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba, "get_num_threads", lambda: threads)
    done: list[int] = []
    workers.share(lambda: lambda begin, end: done.extend(range(begin, end)), jobs)
    assert sorted(done) == list(range(jobs))


def test_an_error_in_any_thread_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba, "get_num_threads", lambda: 2)
    main = threading.get_ident()
    failed = threading.Event()

    def work(begin: int, end: int) -> None:
        if threading.get_ident() == main:
            failed.wait(10)
        else:
            failed.set()
            raise ValueError("a job failed")

    with pytest.raises(ValueError, match="a job failed"):
        workers.share(lambda: work, 8)


def test_callers_at_the_same_time_get_their_own_jobs_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba, "get_num_threads", lambda: 2)
    done: list[list[int]] = [[] for _ in range(8)]

    def call(mine: list[int]) -> None:
        workers.share(lambda: lambda begin, end: mine.extend(range(begin, end)), 50)

    callers = [threading.Thread(target=call, args=(mine,)) for mine in done]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert all(sorted(mine) == list(range(50)) for mine in done)


def _in_a_child() -> None:
    workers.share(lambda: lambda begin, end: None, 8)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba, "get_num_threads", lambda: 2)
    _in_a_child()
    child = multiprocessing.get_context("fork").Process(target=_in_a_child)
    child.start()
    child.join(20)
    assert child.exitcode == 0
