"""The transpose of voxel-driven backprojection on a GPU, or interpreted, against its twin."""

import functools
import math

import pytest
import torch
from torch import Tensor

from recon.geometry import ConeBeam, Detector, ParallelBeam, ScanGeometry
from recon.grid import VolumeGrid
from recon.kernels import reference
from recon.kernels.maps import Maps, maps
from tests.contracts.geometries import MOVED, SLICE, STILL, Case, curved, turned, wobble

pytest.importorskip("triton", reason="needs Triton: pip install 'raymend[triton]'")

from recon.kernels import gpu
from recon.kernels.gpu import shadow_adjoint

TOLERANCES = {torch.float32: 5e-6, torch.float64: 1e-12}


def _volume(where: Maps, batch: int = 1, dtype: torch.dtype = torch.float32) -> Tensor:
    draw = torch.Generator().manual_seed(1)
    return torch.randn(batch, *where.grid_shape, generator=draw, dtype=torch.float64).to(dtype)


def _far(where: Maps, volume: Tensor, device: torch.device) -> float:
    """Return the largest difference from the twin, relative to the largest value."""
    expected = reference.backproject_adjoint(where, volume.double())
    found = gpu.backproject_adjoint(where, volume.to(device))
    assert found.dtype == volume.dtype
    assert found.shape == expected.shape
    return float((found.cpu() - expected).abs().max() / expected.abs().max())


def _both_types() -> list[tuple[Case, torch.dtype]]:
    return [(case, torch.float32) for case in STILL] + [(case, torch.float64) for case in MOVED]


@pytest.mark.parametrize(("case", "dtype"), _both_types(), ids=str)
@pytest.mark.usefixtures("poisoned")
def test_every_geometry_equals_the_twin(case: Case, dtype: torch.dtype, device: torch.device) -> None:
    """Measured: 3e-7 in float32, 5e-15 in float64."""
    where = maps(case.geometry, case.grid, unit=30.0, poses=case.poses)
    assert _far(where, _volume(where, dtype=dtype), device) < TOLERANCES[dtype]


CONE = {"source_to_axis": 40.0, "source_to_detector": 70.0}
FINE = Detector(shape=(9, 11), pitch=(0.6, 0.7), offset=(0.3, 1.2))
COARSE = Detector(shape=(3, 4), pitch=(6.0, 7.0), offset=(0.3, 1.2))
BLOCK = VolumeGrid(shape=(9, 5, 6), spacing=(0.7, 1.0, 1.2), centre=(0.4, -0.7, 1.1))
WIDE = Detector(shape=(1, 9), pitch=(1.0, 1.6))
FEW = Detector(shape=(1, 3), pitch=(1.0, 1.2))

OTHERS: dict[str, tuple[ScanGeometry, VolumeGrid, int]] = {
    "pixels smaller than voxels": (ConeBeam.circular(3, detector=FINE, **CONE), BLOCK, 0),
    "pixels larger than voxels": (turned(ConeBeam.circular(3, detector=COARSE, **CONE), seed=1), BLOCK, 0),
    "larger, on an arc": (ConeBeam.circular(3, detector=curved(COARSE), **CONE), BLOCK, 0),
    "a source among the voxels": (
        ConeBeam.circular(3, detector=FINE, source_to_axis=1.7, source_to_detector=5.0, start=0.1),
        BLOCK,
        0,
    ),
    "rays along all axes in one view": (
        ConeBeam.circular(2, detector=WIDE, source_to_axis=5.0, source_to_detector=6.0, start=math.pi / 4),
        SLICE,
        2,
    ),
    "columns a radian apart": (
        ConeBeam.circular(2, detector=curved(FEW), source_to_axis=1.1, source_to_detector=1.6, start=0.1),
        SLICE,
        2,
    ),
}


@pytest.mark.parametrize("case", OTHERS)
@pytest.mark.usefixtures("poisoned")
def test_windows_hold_every_voxel(case: str, device: torch.device) -> None:
    """Measured: 4e-7; views of which nothing is known look at all voxels."""
    geometry, grid, unknown = OTHERS[case]
    where = maps(geometry, grid, unit=40.0)
    assert len(shadow_adjoint.plan(where, device).others) == unknown
    assert _far(where, _volume(where), device) < 5e-6


SMALL: dict[str, tuple[ScanGeometry, VolumeGrid]] = {
    "cone": (ConeBeam.circular(2, detector=FINE, **CONE), BLOCK),
    "moved, arc": (ConeBeam.circular(1, detector=curved(FINE), **CONE), BLOCK),
    "parallel": (ParallelBeam.circular(2, detector=WIDE), SLICE),
}


@pytest.mark.parametrize("case", SMALL)
@pytest.mark.usefixtures("poisoned")
def test_what_runs_on_a_gpu_equals_the_twin(case: str, device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    """Measured: 3e-7."""
    monkeypatch.setattr(shadow_adjoint, "_launch", functools.partial(shadow_adjoint._launch, wide=False))
    geometry, grid = SMALL[case]
    where = maps(geometry, grid, unit=40.0, poses=wobble(len(geometry)) if case.startswith("moved") else None)
    assert _far(where, _volume(where), device) < 5e-6


def test_it_is_the_transpose_of_what_backprojects(device: torch.device) -> None:
    """Measured: 2e-8 of the norms."""
    where = maps(ConeBeam.circular(5, detector=FINE, **CONE), BLOCK, unit=40.0)
    volume = _volume(where).to(device)
    values = torch.randn(1, 5, 9, 11, generator=torch.Generator().manual_seed(2)).to(device)
    read, added = gpu.backproject(where, values), gpu.backproject_adjoint(where, volume)
    gap = (read.double() * volume).sum() - (values.double() * added).sum()
    assert float(gap.abs() / (read.norm() * volume.norm())) < 1e-6


def test_inputs_may_be_strided_and_empty_and_results_repeat(device: torch.device) -> None:
    where = maps(SMALL["cone"][0], BLOCK, unit=40.0)
    volume = _volume(where, batch=2).to(device)
    strided = volume.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)
    found = gpu.backproject_adjoint(where, volume)
    assert torch.equal(found, gpu.backproject_adjoint(where, strided))
    assert torch.equal(found[1:], gpu.backproject_adjoint(where, volume[1:]))
    assert gpu.backproject_adjoint(where, volume[:0]).shape == (0, 2, 9, 11)
