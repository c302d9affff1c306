"""Reading a scan the way the options of the command line ask for."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

from raymend.cli.common import config_error

if TYPE_CHECKING:
    from recon import Scan


def load_scan(
    path: Path,
    *,
    centre: str | None = None,
    pitch: float | None = None,
    log: bool = False,
    photons: float | None = None,
) -> "Scan":
    """Read a scan, take the logarithm of counts and place the rotation axis.

    Raises:
        ConfigError: options that cannot be used or do not go together.
        FormatError: a file that cannot be read.
    """
    from recon.io import read_scan

    if log != (photons is not None):
        missing = "--photons N, the count without an object" if log else "--log, which turns counts into line integrals"
        raise config_error(f"--log and --photons belong together: add {missing}")
    where = parse_centre(centre)
    return read_scan(path, pitch=pitch, centre=where, air=photons)


def parse_centre(text: str | None) -> float | str | None:
    """Read `find` or an offset in mm."""
    if text is None or text == "find":
        return text
    try:
        offset = float(text)
    except ValueError:
        offset = math.nan
    if not math.isfinite(offset):
        raise config_error(f"--centre: expected find, or the detector's u offset in mm, got {text!r}")
    return offset
