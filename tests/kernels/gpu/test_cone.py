"""The cone kernels against the twin, at every edge, wide as the interpreter likes them and narrow as GPUs do."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from recon.geometry import ConeBeam, Detector, ScanGeometry
from recon.grid import VolumeGrid
from recon.kernels import reference
from recon.kernels.lines import Lines, lines
from tests.contracts.operators import draw
from tests.kernels.test_cone import CASES, NEAR, refused, scan, table

pytest.importorskip("triton", reason="needs Triton: pip install 'raymend[triton]'")

from recon.kernels.gpu import cone, cone_tables

pytestmark = pytest.mark.usefixtures("poisoned")


def pair(rays: Lines, batch: int = 1) -> tuple[Tensor, Tensor]:
    volume = draw(batch, *rays.grid_shape, dtype=torch.float32)
    return volume, draw(batch, *rays.shape, seed=1, dtype=torch.float32)


def check(rays: Lines, device: torch.device, batch: int = 1) -> tuple[Tensor, Tensor]:
    """Compare with the twin, and forward with adjoint; return both results.

    Measured over all cases: 6e-7 of the largest value at most, and 2e-8 of |Ax||y|.
    """
    x, y = pair(rays, batch)
    assert cone.applies(rays, x.to(device))
    projected, spread = cone.forward(rays, x.to(device)).cpu(), cone.adjoint(rays, y.to(device)).cpu()
    for found, expected in (
        (projected, reference.forward(rays, x.double())),
        (spread, reference.adjoint(rays, y.double())),
    ):
        atol = 5e-6 * max(float(expected.abs().max()), 1e-3)
        torch.testing.assert_close(found.double(), expected, rtol=0, atol=atol)
    gap = abs(float((projected.double() * y).sum() - (spread.double() * x).sum()))
    assert gap <= 1e-6 * float(projected.double().norm() * y.double().norm()) + 1e-12
    return projected, spread


@pytest.mark.parametrize("case", CASES)
def test_the_kernels_equal_the_twin_and_are_a_pair(case: str, device: torch.device) -> None:
    check(table(case), device)


SMALL = VolumeGrid(shape=(4, 3, 6), spacing=(2.1, 3.3, 2.9), centre=(0.4, -0.7, 1.1))
FLAT = Detector(shape=(5, 7), pitch=(4.0, 5.1), offset=(0.7, -1.3))
TALL = replace(SMALL, shape=(65, 1, 2))

NARROW: dict[str, tuple[ScanGeometry, VolumeGrid]] = {
    "flat": (scan(FLAT, 2), SMALL),
    "arc": (scan(replace(FLAT, curve="arc"), 2), SMALL),
    "four rows to a voxel": (scan(replace(FLAT, pitch=(2.2, 5.1)), 2), SMALL),
    "many rows to a voxel": (scan(replace(FLAT, shape=(25, 5), pitch=(0.6, 8.0)), 2), SMALL),
    "two blocks of rows": (scan(replace(FLAT, shape=(39, 3), pitch=(0.9, 9.0)), 2), SMALL),
    "slices that no view sees": (ConeBeam.helical(4, detector=FLAT, turns=1.3, pitch=80.0, **NEAR), TALL),
}


@pytest.mark.parametrize("case", NARROW)
def test_the_narrow_kernels_equal_the_twin(case: str, device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cone, "INTERPRETED", False)
    check(lines(*NARROW[case]), device)


def test_windows_hold_the_rows_that_reach_a_voxel() -> None:
    found = {case: cone_tables.tables(table(case), torch.device("cpu")).window for case in CASES}
    assert found["rows of 5 voxels"] == found["rows of 2.4 voxels"] == 2
    assert found["one slice"] == 3
    assert found["flat"] == found["rows of 0.7 voxels"] == 4
    assert found["rows of 0.1 voxels"] == 21


def test_a_voxel_near_the_source_sees_many_columns(device: torch.device) -> None:
    detector = Detector(shape=(3, 21), pitch=(0.6, 1.2))
    near = ConeBeam.circular(3, detector=detector, start=0.8, source_to_axis=6.0, source_to_detector=12.0)
    check(lines(near, VolumeGrid(shape=(2, 5, 5))), device)


def test_images_of_a_batch_keep_apart_and_results_repeat(device: torch.device) -> None:
    rays = lines(scan(FLAT, views=2), SMALL)
    x, y = pair(rays, batch=2)
    once, back = check(rays, device, batch=2)
    assert torch.equal(once[1], cone.forward(rays, x[1:].to(device)).cpu()[0])
    assert torch.equal(back[1], cone.adjoint(rays, y.mT.contiguous().mT[1:].to(device)).cpu()[0])
    assert cone.forward(rays, x[:0].to(device)).shape == (0, *rays.shape)
    assert cone.adjoint(rays, y[:0].to(device)).shape == (0, *rays.grid_shape)


def test_views_in_parts_give_the_same_projections(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    rays = lines(scan(FLAT, views=5), SMALL)
    x, _ = pair(rays)
    whole = cone.forward(rays, x.to(device))
    monkeypatch.setattr(cone, "_COPY", 2 * 4 * rays.rows * rays.shape[2])
    assert torch.equal(cone.forward(rays, x.to(device)), whole)
    check(rays, device)


@pytest.mark.parametrize("case", refused())
def test_they_decline_other_rays(case: str) -> None:
    assert not cone.applies(refused()[case], torch.zeros(1))


def test_they_decline_float64() -> None:
    assert not cone.applies(table("flat"), torch.zeros(1, dtype=torch.float64))


def test_a_long_helix_is_as_precise_as_a_short_one(device: torch.device) -> None:
    """Heights of 300 voxels: 3e-7 measured."""
    detector = Detector(shape=(9, 5), pitch=(4.0, 9.0))
    helix = ConeBeam.helical(6, detector=detector, turns=3.0, pitch=200.0, **NEAR)
    check(lines(helix, VolumeGrid(shape=(301, 3, 4), spacing=(2.0, 9.0, 8.0))), device)
