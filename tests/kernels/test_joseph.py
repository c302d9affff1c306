"""Joseph's projector: compiled against its twin, its walk at every edge, and against exact line integrals."""

import itertools
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
from recon.kernels import cpu, reference
from recon.kernels.lines import Lines, lines
from tests.contracts.geometries import CASES, Case
from tests.contracts.operators import draw
from tests.physics.exact import Blob, line_integrals, sampled

pytestmark = pytest.mark.usefixtures("poisoned")

each_case = pytest.mark.parametrize("case", CASES, ids=str)
# Compiled and twin add in another order: 1.5e-7 of the
# largest sum of sizes measured in float32, 4e-15 in float64.
RTOL = {torch.float32: 1e-5, torch.float64: 1e-12}


def agree(lines: Lines, *, batch: int = 1, dtype: torch.dtype = torch.float32) -> None:
    """Ask that compiled kernels and twin give the same, forward and adjoint, relative to the largest sum of sizes."""
    volume, values = draw(batch, *lines.grid_shape, dtype=dtype), draw(batch, *lines.shape, seed=1, dtype=dtype)
    for operation, x in (("forward", volume), ("adjoint", values)):
        found, expected = getattr(cpu, operation)(lines, x), getattr(reference, operation)(lines, x)
        scale = float(getattr(reference, operation)(lines, x.abs()).max())
        torch.testing.assert_close(found, expected, rtol=0, atol=RTOL[dtype] * max(scale, 1e-3))


def view(direction: tuple[float, float, float], *, at: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> FreeBeam:
    """Look along a direction (z, y, x) with a 5 x 7 detector of parallel rays at right angles to it."""
    along = torch.tensor(direction, dtype=torch.float64)
    other = torch.eye(3, dtype=torch.float64)[along.abs().argmin()]
    u = torch.linalg.cross(along, other)
    u = u / u.norm()
    v = torch.linalg.cross(u, along) / along.norm()
    vectors = torch.stack([along, torch.tensor(at, dtype=torch.float64), v, u])[None]
    return FreeBeam(vectors=vectors, detector=Detector(shape=(5, 7)), parallel_rays=True)


def test_the_poison_is_in_the_cup() -> None:
    like = torch.zeros(3)
    for tensor in (torch.empty(1000), like.new_empty(50), torch.empty_like(like), like.double().new_empty(4)):
        assert bool(tensor.isnan().all())


def test_a_kernel_that_leaves_a_gap_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu.joseph, "forward_projection", lambda *arguments: None)
    with pytest.raises(AssertionError, match="not close"):
        agree(lines(*_pair("cone, flat")), dtype=torch.float64)


@each_case
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_compiled_equals_twin(case: Case, dtype: torch.dtype) -> None:
    agree(lines(case.geometry, case.grid, case.poses), dtype=dtype)


@pytest.mark.parametrize("batch", [2, 3, 7])
def test_compiled_equals_twin_in_batches(batch: int) -> None:
    agree(lines(*_pair("cone, arc")), batch=batch)


@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (1, 1, 9), (1, 9, 1), (9, 1, 1), (1, 2, 2), (2, 1, 5), (5, 3, 2), (17, 13, 11)], ids=str
)
@pytest.mark.parametrize("rows", [1, 2, 5])
def test_compiled_equals_twin_on_thin_grids(shape: tuple[int, int, int], rows: int) -> None:
    for columns, views in ((1, 1), (1, 4), (6, 3)):
        detector = Detector(shape=(rows, columns), pitch=(1.3, 1.1))
        grid = VolumeGrid(shape=shape, spacing=(1.0, 0.7, 1.2))
        agree(lines(ParallelBeam.circular(views, detector=detector), grid))
        agree(
            lines(
                ConeBeam.circular(views, detector=detector, source_to_axis=25, source_to_detector=40, start=0.1), grid
            )
        )


AXES = [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)]
DIAGONALS = [(0, 1, 1), (0, 1, -1), (1, 0, 1), (1, 1, 0), (-1, 1, 0), (1, 1, 1), (1, -1, 1)]


@pytest.mark.parametrize("direction", [*AXES, *DIAGONALS, (1e-17, 1, -1e-17), (1e-300, -1, 1e-310)], ids=str)
def test_compiled_equals_twin_along_axes_and_diagonals(direction: tuple[float, float, float]) -> None:
    # Whole and half steps put rays on voxel centres, between them, and on the border of the hat at one voxel outside.
    for at in itertools.product((0.0, 0.5, 3.0), (0.0, 1.5), (-0.5, 2.0)):
        for shape in ((5, 5, 5), (4, 6, 5)):
            agree(lines(view(direction, at=at), VolumeGrid(shape=shape)), dtype=torch.float64)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("distance", [10.0, 1e3, 1e9])
