"""Scans of random patients without end, to learn from: one slice each, without noise and with."""

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from phantoms.anatomy import Anatomy, anatomy
from phantoms.dose import Dose
from phantoms.draw import Draw
from phantoms.simulate import simulate
from phantoms.voxels import VolumeObject
from recon import checks
from recon.errors import ConfigError, CTWarning
from recon.geometry import ScanGeometry
from recon.scan import Scan

#: Seeds from here on are patients to learn from; those below 1000 are for tuning and tests.
TRAINING_SEEDS: Final = 100_000

_HEIGHTS: Final = {"thorax": (-110.0, 100.0), "abdomen": (-120.0, 90.0), "head": (-35.0, 60.0), "jaw": (-25.0, 25.0)}
_ELECTRONIC: Final = (5.0, 20.0)  # photons squared


@dataclass(frozen=True, kw_only=True, eq=False)
class ScanPair:
    """A slice of a patient, scanned without noise and at a low dose.

    Args:
        kind: of the patient, one of `ANATOMIES`.
        seed: of the patient.
        height: of the slice in mm above the middle of the kind.
        clean: the scan without noise.
        noisy: the same with noise.
    """

    kind: str
    seed: int
    height: float
    clean: Scan
    noisy: Scan


@dataclass(frozen=True, kw_only=True)
class ScanPairs:
    """Random slices of random patients on given scanners at random doses; pair k is the same whenever it is asked for.

    Args:
        geometries: scanners of one detector row, of which each slice gets one.
        count: number of pairs; patient k has seed first + k.
        first: seed of the first patient.
        kinds: of patients, in turns.
        photons: lowest and highest mean photons per pixel without an object; doses are even in their logarithm.
        spacing: of the raster that is scanned in mm.

    Raises:
        ConfigError: no scanner or kind, an unknown kind, or a number out of range.
    """

    geometries: tuple[ScanGeometry, ...]
    count: int
    first: int = TRAINING_SEEDS
    kinds: tuple[str, ...] = ("thorax", "abdomen", "head", "jaw")
    photons: tuple[float, float] = (3e3, 3e5)
    spacing: float = 0.75

    def __post_init__(self) -> None:
        if not self.geometries or not self.kinds:
            raise ConfigError("geometries, kinds: expected at least one of each, got none; name a scanner and a kind")
        for kind in self.kinds:
            checks.choice("kinds", kind, tuple(_HEIGHTS))
        low, high = self.photons
        if not 0 < checks.finite("photons", low) <= checks.finite("photons", high):
            raise ConfigError(f"photons: expected 0 < lowest <= highest, got {self.photons}")

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, k: int) -> ScanPair:
        if not -self.count <= k < self.count:
            raise IndexError(f"pair {k} of {self.count}")
        seed, kind = self.first + k % self.count, self.kinds[k % self.count % len(self.kinds)]
        draw = Draw(seed)
        geometry, height = draw.one_of(self.geometries), draw.between(*_HEIGHTS[kind])
        photons = math.exp(draw.between(*(math.log(value) for value in self.photons)))
        thing = slice_of(anatomy(seed=seed, kind=kind), height, spacing=self.spacing)
        clean = simulate(thing, geometry)
        dose = Dose(photons=photons, electronic=draw.between(*_ELECTRONIC))
        return ScanPair(kind=kind, seed=seed, height=height, clean=clean, noisy=_noisy(clean, dose, seed, thing.water))

    def __iter__(self) -> Iterator[ScanPair]:
        return (self[k] for k in range(self.count))

    @property
    def patients(self) -> dict[str, list[str] | list[int]]:
        """Kinds and the first and last seed, as the card of trained weights states them."""
        return {"kind": list(self.kinds), "seeds": [self.first, self.first + self.count - 1]}


def slice_of(patient: Anatomy, height: float, *, spacing: float = 0.6) -> VolumeObject:
    """Return a slice of a patient at a height in mm, moved into the plane of the beam.

    Args:
        patient: who.
        height: above the middle of the kind.
        spacing: of the raster in mm.
    """
    raster = replace(patient, spacing=spacing).voxels(height, height)
    _, y, x = raster.grid.centre
    return replace(raster, grid=replace(raster.grid, centre=(0.0, y, x)), name=f"{patient.name} at {height:.0f} mm")


@dataclass(frozen=True)
class _Known:
    """An object whose line integrals are known."""

    scan: Scan
    water: float
    name: str = "known line integrals"

    def line_integrals(self, geometry: ScanGeometry, poses: object = None, **settings: object) -> object:
        return self.scan.values.double()


def _noisy(clean: Scan, dose: Dose, seed: int, water: float) -> Scan:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CTWarning)  # rays without photons are part of low doses
        return simulate(_Known(clean, water), clean.geometry, dose=dose, seed=seed)  # type: ignore[arg-type]
