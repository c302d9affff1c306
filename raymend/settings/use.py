"""What stated settings make of a scan file: geometry, detector, calibration and grid."""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from raymend.settings.tables import GeometryTable, Pair, RunSettings
from raymend.settings.toml import parse_settings
from recon import ConeBeam, Detector, ParallelBeam, Scan, ScanGeometry, VolumeGrid
from recon.errors import ConfigError, GeometryError
from recon.field_of_view import grid_of
from recon.geometry.base import even_angles
from recon.io import read_scan
from recon.io.read import states_detector
from recon.sinogram.centre import find_centre, with_centre
from recon.units import water_attenuation

_PITCH = "pitch: expected the step between detector pixels in mm, got none; add it, or state --pitch"


@dataclass(frozen=True, kw_only=True)
class Stated:
    """Settings, the file they came from (empty without one), and notes on how it was read."""

    settings: RunSettings = field(default_factory=RunSettings)
    where: str = ""
    notes: tuple[str, ...] = ()

    def overridden(self, **tables: dict[str, object]) -> "Stated":
        """Return the settings with options in the place of what the file states."""
        return replace(self, settings=self.settings.overridden(**tables))

    def geometry(self, shape: tuple[int, int, int]) -> ScanGeometry:
        """Build the stated geometry for data of (view, row, column)."""
        table = self.settings.geometry
        if table is None:
            raise ConfigError(f"{self.where}: [geometry] expected a table, got none; add it")
        with self._told("geometry"):
            return made(table, self._detector((shape[1], shape[2])), shape[0])

    def scan(self, path: Path, *, centre: float | str | None = None, max_bytes: int | None = None) -> Scan:
        """Read a scan and state of it what the settings do; `centre` is a detector offset in mm, or "find"."""
        stated, light = self.settings, self.settings.calibration
        scan = read_scan(
            path,
            geometry=None if stated.geometry is None else self.geometry,
            pitch=self._missing_pitch(path),
            air=light.photons if light.log else None,
            max_bytes=max_bytes,
        )
        scan = self._calibrated(scan if stated.geometry is not None else self._with_detector(scan))
        if centre is None:
            return scan
        return with_centre(scan, find_centre(scan) if isinstance(centre, str) else centre)

    def _missing_pitch(self, path: Path) -> Pair:
        """Return the pitch for files that need not state it; a stated geometry or the detector's table has it else."""
        pitch = self.settings.detector.pitch
        return None if pitch is None or self.settings.geometry is not None or states_detector(path) else pitch

    def grid(self, geometry: ScanGeometry) -> VolumeGrid:
        """Complete the stated grid from the field of view."""
        table = self.settings.grid
        with self._told("grid"):
            if table.centre is None:
                return grid_of(geometry, shape=table.shape, spacing=table.spacing)
            if isinstance(table.shape, tuple) and isinstance(table.spacing, tuple):
                return VolumeGrid(shape=table.shape, spacing=table.spacing, centre=table.centre)
            return replace(grid_of(geometry, shape=table.shape, spacing=table.spacing), centre=table.centre)

    def check(self) -> "Stated":
        """Refuse distances and angles that no scanner can have, before any data are read."""
        table = self.settings.geometry
        if table is not None:
            with self._told("geometry"):
                made(table, Detector(shape=(1, 1)), 2)
        return self

    def _detector(self, shape: tuple[int, int]) -> Detector:
        table = self.settings.detector
        if table.pitch is None:
            raise ConfigError(f"{self._table('detector')}{_PITCH}")
        with self._told("detector"):
            return Detector(**{"shape": shape, **table.given()})

    def _with_detector(self, scan: Scan) -> Scan:
        """Change the detector that the file states."""
        changes = self.settings.detector.given()
        if not changes:
            return scan
        geometry = scan.geometry
        if not isinstance(geometry, ParallelBeam | ConeBeam):
            raise ConfigError(
                f"{self._table('detector')}expected parallel rays or a circular or helical scan, got "
                f"{type(geometry).__name__}, whose vectors state the detector; leave pitch and [detector] out"
            )
        with self._told("detector"):
            if changes.get("shape", geometry.detector.shape) != geometry.detector.shape:
                raise ConfigError(
                    f"shape: expected that of the data, {geometry.detector.shape}, got {changes['shape']}"
                )
            detector = replace(geometry.detector, **changes)
            if detector == geometry.detector:
                return scan
            notes = (*scan.provenance, "detector stated by the caller")
            return scan.changed(geometry=replace(geometry, detector=detector), provenance=notes)

    def _calibrated(self, scan: Scan) -> Scan:
        table = self.settings.calibration
        changes = table.given("electronic", "water", "energy", *([] if table.log else ["photons"]))
        if not changes:
            return scan
        with self._told("calibration"):
            if "energy" in changes and "water" not in changes:
                changes["water"] = water_attenuation(changes["energy"])
            return scan.changed(calibration=replace(scan.calibration, **changes))

    def _table(self, name: str) -> str:
        return f"{self.where}: [{name}] " if self.where else ""

    @contextlib.contextmanager
    def _told(self, name: str) -> Iterator[None]:
        """Put file and table before the message of a constructor."""
        try:
            yield
        except (ConfigError, GeometryError) as error:
            text, head = str(error), self._table(name)
            raise type(error)(text if text.startswith(f"{self.where}: ") else head + text) from error


def load_settings(path: Path | None) -> Stated:
    """Read a settings file; without one nothing is stated.

    Raises:
        ConfigError: what is wrong with the file, all at once.
        GeometryError: distances or angles that no scanner can have.
    """
    if path is None:
        return Stated()
    settings, notes = parse_settings(path)
    return Stated(settings=settings, where=str(path), notes=tuple(notes)).check()


def made(table: GeometryTable, detector: Detector, views: int) -> ScanGeometry:
    """Build a geometry from its table."""
    angles, middle = _angles(table, views)
    if table.kind == "parallel" or table.source_to_axis is None or table.source_to_detector is None:
        return ParallelBeam(angles=angles, detector=detector)
    return ConeBeam(
        angles=angles,
        detector=detector,
        source_to_axis=table.source_to_axis,
        source_to_detector=table.source_to_detector,
        pitch=table.pitch or 0.0,
        middle=middle if table.kind == "helical" else 0.0,
    )


def _angles(table: GeometryTable, views: int) -> tuple[tuple[float, ...], float]:
    """Return the angles in rad and the one at which a helix passes z = 0."""
    if table.angles_degrees is not None:
        angles = tuple(math.radians(angle) for angle in table.angles_degrees)
        middle = (angles[0] + angles[-1]) / 2
    else:
        arc, start = _arc(table), math.radians(table.start_degrees or 0.0)
        angles, middle = even_angles(table.views or views, arc, start), start + arc / 2
    return angles, middle if table.middle_degrees is None else math.radians(table.middle_degrees)


def _arc(table: GeometryTable) -> float:
    if table.turns is not None:
        return 2 * math.pi * table.turns
    return math.radians(table.arc_degrees or (180.0 if table.kind == "parallel" else 360.0))
