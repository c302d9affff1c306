"""What methods are compared on: phantoms, patients, volumes as objects, measured scans, and pairs of images."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from phantoms import Dose, simulate
from phantoms.voxels import Scannable
from raymend.comparison.places import around, covered, on_grid, over_field, stride
from raymend.comparison.setup import Setup
from raymend.comparison.trial import Trial
from recon import Scan, ScanGeometry, VolumeGrid, preset, to_hu
from recon.errors import ConfigError
from recon.io import Volume
from recon.sinogram import noise_photons, reduce_dose
from recon.sinogram.crosstalk import estimated_crosstalk, noise_share
from recon.units import WATER


@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """A case that is ready: the reference, where it counts, and draws of noise.

    Args:
        about: object, scanner and dose in words.
        reference: in HU (z, y, x).
        kind: what the reference is, in the words of `recon.metrics.Protocol`.
        grid: of the images.
        mask: True where voxels count.
        region: what the mask covers, or nothing.
        draws: how many draws of noise there are.
        draw: makes one of them.
    """

    about: str
    reference: Tensor
    kind: str
    grid: VolumeGrid
    mask: Tensor
    region: str
    draws: int
    draw: Callable[[int], Trial]


class Case(ABC):
    """Something to compare methods on; it is described by numbers and words before it is made.

    Attributes:
        name: unique in a comparison, and on the command line.
        word: what makes it again in another process, such as a path; or nothing.
        projections: whether there are any.
        patients: who is seen, to keep patients of training and tuning apart from those of the test.
    """

    name: str
    word: str
    projections: ClassVar[bool] = True

    @property
    @abstractmethod
    def patients(self) -> frozenset[str]:
        """Name the patients, such as "anatomy of a trunk 7"."""

    @abstractmethod
    def identity(self, setup: Setup) -> dict[str, Any]:
        """Return all that determines the case's images and references, as `json` can store it."""

    @abstractmethod
    def check(self, setup: Setup) -> None:
        """Refuse a setup that the case cannot have, before anything is made."""

    @abstractmethod
    def prepare(self, setup: Setup) -> Prepared:
        """Make the reference and what draws of noise need."""


@dataclass(frozen=True, kw_only=True)
class Simulated(Case):
    """An object on a simulated scanner.

    Args:
        name: of the case.
        make: returns the object.
        content: all that determines the object.
        patient: who it is, or nothing.
    """

    name: str
    make: Callable[[], Scannable]
    content: Any
    patient: str = ""
    word: str = ""

    @property
    def patients(self) -> frozenset[str]:
        return frozenset([self.patient or f"object {self.content}"])

    def identity(self, setup: Setup) -> dict[str, Any]:
        names = ("preset", "views", "photons", "electronic", "size", "seed", "draws", "reference")
        return {"object": self.content} | {name: getattr(setup, name) for name in names}

    def check(self, setup: Setup) -> None:
        preset(setup.preset)

    def prepare(self, setup: Setup) -> Prepared:
        thing = self.make()
        scanner = preset(setup.preset).with_views(setup.views)
        grid = around(thing, scanner.geometry, setup.size)
        clean = simulate(thing, scanner.geometry)
        kept = Kept(name=thing.name, water=thing.water, values=clean.values)
        reference, kind = self._reference(thing, clean, grid, setup)
        mask, region = covered(clean, grid)

        def draw(number: int) -> Trial:
            seed = setup.seed + number
            dose = None if setup.photons is None else Dose(photons=setup.photons, electronic=setup.electronic)
            scan = simulate(kept, scanner.geometry, dose=dose, seed=seed)
            return Trial(grid=grid, seed=seed, scan=scan, water=thing.water)

        dose = "no noise" if setup.photons is None else f"{setup.photons:g} photons per pixel"
        return Prepared(
            about=f"{thing.name}, {setup.preset}, {len(scanner.geometry)} views, {dose}",
            reference=reference,
            kind=kind,
            grid=grid,
            mask=mask,
            region=region,
            draws=1 if setup.photons is None else setup.draws,
            draw=draw,
        )

    def _reference(self, thing: Any, clean: Scan, grid: VolumeGrid, setup: Setup) -> tuple[Tensor, str]:
        if setup.reference == "noise-free":
            return Trial(grid=grid, seed=0, scan=clean, water=thing.water).image, "noise-free reconstruction"
        return to_hu(thing.rasterised(grid).float(), thing.water), "phantom"


