"""The cone path against the twin, at every edge, and what it leaves to the general kernel."""

import hashlib
import math
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from recon.geometry import ConeBeam, Detector, FreeBeam, ParallelBeam, ScanGeometry
from recon.grid import VolumeGrid
from recon.kernels import reference
from recon.kernels.cpu import cone
from recon.kernels.lines import Lines, lines
from tests.contracts.operators import draw

pytestmark = pytest.mark.usefixtures("poisoned")

PANEL = Detector(shape=(13, 37), pitch=(1.9, 2.1), offset=(0.7, -1.3))
GRID = VolumeGrid(shape=(9, 21, 35), spacing=(1.1, 1.3, 0.9), centre=(0.4, -0.7, 1.1))
NEAR = {"source_to_axis": 57.0, "source_to_detector": 104.0}


def scan(detector: Detector = PANEL, views: int = 7) -> ConeBeam:
    return ConeBeam.circular(views, detector=detector, start=0.1, **NEAR)


def moved(views: int) -> Tensor:
    """Shift in all directions, turn about z: rows stay parallel to it."""
    poses = torch.randn(views, 6, generator=torch.Generator().manual_seed(0)).double()
    poses[:, 3:] *= torch.tensor([0.2, 0.0, 0.0])
    return poses


def wide(n: int) -> Detector:
    return Detector(shape=(n, n), pitch=(130 / n, 220 / n))


CASES: dict[str, tuple[ScanGeometry, VolumeGrid, Tensor | None]] = {
    "flat": (scan(), GRID, None),
    "arc": (scan(replace(PANEL, curve="arc")), GRID, None),
    "right angles": (ConeBeam.circular(8, detector=PANEL, **NEAR), GRID, None),
    "offset far in u and v": (scan(replace(PANEL, offset=(8.0, 25.0))), GRID, None),
    "helix": (ConeBeam.helical(9, detector=PANEL, turns=1.4, pitch=6.0, **NEAR), GRID, None),
    "moved": (scan(), GRID, moved(7)),
    "arc, moved": (scan(replace(PANEL, curve="arc")), GRID, moved(7)),
    "free": (FreeBeam.of(scan()), GRID, None),
    "off the axis": (scan(), replace(GRID, centre=(3.0, 9.0, -14.0)), None),
    "missed": (scan(), replace(GRID, centre=(0.0, 0.0, 33.0)), None),
    "one row": (scan(Detector(shape=(1, 37), pitch=(2.0, 2.0))), GRID, None),
    "one column": (scan(Detector(shape=(13, 1), pitch=(2.0, 2.0))), GRID, None),
    "one slice": (scan(), VolumeGrid(shape=(1, 21, 35)), None),
    "one voxel": (scan(), VolumeGrid(shape=(1, 1, 1)), None),
    "tall": (scan(), VolumeGrid(shape=(151, 7, 9), spacing=(0.5, 1.0, 1.0)), None),
    "detector smaller than the shadow": (scan(Detector(shape=(3, 5), pitch=(2.0, 2.0))), GRID, None),
    "detector larger than the shadow": (scan(wide(35)), GRID, None),
    "rows of 1.6 voxels": (scan(Detector(shape=(41, 19), pitch=(3.0, 3.0))), VolumeGrid(shape=(40, 9, 11)), None),
    "rows of 2.4 voxels": (scan(Detector(shape=(31, 19), pitch=(4.4, 3.0))), VolumeGrid(shape=(70, 9, 11)), None),
    "rows of 5 voxels": (scan(Detector(shape=(15, 19), pitch=(9.0, 3.0))), VolumeGrid(shape=(70, 9, 11)), None),
    "rows of 0.7 voxels": (scan(Detector(shape=(101, 19), pitch=(1.2, 3.0))), VolumeGrid(shape=(90, 9, 11)), None),
    "rows of 0.4 voxels": (scan(Detector(shape=(141, 19), pitch=(0.7, 3.0))), VolumeGrid(shape=(50, 9, 11)), None),
    "rows of 0.1 voxels": (scan(Detector(shape=(301, 9), pitch=(0.2, 3.0))), VolumeGrid(shape=(21, 9, 11)), None),
    "many tiles": (scan(Detector(shape=(5, 67), pitch=(2.0, 2.0)), 3), VolumeGrid(shape=(5, 50, 53)), None),
}


def table(case: str) -> Lines:
    geometry, grid, poses = CASES[case]
    return lines(geometry, grid, poses)


def projections(rays: Lines) -> Tensor:
    return draw(2, *rays.shape, seed=1, dtype=torch.float32)


