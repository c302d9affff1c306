import errno
import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from recon.errors import CheckpointError, ConfigError, CTError, Status
from recon.io.checkpoint import load_checkpoint, save_checkpoint
from recon.iterative import CGLS, FISTA, OSSART, SIRT, LeastSquares, OSMomentum, solve
from recon.operators import Diagonal
from recon.random import generator

SHAPE = (2, 3, 4)
SCALES = 0.5 + torch.rand(SHAPE, generator=generator(0))
DATA = torch.rand(SHAPE, generator=generator(1))
TERMS = [LeastSquares(Diagonal(SCALES), DATA)]

SOLVERS = [
    CGLS(),
    FISTA(),
    FISTA(length=3.0),
    OSMomentum(subsets=1),
    OSSART(subsets=1, decay=0.9),
    SIRT(relaxation=0.3),
]


@pytest.fixture
def stored(tmp_path):
    path = tmp_path / "run.checkpoint"
    save_checkpoint(path, solve(SIRT(relaxation=0.3), TERMS, iterations=3))
    return path


@pytest.mark.parametrize("solver", SOLVERS, ids=repr)
def test_a_stored_run_goes_on_bit_for_bit(solver, tmp_path):
    part = solve(solver, TERMS, iterations=3)
    save_checkpoint(tmp_path / "a", part)
    back = load_checkpoint(tmp_path / "a")
    assert (back.solver, back.history, back.status, back.detail) == (solver, part.history, part.status, part.detail)
    assert torch.equal(back.image, part.image)
    whole = solve(solver, TERMS, iterations=8)
    again = solve(solver, TERMS, iterations=8, resume=back)
    assert torch.equal(again.image, whole.image)
    assert again.history == whole.history


def test_a_callback_can_store_every_iteration(tmp_path):
    path = tmp_path / "run"

    def keep(so_far):
        save_checkpoint(path, so_far)
        if so_far.iterations == 2:
            raise KeyboardInterrupt

    found = solve(CGLS(), TERMS, iterations=9, callbacks=[keep])
    assert found.status is Status.STOPPED
    assert load_checkpoint(path).iterations == 2


def test_the_file_holds_plain_tensors_and_json(stored):
    with safe_open(stored, framework="pt") as file:
        assert set(file.keys()) == {"image", "gradient"}
        about = json.loads(file.metadata()["about"])
    assert about["solver"] == "SIRT"
    assert about["settings"] == {"relaxation": 0.3}


def test_every_cut_is_noticed(stored):
    whole = stored.read_bytes()
    for length in range(0, len(whole), 64):
        stored.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="run"):
            load_checkpoint(stored)


def test_every_flipped_bit_is_noticed(stored):
    whole = stored.read_bytes()
    for at in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << (at % 8)
        stored.write_bytes(bytes(damaged))
        with pytest.raises(CheckpointError):
            load_checkpoint(stored)


@pytest.mark.parametrize(
    "content", [b"", b"not a checkpoint", b"\xff" * 64, b"\x10\x00\x00\x00\x00\x00\x00\x00" + b"[" * 16]
)
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "other"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="other"):
        load_checkpoint(path)


def test_other_tensors_missing_files_and_folders_are_refused(tmp_path):
    save_file({"image": DATA}, tmp_path / "weights")
    for name in ("weights", "nothing", "."):
        with pytest.raises(CheckpointError):
            load_checkpoint(tmp_path / name)


def test_other_data_are_refused(stored):
    other = [LeastSquares(Diagonal(SCALES), DATA + 1)]
    with pytest.raises(CheckpointError, match="same data"):
        solve(SIRT(relaxation=0.3), other, iterations=5, resume=load_checkpoint(stored))
    with pytest.raises(CheckpointError, match="relaxation"):
        solve(SIRT(), TERMS, iterations=5, resume=load_checkpoint(stored))


def test_a_write_that_fails_leaves_the_old_file(stored, monkeypatch):
    before = stored.read_bytes()

    def full(*_args, **_settings):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("recon.io.checkpoint._write", full)
    with pytest.raises(CTError):
        save_checkpoint(stored, solve(SIRT(), TERMS, iterations=1))
    assert stored.read_bytes() == before
    assert [path.name for path in stored.parent.iterdir()] == ["run.checkpoint"]


def test_a_folder_is_no_place_to_write(tmp_path):
    with pytest.raises(ConfigError):
        save_checkpoint(tmp_path, solve(SIRT(), TERMS, iterations=1))
