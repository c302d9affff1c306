"""The demonstration's page: one file without a single request, values with units."""

import platform
from collections.abc import Mapping
from typing import Any

import torch

import raymend
from raymend import figures
from raymend.demonstration import Demonstration
from raymend.judging import LUNG, SOFT_TISSUE, conditions
from raymend.rendering import inside, render
from recon.geometry.drawing import describe

_EDGE = 100.0  # HU per pixel

#: Columns of the table: name of the number, heading, format, whether lower is better.
COLUMNS = (
    ("rmse", "RMSE (HU)", "{:.1f}", True),
    ("psnr", "PSNR (dB)", "{:.1f}", False),
    ("ssim", "SSIM", "{:.3f}", False),
    ("noise", "noise (HU)", "{:.1f}", True),
    ("edges", "edges (%)", "{:.0f}", None),
)


def windows(demo: Demonstration) -> dict[str, tuple[float, float]]:
    """Return the display windows in HU: those of the chest, or for measured data its own range first."""
    if demo.truth is not None:
        return {"soft tissue": SOFT_TISSUE, "lung": LUNG}
    image = demo.results[-1].image.flatten()
    low, high = torch.quantile(image[:: max(1, image.numel() // 1_000_000)], torch.tensor([0.005, 0.995])).tolist()
    margin = max(10.0, 0.05 * (high - low))
    return {"full range": (round(low - margin, -1), round(high + margin, -1)), "soft tissue": SOFT_TISSUE}


def pictures(demo: Demonstration) -> dict[str, bytes]:
    """Draw every figure, by file name."""
    named = [(result.name, result.image) for result in demo.results]
    shown = named if demo.truth is None else [("truth", demo.truth), *named]
    ends = [named[0], *named[2:]]  # smoothing by the filter's window is known well enough
    reference, compared = (named[0][1], named[1:]) if demo.truth is None else (demo.truth, ends)
    found = {
        f"images-{name.replace(' ', '-')}.png": figures.comparison(shown, demo.grid, window, demo.region)
        for name, window in windows(demo).items()
    }
    found["differences.png"] = figures.differences(compared, reference, demo.grid)
    found["profile.png"] = figures.profile(ends, demo.truth, demo.grid, _profile_height(demo))
    found["sinogram.png"] = figures.sinogram(demo.scan)
    found["geometry.png"] = figures.scanner(demo.scan, demo.grid)
    if len(demo.history) > 1:
        found["convergence.png"] = figures.convergence(demo.history)
    return found


def page(demo: Demonstration, drawn: Mapping[str, bytes], *, seconds: float, command: str) -> str:
    """Write the page as HTML; names and texts are escaped."""
    return render(
        "demo.html.jinja",
        demo=demo,
        cards=_cards(demo),
        windows={name: f"{low:g} to {high:g} HU" for name, (low, high) in windows(demo).items()},
        table=table(demo),
        conditions=measured_on(demo),
        headlines=_headlines(demo),
        figures={name: inside(content) for name, content in drawn.items()},
        geometry=describe(demo.scan.geometry),
        settings=_settings(demo, seconds),
        version=raymend.__version__,
        command=command,
    )


def table(demo: Demonstration) -> tuple[list[str], list[list[str]]]:
    """Return headings and rows of what was measured, times included."""
    columns = [column for column in COLUMNS if column[0] in demo.results[0].numbers]
    headings = ["method", *(heading for _, heading, _, _ in columns), "time (s)"]
    rows = [
        [result.name, *(text.format(result.numbers[key]) for key, _, text, _ in columns), f"{result.seconds:.1f}"]
        for result in demo.results
    ]
    return headings, rows


def numbers(demo: Demonstration) -> list[dict[str, Any]]:
    """Return what was measured for scripts."""
    return [{"method": r.name, **r.numbers, "seconds": round(r.seconds, 3)} for r in demo.results]


def measured_on(demo: Demonstration) -> list[str]:
    """Say what each number was measured on."""
    said = list(conditions()) if demo.truth is not None else []
    said.append(f"noise: standard deviation in the {demo.region}, the flattest that is not air")
    first = demo.results[0].name
    said.append(
        f"edges: mean slope across the steepest 0.5 % of edges, {first} = 100; above 100 they are steeper or overshoot"
    )
    return said


def _cards(demo: Demonstration) -> list[dict[str, Any]]:
    """Return the images with their captions, a picture per window."""
    shown: list[tuple[str, str, Any, dict[str, float]]]
    shown = [] if demo.truth is None else [("truth", "the phantom, averaged over each voxel", demo.truth, {})]
    shown += [(r.name, r.note, r.image, r.numbers) for r in demo.results]
    return [
        {
            "name": name,
            "note": note,
            "numbers": _caption(measured),
            "pictures": {window: inside(figures.grey(image, span)) for window, span in windows(demo).items()},
        }
        for name, note, image, measured in shown
    ]


def _caption(measured: Mapping[str, float]) -> str:
    parts = []
    if "rmse" in measured:
        parts += [f"RMSE {measured['rmse']:.1f} HU", f"SSIM {measured['ssim']:.3f}"]
    if "noise" in measured:
        parts.append(f"noise {measured['noise']:.1f} HU")
    return " · ".join(parts)


def _headlines(demo: Demonstration) -> list[tuple[str, str, str]]:
    """Return the page's big numbers: value, unit and what it says."""
    plain, careful = demo.results[0], demo.results[-1]
    found = []
    if "rmse" in plain.numbers:
        found.append((f"{plain.numbers['rmse']:.0f} → {careful.numbers['rmse']:.0f}", "HU", "RMSE in the body"))
        found.append((f"{plain.numbers['ssim']:.2f} → {careful.numbers['ssim']:.2f}", "", "SSIM, soft tissue"))
    found.append((f"{plain.numbers['noise']:.0f} → {careful.numbers['noise']:.0f}", "HU", "noise in a flat region"))
    found.append((f"{careful.seconds:.1f}", "s", f"for {careful.name} on this machine"))
    return found


def _settings(demo: Demonstration, seconds: float) -> list[tuple[str, str]]:
    sizes = " × ".join(str(n) for n in demo.grid.shape)
    steps = " × ".join(f"{step:.3g}" for step in demo.grid.spacing)
    water = demo.scan.calibration.water
    return [
        ("grid", f"{sizes} voxels (z, y, x) of {steps} mm"),
        ("HU", f"1000 (μ − μw) / μw with μw = {water:g} 1/mm"),
        *demo.settings,
        *(("data", step) for step in demo.scan.provenance),
        ("software", f"raymend {raymend.__version__}, Python {platform.python_version()}"),
        ("time in all", f"{seconds:.1f} s"),
    ]


def _profile_height(demo: Demonstration) -> float:
    """Return the height in mm of a line that crosses most edges of the careful image."""
    image = demo.results[-1].image
    steps = image[image.shape[0] // 2].double().diff(dim=1).abs()
    return float(demo.grid.axes()[1][int((steps > _EDGE).sum(dim=1).argmax())])
