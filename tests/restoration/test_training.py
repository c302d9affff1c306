"""The training loop, and the files it goes on from."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from recon.errors import CheckpointError, ConfigError, NumericalError
from recon.random import generator
from restoration.networks import NETWORKS, make
from restoration.training import train
from restoration.training.loop import rate_at, relative_loss
from restoration.training.state import load_state, save_state

SMALL: dict[str, dict[str, Any]] = {"UNet": {"widths": [4, 8]}, "REDCNN": {"width": 4}}
SETTINGS: dict[str, Any] = {"batch": 2, "rate": 3e-3, "seed": 5, "warm_up": 4}


class Squares:
    """Bright squares in white noise."""

    def draw(self, seed: int, batch: int) -> tuple[Tensor, Tensor, Tensor]:
        rng = generator(seed)
        clean = torch.zeros(batch, 1, 24, 24)
        clean[..., 6:18, 6:18] = 300.0
        return clean + 50 * torch.randn(clean.shape, generator=rng), clean, torch.full((batch,), 50.0)


class Killed(Exception):
    """Stands for what ends a process."""


class Killing(Squares):
    """Pairs that end the run when a step is asked for."""

    def __init__(self, last: int) -> None:
        self.last = last

    def draw(self, seed: int, batch: int) -> tuple[Tensor, Tensor, Tensor]:
        if seed == self.last:
            raise Killed
        return super().draw(seed, batch)


def network(name: str) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make(name, SMALL[name])


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("mixed", [False, True])
def test_a_killed_run_goes_on_to_the_same_bits(name: str, mixed: bool, tmp_path: Path) -> None:
    whole = train(network(name), Squares(), steps=9, mixed=mixed, **SETTINGS)
    kept = tmp_path / "run.checkpoint"
    killing = Killing(SETTINGS["seed"] + 6)
    with pytest.raises(Killed):
        train(network(name), killing, steps=9, mixed=mixed, checkpoint=kept, every=0.0, **SETTINGS)
    assert load_state(kept)[1]["step"] == 6
    on = train(network(name), Squares(), steps=9, mixed=mixed, checkpoint=kept, **SETTINGS)
    assert on.step == whole.step == 9
    for key, value in whole.model.state_dict().items():
        assert torch.equal(on.model.state_dict()[key], value), key


@pytest.mark.parametrize("name", NETWORKS)
def test_training_removes_noise(name: str) -> None:
    noisy, clean, level = Squares().draw(10_000, 4)
    run = train(network(name), Squares(), steps=150, average=0.9, **{**SETTINGS, "rate": 1e-2})
    with torch.inference_mode():
        error = (run.model(noisy / 500, level / 500) * 500 - clean).square().mean().sqrt()
    assert float(error) < 45  # of 50 HU; 32 and 41 were measured


def test_a_finished_run_takes_no_more_steps(tmp_path: Path) -> None:
    kept = tmp_path / "run.checkpoint"
    first = train(network("UNet"), Squares(), steps=3, checkpoint=kept, **SETTINGS)
    again = train(network("UNet"), Killing(SETTINGS["seed"]), steps=3, checkpoint=kept, **SETTINGS)
    assert again.losses == first.losses
    for key, value in first.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[key], value)


def test_global_random_numbers_are_left_alone() -> None:
    before = torch.random.get_rng_state()
    train(network("UNet"), Squares(), steps=2, **SETTINGS)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_what_is_not_finite_stops_a_run() -> None:
    class Broken(Squares):
        def draw(self, seed: int, batch: int) -> tuple[Tensor, Tensor, Tensor]:
            noisy, clean, level = super().draw(seed, batch)
            return noisy, clean * (torch.nan if seed == SETTINGS["seed"] + 2 else 1), level

    with pytest.raises(NumericalError, match="at step 2; lower the rate"):
        train(network("UNet"), Broken(), steps=4, **SETTINGS)


@pytest.mark.parametrize(
    ("change", "words"),
    [({"steps": 0}, "steps"), ({"batch": 0}, "batch"), ({"rate": 0.0}, "rate"), ({"average": 1.0}, "average")],
)
def test_settings_out_of_range_are_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        train(network("UNet"), Squares(), **{"steps": 2, **SETTINGS, **change})


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    kept = tmp_path / "run.checkpoint"
    train(network("UNet"), Squares(), steps=2, checkpoint=kept, **SETTINGS)
    with pytest.raises(CheckpointError, match=r"'steps': 3.*got one of.*'steps': 2"):
        train(network("UNet"), Squares(), steps=3, checkpoint=kept, **SETTINGS)
    with pytest.raises(CheckpointError, match="state of this network"):
        train(network("REDCNN"), Squares(), steps=2, checkpoint=kept, **SETTINGS)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    kept = tmp_path / "run.safetensors"
    save_state(kept, {"a": torch.arange(64.0)}, {"step": 1})
    whole = bytearray(kept.read_bytes())
    whole[-5] ^= 1
    kept.write_bytes(whole)
    with pytest.raises(CheckpointError, match="checksum"):
        load_state(kept)
    kept.write_bytes(whole[:-40])
    with pytest.raises(CheckpointError, match="expected a whole file"):
        load_state(kept)
    with pytest.raises(CheckpointError, match="expected a whole file"):
        load_state(tmp_path / "none.safetensors")


def test_progress_is_told_and_kept(tmp_path: Path) -> None:
    lines: list[str] = []
    run = train(network("UNet"), Squares(), steps=5, report=lines.append, **SETTINGS)
    assert [line.split(":")[0] for line in lines] == [f"step {n} of 5" for n in (1, 2, 4, 5)]
    assert [n for n, _ in run.losses] == [1, 2, 4, 5]
    assert all(word in lines[-1] for word in ("loss", "rate", "s left"))
    run.save(tmp_path / "run.safetensors")
    tensors, _ = load_state(tmp_path / "run.safetensors")
    assert tensors.keys() == run.model.state_dict().keys()


def test_the_rate_rises_and_falls() -> None:
    rates = [rate_at(step, 1000, 2.0, 100) for step in range(1000)]
    assert rates[0] == pytest.approx(0.02, rel=1e-3)
    assert max(rates) == pytest.approx(rates[99], rel=1e-3)
    assert rates[-1] == pytest.approx(0.02, rel=1e-2)


def test_the_loss_counts_all_doses_alike() -> None:
    error = torch.randn(2, 1, 8, 8, generator=generator(0))
    low, high = torch.tensor([10.0, 10.0]), torch.tensor([90.0, 90.0])
    assert float(relative_loss(error, 0 * error, low)) == pytest.approx(
        float(relative_loss(5 * error, 0 * error, high)), rel=1e-6
    )
