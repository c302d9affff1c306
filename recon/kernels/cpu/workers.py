"""Threads that share the jobs of a kernel: whoever is free takes the next few.

Jobs are numbered and write to places of their own, so that neither the number of threads nor who does what changes a
bit. Numba's own threads are not used: a loop compiled for them takes about twice as long to compile, their shares are
fixed in advance, and some of them neither survive a fork nor serve two callers at once. These do; but torch's own
threads, which copy arrays, hang in a forked process that used them before: start processes by spawn.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numba

Work = Callable[[int, int], object]

_TURNS = 4  # per thread: more even out the load, but each costs some 20 microseconds
_pools: dict[int, ThreadPoolExecutor] = {}  # by number of threads


def share(worker: Callable[[], Work], jobs: int) -> None:
    """Do all jobs, on as many threads as numba is set to use: each makes itself a work(begin, end) and takes turns."""
    threads = min(jobs, numba.get_num_threads())
    turn = max(1, jobs // (_TURNS * max(1, threads)))
    begins = iter(range(0, jobs, turn))

    def take_turns() -> None:
        work = worker()
        for begin in begins:
            work(begin, min(begin + turn, jobs))

    helpers = [_pool(threads - 1).submit(take_turns) for _ in range(threads - 1)]
    try:
        take_turns()
    except BaseException:
        for _ in begins:  # nothing is left for the helpers: an interrupt does not wait for all jobs
            pass
        raise
    finally:
        for helper in [helper for helper in helpers if not helper.cancel()]:
            helper.result()


def _pool(threads: int) -> ThreadPoolExecutor:
    if threads not in _pools:
        _pools[threads] = ThreadPoolExecutor(threads, thread_name_prefix="raymend-kernel")
    return _pools[threads]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pools.clear)  # threads do not survive a fork
