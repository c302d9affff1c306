import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from raymend.__main__ import app
from recon import ConeBeam, Detector, ParallelBeam, Scan, ScanGeometry
from recon.io import write_scan


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def raymend(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run the command line in this process."""

    def call(*arguments: object) -> Outcome:
        with pytest.raises(SystemExit) as ended:
            app([str(argument) for argument in arguments], prog_name="raymend")
        out, err = capsys.readouterr()
        code = ended.value.code
        return Outcome(int(code or 0), out, err)

    return call


def disc_scan(geometry: ScanGeometry) -> Scan:
    """A disc of 20 mm seen by any geometry with its axis in the middle of the detector."""
    _, u = geometry.detector.coordinates()
    shrink = 1.0 if geometry.parallel else geometry.source_to_axis / geometry.source_to_detector  # type: ignore[attr-defined]
    chords = 2 * (20.0**2 - (u * shrink) ** 2).clamp_min(0).sqrt() * 0.02
    return Scan(geometry=geometry, values=chords.float().expand(geometry.shape).clone())


GEOMETRIES: dict[str, ScanGeometry] = {
    "parallel": ParallelBeam.circular(60, detector=Detector(shape=(1, 64))),
    "fan": ConeBeam.circular(
        72, detector=Detector(shape=(1, 64), pitch=(2.0, 2.0)), source_to_axis=300, source_to_detector=600
    ),
    "cone": ConeBeam.circular(
        40, detector=Detector(shape=(8, 48), pitch=(2.0, 2.0)), source_to_axis=300, source_to_detector=600
    ),
    "helix": ConeBeam.helical(
        80, detector=Detector(shape=(8, 48), pitch=(2.0, 2.0)), source_to_axis=300, source_to_detector=600,
        pitch=6, turns=2,
    ),
}  # fmt: skip


@pytest.fixture(params=list(GEOMETRIES))
def any_scan(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    path = tmp_path / "scan.h5"
    write_scan(path, disc_scan(GEOMETRIES[request.param]))
    return request.param, path


@pytest.fixture
def scan_file(tmp_path: Path) -> Path:
    path = tmp_path / "scan.h5"
    write_scan(path, disc_scan(GEOMETRIES["fan"]))
    return path


@pytest.fixture
def counts_file(tmp_path: Path) -> Path:
    """Raw counts in 16 bits with a geometry beside them."""
    import numpy as np

    scan = disc_scan(GEOMETRIES["parallel"])
    counts = torch.round(1e4 * torch.exp(-scan.values)).numpy().astype(np.uint16)
    path = tmp_path / "counts.npz"
    np.savez(path, projections=counts, angles=np.array(scan.geometry.angles), pitch=1.0)  # type: ignore[attr-defined]
    return path
