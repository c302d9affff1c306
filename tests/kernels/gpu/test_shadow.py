"""Voxel-driven backprojection on a GPU, or interpreted, against its twin."""

import functools
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from recon.geometry import ConeBeam, Detector, FreeBeam, ParallelBeam, ScanGeometry
from recon.grid import VolumeGrid
from recon.kernels import reference
from recon.kernels.maps import Maps, maps
from tests.contracts.geometries import CASES, MOVED, Case, curved, turned, wobble

pytest.importorskip("triton", reason="needs Triton: pip install 'raymend[triton]'")

from recon.kernels import gpu
from recon.kernels.gpu import shadow, shadow_blocks, shadow_lines, shadow_stack, shadow_tables, steady

TOLERANCES = {torch.float32: 5e-6, torch.float64: 1e-12}
PATHS = (shadow_blocks, shadow_lines, shadow_stack, steady)


def _values(where: Maps, batch: int = 2, dtype: torch.dtype = torch.float32) -> Tensor:
    shape = batch, len(where.matrices), *where.detector_shape
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)


def _maps(name: str, geometry: ScanGeometry, grid: VolumeGrid) -> Maps:
    return maps(geometry, grid, unit=40.0, poses=0.3 * wobble(len(geometry)) if name.startswith("moved") else None)


def _far(where: Maps, values: Tensor, device: torch.device, precision: str = "single") -> float:
    """Return the largest difference from the twin, relative to the largest value."""
    expected = reference.backproject(where, values.double())
    found = shadow.backproject(where, values.to(device), precision)
    assert found.dtype == values.dtype
    assert found.shape == expected.shape
    return float((found.cpu() - expected).abs().max() / expected.abs().max())


