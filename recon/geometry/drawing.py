"""A drawing of a scanner: source path, detector, rays of the first view, field of view and grid, to scale in mm."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from recon.errors import CTWarning
from recon.field_of_view import axial_range, field_of_view
from recon.geometry.base import Circular, ScanGeometry
from recon.geometry.cone import ConeBeam
from recon.geometry.free import FreeBeam
from recon.grid import VolumeGrid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart by colour-blind readers too.
_PATH, _FIRST, _GRID, _OTHER, _FIELD = "#0072B2", "#D55E00", "#009E73", "#8C8C8C", "#222222"
_NAMES = ("z", "y", "x")
_PLAN, _SIDE = (2, 1), (1, 0)  # axes drawn to the right and upwards
_COLUMNS = 33  # points along a curved detector


def draw(geometry: ScanGeometry, grid: VolumeGrid | None = None) -> "Figure":
    """Draw a scanner to scale: from above, and from the side unless all lies in one plane.

    Args:
        geometry: any geometry; parallel rays, which have no source, start outside the field of view.
        grid: the voxels to draw with it, or None.

    Returns:
        A matplotlib figure that belongs to no window; `savefig` writes it.
    """
    from matplotlib.figure import Figure

    scene = _Scene.of(geometry, grid)
    sides = (_PLAN,) if scene.planar else (_PLAN, _SIDE)
    figure = Figure(figsize=(6.4, 7.2) if scene.planar else (11.6, 6.8), layout="constrained")
    for place, axes in zip(figure.subplots(1, len(sides), squeeze=False)[0], sides, strict=True):
        _draw_side(place, scene, axes)
    plan = figure.axes[0]
    _draw_turn(plan, scene)
    handles, labels = plan.get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], loc="outside lower center", ncols=3 if scene.planar else 6)
    figure.suptitle(describe(geometry), fontsize="medium")
    return figure


def describe(geometry: ScanGeometry) -> str:
    """Say in two lines what a scanner is: views and arc, distances, magnification, detector and field of view."""
    rows, columns = geometry.detector.shape
    v, u = geometry.detector.pitch
    curve = " (arc)" if geometry.arc_detector else ""
    first = [_name(geometry), f"{len(geometry)} views{_arc(geometry)}"]
    if isinstance(geometry, ConeBeam):
        first.append(f"source to axis {geometry.source_to_axis:g} mm, to detector {geometry.source_to_detector:g} mm")
    second = [f"{rows} × {columns} pixels of {v:.4g} × {u:.4g} mm{curve}"]
    if isinstance(geometry, ConeBeam):
        second.append(f"magnification {geometry.magnification:.3g}")
    if not isinstance(geometry, FreeBeam):
        second.append(f"field of view {2 * field_of_view(geometry)[0]:.4g} mm across")
    return " · ".join(first) + "\n" + " · ".join(second)


@dataclass(frozen=True)
class _Scene:
    """What is drawn, as positions (z, y, x) in mm."""

    geometry: ScanGeometry
    grid: VolumeGrid | None
    sources: Tensor  # (view, 3); for parallel rays where their drawing starts
    radius: float  # of the field of view; 0 if unknown
    height: tuple[float, float]  # lowest and highest z of the field of view
    planar: bool

    @classmethod
    def of(cls, geometry: ScanGeometry, grid: VolumeGrid | None) -> "_Scene":
        with warnings.catch_warnings():  # the circle of a free trajectory is left out; its size serves as a scale
            warnings.simplefilter("ignore", CTWarning)
            radius, height = field_of_view(geometry)[0], axial_range(geometry)
        sources = geometry.rays()[:, 0]
        if geometry.parallel:
            sources = -sources / sources.norm(dim=1, keepdim=True) * _reach(radius, grid)
        flat = geometry.rays()[:, (1, 3), 0].abs().max() + sources[:, 0].abs().max() < 1e-9
        slices = 1 if grid is None else grid.shape[0]
        known = 0.0 if isinstance(geometry, FreeBeam) else radius
        planar = bool(flat) and slices == 1 and geometry.detector.shape[0] == 1
        return cls(geometry, grid, sources, known, height, planar)

    def outline(self, view: int, *, row: bool = False) -> Tensor:
        """Return the detector's edge, or its middle row, as points (·, 3)."""
        rows, columns = self.geometry.detector.shape
        across = torch.linspace(-columns / 2, columns / 2, _COLUMNS, dtype=torch.float64)
        if row:
            return self._shown(view, _pixels(self.geometry, view, 0.0, across))
        low, high = (_pixels(self.geometry, view, end * rows / 2, across) for end in (-1.0, 1.0))
        return self._shown(view, torch.cat([low, high.flip(0), low[:1]]))

    def beam(self, view: int, points: Tensor) -> Tensor:
        """Return where the rays to detector points start, (·, 3)."""
        source = self.sources[view]
        start: Tensor = points + 2 * source if self.geometry.parallel else source.expand_as(points)
        return start

    def _shown(self, view: int, points: Tensor) -> Tensor:
        """Move the detector of parallel rays, which may stand anywhere along them, behind the object."""
        if not self.geometry.parallel:
            return points
        away = -self.sources[view]
        unit = away / away.norm()
        shift: Tensor = (away.norm() - self.geometry.rays()[view, 1] @ unit) * unit
        return points + shift