@pytest.mark.parametrize("case", CASES)
def test_the_cone_path_equals_the_twin(case: str) -> None:
    """Measured: at most 3e-6 of the largest sum of sizes, with rows of 0.7 voxels."""
    rays = table(case)
    volume = draw(2, *rays.grid_shape, dtype=torch.float32)
    assert cone.applies(rays, volume)
    for operation, x in (("forward", volume), ("adjoint", projections(rays))):
        found, expected = getattr(cone, operation)(rays, x), getattr(reference, operation)(rays, x.double())
        scale = float(getattr(reference, operation)(rays, x.abs()).max())
        torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-5 * max(scale, 1e-3))


@pytest.mark.parametrize("case", CASES)
def test_forward_and_adjoint_are_a_pair(case: str) -> None:
    rays = table(case)
    x, y = draw(1, *rays.grid_shape, dtype=torch.float32), projections(rays)[:1]
    projected, spread = cone.forward(rays, x).double(), cone.adjoint(rays, y).double()
    difference = abs(float((projected * y).sum() - (spread * x).sum()))
    assert difference <= 1e-5 * float(projected.norm() * y.norm()) + 1e-12  # 2e-7 measured


@pytest.mark.parametrize("views", [1, 2, 5])
def test_any_division_of_the_work_gives_the_same(views: int) -> None:
    rays = lines(scan(wide(35), views), GRID)
    volume = draw(3, *rays.grid_shape, dtype=torch.float32)
    together = cone.forward(rays, volume)
    assert torch.equal(together, torch.stack([cone.forward(rays, one[None])[0] for one in volume]))
    assert cone.forward(rays, volume[:0]).shape == (0, *rays.shape)
    assert cone.adjoint(rays, projections(rays)[:0]).shape == (0, *rays.grid_shape)


def test_tables_are_made_once_and_go_with_their_lines() -> None:
    rays = table("flat")
    before = len(cone._plan.plans)
    cone.forward(rays, torch.zeros(1, *rays.grid_shape))
    plan = cone._plan(rays)
    cone.adjoint(rays, projections(rays))
    assert cone._plan(rays) is plan
    assert len(cone._plan.plans) == before + 1
    del rays
    assert len(cone._plan.plans) == before


def digest() -> str:
    """Hash what the path gives for two cases."""
    found = hashlib.sha256()
    for case in ("flat", "helix", "many tiles"):
        rays = table(case)
        found.update(cone.forward(rays, draw(1, *rays.grid_shape, dtype=torch.float32)).numpy().tobytes())
        found.update(cone.adjoint(rays, projections(rays)).numpy().tobytes())
    return found.hexdigest()


THREADS = """
import numba
from tests.kernels.test_cone import digest
for threads in (1, 2, 3):
    numba.set_num_threads(threads)
    print(digest())
"""


def test_the_number_of_threads_changes_no_bit() -> None:
    environment = {**os.environ, "NUMBA_NUM_THREADS": "3", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", THREADS], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == 3
    assert len(set(done.stdout.split())) == 1


def refused() -> dict[str, Lines]:
    """List rays that the general kernel takes."""
    tilted = torch.zeros(7, 6, dtype=torch.float64)
    tilted[:, 4] = 1e-3
    vectors = scan().rays()
    upside_down = vectors.clone()
    upside_down[:, 2] *= -1
    behind = vectors.clone()
    behind[:, 1] = 2 * behind[:, 0] - behind[:, 1]
    steep = Detector(shape=(9, 9), pitch=(30.0, 2.0))
    return {
        "tilted": lines(scan(), GRID, tilted),
        "steep": lines(scan(steep), GRID),
        "parallel": lines(ParallelBeam.circular(5, detector=PANEL), GRID),
        "upside down": lines(FreeBeam(vectors=upside_down, detector=PANEL), GRID),
        "seen from behind": lines(FreeBeam(vectors=behind, detector=PANEL), GRID),
        "source in the grid": lines(FreeBeam(vectors=vectors, detector=PANEL), VolumeGrid(shape=(3, 201, 201))),
    }


@pytest.mark.parametrize("case", refused())
def test_it_declines_other_rays(case: str) -> None:
    rays = refused()[case]
    assert not cone.applies(rays, torch.zeros(1))


def test_it_declines_float64() -> None:
    assert not cone.applies(table("flat"), torch.zeros(1, dtype=torch.float64))


def test_a_full_turn_of_a_uniform_ball_is_even() -> None:
    """The middle pixel sees the same chord in every view: 0.6 % off, and 3.2 % apart for the staircase of voxels."""
    grid = VolumeGrid(shape=(41, 41, 41))
    z, y, x = (axis.float() for axis in grid.axes())
    ball = (z[:, None, None] ** 2 + y[:, None] ** 2 + x**2 < 15.2**2).float()[None]
    middle = cone.forward(lines(scan(wide(21), 16), grid), ball)[0, :, 10, 10]
    assert float(middle.mean()) == pytest.approx(2 * 15.2, rel=0.03)
    assert math.isclose(float(middle.max()), float(middle.min()), rel_tol=0.06)
