"""A budget of memory: sizes in words, what lies where, and what a block leaves behind."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from recon import devices, memory
from recon.errors import ConfigError, ResourceError
from recon.sizes import parse_size

MANY = "64GiB"


@pytest.fixture(autouse=True)
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the process be as small as a new one, whatever other tests have left in it."""
    monkeypatch.setattr(memory, "resident", lambda: 300 << 20)


@pytest.mark.parametrize(
    ("size", "number"),
    [(1000, 1000), ("1000", 1000), ("6GiB", 6 << 30), ("1.5 gib", 3 << 29), ("800MB", 800_000_000), (".5k", 512)],
)
def test_sizes_are_read(size: int | str, number: int) -> None:
    assert parse_size(size) == number


@pytest.mark.parametrize("size", ["", "much", "6 GiBB", "-1GiB", "0", "9" * 400 + "GiB", 0, -5, True, 1.5, None])
def test_other_sizes_are_refused(size: object) -> None:
    with pytest.raises(ConfigError, match="memory: expected a size such as 6GiB"):
        parse_size(size)  # type: ignore[arg-type]


def test_a_budget_below_the_libraries_names_the_smallest_that_works(tmp_path: Path) -> None:
    with (
        pytest.raises(ResourceError, match=r"100 MiB is too small.*allow (\d+) MiB or more") as refused,
        memory.limit("100MiB"),
    ):
        pass
    least = str(refused.value).split("allow ")[1].split(" or")[0]
    with memory.limit(least, scratch=tmp_path):
        assert memory.current().left() >= 0 or memory.resident() > 512 << 20


def test_a_budget_needs_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="scratch: expected a folder"), memory.limit(MANY, scratch=tmp_path / "none"):
        pass


def test_a_budget_ends_with_its_block(tmp_path: Path) -> None:
    with memory.limit("3GiB", scratch=tmp_path):
        assert memory.current().limit == 3 << 30
        with memory.limit("2500MiB", scratch=tmp_path):
            assert memory.current().limit == 2500 << 20
        assert memory.current().limit == 3 << 30
    assert memory.current().limit is None


def test_a_budget_beyond_the_machine_is_what_is_free(tmp_path: Path) -> None:
    with memory.limit("100TiB", scratch=tmp_path):
        limit = memory.current().limit
        assert limit is not None
        assert limit <= memory.resident() + memory.checks.available_memory() + (1 << 30)


def test_near_budgets_work_in_the_same_blocks(tmp_path: Path) -> None:
    sizes = set()
    for size in ("1.5GiB", "1.51GiB", "1.6GiB"):
        with memory.limit(size, scratch=tmp_path):
            sizes.add(memory.current().work)
    assert len(sizes) == 1


