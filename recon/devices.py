"""GPUs by name, how much memory they have left, and what to do where that is too little."""

import contextlib
from collections.abc import Iterator

import torch

from recon.errors import ConfigError, ResourceError
from recon.sizes import in_words

_SMALL = 1 << 26  # bytes that are not worth asking the driver about
SHARE = 8  # one part in so many of what is free is for one block


def named(name: "torch.device | str") -> torch.device:
    """Return a device that is there.

    Raises:
        ConfigError: it is not.
    """
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        raise ConfigError(f"devices: expected names such as cuda:0, got {name!r}") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        there = torch.cuda.device_count()
        raise ConfigError(
            f"devices: expected one of the {there} GPUs that are there, got {name}"
            if there
            else f"devices: expected none, as no GPU was found, got {name}"
        )
    return device


def free_memory(device: torch.device) -> int:
    """Return the bytes that tensors may still take on a GPU."""
    if device.type != "cuda":
        return 1 << 62  # nothing is kept on other devices
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def check_room(name: str, size: int, device: torch.device) -> None:
    """Refuse an array of `size` bytes that a GPU cannot hold.

    Raises:
        ResourceError: more than can be taken; with both numbers.
    """
    if size < _SMALL:
        return
    free = free_memory(device)
    if size > free:
        raise ResourceError(
            f"{name}: {in_words(size)} of memory needed on {device}, {in_words(free)} available; keep the tensors on "
            f'the CPU and send blocks to the GPU inside recon.memory.limit(devices=["{device}"])'
        )


@contextlib.contextmanager
def told_when_full(what: str, device: torch.device) -> Iterator[None]:
    """Say what to do where a GPU runs out of memory.

    Raises:
        ResourceError: it does; with what is free, and the blocks that would fit.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        free = free_memory(device)
        raise ResourceError(
            f"{what}: {device} is out of memory, {in_words(free)} are free; blocks of {in_words(free // SHARE)} would "
            f"fit: work inside recon.memory.limit(), and with tensors on the CPU inside "
            f'recon.memory.limit(devices=["{device}"])'
        ) from error
