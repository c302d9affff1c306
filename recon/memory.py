"""A budget of memory: large arrays beyond it live in scratch files, and work is done in blocks that fit.

Without a budget everything is kept in memory, and what memory cannot hold is refused before it is made. Inside
``with limit("6GiB"):`` nothing is refused as long as one block fits: arrays that do not fit are mapped from scratch
files without a name, which vanish with the process, and the system moves their pages to the disk and back.
"""

import contextlib
import ctypes
import functools
import math
import mmap
import os
import shutil
import tempfile
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from recon import checks
from recon import devices as gpus
from recon.errors import ConfigError, ResourceError
from recon.sizes import in_words, parse_size

Item = TypeVar("Item")
Result = TypeVar("Result")

_SMALL = 1 << 22  # bytes that are kept in memory whatever the budget
_WORK = (1 << 24, 1 << 29)  # bytes for the temporary arrays of one block: least and most
_SHARE = 8  # one part in so many of the budget is for those
_CHUNK = 1 << 20  # numbers that `blockwise` works on at a time, so that they stay in a near cache
_WORK_ON_GPU = 1 << 31  # bytes of a part of what lies on a GPU
_CHUNK_ON_GPU = 1 << 27  # the same where every piece is waited for
_LIBRARIES = 512 << 20  # bytes of Python, torch, numba and the kernels once they are compiled; 410 to 520 MiB measured
_DISK = 0.95  # of what is free on the disk may be filled

_mapped: "weakref.WeakValueDictionary[int, mmap.mmap]" = weakref.WeakValueDictionary()


@dataclass(kw_only=True)
class Budget:
    """How much memory this process may take, and where the rest goes.

    Args:
        limit: bytes for the whole process, or None to refuse what memory cannot hold.
        scratch: the folder of scratch files.
        reserved: bytes kept for the temporary arrays of one block; it only grows.
        block: bytes for those, to go on with a run of another budget; None chooses them.
        devices: where blocks of tensors on the CPU are worked on in turn; none for the CPU itself.
    """

    limit: int | None = None
    scratch: Path | None = None
    reserved: int = 0
    block: int | None = None
    devices: tuple[torch.device, ...] = ()

    @property
    def work(self) -> int:
        """Bytes for the temporary arrays of one block; the same for every budget from 5 GiB on, as results are."""
        if self.block is not None:
            return self.block
        if self.limit is None:
            return _WORK[1]
        share = (self.limit - _LIBRARIES) // _SHARE
        even = 1 << max(0, share.bit_length() - 1)  # a power of two, so that near budgets agree
        return min(_WORK[1], max(_WORK[0], even))

    def left(self) -> int:
        """Bytes that arrays may still take in memory, beside what one block needs."""
        if self.limit is None:
            return checks.available_memory()
        release()  # pages of scratch files do not count: the system takes them back when it needs them
        return self.limit - max(_LIBRARIES, resident()) - max(2 * self.work, self.reserved)


_current: ContextVar[Budget] = ContextVar("budget", default=Budget())  # noqa: B039 - what is not limited is not changed


def current() -> Budget:
    """Return the budget that holds here."""
    return _current.get()


