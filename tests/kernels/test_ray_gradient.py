"""Compiled derivatives by the rays against the twin."""

import pytest
import torch

from recon.geometry import ConeBeam, Detector, ParallelBeam
from recon.grid import VolumeGrid
from recon.kernels import cpu, reference
from recon.kernels.lines import Lines
from tests.contracts.geometries import CASES, Case
from tests.contracts.operators import draw
from tests.kernels.ray_cases import ON_KINKS, nudged

pytestmark = pytest.mark.usefixtures("poisoned")
# 5e-15 and 6e-8 of the largest derivative measured: sums are in double precision, whatever the volume is in.
RTOL = {torch.float64: 1e-12, torch.float32: 1e-6}


def agree(lines: Lines, *, batch: int = 2, dtype: torch.dtype = torch.float64) -> None:
    volume, values = draw(batch, *lines.grid_shape, dtype=dtype), draw(batch, *lines.shape, seed=1, dtype=dtype)
    found, expected = cpu.ray_gradient(lines, volume, values), reference.ray_gradient(lines, volume, values)
    torch.testing.assert_close(found, expected, rtol=0, atol=RTOL[dtype] * max(float(expected.abs().max()), 1e-3))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_compiled_equals_twin(case: Case, dtype: torch.dtype) -> None:
    agree(nudged(case), dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("case", ON_KINKS.values(), ids=str)
def test_compiled_equals_twin_on_kinks(case: Case, dtype: torch.dtype) -> None:
    agree(case.projector().lines, dtype=dtype)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 9), (9, 1, 1), (1, 2, 2), (2, 1, 5), (17, 13, 11)], ids=str)
@pytest.mark.parametrize("rows", [1, 2, 5])
def test_compiled_equals_twin_on_thin_grids(shape: tuple[int, int, int], rows: int) -> None:
    for columns, views in ((1, 1), (6, 3)):
        detector = Detector(shape=(rows, columns), pitch=(1.3, 1.1))
        grid = VolumeGrid(shape=shape, spacing=(1.0, 0.7, 1.2))
        for geometry in (
            ParallelBeam.circular(views, detector=detector),
            ConeBeam.circular(views, detector=detector, source_to_axis=25, source_to_detector=40, start=0.1),
        ):
            agree(nudged(Case("", geometry, grid)))


def test_level_rays_equal_the_twin() -> None:
    """Rays that keep their height take a path of their own, for one slice and between two."""
    detector = Detector(shape=(3, 9), pitch=(0.7, 1.1))
    geometry = ParallelBeam.circular(5, detector=detector, start=0.123)
    for slices in (1, 2, 4):
        case = Case("", geometry, VolumeGrid(shape=(slices, 6, 7), centre=(0.11, 0.21, 0.31)))
        lines = case.projector().lines
        assert bool((lines.source[:, 0] == 0).all())
        agree(lines)


@pytest.mark.parametrize("size", [1, 40 * 9 * 3, 40 * 9 * 9])
def test_blocks_of_rays_equal_all_at_once(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = nudged(next(case for case in CASES if case.name == "cone, arc"))
    volume, values = draw(1, *lines.grid_shape), draw(1, *lines.shape, seed=1)
    whole = cpu.ray_gradient(lines, volume, values)
    monkeypatch.setattr(cpu, "_SUMS", size)
    found = cpu.ray_gradient(lines, volume, values)
    torch.testing.assert_close(found, whole, rtol=0, atol=1e-13 * float(whole.abs().max()))  # 1e-15 measured


def test_an_empty_batch_has_no_slope() -> None:
    lines = nudged(next(case for case in CASES if case.name == "cone, flat"))
    found = cpu.ray_gradient(lines, torch.zeros(0, *lines.grid_shape), torch.zeros(0, *lines.shape))
    assert torch.equal(found, torch.zeros(lines.shape[0], 5, 3, dtype=torch.float64))