def _pixels(geometry: ScanGeometry, view: int, row: float, columns: Tensor) -> Tensor:
    """Return detector positions (column, 3), counted in steps from the middle."""
    source, centre, v, u = geometry.rays()[view]
    at: Tensor = centre + row * v
    columns = columns[:, None]
    if not geometry.arc_detector:
        flat: Tensor = at + columns * u
        return flat
    depth = centre - source - ((centre - source) @ v) / (v @ v) * v
    radius, pitch = depth.norm(), u.norm()
    turn = columns * pitch / radius
    bent: Tensor = at + turn.sin() * (radius / pitch) * u + (turn.cos() - 1) * depth
    return bent


def _reach(radius: float, grid: VolumeGrid | None) -> float:
    """Return how far from the axis parallel rays start."""
    corner = 0.0
    if grid is not None:
        corner = math.hypot(*(abs(c) + e / 2 for c, e in zip(grid.centre[1:], grid.extent[1:], strict=True)))
    return 1.3 * max(radius, corner)


def _draw_side(place: "Axes", scene: _Scene, axes: tuple[int, int]) -> None:
    """Draw all parts as seen along the axis that is not named."""
    _draw_others(place, scene, axes)
    _draw_grid(place, scene, axes)
    _draw_field(place, scene, axes)
    _draw_path(place, scene, axes)
    _draw_first(place, scene, axes)
    place.plot(0, 0, "+", color=_FIELD, markersize=8, zorder=3)
    place.set_xlabel(f"{_NAMES[axes[0]]} (mm)")
    place.set_ylabel(f"{_NAMES[axes[1]]} (mm)")
    place.set_title("plan, seen from +z" if axes == _PLAN else "side, seen from +x", fontsize="small")
    place.grid(visible=True, color="#EEEEEE")
    place.set_axisbelow(True)
    place.margins(0.06)
    place.set_aspect("equal", adjustable="datalim")


def _draw_path(place: "Axes", scene: _Scene, axes: tuple[int, int]) -> None:
    right, up = scene.sources[:, axes].T.tolist()
    style = "." if len(right) <= 90 else "-"
    label = "start of the rays as drawn" if scene.geometry.parallel else "source path"
    place.plot(right, up, style, color=_PATH, markersize=3, linewidth=1.6, label=label)


def _draw_first(place: "Axes", scene: _Scene, axes: tuple[int, int]) -> None:
    """Highlight view 0: its source, its outermost rays and its detector."""
    outline = scene.outline(0, row=axes == _PLAN)
    ends = outline[[0, -1]] if axes == _PLAN else outline[[0, _COLUMNS - 1, _COLUMNS, 2 * _COLUMNS - 1]]
    starts = scene.beam(0, ends)
    if axes == _PLAN:
        place.fill(*_flat([starts[0], *outline, starts[1]], axes), color=_FIRST, alpha=0.10, linewidth=0)
    for start, end in zip(starts, ends, strict=True):
        place.plot(*_flat([start, end], axes), color=_FIRST, linewidth=0.8, alpha=0.7)
    place.plot(*_flat(outline, axes), color=_FIRST, linewidth=3, label="detector, view 0", solid_capstyle="butt")
    name = "rays, view 0" if scene.geometry.parallel else "source, view 0"
    place.plot(*_flat(scene.sources[:1], axes), "o", color=_FIRST, markersize=8, label=name, zorder=4)


