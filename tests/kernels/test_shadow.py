"""Compiled voxel-driven backprojection against its twin."""

import math
from dataclasses import replace

import numba
import pytest
import torch

from recon.geometry import ConeBeam, Detector, ParallelBeam, ScanGeometry
from recon.grid import VolumeGrid
from recon.kernels import cpu, reference
from recon.kernels.cpu import backprojection
from recon.kernels.maps import maps

GRID = VolumeGrid(shape=(9, 17, 14), spacing=(1.5, 1.0, 1.2), centre=(0.4, -0.7, 1.1))
FLAT = Detector(shape=(7, 23), pitch=(2.1, 1.7), offset=(0.3, 2.2))
ARC = Detector(shape=(7, 23), pitch=(2.1, 1.7), offset=(0.3, 2.2), curve="arc")
ROW = Detector(shape=(1, 23), pitch=(2.1, 1.7))
NEAR = {"source_to_axis": 40.0, "source_to_detector": 70.0}

CASES: dict[str, ScanGeometry] = {
    "parallel": ParallelBeam.circular(11, detector=FLAT),
    "flat": ConeBeam.circular(11, detector=FLAT, **NEAR),
    "arc": ConeBeam.circular(11, detector=ARC, **NEAR),
    "one row": ConeBeam.circular(5, detector=ROW, **NEAR),
    "detector smaller than the grid's shadow": ConeBeam.circular(7, detector=Detector(shape=(3, 5)), **NEAR),
}


@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.usefixtures("poisoned")
def test_compiled_equals_twin(case: str, moved: bool) -> None:
    """Measured: 6e-8 relative in float32."""
    geometry, draw = CASES[case], torch.Generator().manual_seed(1)
    poses = 0.2 * torch.randn(len(geometry), 6, generator=draw, dtype=torch.float64) if moved else None
    where = maps(geometry, GRID, unit=40.0, poses=poses)
    values = torch.rand(2, *geometry.shape, generator=draw)
    expected = reference.backproject(where, values)
    assert float((cpu.backproject(where, values) - expected).norm() / expected.norm()) < 1e-6


TURNED = torch.tensor([[1.0, -2.0, 1.5, 0.3, 0.0, 0.0]], dtype=torch.float64)
STEADY: dict[str, tuple[Detector, tuple[int, int, int], float, torch.Tensor | None]] = {
    "tall, flat": (replace(FLAT, shape=(150, 23), pitch=(0.9, 1.7)), (150, 5, 37), 0.7, None),
    "tall, arc": (replace(ARC, shape=(150, 23), pitch=(0.9, 1.7)), (150, 37, 5), 0.7, None),
    "shifted and turned about z": (FLAT, GRID.shape, 1.5, TURNED),
    "voxels of 2.3 rows": (replace(ARC, shape=(99, 23), pitch=(0.9, 1.7)), (33, 6, 7), 1.2, None),
    "voxels of 7 rows": (replace(FLAT, shape=(99, 23), pitch=(0.3, 1.7)), (33, 6, 7), 1.2, None),
    "fewest slices": (FLAT, (5, 16, 17), 1.0, None),
    "one detector row": (ROW, (9, 8, 7), 1.0, None),
}


