"""Settings from a TOML file: for scans whose file carries no geometry, and to repeat a reconstruction."""

from raymend.settings.tables import (
    CalibrationTable,
    DetectorTable,
    GeometryTable,
    GridTable,
    ReconstructionTable,
    RunSettings,
)
from raymend.settings.use import Stated, load_settings
from raymend.settings.writing import settings_text, used_settings, write_settings, writer

__all__ = [
    "CalibrationTable",
    "DetectorTable",
    "GeometryTable",
    "GridTable",
    "ReconstructionTable",
    "RunSettings",
    "Stated",
    "load_settings",
    "settings_text",
    "used_settings",
    "write_settings",
    "writer",
]
