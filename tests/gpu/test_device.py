"""Streams, devices, memory and repeatability: what only a GPU can get wrong."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from recon import ConeBeam, Detector, Projector, Scan, VolumeGrid, cgls, memory
from recon.errors import ConfigError, ResourceError
from tests.contracts.geometries import CASES
from tests.contracts.operators import draw
from tests.gpu.on_device import close, everywhere, on_gpu

GRID = VolumeGrid(shape=(24, 40, 44), spacing=(1.0, 1.0, 1.0))
CONE = ConeBeam.circular(
    30, detector=Detector(shape=(36, 70), pitch=(1.7, 1.6)), source_to_axis=100, source_to_detector=160
)
FAN = ConeBeam.circular(
    30, detector=Detector(shape=(1, 70), pitch=(1.7, 1.6)), source_to_axis=100, source_to_detector=160
)
LONG = 500_000_000  # cycles of the GPU: a quarter of a second


def small(name: str) -> Projector:
    return next(case for case in CASES if case.name == name).projector()


@on_gpu
@pytest.mark.parametrize("name", ["fan, flat", "cone, flat", "free, tilted, moved"])
def test_work_follows_its_stream(device: torch.device, name: str) -> None:
    """The input is made on a side stream, late: whatever ran on another stream would read zeros."""
    a = small(name)
    x, y = (draw(2, *shape, dtype=torch.float32).to(device) for shape in (a.domain_shape, a.range_shape))
    expected = a @ x, a.T @ y
    late = torch.zeros_like(x), torch.zeros_like(y)
    torch.cuda.synchronize()
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        torch.cuda._sleep(LONG)
        late[0].copy_(x)
        late[1].copy_(y)
        found = a @ late[0], a.T @ late[1]
    side.synchronize()
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])


@on_gpu
def test_streams_overlap(device: torch.device) -> None:
    """A stream that is busy holds up neither the caller nor another stream."""
    a = small("cone, flat")
    x = draw(2, *a.domain_shape, dtype=torch.float32).to(device)
    expected = a @ x  # compiles, and makes the tables
    busy, free = torch.cuda.Stream(), torch.cuda.Stream()
    for stream in (busy, free):  # the first allocation on a stream waits for all others
        with torch.cuda.stream(stream):
            a @ x
    done_late, done_early = torch.cuda.Event(), torch.cuda.Event()
    torch.cuda.synchronize()
    with torch.cuda.stream(busy):
        torch.cuda._sleep(8 * LONG)
        late = a @ x
        done_late.record()
    with torch.cuda.stream(free):
        early = a @ x
        done_early.record()
    done_early.synchronize()
    assert not done_late.query()
    torch.cuda.synchronize()
    assert torch.equal(early, expected)
    assert torch.equal(late, expected)


@everywhere
@pytest.mark.parametrize("name", ["fan, flat", "cone, flat"])
def test_results_repeat_bit_for_bit(device: torch.device, name: str) -> None:
    a = small(name)
    x, y = (draw(3, *shape, dtype=torch.float32).to(device) for shape in (a.domain_shape, a.range_shape))
    again = small(name)  # with tables of its own
    assert torch.equal(a @ x, again @ x)
    assert torch.equal(a.T @ y, again.T @ y)
    assert torch.equal(a.T @ y, again.T @ y)


@on_gpu
@pytest.mark.parametrize("geometry", [FAN, CONE], ids=["fan", "cone"])
def test_many_blocks_repeat_bit_for_bit(device: torch.device, geometry: ConeBeam) -> None:
    grid = VolumeGrid(shape=(60 if geometry is CONE else 1, 200, 190), spacing=(0.4, 0.4, 0.4))
    a = Projector(grid=grid, geometry=geometry)
    x = torch.rand(70 if geometry is FAN else 1, *grid.shape, device=device)
    values = a @ x
    image = a.T @ values
    for _ in range(5):
        assert torch.equal(a @ x, values)
        assert torch.equal(a.T @ values, image)


@on_gpu
def test_tensors_on_two_devices_are_refused(device: torch.device) -> None:
    values = torch.rand(CONE.shape)
    with pytest.raises(ConfigError, match=r"weights: expected a tensor on cuda.* like the values, got one on cpu"):
        Scan(geometry=CONE, values=values.to(device), weights=values)
    scan = Scan(geometry=CONE, values=values.to(device))
    with pytest.raises(ConfigError, match=r"start: expected .*cuda.*cpu"):
        cgls(scan, GRID, iterations=1, start=torch.zeros(GRID.shape))


@on_gpu
def test_half_precision_input_is_refused(device: torch.device) -> None:
    a = small("cone, flat")
    with pytest.raises(ValueError, match=r"x: expected float32 or float64, got torch.float16"):
        a @ torch.zeros(a.domain_shape, dtype=torch.float16, device=device)


@pytest.fixture
def little_memory() -> Iterator[None]:
    """Leave 256 MiB of the GPU to this process."""
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + (256 << 20)) / total)
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()


@on_gpu
def test_what_does_not_fit_is_said_and_done_in_blocks(
    device: torch.device, little_memory: None, tmp_path: Path
) -> None:
    # 1.4 GiB of projections for 0.1 GiB of volume.
    panel = Detector(shape=(512, 720), pitch=(0.5, 0.5))
    many = ConeBeam.circular(1000, detector=panel, source_to_axis=570, source_to_detector=1040)
    a = Projector(grid=VolumeGrid(shape=(64, 128, 128)), geometry=many)
    x = torch.rand(a.domain_shape)
    with pytest.raises(ResourceError, match=r"cuda:\d.*(out of memory|available)"):
        a @ x.to(device)
    few = many[::50]
    expected = Projector(grid=a.grid, geometry=few) @ x
    with memory.limit(scratch=tmp_path, devices=[device]):
        sent = Projector(grid=a.grid, geometry=few) @ x
    close(sent, expected, 1e-5)


@on_gpu
def test_blocks_on_several_gpus_add_up(device: torch.device, tmp_path: Path) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two CUDA GPUs")
    devices = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    a = Projector(grid=GRID, geometry=CONE)
    x, y = torch.rand(a.domain_shape), torch.rand(a.range_shape)
    expected = a @ x, a.T @ y
    with memory.limit(scratch=tmp_path, devices=devices):
        again = Projector(grid=GRID, geometry=CONE)
        close(again @ x, expected[0], 1e-5)
        close(again.T @ y, expected[1], 1e-5)
    other = a @ x.to(devices[1])
    assert other.device == torch.device(devices[1])  # not the current one
    close(other, expected[0], 1e-5)


@on_gpu
def test_astra_beside_us_on_one_gpu(device: torch.device, record_property: Callable[[str, object], None]) -> None:
    pytest.importorskip("astra", reason="needs astra-toolbox: pip install 'raymend[astra]'")
    from recon.bridges import AstraProjector

    theirs = AstraProjector(grid=GRID, geometry=CONE)
    z, y, x = GRID.axes()
    ball = torch.exp(-(((z[:, None, None] - 2) ** 2 + (y[:, None] + 3) ** 2 + (x - 4) ** 2) / 40)).float().to(device)
    close(theirs @ ball, Projector(grid=GRID, geometry=CONE) @ ball, 0.02)
    error = theirs.adjoint_error(dtype=torch.float32, device=device)
    assert 0 < error < 1
    record_property("adjoint gap of ASTRA on this GPU", error)
