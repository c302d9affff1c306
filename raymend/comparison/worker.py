"""A process that makes cells: jobs come as lines of JSON on stdin, an answer for each goes out on stdout.

It ends when stdin does, or half a second after the process that started it, so that none is left behind.
"""

import json
import os
import signal
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

from raymend.comparison.bench import Bench
from raymend.comparison.job import Job
from raymend.comparison.outcome import Cell
from raymend.comparison.store import Store


def main() -> None:
    """Serve until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; whoever started us decides
    threading.Thread(target=_watch, args=(os.getppid(),), daemon=True).start()
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)  # what a user's method prints is no answer
        warnings.simplefilter("ignore")
        bench, store = Bench(), Store(Path(sys.argv[1]))
        for line in sys.stdin:
            answers.write(json.dumps({"message": serve(bench, store, json.loads(line))}) + "\n")
            answers.flush()


def _watch(parent: int) -> None:
    """End in the middle of a cell, too, when the process that started us is gone."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def serve(bench: Bench, store: Store, words: dict[str, Any]) -> str:
    """Make a cell from words and keep it; return why it has no numbers, or nothing."""
    job = Job.of(words)
    if job.key != words["key"]:
        return "it was changed while the comparison ran; run it again"
    return made(bench, store, job).message


def made(bench: Bench, store: Store, job: Job) -> Cell:
    """Make a cell and keep it if it has all its numbers: what failed is tried again by the next run."""
    cell = bench.cell(job.case, job.method, job.strength, job.setup)
    if cell.message:
        return cell
    if job.pictures and store.shown(job.case_key, job.case.name) is None:
        store.keep_shown(job.case_key, bench.shown(job.case, job.setup))
    store.keep(job.key, cell if job.pictures else Cell(values=cell.values, seconds=cell.seconds))
    return cell
