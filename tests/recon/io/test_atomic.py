"""Writes that fail leave the old file, no new one, and one clear error."""

import builtins
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from io_cases import GRID, PARALLEL, content_of, scan_of, volume

from recon.errors import ConfigError, CTError, NumericalError, ResourceError, ShapeError
from recon.io import (
    atomic,
    atomic_folder,
    atomic_write,
    check_writable,
    locked_folder,
    read_scan,
    write_scan,
    write_volume,
)

ONE = GRID.region((1, *GRID.shape[1:]), GRID.centre)
WRITERS: dict[str, Callable[[Path], None]] = {
    "s.h5": lambda path: write_scan(path, scan_of()),
    "s.npz": lambda path: write_scan(path, scan_of()),
    "s.zarr": lambda path: write_scan(path, scan_of()),
    "v.zarr": lambda path: write_volume(path, volume(), GRID),
    "v.nii": lambda path: write_volume(path, volume(), GRID),
    "v.nii.gz": lambda path: write_volume(path, volume(), GRID),
    "v.tif": lambda path: write_volume(path, volume(), GRID),
    "v.npy": lambda path: write_volume(path, volume(), GRID),
    "v.png": lambda path: write_volume(path, volume()[:1], ONE, window=(0, 100)),
}


def put_old(path: Path) -> dict[str, bytes]:
    """Put something in place that a writer may replace."""
    if path.suffix == ".zarr":
        write_scan(path, scan_of(PARALLEL))
    else:
        path.write_bytes(b"old")
    return content_of(path)


def files(folder: Path) -> list[str]:
    return sorted(item.name for item in folder.iterdir())


