"""Scanners that cannot be, refused with both values and what to do."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from recon.errors import CTWarning, GeometryError, NumericalError, ShapeError
from recon.geometry import ConeBeam, Detector, FreeBeam, ParallelBeam
from recon.grid import VolumeGrid
from recon.operators import Projector

LINE = Detector(shape=(1, 9))
ARC = replace(LINE, curve="arc")
GOOD = ((0.0, -50.0, 0.0), (0.0, 30.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0))


def cone(**changes: object) -> ConeBeam:
    settings = {"angles": (0.0, 1.0), "detector": LINE, "source_to_axis": 50, "source_to_detector": 80}
    return ConeBeam(**{**settings, **changes})


def free(view: object, **changes: object) -> FreeBeam:
    return FreeBeam(vectors=(GOOD, view), **{"detector": LINE, **changes})


REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "detector before the axis": (
        lambda: cone(source_to_axis=500, source_to_detector=300),
        r"source_to_detector: expected at least source_to_axis = 500 mm, got 300 mm.*swapped",
    ),
    "negative distance": (lambda: cone(source_to_axis=-1), r"source_to_axis: expected .* above 0 in mm, got -1"),
    "distance not a number": (lambda: cone(source_to_axis=math.nan), r"source_to_axis: expected a finite number"),
    "endless distance": (lambda: cone(source_to_detector=1e400), r"source_to_detector: expected a finite number"),
    "distance as text": (lambda: cone(source_to_axis="500"), r"source_to_axis: expected a finite number.*'500'"),
    "endless helix": (lambda: cone(pitch=math.inf), "pitch: expected a finite number"),
    "no turn": (
        lambda: ConeBeam.helical(9, detector=LINE, source_to_axis=50, source_to_detector=80, pitch=1.0, turns=0),
        r"turns: expected a finite number above 0 in turns, got 0",
    ),
    "no view": (lambda: cone(angles=()), r"angles: expected at least one view, got none"),
    "no views": (lambda: ParallelBeam.circular(0, detector=LINE), r"views: expected 1 whole numbers of 1 or more"),
    "angle not a number": (lambda: cone(angles=(0.0, math.nan)), r"angles: expected a finite number in rad, got nan"),
    "degrees": (
        lambda: ParallelBeam(angles=range(180), detector=LINE),
        r"angles: expected radians, got a span of 179, which looks like degrees; use math.radians",
    ),
    "arc in degrees": (lambda: ParallelBeam.circular(180, detector=LINE, arc=180), "looks like degrees"),
    "arc detector for parallel rays": (
        lambda: ParallelBeam(angles=(0.0,), detector=ARC),
        r"detector: expected curve='flat' for parallel rays, got 'arc'",
    ),
    "offset beyond the detector": (
        lambda: Detector(shape=(1, 10), pitch=(1.0, 2.0), offset=(0.0, 10.0)),
        r"offset: expected less than half the detector's width \(10 mm\) along u, got 10 mm.*not in pixels",
    ),
    "no pitch": (lambda: Detector(shape=(1, 9), pitch=(1.0, 0.0)), r"pitch: expected .* above 0 in mm, got 0.0"),
    "denormal pitch": (lambda: Detector(shape=(1, 9), pitch=(1.0, 5e-324)), "pitch: expected .* above 0 in mm"),
    "no column": (lambda: Detector(shape=(1, 0)), r"shape: expected 2 whole numbers of 1 or more, got \(1, 0\)"),
    "unknown curve": (lambda: Detector(shape=(1, 9), curve="round"), "curve: expected one of flat, arc, got 'round'"),
    "rays along the detector": (
        lambda: cone(detector=Detector(shape=(1, 9), pitch=(1.0, 4000.0))),
        r"detector: rays leave at more than 89 degrees.*both in mm",
    ),
    "arc behind the source": (
        lambda: cone(detector=Detector(shape=(1, 9), pitch=(1.0, 40.0), curve="arc")),
        r"detector: expected columns within 90 degrees of the central ray, got 115",
    ),
    "vectors of another shape": (
        lambda: FreeBeam(vectors=((1.0, 2.0, 3.0),), detector=LINE),
        r"vectors: expected \(view, 4, 3\) with at least one view, got \(1, 3\)",
    ),
    "no vectors": (lambda: FreeBeam(vectors=(), detector=LINE), r"vectors: expected \(view, 4, 3\)"),
    "vectors not finite": (
        lambda: free((*GOOD[:3], (0.0, math.nan, 1.0))),
        r"vectors: expected finite numbers, view 1 has others",
    ),
    "parallel steps": (
        lambda: free((*GOOD[:3], (2.0, 0.0, 0.0))),
        r"vectors: v and u steps of view 1 span no area",
    ),
    "no step": (lambda: free((*GOOD[:3], (0.0, 0.0, 0.0))), r"v and u steps of view 1 span no area"),
    "source in the detector": (
        lambda: free(((5.0, 30.0, 2.0), *GOOD[1:])),
        r"vectors: the source of view 1 lies in the plane of the detector",
    ),
    "no direction": (
        lambda: free(((0.0, 0.0, 0.0), *GOOD[1:]), parallel_rays=True),
        r"vectors: the source of view 1",
    ),
    "arc of another radius": (
        lambda: free(((0.0, -51.0, 0.0), *GOOD[1:]), detector=ARC),
        r"vectors: expected one arc radius and u pitch, \[80.0, 1.0\] mm as in view 0, got \[81.0, 1.0\] in view 1",
    ),
    "arc of another pitch": (
        lambda: free((*GOOD[:3], (0.0, 0.0, 1.1)), detector=ARC),
        r"vectors: expected one arc radius and u pitch",
    ),
    "tilted arc": (
        lambda: free((*GOOD[:3], (0.0, 0.6, 0.8)), detector=ARC),
        r"vectors: expected u steps of an arc at right angles.*view 1; use curve='flat'",
    ),
    "free arc of parallel rays": (
        lambda: FreeBeam(vectors=(GOOD,), detector=ARC, parallel_rays=True),
        r"detector: expected curve='flat' for parallel rays, got 'arc'",
    ),
}


@pytest.mark.parametrize("name", list(REFUSED))
def test_refused(name: str) -> None:
    make, message = REFUSED[name]
    with pytest.raises(GeometryError, match=message) as caught:
        make()
    assert isinstance(caught.value, ValueError)
    assert len(str(caught.value).splitlines()) == 1


def test_several_turns_without_pitch_are_worth_a_warning() -> None:
    with pytest.warns(CTWarning, match=r"angles: 90 rad is 14\.3 turns; if these are degrees, use math.radians"):
        cone(angles=(0.0, 90.0))
    cone(angles=(0.0, 90.0), pitch=10.0)


@pytest.mark.parametrize("make", [tuple, list, np.array, torch.tensor, lambda a: torch.tensor(a, dtype=torch.float64)])
def test_angles_come_in_any_kind_of_list(make: Callable[[list[float]], object]) -> None:
    geometry = cone(angles=make([0.0, 0.5, 1.5]))
    assert geometry == cone(angles=(0.0, 0.5, 1.5))
    assert hash(geometry) == hash(cone(angles=(0.0, 0.5, 1.5)))


@pytest.mark.parametrize("make", [lambda v: [list(map(list, view)) for view in v], np.array, torch.tensor])
def test_vectors_come_in_any_kind_of_list(make: Callable[[object], object]) -> None:
    plain = FreeBeam(vectors=(GOOD, GOOD), detector=LINE)
    geometry = FreeBeam(vectors=make((GOOD, GOOD)), detector=LINE)
    assert geometry == plain
    assert hash(geometry) == hash(plain)


def test_angles_that_follow_no_rule_print_one_by_one() -> None:
    assert "circular" not in repr(cone(angles=(0.0, 1.0, 1.5)))
    assert "circular" in repr(ParallelBeam.circular(7, detector=LINE, start=-0.3))
    for angles in ((0.0, 1e-12), (1.0, 1.0), (2.0, 1.0), (0.0, -0.0), (0.1,)):
        geometry = cone(angles=angles)
        assert eval(repr(geometry), {"ConeBeam": ConeBeam, "Detector": Detector}) == geometry


@pytest.mark.parametrize("views", [1, 2, 3, 7, 100, 359, 720, 1160])
@pytest.mark.parametrize("arc", [math.pi, 2 * math.pi, 3.7, 0.1])
def test_even_angles_print_as_the_rule_that_made_them(views: int, arc: float) -> None:
    geometry = ParallelBeam.circular(views, detector=LINE, arc=arc, start=0.3)
    assert eval(repr(geometry), {"ParallelBeam": ParallelBeam, "Detector": Detector}) == geometry


def test_poses_that_do_not_fit_are_refused() -> None:
    grid = VolumeGrid(shape=(1, 4, 4))
    with pytest.raises(ShapeError, match=r"poses: expected \(view, 6\) = \(2, 6\), got \(3, 6\); .*rotation vector"):
        Projector(grid=grid, geometry=cone(), poses=torch.zeros(3, 6))
    with pytest.raises(ShapeError, match=r"poses: expected a torch tensor, got ndarray; wrap it"):
        Projector(grid=grid, geometry=cone(), poses=np.zeros((2, 6)))
    with pytest.raises(NumericalError, match=r"poses: expected finite values, got 1 of 12"):
        Projector(grid=grid, geometry=cone(), poses=torch.tensor([[0.0] * 6, [math.nan] + [0.0] * 5]))


def test_a_grid_that_reaches_the_source_is_refused() -> None:
    helix = ConeBeam.helical(9, detector=LINE, source_to_axis=50, source_to_detector=80, pitch=10, turns=2)
    for geometry in (cone(), helix, FreeBeam.of(cone())):
        with pytest.raises(GeometryError, match=r"grid: expected .*source.* mm.*lower shape or spacing"):
            Projector(grid=VolumeGrid(shape=(13, 110, 110)), geometry=geometry)
        Projector(grid=VolumeGrid(shape=(1, 60, 60)), geometry=geometry)