def test_room_that_is_reserved_is_left_by_arrays(tmp_path: Path) -> None:
    with memory.limit("1GiB", scratch=tmp_path):
        memory.reserve(400 << 20, "a block")
        assert memory.current().left() <= (112 << 20)
        with pytest.raises(ResourceError, match=r"1 GiB is too small for a block; the smallest .* is 1\.25 GiB"):
            memory.reserve(600 << 20, "a block")


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Leave no room in memory."""
    monkeypatch.setattr(memory.Budget, "left", lambda budget: 0)
    return tmp_path


def test_what_does_not_fit_lies_on_the_disk_without_a_name(full: Path) -> None:
    with memory.limit(MANY, scratch=full):
        before = len(memory._mapped)
        array = memory.empty((3, 700, 800))
        assert len(memory._mapped) == before + 1
        array.copy_(torch.arange(array.numel()).reshape(array.shape))
        memory.release()
        assert float(array[2, 699, 799]) == array.numel() - 1
        assert not list(full.iterdir())
        assert array.data_ptr() % 64 == 0
        small = memory.empty((10, 10), dtype=torch.float64)
        assert small.dtype == torch.float64
        assert len(memory._mapped) == before + 1
        del array
        assert len(memory._mapped) == before


def test_a_disk_without_room_is_refused_with_both_sizes(full: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        free = 1000

    monkeypatch.setattr(memory.shutil, "disk_usage", lambda folder: Usage)
    with (
        memory.limit(MANY, scratch=full),
        pytest.raises(ResourceError, match=r"volume: 7\.6.. MiB do not fit.*1000 B free.*scratch folder"),
    ):
        memory.empty((2, 1000, 1000), name="volume")


def test_a_disk_that_fills_while_room_is_claimed_is_told(full: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(memory.os, "posix_fallocate", refuse)
    with memory.limit(MANY, scratch=full), pytest.raises(ResourceError, match="No space left on device; allow more"):
        memory.empty((2, 1000, 1000))


def test_without_a_budget_too_much_is_refused() -> None:
    with pytest.raises(ResourceError, match=r"volume: about .* GiB of memory needed"):
        memory.empty((10**5, 10**5, 10**3), name="volume")


@pytest.mark.parametrize("shape", [(5,), (1, 7), (3, 4, 5), (1, 1, 9), (2, 3, 1)])
@pytest.mark.parametrize("turned", [False, True])
def test_blockwise_is_the_function(shape: tuple[int, ...], turned: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_CHUNK", 4)
    monkeypatch.setattr(memory.parts, "__defaults__", (4,))
    x, y = torch.rand(shape), torch.rand(shape)
    if turned:
        x, y = (t.movedim(0, -1).clone().movedim(-1, 0) for t in (x, y))
    assert torch.equal(memory.blockwise(lambda a, b: a * b + 1, x, y), x * y + 1)
    assert memory.total(torch.mul, x, y) == pytest.approx(float((x * y).double().sum()), rel=1e-6)
    again = x.clone()
    assert memory.blockwise(torch.add, again, y, out=again) is again
    assert torch.equal(again, x + y)


@pytest.mark.parametrize(("count", "size"), [(1, 1), (7, 10), (7, 1 << 30), (100, 30 << 20), (3, 0)])
def test_parts_are_even_and_cover_everything(count: int, size: int) -> None:
    parts = memory.even_parts(count, size)
    assert [i for part in parts for i in range(part.start, part.stop)] == list(range(count))
    lengths = {part.stop - part.start for part in parts[:-1]}
    assert len(lengths) <= 1
    assert all(length * size <= memory.Budget().work // 4 or length == 1 for length in lengths)


def test_a_slice_beyond_the_budget_names_the_smallest_that_works(tmp_path: Path) -> None:
    with (
        memory.limit("2GiB", scratch=tmp_path),
        pytest.raises(ResourceError, match=r"2 GiB is too small for slices or views of 1 GiB.*works is .* GiB") as no,
    ):
        memory.even_parts(3, 1 << 30)
    least = str(no.value).split("works is ")[1]
    with memory.limit(least, scratch=tmp_path):
        assert memory.even_parts(3, 1 << 30) == [slice(0, 1), slice(1, 2), slice(2, 3)]


def test_devices_work_in_turn_and_results_are_asked_for_late(tmp_path: Path) -> None:
    log: list[str] = []

    def work(item: int, device: torch.device | None) -> Tensor:
        log.append(f"{item} on {device}")
        return torch.tensor(item)

    with memory.limit("64GiB", scratch=tmp_path, devices=("cpu", "meta")):
        for item, result in memory.in_turn(range(3), work):
            assert int(result) == item
            log.append(f"{item} back")
    assert log == ["0 on cpu", "1 on meta", "0 back", "2 on cpu", "1 back", "2 back"]


def test_devices_that_are_not_there_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="devices: expected names such as cuda:0, got 'gpu'"):
        memory.limit("64GiB", devices=("gpu",)).__enter__()
    for count, said in ((0, "expected none, as no GPU was found, got cuda:9"), (2, "one of the 2 GPUs that are there")):
        monkeypatch.setattr(torch.cuda, "device_count", lambda count=count: count)
        with pytest.raises(ConfigError, match=f"devices: .*{said}"):
            memory.limit("64GiB", devices="cuda:9").__enter__()


def test_a_gpu_out_of_memory_names_blocks_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "free_memory", lambda device: 8 << 30)
    said = r"forward: cuda:0 is out of memory, 8 GiB are free; blocks of 1 GiB would fit: .*devices=\[\"cuda:0\"\]"
    with pytest.raises(ResourceError, match=said), devices.told_when_full("forward", torch.device("cuda:0")):
        raise torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(ResourceError, match=r"volume: 9 GiB of memory needed on cuda, 8 GiB available; .*limit\("):
        memory.check_room("volume", 9 << 30, torch.device("cuda"))
    memory.check_room("volume", 8 << 30, torch.device("cuda"))


def test_parts_on_a_gpu_are_large_without_a_budget_and_do_not_change_with_what_is_free(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gpu = torch.device("cuda")

    def parts(free: int) -> int:
        monkeypatch.setattr(devices, "free_memory", lambda device: free)
        return len(memory.even_parts(1024, 8 << 20, device=gpu))

    assert parts(139 << 30) == parts(30 << 30) == 4  # of 2 GiB
    assert parts(11 << 30) == parts(9 << 30) == 8
    assert len(memory.even_parts(1024, 8 << 20)) == 64
    with memory.limit("64GiB", scratch=tmp_path):
        assert parts(139 << 30) == 64
