"""HDF5 with care: nothing outside the file is read, and sizes are checked before memory is taken."""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from recon.errors import FormatError, UnsafeFileError
from recon.io.limits import check_bytes, check_shape, translated

_MOST_OBJECTS = 100_000


@contextmanager
def open_hdf5(path: Path) -> Iterator[Any]:
    """Open a file for reading after a walk that refuses everything pointing outside it.

    Raises:
        UnsafeFileError: an external link, external storage or a virtual dataset anywhere in the file.
        FormatError: a damaged or truncated file.
    """
    with translated(path, "HDF5"), h5py.File(path, "r") as file:
        _walk(file, str(path))
        yield file


def read_dataset(file: Any, name: str, limit: int) -> NDArray[Any]:
    """Read a numeric or text dataset whose declared size agrees with what is stored and with the limit.

    Raises:
        FormatError: no such dataset, missing chunks, or fewer bytes than declared.
        ResourceError: more bytes than the limit.
    """
    where = f"{os.path.basename(file.filename)}:{name}"
    dataset = file.get(name)
    if not isinstance(dataset, h5py.Dataset):
        raise FormatError(f"{where}: expected a dataset, got {'a group' if dataset is not None else 'none'}")
    if dataset.shape is None or dataset.dtype.kind not in "biufcS":
        raise FormatError(f"{where}: expected numbers, got {dataset.dtype}")
    wanted = check_shape(where, dataset.shape, dataset.dtype.itemsize, limit)
    _check_stored(where, dataset, wanted, limit)
    values: NDArray[Any] = dataset[()]
    return values


def text_of(value: object) -> str:
    """Return text from an attribute or a fixed-length string."""
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(-1)[0]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _walk(file: Any, name: str) -> None:
    """Look at every link and dataset once, without following links out of the file."""
    seen: set[object] = set()
    todo = [file]
    while todo:
        group = todo.pop()
        for key in group:
            link = group.get(key, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                raise UnsafeFileError(
                    f"{name}: {group.name}/{key} is a link to another file; copy the data into this one"
                )
            if isinstance(link, h5py.SoftLink):
                continue
            item = group[key]
            address = h5py.h5o.get_info(item.id).addr
            if address in seen:
                continue
            seen.add(address)
            if len(seen) > _MOST_OBJECTS:
                raise FormatError(f"{name}: more than {_MOST_OBJECTS} objects; the file is damaged or hostile")
            if isinstance(item, h5py.Dataset):
                _refuse_outside(item, name)
            elif isinstance(item, h5py.Group):
                todo.append(item)


def _refuse_outside(dataset: Any, name: str) -> None:
    if dataset.external:
        raise UnsafeFileError(f"{name}: {dataset.name} is stored in another file; copy the data into this one")
    if dataset.is_virtual:
        raise UnsafeFileError(
            f"{name}: {dataset.name} is a virtual dataset over other files; copy the data into this one"
        )


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
