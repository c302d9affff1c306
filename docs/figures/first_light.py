"""Draw the README's figure: one thorax, low dose and sparse views, FBP beside penalised least squares.

Run it from the repository's root: python docs/figures/first_light.py
"""

from pathlib import Path

from matplotlib.axes import Axes  # noqa: TID253 - a script, not a package
from matplotlib.figure import Figure  # noqa: TID253
from torch import Tensor

from phantoms import BowTie, Dose, simulate, thorax
from recon import Scan, VolumeGrid, fbp, preset, pwls, rmse, to_hu

WINDOW = (-160, 240)  # HU
INK, PAPER = "#e8eaed", "#15181c"


def scans() -> tuple[dict[str, Scan], VolumeGrid, Tensor]:
    """Simulate a low-dose scan and a sparse one with ten times the photons per view; also grid and truth in HU."""
    full, body = preset("somatom16").geometry[::2], thorax(seed=7).moved(shift=(-20.0, 0.0, 0.0))
    grid = VolumeGrid(shape=(1, 256, 448), spacing=(1.0, 1.0, 1.0))
    low = simulate(body, full, dose=Dose(photons=2e4, electronic=10, bowtie=BowTie()), seed=7)
    sparse = simulate(body, full[::8], dose=Dose(photons=2e5, electronic=10, bowtie=BowTie()), seed=7)
    truth = to_hu(body.rasterised(grid))
    return {f"{len(low)} views, 2e4 photons": low, f"{len(sparse)} views, 2e5 photons": sparse}, grid, truth


def show(axes: Axes, image: Tensor, title: str, window: tuple[float, float]) -> None:
    """Show one image with its title."""
    axes.imshow(image, cmap="gray", vmin=window[0], vmax=window[1], interpolation="lanczos", aspect="auto")
    axes.set_title(title, color=INK, fontsize=9, loc="left")
    axes.set_axis_off()


def draw() -> Figure:
    """Reconstruct both scans in two ways and lay the images out."""
    cases, grid, truth = scans()
    figure = Figure(figsize=(12.4, 4.2), facecolor=PAPER, layout="constrained")
    axes = figure.subplots(2, 4)
    for row, (name, scan) in zip(axes, cases.items(), strict=True):
        start = fbp(scan, grid)
        better = pwls(scan, grid, start=fbp(scan, grid, window="hann"), iterations=40)
        show(row[0], scan.values[:, 0], f"line integrals: {name}", (0, float(scan.values.max())))
        for panel, method, image in zip(row[1:], ("FBP", "PWLS, Huber prior"), (start, better.image), strict=False):
            hu = to_hu(image)
            show(panel, hu[0], f"{method}: {rmse(hu, truth):.0f} HU RMSE", WINDOW)
        show(row[3], truth[0], "phantom", WINDOW)
    return figure


if __name__ == "__main__":
    draw().savefig(Path(__file__).with_suffix(".png"), dpi=110)
