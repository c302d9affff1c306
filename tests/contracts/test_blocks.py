"""Within a budget of memory every projector and FDK work in blocks, and their results are those without one."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from recon import ConeBeam, Detector, ParallelBeam, Scan, ScanGeometry, VolumeGrid, fbp, fdk, memory
from recon.analytic.fbp import prepare
from recon.errors import ResourceError
from tests.contracts.geometries import CASES, Case


def singly(count: int, size: int, **_: int) -> list[slice]:
    return [slice(i, i + 1) for i in range(count)]


@pytest.fixture
def single_slices_and_views(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Make every slice and every view a block of its own."""
    monkeypatch.setattr(memory, "even_parts", singly)
    monkeypatch.setattr(memory.Budget, "work", property(lambda budget: 1))
    with memory.limit("64GiB", scratch=tmp_path):
        yield


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_blocks_add_up_to_the_projector(case: Case, dtype: torch.dtype, request: pytest.FixtureRequest) -> None:
    draw = torch.Generator().manual_seed(5)
    volume = torch.rand(2, *case.grid.shape, generator=draw, dtype=dtype)
    values = torch.rand(2, *case.geometry.shape, generator=draw, dtype=dtype)
    whole = case.projector()
    projected, spread = whole @ volume, whole.T @ values
    request.getfixturevalue("single_slices_and_views")
    blocks = case.projector()
    close = 1e-5 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(blocks @ volume, projected, rtol=0, atol=close * float(projected.abs().max()))
    torch.testing.assert_close(blocks.T @ values, spread, rtol=0, atol=close * float(spread.abs().max()))
    assert blocks.adjoint_error(dtype=dtype) < close


BEAMS: dict[str, ScanGeometry] = {
    "parallel": ParallelBeam.circular(24, detector=Detector(shape=(12, 30))),
    "fan, arc": ConeBeam.circular(
        24, detector=Detector(shape=(1, 30), curve="arc"), source_to_axis=80, source_to_detector=110
    ),
    "cone": ConeBeam.circular(24, detector=Detector(shape=(16, 30)), source_to_axis=80, source_to_detector=110),
    "cone, arc": ConeBeam.circular(
        24, detector=Detector(shape=(16, 30), curve="arc"), source_to_axis=80, source_to_detector=110
    ),
    "half-fan cone": ConeBeam.circular(
        24, detector=Detector(shape=(16, 30), offset=(1.5, 9.0)), source_to_axis=80, source_to_detector=110
    ),
    "few rows": ConeBeam.circular(24, detector=Detector(shape=(3, 30)), source_to_axis=80, source_to_detector=110),
}


@pytest.mark.filterwarnings("ignore::recon.CTWarning")
@pytest.mark.parametrize("padding", ["zero", "edge"])
@pytest.mark.parametrize("name", BEAMS)
def test_fdk_in_blocks_is_fdk(name: str, padding: str, request: pytest.FixtureRequest) -> None:
    geometry = BEAMS[name]
    grid = VolumeGrid(shape=(9 if geometry.detector.shape[0] > 1 else 1, 18, 17), centre=(0.4, 0.5, -1.0))
    values = torch.rand(geometry.shape, generator=torch.Generator().manual_seed(4))
    scan = Scan(geometry=geometry, values=values)
    poses = (
        0.3
        * torch.randn(24, 6, generator=torch.Generator().manual_seed(4)).double()
        * torch.tensor([1, 1, 1, 0.1, 0.1, 0.1])
    )
    scans = [scan, replace(scan, poses=poses)]
    method = fbp if geometry.parallel or geometry.detector.shape[0] == 1 else fdk
    whole = [method(item, grid, padding=padding) for item in scans]
    request.getfixturevalue("single_slices_and_views")
    for item, expected in zip(scans, whole, strict=True):
        steps: list[int] = []
        image = method(item, grid, padding=padding, progress=lambda done, _, steps=steps: steps.append(done))
        torch.testing.assert_close(image, expected, rtol=0, atol=2e-5 * float(expected.abs().max()))
        assert steps == list(range(24 * grid.shape[0]))


def test_a_slab_reads_only_the_rows_that_see_it() -> None:
    geometry = BEAMS["cone"]
    recipe = prepare(Scan(geometry=geometry, values=torch.zeros(geometry.shape)), VolumeGrid(shape=(9, 18, 17)))
    first, last = recipe.maps.rows_seen(slice(4, 5))
    assert 0 < first < last < 16
    assert last - first < 10


@pytest.mark.parametrize("name", ["fan, arc", "cone, flat", "helix, arc, moved"])
def test_blocks_sent_to_devices_come_back_in_order(name: str, tmp_path: Path) -> None:
    """Two devices that are both the CPU: what travels, and in which order, is the same for GPUs."""
    case = next(case for case in CASES if case.name == name)
    volume, values = torch.rand(2, *case.grid.shape), torch.rand(2, *case.geometry.shape)
    whole = case.projector()
    with memory.limit("64GiB", scratch=tmp_path, devices=("cpu", torch.device("cpu"))):
        sent = case.projector()
        assert sent.in_blocks(volume)
        assert len(list(sent.blocks.cuts(volume))) >= 2  # each has work
        projected, spread = sent @ volume, sent.T @ values
    torch.testing.assert_close(projected, whole @ volume, rtol=0, atol=1e-5 * float(projected.abs().max()))
    torch.testing.assert_close(spread, whole.T @ values, rtol=0, atol=1e-5 * float(spread.abs().max()))


@pytest.mark.filterwarnings("ignore::recon.CTWarning")
def test_fdk_on_devices_is_fdk(tmp_path: Path) -> None:
    geometry, grid = BEAMS["cone"], VolumeGrid(shape=(9, 18, 17))
    scan = Scan(geometry=geometry, values=torch.rand(geometry.shape))
    with memory.limit("64GiB", scratch=tmp_path, devices=("cpu", "cpu", "cpu")):
        assert len(prepare(scan, grid).slabs()) == 3
        image = fdk(scan, grid)
    torch.testing.assert_close(image, fdk(scan, grid), rtol=0, atol=2e-5 * float(image.abs().max()))


@pytest.mark.filterwarnings("ignore::recon.CTWarning")
def test_a_gpu_that_is_full_while_rows_are_filtered_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    geometry = BEAMS["cone"]
    monkeypatch.setattr("recon.analytic.recipe.filter_rows", full)
    with pytest.raises(ResourceError, match=r"filtered projections: .* is out of memory.*limit\(devices="):
        fdk(Scan(geometry=geometry, values=torch.rand(geometry.shape)), VolumeGrid(shape=(9, 18, 17)))
