"""Look through an HDF5 file in a process of its own first.

Damaged metadata can make the HDF5 library loop for ever or end its process; here it ends a child instead. The child
visits every object once: it looks at everything the readers look at, apart from the numbers themselves, and refuses
what leads out of the file. It runs this very file as a script.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import h5py

_SECONDS: Final = 20
_MOST_OBJECTS: Final = 100_000
_UNSAFE: Final = 9  # exit code of the child for a file that leads to others
_COPY: Final = "copy the data into this one"


class Unsafe(Exception):
    """A file that leads to other files."""


def probe(path: Path) -> None:
    """Return if the library survives the file and nothing leads out of it; what else is wrong is for the reader.

    A crash is a `FormatError` although a worker process failed: the file is what must be replaced, and a script that
    goes by exit codes should skip the file (3) rather than look after its workers (7).

    Raises:
        FormatError: the library hangs or ends its process.
        UnsafeFileError: an external link, external storage or a virtual dataset anywhere in the file.
    """
    from recon.errors import FormatError, UnsafeFileError  # not at the top: the child has no use for torch

    if not sys.executable:
        return
    command = [sys.executable, "-I", __file__, os.path.abspath(path)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise FormatError(
            f"{path}: the HDF5 library did not come to an end within {_SECONDS} s; it is damaged"
        ) from error
    if done.returncode < 0:
        raise FormatError(f"{path}: the HDF5 library crashed on it (signal {-done.returncode}); it is damaged")
    if done.returncode == _UNSAFE:
        raise UnsafeFileError(f"{path}: {done.stdout.decode(errors='replace').strip()}")


def look(path: str) -> None:
    """Visit every object, its attributes and its index of chunks, without leaving the file."""
    with h5py.File(path, "r") as file:
        todo: list[Any] = [file]
        seen: set[Any] = set()
        while todo:
            item = todo.pop()
            address = h5py.h5o.get_info(item.id).addr
            if address in seen:
                continue
            seen.add(address)
            if len(seen) > _MOST_OBJECTS:
                raise Unsafe(f"more than {_MOST_OBJECTS} objects; the file is damaged or hostile")
            _attributes(item)
            if isinstance(item, h5py.Group):
                todo.extend(_members(item))
            elif isinstance(item, h5py.Dataset):
                _index(item)


def _members(group: Any) -> list[Any]:
    """Return what a group holds itself; soft links lead to what is visited anyway."""
    links = {key: group.get(key, getlink=True) for key in group}
    for key, link in links.items():
        if isinstance(link, h5py.ExternalLink):
            raise Unsafe(f"{group.name.rstrip('/')}/{key} is a link to another file; {_COPY}")
    return [group[key] for key, link in links.items() if isinstance(link, h5py.HardLink)]


def _attributes(item: Any) -> None:
    for value in item.attrs.values():
        repr(value)


def _index(dataset: Any) -> None:
    """Touch what a reader touches before and while it reads."""
    if dataset.external:
        raise Unsafe(f"{dataset.name} is stored in another file; {_COPY}")
    if dataset.is_virtual:
        raise Unsafe(f"{dataset.name} is a virtual dataset over other files; {_COPY}")
    if dataset.shape is None:
        return
    dataset.id.get_storage_size()
    if dataset.chunks is not None:
        dataset.id.get_num_chunks()
    if 0 < dataset.size <= 1 << 20:
        dataset[()]


if __name__ == "__main__":
    try:
        look(sys.argv[1])
    except Unsafe as problem:
        print(problem)
        sys.exit(_UNSAFE)
