"""Figures of the demonstration: dark, with stated windows and units; each returns PNG bytes."""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from raymend.judging import Region
from recon import Scan, VolumeGrid
from recon.io.png import encode

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

Window = tuple[float, float]
Named = tuple[str, "Tensor"]

BACKGROUND, PANEL, TEXT, MUTED = "#0d1117", "#151b23", "#e6edf3", "#8d96a0"
COLOURS = ("#8d96a0", "#56b4e9", "#e69f00", "#009e73")  # Okabe and Ito's, told apart by colour-blind readers too
_STYLE: Any = {
    "figure.facecolor": BACKGROUND,
    "savefig.facecolor": BACKGROUND,
    "axes.facecolor": PANEL,
    "axes.edgecolor": "#3d444d",
    "axes.labelcolor": MUTED,
    "axes.titlecolor": TEXT,
    "axes.titlesize": "medium",
    "axes.grid": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#262c36",
    "text.color": TEXT,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "legend.frameon": False,
    "font.family": "sans-serif",
    "font.size": 9.5,
    "lines.linewidth": 1.5,
}


def grey(image: "Tensor", window: Window) -> bytes:
    """Return the middle slice as a grey PNG, a pixel per voxel."""
    low, high = window
    share = np.clip((plane(image) - low) / (high - low), 0, 1)
    return encode(np.round(share * 255).astype(np.uint8), {"Software": "raymend", "Window": f"{low:g} to {high:g} HU"})


def comparison(images: Sequence[Named], grid: VolumeGrid, window: Window, region: Region | None = None) -> bytes:
    """Show images side by side in one window, with a scale in mm and the square where noise is measured."""
    with _styled():
        figure, places = _panels(len(images), grid)
        shown: Any = None
        for place, (name, image) in zip(places, images, strict=True):
            shown = place.imshow(plane(image), cmap="gray", vmin=window[0], vmax=window[1], extent=_extent(grid))
            place.set_title(name, loc="left")
            if region is not None:
                _mark(place, region)
        _millimetres(places)
        figure.colorbar(shown, ax=places, label="HU", shrink=0.8, pad=0.01, aspect=30)
        return _png(figure)


def differences(images: Sequence[Named], reference: "Tensor", grid: VolumeGrid, limit: float = 150.0) -> bytes:
    """Show what images differ from a reference by, in HU."""
    with _styled():
        figure, places = _panels(len(images), grid)
        shown: Any = None
        for place, (name, image) in zip(places, images, strict=True):
            gap = plane(image) - plane(reference)
            shown = place.imshow(gap, cmap=_diverging(), vmin=-limit, vmax=limit, extent=_extent(grid))
            place.set_title(name, loc="left")
        _millimetres(places)
        figure.colorbar(shown, ax=places, label="difference (HU)", shrink=0.8, pad=0.01, aspect=30, extend="both")
        return _png(figure)


def profile(images: Sequence[Named], truth: "Tensor | None", grid: VolumeGrid, y: float) -> bytes:
    """Draw values along a line in x, the height y given in mm."""
    ys, xs = (axis.numpy() for axis in grid.axes()[1:])
    row = int(np.abs(ys - y).argmin())
    with _styled():
        figure, axes = _axes((9.5, 3.4))
        if truth is not None:
            axes.plot(xs, plane(truth)[row], color=TEXT, linewidth=3.5, alpha=0.28, label="truth")
        for colour, (name, image) in zip(COLOURS, images, strict=False):
            axes.plot(xs, plane(image)[row], color=colour, linewidth=1.2, label=name)
        axes.set(xlabel="x (mm)", ylabel="HU", xlim=(float(xs[0]), float(xs[-1])), ylim=_profile_range(images, row))
        axes.set_title(f"along y = {float(ys[row]):.0f} mm", loc="left")
        axes.grid(visible=True)
        axes.legend(ncols=4, loc="upper right", fontsize="small")
        return _png(figure)


