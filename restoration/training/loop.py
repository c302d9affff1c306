"""The one training loop: it can be killed at any moment and goes on to the same weights, bit for bit on one thread."""

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from recon import checks
from recon.errors import CheckpointError, ConfigError, NumericalError
from recon.io.atomic import check_writable
from restoration.training.state import load_state, save_state

Report = Callable[[str], None]


class Pairs(Protocol):
    """What a network learns from: any number of pairs, the same for the same seed."""

    def draw(self, seed: int, batch: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return noisy and clean images (batch, 1, y, x) and their noise levels (batch,), all in HU."""


@dataclass(kw_only=True)
class Run:
    """A network in training, and how far it is.

    Args:
        model: whose weights are the running average of those of the steps once the run is over.
        step: number of finished steps.
        seconds: spent in steps, over all processes that took part.
        losses: (step, mean loss since the line before) of every progress line.
    """

    model: nn.Module
    step: int = 0
    seconds: float = 0.0
    losses: list[tuple[int, float]] = field(default_factory=list)

    def save(self, path: "str | os.PathLike[str]") -> None:
        """Write the weights of the model (safetensors), whole or not at all.

        Raises:
            ConfigError: a target that cannot be written.
            ResourceError: the disk is full.
        """
        save_state(path, dict(self.model.state_dict()), {})


def train(
    model: nn.Module,
    pairs: Pairs,
    *,
    steps: int,
    batch: int,
    rate: float,
    seed: int,
    unit: float = 500.0,
    average: float = 0.999,
    warm_up: int = 200,
    mixed: bool = True,
    checkpoint: "str | os.PathLike[str] | None" = None,
    every: float = 180.0,
    report: Report | None = None,
) -> Run:
    """Train a denoiser by Adam on batches drawn from pairs.

    The rate rises over the warm-up and falls along a cosine to a hundredth. The loss of a piece is the mean of
    `sqrt(r² + 0.001²) + r²`, r its error over its noise level plus 10 HU, so that all doses count alike.

    Args:
        model: called with images (batch, 1, y, x) and levels (batch,) in `unit`; it is changed in place.
        pairs: what to learn from.
        steps: of the optimiser, in all.
        batch: pairs per step.
        rate: highest step size of Adam.
        seed: what the pairs of each step are drawn from.
        unit: HU that the network sees as 1.
        average: share of the running average of weights that a step keeps, less while it is young.
        warm_up: steps until the highest rate.
        mixed: compute convolutions in bfloat16; weights stay in float32.
        checkpoint: file that everything is kept in; a run that finds one goes on from it.
        every: seconds between checkpoints.
        report: called with a line of progress, at powers of two and every 200 steps.

    Returns:
        The run, its model set to the averaged weights.

    Raises:
        ConfigError: a setting out of range.
        NumericalError: the loss or a gradient stopped being finite; the last checkpoint is older than that.
        CheckpointError: a checkpoint of another run, or a damaged one.

    Source:
        Kingma and Ba 2015, ICLR, algorithm 1; averaging: Polyak and Juditsky 1992, SIAM J. Control Optim. 30(4);
        cosine: Loshchilov and Hutter 2017, ICLR, eq. 5.
    """
    for name, value in (("steps", steps), ("batch", batch)):
        if value < 1:
            raise ConfigError(f"{name}: expected 1 or more, got {value}")
    checks.positive("rate", rate, unit="")
    checks.positive("unit", unit, unit="HU")
    if not 0 <= checks.finite("average", average) < 1:
        raise ConfigError(f"average: expected a share from 0 to below 1, got {average}")
    settings = {
        "steps": steps, "batch": batch, "rate": rate, "seed": seed, "unit": unit, "average": average,
        "warm_up": warm_up, "mixed": mixed,
    }  # fmt: skip
    trainer = _Trainer(model, pairs, settings)
    if checkpoint is not None and Path(check_writable(checkpoint)).exists():
        trainer.load(checkpoint)
    trainer.go(checkpoint, every, report)
    model.load_state_dict(trainer.averaged)
    return trainer.run


class _Trainer:
    """All that changes in training."""

    def __init__(self, model: nn.Module, pairs: Pairs, settings: dict[str, Any]) -> None:
        self.pairs, self.settings = pairs, settings
        self.model = model.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimiser = torch.optim.Adam(model.parameters(), lr=settings["rate"])
        self.averaged = {name: value.detach().clone() for name, value in model.state_dict().items()}
        self.run = Run(model=model)
        self.since: list[float] = []

    def go(self, checkpoint: "str | os.PathLike[str] | None", every: float, report: Report | None) -> None:
        kept = started = time.monotonic()
        before = self.run.seconds
        while self.run.step < self.settings["steps"]:
            self.step()
            now = time.monotonic()
            self.run.seconds = before + now - started
            if report is not None and self._due():
                report(self._line())
            if checkpoint is not None and now - kept > every:
                self.save(checkpoint)
                kept = now
        if checkpoint is not None:
            self.save(checkpoint)

    def step(self) -> None:
        """Draw a batch, go down its gradient, and average the weights."""
        s, step = self.settings, self.run.step
        noisy, clean, level = self.pairs.draw(s["seed"] + step, s["batch"])
        for group in self.optimiser.param_groups:
            group["lr"] = rate_at(step, s["steps"], s["rate"], s["warm_up"])
        with torch.autocast("cpu", torch.bfloat16, enabled=s["mixed"]):
            output = self.model((noisy / s["unit"]).to(memory_format=torch.channels_last), level / s["unit"])
        loss = relative_loss(output.float() * s["unit"], clean, level)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        size = nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        if not (math.isfinite(value := float(loss.detach())) and math.isfinite(float(size))):
            raise NumericalError(
                f"loss: expected a finite number, got {value} (gradient {float(size)}) at step {step}; lower the "
                "rate, or look at the pairs"
            )
        self.optimiser.step()
        self._average(step)
        self.since.append(value)
        self.run.step = step + 1

    def _average(self, step: int) -> None:
        share = min(self.settings["average"], (1 + step) / (10 + step))
        with torch.no_grad():
            for name, value in self.model.state_dict().items():
                self.averaged[name].lerp_(value, 1 - share)

    def _due(self) -> bool:
        n = self.run.step
        return n % 200 == 0 or n == self.settings["steps"] or (n < 200 and n & (n - 1) == 0)

    def _line(self) -> str:
        run, steps = self.run, self.settings["steps"]
        mean = sum(self.since) / len(self.since)
        self.since.clear()
        run.losses.append((run.step, mean))
        left = run.seconds / run.step * (steps - run.step)
        rate = self.optimiser.param_groups[0]["lr"]
        return f"step {run.step} of {steps}: loss {mean:.4f}, rate {rate:.2e}, {run.seconds:.0f} s, {left:.0f} s left"

    def save(self, path: "str | os.PathLike[str]") -> None:
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"average.{name}": value for name, value in self.averaged.items()}
        for k, state in self.optimiser.state_dict()["state"].items():
            tensors |= {f"adam.{k}.{name}": value for name, value in state.items()}
        about = {
            "settings": self.settings, "step": self.run.step, "seconds": self.run.seconds, "losses": self.run.losses,
            "since": self.since,
        }  # fmt: skip
        save_state(path, tensors, about)

    def load(self, path: "str | os.PathLike[str]") -> None:
        tensors, about = load_state(path)
        if about.get("settings") != self.settings:
            raise CheckpointError(
                f"{os.fspath(path)}: expected a checkpoint of {self.settings}, got one of {about.get('settings')}; "
                "name another file, or go on with the same settings"
            )
        try:
            self.model.load_state_dict(_part(tensors, "model."))
            self.averaged = _part(tensors, "average.")
            self.optimiser.load_state_dict(self.optimiser.state_dict() | {"state": _adam(_part(tensors, "adam."))})
        except (RuntimeError, KeyError, ValueError) as error:
            raise CheckpointError(
                f"{os.fspath(path)}: expected the state of this network, got another ({error}); name another file"
            ) from error
        self.run.step, self.run.seconds = about["step"], about["seconds"]
        self.run.losses, self.since = [(n, loss) for n, loss in about["losses"]], list(about["since"])


def relative_loss(output: Tensor, clean: Tensor, level: Tensor) -> Tensor:
    """Return the loss of images in HU whose noise has a level in HU; see `train`."""
    error = (output - clean) / (level.view(-1, 1, 1, 1) + 10)
    square = error.square()
    return ((square + 1e-6).sqrt() + square).mean()


def rate_at(step: int, steps: int, rate: float, warm_up: int) -> float:
    """Return the step size of a step: a rise, then half a cosine down to a hundredth."""
    fall = 0.01 + 0.99 * (1 + math.cos(math.pi * step / steps)) / 2
    return rate * fall * min(1.0, (step + 1) / max(1, warm_up))


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _adam(tensors: dict[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    states: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        number, key = name.split(".")
        states.setdefault(int(number), {})[key] = value
    return states
