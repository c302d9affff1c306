"""Low dose: FBP beside Gibbs, TV and sub-pixel anisotropic diffusion on the projections, equally tuned.

    python benchmarks/low_dose.py [--photons 1e5] [--seeds 5] [--quick] [--output FOLDER]

The Shepp-Logan head of Zeng's simulations (350 mm, skull 2, brain 1.2 times water) on the scanner `somatom16`, exact
line integrals, electronic variance 11. Every method has twelve candidates. "tuned" takes the one with the least RMSE
on cases apart from those tested: the same figure at 300 mm, turned by half a right angle, other seeds. "sure" lets the
method choose on each scan without the truth, as `low_dose` does. Scores are those of the square of 400 mm, against the
image of noise-free projections and against the phantom itself; RMSE in HU, SSIM with a data range of 2000 HU.

Each cell is written to `low_dose.json` when it is done, and a run goes on where an earlier one stopped.
"""

import argparse
import contextlib
import json
import math
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from torch import Tensor

from phantoms import Dose, Phantom, shepp_logan, simulate
from raymend.low_dose import low_dose
from recon import CTWarning, Detector, Scan, VolumeGrid, fbp, preset, rmse, ssim, to_hu
from recon.io.atomic import atomic_write
from recon.sinogram.planes import planes, projections
from recon.sinogram.restore import CANDIDATES
from recon.sinogram.restorers import Restorer
from recon.sinogram.variance import variance

WATER = 0.01837  # 1/mm
DENSITIES = tuple(v / 600 * WATER for v in (1200, -480, -120, -120, 60, 60, 60, 80, 80, 80))
METHODS = ("gibbs", "tv", "spad")
PHOTONS = (2e4, 5e4, 1e5, 2e5)
TUNING_SEEDS = (1001, 1002)
RANGE = 2000.0  # HU
PUBLISHED = {"fbp": 69.6, "gibbs": 19.0, "tv": 3.9}  # per cent of RMSE cut by sub-pixel diffusion
FILE = Path(__file__).parent / "low_dose.json"

Cells = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Setup:
    """The scanner and the image."""

    geometry: Any
    grid: VolumeGrid

    @classmethod
    def of(cls, quick: bool) -> "Setup":
        if not quick:
            grid = VolumeGrid(shape=(1, 512, 512), spacing=(1.0, 0.78125, 0.78125))
            return cls(geometry=preset("somatom16").geometry, grid=grid)
        panel = Detector(shape=(1, 336), pitch=(1.407, 2.814), curve="arc")
        geometry = replace(preset("somatom16").with_views(290).geometry, detector=panel)
        return cls(geometry=geometry, grid=VolumeGrid(shape=(1, 128, 128), spacing=(1.0, 3.125, 3.125)))

    def scan(self, phantom: Phantom, photons: float, seed: int) -> Scan:
        return simulate(phantom, self.geometry, dose=Dose(photons=photons, electronic=11.0), seed=seed)

    def clean(self, phantom: Phantom) -> Tensor:
        return self.image(simulate(phantom, self.geometry))

    def image(self, scan: Scan, **settings: Any) -> Tensor:
        return hu(fbp(scan, self.grid, **settings))


def head(size: float = 350.0, turn: float = 0.0) -> Phantom:
    """Return the head of a size in mm, turned by an angle in rad."""
    figure = shepp_logan(size=size, water=WATER)
    shapes = tuple(replace(shape, density=mu) for shape, mu in zip(figure.shapes, DENSITIES, strict=True))
    whole = replace(figure, shapes=shapes, name=f"Shepp-Logan head of {size:g} mm")
    return whole.moved(turn=(turn, 0.0, 0.0)) if turn else whole


def hu(image: Tensor) -> Tensor:
    return to_hu(image, WATER)


def restored(scan: Scan, restorer: Restorer) -> Scan:
    """Return a scan restored by a method with given settings."""
    values = restorer(planes(scan.values), planes(variance(scan)), periodic=True)
    return scan.with_values(projections(values), f"restored by {restorer!r}").changed(weights=None)


def scores(image: Tensor, references: dict[str, Tensor]) -> dict[str, float]:
    """Return RMSE in HU and SSIM against each reference."""
    found = {}
    for name, truth in references.items():
        found[f"rmse {name}"] = rmse(image, truth)
        found[f"ssim {name}"] = ssim(image, truth, data_range=RANGE)
    return found