def test_nearly_parallel_rays_that_miss_read_nothing(sign: int, distance: float) -> None:
    # At 90 degrees cos is 6e-17, not 0: the step at which such a ray enters the volume fits no integer.
    for slope in (6e-17, 1e-18, 1e-310):
        for at in ((1, 1, 1), (0, 1, 1), (1, 0, 1), (1, 1, 0)):
            for axis in range(3):
                direction = [sign * slope] * 3
                direction[axis] = 1.0
                geometry = view(tuple(direction), at=tuple(sign * distance * a for a in at))
                agree(lines(geometry, VolumeGrid(shape=(4, 5, 6))), dtype=torch.float64)


def test_a_detector_far_wider_than_the_volume_reads_the_volume_alone() -> None:
    angles = (0.0, math.pi / 2, math.pi, 3 * math.pi / 2)
    wide = ParallelBeam(angles=angles, detector=Detector(shape=(1, 20001)))
    narrow = ParallelBeam(angles=angles, detector=Detector(shape=(1, 9)))
    grid, volume = VolumeGrid(shape=(1, 8, 8)), draw(1, 1, 8, 8)
    found = cpu.forward(lines(wide, grid), volume)
    assert torch.equal(found[..., 9996:10005], cpu.forward(lines(narrow, grid), volume))
    assert int(found.count_nonzero()) == int(found[..., 9996:10005].count_nonzero())


def test_rays_through_the_border_of_the_volume() -> None:
    # A source one to 1e-12 voxels beside the outermost voxel centres looks along the faces.
    grid = VolumeGrid(shape=(4, 5, 6))
    for gap in (-1.0, -0.5, -1e-9, -1e-12, 0.0, 1e-12, 1e-9, 0.5, 1.0):
        for z, x in itertools.product((-1.5, 1.5), (-2.5, 2.5)):
            source = (z + gap, -40.0, x + gap)
            vectors = ((source, (z, 40.0, x), (0.01, 0.0, 0.0), (0.0, 0.0, 0.01)),)
            geometry = FreeBeam(vectors=vectors, detector=Detector(shape=(3, 3)))
            agree(lines(geometry, grid), dtype=torch.float64)


@pytest.mark.parametrize("far", [1e4, 1e7, 1e9])
def test_a_distant_source_stays_within_the_volume(far: float) -> None:
    # 1e9 voxels away positions round to 1e-7 of a voxel; whatever they round to must not be read outside.
    detector = Detector(shape=(5, 9), pitch=(0.5, 0.5))
    near = ParallelBeam.circular(8, detector=detector, arc=2 * math.pi)
    distant = ConeBeam.circular(8, detector=detector, source_to_axis=far, source_to_detector=far)
    grid, volume = VolumeGrid(shape=(4, 6, 6)), draw(1, 4, 6, 6)
    found, expected = (cpu.forward(lines(g, grid), volume) for g in (distant, near))
    # The rays differ by some 10 voxels / far; from there on by rounding, 1e-6 measured at 1e9.
    torch.testing.assert_close(found, expected, rtol=0, atol=100 / far + 1e-5)


@each_case
def test_only_the_corners(case: Case) -> None:
    table = lines(case.geometry, case.grid, case.poses)
    corners = torch.zeros(1, *table.grid_shape, dtype=torch.float64)
    for index in itertools.product(*((0, n - 1) for n in table.grid_shape)):
        corners[(0, *index)] = 1.0
    found, expected = cpu.forward(table, corners), reference.forward(table, corners)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    assert float(found.min()) >= -1e-12  # 0 up to the twin's rounding of hats


def test_rays_that_miss_are_zero() -> None:
    grid = VolumeGrid(shape=(3, 4, 5), centre=(0.0, 200.0, 0.0))
    geometry = ConeBeam(
        angles=(math.pi / 2,), detector=Detector(shape=(3, 5)), source_to_axis=50, source_to_detector=90
    )
    table = lines(geometry, grid)
    assert torch.equal(cpu.forward(table, torch.ones(1, 3, 4, 5)), torch.zeros(1, *table.shape))
    assert torch.equal(cpu.adjoint(table, torch.ones(1, *table.shape)), torch.zeros(1, 3, 4, 5))


THREADS = """
import hashlib, numba, torch
from recon.kernels import cpu
from recon.kernels.lines import lines
from tests.contracts.geometries import CASES
from tests.contracts.operators import draw
for threads in (1, 2, 3):
    numba.set_num_threads(threads)
    digest = hashlib.sha256()
    for case in CASES:
        table = lines(case.geometry, case.grid, case.poses)
        for dtype in (torch.float32, torch.float64):
            digest.update(cpu.forward(table, draw(2, *table.grid_shape, dtype=dtype)).numpy().tobytes())
            digest.update(cpu.adjoint(table, draw(2, *table.shape, dtype=dtype)).numpy().tobytes())
    print(digest.hexdigest())
"""