def sinogram(scan: Scan) -> bytes:
    """Show the line integrals of the middle detector row."""
    views, rows, columns = scan.values.shape
    _, u = scan.geometry.detector.coordinates()
    with _styled():
        figure, axes = _axes((5.6, 4.8))
        extent = (float(u[0]), float(u[-1]), views, 0)
        shown = axes.imshow(scan.values[:, rows // 2].cpu().numpy(), cmap="magma", aspect="auto", extent=extent, vmin=0)
        axes.set(xlabel="detector u (mm)", ylabel="view")
        figure.colorbar(shown, ax=axes, label="line integral", pad=0.02, aspect=30)
        axes.set_title(f"{views} views of {columns} pixels", loc="left")
        return _png(figure)


def convergence(history: Sequence[float]) -> bytes:
    """Draw the objective per iteration, relative to the first."""
    with _styled():
        figure, axes = _axes((5.6, 3.0))
        relative = np.asarray(history) / abs(history[0])
        axes.plot(np.arange(1, len(history) + 1), relative, "o-", color=COLOURS[1], markersize=4)
        axes.set(xlabel="iteration", ylabel="objective / first")
        axes.set_title("convergence", loc="left")
        axes.grid(visible=True)
        return _png(figure)


def scanner(scan: Scan, grid: VolumeGrid) -> bytes:
    """Draw the scanner to scale; a light figure, as it comes from `recon`."""
    from matplotlib.figure import Figure

    figure = scan.geometry.figure(grid)
    assert isinstance(figure, Figure)
    return _png(figure, bbox_inches="tight")


def plane(image: "Tensor") -> NDArray[np.float64]:
    """Return the middle slice as an array."""
    values: NDArray[np.float64] = image[image.shape[0] // 2].detach().cpu().double().numpy()
    return values


@contextmanager
def _styled() -> Iterator[None]:
    import matplotlib

    with matplotlib.rc_context(_STYLE):
        yield


def _axes(size: tuple[float, float]) -> tuple["Figure", Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots()


def _panels(count: int, grid: VolumeGrid) -> tuple["Figure", list[Any]]:
    """Make panels of the images' shape, two or three beside each other."""
    from matplotlib.figure import Figure

    aspect = grid.extent[1] / grid.extent[2]
    columns = {1: 1, 2: 2, 4: 2}.get(count, 3)
    rows = -(-count // columns)
    width = 10.2 / columns
    figure = Figure(figsize=(11.6, rows * (width * aspect + 0.25) + 0.45), layout="constrained")
    places = list(np.ravel(figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)))
    for unused in places[count:]:
        unused.set_axis_off()
    return figure, places[:count]


def _extent(grid: VolumeGrid) -> tuple[float, float, float, float]:
    """Return left, right, bottom and top in mm; y runs downwards."""
    (_, height, width), (_, y, x) = grid.extent, grid.centre
    return x - width / 2, x + width / 2, y + height / 2, y - height / 2


def _millimetres(places: Sequence[Any]) -> None:
    for place in places:
        place.label_outer(remove_inner_ticks=True)
        place.tick_params(labelsize="small", length=2)
    places[-1].set_xlabel("x (mm)")
    places[0].set_ylabel("y (mm)")


def _mark(place: Any, region: Region) -> None:
    from matplotlib.patches import Rectangle

    _, y, x = region.centre
    corner = x - region.side / 2, y - region.side / 2
    place.add_patch(Rectangle(corner, region.side, region.side, fill=False, edgecolor=COLOURS[2], linewidth=1.1))


def _diverging() -> Any:
    """Blue to orange through the page's dark, so that no difference is not the brightest."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("difference", ["#9bd1ff", "#2a7fc4", PANEL, "#d0741c", "#ffd9a0"])


def _profile_range(images: Sequence[Named], row: int) -> tuple[float, float]:
    """Return a range that noise does not stretch."""
    low, high = np.percentile(np.concatenate([plane(image)[row] for _, image in images]), (0.5, 99.5))
    margin = 0.12 * (high - low) + 1
    return float(low - margin), float(high + 2 * margin)


def _png(figure: "Figure", **options: Any) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=144, metadata={"Software": "raymend"}, **options)
    return file.getvalue()
