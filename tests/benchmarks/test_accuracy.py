import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from recon.grid import VolumeGrid
from recon.kernels.lines import lines
from recon.kernels.reference import view_rays

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "accuracy.py"


@pytest.fixture(scope="module")
def accuracy() -> ModuleType:
    spec = importlib.util.spec_from_file_location("accuracy", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["accuracy"] = module  # its dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


def test_integral_of_the_ball_is_the_sum_of_its_values(accuracy: ModuleType) -> None:
    for _, geometry, _ in accuracy.scanners(24):
        exact = accuracy.ball_integrals(geometry, 1)[3].flatten()
        origin, direction = view_rays(lines(geometry, VolumeGrid(shape=(1, 1, 1))), 3)
        unit = direction / direction.norm(dim=1, keepdim=True)
        t = torch.arange(-700, 1300, 0.5, dtype=torch.float64)
        points = origin[:, None] + t[:, None] * unit[:, None]
        near = ((points - torch.tensor(accuracy.CENTRE, dtype=torch.float64)) ** 2).sum(2)
        summed = 0.5 * ((1 - near / accuracy.RADIUS**2).clamp_min(0) ** 2).sum(1)
        torch.testing.assert_close(exact, summed, rtol=0, atol=1e-5 * accuracy.RADIUS)  # measured 2e-7


def test_error_on_a_smooth_ball_falls_with_the_square_of_the_voxel(accuracy: ModuleType) -> None:
    errors = {}
    for size in (48, 96):
        for scanner, geometry, grid in accuracy.scanners(size):
            values = accuracy.Projector(grid=grid, geometry=geometry) @ accuracy.ball_on(grid, 1)
            errors[scanner, size] = accuracy.percent(values, accuracy.ball_integrals(geometry, 1))
    for scanner in ("parallel", "fan"):
        assert errors[scanner, 48] / errors[scanner, 96] == pytest.approx(4, rel=0.1)  # measured 4.06, 4.07
    assert errors["cone", 96] < 0.4 * errors["cone", 48]  # 16 and 32 voxels across: measured 0.30


def test_peers_that_are_nearer_are_named(accuracy: ModuleType) -> None:
    case = {"scanner": "fan", "shown": "head", "image": "mean"}
    rows = [accuracy.Row(**case, model=m, ray=r, pixel=1.0) for m, r in (("raymend", 1.2), ("ASTRA line", 1.1))]
    assert accuracy.behind(rows) == ["fan/head/mean: ASTRA line is nearer to the ray: 1.1000 % against 1.2000 %"]
    assert accuracy.behind([rows[0]]) == []
