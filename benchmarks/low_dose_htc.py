"""Measured scans at 25 and 10 % of their dose: FBP and low-dose methods against FBP of the full dose.

    python benchmarks/low_dose_htc.py [--scans ta,solid_disc] [--methods pwls-spad] [--to 25%] [--picture FILE.png]

The scans are the discs of the Helsinki Tomography Challenge 2022 (acrylic with holes, 721 views of 560 pixels), in
RAYMEND_TEST_DATA or in shared/data beside the checkout. The files state no photons: they are found from the noise
itself, which is printed beside what the model says, and so is the cross-talk, from the correlation of neighbours. Then
`reduce_dose` inserts the missing noise, and every method reconstructs what `raymend reconstruct --method ...` would.

The reference has noise of its own, of which a reduced scan keeps a share: an image without any noise would not score
0. The row "full dose, hann" says how far a mere smoothing of the reference is from it. Scores: window -0.005 to 0.045
1/mm, 512 × 512 pixels of 0.148 mm, those in the field of view: beyond it FBP has a bright shell of its own.
"""

import argparse
import contextlib
import math
import os
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from raymend.cli.reduce_dose import parse_fraction
from raymend.low_dose import inside
from raymend.reconstruction import METHODS, Settings, run
from recon import CTWarning, Scan, VolumeGrid, fbp, noise_photons, read_scan, reduce_dose
from recon.metrics import Protocol, Score, evaluate
from recon.sinogram.crosstalk import estimated_crosstalk, noise_share
from recon.statistics import log_variance

SCANS = ("ta", "tb", "tc", "td", "solid_disc")
ROWS = ("fbp", "fbp hann", "pwls-gibbs", "pwls-tv", "pwls-spad", "pwls")
WINDOW = (-0.005, 0.045)  # 1/mm; acrylic has 0.034
SIZE = 512
PROTOCOL = Protocol(reference="full-dose reconstruction", window=WINDOW, unit="1/mm")
SEED = 1
MEDIAN = 0.4549  # of a squared standard normal variable
CLASSES = (-1.0, 0.03, 0.6, 1.2, 1.8, 3.0)  # of line integrals, whose noise is looked at: the first is air


@dataclass(frozen=True, kw_only=True)
class Noise:
    """What the noise of a scan says of the beam and the detector.

    Args:
        photons: per pixel and view without an object.
        crosstalk: share of its photons that a pixel loses to each neighbour.
        classes: line integral, measured variance and that of the model, of some classes of rays.
    """

    photons: float
    crosstalk: float
    classes: tuple[tuple[float, float, float], ...]

    @classmethod
    def of(cls, scan: Scan) -> "Noise":
        """Measure the noise between neighbouring views, where the object hardly changes.

        The variance of second differences is six times that of a value, and the median keeps edges out of it.
        Cross-talk leaves `noise_share` of the variance that the photons would give alone.
        """
        values = scan.values.double()
        ripple = (values[2:] - 2 * values[1:-1] + values[:-2]) / math.sqrt(6)
        crosstalk = estimated_crosstalk(scan)
        kept = noise_share(crosstalk)
        photons = noise_photons(scan)
        assert photons is not None  # several hundred views
        photons *= kept
        found = []
        for low, high in pairwise(CLASSES):
            some = (values[1:-1] > low) & (values[1:-1] <= high)
            if int(some.sum()) > 500:
                p = values[1:-1][some]
                ratio = float((ripple[some].square() / log_variance(p, photons) / kept).median()) / MEDIAN
                model = kept * float(log_variance(p.median(), photons))
                found.append((float(p.median()), ratio * model, model))
        return cls(photons=photons, crosstalk=crosstalk, classes=tuple(found))

    def told(self) -> Iterator[str]:
        """Yield lines that print it."""
        yield f"noise of {self.photons:.3g} photons per pixel, cross-talk {self.crosstalk:.3f}"
        for p, measured, model in self.classes:
            yield f"  line integral {p:5.2f}: variance {measured:.3g}, the model's {model:.3g} ({measured / model:.2f})"


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """The images of one scan at one dose, by name, and their scores."""

    title: str
    full: Tensor
    images: dict[str, Tensor]
    scores: dict[str, tuple[Score, ...]]
    seconds: dict[str, float]


def data() -> Path:
    """Return the folder of measured data."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    return Path(os.environ.get("RAYMEND_TEST_DATA", beside)) / "htc2022_fanbeam"


def load(name: str) -> tuple[Scan, Noise]:
    """Read a scan and state the photons that its noise tells of."""
    scan = read_scan(data() / f"htc2022_{name}_full.mat")
    noise = Noise.of(scan)
    return scan.changed(calibration=replace(scan.calibration, photons=noise.photons)), noise


def grid_of(scan: Scan, size: int) -> VolumeGrid:
    """Return the pixels of the challenge, as wide as the detector's on the axis, or fewer over the same square."""
    step = scan.geometry.detector.pitch[1] * scan.geometry.source_to_axis / scan.geometry.source_to_detector  # type: ignore[attr-defined]
    return VolumeGrid(shape=(1, size, size), spacing=(step * SIZE / size,) * 3)


