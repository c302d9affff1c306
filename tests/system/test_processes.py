"""The command as its own process: start-up, signals, locks, and a machine that offers nothing."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from recon import ConeBeam, Detector, Scan
from recon.io import write_scan

ROOT = Path(__file__).parents[2]


def start(*arguments: object, **options: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "raymend", *(str(argument) for argument in arguments)]
    return subprocess.Popen(
        command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options  # type: ignore[call-overload]
    )  # fmt: skip


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    geometry = ConeBeam.circular(
        60, detector=Detector(shape=(1, 64), pitch=(2.0, 2.0)), source_to_axis=300, source_to_detector=600
    )
    values = torch.rand(geometry.shape, generator=torch.Generator().manual_seed(1))
    write_scan(tmp_path / "scan.h5", Scan(geometry=geometry, values=values))
    return tmp_path / "scan.h5"


def iterate(scan: Path, *options: object, **process: object) -> "subprocess.Popen[str]":
    return start(
        "reconstruct", scan, "-o", scan.parent / "image.npy", "--method", "sirt", "--shape", 32, *options, **process
    )


def interrupted(process: "subprocess.Popen[str]", number: int, ready: Path) -> tuple[int, str]:
    """Send a signal once an iteration has begun, which the marker file says."""
    give_up = time.monotonic() + 240
    while not ready.exists() and process.poll() is None and time.monotonic() < give_up:
        time.sleep(0.05)
    assert ready.exists(), process.communicate()[1]
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    return process.returncode, err


@pytest.fixture
def marked(tmp_path: Path) -> "dict[str, str]":
    """Let a process write a marker after its third iteration, by a module that Python imports at its start."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\n"
        "import importlib.abc, importlib.util\n"
        "class Watch(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name != 'raymend.cli.progress':\n"
        "            return None\n"
        "        sys.meta_path.remove(self)\n"
        "        spec = importlib.util.find_spec(name)\n"
        "        run = spec.loader.exec_module\n"
        "        def exec_module(module):\n"
        "            run(module)\n"
        "            lines = module._lines\n"
        "            def marked(label, total):\n"
        "                advance = lines(label, total)\n"
        "                def both(done, note=''):\n"
        "                    advance(done, note)\n"
        "                    if done == 3:\n"
        "                        open(os.environ['MARKER'], 'w').close()\n"
        "                return both\n"
        "            module._lines = marked\n"
        "        spec.loader.exec_module = exec_module\n"
        "        return spec\n"
        "sys.meta_path.insert(0, Watch())\n"
    )
    return {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}", "MARKER": str(tmp_path / "marker")}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupt_leaves_a_state_and_no_output(scan: Path, marked: dict[str, str], number: int, code: int) -> None:
    state, marker = scan.parent / "state", scan.parent / "marker"
    process = iterate(scan, "--iterations", 10_000_000, "--state", state, env=marked)
    returned, err = interrupted(process, number, marker)
    assert returned == code, err
    assert "go on with --resume" in err
    assert "Traceback" not in err
    assert not (scan.parent / "image.npy").exists()
    from recon.io.checkpoint import load_checkpoint

    reached = load_checkpoint(state).iterations
    assert reached >= 3
    more = iterate(scan, "--iterations", reached + 2, "--resume", state)
    assert more.communicate(timeout=300)[1] == ""
    assert more.returncode == 0
    assert (scan.parent / "image.npy").exists()


def test_interrupt_without_a_state_leaves_nothing(scan: Path, marked: dict[str, str]) -> None:
    before = {item.name for item in scan.parent.iterdir()}
    process = iterate(scan, "--iterations", 10_000_000, env=marked)
    returned, err = interrupted(process, signal.SIGINT, scan.parent / "marker")
    assert returned == 130
    assert "nothing was written (--state FILE keeps the state)" in err
    assert {item.name for item in scan.parent.iterdir()} - before <= {"marker", "__pycache__"}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_demo_leaves_nothing(tmp_path: Path, marked: dict[str, str], number: int, code: int) -> None:
    process = start("demo", "--size", "small", "--out", tmp_path / "out", env=marked)
    returned, err = interrupted(process, number, tmp_path / "marker")
    assert returned == code, err
    assert err.splitlines()[-1] == "raymend: interrupted; nothing was written"
    assert not (tmp_path / "out").exists()


def test_help_imports_nothing_heavy() -> None:
    """What makes help quick, 0.3 s as measured, is what it does not import; a clock would say more of the machine."""
    code = (
        "import sys; sys.argv = ['raymend', '--help']; import raymend.__main__ as m\n"
        "try: m.main()\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'numba', 'numpy', 'matplotlib', 'rich', 'pydantic'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_second_run_on_a_folder_is_told_who_holds_it(tmp_path: Path) -> None:
    from recon.io import locked_folder

    out = tmp_path / "out"
    out.mkdir()
    with locked_folder(out):
        process = start("demo", "--size", "small", "--out", out)
        _, err = process.communicate(timeout=240)
    assert process.returncode == 2
    assert str(os.getpid()) in err
    assert err.count("\n") == 1


def test_machine_without_home_and_cache_still_works(scan: Path, tmp_path: Path) -> None:
    bare = {name: value for name, value in os.environ.items() if name not in ("HOME", "XDG_CACHE_HOME")}
    bare |= {"NUMBA_CACHE_DIR": "/proc/nowhere", "MPLCONFIGDIR": "/proc/nowhere"}
    process = start("reconstruct", scan, "-o", tmp_path / "image.npy", "--shape", 16, env=bare)
    _, err = process.communicate(timeout=400)
    assert process.returncode == 0, err
    assert (tmp_path / "image.npy").exists()


def test_closed_pipe_is_no_bug(scan: Path) -> None:
    process = start("info", scan)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    with process.stderr as stream:
        err = stream.read()
    process.wait(timeout=120)
    assert "bug" not in err


def small_files() -> None:
    """Let files end at 20 kB, which a process notices as it would a full disk."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))


@pytest.mark.parametrize("name", ["image.npy", "image.nii", "image.tif"])
def test_full_disk_is_one_line_and_leaves_the_old_file(scan: Path, name: str) -> None:
    out = scan.parent / name
    out.write_bytes(b"old")
    before = {item.name for item in scan.parent.iterdir()}
    command = ("reconstruct", scan, "-o", out, "--shape", 100)
    process = start(*command, preexec_fn=small_files, env={**os.environ, "NUMBA_CACHE_DIR": "/proc/nowhere"})
    _, err = process.communicate(timeout=400)
    assert process.returncode == 4, err
    assert "the disk is full" in err.splitlines()[-1]
    assert [line for line in err.splitlines() if line.startswith("raymend: ")] == err.splitlines()[-1:]
    assert "Traceback" not in err
    assert out.read_bytes() == b"old"
    assert {item.name for item in scan.parent.iterdir()} == before


def test_device_as_output_is_refused(scan: Path) -> None:
    process = start("reconstruct", scan, "-o", "/dev/full", "--shape", 16)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert err.count("\n") == 1
