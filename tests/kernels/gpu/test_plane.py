"""In-plane scans on the GPU: Triton kernels against the twin, in every proportion of pixels and bins."""

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="needs Triton: pip install 'raymend[triton]'")

from recon.kernels import reference
from recon.kernels.gpu import plane
from recon.kernels.lines import Lines
from tests.contracts.operators import draw
from tests.kernels.in_plane_cases import CASES, case

pytestmark = pytest.mark.usefixtures("poisoned")


def agree(lines: Lines, device: torch.device, batch: int) -> None:
    """Ask that kernels and twin give the same, relative to the largest sum of sizes, and that they are a pair."""
    volume, values = (
        draw(batch, *shape, seed=i, dtype=torch.float32) for i, shape in enumerate((lines.grid_shape, lines.shape))
    )
    results = {}
    for operation, x in (("forward", volume), ("adjoint", values)):
        twin = getattr(reference, operation)
        found = getattr(plane, operation)(lines, x.to(device)).cpu()
        expected = twin(lines, x.double())
        scale = float(twin(lines, x.double().abs()).max())
        assert found.dtype == torch.float32
        assert found.is_contiguous()
        torch.testing.assert_close(found.double(), expected, rtol=0, atol=5e-6 * max(scale, 1e-3))
        results[operation] = found.double()
    forward, adjoint = results["forward"], results["adjoint"]
    gap = abs(float((forward * values).sum() - (volume * adjoint).sum()))
    assert gap <= 1e-6 * float(forward.norm() * values.double().norm()) + 1e-9


@pytest.mark.parametrize("name", CASES)
def test_images_equal_twin(name: str, device: torch.device) -> None:
    agree(case(name), device, 1)


@pytest.mark.parametrize("name", CASES)
def test_stacks_equal_twin(name: str, device: torch.device) -> None:
    agree(case(name), device, 9)
