"""The general GPU projector: forward and adjoint against the twin on every kind of ray, in both types."""

import importlib
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from recon.geometry import ConeBeam, Detector, FreeBeam, ScanGeometry
from recon.grid import VolumeGrid
from recon.kernels import reference
from recon.kernels.lines import Lines, lines
from tests.contracts.geometries import CASES, PANEL, VOLUME, Case, cone
from tests.contracts.operators import draw
from tests.kernels.ray_cases import ALONG_ROWS, nudged

pytest.importorskip("triton", reason="needs Triton: pip install 'raymend[triton]'")
joseph, rays, windows = (importlib.import_module(f"recon.kernels.gpu.{name}") for name in ("joseph", "rays", "windows"))
pytestmark = pytest.mark.usefixtures("poisoned")

# Of the largest value: 4.4e-7 measured in float32 over all cases, 4.8e-15 in float64.
RTOL = {torch.float32: 5e-6, torch.float64: 1e-12}
GAP = {torch.float32: 1e-6, torch.float64: 1e-14}  # of |Ax||y|: 1.0e-7 and 1.3e-16 measured


def project(table: Lines, device: torch.device, dtype: torch.dtype, batch: int = 1) -> tuple[Tensor, ...]:
    """Return an image, projections, and both through the kernels and moved back to the CPU."""
    x, y = draw(batch, *table.grid_shape, dtype=dtype), draw(batch, *table.shape, seed=1, dtype=dtype)
    return x, y, joseph.forward(table, x.to(device)).cpu(), joseph.adjoint(table, y.to(device)).cpu()


def agree(table: Lines, device: torch.device, dtype: torch.dtype = torch.float32, batch: int = 1) -> None:
    """Ask that kernels and twin give the same, and that the kernels are a pair."""
    x, y, forward, adjoint = project(table, device, dtype, batch)
    for found, operation, given in ((forward, reference.forward, x), (adjoint, reference.adjoint, y)):
        expected = operation(table, given.double())
        assert found.dtype == dtype
        scale = max(float(expected.abs().max()), 1e-3)
        torch.testing.assert_close(found.double(), expected, rtol=0, atol=RTOL[dtype] * scale)
    gap = (forward.double() * y.double()).sum() - (adjoint.double() * x.double()).sum()
    assert abs(float(gap)) <= GAP[dtype] * float(forward.double().norm() * y.double().norm())


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kernels_equal_the_twin(case: Case, device: torch.device, dtype: torch.dtype) -> None:
    agree(lines(case.geometry, case.grid, case.poses), device, dtype)


def looking(direction: tuple[float, ...], at: tuple[float, ...] = (0.0, 0.0, 0.0)) -> FreeBeam:
    """Look along a direction (z, y, x) with a 5 x 7 detector of parallel rays at right angles to it."""
    along = torch.tensor(direction, dtype=torch.float64)
    other = torch.eye(3, dtype=torch.float64)[along.abs().argmin()]
    u = torch.linalg.cross(along, other)
    u = u / u.norm()
    v = torch.linalg.cross(u, along) / along.norm()
    vectors = torch.stack([along, torch.tensor(at, dtype=torch.float64), v, u])[None]
    return FreeBeam(vectors=vectors, detector=Detector(shape=(5, 7)), parallel_rays=True)


def from_point(source: tuple[float, ...], centre: tuple[float, ...], size: float, curve: str = "flat") -> FreeBeam:
    """Look from a source past a centre with a 6 x 7 detector that spans some mm."""
    ahead = torch.tensor(centre, dtype=torch.float64) - torch.tensor(source, dtype=torch.float64)
    other = torch.eye(3, dtype=torch.float64)[ahead.abs().argmin()]
    u = torch.linalg.cross(ahead, other)
    u = size / 7 * u / u.norm()
    v = torch.linalg.cross(u, ahead) / ahead.norm()
    vectors = torch.stack([torch.tensor(source, dtype=torch.float64), ahead + torch.tensor(source), v, u])[None]
    return FreeBeam(vectors=vectors, detector=Detector(shape=(6, 7), curve=curve))


