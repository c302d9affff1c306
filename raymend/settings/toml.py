"""Reading a settings file: TOML in, checked tables out; all that is wrong is said at once."""

import codecs
import json
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raymend.nearest import nearest
from raymend.settings.spelling import respelt
from raymend.settings.tables import TABLES, RunSettings
from recon.errors import ConfigError, FormatError
from recon.io.limits import regular_file

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_MOST_BYTES = 4 << 20
_MOST_SHOWN = 20
_LONGEST = 300  # characters of one problem


def parse_settings(path: Path) -> tuple[RunSettings, list[str]]:
    """Read a settings file.

    Returns:
        The settings, and which spelling was taken for what.

    Raises:
        ConfigError: no such file, no TOML, unknown keys, values of another type or range: all of them, by path.
    """
    content, notes, problems = respelt(_parsed(path, _text(path)))
    settings, more = _validated(content)
    if any("sid:" in problem for problem in problems):  # what is missing follows from what is ambiguous
        more = [line for line in more if not line.startswith("geometry.source_to_")]
    problems += more
    if problems or settings is None:
        raise ConfigError(f"{path}: {_listed(problems)}")
    return settings, notes


def _text(path: Path) -> str:
    """Return the text of a file, or say at which line and column it stops being UTF-8."""
    content = _bytes(path)
    if not content:
        raise ConfigError(f"{path}: line 1, column 1: expected TOML, got an empty file")
    if content.startswith(codecs.BOM_UTF8):
        raise ConfigError(f"{path}: line 1, column 1: expected TOML, got a byte-order mark; save as UTF-8 without BOM")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        line, column = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
        utf16 = content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
        raise ConfigError(
            f"{path}: line {line}, column {column}: expected UTF-8, got {'UTF-16' if utf16 else 'other bytes'}; "
            "save it as UTF-8"
        ) from error


def _bytes(path: Path) -> bytes:
    try:
        file = regular_file(path)
        if file.stat().st_size > _MOST_BYTES:
            raise ConfigError(
                f"{path}: expected at most {_MOST_BYTES >> 20} MiB of settings, got {file.stat().st_size} B"
            )
        return file.read_bytes()
    except FormatError as error:
        raise ConfigError(str(error)) from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); check its rights") from error


def _parsed(path: Path, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ConfigError(f"{path}: expected TOML, got brackets nested too deeply") from error
    except ValueError as error:
        raise ConfigError(f"{path}: expected TOML: {' '.join(str(error).split())[:_LONGEST]}") from error


def _validated(content: dict[str, Any]) -> tuple[RunSettings | None, list[str]]:
    """Return the settings, or all that is wrong with them."""
    try:
        from pydantic import TypeAdapter, ValidationError
    except ImportError as error:
        raise ConfigError(
            "a settings file needs the package pydantic; install it with: pip install pydantic"
        ) from error
    try:
        text = json.dumps(content, default=str)
        return TypeAdapter(RunSettings).validate_json(text, strict=True), []
    except ValidationError as error:
        return None, [line for item in error.errors(include_url=False) for line in _problems(item)]
    except (ValueError, RecursionError) as error:  # whole numbers of thousands of digits, deep nesting
        return None, [f"expected numbers and lists of usual size ({error})"]


def _problems(error: "ErrorDetails") -> list[str]:
    """Say what is wrong at one place; a table as a whole may have several problems."""
    path, kind = ".".join(map(str, error["loc"])), error["type"]
    if kind == "unexpected_keyword_argument":
        return [f"{path}: unknown key; {_meant(*error['loc'])}"]
    if kind == "missing":
        return [f"{path}: expected a value, got none; add it"]
    if kind == "value_error":
        join = "." if len(error["loc"]) == 1 else ": "
        return [f"{path}{join}{line.removeprefix(': ')}" for line in str(error["ctx"]["error"]).splitlines()]
    wanted = "expected a table" if kind == "dataclass_type" else error["msg"].replace("Input should be", "expected")
    return [f"{path}: {wanted}, got {str(error['input'])[:60]!r}"]


def _meant(*place: int | str) -> str:
    """Say which key an unknown one was meant to be."""
    key = str(place[-1])
    known = list(TABLES[str(place[0])].__dataclass_fields__) if len(place) == 2 else list(TABLES)  # type: ignore[attr-defined]
    near = nearest(key, known)
    if near is not None:
        return f"did you mean {near}?"
    homes = [f"[{name}]" for name, table in TABLES.items() if key in table.__dataclass_fields__]  # type: ignore[attr-defined]
    return f"it belongs to {' or '.join(homes)}" if homes else f"known are {', '.join(known)}"


def _listed(problems: list[str]) -> str:
    """Put several problems on one line, each with a number."""
    short = [line if len(line) <= _LONGEST else line[:_LONGEST] + "…" for line in problems]
    if len(short) == 1:
        return short[0]
    shown = " ".join(f"({k}) {line}" for k, line in enumerate(short[:_MOST_SHOWN], 1))
    more = f" and {len(short) - _MOST_SHOWN} more" if len(short) > _MOST_SHOWN else ""
    return f"{len(short)} problems: {shown}{more}"
