"""Stacks and batches in plane: fast path against twin, and the same bits whatever runs them."""

import os
import subprocess
import sys

import pytest
import torch

from recon.kernels import cpu
from recon.kernels.cpu import in_plane, plane, stack, tables
from recon.kernels.cpu.simd import NAMES, instruction_set
from tests.contracts.operators import draw
from tests.kernels.in_plane_cases import CASES, agree, case

pytestmark = pytest.mark.usefixtures("poisoned")


@pytest.mark.parametrize("name", CASES)
def test_a_batch_of_seventeen_equals_the_twin(name: str) -> None:
    agree(case(name), batch=17)


@pytest.mark.parametrize("batch", [1, 15, 16, 32, 33])
def test_full_and_partial_registers(batch: int) -> None:
    agree(case("rows"), batch=batch)
    agree(case("fan, flat"), batch=batch)


def test_stack_equals_plane() -> None:
    made = tables.tabulate(case("larger than a tile"))
    images, values = (draw(3, *shape, dtype=torch.float32) for shape in (made.image, (len(made.maps), made.columns)))
    for found, one, source in ((stack.forward, plane.forward, images), (stack.adjoint, plane.adjoint, values)):
        together = found(made, source)
        for item, x in zip(together, source, strict=True):
            alone = torch.empty_like(item)
            one(made, x, alone)
            torch.testing.assert_close(item, alone, rtol=0, atol=1e-5 * float(alone.abs().max()))


RESULTS = """
import hashlib, numba, numpy as np, sys, torch
from recon.kernels import cpu
from tests.contracts.operators import draw
from tests.kernels.in_plane_cases import CASES, case
rays = {name: case(name) for name in CASES}
found = []
for threads in (3, 2, 1):
    numba.set_num_threads(threads)
    found = []
    for batch in (1, 17):
        for one in rays.values():
            found.append(cpu.forward(one, draw(batch, *one.grid_shape, dtype=torch.float32)).numpy().ravel())
            found.append(cpu.adjoint(one, draw(batch, *one.shape, dtype=torch.float32)).numpy().ravel())
    print(hashlib.sha256(np.concatenate(found).tobytes()).hexdigest())
np.save(sys.argv[1], np.concatenate(found))
"""


def results(path: str, **settings: str) -> list[str]:
    environment = {
        **os.environ, "NUMBA_NUM_THREADS": "3", "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **settings
    }  # fmt: skip
    done = subprocess.run([sys.executable, "-c", RESULTS, path], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_threads_change_no_bit_and_instructions_only_the_rounding(tmp_path) -> None:  # type: ignore[no-untyped-def]
    import numpy as np

    expected = None
    for name in NAMES[NAMES.index(instruction_set()) :]:
        path = str(tmp_path / f"{name}.npy")
        digests = results(path, RAYMEND_SIMD=name)
        assert len(digests) == 3
        assert len(set(digests)) == 1
        found = np.load(path)
        if expected is not None:
            assert abs(found - expected).max() <= 1e-5 * abs(expected).max()
        expected = found


def test_few_images_go_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack, "forward", None)
    rays = case("fan, flat")
    cpu.forward(rays, torch.zeros(in_plane.STACKED - 1, *rays.grid_shape))
    with pytest.raises(TypeError):
        cpu.forward(rays, torch.zeros(in_plane.STACKED, *rays.grid_shape))
