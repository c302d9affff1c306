"""`raymend doctor`: versions, devices, caches, and a self test of a few seconds."""

import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import typer

from raymend.cli import common
from raymend.cli.common import Debug, Json
from raymend.cli.guard import NUMERICAL
from raymend.cli.progress import announce_compilation

_ADJOINT_MOST = 1e-12
_SINGLE_MOST = 1e-6
_DISC_MOST = 0.003  # share of the disc's attenuation


def doctor(json: Json = False, debug: Debug = False) -> None:
    """Say what is installed and where, and test that this machine computes correctly."""
    announce_compilation(quiet=json)
    content = {**_machine(), "tests": _tests()}
    passed = all(test["ok"] for test in content["tests"])
    if json:
        common.print_json({**content, "ok": passed})
    else:
        _print(content)
        print("\nall tests passed" if passed else "\nsome tests FAILED: please report the lines above")
    if not passed:
        raise typer.Exit(NUMERICAL)


def _machine() -> dict[str, Any]:
    from raymend import machine
    from recon.checks import available_memory

    return {
        "versions": machine.versions(),
        "packages": machine.origins(),
        "torch": _torch(),
        "GPUs": _gpus(),
        "numba": _numba(),
        "processors": machine.processors(),
        "vector instructions": machine.vector_features(),
        "available memory GiB": round(available_memory() / 2**30, 1),
    }


def _torch() -> dict[str, Any]:
    import torch

    return {
        "version": torch.__version__,
        "cuda build": torch.version.cuda,
        "threads": torch.get_num_threads(),
    }


def _gpus() -> list[str]:
    import torch

    from recon.devices import free_memory
    from recon.sizes import in_words

    devices = [torch.device("cuda", number) for number in range(torch.cuda.device_count())]
    return [f"{d} {torch.cuda.get_device_name(d)}, {in_words(free_memory(d))} free" for d in devices]


def _numba() -> dict[str, Any]:
    import numba

    folder = _cache_folder()
    return {
        "version": numba.__version__,
        "threads": numba.get_num_threads(),
        "kernels compiled for": _instruction_set(),
        "cache folder": folder,
        "cache writable": os.access(folder, os.W_OK) if folder else False,
    }


def _instruction_set() -> str:
    """Return the form of the explicit SIMD kernels, or why there is none: the tests below fail then, too."""
    from recon.errors import CTError
    from recon.kernels.cpu import simd

    try:
        return simd.instruction_set()
    except CTError as reason:
        return f"none: {reason}"


def _cache_folder() -> str:
    """Return where compiled kernels are kept: the setting, or the folder numba chose for a kernel."""
    import numba

    from recon.kernels.cpu import joseph

    chosen = getattr(numba.config, "CACHE_DIR", "")
    kernel = joseph.forward_projection
    found = getattr(getattr(kernel, "stats", None), "cache_path", None)
    return str(found or chosen or "")


def _tests() -> list[dict[str, Any]]:
    import torch

    checks = [
        ("adjoint error of a projector", _adjoint_error, _ADJOINT_MOST),
        ("error of a disc by FBP", _disc_error, _DISC_MOST),
        ("files: a scan written and read back", _round_trip, 0.0),
    ]
    for number in range(torch.cuda.device_count()):
        device = f"cuda:{number}"
        single = partial(_adjoint_error, device, "float32")
        checks.append((f"adjoint error on {device}", partial(_adjoint_error, device), _ADJOINT_MOST))
        checks.append((f"adjoint error on {device} in single precision", single, _SINGLE_MOST))
        checks.append((f"error of a disc by FBP on {device}", partial(_disc_error, device), _DISC_MOST))
    return [_timed(name, test, most) for name, test, most in checks]


def _timed(name: str, test: Callable[[], float], most: float) -> dict[str, Any]:
    begun = time.perf_counter()
    try:
        value, trouble = test(), ""
    except Exception as problem:  # a broken installation can fail in any way; the doctor reports it
        value, trouble = float("nan"), f"{type(problem).__name__}: {problem}"
    seconds = round(time.perf_counter() - begun, 2)
    return {"name": name, "value": value, "most": most, "ok": value <= most, "seconds": seconds, "problem": trouble}


def _adjoint_error(device: str = "cpu", dtype: str = "float64") -> float:
    import torch

    from recon import ConeBeam, Detector, Projector, VolumeGrid

    geometry = ConeBeam.circular(
        7, detector=Detector(shape=(5, 19), pitch=(2.0, 2.0)), source_to_axis=100, source_to_detector=150
    )
    return Projector(grid=VolumeGrid(shape=(6, 11, 13)), geometry=geometry).adjoint_error(
        device=device, dtype=getattr(torch, dtype)
    )


def _disc_error(device: str = "cpu") -> float:
    """Return the relative error in the middle of a disc whose line integrals are known."""
    import math

    import torch

    from recon import Detector, ParallelBeam, Scan, VolumeGrid, fbp

    geometry = ParallelBeam.circular(180, detector=Detector(shape=(1, 128)))
    _, u = geometry.detector.coordinates()
    chords = 2 * (40.0**2 - u**2).clamp_min(0).sqrt() * 0.02
    scan = Scan(geometry=geometry, values=chords.float().expand(geometry.shape).contiguous())
    image = fbp(scan.to(device), VolumeGrid(shape=(1, 16, 16)))
    return math.fabs(float(image.mean()) / 0.02 - 1) if bool(torch.isfinite(image).all()) else math.nan


def _round_trip() -> float:
    """Return the largest difference after writing a scan to a temporary file and reading it."""
    import tempfile

    import torch

    from recon import Detector, ParallelBeam, Scan
    from recon.io import read_scan, write_scan

    geometry = ParallelBeam.circular(4, detector=Detector(shape=(1, 8)))
    scan = Scan(geometry=geometry, values=torch.linspace(0, 1, 32).reshape(geometry.shape))
    with tempfile.TemporaryDirectory() as folder:
        write_scan(Path(folder) / "scan.h5", scan)
        back = read_scan(Path(folder) / "scan.h5")
    return float((back.values - scan.values).abs().max()) if back.geometry == geometry else float("nan")


def _print(content: dict[str, Any]) -> None:
    for title, part in content.items():
        if title == "tests":
            continue
        if isinstance(part, dict):
            print(f"{title}:")
            width = max(len(key) for key in part)
            print("\n".join(f"  {key:<{width}}  {_text(value)}" for key, value in part.items()))
        else:
            print(f"{title}: {_text(part)}")
    print("tests:")
    for test in content["tests"]:
        verdict = "OK  " if test["ok"] else "FAIL"
        print(f"  {verdict} {test['name']}: {test['value']:.2g}, at most {test['most']:g}, {test['seconds']} s")
        if test["problem"]:
            print(f"       {test['problem']}")


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "not installed" if value is None else str(value)
