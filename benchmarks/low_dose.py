"""Low dose: FBP beside PWLS on the projections and on the image, equally tuned, and chosen without the truth.

    python benchmarks/low_dose.py                       # all of it, hours; goes on where an earlier run stopped
    python benchmarks/low_dose.py --case Shepp-Logan --photons 1e5 --seeds 1
    python benchmarks/low_dose.py --quick               # a small scanner and one seed, in a folder of its own

Scanner `somatom16`, electronic variance 11. Objects: the Shepp-Logan head of Zeng's simulations (350 mm, skull 2, brain
1.2 times water) with exact line integrals on 512 pixels a side, two textured thoraxes, and slices of real scans, on
256 pixels. Every method has twelve candidates. "tuned" takes the one with the least RMSE on cases apart from those
tested: the head at 300 mm, turned by half a right angle, two seeds; for all others a thorax, an abdomen and a head of
other patients. PWLS with total variation on the image takes ten passes and is tuned among six strengths at 1e5 photons
only. "sure" lets the method choose on each scan without the truth, as `low_dose` does; "auto" also chooses among Gibbs,
TV and sub-pixel diffusion. Scores are those of the field of view.

Each row is written to `low_dose.json` when it is done, and shown in RESULTS.md.
"""

import argparse
import contextlib
import json
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from low_dose_cases import Case, cases
from low_dose_pictures import draw
from low_dose_table import lines
from table import render
from torch import Tensor

from raymend.low_dose import low_dose
from recon import CTWarning, Scan, fbp, pwls
from recon.io.atomic import atomic_write
from recon.sinogram.planes import planes, projections
from recon.sinogram.restore import CANDIDATES
from recon.sinogram.restorers import Restorer
from recon.sinogram.variance import variance

FAMILIES = ("gibbs", "tv", "spad")
DOSES = {"shepp-logan": (2e4, 5e4, 1e5, 2e5), "thorax": (5e4, 2e5), "real": (5e4, 2e5)}
SEEDS = {"shepp-logan": 5, "thorax": 2, "real": 1}
JUDGED = {"shepp-logan": 2, "thorax": 1, "real": 1}  # seeds on which all candidates are compared with the truth
REFINED: dict[str, dict[str, Any]] = {"refreshed": {"passes": 2}, "conjugate": {"conjugate": True}}
IMAGED = {"shepp-logan": 1, "thorax": 1, "real": 1}  # seeds on which the image domain, which takes longer, is tried
IMAGE_DOSE = 1e5  # photons of its tuning scans; its strength follows the noise from there
PRIORS = ("tv",)
FACTORS = (0.3, 0.6, 1.0, 2.0, 4.0, 8.0)  # on the strength that the noise tells
FIRST = 1001  # seed of the tuning scans
FILE = Path(__file__).parent / "low_dose.json"

Row = dict[str, Any]


