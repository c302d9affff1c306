"""Where these tests run: on a GPU; those that say so also in Triton's interpreter, which proves what they do.

`device` is requested by every test, directly or through a mark of `tests.gpu.on_device`.
"""

import pytest
import torch

from recon import kernels
from tests.gpu.on_device import interpreted


@pytest.fixture
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """Return the GPU, or the CPU with Triton kernels in the place of its own."""
    if getattr(request, "param", "cuda") == "cuda":
        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA GPU")
        return torch.device("cuda", torch.cuda.current_device())
    pytest.importorskip("triton", reason="needs Triton: pip install 'raymend[triton]'")
    if torch.cuda.is_available():
        pytest.skip("runs on the GPU itself")
    monkeypatch.setattr(kernels, "find", interpreted)
    return torch.device("cpu")
