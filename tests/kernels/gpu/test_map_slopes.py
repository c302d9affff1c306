"""The derivative of backprojection by the maps on a GPU, or interpreted, against its twin."""

import functools

import pytest
import torch
from torch import Tensor

from recon.geometry import ConeBeam, Detector, ParallelBeam, ScanGeometry
from recon.grid import VolumeGrid
from recon.kernels import reference
from recon.kernels.maps import Maps, maps
from tests.contracts.geometries import MOVED, STILL, Case, curved, wobble

pytest.importorskip("triton", reason="needs Triton: pip install 'raymend[triton]'")

from recon.kernels import gpu
from recon.kernels.gpu import map_slopes, shadow_tables

TOLERANCES = {torch.float32: 5e-6, torch.float64: 1e-12}


def _draw(where: Maps, batch: int = 2, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Return random projections and volumes."""
    draw = torch.Generator().manual_seed(1)
    values = torch.randn(batch, len(where.matrices), *where.detector_shape, generator=draw, dtype=torch.float64)
    return values.to(dtype), torch.randn(batch, *where.grid_shape, generator=draw, dtype=torch.float64).to(dtype)


def _far(where: Maps, values: Tensor, volume: Tensor, device: torch.device) -> float:
    """Return the largest difference from the twin, relative to the largest number."""
    expected = reference.map_gradient(where, values, volume)
    found = gpu.map_gradient(where, values.to(device), volume.to(device))
    assert (found.device.type, found.dtype) == ("cpu", torch.float64)
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize(
    ("case", "dtype"), [(case, torch.float32) for case in STILL] + [(case, torch.float64) for case in MOVED], ids=str
)
@pytest.mark.usefixtures("poisoned")
def test_every_geometry_equals_the_twin(case: Case, dtype: torch.dtype, device: torch.device) -> None:
    """Measured: 1e-6 in float32, 3e-15 in float64; shadows on whole rows and columns are among them."""
    where = maps(case.geometry, case.grid, unit=30.0, poses=case.poses)
    assert _far(where, *_draw(where, dtype=dtype), device) < TOLERANCES[dtype]


CONE = {"source_to_axis": 40.0, "source_to_detector": 70.0}
PANEL = Detector(shape=(37, 23), pitch=(0.9, 1.7), offset=(0.3, 2.2))
ROW = Detector(shape=(1, 23), pitch=(2.1, 1.7), offset=(0.0, 2.2))
TALL = VolumeGrid(shape=(35, 5, 7), spacing=(0.7, 1.0, 1.2), centre=(0.4, -0.7, 1.1))
SLICE = VolumeGrid(shape=(1, 9, 141), spacing=(0.7, 1.0, 0.2), centre=(0.0, -0.7, 1.1))

SMALL: dict[str, tuple[ScanGeometry, VolumeGrid]] = {
    "cone": (ConeBeam.circular(3, detector=PANEL, **CONE), TALL),
    "moved, arc": (ConeBeam.circular(3, detector=curved(PANEL), **CONE), TALL),
    "parallel": (ParallelBeam.circular(3, detector=ROW), SLICE),
}


@pytest.mark.parametrize("case", SMALL)
@pytest.mark.usefixtures("poisoned")
def test_lines_of_blocks_equal_the_twin(case: str, device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs on a GPU, a view at a time and with several programs for each. Measured: 2e-6."""
    geometry, grid = SMALL[case]
    where = maps(geometry, grid, unit=40.0, poses=0.3 * wobble(3) if case.startswith("moved") else None)
    values, volume = _draw(where)
    assert _far(where, values, volume, device) < 5e-6
    monkeypatch.setattr(map_slopes, "_launch", functools.partial(map_slopes._launch, wide=False))
    monkeypatch.setattr(map_slopes, "_BLOCKS", 3)
    monkeypatch.setattr(map_slopes, "_MOST_PROGRAMS", 2)
    monkeypatch.setattr(shadow_tables, "_MOST_BYTES", 3000)
    assert _far(where, values[:1], volume[:1], device) < 5e-6


def test_inputs_may_be_strided_and_empty_and_results_repeat(device: torch.device) -> None:
    where = maps(SMALL["cone"][0], TALL, unit=40.0)
    values, volume = (tensor.to(device) for tensor in _draw(where))
    strided = [tensor.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0) for tensor in (values, volume)]
    found = gpu.map_gradient(where, values, volume)
    assert torch.equal(found, gpu.map_gradient(where, *strided))
    assert torch.equal(gpu.map_gradient(where, values[:0], volume[:0]), torch.zeros(3, 3, 4, dtype=torch.float64))
