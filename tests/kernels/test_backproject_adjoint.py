"""The transpose of backprojection, and its derivative by the maps: the twin, and the compiled kernels against it."""

from dataclasses import replace

import pytest
import torch

from recon.geometry import ConeBeam, Detector
from recon.grid import VolumeGrid
from recon.kernels import cpu, reference
from recon.kernels.maps import Maps, maps
from tests.contracts.geometries import CASES, Case


def _maps(case: Case) -> Maps:
    return maps(case.geometry, case.grid, unit=30.0, poses=case.poses)


def _draw(where: Maps, batch: int = 2, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    """Return random projections and volumes."""
    draw = torch.Generator().manual_seed(1)
    values = torch.randn(batch, len(where.matrices), *where.detector_shape, generator=draw, dtype=torch.float64)
    return values.to(dtype), torch.randn(batch, *where.grid_shape, generator=draw, dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_twin_is_the_transpose_of_backprojection(case: Case) -> None:
    """Measured: 6e-16 of the largest number."""
    where = _maps(case)
    pixels = torch.eye(where.matrices.shape[0] * where.detector_shape[0] * where.detector_shape[1]).double()
    matrix = reference.backproject(where, pixels.unflatten(1, (-1, *where.detector_shape))).flatten(1)  # (pixel, voxel)
    _, volume = _draw(where)
    expected = volume.flatten(1) @ matrix.T
    found = reference.backproject_adjoint(where, volume).flatten(1)
    assert float((found - expected).abs().max()) < 1e-13 * float(expected.abs().max())


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_derivative_by_the_maps_is_the_slope(case: Case) -> None:
    """Measured: 5e-10 of the gradient; a small turn takes shadows off whole rows and columns, where slopes jump."""
    where = _maps(case)
    draw = torch.Generator().manual_seed(2)
    offset = 2e-2 * torch.randn(where.matrices.shape, generator=draw).double() / torch.tensor([8.0, 8, 8, 1])
    where = replace(where, matrices=where.matrices + offset)
    values, volume = _draw(where)
    gradient = reference.map_gradient(where, values, volume)
    step = 1e-7
    for view in range(len(where.matrices)):
        for i in range(3):
            for j in range(4):
                total = []
                for sign in (1, -1):
                    moved = where.matrices.clone()
                    moved[view, i, j] += sign * step
                    found = reference.backproject(replace(where, matrices=moved), values)
                    total.append(float((found * volume).sum()))
                slope = (total[0] - total[1]) / (2 * step)
                assert abs(slope - float(gradient[view, i, j])) < 1e-6 * float(gradient.abs().max())


TOLERANCES = {torch.float32: 5e-6, torch.float64: 1e-12}


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.usefixtures("poisoned")
def test_the_compiled_transpose_equals_the_twin(case: Case, dtype: torch.dtype) -> None:
    """Measured: 5e-7 in float32, 2e-15 in float64."""
    where = _maps(case)
    _, volume = _draw(where, dtype=dtype)
    expected = reference.backproject_adjoint(where, volume.double())
    found = cpu.backproject_adjoint(where, volume)
    assert found.dtype == dtype
    assert float((found - expected).abs().max()) < TOLERANCES[dtype] * float(expected.abs().max())


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.usefixtures("poisoned")
def test_the_compiled_derivative_equals_the_twin(case: Case, dtype: torch.dtype) -> None:
    """Measured: 6e-8 in float32, 2e-15 in float64: all but the values is in float64."""
    where = _maps(case)
    values, volume = _draw(where, dtype=dtype)
    expected = reference.map_gradient(where, values, volume)
    found = cpu.map_gradient(where, values, volume)
    assert found.dtype == torch.float64
    assert float((found - expected).abs().max()) < TOLERANCES[dtype] * float(expected.abs().max())


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_voxels_behind_the_source_have_shadows_too(dtype: torch.dtype) -> None:
    """By the rule of the maps. Measured: 1e-7 in float32, 2e-15 in float64."""
    panel = Detector(shape=(9, 11), pitch=(0.6, 0.7), offset=(0.3, 1.2))
    near = ConeBeam.circular(3, detector=panel, source_to_axis=1.7, source_to_detector=5.0, start=0.1)
    where = maps(near, VolumeGrid(shape=(9, 5, 6), spacing=(0.7, 1.0, 1.2), centre=(0.4, -0.7, 1.1)), unit=40.0)
    values, volume = _draw(where, dtype=dtype)
    pairs = (
        (cpu.backproject(where, values), reference.backproject(where, values.double())),
        (cpu.backproject_adjoint(where, volume), reference.backproject_adjoint(where, volume.double())),
        (cpu.map_gradient(where, values, volume), reference.map_gradient(where, values, volume)),
    )
    for found, expected in pairs:
        assert float((found - expected).abs().max()) < TOLERANCES[dtype] * float(expected.abs().max())