def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take what runs on a GPU where the interpreter would take wide blocks."""
    for path in PATHS:
        monkeypatch.setattr(path, "_launch", functools.partial(path._launch, wide=False))


@pytest.mark.parametrize(
    ("case", "dtype"), [(case, torch.float32) for case in CASES] + [(case, torch.float64) for case in MOVED], ids=str
)
@pytest.mark.usefixtures("poisoned")
def test_every_geometry_equals_the_twin(case: Case, dtype: torch.dtype, device: torch.device) -> None:
    """Measured: 2e-6 in float32, 5e-15 in float64."""
    where = maps(case.geometry, case.grid, unit=30.0, poses=case.poses)
    assert _far(where, _values(where, dtype=dtype), device) < TOLERANCES[dtype]


CONE = {"source_to_axis": 40.0, "source_to_detector": 70.0}
FLAT = Detector(shape=(37, 23), pitch=(0.9, 1.7), offset=(0.3, 2.2))
ROW = Detector(shape=(1, 23), pitch=(2.1, 1.7), offset=(0.0, 2.2))
TALL = VolumeGrid(shape=(35, 5, 7), spacing=(0.7, 1.0, 1.2), centre=(0.4, -0.7, 1.1))
SLICE = VolumeGrid(shape=(1, 9, 141), spacing=(0.7, 1.0, 0.6), centre=(0.0, -0.7, 1.1))
SLICES = VolumeGrid(shape=(35, 3, 5), spacing=(0.7, 1.0, 1.2), centre=(0.4, -0.7, 1.1))

FORMS: dict[str, tuple[str, ScanGeometry, VolumeGrid]] = {
    "steady, flat": ("steady", ConeBeam.circular(11, detector=FLAT, **CONE), TALL),
    "steady, arc": ("steady", ConeBeam.circular(11, detector=curved(FLAT), **CONE), TALL),
    "steady, one row": ("steady", ConeBeam.circular(5, detector=ROW, **CONE), TALL),
    "helix": ("steady", ConeBeam.helical(11, detector=FLAT, pitch=9.0, turns=1.3, **CONE), TALL),
    "one slice, parallel": ("parallel", ParallelBeam.circular(11, detector=ROW, arc=2 * math.pi), SLICE),
    "slices between rows": ("parallel", ParallelBeam.circular(11, detector=FLAT), SLICES),
    "one slice, fan": ("fan", ConeBeam.circular(11, detector=ROW, **CONE), SLICE),
    "one slice, fan on an arc": ("fan", ConeBeam.circular(11, detector=curved(ROW), **CONE), SLICE),
    "tilted": ("", turned(ConeBeam.circular(7, detector=FLAT, **CONE), seed=1), TALL),
    "moved, arc": ("", ConeBeam.circular(7, detector=curved(FLAT), **CONE), TALL),
    "one slice, tilted": ("", turned(ConeBeam.circular(7, detector=ROW, **CONE), seed=1), SLICE),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.usefixtures("poisoned")
def test_every_path_equals_the_twin(form: str, device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    """Measured: 4e-6 in single and 4e-4 in half precision."""
    name, geometry, grid = FORMS[form]
    where = _maps(form, geometry, grid)
    assert shadow._form(where) == name
    values = _values(where)
    assert _far(where, values, device) < 5e-6
    assert _far(where, 1e-7 * values, device, "half") < 1e-3
    assert _far(where, 1e-34 * values, device, "half") < 1e-3
    monkeypatch.setattr(shadow_tables, "_MOST_BYTES", 3000)  # a view or a few at a time
    assert _far(where, values, device) < 5e-6


IMAGES = ("one slice, parallel", "one slice, fan", "one slice, fan on an arc")


@pytest.mark.parametrize("form", IMAGES)
@pytest.mark.usefixtures("poisoned")
def test_a_batch_shares_what_is_known_of_a_plane(form: str, device: torch.device) -> None:
    """Measured: 5e-7."""
    _, geometry, grid = FORMS[form]
    where = maps(geometry, replace(grid, shape=(1, 9, 14)), unit=40.0)
    assert _far(where, _values(where, batch=shadow_stack.FEWEST + 1), device) < 5e-6


SMALL: dict[str, tuple[ScanGeometry, VolumeGrid, int]] = {
    "steady": (ConeBeam.circular(2, detector=FLAT, **CONE), replace(TALL, shape=(17, 2, 5)), 1),
    "slices": (ParallelBeam.circular(2, detector=FLAT), replace(SLICES, shape=(17, 1, 5)), 1),
    "parallel": (ParallelBeam.circular(2, detector=ROW), replace(SLICE, shape=(1, 5, 33)), 2),
    "fan": (ConeBeam.circular(2, detector=ROW, **CONE), replace(SLICE, shape=(1, 5, 33)), 1),
    "arc": (ConeBeam.circular(2, detector=curved(ROW), **CONE), replace(SLICE, shape=(1, 5, 33)), 1),
    "tilted": (turned(ConeBeam.circular(2, detector=FLAT, **CONE), seed=1), replace(TALL, shape=(9, 2, 5)), 1),
    "moved, arc": (ConeBeam.circular(2, detector=curved(FLAT), **CONE), replace(TALL, shape=(9, 2, 5)), 1),
}


@pytest.mark.parametrize("case", SMALL)
@pytest.mark.usefixtures("poisoned")
def test_what_runs_on_a_gpu_equals_the_twin(case: str, device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    """Measured: 2e-6."""
    _narrow(monkeypatch)
    geometry, grid, batch = SMALL[case]
    where = _maps(case, geometry, grid)
    assert _far(where, _values(where, batch), device) < 5e-6


def test_inputs_may_be_strided_and_empty_and_results_repeat(device: torch.device) -> None:
    where = maps(FORMS["steady, flat"][1], TALL, unit=40.0)
    values = _values(where).to(device)
    strided = values.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)
    found = shadow.backproject(where, values)
    assert torch.equal(found, shadow.backproject(where, strided))
    assert torch.equal(found, shadow.backproject(where, values))
    assert torch.equal(found[:1], shadow.backproject(where, values[:1]))
    for precision in ("single", "half"):
        assert shadow.backproject(where, values[:0], precision).shape == (0, *TALL.shape)


def test_a_source_among_the_voxels_is_left_to_the_general_path(device: torch.device) -> None:
    """Voxels behind the source have shadows, too, by the rule of the maps. Measured: 2e-6."""
    near = FreeBeam.of(ConeBeam.circular(3, detector=FLAT, source_to_axis=3.3, source_to_detector=70.0, start=0.1))
    where = maps(near, TALL, unit=40.0)
    assert shadow._form(where) == ""
    assert _far(where, _values(where), device) < 5e-6


@pytest.mark.parametrize("curve", ["flat", "arc", "parallel"])
@pytest.mark.parametrize("rows", [1, 2])
def test_one_voxel_and_one_view(curve: str, rows: int, device: torch.device) -> None:
    """The smallest sizes, for the transpose and the derivative, too. Measured: 3e-7."""
    detector = Detector(shape=(rows, 1), pitch=(2.0, 3.0), offset=(0.3, 0.4))
    if curve == "parallel":
        geometry: ScanGeometry = ParallelBeam.circular(1, detector=detector)
    else:
        geometry = ConeBeam.circular(1, detector=replace(detector, curve=curve), **CONE)
    where = maps(geometry, VolumeGrid(shape=(1, 1, 1), centre=(0.2, 0.1, 0.3)), unit=40.0)
    values, volume = _values(where), torch.tensor([1.5, -0.5]).reshape(2, 1, 1, 1)
    assert _far(where, values, device) < 5e-6
    pairs = (
        (gpu.backproject_adjoint(where, volume.to(device)), reference.backproject_adjoint(where, volume)),
        (gpu.map_gradient(where, values.to(device), volume.to(device)), reference.map_gradient(where, values, volume)),
    )
    for found, expected in pairs:
        assert float((found.cpu() - expected).abs().max()) < 5e-6 * float(expected.abs().max())
