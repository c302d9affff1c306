import math
import warnings

import pytest

from recon.errors import CTWarning
from recon.field_of_view import (
    axial_range,
    default_grid,
    field_of_view,
    grid_of,
    outside_fraction,
    pitch_at_axis,
    warn_outside,
)
from recon.geometry import ConeBeam, Detector, FreeBeam, ParallelBeam, ScanGeometry
from recon.grid import VolumeGrid

PANEL = Detector(shape=(20, 100), pitch=(2.0, 3.0))
SHIFTED = Detector(shape=(20, 100), pitch=(2.0, 3.0), offset=(0.0, 90.0))
ARC = Detector(shape=(20, 100), pitch=(2.0, 3.0), curve="arc")


def cone(detector: Detector = PANEL, **settings: float) -> ConeBeam:
    return ConeBeam.circular(90, detector=detector, source_to_axis=500, source_to_detector=1000, **settings)


def helix(turns: float = 4.0, pitch: float = 12.0) -> ConeBeam:
    return ConeBeam.helical(400, detector=PANEL, source_to_axis=500, source_to_detector=1000, pitch=pitch, turns=turns)


FLAT_RADIUS = 500 * math.sin(math.atan(150 / 1000))
CASES: list[tuple[str, ScanGeometry, float, float]] = [
    ("parallel", ParallelBeam.circular(60, detector=PANEL), 150, 20),
    ("parallel, half turn, shifted", ParallelBeam.circular(60, detector=SHIFTED), 60, 20),
    ("parallel, full turn, shifted", ParallelBeam.circular(60, detector=SHIFTED, arc=2 * math.pi), 240, 20),
    ("flat", cone(), FLAT_RADIUS, 10),
    ("arc", cone(ARC), 500 * math.sin(0.15), 10),
    ("half fan", cone(SHIFTED), 500 * math.sin(math.atan(0.24)), 10),
    ("shifted short scan", cone(SHIFTED, arc=1.2 * math.pi), 500 * math.sin(math.atan(0.06)), 10),
    ("four views", cone()[::23], FLAT_RADIUS, 10),
]


@pytest.mark.parametrize(("name", "geometry", "radius", "half"), CASES, ids=[c[0] for c in CASES])
def test_field_of_view_follows_from_the_outermost_rays(
    name: str, geometry: ScanGeometry, radius: float, half: float
) -> None:
    assert field_of_view(geometry) == pytest.approx((radius, half), rel=1e-9)


@pytest.mark.parametrize(("name", "geometry", "radius", "half"), CASES, ids=[c[0] for c in CASES])
def test_free_trajectory_is_measured_alike_and_says_so(
    name: str, geometry: ScanGeometry, radius: float, half: float
) -> None:
    with pytest.warns(CTWarning, match="about the z axis"):
        found = field_of_view(FreeBeam.of(geometry))
    assert found == pytest.approx((radius, half), rel=1e-9)


def test_helix_loses_a_quarter_turn_at_each_end() -> None:
    low, high = axial_range(helix())
    # On the axis a point needs half a turn: from where the detector's upper edge leaves to where its lower one does.
    expected = 24 + 10 - 12 / 2
    assert (low, high) == pytest.approx((-expected, expected), abs=0.2)  # a view is 0.12 mm


def test_detector_shifted_along_the_axis_moves_the_range() -> None:
    shifted = Detector(shape=(20, 100), pitch=(2.0, 3.0), offset=(8.0, 0.0))
    assert axial_range(cone(shifted)) == pytest.approx((-6, 14))
    assert default_grid(cone(shifted)).centre == pytest.approx((4, 0, 0))


def test_default_grid_has_the_pitch_at_the_axis_and_stays_inside() -> None:
    grid = default_grid(cone())
    assert grid.spacing == pytest.approx((1.0, 1.5, 1.5))
    assert grid.shape == (20, 98, 98)
    assert grid.extent[2] <= 2 * FLAT_RADIUS < grid.extent[2] + 1.5
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_outside(cone(), grid)


def test_lengths_doubled_double_the_field() -> None:
    double = Detector(shape=(20, 100), pitch=(4.0, 6.0))
    twice = ConeBeam.circular(90, detector=double, source_to_axis=1000, source_to_detector=2000)
    assert field_of_view(twice) == pytest.approx([2 * size for size in field_of_view(cone())])
    assert pitch_at_axis(twice) == pytest.approx((2.0, 3.0))


def test_shape_alone_divides_the_field() -> None:
    whole = default_grid(cone())
    grid = grid_of(cone(), shape=49)
    assert grid.shape == (7, 49, 49)
    assert grid.extent[1:] == pytest.approx(whole.extent[1:])
    assert grid_of(cone(), shape=(10, 49, 49)).extent == pytest.approx(whole.extent)


def test_spacing_alone_covers_the_field() -> None:
    grid = grid_of(cone(), spacing=3.0)
    assert grid.shape == (7, 49, 49)
    assert grid.spacing == (3.0, 3.0, 3.0)


def test_shape_and_spacing_are_taken_as_given() -> None:
    grid = grid_of(cone(), shape=(4, 8, 16), spacing=(1.0, 2.0, 3.0))
    assert (grid.shape, grid.spacing) == ((4, 8, 16), (1.0, 2.0, 3.0))


def test_fan_keeps_one_slice() -> None:
    fan = cone(Detector(shape=(1, 100), pitch=(2.0, 3.0)))
    assert default_grid(fan).shape[0] == 1
    assert grid_of(fan, shape=64).shape == (1, 64, 64)
    assert grid_of(fan, spacing=0.5).shape[0] == 1


def test_outside_fraction_of_a_square_around_the_circle() -> None:
    grid = VolumeGrid(shape=(1, 400, 400), spacing=300 / 400)
    assert outside_fraction(ParallelBeam.circular(60, detector=PANEL), grid) == pytest.approx(1 - math.pi / 4, abs=1e-3)


def test_outside_fraction_warns_only_beyond_the_box() -> None:
    geometry = ParallelBeam.circular(60, detector=PANEL)
    with pytest.warns(CTWarning, match="80 % of the voxels lie outside"):
        warn_outside(geometry, VolumeGrid(shape=(1, 600, 600)))
    with pytest.warns(CTWarning, match="outside the field of view"):
        warn_outside(geometry, VolumeGrid(shape=(80, 100, 100)))


@pytest.mark.parametrize("curve", ["flat", "arc"])
def test_offsets_leave_the_pitch_at_the_axis_alone(curve: str) -> None:
    detector = Detector(shape=(21, 400), pitch=(2.0, 2.0), offset=(60.0, 300.0), curve=curve)
    geometry = ConeBeam.circular(360, detector=detector, source_to_axis=500, source_to_detector=1000)
    assert pitch_at_axis(geometry) == pytest.approx((1.0, 1.0))
    angle = 700 / 1000 if curve == "arc" else math.atan(0.7)
    assert field_of_view(geometry)[0] == pytest.approx(500 * math.sin(angle), rel=1e-3)


def test_a_half_fan_that_fbp_accepts_has_the_wide_field() -> None:
    detector = Detector(shape=(1, 100), pitch=(3.0, 3.0), offset=(0.0, 90.0))
    full, open_arc = (
        ConeBeam.circular(360, detector=detector, source_to_axis=500, source_to_detector=1000, arc=math.radians(arc))
        for arc in (360, 345)
    )
    assert field_of_view(open_arc)[0] < 0.5 * field_of_view(full)[0]
