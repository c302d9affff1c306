"""Reading a scan the way the options of the command line and the settings ask for."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

from raymend.cli import common
from raymend.cli.common import config_error

if TYPE_CHECKING:
    from raymend.settings import Stated
    from recon import Scan


def load_stated(
    settings: Path | None, *, pitch: float | None = None, log: bool | None = None, photons: float | None = None
) -> "Stated":
    """Read the settings, say which spellings were taken, and put options in their place.

    Raises:
        ConfigError: what is wrong with the settings, or options that do not go together.
    """
    from raymend.settings import load_settings

    stated = load_settings(settings)
    for note in stated.notes:
        common.say(f"note: {note}")
    steps = None if pitch is None else (pitch, pitch)
    stated = stated.overridden(detector={"pitch": steps}, calibration={"log": log, "photons": photons})
    light = stated.settings.calibration
    if light.log and light.photons is None:
        raise config_error("--log and --photons belong together: add --photons N, the count without an object")
    if photons is not None and not light.log:
        raise config_error("--log and --photons belong together: add --log, which turns counts into line integrals")
    return stated


def load_scan(path: Path, stated: "Stated", *, centre: str | None = None) -> "Scan":
    """Read a scan, take the logarithm of counts and place the rotation axis.

    Raises:
        ConfigError: options that cannot be used or do not go together.
        FormatError: a file that cannot be read.
    """
    return stated.scan(path, centre=parse_centre(centre))


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
