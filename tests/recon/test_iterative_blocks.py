"""Within a budget of memory the iterations work in blocks, and their images are those without one."""

from pathlib import Path

import pytest
import torch

from recon import (
    ConeBeam,
    Detector,
    Huber,
    ParallelBeam,
    Scan,
    Solution,
    VolumeGrid,
    cgls,
    fista_tv,
    memory,
    os_sart,
    pwls,
    sirt,
)

GRID = VolumeGrid(shape=(7, 16, 15), spacing=(1.0, 1.0, 1.0))
CONE = ConeBeam.circular(12, detector=Detector(shape=(10, 24)), source_to_axis=60, source_to_detector=80)
PARALLEL = ParallelBeam.circular(12, detector=Detector(shape=(7, 24)))


def scan_of(geometry: ConeBeam | ParallelBeam, *, weights: bool) -> Scan:
    draw = torch.Generator().manual_seed(1)
    values = torch.rand(geometry.shape, generator=draw)
    return Scan(
        geometry=geometry, values=values, weights=torch.rand(geometry.shape, generator=draw) if weights else None
    )


METHODS = {
    "cgls": lambda scan: cgls(scan, GRID, iterations=6),
    "sirt": lambda scan: sirt(scan, GRID, iterations=6, nonnegative=True),
    "os-sart": lambda scan: os_sart(scan, GRID, iterations=3, subsets=4),
    "pwls": lambda scan: pwls(scan, GRID, prior=Huber(strength=1.0), iterations=4, subsets=3),
    "fista-tv": lambda scan: fista_tv(scan, GRID, strength=0.01, iterations=4),
}


@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("geometry", [CONE, PARALLEL], ids=["cone", "parallel"])
@pytest.mark.parametrize("name", METHODS)
def test_an_iteration_in_blocks_gives_the_same_image(
    name: str, geometry: ConeBeam | ParallelBeam, weights: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    scan = scan_of(geometry, weights=weights)
    whole: Solution = METHODS[name](scan)
    monkeypatch.setattr(
        memory, "even_parts", lambda count, size, **_: [slice(i, min(i + 2, count)) for i in range(0, count, 2)]
    )
    monkeypatch.setattr(memory.Budget, "work", property(lambda budget: 1))
    with memory.limit("64GiB", scratch=tmp_path):
        blocks = METHODS[name](scan)
        again = METHODS[name](scan)
    torch.testing.assert_close(blocks.image, whole.image, rtol=0, atol=2e-5 * float(whole.image.abs().max()))
    assert torch.equal(blocks.image, again.image)
    assert blocks.history["objective"] == pytest.approx(whole.history["objective"], rel=1e-4)
