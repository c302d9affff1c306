"""Arrays of a Zarr store: Zstandard with its checksum in every chunk, written and read some chunks at a time."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recon import memory
from recon.io.chunks import chunks_of
from recon.io.zarr_array import StoredArray
from recon.io.zarr_look import zarr_library

_LEVEL = 1  # of Zstandard; noise does not pack any better at higher ones
_PART = 1 << 25  # bytes written at a time


def begin_array(
    folder: Path,
    shape: Sequence[int],
    dtype: "str | np.dtype[Any]",
    *,
    chunks: Sequence[int],
    names: Sequence[str] | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> Any:
    """Make an array without any chunk and return it; what is written to it is stored even where it is zero.

    Args:
        folder: the array.
        shape: its shape.
        dtype: of the numbers.
        chunks: shape of one chunk.
        names: of the axes.
        attributes: unit and axes, for people and other programs.

    Raises:
        MissingExtraError: zarr is not installed.
    """
    zarr = zarr_library("writing Zarr")
    return zarr.create_array(
        store=os.fspath(folder), shape=tuple(shape), dtype=dtype, chunks=tuple(chunks), zarr_format=3, fill_value=0,
        compressors=[zarr.codecs.ZstdCodec(level=_LEVEL, checksum=True)], filters=None, dimension_names=names,
        attributes=dict(attributes or {}), config={"write_empty_chunks": True},
    )  # fmt: skip


def put_array(folder: Path, values: "NDArray[Any] | Tensor", *, unit: str, axes: Sequence[str]) -> None:
    """Write an array with its unit and the names of its axes."""
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else values
    chunks = chunks_of(array.shape, array.itemsize)
    stored = begin_array(folder, array.shape, array.dtype, chunks=chunks, names=axes, attributes={"unit": unit})
    for part in _parts(array.shape, chunks[0], array.itemsize):
        stored[part] = array[part]


def put_text(folder: Path, text: str) -> None:
    """Write text as bytes, so that chunks carry a checksum of it."""
    put_array(folder, np.frombuffer(text.encode(), dtype=np.uint8), unit="UTF-8", axes=("byte",))


def read_whole(array: StoredArray) -> NDArray[Any]:
    """Read an array, within a budget of memory to where that has room for it."""
    size = array.dtype.itemsize * int(np.prod(array.shape, dtype=object))
    place = memory.empty((size,), dtype=torch.uint8, name=array.folder.name).numpy()
    values: NDArray[Any] = place.view(array.dtype).reshape(array.shape)
    for part in _parts(array.shape, array.chunks[0], array.dtype.itemsize):
        values[part] = array.read(part)
        memory.release()
    return values


def read_text(folder: Path, limit: int) -> str:
    """Read what `put_text` wrote.

    Raises:
        FormatError: damaged, or no text.
    """
    return read_whole(StoredArray.of(folder, limit)).tobytes().decode("utf-8")


def _parts(shape: Sequence[int], step: int, itemsize: int) -> Iterator[slice]:
    """Cut the first axis into whole chunks."""
    one = max(1, itemsize * int(np.prod(shape[1:], dtype=object)))
    step *= max(1, _PART // (one * step))
    return (slice(first, min(first + step, shape[0])) for first in range(0, shape[0], step))
