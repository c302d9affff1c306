"""TIFF stacks: float32, one page per slice, with spacing and unit as ImageJ keeps them."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from recon.errors import FormatError
from recon.grid import VolumeGrid
from recon.io.atomic import atomic_write
from recon.io.limits import check_shape, translated
from recon.io.volume import UNITS, Volume, as_float32

_MOST_PAGES = 100_000
_CLASSIC = 1 << 31  # bytes; beyond, offsets no longer fit and ImageJ's description is left out


def read_tiff(path: Path, limit: int) -> tuple[Volume, list[str]]:
    """Read a stack; also return what the file leaves open.

    Raises:
        FormatError: damaged or cut, pages of differing size, colours.
        ResourceError: more bytes than the limit.
    """
    import tifffile

    with translated(path, "TIFF"), tifffile.TiffFile(path) as file:
        pages = file.pages
        count = len(pages)
        if not 0 < count <= _MOST_PAGES:
            raise FormatError(f"{path}: expected 1 to {_MOST_PAGES} pages, got {count}")
        first = pages[0]
        stored = _description(file)
        shape = _stack_shape(path, pages, file)
        check_shape(str(path), shape, max(4, np.dtype(first.dtype).itemsize), limit)
        _check_pages(path, pages, first, path.stat().st_size)
        values = file.asarray().reshape(shape)
    return _volume(path, values, stored)


def write_tiff(path: Path, volume: Volume) -> None:
    """Write a float32 stack."""
    import tifffile

    values = volume.values.detach().cpu().float().numpy()
    with atomic_write(path) as temporary:
        tifffile.imwrite(temporary, values, **_layout(volume.grid, volume.unit))


def begin_tiff(path: Path, grid: VolumeGrid, unit: str) -> int:
    """Make a float32 stack that is still without values; return where in the file they begin."""
    import tifffile

    place = tifffile.imwrite(path, shape=grid.shape, dtype="<f4", returnoffset=True, **_layout(grid, unit))
    assert place is not None
    return place[0]


def _layout(grid: VolumeGrid, unit: str) -> dict[str, Any]:
    """Say how a stack is stored: as ImageJ does, or as BigTIFF where that is too small."""
    dz, dy, dx = grid.spacing
    note = json.dumps({"spacing": grid.spacing, "centre": grid.centre, "unit": unit})
    if 4 * math.prod(grid.shape) < _CLASSIC:
        metadata = {"spacing": dz, "unit": "mm", "axes": "ZYX", "Info": note}
        return {"imagej": True, "byteorder": "<", "resolution": (1 / dx, 1 / dy), "metadata": metadata}
    return {"bigtiff": True, "byteorder": "<", "description": note, "metadata": None, "photometric": "minisblack"}


def _description(file: Any) -> dict[str, Any]:
    """Return our own note, or ImageJ's spacing, or nothing."""
    page = file.pages[0]
    imagej = file.imagej_metadata or {}
    for text in (imagej.get("Info"), page.description):
        try:
            note = json.loads(text or "")
        except ValueError:
            continue
        if isinstance(note, dict) and {"spacing", "centre", "unit"} <= set(note):
            return note
    return {}


def _stack_shape(path: Path, pages: Any, file: Any) -> tuple[int, int, int]:
    """Return (z, y, x); ImageJ stores large stacks as one page with a count."""
    first = pages[0]
    if len(first.shape) != 2:
        raise FormatError(
            f"{path}: page 0: expected grey values (y, x), got shape {first.shape}; convert colours first"
        )
    slices = int((file.imagej_metadata or {}).get("images", 1)) if len(pages) == 1 else len(pages)
    return slices, int(first.shape[0]), int(first.shape[1])


def _check_pages(path: Path, pages: Any, first: Any, size: int) -> None:
    """Compare every page with the first, and its place with the length of the file."""
    for number, page in enumerate(pages):
        if page.shape != first.shape or page.dtype != first.dtype:
            raise FormatError(
                f"{path}: page {number}: expected {first.shape} {first.dtype} as page 0, got {page.shape} {page.dtype}"
            )
        ends = [at + n for at, n in zip(page.dataoffsets, page.databytecounts, strict=True)]
        if ends and max(ends) > size:
            raise FormatError(
                f"{path}: page {number}: expected data up to byte {max(ends)}, got a file of {size}; it is truncated"
            )


def _volume(path: Path, values: Any, note: dict[str, Any]) -> tuple[Volume, list[str]]:
    shape = (int(values.shape[0]), int(values.shape[1]), int(values.shape[2]))
    tensor = as_float32(str(path), np.asarray(values))
    if not note:
        return Volume(values=tensor, grid=VolumeGrid(shape=shape)), ["voxel size: not stored, taken as 1 mm"]
    with translated(path, "TIFF"):
        grid = VolumeGrid(shape=shape, spacing=tuple(note["spacing"]), centre=tuple(note["centre"]))
        return Volume(values=tensor, grid=grid, unit=note["unit"] if note["unit"] in UNITS else "unknown"), []