@pytest.mark.parametrize("case", STEADY)
@pytest.mark.usefixtures("poisoned")
def test_scanners_that_do_not_tilt_equal_the_twin(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Measured: at most 8e-7 relative in float32."""
    monkeypatch.setattr(cpu.shadow, "shadow_backprojection", lambda *arguments: None)  # leaves NaN
    detector, shape, height, pose = STEADY[case]
    geometry = ConeBeam.circular(19, detector=detector, start=0.1, **NEAR)
    grid = VolumeGrid(shape=shape, spacing=(height, 1.0, 1.2), centre=(0.4, -0.7, 1.1))
    where = maps(geometry, grid, unit=40.0, poses=None if pose is None else pose.expand(19, 6))
    values = torch.rand(2, *geometry.shape, generator=torch.Generator().manual_seed(1))
    expected = reference.backproject(where, values.double())
    found = cpu.backproject(where, values)
    assert float((found - expected).norm() / expected.norm()) < 2e-6
    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    assert torch.equal(found, cpu.backproject(where, values))
    numba.set_num_threads(threads)


FLAT_STACKS: dict[str, tuple[Detector, tuple[int, int, int], float]] = {
    "one slice": (ROW, (1, 17, 141), 1.0),
    "three slices between rows": (FLAT, (3, 18, 7), 1.0),
    "columns finer than pixels": (replace(ROW, shape=(1, 99), pitch=(1.0, 0.5)), (1, 9, 33), 1.4),
    "columns much finer than pixels": (replace(ROW, shape=(1, 99), pitch=(1.0, 0.2)), (1, 9, 20), 1.4),
}


@pytest.mark.parametrize("case", FLAT_STACKS)
@pytest.mark.usefixtures("poisoned")
def test_slices_seen_by_parallel_rays_equal_the_twin(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Measured: 3e-7 relative in float32."""
    monkeypatch.setattr(cpu.shadow, "shadow_backprojection", lambda *arguments: None)  # leaves NaN
    detector, shape, width = FLAT_STACKS[case]
    geometry = ParallelBeam.circular(36, detector=detector, arc=2 * math.pi)
    where = maps(geometry, VolumeGrid(shape=shape, spacing=(0.8, 1.0, width), centre=(0.1, -0.7, 1.1)), unit=1.0)
    values = torch.rand(2, *geometry.shape, generator=torch.Generator().manual_seed(1))
    expected = reference.backproject(where, values.double())
    assert float((cpu.backproject(where, values) - expected).norm() / expected.norm()) < 2e-6


FANS: dict[str, tuple[Detector, tuple[int, int, int], float]] = {
    "fan": (ROW, (1, 17, 41), 1.0),
    "pixels coarser than the columns": (replace(ROW, shape=(1, 199), pitch=(1.0, 0.2)), (1, 9, 20), 1.4),
    "columns of 1.6 to 2.2 pixels": (replace(ROW, shape=(1, 99), pitch=(1.0, 0.7)), (1, 37, 41), 1.0),
    "wider than the detector": (replace(ROW, shape=(1, 5), pitch=(1.0, 1.2), offset=(0.0, 2.5)), (1, 31, 33), 1.0),
    "far off the axis": (replace(ROW, shape=(1, 99), pitch=(1.0, 1.4), offset=(0.0, 30.0)), (1, 3, 16), 1.0),
}


@pytest.mark.parametrize("curve", ["flat", "arc"])
@pytest.mark.parametrize("case", FANS)
@pytest.mark.usefixtures("poisoned")
def test_a_slice_seen_by_a_fan_equals_the_twin(case: str, curve: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Measured: 2e-7 relative in float32; 2.5e-6 for 512 x 512 pixels and 768 columns."""
    monkeypatch.setattr(cpu.shadow, "shadow_backprojection", lambda *arguments: None)  # leaves NaN
    detector, shape, width = FANS[case]
    detector = replace(detector, curve=curve)
    geometry = ConeBeam.circular(36, detector=detector, start=0.01, source_to_axis=60.0, source_to_detector=80.0)
    where = maps(geometry, VolumeGrid(shape=shape, spacing=(0.8, 1.0, width), centre=(0.0, -0.7, 1.1)), unit=60.0)
    values = torch.rand(2, *geometry.shape, generator=torch.Generator().manual_seed(1))
    expected = reference.backproject(where, values.double())
    assert float((cpu.backproject(where, values) - expected).norm() / expected.norm()) < 1e-5


def test_a_line_seen_under_a_wide_angle_is_left_to_the_general_kernel() -> None:
    geometry = ConeBeam.circular(12, detector=replace(ROW, curve="arc"), source_to_axis=60.0, source_to_detector=80.0)
    values = torch.rand(1, *geometry.shape, generator=torch.Generator().manual_seed(1))
    for width, fast in ((40, True), (112, False)):
        where = maps(geometry, VolumeGrid(shape=(1, 5, width)), unit=60.0)
        assert backprojection._fan(where, values) is fast
        expected = reference.backproject(where, values)
        assert float((cpu.backproject(where, values) - expected).norm() / expected.norm()) < 2e-6


def test_a_pixel_lights_up_the_voxels_on_its_ray() -> None:
    """A voxel's shadow and a pixel's ray agree: the ray of the shadow runs through the voxel."""
    geometry = ConeBeam.circular(8, detector=ARC, **NEAR)
    where = maps(geometry, GRID, unit=40.0)
    voxel = torch.tensor([[3.0, 5.0, 9.0, 1.0]], dtype=torch.float64)
    for view in range(8):
        row, column, _ = reference.shadows(where, view, voxel)
        gamma = (float(column) - 11) * 1.7 / 70
        source, centre, v, u = geometry.rays()[view]
        height = (float(row) - 3) * v
        depth = centre - source - (centre - source)[0] * torch.tensor([1.0, 0, 0], dtype=torch.float64)
        rise = (centre - source)[0] * torch.tensor([1.0, 0, 0], dtype=torch.float64)
        pixel = source + rise + height + math.cos(gamma) * depth + math.sin(gamma) * 70 * u / u.norm()
        position = torch.stack([axis[i] for axis, i in zip(GRID.axes(), (3, 5, 9), strict=True)])
        assert float(torch.linalg.cross(pixel - source, position - source).norm()) < 1e-9 * 70 * 40
