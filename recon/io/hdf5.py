"""HDF5 with care: nothing outside the file is read, and sizes are checked before memory is taken.

`probe` refuses whatever leads out of a file, read or not; what is read is checked once more.
"""

import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray

from recon import memory
from recon.errors import FormatError, UnsafeFileError
from recon.io.limits import check_bytes, check_shape, translated

_TRUNCATED = re.compile(r"truncated file: eof = (\d+), sblock->base_addr = \d+, stored_eof = (\d+)")


@contextmanager
def open_hdf5(path: Path) -> Iterator[Any]:
    """Open a file that `probe` has looked through.

    Raises:
        FormatError: a damaged or truncated file, with both sizes.
    """
    with translated(path, "HDF5"), _sized(path), h5py.File(path, "r") as file:
        yield file


@contextmanager
def _sized(path: Path) -> Iterator[None]:
    """Say the sizes of a truncated file in words of ours."""
    try:
        yield
    except OSError as error:
        found = _TRUNCATED.search(str(error))
        if found is None:
            raise
        got, wanted = (int(size) for size in found.groups())
        raise FormatError(
            f"{path}: truncated: expected {wanted} bytes, got {got}; it was not completely written or copied"
        ) from error


def read_dataset(file: Any, name: str, limit: int) -> NDArray[Any]:
    """Read a numeric or text dataset whose declared size agrees with what is stored and with the limit.

    Raises:
        UnsafeFileError: numbers in another file.
        FormatError: no such dataset, missing chunks, or fewer bytes than declared.
        ResourceError: more bytes than the limit.
    """
    dataset, _ = checked_dataset(file, name, limit)
    if memory.current().limit is not None and dataset.nbytes > memory.current().work:
        return _read_in_parts(dataset)
    values: NDArray[Any] = dataset[()]
    return values


def checked_dataset(file: Any, name: str, limit: int) -> tuple[Any, str]:
    """Return a dataset whose declared size agrees with what is stored and with the limit, and its name for messages.

    Raises:
        UnsafeFileError: numbers in another file.
        FormatError: no such dataset, missing chunks, or fewer bytes than declared.
        ResourceError: more bytes than the limit.
    """
    where = f"{os.path.basename(file.filename)}:{name}"
    dataset = _inside(file, name, where)
    if not isinstance(dataset, h5py.Dataset):
        raise FormatError(f"{where}: expected a dataset, got {'a group' if dataset is not None else 'none'}")
    if dataset.shape is None or dataset.dtype.kind not in "biufcS":
        raise FormatError(f"{where}: expected numbers, got {dataset.dtype}")
    wanted = check_shape(where, dataset.shape, dataset.dtype.itemsize, limit)
    _check_stored(where, dataset, wanted, limit)
    return dataset, where


def _read_in_parts(dataset: Any) -> NDArray[Any]:
    """Read a large dataset to where the budget of memory has room for it."""
    bytes_ = memory.empty((dataset.nbytes,), dtype=torch.uint8, name=dataset.name).numpy()
    values: NDArray[Any] = bytes_.view(dataset.dtype).reshape(dataset.shape)
    for part in memory.even_parts(len(dataset), dataset.nbytes // len(dataset)):
        values[part] = dataset[part]
        memory.release()
    return values


def text_of(value: object) -> str:
    """Return text from an attribute or a fixed-length string."""
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(-1)[0]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _inside(file: Any, name: str, where: str) -> Any:
    """Return an object of the file by its path, or None; no step of the path may lead out of the file."""
    item = file
    for key in name.split("/"):
        link = item.get(key, getlink=True) if isinstance(item, h5py.Group) else None
        if isinstance(link, h5py.ExternalLink):
            raise UnsafeFileError(f"{where}: {key} is a link to another file; copy the data into this one")
        if link is None:
            return None
        item = item.get(key)
    if item is not None and item.file.filename != file.filename:
        raise UnsafeFileError(f"{where}: a link leads to another file; copy the data into this one")
    if isinstance(item, h5py.Dataset) and (item.external or item.is_virtual):
        raise UnsafeFileError(f"{where}: its numbers are in other files; copy the data into this one")
    return item


def _check_stored(where: str, dataset: Any, wanted: int, limit: int) -> None:
    """Refuse a dataset that declares more than it stores: missing parts would read as zeros."""
    if dataset.chunks is None:
        stored = dataset.id.get_storage_size()
        if stored < wanted:
            raise FormatError(
                f"{where}: expected {wanted} stored bytes, got {stored}; the file was not completely written"
            )
        return
    check_bytes(f"{where} (one chunk)", math.prod(dataset.chunks) * dataset.dtype.itemsize, limit)
    expected = math.prod(-(-n // c) for n, c in zip(dataset.shape, dataset.chunks, strict=True))
    present = dataset.id.get_num_chunks()
    if present != expected:
        raise FormatError(f"{where}: expected {expected} chunks, got {present}; the file was not completely written")
