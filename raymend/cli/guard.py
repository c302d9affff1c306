"""How a command ends: exit codes, one line per error, warnings as single lines, signals as interruptions."""

import contextlib
import functools
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec

import typer

BAD_INPUT, RESOURCE, NUMERICAL, BUG, INTERRUPTED, TERMINATED = 3, 4, 5, 70, 130, 143

_OPTIONS = {
    "pass pitch=": "pass --pitch MM",
    "state pitch=": "state --pitch MM",
    "pass air= with the count without an object (--log on the command line)": "use --log --photons N",
    "pass air=": "use --log --photons N",
    "state them in its calibration, Calibration(photons=...)": "pass --photons N, or state them in --settings",
    "pass incident=, the photons per column (Dose.incident)": "reduce it in Python with incident=",
    "pass geometry=": "state it with --settings FILE.toml",
    "move it with .cpu()": "run with --device cpu",
    "pass limited_angle=True (--limited-angle)": "pass --limited-angle",
}

P = ParamSpec("P")
_noticed: list[str] = []


_terminated = threading.Event()


class Terminated(KeyboardInterrupt):
    """SIGTERM: handled like Ctrl-C, so that iterations can hand over their state, with an exit code of its own."""


class Resumable(KeyboardInterrupt):
    """An interrupt of work that the same command goes on with."""

    @property
    def exit_code(self) -> int:
        """That of an interrupt, or of SIGTERM."""
        return TERMINATED if terminated() else INTERRUPTED


def terminated() -> bool:
    """Tell whether SIGTERM has come, also where an iteration swallowed the interrupt to hand over its state."""
    return _terminated.is_set()


def command(function: Callable[P, None]) -> Callable[P, None]:
    """Make a command end in an exit code and one line instead of a traceback."""

    @functools.wraps(function)
    def guarded(*arguments: P.args, **options: P.kwargs) -> None:
        try:
            with terminable(), warning_lines(everything=bool(options.get("debug"))):
                function(*arguments, **options)
        except typer.Exit:
            raise
        except (Exception, KeyboardInterrupt) as problem:
            raise typer.Exit(report(problem, debug=bool(options.get("debug")))) from None

    return guarded


def report(problem: BaseException, *, debug: bool = False) -> int:
    """Say on stderr what went wrong, in one line, and return the exit code."""
    if debug:
        traceback.print_exception(problem)
    code, message = describe(problem)
    if message:
        print(f"raymend: {one_line(message)}", file=sys.stderr)
    return code


def describe(problem: BaseException) -> tuple[int, str]:
    """Return the exit code and the message of an exception."""
    code = getattr(problem, "exit_code", None)
    if isinstance(code, int):
        return code, str(problem)
    if isinstance(problem, KeyboardInterrupt):
        stopped = isinstance(problem, Terminated) or terminated()  # an iteration may have swallowed the first one
        return (TERMINATED if stopped else INTERRUPTED), "interrupted; nothing was written"
    if isinstance(problem, BrokenPipeError):
        return 0, ""
    if isinstance(problem, FileNotFoundError | IsADirectoryError | NotADirectoryError):
        return BAD_INPUT, f"{problem.filename}: {problem.strerror}"
    if isinstance(problem, OSError | MemoryError):
        return RESOURCE, _resource(problem)
    return BUG, (
        f"{type(problem).__name__}: {problem}. This is a bug in raymend: please report it with the output of the same "
        "command with --debug"
    )


def one_line(message: str) -> str:
    """Fold a message into one line and name options where functions would name arguments."""
    for argument, option in _OPTIONS.items():
        message = message.replace(argument, option)
    return " ".join(message.split())


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Turn SIGTERM into an exception, so that files and locks are cleaned up."""
    _terminated.clear()

    def stop(number: int, frame: Any) -> None:
        _terminated.set()
        raise Terminated

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not in the main thread: whoever runs us there handles signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def warning_lines(*, everything: bool = False) -> Iterator[None]:
    """Print raymend's warnings as single lines on stderr; those of libraries only on request."""
    _noticed.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("default" if everything else "ignore")
        warnings.filterwarnings("always", category=UserWarning)
        warnings.showwarning = functools.partial(_show, everything)
        yield


def noticed() -> list[str]:
    """Return the warnings of the running command so far."""
    return list(_noticed)


def _show(everything: bool, message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    text = one_line(str(message))
    if text in _noticed or not (everything or category.__name__ == "CTWarning"):
        return
    _noticed.append(text)
    print(f"warning: {text}", file=sys.stderr)


def _resource(problem: OSError | MemoryError) -> str:
    if isinstance(problem, MemoryError):
        return f"out of memory{': ' if str(problem) else ''}{problem}; use fewer or larger voxels (--shape, --spacing)"
    return f"{problem.filename}: {problem.strerror}" if problem.filename else str(problem)