@contextlib.contextmanager
def limit(
    size: "int | str | None" = None,
    *,
    scratch: "str | os.PathLike[str] | None" = None,
    devices: "Sequence[torch.device | str]" = (),
) -> Iterator[Budget]:
    """Keep the process within a budget of memory: what does not fit goes to scratch files, block by block.

    Results are equal to those without a budget to rounding, and equal bit by bit for equal budgets. The budget holds
    for what the block itself runs; a thread that is started inside it has none. Tensors on a GPU stay there, and are
    worked on in blocks of the same size.

    Args:
        size: bytes, or text such as "6GiB", for the whole process, at most what is free; None for two thirds of that.
        scratch: a folder with room for what does not fit; the system's folder for temporary files by default.
        devices: GPUs, such as ("cuda:0", "cuda:1"), to which blocks of volumes and projections on the CPU are sent in
            turn, and from which results come back: for data larger than a GPU's memory, and for several GPUs.

    Raises:
        ConfigError: a size that cannot be read, a scratch folder that is none, or a device that is not there.
        ResourceError: a size too small for the libraries and one small block.
    """
    least = max(_LIBRARIES, resident()) + 2 * _WORK[0]
    free = resident() + checks.available_memory()
    room = max(least, free * 2 // 3) if size is None else min(parse_size(size), max(least, free))
    folder = Path(tempfile.gettempdir() if scratch is None else os.fspath(scratch))
    if not folder.is_dir():
        raise ConfigError(f"scratch: expected a folder, got {folder}; make it first")
    if room < least:
        raise ResourceError(
            f"memory: {in_words(room)} is too small, as the libraries and one block take {in_words(least)}; "
            f"allow {in_words(_rounded(least))} or more"
        )
    names = [devices] if isinstance(devices, str) else devices
    token = _current.set(Budget(limit=room, scratch=folder, devices=tuple(map(gpus.named, names))))
    try:
        yield _current.get()
    finally:
        _current.reset(token)


def empty(shape: Sequence[int], *, dtype: torch.dtype = torch.float32, name: str = "array") -> Tensor:
    """Return a tensor on the CPU with arbitrary content, in memory or, where that is not to be filled, on the disk.

    Args:
        shape: its shape.
        dtype: its type.
        name: what it is, for messages.

    Raises:
        ResourceError: neither memory nor, inside a budget, the disk has room.
    """
    budget, size = current(), math.prod(shape) * dtype.itemsize
    if budget.limit is None or size <= _SMALL:
        checks.fits_memory(name, size)
        return torch.empty(*shape, dtype=dtype)
    if size > budget.left():
        return _on_disk(budget, shape, dtype, name)
    return torch.empty(*shape, dtype=dtype).zero_()  # touched at once, so that it counts from here on


def like(tensor: Tensor, shape: Sequence[int] | None = None, *, fill: float | None = None) -> Tensor:
    """Return a tensor of another's type, on its device, placed as `empty` places it.

    Args:
        tensor: the other.
        shape: the shape, if it is not the other's.
        fill: the value of all elements, or None for arbitrary ones.
    """
    shape = tensor.shape if shape is None else shape
    if tensor.device.type != "cpu":
        out = tensor.new_empty(*shape)
        return out if fill is None else out.fill_(fill)
    out = empty(shape, dtype=tensor.dtype)
    if fill is not None:
        for part in parts(out.shape):
            out[part] = fill
            release_after(out)
    return out


def release() -> None:
    """Give back what a block of work has left behind: pages of scratch files, whose content stays, and free memory."""
    if current().limit is None:
        return
    _unmap()
    _trimmer()(0)


def _unmap() -> None:
    if hasattr(mmap, "MADV_DONTNEED"):
        for area in list(_mapped.values()):
            area.madvise(mmap.MADV_DONTNEED)


@functools.cache
def _trimmer() -> Callable[[int], object]:
    """Return the C library's function that hands free memory back to the system; glibc keeps it otherwise."""
    try:
        trim: Callable[[int], object] = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):
        return lambda _: None
    return trim


def resident() -> int:
    """Return the bytes of memory this process holds, as far as the system says."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def in_turn(
    items: Iterable[Item], work: Callable[[Item, torch.device | None], Result]
) -> Iterator[tuple[Item, Result]]:
    """Yield items and what is made of them, in order, each on the next device of the budget.

    A GPU works on while others get their items: a result is asked for only when every device has one.

    Args:
        items: what is to be done.
        work: called with an item and its device, or None for where the tensors are; it need not wait for the device.
    """
    devices = current().devices or (None,)
    pending: deque[tuple[Item, Result]] = deque()
    for number, item in enumerate(items):
        pending.append((item, work(item, devices[number % len(devices)])))
        if len(pending) == len(devices):
            yield pending.popleft()
    yield from pending


def blockwise(function: Callable[..., Tensor], *tensors: Tensor, out: Tensor | None = None) -> Tensor:
    """Apply an elementwise function to tensors of one shape, some slices at a time, so that nothing else is large.

    Args:
        function: takes as many tensors as are given and returns one of their shape.
        tensors: at least one; all of one shape, on one device.
        out: where to put the result: a new tensor, or one of the given ones.
    """
    first = tensors[0]
    if first.device.type != "cpu":
        result = function(*tensors)
        return result if out is None else out.copy_(result)
    target = like(first) if out is None else out
    flat = _flat(target, *tensors)
    for part in parts(flat[0].shape):
        flat[0][part] = function(*(tensor[part] for tensor in flat[1:]))
        release_after(first)
    return target


def total(function: Callable[..., Tensor], *tensors: Tensor) -> float:
    """Sum an elementwise function of tensors of one shape, some slices at a time; float64 between them."""
    sums, flat = 0.0, _flat(*tensors)
    for part in parts(flat[0].shape, _CHUNK if tensors[0].device.type == "cpu" else _CHUNK_ON_GPU):
        sums += float(function(*(tensor[part] for tensor in flat)).sum(dtype=torch.float64))
        release_after(tensors[0])
    return sums


def ends(tensor: Tensor) -> tuple[float, float]:
    """Return the least and the largest value."""
    if tensor.device.type != "cpu":
        low, high = tensor.aminmax()
        return float(low), float(high)
    least, most = math.inf, -math.inf
    (flat,) = _flat(tensor)
    for part in parts(flat.shape):
        low, high = flat[part].aminmax()
        least, most = min(least, float(low)), max(most, float(high))
        release_after(tensor)
    return least, most


def _flat(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Return tensors as one long axis where that takes no copy, else as they are."""
    return tuple(t.view(-1) for t in tensors) if all(t.is_contiguous() for t in tensors) else tensors


