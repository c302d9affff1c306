"""What every test may use."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)  # test processes run side by side
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # read when Triton is loaded, by whichever test comes first


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of measured data: RAYMEND_TEST_DATA, or shared/data beside the checkout."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("RAYMEND_TEST_DATA", beside))
    if not folder.is_dir():
        pytest.skip("measured data is not part of the repository; set RAYMEND_TEST_DATA to its folder")
    return folder


@pytest.fixture
def poisoned() -> Iterator[None]:
    """Fill every tensor that torch would leave uninitialised with NaN, so that a gap in a result shows."""
    before = torch.are_deterministic_algorithms_enabled(), torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    yield
    torch.use_deterministic_algorithms(before[0])
    torch.utils.deterministic.fill_uninitialized_memory = before[1]