@dataclass(frozen=True, kw_only=True)
class Measured(Case):
    """A measured scan, with less dose or fewer views, beside its image at full dose and with all views.

    Args:
        name: of the case.
        read: returns the scan.
        content: all that determines the scan.
    """

    name: str
    read: Callable[[], Scan]
    content: Any
    word: str = ""

    @property
    def patients(self) -> frozenset[str]:
        return frozenset([f"scan {self.content}"])

    def identity(self, setup: Setup) -> dict[str, Any]:
        names = ("views", "fraction", "size", "seed", "draws")
        return {"scan": self.content} | {name: getattr(setup, name) for name in names}

    def check(self, setup: Setup) -> None:
        if setup.fraction < 1:
            return
        if setup.views is None or stride(len(self.read()), setup.views, self.name) == 1:
            raise ConfigError(
                f"{self.name}: expected less than the full dose (fraction=0.25) or at most half of its views "
                "(views=180), got all of it, which is the reference"
            )

    def prepare(self, setup: Setup) -> Prepared:
        scan = self.read()
        crosstalk = estimated_crosstalk(scan)
        scan = _with_photons(scan, crosstalk)
        grid = over_field(scan.geometry, setup.size)
        mask, region = covered(scan, grid)
        step = stride(len(scan), setup.views, self.name)
        full = Trial(grid=grid, seed=setup.seed, scan=scan, water=scan.calibration.water)

        def draw(number: int) -> Trial:
            seed = setup.seed + number
            low = scan if setup.fraction == 1 else reduce_dose(scan, setup.fraction, seed=seed, crosstalk=crosstalk)
            return Trial(grid=grid, seed=seed, scan=low[::step], water=scan.calibration.water)

        views = f"{len(range(0, len(scan), step))} of {len(scan)} views"
        return Prepared(
            about=f"measured scan, {views}, {100 * setup.fraction:g} % of the dose", reference=full.image,
            kind="full-dose reconstruction", grid=grid, mask=mask, region=region,
            draws=1 if setup.fraction == 1 else setup.draws, draw=draw,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Pair(Case):
    """An image at low dose beside one at full dose; there are no projections.

    Args:
        name: of the case.
        read: returns the image at low dose and that at full dose.
        content: all that determines them.
        patient: who it is, or nothing where no file says it.
    """

    name: str
    read: Callable[[], tuple[Volume, Volume]]
    content: Any
    patient: str = ""
    word: str = ""
    projections: ClassVar[bool] = False

    @property
    def patients(self) -> frozenset[str]:
        return frozenset([self.patient or f"pair {self.content}"])

    def identity(self, setup: Setup) -> dict[str, Any]:
        return {"pair": self.content, "resample": setup.resample, "seed": setup.seed}

    def check(self, setup: Setup) -> None:
        low, full = self.read()
        on_grid(full, low.grid, resample=setup.resample, name=self.name)

    def prepare(self, setup: Setup) -> Prepared:
        low, full = self.read()
        reference, said = on_grid(full, low.grid, resample=setup.resample, name=self.name)
        trial = Trial(grid=low.grid, seed=setup.seed, given=low.values.float(), water=WATER)
        return Prepared(
            about=f"image at low dose beside the one at full dose{said}", reference=reference,
            kind="full-dose reconstruction", grid=low.grid, mask=torch.ones(low.grid.shape, dtype=torch.bool),
            region="", draws=1, draw=lambda number: trial,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class Kept:
    """An object whose line integrals are worked out once for the one geometry of a case."""

    name: str
    water: float
    values: Tensor

    def line_integrals(self, geometry: ScanGeometry, poses: Tensor | None = None, **settings: Any) -> Tensor:
        return self.values.to(settings.get("dtype", torch.float32))


def _with_photons(scan: Scan, crosstalk: float) -> Scan:
    """State the photons that the noise tells of, where the file states none; cross-talk makes them look more."""
    if scan.calibration.photons is not None:
        return scan
    photons = noise_photons(scan)
    if photons is None or not math.isfinite(photons):
        return scan
    kept = noise_share(crosstalk, scan.geometry.detector.shape[0])
    return scan.changed(calibration=replace(scan.calibration, photons=photons * kept))
