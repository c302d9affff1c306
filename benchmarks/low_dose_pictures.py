"""The picture of `low_dose.py`: methods side by side, what each gets wrong, and a detail."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from torch import Tensor

SHOWN = (  # case, photons, window in HU, window of differences, and corner and side of the detail in pixels (y, x, n)
    ("Shepp-Logan", 5e4, (-50.0, 350.0), 100.0, (300, 210, 90)),
    ("thorax 7", 5e4, (-160.0, 240.0), 100.0, (80, 110, 64)),
    ("chest", 5e4, (-160.0, 240.0), 100.0, (90, 100, 64)),
    ("neck and jaw", 5e4, (-160.0, 240.0), 100.0, (110, 90, 64)),
)


def draw(bench: Any, path: Path) -> None:
    """Draw every case in three rows: the images, what differs from noise-free projections, and a detail."""
    shown = [(bench.cases[name], *rest) for name, *rest in SHOWN if name in bench.cases]
    found = [bench.images(case, photons, 0) for case, photons, *_ in shown]
    columns = max(len(images) for images in found)
    figure, axes = plt.subplots(3 * len(shown), columns, figsize=(2.2 * columns, 7.4 * len(shown)), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for block, ((case, photons, window, span, detail), images) in enumerate(zip(shown, found, strict=True)):
        rows = axes[3 * block : 3 * block + 3]
        truth = case.references["clean"]
        for column, (name, image) in enumerate(images.items()):
            rows[0][column].set_title(f"{name}\n{case.error(image):.1f} HU" if image is not truth else name, fontsize=8)
            show(rows[0][column], image, window)
            if image is not truth:
                show(rows[1][column], image - truth, (-span, span))
            top, left, side = detail
            show(rows[2][column], image[:, top : top + side, left : left + side], window)
        low, high = window
        rows[0][0].text(
            0, -0.03, f"{case.name}, {photons:g} photons; window {low:g} to {high:g} HU, differences ±{span:g} HU",
            transform=rows[0][0].transAxes, fontsize=7, va="top",
        )  # fmt: skip
    figure.subplots_adjust(left=0.01, right=0.99, top=0.98, bottom=0.01, wspace=0.03, hspace=0.24)
    figure.savefig(path, dpi=75, pil_kwargs={"optimize": True})
    plt.close(figure)


def show(axis: Any, image: Tensor, window: tuple[float, float]) -> None:
    axis.imshow(image[0].numpy(), cmap="gray", vmin=window[0], vmax=window[1], interpolation="nearest")