def test_the_number_of_threads_changes_no_bit() -> None:
    environment = {**os.environ, "NUMBA_NUM_THREADS": "3", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", THREADS], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == 3
    assert len(set(done.stdout.split())) == 1


@each_case
def test_one_voxel_is_never_seen_as_negative(case: Case) -> None:
    table = lines(case.geometry, case.grid, case.poses)
    voxels = torch.eye(math.prod(table.grid_shape), dtype=torch.float64).reshape(-1, *table.grid_shape)
    assert float(cpu.forward(table, voxels).min()) >= -1e-15


@pytest.mark.parametrize("fineness", [2, 10])
def test_every_parallel_view_sees_a_pixel_as_large_as_it_is(fineness: int) -> None:
    spacing = (2.0, 0.8, 0.8)
    pitch = 0.8 / fineness
    geometry = ParallelBeam.circular(36, detector=Detector(shape=(1, 8 * fineness + 1), pitch=(2.0, pitch)), start=0.01)
    voxel = torch.zeros(1, 1, 3, 3, dtype=torch.float64)
    voxel[0, 0, 1, 2] = 1.0
    areas = cpu.forward(lines(geometry, VolumeGrid(shape=(1, 3, 3), spacing=spacing)), voxel)[0].sum((1, 2)) * pitch
    # Joseph's hat is sampled by m = fineness / sqrt(2) rays a voxel or more, which is off by some 2 / (pi m)^2:
    # 0.100 measured at fineness 2 and 0.0028 at 10.
    bound = 2 / (math.pi * fineness / math.sqrt(2)) ** 2
    torch.testing.assert_close(areas, torch.full_like(areas, 0.64), rtol=bound * 1.1, atol=0)


@pytest.mark.parametrize("kind", ["parallel", "fan", "fan, arc", "cone", "cone, arc", "helix", "tilted"])
def test_error_falls_with_the_square_of_the_voxel(kind: str) -> None:
    # Steps that fall on every phase of the voxels, so that the error is an average over them.
    panel = Detector(shape=(33, 33), pitch=(0.67, 0.71), offset=(1.0, 0.7))
    line, arc = (Detector(shape=(1, 33), pitch=(0.67, 0.71), curve=curve) for curve in ("flat", "arc"))
    distances = {"source_to_axis": 90, "source_to_detector": 130}
    geometries: dict[str, ScanGeometry] = {
        "parallel": ParallelBeam.circular(5, detector=panel, start=0.2),
        "fan": ConeBeam.circular(5, detector=line, start=0.2, **distances),
        "fan, arc": ConeBeam.circular(5, detector=arc, start=0.2, **distances),
        "cone": ConeBeam.circular(5, detector=panel, start=0.2, **distances),
        "cone, arc": ConeBeam.circular(5, detector=replace(panel, curve="arc"), start=0.2, **distances),
        "helix": ConeBeam.helical(5, detector=panel, turns=1.1, pitch=4.0, **distances),
        "tilted": view((0.4, 1.0, 0.7)),
    }
    blob = [Blob(weight=0.02, centre=(0.8, -1.7, 2.3), width=5.0)]
    exact = line_integrals(blob, geometries[kind])
    errors = []
    for n in (32, 64):
        grid = VolumeGrid(shape=(n, n, n), spacing=60 / n)
        found = cpu.forward(lines(geometries[kind], grid), sampled(blob, grid)[None])[0]
        errors.append(float((found - exact).square().mean().sqrt() / exact.square().mean().sqrt()))
    assert errors[1] < 0.01  # 0.004 to 0.006 measured: Joseph smooths between voxel centres
    assert 3.7 < errors[0] / errors[1] < 4.3  # 3.94 to 4.00 measured


def _pair(name: str) -> tuple[ScanGeometry, VolumeGrid]:
    (case,) = (case for case in CASES if case.name == name)
    return case.geometry, case.grid


def test_exact_line_integrals_agree_with_a_fine_sum() -> None:
    # The yardstick itself: a Gaussian summed along rays through it.
    blob = [Blob(weight=2.0, centre=(1.0, 2.0, -3.0), width=1.5)]
    geometry = ParallelBeam(angles=(0.0,), detector=Detector(shape=(3, 3)))
    y = torch.linspace(-30, 30, 6001, dtype=torch.float64)
    z, x = geometry.detector.coordinates()
    squared = (z[:, None, None] - 1) ** 2 + (x[None, :, None] + 3) ** 2 + (y - 2) ** 2
    summed: Tensor = (2.0 * (-squared / (2 * 1.5**2)).exp()).sum(-1) * 0.01
    torch.testing.assert_close(line_integrals(blob, geometry)[0], summed, rtol=1e-10, atol=1e-12)