def _draw_others(place: "Axes", scene: _Scene, axes: tuple[int, int]) -> None:
    """Draw the detector at three more views, lightly."""
    n = _views_per_turn(scene.geometry)
    for number, view in enumerate(sorted({n // 4, n // 2, 3 * n // 4} - {0})):
        outline = scene.outline(view, row=axes == _PLAN)
        label = "other views" if number == 0 else None
        place.plot(*_flat(outline, axes), color=_OTHER, linewidth=1.6, label=label)
        place.plot(*_flat(scene.sources[view : view + 1], axes), "o", color=_OTHER, markersize=5, zorder=4)


def _draw_grid(place: "Axes", scene: _Scene, axes: tuple[int, int]) -> None:
    from matplotlib.patches import Rectangle

    if scene.grid is None:
        return
    width, height = (scene.grid.extent[axis] for axis in axes)
    right, up = (scene.grid.centre[axis] for axis in axes)
    label = "grid " + " × ".join(str(n) for n in scene.grid.shape)
    corner = right - width / 2, up - height / 2
    place.add_patch(Rectangle(corner, width, height, color=_GRID, alpha=0.18, linewidth=0, label=label))
    place.add_patch(Rectangle(corner, width, height, fill=False, edgecolor=_GRID, linewidth=1.2))


def _draw_field(place: "Axes", scene: _Scene, axes: tuple[int, int]) -> None:
    from matplotlib.patches import Circle, Patch, Rectangle

    if scene.radius == 0:
        return
    low, high = scene.height
    shape: Patch = Circle((0, 0), scene.radius)
    if axes == _SIDE:
        shape = Rectangle((-scene.radius, low), 2 * scene.radius, high - low)
    shape.set(fill=False, edgecolor=_FIELD, linestyle="--", linewidth=1.1)
    place.add_patch(shape)
    place.plot([], [], "--", color=_FIELD, linewidth=1.1, label="field of view")


def _draw_turn(place: "Axes", scene: _Scene) -> None:
    """Draw an arrow along the first eighth of a turn, or of the views, outside the source path."""
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.path import Path

    sources = scene.sources[:, _PLAN]
    turn = (sources.diff(dim=0) ** 2).sum(1).sqrt().cumsum(0)
    near = int((turn < 0.8 * float(sources.norm(dim=1).max())).sum()) + 1
    if near < 3:
        return
    points = sources[:near] * 1.07
    arrow = FancyArrowPatch(
        path=Path(points.tolist()), arrowstyle="-|>", mutation_scale=16, color=_PATH, linewidth=1.4, zorder=5
    )
    place.add_patch(arrow)
    place.plot(
        *points.T.tolist(), color=_PATH, linewidth=0, gid="rotation"
    )  # patches do not widen the limits, lines do


def _flat(points: Sequence[Tensor] | Tensor, axes: tuple[int, int]) -> tuple[list[float], list[float]]:
    stacked = points if isinstance(points, Tensor) else torch.stack(list(points))
    right, up = stacked[:, axes].T.tolist()
    return right, up


def _name(geometry: ScanGeometry) -> str:
    if isinstance(geometry, FreeBeam):
        return "Free trajectory"
    if geometry.parallel:
        return "Parallel beam"
    if isinstance(geometry, ConeBeam) and geometry.pitch:
        return f"Helix, {geometry.pitch:g} mm per turn"
    return "Fan beam" if geometry.detector.shape[0] == 1 else "Cone beam"


def _arc(geometry: ScanGeometry) -> str:
    """Say over how many degrees the views are spread; an arc leaves out its end point."""
    span = _span(geometry)
    return f" over {math.degrees(span):.4g}°" if span else ""


def _span(geometry: ScanGeometry) -> float:
    """Return the arc in rad, its end point left out; 0 if there is none to tell."""
    n = len(geometry)
    if not isinstance(geometry, Circular) or n < 2:
        return 0.0
    return (max(geometry.angles) - min(geometry.angles)) * n / (n - 1)


def _views_per_turn(geometry: ScanGeometry) -> int:
    turns = _span(geometry) / (2 * math.pi)
    return len(geometry) if turns <= 1 else max(1, round(len(geometry) / turns))
