"""A blocked reconstruction as its own process: killed, interrupted, and gone on with to the same bits."""

import json
import os
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
MEMORY = "640MiB"  # blocks of the least size: slabs of some 20 slices here


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    geometry = ConeBeam.circular(
        120, detector=Detector(shape=(150, 280), pitch=(2.0, 2.0)), source_to_axis=500, source_to_detector=900
    )
    values = torch.rand(geometry.shape, generator=torch.Generator().manual_seed(1))
    path = tmp_path_factory.mktemp("blocks") / "scan.h5"
    write_scan(path, Scan(geometry=geometry, values=values))
    return path


def start(scan: Path, output: Path, *options: object) -> "subprocess.Popen[str]":
    command = [
        sys.executable, "-m", "raymend", "reconstruct", scan, "-o", output, "--shape", "72,224,224", "--spacing", "1",
        "--memory", MEMORY, *options,
    ]  # fmt: skip
    return subprocess.Popen(
        [str(part) for part in command], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def finished(output: Path) -> int:
    journal = output.with_name(f"{output.name}.partial.json")
    return len(json.loads(journal.read_text())["slabs"]) if journal.exists() else 0


def stopped(process: "subprocess.Popen[str]", output: Path, number: int) -> tuple[int, str]:
    """Send a signal once a slab is finished, before all are."""
    give_up = time.monotonic() + 240
    while finished(output) < 1 and process.poll() is None and time.monotonic() < give_up:
        time.sleep(0.01)
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    assert finished(output) >= 1, err
    assert not output.exists()
    return process.returncode, err


@pytest.fixture(scope="module")
def whole(scan: Path) -> bytes:
    output = scan.parent / "whole.nii"
    process = start(scan, output)
    assert process.wait(timeout=240) == 0, process.communicate()[1]
    process.communicate()
    return output.read_bytes()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_run_that_was_stopped_goes_on_to_the_same_bits(scan: Path, whole: bytes, tmp_path: Path, number: int) -> None:
    output = tmp_path / "volume.nii"
    code, err = stopped(start(scan, output), output, number)
    if number == signal.SIGKILL:
        assert code == -signal.SIGKILL
    else:
        assert code == 143
        assert "slices are finished: run the same command again to go on" in err
    assert not output.exists()
    again = start(scan, output, "--memory", "2GiB")  # the blocks are those of the run that was stopped
    _, err = again.communicate(timeout=240)
    assert again.returncode == 0, err
    assert "going on with volume.nii.partial" in err
    assert output.read_bytes() == whole
    assert [path.name for path in tmp_path.iterdir()] == ["volume.nii"]


def test_a_run_with_other_settings_does_not_mix_in(scan: Path, tmp_path: Path) -> None:
    output = tmp_path / "volume.nii"
    stopped(start(scan, output), output, signal.SIGKILL)
    other = start(scan, output, "--window", "hann")
    _, err = other.communicate(timeout=120)
    assert other.returncode == 2
    assert "window: ram-lak there, hann here" in err


def test_a_scan_that_changes_during_a_run_ends_it_with_its_slabs_kept(scan: Path, tmp_path: Path) -> None:
    mine, output = tmp_path / "scan.h5", tmp_path / "volume.nii"
    mine.write_bytes(scan.read_bytes())
    process = start(mine, output)
    give_up = time.monotonic() + 240
    while finished(output) < 1 and process.poll() is None and time.monotonic() < give_up:
        time.sleep(0.01)
    os.utime(mine, ns=(1, 1))
    _, err = process.communicate(timeout=120)
    assert process.returncode == 3, err
    assert "it has changed since; put the same file back and run the same command again" in err
    assert finished(output) >= 1


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs the peak that Linux keeps of a process")
def test_the_process_stays_within_its_budget(scan: Path, tmp_path: Path) -> None:
    # Not getrusage: its peak begins with that of the process which started this one.
    code = (
        "import re, sys\n"
        "from raymend.__main__ import app\n"
        "try:\n    app(sys.argv[1:])\n"
        "finally:\n    print(int(re.search(r'VmHWM:\\s+(\\d+) kB', open('/proc/self/status').read())[1]) * 1024)\n"
    )
    options = ["--shape", "72,448,448", "--spacing", "0.5", "--memory", "1GiB", "--json"]

    def peak(method: str, *other: str) -> int:
        command = [sys.executable, "-c", code, "reconstruct", scan, "-o", tmp_path / f"{method}.nii", *options, *other]
        command += ["--method", method] + (["--iterations", "1"] if method != "fdk" else [])
        done = subprocess.run(
            [str(part) for part in command], cwd=ROOT, text=True, capture_output=True, timeout=400, check=False
        )
        assert done.returncode == 0, done.stderr
        return int(done.stdout.splitlines()[-1])

    for method in ("fdk", "cgls", "pwls"):
        peak(method, "--shape", "8,32,32")  # compiles the kernels, which takes memory of its own the first time
        assert peak(method) < 1.03 * (1 << 30)