def parts(shape: Sequence[int], most: int = _CHUNK) -> Iterator[tuple[slice, ...]]:
    """Cut a shape into boxes of at most about `most` numbers, along its first axis longer than 1."""
    axis = next((i for i, n in enumerate(shape) if n > 1), 0)
    count = shape[axis] if shape else 0
    step = max(1, most // max(1, math.prod(shape[axis + 1 :])))
    head = (slice(None),) * axis
    for begin in range(0, count, step):
        yield (*head, slice(begin, min(begin + step, count)))


def check_room(name: str, size: int, device: torch.device | None = None) -> None:
    """Refuse an array of `size` bytes that memory cannot hold; within a budget it may lie on the disk.

    Args:
        name: what it is.
        size: bytes.
        device: where it is to be; the CPU by default.

    Raises:
        ResourceError: more than can be taken; with both numbers.
    """
    if device is not None and device.type != "cpu":
        gpus.check_room(name, size, device)
    elif current().limit is None:
        checks.fits_memory(name, size)


def reserve(size: int, what: str) -> None:
    """Keep room for the temporary arrays of one block, whatever arrays are made from here on.

    Raises:
        ResourceError: the budget cannot hold so much; with the smallest that works.
    """
    budget = current()
    if budget.limit is None:
        return
    if size > budget.limit - _LIBRARIES:
        raise ResourceError(
            f"memory: {in_words(budget.limit)} is too small for {what}; the smallest that works is "
            f"{in_words(_rounded(_LIBRARIES + size))}"
        )
    budget.reserved = max(budget.reserved, size)


def even_parts(
    count: int, size: int, *, extra: int = 0, least: int = 1, device: torch.device | None = None
) -> list[slice]:
    """Cut `count` items of `size` bytes each into parts, as even as can be, of a quarter of a block's bytes.

    There is a part for every device of the budget, if there are as many items.

    Args:
        count: number of items.
        size: bytes of one.
        extra: bytes that every part takes on top.
        least: items below which a part is not worth its while.
        device: where the items are; without a budget, parts on a GPU are as large as its free memory allows.

    Raises:
        ResourceError: the least does not fit into the budget; with the smallest that works.
    """
    least = min(least, count)
    if device is not None and device.type == "cuda" and current().limit is None:
        share = gpus.free_memory(device) // gpus.SHARE
        most = min(_WORK_ON_GPU, 1 << max(0, share.bit_length() - 1))  # the same as long as there is room enough
    else:
        most = min([current().work // 4, *(gpus.free_memory(device) // gpus.SHARE for device in current().devices)])
    reserve(2 * (extra + least * size) + 2 * most, f"slices or views of {in_words(size)}")
    pieces = -(-count // max(least, (most - extra) // max(1, size)))
    pieces = max(pieces, min(len(current().devices), count))
    step = -(-count // pieces)
    return [slice(first, min(first + step, count)) for first in range(0, count, step)]


def release_after(tensor: Tensor) -> None:
    """Take the pages of scratch files off this process if a tensor of which some was used is not small."""
    if _mapped and 4 * tensor.nbytes > current().work:
        _unmap()


def _on_disk(budget: Budget, shape: Sequence[int], dtype: torch.dtype, name: str) -> Tensor:
    """Map a tensor from a scratch file that has no name, so that nothing is left of it whatever happens."""
    folder, size = budget.scratch or Path(tempfile.gettempdir()), math.prod(shape) * dtype.itemsize
    free = shutil.disk_usage(folder).free
    if size > _DISK * free:
        raise ResourceError(
            f"{name}: {in_words(size)} do not fit into the memory budget, nor into the {in_words(free)} free in "
            f"{folder}; allow more memory, or name another scratch folder"
        )
    with tempfile.TemporaryFile(dir=folder, prefix=".raymend-") as file:
        _reserve(file.fileno(), size, name, folder)
        area = mmap.mmap(file.fileno(), size)
    _mapped[id(area)] = area
    return torch.frombuffer(area, dtype=dtype).reshape(*shape)


def _reserve(handle: int, size: int, name: str, folder: Path) -> None:
    """Claim the disk now: a page that finds no room later would end the process."""
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(handle, 0, size)
        else:
            os.ftruncate(handle, size)
    except OSError as error:
        raise ResourceError(
            f"{name}: {in_words(size)} of scratch in {folder}: {error.strerror}; allow more memory, or name another "
            "scratch folder"
        ) from error


def _rounded(size: int) -> int:
    """Round up to a number that is easy to type."""
    step = (64 << 20) if size < 1 << 30 else (256 << 20)
    return -(-size // step) * step