class Bench:
    """Rows by name, kept in a file: "case | photons | seed | method", and "tuning | cases | photons | family".

    Args:
        path: the file; rows that it has are not measured again.
        quick: take the small scanner.
    """

    def __init__(self, path: Path, *, quick: bool = False) -> None:
        self.path, self.cases = path, cases(quick)
        self.rows: dict[str, Row] = json.loads(path.read_text()) if path.exists() else {}

    def row(self, case: Case, photons: float, seed: int, method: str) -> Any:
        """Return a row, measured now or before."""
        key = f"{case.name} | {photons:g} | {seed} | {method}"
        if key not in self.rows:
            begun = time.perf_counter()
            found = self._measured(case, photons, seed, method)
            day = f"{datetime.now(UTC):%Y-%m-%d}"
            about = {
                "date": day,
                "kind": case.kind,
                "quanta": case.quanta(photons),
                "seconds": time.perf_counter() - begun,
            }
            self._keep(key, found | about)
        return self.rows[key]

    def tuned(self, case: Case, photons: float, family: str) -> Restorer:
        """Return the candidate with the least RMSE on the tuning cases."""
        key = f"tuning | {', '.join(case.tuning)} | {photons:g} | {family}"
        if key not in self.rows:
            errors = [self._errors(self.cases[name], photons, seed, family) for name, seed in self._scans(case)]
            self._keep(key, {"errors": {name: mean(each[name] for each in errors) for name in errors[0]}})
        return best(family, self.rows[key]["errors"])

    def _scans(self, case: Case) -> list[tuple[str, int]]:
        """Name the scans that settings for a case are chosen on: several objects once, or one twice."""
        seeds = (FIRST, FIRST + 1) if len(case.tuning) == 1 else (FIRST,)
        return [(name, seed) for name in case.tuning for seed in seeds]

    def _errors(self, case: Case, photons: float, seed: int, family: str) -> dict[str, float]:
        """Return the RMSE in HU of all candidates on a scan."""
        scan = case.scan(photons, seed)
        return {repr(one): case.error(case.image(restored(scan, one))) for one in CANDIDATES[family]}

    def _measured(self, case: Case, photons: float, seed: int, method: str) -> Row:
        family, _, how = method.partition(" ")
        if how == "candidates":
            return {"errors": self._errors(case, photons, seed, family)}
        scan, settings = case.scan(photons, seed), ""
        if family == "fbp":
            image, settings = case.image(scan, window=how or "ram-lak"), how
        elif family == "image":
            prior, strength = self.image_settings(case) if how == "tuned" else (how, 1.0)
            image, settings = by_image(case, scan, prior, strength), f"{prior} strength × {strength:g}"
        elif how == "tuned":
            one = self.tuned(case, photons, family)
            image, settings = case.image(restored(scan, one)), brief(one)
        else:
            return self._chosen(case, photons, seed, scan, family, REFINED.get(how, {}))
        return {"scores": case.scores(image), "settings": settings}

    def _chosen(self, case: Case, photons: float, seed: int, scan: Scan, family: str, refined: dict[str, Any]) -> Row:
        """Restore a scan by the method that it chooses itself; "auto" is the best of the families by their risks."""
        if family == "auto":
            rows = [self.row(case, photons, seed, f"{name} sure") for name in FAMILIES]
            return min(rows, key=lambda row: min(row["risks"].values()))
        result = low_dose(scan, case.grid, method=family, **refined)
        risks = {repr(one): risk for one, risk in result.restored.scores}
        settings = brief(result.restored.restorer)
        return {"scores": case.scores(case.hu(result.image)), "settings": settings, "risks": risks}

    def image_settings(self, case: Case) -> tuple[str, float]:
        """Return the prior and the factor on its strength with the least RMSE on the tuning cases, at one dose."""
        photons = IMAGE_DOSE
        key = f"tuning | {', '.join(case.tuning)} | {photons:g} | image"
        if key not in self.rows:
            tuning = [self.cases[name] for name in case.tuning]
            scans = [one.scan(photons, FIRST) for one in tuning]
            errors = {
                f"{prior} {factor:g}": mean(
                    one.error(by_image(one, scan, prior, factor)) for one, scan in zip(tuning, scans, strict=True)
                )
                for prior in PRIORS
                for factor in FACTORS
            }
            self._keep(key, {"errors": errors})
        chosen = min(self.rows[key]["errors"].items(), key=lambda item: item[1])[0]
        prior, factor = chosen.split()
        return prior, float(factor)

    def images(self, case: Case, photons: float, seed: int) -> dict[str, Tensor]:
        """Return what a picture shows, in HU: every method as it chooses itself, and the reference."""
        scan = case.scan(photons, seed)
        found = {"FBP": case.image(scan)}
        for family in FAMILIES:
            found[f"PWLS-{family.upper()}"] = case.hu(low_dose(scan, case.grid, method=family).image)
        found["PWLS, image TV"] = by_image(case, scan, "tv", 1.0)
        return {**found, "noise-free FBP": case.references["clean"]}

    def _keep(self, key: str, row: Row) -> None:
        self.rows[key] = row
        save(self.path, self.rows)
        print(f"{key}: {told(row)}", file=sys.stderr, flush=True)


