import math

import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Circle, FancyArrowPatch, Rectangle

from recon.geometry import ConeBeam, Detector, FreeBeam, ParallelBeam, ScanGeometry
from recon.geometry.drawing import describe, draw
from recon.grid import VolumeGrid

SLICE = VolumeGrid(shape=(1, 40, 60), centre=(0.0, 12.0, -20.0))
BOX = VolumeGrid(shape=(16, 40, 60), centre=(3.0, 12.0, -20.0))
ROW = Detector(shape=(1, 150))
HALF_ARC = Detector(shape=(1, 90), pitch=(1.0, 1.6), offset=(0.0, 40.0), curve="arc")
PANEL = Detector(shape=(40, 60), pitch=(3.0, 3.0), offset=(4.0, 0.0))
FAN = {"source_to_axis": 300.0, "source_to_detector": 500.0}

CASES: list[tuple[str, ScanGeometry, VolumeGrid, int]] = [
    ("parallel", ParallelBeam.circular(12, detector=ROW), SLICE, 1),
    ("fan", ConeBeam.circular(12, detector=ROW, **FAN), SLICE, 1),
    ("half fan on an arc", ConeBeam.circular(12, detector=HALF_ARC, start=0.6, **FAN), SLICE, 1),
    ("short scan", ConeBeam.circular(200, detector=ROW, arc=3.6, **FAN), SLICE, 1),
    ("parallel volume", ParallelBeam.circular(12, detector=PANEL), BOX, 2),
    ("cone", ConeBeam.circular(12, detector=PANEL, **FAN), BOX, 2),
    ("helix", ConeBeam.helical(120, detector=PANEL, pitch=30.0, turns=3, **FAN), BOX, 2),
    ("free", FreeBeam.of(ConeBeam.circular(12, detector=PANEL, **FAN)), BOX, 2),
    ("one view", ConeBeam.circular(1, detector=ROW, **FAN), SLICE, 1),
    ("slices under a fan", ConeBeam.circular(12, detector=ROW, **FAN), BOX, 2),
]


def holds(place: Axes, right: float, up: float) -> bool:
    (left, far), (low, high) = sorted(place.get_xlim()), sorted(place.get_ylim())
    return left <= right <= far and low <= up <= high


@pytest.mark.parametrize(("name", "geometry", "grid", "sides"), CASES, ids=[c[0] for c in CASES])
def test_limits_hold_sources_detector_and_grid(name: str, geometry: ScanGeometry, grid: VolumeGrid, sides: int) -> None:
    figure = draw(geometry, grid)
    figure.canvas.draw()  # warnings are errors
    assert len(figure.axes) == sides
    rays = geometry.rays()
    points = rays[:, 0] if not geometry.parallel else torch.zeros(1, 3)
    corners = torch.tensor(grid.centre) + torch.tensor([[1.0], [-1.0]]) * torch.tensor(grid.extent) / 2
    for place, axes in zip(figure.axes, ((2, 1), (1, 0)), strict=False):
        for point in torch.cat([points, corners, rays[:1, 1] * (not geometry.parallel)]):
            assert holds(place, *(float(point[axis]) for axis in axes))
        assert place.get_xlabel() == f"{'zyx'[axes[0]]} (mm)"
        assert place.get_aspect() == 1


def test_figure_is_what_the_geometry_gives() -> None:
    figure = CASES[1][1].figure()
    assert not [p for p in figure.axes[0].patches if isinstance(p, Rectangle)]
    (field,) = [p for p in figure.axes[0].patches if isinstance(p, Circle)]
    assert field.radius == pytest.approx(300 * math.sin(math.atan(75 / 500)))


def test_detector_is_where_its_rays_end() -> None:
    figure = draw(ConeBeam.circular(4, detector=HALF_ARC, **FAN))
    (line,) = [line for line in figure.axes[0].lines if line.get_label() == "detector, view 0"]
    x, y = torch.as_tensor(line.get_xdata()), torch.as_tensor(line.get_ydata())
    torch.testing.assert_close(torch.hypot(x, y + 300), torch.full_like(x, 500.0))
    ends = [(40 + side * 72) / 500 for side in (-1, 1)]
    assert [math.atan2(float(x[i]), float(y[i]) + 300) for i in (0, -1)] == pytest.approx(ends)


def test_arrow_follows_the_rotation() -> None:
    for arc, sign in ((2 * math.pi, 1), (-2 * math.pi, -1)):
        angles = tuple(arc * i / 40 for i in range(40))
        figure = draw(ConeBeam(angles=angles, detector=ROW, **FAN))
        assert [p for p in figure.axes[0].patches if isinstance(p, FancyArrowPatch)]
        (along,) = [line for line in figure.axes[0].lines if line.get_gid() == "rotation"]
        start, end = torch.as_tensor(along.get_xydata())[[0, -1]]
        assert sign * (start[0] * end[1] - start[1] * end[0]) > 0  # counter-clockwise for growing angles


def test_title_has_the_numbers() -> None:
    text = describe(ConeBeam.circular(12, detector=HALF_ARC, **FAN))
    for words in ("12 views over 360°", "source to axis 300 mm, to detector 500 mm", "magnification 1.67", "(arc)"):
        assert words in text
    assert "field of view" in text
    assert describe(CASES[6][1]).startswith("Helix, 30 mm per turn · 120 views over 1080°")
