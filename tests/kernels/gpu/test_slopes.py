"""Gradients to the geometry on the GPU against the twin."""

import importlib
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from recon.geometry import Detector
from recon.grid import VolumeGrid
from recon.kernels import reference
from recon.kernels.lines import Lines, lines
from tests.contracts.geometries import CASES, Case, cone
from tests.contracts.operators import draw
from tests.kernels.ray_cases import ALONG_ROWS, ON_KINKS, nudge, nudged

pytest.importorskip("triton", reason="needs Triton: pip install 'raymend[triton]'")
joseph, rays, slopes = (importlib.import_module(f"recon.kernels.gpu.{name}") for name in ("joseph", "rays", "slopes"))
pytestmark = pytest.mark.usefixtures("poisoned")

# Of the largest slope: 5.5e-7 measured in float32 over all cases, 4.1e-15 in float64.
RTOL = {torch.float32: 5e-6, torch.float64: 1e-12}


def drawn(table: Lines, dtype: torch.dtype, batch: int) -> tuple[Tensor, Tensor]:
    return draw(batch, *table.grid_shape, dtype=dtype), draw(batch, *table.shape, seed=1, dtype=dtype)


def agree(table: Lines, device: torch.device, dtype: torch.dtype = torch.float32, batch: int = 1) -> None:
    volume, values = drawn(table, dtype, batch)
    found = slopes.ray_gradient(table, volume.to(device), values.to(device))
    expected = reference.ray_gradient(table, volume, values)
    assert found.dtype == torch.float64
    assert found.device.type == "cpu"
    torch.testing.assert_close(found, expected, rtol=0, atol=RTOL[dtype] * max(float(expected.abs().max()), 1e-3))


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kernels_equal_the_twin(case: Case, device: torch.device, dtype: torch.dtype) -> None:
    agree(nudged(case), device, dtype)


@pytest.mark.parametrize("case", ON_KINKS.values(), ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kernels_equal_the_twin_on_kinks(case: Case, device: torch.device, dtype: torch.dtype) -> None:
    agree(case.projector().lines, device, dtype)


@pytest.mark.parametrize("shape", [(1, 1, 1), (9, 1, 1), (1, 1, 9), (13, 11, 7)], ids=str)
def test_kernels_equal_the_twin_on_thin_grids(shape: tuple[int, int, int], device: torch.device) -> None:
    geometry = cone(2, Detector(shape=(10, 9), pitch=(1.3, 1.2)), start=0.3)
    agree(lines(geometry, VolumeGrid(shape=shape, spacing=(1.1, 0.9, 1.3)), 0.1 * draw(2, 6)), device)


@pytest.mark.parametrize("name", ALONG_ROWS)
def test_kernels_equal_the_twin_whatever_lies_along_rows(name: str, device: torch.device) -> None:
    agree(nudge(lines(*ALONG_ROWS[name])), device)


def tilted() -> Lines:
    return nudged(next(case for case in CASES if case.name == "free, tilted"))


def test_batches_and_strides(device: torch.device) -> None:
    table = tilted()
    agree(table, device, batch=3)
    x, y = (given.to(device) for given in drawn(table, torch.float32, 3))
    strided = (given.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0) for given in (x, y))
    assert torch.equal(slopes.ray_gradient(table, *strided), slopes.ray_gradient(table, x, y))


def test_no_batch_has_no_slope(device: torch.device) -> None:
    found = slopes.ray_gradient(tilted(), *(given.to(device) for given in drawn(tilted(), torch.float32, 0)))
    assert torch.equal(found, torch.zeros(4, 5, 3, dtype=torch.float64))


def test_chunks_of_views_change_no_bit(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = (given.to(device) for given in drawn(tilted(), torch.float32, 1))
    whole = slopes.ray_gradient(tilted(), x, y)
    monkeypatch.setattr(rays, "_BYTES", 1)
    assert torch.equal(slopes.ray_gradient(tilted(), x, y), whole)


class Counted(TorchDispatchMode):
    """Counts operations of torch."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


def test_a_chunk_of_views_takes_few_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside its kernels: thousands of small ones would take longer on a GPU than the kernels."""
    monkeypatch.setattr(rays, "_BYTES", 1)
    monkeypatch.setattr(importlib.import_module("recon.kernels.gpu.launch"), "record", lambda *launch: None)
    counts = []
    for views in (4, 14):
        table = lines(cone(views, Detector(shape=(3, 4))), VolumeGrid(shape=(3, 4, 5)))
        x, y = drawn(table, torch.float32, 1)
        with Counted() as counted:
            slopes.ray_gradient(table, x, y)
        counts.append(counted.count)
    assert counts[1] - counts[0] <= 10 * 8, counts  # 7 to a chunk, of which most only slice


def test_chunks_of_the_batch_add_up(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joseph, "_COPIES", 1)
    agree(tilted(), device, batch=2)


def test_the_programs_of_a_gpu(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (rays, joseph):
        monkeypatch.setattr(module, "INTERPRETED", False)
        monkeypatch.setattr(module, "LANES", 256)
    monkeypatch.setattr(slopes, "_RAYS", 128)
    monkeypatch.setattr(slopes, "_PROGRAMS", 2)  # one takes rays twice, the other once
    agree(lines(cone(1, Detector(shape=(34, 9), pitch=(0.4, 1.4)), start=0.2), VolumeGrid(shape=(9, 5, 4))), device)
