"""Triton kernels run on a GPU where there is one, else in its interpreter (TRITON_INTERPRET, tests/conftest.py)."""

import pytest
import torch


@pytest.fixture(scope="session")
def device() -> torch.device:
    """Where the kernels under test run."""
    pytest.importorskip("triton", reason="needs Triton: pip install 'raymend[triton]'")
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
