"""What the denoisers learn from: reconstructions of random patients without noise, and of their noise alone."""

import json
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from phantoms.draw import Draw
from phantoms.sampler import ScanPair, ScanPairs
from recon import ConeBeam, Detector, VolumeGrid, fbp, preset
from recon.errors import CTWarning
from recon.io.atomic import atomic_write
from recon.random import generator
from restoration.denoisers.noise_level import noise_level

KINDS = ("thorax", "abdomen", "head", "jaw")
WINDOWS = ("ram-lak", "ram-lak", "cosine", "hann")
SCALES = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0)  # of the noise, at which its level is measured
BODY = -500.0  # HU
EXTENTS = {"thorax": (170.0, 1.8), "abdomen": (170.0, 1.8), "head": (90.0, 1.1), "jaw": (90.0, 1.1)}  # half, pixel; mm
USUAL = (10.0, 100.0)  # HU; noise in the body beyond is scaled to within


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much data: slices, images of each, pixels along a side of an image, views of a scan, patients from a seed
    on, raster of a patient in mm."""

    slices: int = 240
    images: int = 2
    size: int = 320
    views: int = 580
    first: int = 100_000
    raster: float = 0.75

    @property
    def pairs(self) -> ScanPairs:
        usual = preset("somatom16").with_views(self.views).geometry
        panel = Detector(shape=(1, 1008), pitch=(1.407, 0.938), curve="arc")  # as fine as a flying focal spot makes it
        fine = ConeBeam.circular(self.views, detector=panel, source_to_axis=570, source_to_detector=1040)
        return ScanPairs(
            geometries=(usual, fine), count=self.slices, first=self.first, kinds=KINDS, spacing=self.raster
        )


def make(folder: Path, plan: Plan, *, part: int = 0, parts: int = 1) -> None:
    """Write what is missing of the data: a file of float16 (image, clean or noise, y, x) and one of numbers each."""
    pairs = plan.pairs
    for k in range(part, plan.slices, parts):
        target = folder / f"{plan.first + k}.npy"
        if target.exists():
            continue
        images, about = reconstructed(pairs[k], plan)
        with atomic_write(target.with_suffix(".json")) as temporary:
            temporary.write_text(json.dumps(about))
        with atomic_write(target) as temporary, temporary.open("wb") as file:
            np.save(file, images)
        print(f"{target.name} {about[0]}", flush=True)


def reconstructed(pair: ScanPair, plan: Plan) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Reconstruct a slice and its noise a few times, each by another filter on another grid."""
    draw = Draw(10_000_000 + pair.seed)
    rough_scan = pair.clean.changed(values=pair.noisy.values - pair.clean.values)
    found, about = [], []
    for _ in range(plan.images):
        window, cutoff = draw.one_of(WINDOWS), draw.between(0.5, 1.0)
        half, widest = EXTENTS[pair.kind]
        step = draw.between(0.6, widest)
        reach = max(0.0, half - plan.size * step / 2)
        centre = (0.0, 0.7 * draw.between(-reach, reach), draw.between(-reach, reach))
        grid = VolumeGrid(shape=(1, plan.size, plan.size), spacing=(1.0, step, step), centre=centre)
        clean = fbp(pair.clean, grid, window=window, cutoff=cutoff)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CTWarning)  # noise reaches the edges of the detector
            noise = fbp(rough_scan, grid, window=window, cutoff=cutoff)
        unit = 1000 / pair.clean.calibration.water
        hu, rough = clean[0] * unit - 1000, noise[0] * unit
        rough = rough * _factor(rough, hu, draw)
        levels = [noise_level(hu + s * rough) for s in SCALES]
        found.append(torch.stack([hu, rough]).clamp(-30000, 30000).half().numpy())
        about.append({"kind": pair.kind, "window": window, "cutoff": cutoff, "step": step, "levels": levels})
    return np.stack(found), about


def _factor(rough: Tensor, hu: Tensor, draw: Draw) -> float:
    """Return what brings noise into the usual range; noise within it stays."""
    inside = hu > BODY
    level = float(rough[inside].std()) if int(inside.sum()) > 100 else float(rough.std())
    low, high = USUAL
    wanted = math.exp(draw.between(math.log(low), math.log(high)))
    return 1.0 if low <= level <= high else wanted / max(level, 1e-3)


class Patches:
    """Random pieces of the data with random strengths of noise; the same seed gives the same ones.

    Args:
        folder: that `make` filled.
        size: pixels along a side of a piece.
        names: files to take; None for all.
    """

    def __init__(self, folder: Path, size: int, names: Sequence[str] | None = None) -> None:
        self.size = size
        found = sorted(folder.glob("*.npy")) if names is None else [folder / name for name in names]
        self.images = np.concatenate([np.load(path) for path in found])
        self.levels = [row["levels"] for path in found for row in json.loads(path.with_suffix(".json").read_text())]

    def draw(self, seed: int, batch: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return noisy and clean pieces (batch, 1, y, x) and noise levels (batch,), all in HU."""
        rng = generator(seed)
        pieces = [self._one(rng) for _ in range(batch)]
        noisy, clean = (torch.stack([piece[k] for piece in pieces])[:, None] for k in (0, 1))
        return noisy, clean, torch.tensor([piece[2] for piece in pieces])

    def _one(self, rng: torch.Generator) -> tuple[Tensor, Tensor, float]:
        which = _whole(rng, len(self.images))
        window = self._place(rng, which)
        clean, noise = torch.from_numpy(self.images[which][(slice(None), *window)].astype(np.float32))
        levels = self.levels[which]
        if _unit(rng) < 0.15:
            sigma = 3.0 * 30 ** _unit(rng)
            noise = torch.randn(clean.shape, generator=rng) * sigma
            level = math.hypot(sigma, levels[0])
        else:
            scale = 0.25 * 12 ** _unit(rng)
            noise, level = noise * scale, _level(scale, levels)
        noisy = clean + noise
        if _unit(rng) < 0.3:  # many files end at -1024 HU
            noisy, clean = noisy.clamp_min(-1024), clean.clamp_min(-1024)
        turns, flip = _whole(rng, 4), _whole(rng, 2)
        return _turned(noisy, turns, flip), _turned(clean, turns, flip), level

    def _place(self, rng: torch.Generator, which: int) -> tuple[slice, slice]:
        """Draw where; air is drawn again, up to twice."""
        room = self.images.shape[-1] - self.size + 1
        for _ in range(3):
            y, x = _whole(rng, room), _whole(rng, room)
            place = slice(y, y + self.size), slice(x, x + self.size)
            if (self.images[which, 0][place][::4, ::4] > BODY).mean() > 0.3:
                break
        return place


def _level(scale: float, levels: Sequence[float]) -> float:
    """Return the level between those measured, or beyond them as variances grow."""
    if scale <= SCALES[-1]:
        return float(np.interp(scale, SCALES, levels))
    growth = (levels[-1] ** 2 - levels[-2] ** 2) / (SCALES[-1] ** 2 - SCALES[-2] ** 2)
    return math.sqrt(levels[-1] ** 2 + max(growth, 0.0) * (scale**2 - SCALES[-1] ** 2))


def _turned(image: Tensor, turns: int, flip: int) -> Tensor:
    turned = torch.rot90(image, turns)
    return turned.flip(0) if flip else turned


def _whole(rng: torch.Generator, count: int) -> int:
    return int(torch.randint(count, (1,), generator=rng))


def _unit(rng: torch.Generator) -> float:
    return float(torch.rand(1, generator=rng))
