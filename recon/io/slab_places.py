"""Where the slabs of an unfinished volume lie: in one file from some byte on, or in the chunks of a Zarr store."""

import contextlib
import math
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from recon.errors import ConfigError, CTError
from recon.grid import VolumeGrid
from recon.io.atomic import atomic_write, remove, sync
from recon.io.atomic_folder import place_folder, tree
from recon.io.nifti import begin_nifti, zipped
from recon.io.npy import begin_npy
from recon.io.tiff import begin_tiff
from recon.io.zarr_array import StoredArray
from recon.io.zarr_look import zarr_library
from recon.io.zarr_volume import begin_zarr_volume, end_zarr_volume, write_slices

_PIECE = 1 << 24  # bytes copied at a time


class Place(Protocol):
    """What holds the slabs of one volume until all are there."""

    def begin(self, grid: VolumeGrid, unit: str) -> int:
        """Begin a float32 volume without values; return what `take_up` must know."""

    def take_up(self, grid: VolumeGrid, start: int) -> None:
        """Go on with what an earlier run began."""

    def write(self, first: int, values: NDArray[np.float32]) -> list[Path]:
        """Write slices (slice, y, x) from slice `first` on; return the files and folders to push to the disk."""

    def read(self, first: int, count: int) -> bytes:
        """Return slices as little-endian float32; fewer bytes, or none, where they are not all there."""

    def finish(self, target: Path, grid: VolumeGrid, unit: str) -> None:
        """Put the volume in place, and leave nothing behind."""


@dataclass
class FilePlace:
    """One file whose values follow each other from some byte on.

    Args:
        partial: the unfinished file.
        header: writes what comes before the values and returns where they begin.
    """

    partial: Path
    header: Callable[[Path, VolumeGrid, str], int]
    _start: int = 0
    _slice: int = 0  # bytes

    def begin(self, grid: VolumeGrid, unit: str) -> int:
        """Write the header."""
        self.take_up(grid, self.header(self.partial, grid, unit))
        return self._start

    def take_up(self, grid: VolumeGrid, start: int) -> None:
        """Note where values begin."""
        self._start, self._slice = start, 4 * grid.shape[1] * grid.shape[2]

    def write(self, first: int, values: NDArray[np.float32]) -> list[Path]:
        """Write slices where they belong."""
        with self.partial.open("r+b") as file:
            file.seek(self._start + first * self._slice)
            file.write(values.astype("<f4", copy=False).data)
        return [self.partial]

    def read(self, first: int, count: int) -> bytes:
        """Read slices."""
        with contextlib.suppress(FileNotFoundError), self.partial.open("rb") as file:
            file.seek(self._start + first * self._slice)
            return file.read(count * self._slice)
        return b""

    def finish(self, target: Path, grid: VolumeGrid, unit: str) -> None:
        """Rename the file."""
        os.replace(self.partial, target)


class PackedPlace(FilePlace):
    """A file that is compressed when it is finished, as nothing can be written into the middle of packed bytes."""

    def finish(self, target: Path, grid: VolumeGrid, unit: str) -> None:
        """Compress the file, and remove it."""
        with atomic_write(target) as temporary, self.partial.open("rb") as raw:
            _compress(raw, temporary)
        self.partial.unlink()


@dataclass
class StorePlace:
    """A Zarr store, which has no metadata at its root until it is finished.

    Args:
        partial: the unfinished store.
    """

    partial: Path
    _shape: tuple[int, ...] = ()

    def begin(self, grid: VolumeGrid, unit: str) -> int:
        """Make a store without chunks in the place of what an earlier run left."""
        zarr_library("writing Zarr")
        remove(self.partial)
        begin_zarr_volume(self.partial, grid)
        for path in tree(self.partial):
            sync(path)
        self.take_up(grid, 0)
        return 0

    def take_up(self, grid: VolumeGrid, start: int) -> None:
        """Note the shape."""
        self._shape = grid.shape

    def write(self, first: int, values: NDArray[np.float32]) -> list[Path]:
        """Write the chunks of slices."""
        folders = write_slices(self.partial, first, values)
        return [*(path for folder in folders for path in tree(folder)), self.partial / "0" / "c", self.partial / "0"]

    def read(self, first: int, count: int) -> bytes:
        """Read slices chunk by chunk."""
        try:
            array = StoredArray.of(self.partial / "0", 4 * math.prod(self._shape), unfinished=True)
            values: NDArray[Any] = array.read(slice(first, first + count))
        except CTError:
            return b""
        return values.astype("<f4", copy=False).tobytes()

    def finish(self, target: Path, grid: VolumeGrid, unit: str) -> None:
        """Write the metadata and rename the store."""
        end_zarr_volume(self.partial, grid, unit)
        place_folder(self.partial, target)


def _compress(raw: IO[bytes], target: Path) -> None:
    with target.open("wb") as file, zipped(file) as packed:
        shutil.copyfileobj(raw, packed, _PIECE)


_PLACES: Final[dict[str, Callable[[Path], Place]]] = {
    ".nii": lambda partial: FilePlace(partial, begin_nifti),
    ".nii.gz": lambda partial: PackedPlace(partial, begin_nifti),
    ".npy": lambda partial: FilePlace(partial, begin_npy),
    ".tif": lambda partial: FilePlace(partial, begin_tiff),
    ".tiff": lambda partial: FilePlace(partial, begin_tiff),
    ".zarr": StorePlace,
}
SUFFIXES: Final = tuple(_PLACES)


def place_for(target: Path, partial: Path) -> Place:
    """Return the place for the slabs of a volume, by the suffix of its name.

    Raises:
        ConfigError: another suffix.
    """
    for suffix in sorted(SUFFIXES, key=len, reverse=True):
        if target.name.lower().endswith(suffix):
            return _PLACES[suffix](partial)
    raise ConfigError(f"{target}: expected a name ending in {', '.join(SUFFIXES)} for a volume in slabs")
