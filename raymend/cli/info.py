"""`raymend info`: what a file is, its geometry as understood, and what looks wrong."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from raymend.cli import common
from raymend.cli.common import Debug, Json, SettingsFile
from raymend.cli.guard import one_line
from raymend.cli.loading import load_stated


def info(
    file: Annotated[Path, typer.Argument(help="A scan, a volume, a Zarr store, or a folder of DICOM slices.")],
    settings: SettingsFile = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Say what a file is, its geometry as understood, and what looks wrong."""
    from recon.io import describe

    content = describe(file) if settings is None else describe(file, reader=load_stated(settings).scan)
    if json:
        common.print_json(content)
        return
    doubts = content.pop("warnings")
    print("\n".join(_lines(content)))
    if doubts:
        print("\nlooks wrong:")
        print("\n".join(f"  - {one_line(doubt)}" for doubt in doubts))
    else:
        print("\nnothing looks wrong")
    if content["holds"] == "scan":
        also = "" if settings is None else f" --settings {settings}"
        print(f"next: raymend reconstruct {file} -o image.nii.gz{also}")


def _lines(content: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """Write nested values as aligned lines."""
    width = max(len(key) for key in content)
    for key, value in content.items():
        if isinstance(value, Mapping) and not _short(value):
            yield f"{indent}{key}:"
            yield from _lines(value, indent + "  ")
        elif isinstance(value, list) and value:
            yield f"{indent}{key}:"
            yield from (f"{indent}  {item}" for item in value)
        else:
            yield f"{indent}{key:<{width}}  {_text(value)}"


def _short(value: Mapping[str, Any]) -> bool:
    """Tell whether a mapping of numbers fits on one line."""
    return len(value) <= 3 and all(isinstance(item, int | float) for item in value.values())


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(item)}" for key, item in value.items())
    if isinstance(value, tuple):
        return " x ".join(_text(item) for item in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or value == []:
        return "unknown" if value is None else "none"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