def best(family: str, errors: dict[str, float]) -> Restorer:
    """Return the candidate with the least error."""
    return min(CANDIDATES[family], key=lambda one: errors[repr(one)])


def restored(scan: Scan, restorer: Restorer) -> Scan:
    """Return a scan restored by a method with given settings."""
    values: Tensor = restorer(planes(scan.values), planes(variance(scan)), periodic=True)
    return scan.with_values(projections(values), f"restored by {restorer!r}").changed(weights=None)


def by_image(case: Case, scan: Scan, prior: str, strength: float) -> Tensor:
    """Return the image in HU of PWLS in the image domain, with a factor on the strength that the noise tells."""
    smooth = fbp(scan, case.grid, window="hann")
    start, passes = smooth.clamp_min(0), 10
    return case.hu(pwls(scan, case.grid, prior=prior, strength=strength, start=start, iterations=passes).image)


def methods(case: Case, seed: int) -> Iterator[str]:
    """Yield what is measured on a scan, in order."""
    yield from ("fbp", "fbp hann")
    for how in ("tuned", "sure"):
        yield from (f"{family} {how}" for family in FAMILIES)
    yield from ("auto sure", "perona-malik tuned")
    if seed < IMAGED[case.kind]:
        yield from (*(f"image {prior}" for prior in PRIORS), "image tuned")
        yield from (f"spad {refinement}" for refinement in REFINED)
    if seed < JUDGED[case.kind]:
        yield from (f"{family} candidates" for family in FAMILIES)


def brief(restorer: Restorer) -> str:
    """Name a restorer and what it has apart from the defaults."""
    default = type(restorer)()
    changed = (
        f for f in fields(restorer) if f.name == "strength" or getattr(restorer, f.name) != getattr(default, f.name)
    )
    return f"{restorer.name} {', '.join(f'{f.name} {getattr(restorer, f.name)}' for f in changed)}"


def told(row: Row) -> str:
    """Say in a few words what a row holds."""
    if "scores" not in row:
        return f"{min(row['errors'].values()):.1f} to {max(row['errors'].values()):.1f} HU"
    clean = row["scores"]["clean"]
    return f"{clean['rmse']:.1f} HU, SSIM {clean['ssim']:.4f}, FSIM {clean['fsim']:.4f} {row['settings']}"


def save(path: Path, rows: dict[str, Row]) -> None:
    """Write all rows, whole or not at all."""
    with atomic_write(path) as partial:
        Path(partial).write_text(json.dumps(rows, indent=1) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", action="append", help="some of the cases only")
    parser.add_argument("--photons", type=float, action="append", help="some of the doses only")
    parser.add_argument("--method", action="append", help="some of the methods only, such as 'image tv'")
    parser.add_argument("--seeds", type=int, help="fewer seeds")
    parser.add_argument("--quick", action="store_true", help="a small scanner and one seed, in a folder of its own")
    parser.add_argument("--output", type=Path, help="the folder of low_dose.json")
    parser.add_argument("--pictures", action="store_true", help="draw docs/figures/low_dose_methods.png instead")
    told_to = parser.parse_args()
    folder = told_to.output or (Path(tempfile.mkdtemp()) if told_to.quick else FILE.parent)
    folder.mkdir(parents=True, exist_ok=True)
    bench = Bench(folder / FILE.name, quick=told_to.quick)
    tested = [case for case in bench.cases.values() if case.tuning and case.name in (told_to.case or bench.cases)]
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore", CTWarning)  # of values without a photon, and few photons
        if told_to.pictures:
            draw(bench, Path(__file__).parents[1] / "docs" / "figures" / "low_dose_methods.png")
            return 0
        for seed in range(1 if told_to.quick else told_to.seeds or max(SEEDS.values())):
            for case in (case for case in tested if seed < SEEDS[case.kind]):
                for photons in told_to.photons or DOSES[case.kind]:
                    for method in methods(case, seed):
                        if method in (told_to.method or (method,)):
                            bench.row(case, photons, seed, method)
    render(folder)
    print("\n".join(lines(bench.rows)))
    return 0


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