BOX = VolumeGrid(shape=(5, 6, 7), spacing=(1.5, 0.8, 1.1))
ODD: dict[str, tuple[ScanGeometry, VolumeGrid]] = {
    **{
        f"along {direction}": (looking(direction, at=(0.5, 0.0, 1.5)), VolumeGrid(shape=(4, 5, 6)))
        for direction in ((1, 0, 0), (0, 1, 0), (0, 0, -1), (0, 1, 1), (1, 0, -1), (1, 1, 0), (-1, 1, 1))
    },
    "almost along y": (looking((1e-17, 1, -1e-17)), VolumeGrid(shape=(5, 5, 5))),
    "one voxel": (cone(4, PANEL), VolumeGrid(shape=(1, 1, 1), spacing=(3.0, 4.0, 5.0))),
    "a row of voxels": (cone(4, PANEL), VolumeGrid(shape=(1, 1, 9))),
    "a column of voxels": (cone(4, PANEL), VolumeGrid(shape=(9, 1, 1))),
    "one pixel": (cone(3, Detector(shape=(1, 1), pitch=(9.0, 9.0))), VOLUME),
    "sizes of no multiple": (cone(2, Detector(shape=(35, 19), pitch=(0.6, 1.1))), VolumeGrid(shape=(17, 13, 11))),
    "pixels far smaller than voxels": (cone(2, Detector(shape=(17, 23), pitch=(0.2, 0.3))), VOLUME),
    "pixels far larger than voxels": (cone(3, Detector(shape=(3, 4), pitch=(9.0, 7.0))), VOLUME),
    "a detector aside": (
        FreeBeam(
            vectors=(((0.0, -40.0, 0.0), (300.0, 40.0, -9000.0), (0.7, 0.0, 0.0), (0.0, 0.0, 0.9)),),
            detector=Detector(shape=(5, 6)),
        ),
        BOX,
    ),
    "a detector aside that sees": (
        FreeBeam(
            vectors=(((300.0, -400.0, 500.0), (-300.0, 400.0, -500.0), (0.0, 2.0, 0.1), (0.1, 0.3, 2.5)),),
            detector=Detector(shape=(6, 8)),
        ),
        BOX,
    ),
    "from above": (from_point((40.0, 1.0, 2.0), (-20.0, 0.0, 0.0), 14.0), BOX),
    "from above, arc": (from_point((40.0, 1.0, 2.0), (-20.0, 0.0, 0.0), 14.0, "arc"), BOX),
    "source beside the grid": (from_point((0.4, -3.5, 0.3), (0.0, 30.0, 1.0), 70.0), BOX),
    "source beside the grid, arc": (from_point((0.4, -3.5, 0.3), (0.0, 30.0, 1.0), 30.0, "arc"), BOX),
    "source within the grid": (from_point((0.4, 0.2, -0.7), (0.0, 30.0, 1.0), 70.0), BOX),
    "source within the grid, arc": (from_point((0.4, 0.2, -0.7), (0.0, 30.0, 1.0), 40.0, "arc"), BOX),
    "an arc of more than half a circle": (from_point((0.4, -5.5, 0.3), (0.0, 9.0, 1.0), 55.0, "arc"), BOX),
}


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kernels_equal_the_twin_at_every_edge(name: str, device: torch.device, dtype: torch.dtype) -> None:
    agree(lines(*ODD[name]), device, dtype)


@pytest.mark.parametrize("name", ALONG_ROWS)
def test_kernels_equal_the_twin_whatever_lies_along_rows(name: str, device: torch.device) -> None:
    table = lines(*ALONG_ROWS[name])
    assert windows.lane_axis(table) == "zyx".index(name[0])
    agree(table, device)


@pytest.mark.parametrize("name", ["cone, arc", "helix, flat, moved"])
def test_rays_that_no_scanner_has(name: str, device: torch.device) -> None:
    case = next(case for case in CASES if case.name == name)
    table = nudged(case)
    edge_on = 0.05 * (table.centre - table.source)
    for strange in (table, replace(table, along=table.along**3 / 9), replace(table, u=edge_on)):
        agree(strange, device)


