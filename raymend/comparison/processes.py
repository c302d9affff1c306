"""Jobs side by side: processes that are asked one job after the other, each by a thread of ours."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Final

from raymend.comparison.bench import Bench
from raymend.comparison.job import Job
from raymend.comparison.outcome import Cell
from raymend.comparison.store import Store
from raymend.comparison.worker import made
from raymend.machine import processors

_START: Final = "from raymend.comparison.worker import main; main()"

Done = Callable[[Job, Cell], None]


def run(jobs: Sequence[Job], store: Store, bench: Bench, processes: int, done: Done) -> None:
    """Make the cells of all jobs, here or in processes; those that cannot be named to a process are made here.

    Args:
        jobs: what is to be done.
        store: where cells are kept.
        bench: for the jobs that are done here.
        processes: how many work at a time.
        done: called after each job.
    """
    named = [job for job in jobs if job.words is not None]
    if min(processes, len(named)) < 2:
        named = [job for job in named if ":" in job.method.word]  # a user's file may end its process
    if named:
        _Crew(store, named, done).run(min(processes, len(named)))
    apart = {id(job) for job in named}
    for job in jobs:
        if id(job) not in apart:
            done(job, made(bench, store, job))


class _Crew:
    """Threads that each hold a process and take jobs from one list, those of the case in hand first."""

    def __init__(self, store: Store, jobs: Sequence[Job], done: Done) -> None:
        self._store, self._left, self._done = store, list(jobs), done
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._problems: list[BaseException] = []
        self._running: set[subprocess.Popen[str]] = set()

    def run(self, count: int) -> None:
        """Work off all jobs with so many processes, and leave none behind."""
        threads = [threading.Thread(target=self._work, args=(count,), daemon=True) for _ in range(count)]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                while thread.is_alive():
                    thread.join(0.2)  # so that Ctrl-C is heard
        finally:
            self._stopped.set()
            for process in list(self._running):
                process.kill()
        if self._problems:
            raise self._problems[0]

    def _work(self, count: int) -> None:
        process, job = None, None
        try:
            while not self._stopped.is_set() and (job := self._next(job)) is not None:
                if process is not None and process.poll() is not None:
                    self._close(process)
                    process = None
                process = process or self._process(count)
                cell = self._asked(process, job)
                with self._lock:
                    self._done(job, cell)
        except BaseException as problem:
            self._problems.append(problem)
            self._stopped.set()
        finally:
            if process is not None:
                self._close(process)

    def _next(self, last: Job | None) -> Job | None:
        """Take the next job: of the case in hand if there is one, otherwise of the case with the most left."""
        with self._lock:
            if not self._left:
                return None
            keys = [job.case_key for job in self._left]
            wanted = last.case_key if last is not None and last.case_key in keys else max(keys, key=keys.count)
            return self._left.pop(keys.index(wanted))

    def _asked(self, process: "subprocess.Popen[str]", job: Job) -> Cell:
        """Have a job done, and read its cell; a process that ends meanwhile is the job's failure."""
        assert process.stdin is not None  # it was made with pipes
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(job.words) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            return Cell(message=f"the process that worked on it ended ({_ending(process.wait())}); see workers.log")
        message: str = json.loads(answer)["message"]
        return Cell(message=message) if message else self._store.cell(job.key)

    def _process(self, count: int) -> "subprocess.Popen[str]":
        threads = str(max(1, processors() // count))
        paths = os.pathsep.join(path for path in sys.path if path)
        environment = {
            **os.environ, "PYTHONPATH": paths, "PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": threads,
            "NUMBA_NUM_THREADS": threads,
        }  # fmt: skip
        with (self._store.folder / "workers.log").open("a") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", _START, str(self._store.folder)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=environment,
            )  # fmt: skip
        self._running.add(process)
        return process

    def _close(self, process: "subprocess.Popen[str]") -> None:
        self._running.discard(process)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _ending(code: int) -> str:
    return f"killed by signal {-code}" if code < 0 else f"status {code}"
