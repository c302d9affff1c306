"""Open an HDF5 file in a process of its own first.

Damaged metadata can make the HDF5 library loop for ever or end its process; here it ends a child instead. The child
looks at everything the readers look at, apart from the numbers themselves, and runs this very file as a script.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import h5py

_SECONDS: Final = 20
_MOST_OBJECTS: Final = 100_000


def probe(path: Path) -> None:
    """Return if the library survives the file; what else is wrong with it is for the reader to say.

    Raises:
        FormatError: the library hangs or ends its process.
    """
    from recon.errors import FormatError  # not at the top: the child has no use for torch

    if not sys.executable:
        return
    command = [sys.executable, "-I", __file__, os.path.abspath(path)]
    try:
        code = subprocess.run(command, capture_output=True, timeout=_SECONDS, check=False).returncode
    except subprocess.TimeoutExpired as error:
        raise FormatError(
            f"{path}: the HDF5 library did not come to an end within {_SECONDS} s; it is damaged"
        ) from error
    if code < 0:
        raise FormatError(f"{path}: the HDF5 library crashed on it (signal {-code}); it is damaged")


def look(path: str) -> None:
    """Visit every object, its attributes and its index of chunks, without leaving the file."""
    with h5py.File(path, "r") as file:
        todo: list[Any] = [file]
        seen: set[Any] = set()
        while todo and len(seen) < _MOST_OBJECTS:
            item = todo.pop()
            address = h5py.h5o.get_info(item.id).addr
            if address in seen:
                continue
            seen.add(address)
            _attributes(item)
            if isinstance(item, h5py.Group):
                todo.extend(item[key] for key in item if isinstance(item.get(key, getlink=True), h5py.HardLink))
            elif isinstance(item, h5py.Dataset):
                _index(item)


def _attributes(item: Any) -> None:
    for value in item.attrs.values():
        repr(value)


def _index(dataset: Any) -> None:
    """Touch what a reader touches before and while it reads."""
    if dataset.external or dataset.is_virtual or dataset.shape is None:
        return
    dataset.id.get_storage_size()
    if dataset.chunks is not None:
        dataset.id.get_num_chunks()
    if 0 < dataset.size <= 1 << 20:
        dataset[()]


if __name__ == "__main__":
    look(sys.argv[1])