def compared(scan: Scan, noise: Noise, fraction: float, grid: VolumeGrid, methods: Iterable[str], title: str) -> Case:
    """Reduce the dose of a scan, reconstruct it in several ways and score the images."""
    low = reduce_dose(scan, fraction, seed=SEED, crosstalk=noise.crosstalk)
    full = fbp(scan, grid)
    images = {"full dose, hann": fbp(scan, grid, window="hann")}
    seconds = {"full dose, hann": 0.0}
    for method in methods:
        name, _, window = method.partition(" ")
        begun = time.perf_counter()
        images[method], _ = run(low, grid, Settings(method=name, window=window or "ram-lak"))
        seconds[method] = time.perf_counter() - begun
    seen = inside(scan, grid)
    protocol = PROTOCOL if seen is None else replace(PROTOCOL, mask=seen.expand_as(full), region="field of view")
    scores = {name: evaluate(image, full, protocol, metrics=("rmse", "ssim", "fsim")) for name, image in images.items()}
    return Case(title=title, full=full, images=images, scores=scores, seconds=seconds)


def table(case: Case) -> Iterator[str]:
    """Yield the lines of a table."""
    plain = case.scores["fbp"][0].value
    yield f"\n{case.title}\n"
    yield "| method | RMSE (1e-3/mm) | below FBP's by % | SSIM | FSIM | time (s) |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for name, (rmse, ssim, fsim) in case.scores.items():
        numbers = f"{1e3 * rmse.value:.2f} | {100 * (1 - rmse.value / plain):.1f} | {ssim.value:.3f} | {fsim.value:.3f}"
        yield f"| {name} | {numbers} | {case.seconds[name]:.1f} |"


def picture(cases: list[Case], names: tuple[str, ...], path: Path) -> None:
    """Draw, per case, images in one window, their differences from the full dose, and a corner enlarged."""
    from matplotlib.figure import Figure

    shown = ("full dose, FBP", *names)
    figure = Figure(figsize=(2.6 * len(shown), 8.0 * len(cases)), facecolor="#15181c", layout="constrained")
    axes = figure.subplots(3 * len(cases), len(shown), squeeze=False)
    for k, case in enumerate(cases):
        images: dict[str, Tensor] = {"full dose, FBP": case.full, **case.images}
        size = case.full.shape[-1]
        zoom = slice(round(0.36 * size), round(0.64 * size))
        for column, name in enumerate(shown):
            image = images[name][0]
            rows = axes[3 * k : 3 * k + 3, column]
            draw(rows[0], image, f"{name}\n{case.title}" if column == 0 else name, WINDOW, "gray")
            draw(rows[1], image[zoom, zoom], "", WINDOW, "gray")
            if column == 0:
                rows[2].set_axis_off()
                rows[2].text(0.02, 0.5, note(), color="#e8eaed", fontsize=8, transform=rows[2].transAxes)
            else:
                told = f"RMSE {1e3 * case.scores[name][0].value:.2f}e-3/mm, SSIM {case.scores[name][1].value:.2f}"
                draw(rows[2], image - case.full[0], told, (-0.008, 0.008), "RdBu_r")
    figure.savefig(path, dpi=100)


def note() -> str:
    """Say what the rows show."""
    low, high = WINDOW
    return f"above: {low:g} to {high:g} 1/mm,\nwhole and enlarged;\nright: difference from the\nfull dose, ±0.008 1/mm"


def draw(axes: Any, image: Tensor, title: str, window: tuple[float, float], colours: str) -> None:
    """Show one image."""
    axes.imshow(image.numpy(), cmap=colours, vmin=window[0], vmax=window[1], interpolation="nearest")
    axes.set_title(title, color="#e8eaed", fontsize=8, loc="left")
    axes.set_axis_off()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", default=",".join(SCANS), help="names, with commas between")
    parser.add_argument("--methods", default=",".join(ROWS), help=f"of {', '.join(METHODS)}; 'fbp hann' has a window")
    parser.add_argument("--to", default="25%,10%", help="shares of the dose")
    parser.add_argument("--size", type=int, default=SIZE, help="pixels across")
    parser.add_argument("--picture", type=Path, help="where to draw the first scan")
    told = parser.parse_args()
    methods = tuple(dict.fromkeys(("fbp", *told.methods.split(","))))
    fractions = [parse_fraction(share) for share in told.to.split(",")]
    if not data().is_dir():
        print(f"{data()}: the scans are not part of the repository; set RAYMEND_TEST_DATA", file=sys.stderr)
        return 3
    cases: list[Case] = []
    print(f"{PROTOCOL}, field of view")
    for name in told.scans.split(","):
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore", CTWarning)  # of the view that is repeated
            scan, noise = load(name)
            print(f"\n{name}: {os.linesep.join(noise.told())}", flush=True)
            grid = grid_of(scan, told.size)
            for fraction in fractions:
                case = compared(scan, noise, fraction, grid, methods, f"{name}, {100 * fraction:g} % of the dose")
                print("\n".join(table(case)), flush=True)
                cases.append(case)
    if told.picture is not None:
        picture(cases[: len(fractions)], methods, told.picture)
    return 0


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