def test_a_pixel_on_the_source_sees_nothing(device: torch.device) -> None:
    table = lines(cone(2, PANEL), VOLUME)
    table = replace(table, centre=table.source + 0.5 * table.v)  # row 1, column 4 of 9
    x, y, forward, adjoint = project(table, device, torch.float64)
    assert not bool(forward[:, :, 1, 4].any())
    torch.testing.assert_close(forward, reference.forward(table, x), rtol=0, atol=1e-11)
    torch.testing.assert_close(adjoint, reference.adjoint(table, y), rtol=0, atol=1e-11)


def test_a_window_too_small_is_noticed(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    real = joseph.windows

    def narrow(*given: Any) -> Any:
        maps, *rest = real(*given)
        maps = maps.clone()
        maps[:, 12:21] *= 0.9  # how fast places change within a hat
        return maps, *rest

    for name in ("cone, arc", "free, parallel and tilted", "helix, flat, moved"):
        case = next(case for case in CASES if case.name == name)
        monkeypatch.setattr(joseph, "windows", narrow)
        with pytest.raises(AssertionError, match="not close"):
            agree(lines(case.geometry, case.grid, case.poses), device)
        monkeypatch.setattr(joseph, "windows", real)


def test_rays_that_miss_are_zero(device: torch.device) -> None:
    grid = VolumeGrid(shape=(3, 4, 5), centre=(0.0, 200.0, 0.0))
    table = lines(ConeBeam(angles=(math.pi / 2,), detector=PANEL, source_to_axis=50, source_to_detector=90), grid)
    _, _, forward, adjoint = project(table, device, torch.float32)
    assert not bool(forward.any())
    assert not bool(adjoint.any())


def tilted() -> Lines:
    return lines(*next((case.geometry, case.grid) for case in CASES if case.name == "free, tilted"))


def test_no_batch(device: torch.device) -> None:
    _, _, forward, adjoint = project(tilted(), device, torch.float32, batch=0)
    assert forward.shape == (0, *tilted().shape)
    assert adjoint.shape == (0, *tilted().grid_shape)


def test_batches_and_strides(device: torch.device) -> None:
    table, batch = tilted(), 3
    agree(table, device, batch=batch)
    x = draw(*reversed((batch, *table.grid_shape)), dtype=torch.float32).to(device).permute(3, 2, 1, 0)
    y = draw(*reversed((batch, *table.shape)), dtype=torch.float32).to(device).permute(3, 2, 1, 0)
    assert torch.equal(joseph.forward(table, x), joseph.forward(table, x.contiguous()))
    assert torch.equal(joseph.adjoint(table, y), joseph.adjoint(table, y.contiguous()))


def test_chunks_of_views_and_of_the_batch_change_no_bit(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tilted()
    whole = project(table, device, torch.float32, batch=2)
    monkeypatch.setattr(rays, "_BYTES", 1)
    monkeypatch.setattr(joseph, "_COPIES", 1)
    assert len(list(rays.tables(table, whole[0].to(device)))) == 4
    for one, other in zip(whole, project(table, device, torch.float32, batch=2), strict=True):
        assert torch.equal(one, other)


def test_runs_repeat_bit_by_bit(device: torch.device) -> None:
    for one, other in zip(*(project(tilted(), device, torch.float32) for _ in range(2)), strict=True):
        assert torch.equal(one, other)


def test_the_programs_of_a_gpu(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (rays, joseph):
        monkeypatch.setattr(module, "INTERPRETED", False)
        monkeypatch.setattr(module, "LANES", 256)
    monkeypatch.setattr(joseph, "_VOXELS", 64)
    agree(lines(cone(1, Detector(shape=(34, 9), pitch=(0.4, 1.4))), VolumeGrid(shape=(9, 5, 4))), device)


def test_places_beyond_31_bits(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tilted()
    near = project(table, device, torch.float32)
    constants = joseph.shape_of_program
    monkeypatch.setattr(joseph, "shape_of_program", lambda *given: {**constants(*given), "FAR": True})
    assert torch.equal(project(table, device, torch.float32)[2], near[2])
