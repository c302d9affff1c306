"""Progress on stderr: a bar on a terminal, a plain line now and then elsewhere."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

_EVERY = 10.0  # seconds between lines where there is no terminal

Advance = Callable[..., None]


@contextlib.contextmanager
def progress(label: str, total: int, *, quiet: bool = False) -> Iterator[Advance]:
    """Show how far an iteration is.

    Yields:
        A function of the number of finished steps and a note such as the residual.
    """
    if quiet:
        yield _nothing
    elif sys.stderr.isatty():
        with _bar(label, total) as advance:
            yield advance
    else:
        yield _lines(label, total)


def _nothing(done: int, note: str = "") -> None:
    """Show nothing."""


def announce_compilation(*, quiet: bool = False) -> None:
    """Say once that kernels are being compiled, since nothing else moves meanwhile."""
    from recon.kernels.cpu.compile import on_compile

    said: list[str] = []

    def tell(kernel: str) -> None:
        if not said and not quiet:
            print("compiling the kernels for this machine, once: up to a minute", file=sys.stderr, flush=True)
        said.append(kernel)

    on_compile(tell)


@contextlib.contextmanager
def _bar(label: str, total: int) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=total, note="")

        def advance(done: int, note: str = "") -> None:
            bar.update(task, completed=done, note=note)

        yield advance


def _lines(label: str, total: int) -> Advance:
    last = [time.monotonic()]

    def advance(done: int, note: str = "") -> None:
        if time.monotonic() - last[0] >= _EVERY:
            last[0] = time.monotonic()
            print(f"{label}: {done} of {total} {note}".rstrip(), file=sys.stderr, flush=True)

    return advance
