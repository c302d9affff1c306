"""Draw the README's low-dose figure: a random patient by FBP and by PWLS on the projections.

Run it from the repository's root: python docs/figures/low_dose.py
"""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure  # noqa: TID253 - a script, not a package
from torch import Tensor

from phantoms import BowTie, Dose, anatomy, simulate
from raymend.low_dose import low_dose
from recon import VolumeGrid, fbp, preset, to_hu
from recon.metrics import Protocol, evaluate

INK, PAPER = "#e8eaed", "#15181c"
GRID = VolumeGrid(shape=(1, 288, 416), spacing=(1.0, 1.0, 1.0))
PHOTONS = 1e5
ZOOM = slice(96, 192), slice(208, 352)


def images() -> tuple[dict[str, Tensor], Tensor]:
    """Return reconstructions of one scan by name, and the patient, in HU."""
    patient = anatomy(seed=3, kind="abdomen").voxels(0, 0)
    dose = Dose(photons=PHOTONS, electronic=10, bowtie=BowTie())
    scan = simulate(patient, preset("somatom16").geometry[::2], dose=dose, seed=7)
    found = {
        "FBP": fbp(scan, GRID),
        "FBP, Hann": fbp(scan, GRID, window="hann"),
        "PWLS-SPAD": low_dose(scan, GRID).image,
    }
    hu = {name: to_hu(image, patient.water) for name, image in found.items()}
    return hu, to_hu(patient.rasterised(GRID), patient.water)


def show(axes: Any, image: Tensor, title: str, window: tuple[float, float], colours: str = "gray") -> None:
    """Show one image with its title."""
    axes.imshow(image.numpy(), cmap=colours, vmin=window[0], vmax=window[1], interpolation="lanczos")
    axes.set_title(title, color=INK, fontsize=8, loc="left")
    axes.set_axis_off()


def draw() -> Figure:
    """Lay out each image whole, enlarged, and as its difference from the patient."""
    found, truth = images()
    protocol = Protocol(reference="phantom", window="abdomen", mask=truth > -900, region="body")
    low, high = protocol.limits or (0.0, 1.0)
    figure = Figure(figsize=(12.4, 6.8), facecolor=PAPER, layout="constrained")
    axes = figure.subplots(3, 4)
    for column, (name, image) in zip(axes.T, (*found.items(), ("patient", truth)), strict=True):
        rmse, _, ssim, _ = evaluate(image, truth, protocol)
        told = name if image is truth else f"{name}: RMSE {rmse.value:.1f} HU, SSIM {ssim.value:.2f}"
        show(column[0], image[0], told, (low, high))
        show(column[1], image[0][ZOOM], "", (low, high))
        if image is truth:
            column[2].set_axis_off()
        else:
            show(column[2], image[0] - truth[0], "difference from the patient, -100 to 100 HU", (-100, 100), "RdBu_r")
    return figure


if __name__ == "__main__":
    draw().savefig(Path(__file__).with_suffix(".png"), dpi=110)
