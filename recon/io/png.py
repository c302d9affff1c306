"""PNG: one slice seen through a stated window, eight bits, y downwards."""

import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recon import checks
from recon.errors import ConfigError
from recon.io.atomic import atomic_write
from recon.io.volume import Volume


def write_png(path: Path, volume: Volume, window: tuple[float, float] | None) -> None:
    """Write a single slice; window and unit are kept as text in the file.

    Args:
        path: where to.
        volume: one slice.
        window: (low, high) in the volume's unit; low and below is black, high and above is white.

    Raises:
        ConfigError: no window, or more than one slice.
    """
    low, high = _window(window)
    if volume.grid.shape[0] != 1:
        raise ConfigError(
            f"values: expected one slice for PNG, got {volume.grid.shape[0]}; "
            "choose one with values[k : k + 1] and its grid"
        )
    share = (volume.values[0].detach().cpu().double().numpy() - low) / (high - low)
    grey = np.round(np.clip(share, 0, 1) * 255).astype(np.uint8)
    text = {
        "Software": "raymend",
        "Window": f"{low:g} to {high:g} {volume.unit}",
        "Pixel": f"{volume.grid.spacing[1:]} mm",
    }
    with atomic_write(path) as temporary:
        temporary.write_bytes(encode(grey, text))


def encode(grey: NDArray[np.uint8], text: dict[str, str]) -> bytes:
    """Encode 8-bit grey values (y, x) as PNG."""
    height, width = grey.shape
    return _file(struct.pack(">2I5B", width, height, 8, 0, 0, 0, 0), b"", grey, text)


def encode_palette(indices: NDArray[np.uint8], palette: NDArray[np.uint8], text: dict[str, str]) -> bytes:
    """Encode numbers of colours (y, x) as PNG of 4 bits a pixel.

    Args:
        indices: below 16.
        palette: at most 16 colours (colour, 4) of red, green, blue and opacity.
        text: kept in the file.
    """
    height, width = indices.shape
    even = np.pad(indices, ((0, 0), (0, width % 2)))
    packed = (even[:, ::2] * 16 + even[:, 1::2]).astype(np.uint8)
    colours = _chunk(b"PLTE", palette[:, :3].tobytes()) + _chunk(b"tRNS", palette[:, 3].tobytes())
    return _file(struct.pack(">2I5B", width, height, 4, 3, 0, 0, 0), colours, packed, text)


def _file(head: bytes, colours: bytes, packed: NDArray[np.uint8], text: dict[str, str]) -> bytes:
    """Assemble a file from its header, colours and rows of bytes."""
    rows = np.zeros((packed.shape[0], packed.shape[1] + 1), dtype=np.uint8)  # each row starts with its filter: none
    rows[:, 1:] = packed
    notes = b"".join(_chunk(b"tEXt", f"{key}\0{value}".encode("latin-1")) for key, value in text.items())
    body = _chunk(b"IDAT", zlib.compress(rows.tobytes(), 6))
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + colours + notes + body + _chunk(b"IEND", b"")


def _window(window: tuple[float, float] | None) -> tuple[float, float]:
    if window is None or len(window) != 2:
        raise ConfigError(f"window: expected (low, high) for PNG, got {window!r}; in HU, (-160, 240) shows soft tissue")
    low, high = (checks.finite("window", float(end)) for end in window)
    if not low < high:
        raise ConfigError(f"window: expected low below high, got {window!r}")
    return low, high


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
