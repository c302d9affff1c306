"""One array of a Zarr store, read only as far as its metadata, its chunks and their sizes agree."""

import itertools
import math
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from recon.errors import FormatError
from recon.io.limits import check_bytes, check_shape, check_stamp, stamp, translated
from recon.io.zarr_look import NOT_WRITTEN, metadata, walk, zarr_library
from recon.io.zstd_frame import blosc_size, zstd_size

_TYPES: Final = (
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64",
)  # fmt: skip
_PACKED: Final = {"zstd": zstd_size, "blosc": blosc_size, "bytes": len}
_SLACK = 1 << 16  # bytes that packing may add to a chunk


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredArray:
    """An array of a store that has been looked through, with a stamp of every chunk.

    Args:
        folder: the array.
        shape: as declared.
        dtype: of the numbers, in the byte order of this machine.
        chunks: shape of one chunk.
        packing: "zstd" or "blosc", or "bytes" for none.
        trailer: bytes of a checksum behind each chunk.
        keys: how the name of a chunk begins, and what stands between its numbers.
        described: stamp of the metadata.
        stamps: inode, size and time of change of each chunk.
    """

    folder: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunks: tuple[int, ...]
    packing: str
    trailer: int
    keys: tuple[str, str]
    described: tuple[int, ...]
    stamps: NDArray[np.int64]

    @classmethod
    def of(cls, folder: Path, limit: int, *, unfinished: bool = False) -> "StoredArray":
        """Look at an array; nothing of its size is allocated.

        Args:
            folder: the array.
            limit: largest number of bytes it may declare.
            unfinished: let chunks be missing; reading one of those is refused all the same.

        Raises:
            UnsafeFileError: a link.
            FormatError: damaged metadata, other things than numbers, a codec that is not read, missing chunks.
            ResourceError: more bytes than the limit.
        """
        where = os.fspath(folder)
        with translated(where, "Zarr array"):
            described = stamp(folder / "zarr.json") if os.path.lexists(folder / "zarr.json") else ()
            said = metadata(folder)
            if said.get("node_type") != "array":
                raise FormatError(f"{where}: expected an array, got {said.get('node_type')!r}")
            kind = _dtype(where, said["data_type"])
            shape, chunks = _sizes(where, said)
            check_shape(where, shape, kind.itemsize, limit)
            check_bytes(f"{where} (one chunk)", math.prod(chunks) * kind.itemsize, limit)
            packing, trailer = _packing(where, said["codecs"])
            keys = _keys(where, said["chunk_key_encoding"])
            counts = [-(-n // c) for n, c in zip(shape, chunks, strict=True)]
            stamps = _stamps(folder, keys, counts, unfinished=unfinished)
            return cls(
                folder=folder, shape=shape, dtype=kind, chunks=chunks, packing=packing, trailer=trailer, keys=keys,
                described=described, stamps=stamps,
            )  # fmt: skip

    def read(self, *box: slice) -> NDArray[Any]:
        """Read a part, one slice per axis from the first on.

        Raises:
            FormatError: the array is gone, has changed since it was looked at, or is damaged.
        """
        check_stamp(self.folder / "zarr.json", self.described)
        self._check_chunks(box)
        zarr = zarr_library("reading Zarr")
        with translated(self.folder, "Zarr array"):
            array = zarr.open_array(store=os.fspath(self.folder), mode="r", zarr_format=3)
            return np.ascontiguousarray(array[box], dtype=self.dtype)

    def _check_chunks(self, box: tuple[slice, ...]) -> None:
        counts = [-(-n // c) for n, c in zip(self.shape, self.chunks, strict=True)]
        spans = [range(count) for count in counts]
        for axis, part in enumerate(box):
            first, end, _ = part.indices(self.shape[axis])
            spans[axis] = range(first // self.chunks[axis], -(-end // self.chunks[axis]))
        for index in itertools.product(*spans):
            self._check_chunk(_key(self.keys, index), self.stamps[np.ravel_multi_index(index, counts)])

    def _check_chunk(self, key: str, expected: NDArray[np.int64]) -> None:
        file, whole = self.folder / key, math.prod(self.chunks) * self.dtype.itemsize
        try:
            found = os.lstat(file)
            same = stat.S_ISREG(found.st_mode) and _brief(found) == tuple(expected)
            raw = file.read_bytes() if same and found.st_size <= 2 * whole + _SLACK else b""
        except OSError as error:
            raise FormatError(
                f"{file}: expected the chunk the run began with, but it is gone; put the same store back and run the "
                "same command again"
            ) from error
        if not same:
            raise FormatError(
                f"{file}: expected the chunk the run began with, but it has changed since; put the same store back and "
                "run the same command again"
            )
        packed = raw[: len(raw) - self.trailer]
        if _PACKED[self.packing](packed) != whole:
            raise FormatError(f"{file}: cannot be read as a chunk of {whole} bytes; it is damaged or truncated")


def _dtype(where: str, name: object) -> np.dtype[Any]:
    if not isinstance(name, str) or name not in _TYPES:
        raise FormatError(f"{where}: expected numbers, got data of type {str(name)[:60]!r}")
    return np.dtype(name)


def _sizes(where: str, said: Mapping[str, Any]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the shapes of an array and of its chunks."""
    grid = said["chunk_grid"]
    if grid["name"] != "regular":
        raise FormatError(f"{where}: expected chunks of one size, got the grid {str(grid['name'])[:60]!r}")
    shape, chunks = said["shape"], grid["configuration"]["chunk_shape"]
    for sizes in (shape, chunks):
        if not isinstance(sizes, list) or not sizes or not all(type(n) is int for n in sizes):
            raise FormatError(f"{where}: expected whole numbers for shape and chunks, got {str(sizes)[:60]}")
    if len(shape) != len(chunks) or min(chunks) < 1:
        raise FormatError(f"{where}: expected chunks for {len(shape)} axes, got {str(chunks)[:60]}")
    return tuple(shape), tuple(chunks)


def _packing(where: str, codecs: list[dict[str, Any]]) -> tuple[str, int]:
    """Return how chunks are packed, and the bytes of a checksum behind them."""
    names = [codec["name"] for codec in codecs if codec["name"] != "transpose"]
    trailer = 4 * (names[-1:] == ["crc32c"])
    packing = names[1:-1] if trailer else names[1:]
    if names[:1] != ["bytes"] or len(packing) > 1 or not {*packing} <= {*_PACKED} - {"bytes"}:
        hint = "; write it without shards" if "sharding_indexed" in names else ""
        raise FormatError(
            f"{where}: expected chunks packed by zstd or blosc, with or without crc32c, got "
            f"{', '.join(names)[:80]}{hint}"
        )
    return (packing[0] if packing else "bytes"), trailer


def _keys(where: str, encoding: Mapping[str, Any]) -> tuple[str, str]:
    """Return how the name of a chunk begins, and what stands between its numbers."""
    begins = {"default": "c", "v2": ""}
    name = encoding["name"]
    separator = (encoding.get("configuration") or {}).get("separator", "/" if name == "default" else ".")
    if name not in begins or separator not in ("/", "."):
        raise FormatError(f"{where}: expected chunks named as Zarr does, got {str(encoding)[:80]}")
    return begins[name], separator


def _key(keys: tuple[str, str], index: tuple[int, ...]) -> str:
    begin, separator = keys
    return separator.join([begin, *map(str, index)] if begin else map(str, index))


def _stamps(folder: Path, keys: tuple[str, str], counts: list[int], *, unfinished: bool) -> NDArray[np.int64]:
    """Return the stamps of all chunks; refuse missing ones, which would read as zeros."""
    present = {name: _brief(found) for name, found in walk(folder)}
    expected = (_key(keys, index) for index in _indices(counts))
    missing = list(itertools.islice((name for name in expected if name not in present), 4))
    if missing and not unfinished:
        got = sum(name != "zarr.json" for name in present)
        named = ", ".join([*missing[:3], *["..."] * (len(missing) > 3)])
        raise FormatError(
            f"{folder}: expected {math.prod(counts)} chunks, got {got} (missing: {named}); {NOT_WRITTEN}, or written "
            "without its empty chunks"
        )
    none = (-1, -1, -1)
    return np.array([present.get(_key(keys, index), none) for index in _indices(counts)], dtype=np.int64)


def _indices(counts: list[int]) -> Iterator[tuple[int, ...]]:
    """Count through all chunks without a list of them: how many there are is only a claim."""
    for number in range(math.prod(counts)):
        index = []
        for count in reversed(counts):
            number, digit = divmod(number, count)
            index.append(digit)
        yield tuple(reversed(index))


def _brief(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_ino, found.st_size, found.st_mtime_ns
