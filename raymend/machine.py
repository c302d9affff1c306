"""What this machine offers: processors, vector instructions, packages and where they come from."""

import importlib
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("recon", "phantoms", "restoration", "raymend")
LIBRARIES = (
    "torch", "numpy", "scipy", "numba", "h5py", "safetensors", "tifffile", "typer", "rich", "pydantic", "jinja2",
    "matplotlib", "pydicom", "nibabel", "SimpleITK", "zarr", "scikit-image", "PyWavelets", "triton",
)  # fmt: skip
_FEATURES = ("sse4_2", "avx", "avx2", "fma", "avx512f", "asimd", "sve")


def processors() -> int:
    """Return the number of processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def vector_features() -> list[str]:
    """Return the vector instructions of the processor, as far as the system names them."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return []
    words = {word for line in text.splitlines() if line.startswith(("flags", "Features")) for word in line.split()}
    return [name for name in _FEATURES if name in words]


def versions() -> dict[str, str | None]:
    """Return the version of Python and of every library raymend can use; None where one is not installed."""
    return {"python": platform.python_version(), **{name: _version(name) for name in LIBRARIES}}


def origins() -> dict[str, str]:
    """Return the folder that each of raymend's packages was imported from."""
    return {name: str(Path(str(importlib.import_module(name).__file__)).parent) for name in PACKAGES}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
