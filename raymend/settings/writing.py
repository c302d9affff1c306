"""Writing the settings that were used, so that a run can be repeated."""

import math
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import raymend
from raymend.settings.tables import (
    CalibrationTable,
    DetectorTable,
    GeometryTable,
    GridTable,
    ReconstructionTable,
    RunSettings,
    Table,
)
from raymend.settings.use import Stated, made
from recon import ConeBeam, ParallelBeam, Scan, ScanGeometry, VolumeGrid
from recon.errors import ConfigError
from recon.geometry.base import even_rule
from recon.io import atomic_write

_HEAD = "# Settings of a reconstruction by raymend {version}; options on the command line win over this file."
_USE = "# Repeat with: raymend reconstruct SCAN -o OUTPUT --settings THIS_FILE"
_OWN = "# The geometry is that of the scan file."


def used_settings(
    scan: Scan, grid: VolumeGrid, reconstruction: ReconstructionTable, *, stated: Stated | None = None
) -> RunSettings:
    """Gather the values a reconstruction used.

    Args:
        scan: the scan as it was reconstructed.
        grid: where.
        reconstruction: how.
        stated: what the settings and options said.

    Returns:
        Settings that give the same scan, grid and method. The geometry is left to the scan file where TOML would
        not give back its very angles, and where the file also holds poses.
    """
    earlier = (stated or Stated()).settings
    light = scan.calibration
    return RunSettings(
        geometry=_stated_geometry(earlier.geometry, scan) or _geometry_table(scan),
        detector=_detector_table(scan.geometry),
        grid=GridTable(shape=grid.shape, spacing=grid.spacing, centre=grid.centre),
        reconstruction=reconstruction,
        calibration=CalibrationTable(
            log=earlier.calibration.log or None,
            photons=earlier.calibration.photons if earlier.calibration.log else light.photons,
            electronic=light.electronic,
            water=light.water,
            energy=light.energy,
        ),
    )


def settings_text(settings: RunSettings) -> str:
    """Write settings as TOML."""
    dumps = writer()
    head = [_HEAD.format(version=raymend.__version__), _USE, *([] if settings.geometry else [_OWN])]
    tables = {f.name: _plain(getattr(settings, f.name)) for f in fields(settings) if getattr(settings, f.name)}
    return "\n".join(head) + "\n\n" + dumps({name: table for name, table in tables.items() if table})


def writer() -> Callable[[dict[str, Any]], str]:
    """Return what writes TOML; called before a long computation, it says what is missing."""
    try:
        import tomli_w
    except ImportError as error:
        raise ConfigError("--write-settings needs the package tomli-w; install it with: pip install tomli-w") from error
    return tomli_w.dumps


def write_settings(path: Path, settings: RunSettings) -> None:
    """Write settings as a TOML file, whole or not at all."""
    text = settings_text(settings)
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _plain(table: Table) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in table.given().items()}


def _stated_geometry(table: GeometryTable | None, scan: Scan) -> GeometryTable | None:
    """Keep a stated geometry as it was written, with the number of views it was given."""
    if table is None or table.angles_degrees is not None:
        return table
    return replace(table, views=len(scan))


def _detector_table(geometry: ScanGeometry) -> DetectorTable:
    if not isinstance(geometry, ParallelBeam | ConeBeam):
        return DetectorTable()
    d = geometry.detector
    return DetectorTable(shape=d.shape, pitch=d.pitch, offset=d.offset, curve=d.curve)


def _geometry_table(scan: Scan) -> GeometryTable | None:
    """Find a table that gives the scan's geometry to the last bit."""
    geometry = scan.geometry
    if scan.poses is not None or not isinstance(geometry, ParallelBeam | ConeBeam):
        return None
    tables = _candidates(geometry)
    return next((table for table in tables if made(table, geometry.detector, len(geometry)) == geometry), None)


def _candidates(geometry: ParallelBeam | ConeBeam) -> Iterator[GeometryTable]:
    """Offer tables, the shortest first: an arc, then the list of angles."""
    common = _scanner(geometry)
    rule = even_rule(geometry.angles)
    for arc in _degrees(rule[0]) if rule else ():
        for start in _degrees(geometry.angles[0]):
            yield GeometryTable(**common, views=len(geometry), arc_degrees=arc, start_degrees=start)
    yield GeometryTable(**common, angles_degrees=tuple(_nearest_degrees(angle) for angle in geometry.angles))


def _scanner(geometry: ParallelBeam | ConeBeam) -> dict[str, Any]:
    if isinstance(geometry, ParallelBeam):
        return {"kind": "parallel"}
    distances = {"source_to_axis": geometry.source_to_axis, "source_to_detector": geometry.source_to_detector}
    if not geometry.pitch:
        return {"kind": "cone", **distances}
    middle = _nearest_degrees(geometry.middle)
    return {"kind": "helical", **distances, "pitch": geometry.pitch, "middle_degrees": middle}


def _degrees(angle: float) -> list[float]:
    """Return angles in degrees near one in rad: round ones first, then the neighbours of the quotient."""
    exact = math.degrees(angle)
    near = [round(exact, digits) for digits in (0, 3, 6, 9, 12)]
    return list(dict.fromkeys([*near, exact, math.nextafter(exact, math.inf), math.nextafter(exact, -math.inf)]))


def _nearest_degrees(angle: float) -> float:
    """Return the angle in degrees that reads back as this one in rad, or nearly so where there is none."""
    return min(_degrees(angle), key=lambda degrees: abs(math.radians(degrees) - angle))