def tuned(cells: Cells, setup: Setup, photons: float, method: str) -> Restorer:
    """Return the candidate with the least RMSE on the tuning cases."""
    key = f"tuning {photons:g} {method}"
    if key not in cells:
        figure = head(300.0, math.pi / 4)
        truth = setup.clean(figure)
        scans = [setup.scan(figure, photons, seed) for seed in TUNING_SEEDS]
        cells[key] = [
            mean(rmse(setup.image(restored(scan, one)), truth) for scan in scans) for one in CANDIDATES[method]
        ]
    errors = cells[key]
    return CANDIDATES[method][errors.index(min(errors))]


def cell(cells: Cells, setup: Setup, photons: float, seed: int) -> None:
    """Score every method on one scan."""
    phantom = head()
    scan = setup.scan(phantom, photons, seed)
    references = {"clean": setup.clean(phantom), "phantom": hu(phantom.rasterised(setup.grid).float())}
    rows = {
        "fbp": scores(setup.image(scan), references),
        "fbp hann": scores(setup.image(scan, window="hann"), references),
    }
    for method in METHODS:
        best = tuned(cells, setup, photons, method)
        rows[f"{method} tuned"] = scores(setup.image(restored(scan, best)), references) | {"settings": repr(best)}
        chosen = low_dose(scan, setup.grid, method=method)
        rows[f"{method} sure"] = scores(hu(chosen.image), references) | {"settings": repr(chosen.restored.restorer)}
        errors = [rmse(setup.image(restored(scan, one)), references["clean"]) for one in CANDIDATES[method]]
        rows[f"{method} sure"]["oracle"] = min(errors)
    cells[f"{photons:g} {seed}"] = rows


def table(cells: Cells) -> Iterator[str]:
    """Yield the lines of a table per dose."""
    for photons in PHOTONS:
        runs = [rows for key, rows in cells.items() if key.startswith(f"{photons:g} ")]
        if not runs:
            continue
        yield f"\n{photons:g} photons, {len(runs)} seeds; RMSE in HU and SSIM, mean ± standard deviation\n"
        yield "| method | RMSE clean | RMSE phantom | SSIM clean | SSIM phantom | RMSE cut by spad % |"
        yield "| --- | --- | --- | --- | --- | --- |"
        for method in runs[0]:
            told = [spread([row[method][name] for row in runs]) for name in list(runs[0][method])[:4:2]]
            alike = [spread([row[method][name] for row in runs], 4) for name in list(runs[0][method])[1:4:2]]
            kind = "sure" if method.endswith("sure") else "tuned"
            cuts = [100 * (1 - row[f"spad {kind}"]["rmse clean"] / row[method]["rmse clean"]) for row in runs]
            yield f"| {method} | {' | '.join([*told, *alike, spread(cuts, 1)])} |"
        for method in METHODS:
            ratio = [row[f"{method} sure"]["rmse clean"] / row[f"{method} sure"]["oracle"] for row in runs]
            yield f"{method} chosen by SURE: {100 * (max(ratio) - 1):.1f} % above the best candidate at most"


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Print a mean and, of several values, their standard deviation."""
    return f"{mean(values):.{digits}f}" + (f" ± {stdev(values):.{digits}f}" if len(values) > 1 else "")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photons", type=float, action="append", choices=PHOTONS, help="some of the doses only")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="a small scanner and one seed, in a folder of its own")
    parser.add_argument("--output", type=Path, help="the folder of low_dose.json")
    told = parser.parse_args()
    folder = told.output or (Path(tempfile.mkdtemp()) if told.quick else FILE.parent)
    path, setup = folder / FILE.name, Setup.of(told.quick)
    cells: Cells = json.loads(path.read_text()) if path.exists() else {}
    for photons in told.photons or PHOTONS:
        for seed in range(1 if told.quick else told.seeds):
            if f"{photons:g} {seed}" not in cells:
                with warnings.catch_warnings(), torch.no_grad():
                    warnings.simplefilter("ignore", CTWarning)  # of values without a photon, and few photons
                    cell(cells, setup, photons, seed)
                save(path, cells)
                print(f"{photons:g} photons, seed {seed}: done", file=sys.stderr, flush=True)
    print("\n".join(table(cells)))
    print(f"\nPublished cuts on Shepp-Logan: {PUBLISHED} %; cells in {path}")
    return 0


def save(path: Path, cells: Cells) -> None:
    """Write all cells, whole or not at all."""
    with atomic_write(path) as partial:
        Path(partial).write_text(json.dumps(cells, indent=1) + "\n")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
