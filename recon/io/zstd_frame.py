"""What packed bytes claim to unpack to, before anything unpacks them: a small file can unpack to terabytes."""

from typing import Final

_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_CHECKSUM, _DICTIONARY = 4, 3
_WIDTHS: Final = ((0, 2, 4, 8), (1, 2, 4, 8))  # bytes of the stated size, without and with a single segment
_REPEATED = 1  # kind of block that stores one byte, however long it is


def zstd_size(raw: bytes) -> int:
    """Return the bytes that one Zstandard frame unpacks to, or -1 for anything else, such as two frames.

    The decoder holds on to the stated size; a frame without one, or another frame behind it, would not be bounded.

    Source: Collet and Kucherawy 2021, RFC 8878, section 3.1.1.
    """
    if len(raw) < 6 or raw[:4] != _MAGIC or raw[4] & _DICTIONARY:
        return -1
    single = raw[4] >> 5 & 1
    width = _WIDTHS[single][raw[4] >> 6]
    at = 5 + (not single)
    size = int.from_bytes(raw[at : at + width], "little") + (256 if width == 2 else 0)
    at = _end_of_blocks(raw, at + width) + (4 if raw[4] & _CHECKSUM else 0)
    return size if width and at == len(raw) else -1


def blosc_size(raw: bytes) -> int:
    """Return the bytes that a Blosc buffer unpacks to, or -1 for anything else."""
    if len(raw) < 16 or int.from_bytes(raw[12:16], "little") != len(raw):
        return -1
    return int.from_bytes(raw[4:8], "little")


def _end_of_blocks(raw: bytes, at: int) -> int:
    last = 0
    while not last and at < len(raw):
        head = int.from_bytes(raw[at : at + 3], "little")
        last, kind, length = head & 1, head >> 1 & 3, head >> 3
        at += 3 + (1 if kind == _REPEATED else length)
    return at
