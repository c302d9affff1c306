"""Volumes written slab by slab as they finish, so that a run that is stopped in any way goes on where it was.

Beside the target, ``NAME.partial`` holds the file or store as far as it is known and ``NAME.partial.json`` which slabs
of it are finished, with their checksums, and what they were made from. A slab counts once both are on the disk.
"""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from torch import Tensor

from recon import checks
from recon.errors import ConfigError, FormatError, ResourceError, ShapeError
from recon.grid import VolumeGrid
from recon.io.atomic import atomic_write, check_writable, disk_full, sync
from recon.io.slab_places import SUFFIXES, Place, place_for
from recon.io.volume import UNITS

__all__ = ["SUFFIXES", "Job", "Slab", "SlabWriter"]

_FORMAT: Final = "raymend slabs 1"

Job = Mapping[str, str]


class Slab(NamedTuple):
    """A finished slab: its number of slices, the checksum of its bytes, its least and largest value."""

    slices: int
    sha256: str
    low: float
    high: float


@dataclass(kw_only=True)
class SlabWriter:
    """Write a float32 volume some slices at a time, in any order, and keep what is finished.

    Use it as ``with SlabWriter(...) as out: out.write(first, slab)``; when every slice is written, leaving the block
    puts the file in place. Any other way out leaves what is finished for a writer of the same job.

    Args:
        path: what to make: .nii, .nii.gz, .tif, .npy or .zarr.
        grid: where the voxels are.
        unit: "HU", "1/mm" or "unknown".
        job: what the values are made from, by name; finished slabs of another job are never mixed in.

    Raises:
        ConfigError: another suffix, a place that cannot be written, or slabs of another job in it.
        MissingExtraError: zarr is needed and not installed.
        ResourceError: the disk is full, or cannot hold the volume.
    """

    path: Path
    grid: VolumeGrid
    unit: str
    job: Job
    _done: dict[int, Slab] = field(default_factory=dict, init=False)  # by their first slice
    _start: int = field(default=0, init=False)  # what the place said when it was begun
    _place: Place = field(init=False)
    _hold: contextlib.ExitStack = field(default_factory=contextlib.ExitStack, init=False)

    def __post_init__(self) -> None:
        self.path = check_writable(self.path)
        checks.choice("unit", self.unit, UNITS)
        self.partial = self.path.with_name(f"{self.path.name}.partial")
        self._place = place_for(self.path, self.partial)
        self.journal = journal_of(self.path)

    def __enter__(self) -> "SlabWriter":
        with contextlib.ExitStack() as stack:
            stack.enter_context(_held(self.path.with_name(f"{self.partial.name}.lock")))
            if self.journal.exists():
                self._take_up()
            if not self._done:
                self._check_room()
                with self._full_disk_told():
                    self._start = self._place.begin(self.grid, self.unit)
                    self._note()
            self._hold = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._hold:
            if kind is None and not self.missing():
                with self._full_disk_told():
                    self._finish()

    @property
    def finished(self) -> list[slice]:
        """The slices that need not be made again."""
        return [slice(first, first + slab.slices) for first, slab in sorted(self._done.items())]

    @property
    def range(self) -> tuple[float, float]:
        """The least and the largest value of the finished slabs."""
        return min(slab.low for slab in self._done.values()), max(slab.high for slab in self._done.values())

    def missing(self) -> int:
        """Return the number of slices that are still to be written."""
        return self.grid.shape[0] - sum(slab.slices for slab in self._done.values())

    def told(self) -> str:
        """Say how many slices are finished."""
        return f"{self.grid.shape[0] - self.missing()} of {self.grid.shape[0]} slices are finished"

    def write(self, first: int, slab: Tensor) -> None:
        """Write some slices (slice, y, x) from slice `first` on.

        Raises:
            ShapeError: slices that do not fit the grid.
            NumericalError: NaN or Inf.
            ResourceError: the disk is full; what was finished before stays.
        """
        checks.shaped("slab", checks.floating("slab", slab), (len(slab), *self.grid.shape[1:]), "slice, y, x")
        last = first + len(slab)
        if not 0 <= first < last <= self.grid.shape[0]:
            raise ShapeError(f"slab: expected slices within the grid's {self.grid.shape[0]}, got {first} to {last - 1}")
        if any(done.start < last and first < done.stop for done in self.finished):
            raise ShapeError(f"slab: expected slices that are not finished, got {first} to {last - 1}")
        checks.all_finite("slab", slab)
        values = np.ascontiguousarray(slab.detach().cpu().numpy(), dtype="<f4")
        with self._full_disk_told():
            for path in self._place.write(first, values):
                sync(path)
            low, high = (float(end) for end in slab.aminmax())
            self._done[first] = Slab(len(slab), hashlib.sha256(values.data).hexdigest(), low, high)
            self._note()

    @property
    def _slice_bytes(self) -> int:
        return 4 * self.grid.shape[1] * self.grid.shape[2]

    def _note(self) -> None:
        slabs = [[first, *slab] for first, slab in sorted(self._done.items())]
        about = {"format": _FORMAT, "job": self._whole_job(), "start": self._start}
        text = json.dumps({**about, "slabs": slabs}, indent=1)
        with atomic_write(self.journal) as temporary:
            temporary.write_text(text + "\n")

    def _whole_job(self) -> dict[str, str]:
        return {**self.job, "grid": repr(self.grid), "unit": self.unit}

    def _take_up(self) -> None:
        """Go on with what an earlier run left, slab by slab as far as checksums agree."""
        try:
            found = json.loads(self.journal.read_text())
            kind, job, self._start = found["format"], dict(found["job"]), int(found["start"])
            slabs = {int(first): Slab(int(count), str(digest), float(low), float(high))
                     for first, count, digest, low, high in found["slabs"]}  # fmt: skip
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise FormatError(f"{self.journal}: cannot be read ({error}); {self._remove()}") from error
        if kind != _FORMAT:
            raise FormatError(f"{self.journal}: expected {_FORMAT!r}, got {kind!r}; {self._remove()}")
        ours = self._whole_job()
        differing = [name for name in {**ours, **job} if ours.get(name) != job.get(name)]
        if differing:
            first = differing[0]
            raise ConfigError(
                f"{self.partial}: expected slabs of this run, got those of another ({', '.join(differing)} differ; "
                f"{first}: {job.get(first)} there, {ours.get(first)} here); repeat that run, or {self._remove()}"
            )
        self._place.take_up(self.grid, self._start)
        for first, slab in slabs.items():
            if hashlib.sha256(self._place.read(first, slab.slices)).hexdigest() == slab.sha256:
                self._done[first] = slab

    def _remove(self) -> str:
        return f"remove {self.partial.name} and {self.journal.name} to start anew"

    def _check_room(self) -> None:
        copies = 2 if self.path.suffix == ".gz" else 1  # the compressed file is made beside the other
        needed = copies * self.grid.shape[0] * self._slice_bytes
        free = shutil.disk_usage(self.path.parent).free
        if needed > free:
            raise ResourceError(
                f"{self.path}: the disk has {free / 2**30:.2f} GiB free, and the volume needs "
                f"{needed / 2**30:.2f} GiB; free space or write elsewhere"
            )

    def _finish(self) -> None:
        """Put the volume in place, and remove the traces of how it came to be."""
        self._place.finish(self.path, self.grid, self.unit)
        self.journal.unlink()
        sync(self.path.parent)

    @contextlib.contextmanager
    def _full_disk_told(self) -> Iterator[None]:
        """Say what is finished and how to go on."""
        try:
            yield
        except (OSError, ResourceError) as error:
            full = isinstance(error, ResourceError) or disk_full(error)
            reason = "the disk is full" if full else f"cannot be written ({getattr(error, 'strerror', error)})"
            advice = "free space and run" if full else "run"
            raise ResourceError(
                f"{self.path}: {reason}; {self.told()} and kept in {self.partial.name}: "
                f"{advice} the same command again to go on"
            ) from error


def journal_of(path: Path) -> Path:
    """Return the file that says which slabs of an unfinished volume are finished."""
    return path.with_name(f"{path.name}.partial.json")


@contextlib.contextmanager
def _held(lock: Path) -> Iterator[None]:
    """Hold a lock file for one writer; a second one ends at once."""
    import fcntl

    with lock.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mine = lock.exists() and os.path.samestat(os.fstat(file.fileno()), lock.stat())
        except OSError:
            mine = False
        if not mine:
            file.seek(0)
            raise ConfigError(
                f"{lock.with_suffix('').with_suffix('')}: in use by process {file.read().strip() or 'unknown'}; wait "
                "for it or choose another output"
            )
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)
