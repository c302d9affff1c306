"""NumPy archives (.npz) with care: sizes are checked before memory is taken, nothing is unpickled."""

import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from numpy.typing import NDArray

from recon.errors import FormatError
from recon.io.limits import DEFLATE_RATIO, check_bytes, translated
from recon.io.npy import read_stream

_MOST_MEMBERS: Final = 10_000


class Archive:
    """The arrays of an archive by name, each checked before it is read."""

    def __init__(self, path: Path, file: zipfile.ZipFile) -> None:
        self.path, self.file = path, file
        members = file.infolist()
        if len(members) > _MOST_MEMBERS:
            raise FormatError(f"{path}: expected at most {_MOST_MEMBERS} arrays, got {len(members)}")
        self.members = {m.filename.removesuffix(".npy"): m for m in members if m.filename.endswith(".npy")}
        if not self.members:
            found = ", ".join(m.filename for m in members[:5]) or "nothing"
            raise FormatError(f"{path}: expected NumPy arrays in the archive, got {found}; unpack it first")

    def __iter__(self) -> Iterator[str]:
        return iter(self.members)

    def __contains__(self, name: str) -> bool:
        return name in self.members

    def given(self, names: Sequence[str]) -> list[str]:
        """Return those of the names that are there."""
        return [name for name in names if name in self.members]

    def listed(self) -> str:
        """List the names for a message."""
        return ", ".join(sorted(self.members)[:20])

    def read(self, name: str, limit: int) -> NDArray[Any]:
        """Read one array; the sizes that the archive and the array declare must agree with what is stored."""
        if name not in self.members:
            raise FormatError(f"{self.path}: expected the array {name}, got {self.listed()}")
        member, where = self.members[name], f"{self.path}:{name}"
        check_bytes(where, member.file_size, limit)
        if member.file_size > DEFLATE_RATIO * max(member.compress_size, 1) + 1024:
            raise FormatError(
                f"{where}: expected less than {member.file_size} bytes from {member.compress_size}; it is damaged"
            )
        with self.file.open(member) as stream:
            array = read_stream(stream, where, member.file_size, limit)
            stream.read(1)  # reaching the end compares the checksum
        return array


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Open an archive; whatever goes wrong with what it holds becomes one error that names the file."""
    with translated(path, "npz"), zipfile.ZipFile(path) as file:
        yield Archive(path, file)
