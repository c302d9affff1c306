"""How arrays are cut into chunks in HDF5 and Zarr."""

from collections.abc import Sequence
from math import prod

_CHUNK = 1 << 20  # bytes; large enough to read fast, small enough that a flipped bit costs little


def chunks_of(shape: Sequence[int], itemsize: int) -> tuple[int, ...]:
    """Split an array into pieces of about a mebibyte: some views, or some rows of one; other axes stay whole."""
    if len(shape) < 3:
        one = max(1, itemsize * prod(shape[1:]))
        return max(1, min(shape[0], _CHUNK // one)), *shape[1:]
    row = max(1, itemsize * prod(shape[2:]))
    rows = -(-shape[1] // -(-shape[1] * row // _CHUNK))  # even parts, so that none is padded
    views = max(1, min(shape[0], _CHUNK // (row * rows)))
    return views, rows, *shape[2:]