@pytest.mark.parametrize("name", WRITERS)
class TestEveryWriter:
    def test_replaces_in_one_step(self, tmp_path: Path, name: str) -> None:
        old = put_old(tmp_path / name)
        WRITERS[name](tmp_path / name)
        assert files(tmp_path) == [name]
        assert content_of(tmp_path / name) != old
        assert (tmp_path / name).stat().st_size > 100

    def test_full_disk(self, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        old = put_old(tmp_path / name)
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(ResourceError, match="disk is full"):
            WRITERS[name](tmp_path / name)
        assert files(tmp_path) == [name]
        assert content_of(tmp_path / name) == old

    def test_file_size_limit(self, tmp_path: Path, name: str) -> None:
        """A real write that fails half way, in a process of its own."""
        program = (
            "import resource, signal, sys; sys.path.insert(0, sys.argv[1])\n"
            "from pathlib import Path; import test_atomic as tests; from recon.errors import ResourceError\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (90, 90))\n"
            "try: tests.WRITERS[sys.argv[3]](Path(sys.argv[2]))\n"
            "except ResourceError as error: print('disk is full' in str(error))"
        )
        old = put_old(tmp_path / name)
        command = [sys.executable, "-c", program, str(Path(__file__).parent), str(tmp_path / name), name]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.stdout.strip() == "True", done.stderr[-800:]
        assert files(tmp_path) == [name]
        assert content_of(tmp_path / name) == old

    def test_interrupt(self, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        def stop(*_: object) -> None:
            raise KeyboardInterrupt

        old = put_old(tmp_path / name)
        if name.endswith(".zarr"):
            monkeypatch.setattr(atomic_folder, "swap", stop)
        else:
            monkeypatch.setattr(os, "replace", stop)
        with pytest.raises(KeyboardInterrupt):
            WRITERS[name](tmp_path / name)
        assert files(tmp_path) == [name]
        assert content_of(tmp_path / name) == old

    def test_places_that_cannot_be_written(self, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "file").write_text("")
        (tmp_path / name).mkdir()
        for place, said in (
            (tmp_path / name, "got a folder"),
            (tmp_path / "none" / name, "existing folder"),
            (tmp_path / "file" / name, "folder"),
        ):
            with pytest.raises(ConfigError, match=said) as caught:
                WRITERS[name](place)
            assert caught.value.exit_code == 2
        monkeypatch.setattr(os, "access", lambda *_: False)
        with pytest.raises(ConfigError, match="writable folder"):
            WRITERS[name](tmp_path / f"other-{name}")
        assert files(tmp_path) == sorted(["file", name])


def test_devices_are_no_output(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.nii")
    for place in (tmp_path / "pipe.nii", Path("/dev/null")):
        with pytest.raises(ConfigError, match="regular file"):
            check_writable(place)


def test_input_is_no_output(tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_text("")
    (tmp_path / "link.h5").symlink_to(tmp_path / "a.h5")
    with pytest.raises(ConfigError, match="apart from the inputs"):
        check_writable(tmp_path / "link.h5", inputs=[tmp_path / "a.h5"])


def test_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "link.nii").symlink_to(tmp_path / "deep" / "v.nii")
    write_volume(tmp_path / "link.nii", volume(), GRID)
    assert (tmp_path / "link.nii").is_symlink()
    assert files(tmp_path / "deep") == ["v.nii"]


def test_folder_vanishes_during_the_run(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()

    def run() -> None:
        with atomic_write(tmp_path / "out" / "a.txt") as temporary:
            temporary.write_text("new")
            temporary.unlink()
            (tmp_path / "out").rmdir()

    with pytest.raises(ConfigError, match="cannot be written"):
        run()
    assert files(tmp_path) == []


def test_a_failure_of_the_caller_is_passed_on(tmp_path: Path) -> None:
    def run() -> None:
        with atomic_write(tmp_path / "a.txt") as temporary:
            temporary.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run()
    assert files(tmp_path) == []


def test_leftovers_of_dead_processes_are_swept(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    mine = atomic._own_prefix()
    left = mine.replace(f"-{os.getpid()}-", f"-{dead.pid}-") + "abcd.h5"
    kept = [mine + "efgh.h5", ".raymend-0000aaaa-1-x.h5", "other.tmp"]
    for name in (left, *kept):
        (tmp_path / name).write_text("")
    (tmp_path / left.replace(".h5", ".zarr") / "values").mkdir(parents=True)
    with atomic_write(tmp_path / "a.txt") as temporary:
        temporary.write_text("new")
    assert files(tmp_path) == sorted(["a.txt", *kept])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["s.h5", "s.zarr"])
def test_killed_at_any_moment_the_file_is_old_or_new(tmp_path: Path, name: str) -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); from io_cases import scan_of\n"
        "from recon.io import write_scan; scan = scan_of(); print('go', flush=True)\n"
        "while True: write_scan(sys.argv[2], scan)"
    )
    path = tmp_path / name
    write_scan(path, scan_of())
    for pause in (0.0, 0.003, 0.011, 0.02):
        command = [sys.executable, "-c", program, str(Path(__file__).parent), str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "go\n"
            time.sleep(pause)
            process.send_signal(signal.SIGKILL)
        assert torch.equal(read_scan(path).values, scan_of().values)
    write_scan(path, scan_of())
    assert files(tmp_path) == [name]


def test_two_runs_in_one_folder(tmp_path: Path) -> None:
    program = "import sys; from recon.io import locked_folder\nwith locked_folder(sys.argv[1]): print('never')"
    with locked_folder(tmp_path):
        command = [sys.executable, "-c", program, str(tmp_path)]
        second = subprocess.run(command, capture_output=True, text=True, check=False)
        assert f"in use by process {os.getpid()}" in second.stderr
    with locked_folder(tmp_path):
        pass


@pytest.mark.parametrize(
    ("name", "given", "error", "said"),
    [
        ("v.xyz", {}, ConfigError, r"ending in \.nii"),
        ("v", {}, ConfigError, "no suffix"),
        ("v.nii", {"window": (0, 1)}, ConfigError, "window: expected none"),
        ("v.png", {}, ConfigError, "window: expected"),
        ("v.png", {"window": (5, 5)}, ConfigError, "low below high"),
        ("v.png", {"window": (0, float("nan"))}, ConfigError, "window: expected a finite"),
        ("v.png", {"window": (0, 1)}, ConfigError, "one slice"),
        ("v.nii", {"unit": "1/cm"}, ConfigError, "unit"),
        ("v.nii", {"values": volume()[:2]}, ShapeError, "values"),
        ("v.nii", {"values": volume()[None]}, ShapeError, "values"),
        ("v.nii", {"values": volume().half()}, ShapeError, "float16"),
        ("v.nii", {"values": volume() * float("nan")}, NumericalError, "120 of 120"),
    ],
)
def test_volumes_that_cannot_be_written(
    tmp_path: Path, name: str, given: dict[str, Any], error: type[CTError], said: str
) -> None:
    content = {"values": volume(), "grid": GRID, **given}
    with pytest.raises(error, match=said):
        write_volume(tmp_path / name, **content)
    assert files(tmp_path) == []


def test_scan_of_an_unknown_suffix(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"ending in \.h5"):
        write_scan(tmp_path / "s.mat", scan_of())


def test_no_home_and_no_clock_are_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    write_scan(tmp_path / "s.h5", scan_of())
    assert torch.equal(read_scan(tmp_path / "s.h5").values, scan_of().values)


def test_other_files_stay_unopened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checking a place neither creates nor changes anything."""
    monkeypatch.setattr(builtins, "open", lambda *_: pytest.fail("opened"))
    check_writable(tmp_path / "new.nii")
    assert files(tmp_path) == []
