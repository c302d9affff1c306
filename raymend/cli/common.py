"""Options that commands share, and the checks that come before any computation."""

import json
import math
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from recon.errors import ConfigError

Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Device = Annotated[
    str | None, typer.Option(help="Where to compute: cpu, cuda, cuda:1 or several, cuda:0,cuda:1.", show_default="cpu")
]
Memory = Annotated[
    str | None,
    typer.Option(
        help="Most memory to take, such as 6GiB; what does not fit lies on the disk.",
        show_default="two thirds of what is free",
    ),
]
Scratch = Annotated[
    Path | None, typer.Option(help="Folder for what does not fit into memory.", show_default="that of the output")
]
SettingsFile = Annotated[Path | None, typer.Option("--settings", help="A TOML file of settings; options win over it.")]


def config_error(message: str) -> "ConfigError":
    """Make the error of a setting; imported late because it costs an import of torch."""
    from recon.errors import ConfigError

    return ConfigError(message)


def parse_shape(text: str | None) -> int | tuple[int, int, int] | None:
    """Read `N` or `z,y,x`."""
    if text is None:
        return None
    parts = _numbers("--shape", text, (1, 3), "one number or z,y,x in voxels, such as 256 or 64,256,256")
    if any(part != int(part) or part < 1 for part in parts):
        raise config_error(f"--shape: expected whole numbers of 1 or more, got {text!r}")
    counts = tuple(int(part) for part in parts)
    return counts[0] if len(counts) == 1 else (counts[0], counts[1], counts[2])


def parse_spacing(text: str | None) -> float | tuple[float, float, float] | None:
    """Read one length or `z,y,x` in mm."""
    if text is None:
        return None
    parts = _numbers("--spacing", text, (1, 3), "one length or z,y,x in mm, such as 0.7 or 1,0.7,0.7")
    if min(parts) <= 0:
        raise config_error(f"--spacing: expected lengths above 0 mm, got {text!r}")
    return parts[0] if len(parts) == 1 else (parts[0], parts[1], parts[2])


def parse_window(text: str | None) -> tuple[float, float] | None:
    """Read a display window `low,high` in HU."""
    if text is None:
        return None
    low, high = _numbers("--window-hu", text, (2,), "low,high in HU, such as -160,240")
    if low >= high:
        raise config_error(f"--window-hu: expected low below high, got {text!r}")
    return low, high


def parse_unit(text: str | None, output: Path) -> str:
    """Return the unit of the values to write: `HU` or `1/mm`."""
    picture = output.suffix.lower() == ".png"
    units = {None: "HU" if picture else "1/mm", "hu": "HU", "mm": "1/mm", "1/mm": "1/mm"}
    unit = units.get(text.lower() if text else None)
    if unit is None:
        raise config_error(f"--unit: expected hu or mm, got {text!r}")
    if picture and unit != "HU":
        raise config_error("--unit mm: a .png shows HU; write another format for values in 1/mm")
    return unit


def check_demo(size: str, seed: int | None) -> None:
    """Refuse an unknown size and a negative seed."""
    if size not in ("normal", "small"):
        raise config_error(f"--size: expected normal or small, got {size!r}")
    if seed is not None and seed < 0:
        raise config_error(f"--seed: expected 0 or more, got {seed}")


def check_iterations(iterations: int | None) -> None:
    """Refuse a number of iterations below 1."""
    if iterations is not None and iterations < 1:
        raise config_error(f"--iterations: expected 1 or more, got {iterations}")


def check_output(path: Path, inputs: Sequence[Path] = ()) -> Path:
    """Refuse an output that is a folder, an input or in a folder that cannot be written, before any work is done.

    A Zarr store is a folder that may be written, where the package for it is installed.
    """
    from recon.io import check_writable

    check_writable(path, inputs)
    if path.suffix.lower() == ".zarr":
        from recon.io.zarr_look import zarr_library

        zarr_library("writing Zarr")
    return path


def parse_devices(text: str | None) -> tuple[str, ...]:
    """Return the GPUs to compute on, none for the CPU, or say which option falls back."""
    from recon.errors import ResourceError

    if text in (None, "cpu"):
        return ()
    names = tuple(name.strip() for name in text.split(","))
    if not all(re.fullmatch(r"cuda(:\d+)?", name) for name in names) or len(set(names)) < len(names):
        raise config_error(f"--device: expected cpu, cuda, or GPUs such as cuda:0,cuda:1, got {text!r}")
    import torch

    if not torch.cuda.is_available():
        raise ResourceError(f"--device {text}: no CUDA device was found; run with --device cpu")
    there = torch.cuda.device_count()
    if any(int(name.partition(":")[2] or 0) >= there for name in names):
        raise ResourceError(f"--device {text}: {there} CUDA device{'s were' if there > 1 else ' was'} found")
    return names


def check_memory(voxels: int, values: int, *, volumes: int = 4, sinograms: int = 3) -> None:
    """Refuse a reconstruction that cannot fit into memory, before anything is allocated."""
    from recon import checks

    needed = 4 * (voxels * volumes + values * sinograms)
    checks.fits_memory("reconstruction", needed, advice="take a smaller --shape or a larger --spacing")


def print_json(content: dict[str, Any]) -> None:
    """Print one JSON object; numbers that JSON cannot hold become null."""
    print(json.dumps(_plain(content), allow_nan=False, ensure_ascii=False))


def say(text: str, *, quiet: bool = False) -> None:
    """Tell the user something on stderr, where it does not mix with results."""
    if not quiet:
        print(text, file=sys.stderr, flush=True)


def _numbers(option: str, text: str, counts: tuple[int, ...], wanted: str) -> list[float]:
    try:
        parts = [float(part) for part in text.replace("x", ",").split(",")]
    except ValueError:
        parts = []
    if len(parts) not in counts or not all(math.isfinite(part) for part in parts):
        raise config_error(f"{option}: expected {wanted}, got {text!r}")
    return parts


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool) or value is None else str(value)
