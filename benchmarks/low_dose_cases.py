"""The scanner, the objects and the protocol of `low_dose.py`."""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from phantoms import Dose, Phantom, VolumeObject, anatomy, shepp_logan, simulate
from phantoms.voxels import Scannable
from raymend.comparison.cases import Kept
from raymend.low_dose import inside
from recon import Detector, Scan, VolumeGrid, fbp, preset, read_volume, rmse, to_hu
from recon.io import Volume
from recon.metrics import Protocol, evaluate

WATER = 0.01837  # 1/mm, of the Shepp-Logan head
DENSITIES = tuple(v / 600 * WATER for v in (1200, -480, -120, -120, 60, 60, 60, 80, 80, 80))
ELECTRONIC = 11.0  # photons squared
WINDOW = (-1000.0, 1000.0)  # HU, of FSIM; its width is the data range of SSIM
MEASURED = {  # slices of the shared data: where, which one, width of the image in mm, unit if the file states none
    "chest": ("ct_chest_siemens/dicom_original", 1, 452.0, None),
    "neck and jaw": ("ct_neck_jaw_philips/dicom_original", 2, 264.0, None),
    "plastic head": ("ct_head_phantom_philips/dicom_std", 0, 231.0, None),
    "abdomen": ("nifti_abdomen/dicom_jpeg2000", 0, 500.0, None),
    "Mayo L143 73": ("ldct_pairs_mayo/L143_FD/000073.IMA", 0, 420.0, None),
    "Mayo L143 105": ("ldct_pairs_mayo/L143_FD/000105.IMA", 0, 420.0, None),
    "Mayo L192": ("ldct_pairs_mayo/L192_FD/000024.IMA", 0, 360.0, None),
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """An object on the scanner, and the grid it is reconstructed on.

    Args:
        name: what the case is called.
        kind: "shepp-logan", "thorax" or "real".
        make: returns the object.
        size: pixels along a side of the image.
        width: of the image in mm.
        tuning: the cases that settings for this one are chosen on.
        quick: take a scanner with half the columns and a quarter of the views.
    """

    name: str
    kind: str
    make: Callable[[], Scannable]
    size: int
    width: float
    tuning: tuple[str, ...] = ()
    quick: bool = False

    @property
    def geometry(self) -> Any:
        if not self.quick:
            return preset("somatom16").geometry
        panel = Detector(shape=(1, 336), pitch=(1.407, 2.814), curve="arc")
        return replace(preset("somatom16").with_views(290).geometry, detector=panel)

    @property
    def grid(self) -> VolumeGrid:
        """Return the grid; for rasters it lies off their voxels by a fraction of one, against the inverse crime."""
        off = 0.0 if self.kind == "shepp-logan" else 0.3
        step = self.width / self.size
        return VolumeGrid(
            shape=(1, self.size, self.size), spacing=(1.0, step, step), centre=(0.0, off * step, -off * step)
        )

    @cached_property
    def object(self) -> Scannable:
        return self.make()

    @cached_property
    def kept(self) -> Kept:
        """Return the object with its line integrals."""
        return Kept(name=self.object.name, water=self.object.water, values=simulate(self.object, self.geometry).values)

    @cached_property
    def clean(self) -> Scan:
        """Return the scan without noise."""
        return simulate(self.kept, self.geometry)

    @cached_property
    def references(self) -> dict[str, Tensor]:
        """Return the image of noise-free projections and the object itself, in HU."""
        drawn: Any = self.object
        return {"clean": self.image(self.clean), "phantom": self.hu(drawn.rasterised(self.grid).float())}

    @cached_property
    def mask(self) -> Tensor:
        """Return where all views see the image."""
        found = inside(self.clean, self.grid)
        return torch.ones(self.grid.shape, dtype=torch.bool) if found is None else found

    def scan(self, photons: float, seed: int) -> Scan:
        return simulate(self.kept, self.geometry, dose=Dose(photons=photons, electronic=ELECTRONIC), seed=seed)

    def quanta(self, photons: float) -> float:
        """Return the mean photons behind the darkest ray."""
        return photons * math.exp(-float(self.clean.values.max()))

    def image(self, scan: Scan, **settings: Any) -> Tensor:
        return self.hu(fbp(scan, self.grid, **settings))

    def hu(self, image: Tensor) -> Tensor:
        return to_hu(image, self.object.water)

    def scores(self, image: Tensor) -> dict[str, dict[str, float]]:
        """Return RMSE in HU, SSIM and FSIM against each reference."""
        kinds = {"clean": "noise-free reconstruction", "phantom": "phantom"}
        found = {}
        for name, truth in self.references.items():
            common: Any = {"reference": kinds[name], "mask": self.mask, "region": "field of view"}
            plain = Protocol(data_range=WINDOW[1] - WINDOW[0], **common)
            rows = evaluate(image, truth, plain, metrics=("rmse", "ssim"))
            rows += evaluate(image, truth, Protocol(window=WINDOW, **common), metrics=("fsim",))
            found[name] = {row.metric: row.value for row in rows}
        return found

    def error(self, image: Tensor) -> float:
        """Return the RMSE in HU against the image of noise-free projections."""
        return rmse(image, self.references["clean"], mask=self.mask)


def head(size: float = 350.0, turn: float = 0.0) -> Phantom:
    """Return the head of a size in mm, turned by an angle in rad."""
    figure = shepp_logan(size=size, water=WATER)
    shapes = tuple(replace(shape, density=mu) for shape, mu in zip(figure.shapes, DENSITIES, strict=True))
    whole = replace(figure, shapes=shapes, name=f"Shepp-Logan head of {size:g} mm")
    return whole.moved(turn=(turn, 0.0, 0.0)) if turn else whole


def data_folder() -> Path | None:
    """Return the folder of real scans and images, or None where it is absent."""
    told = os.environ.get("RAYMEND_TEST_DATA")
    folder = Path(told) if told else Path(__file__).resolve().parents[2] / "shared" / "data"
    return folder if folder.is_dir() else None


def measured(name: str, folder: Path) -> VolumeObject:
    """Return a slice of a real volume as an object."""
    where, slice_number, _, unit = MEASURED[name]
    volume = read_volume(folder / where)
    one = slice(slice_number, slice_number + 1)
    grid = volume.grid.region((1, *volume.grid.shape[1:]), (0.0, 0.0, 0.0))
    piece = Volume(values=volume.values[one].clamp_min(-1000), grid=grid, unit=unit or volume.unit)
    return VolumeObject.of(piece, name=name)


@lru_cache
def cases(quick: bool = False) -> dict[str, Case]:
    """Return all cases by name, those for tuning included."""
    size = 128 if quick else 256
    found = [
        Case(
            name="Shepp-Logan",
            kind="shepp-logan",
            make=head,
            size=2 * size,
            width=400.0,
            tuning=("turned Shepp-Logan",),
        ),
        Case(
            name="turned Shepp-Logan",
            kind="shepp-logan",
            make=lambda: head(300.0, math.pi / 4),
            size=2 * size,
            width=400.0,
        ),
    ]
    bodies = ("thorax 101", "abdomen 102", "head 103")
    for name in ("thorax 7", "thorax 8", *bodies):
        kind, seed = name.split()
        found.append(
            Case(
                name=name, kind="thorax", make=lambda kind=kind, seed=seed: anatomy(seed=int(seed), kind=kind),
                size=size, width=430.0 if kind != "head" else 260.0, tuning=() if name in bodies else bodies,
            )
        )  # fmt: skip
    folder = data_folder()
    if folder is not None:
        found += [
            Case(
                name=name, kind="real", make=lambda name=name: measured(name, folder), size=size,
                width=MEASURED[name][2], tuning=bodies,
            )
            for name in MEASURED
        ]  # fmt: skip
    return {case.name: replace(case, quick=quick) for case in found}
