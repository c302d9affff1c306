"""Train the denoisers that raymend ships, from making the data to the scores: the whole recipe.

    python benchmarks/train_denoisers.py --folder DIR                  data, both networks, scores, weights
    python benchmarks/train_denoisers.py --folder DIR --only unet       one network: two processes share the work
    python benchmarks/train_denoisers.py --folder DIR --quick           all of it at a size that learns nothing

Whatever ends it, the same command goes on from where it was.
"""

import argparse
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import denoiser_data as data
import torch
from denoiser_scores import scores
from torch import nn

from restoration.denoisers.learned import Learned
from restoration.networks import make
from restoration.training import Run, train
from restoration.weights.store import SHIPPED, save_weights

SEED = 20261121
UNIT = 500.0  # HU that a network sees as 1


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A network and how it is trained."""

    architecture: str
    settings: dict[str, Any]
    patch: int
    batch: int
    rate: float
    steps: int


RECIPES = {
    "unet": Recipe(
        architecture="UNet", settings={"widths": [48, 96, 128, 192]}, patch=96, batch=6, rate=6e-4, steps=11_000
    ),
    "red-cnn": Recipe(architecture="REDCNN", settings={"width": 48}, patch=96, batch=4, rate=3e-4, steps=10_000),
}
QUICK = {
    "unet": Recipe(architecture="UNet", settings={"widths": [4, 8]}, patch=32, batch=2, rate=1e-3, steps=4),
    "red-cnn": Recipe(architecture="REDCNN", settings={"width": 4}, patch=32, batch=2, rate=1e-3, steps=4),
}
SMALL = data.Plan(slices=2, images=1, size=64, views=40, raster=3.0)


def initial(recipe: Recipe) -> nn.Module:
    """Return a network with the weights that its training starts from."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        return make(recipe.architecture, recipe.settings)


def fit(name: str, recipe: Recipe, folder: Path) -> Run:
    """Train a network, or go on with it."""
    pairs = data.Patches(folder / "data", recipe.patch)
    return train(
        initial(recipe), pairs, steps=recipe.steps, batch=recipe.batch, rate=recipe.rate, seed=SEED,
        unit=UNIT, checkpoint=folder / f"{name}.checkpoint", report=lambda line: print(f"{name}: {line}", flush=True),
    )  # fmt: skip


def ship(name: str, recipe: Recipe, run: Run, plan: data.Plan, folder: Path, target: Path, quick: bool) -> None:
    """Write the weights with their card, score what was written, and write the card again with the scores."""
    path = target / f"{name}.safetensors"
    card = {
        "name": name,
        "architecture": recipe.architecture,
        "settings": recipe.settings,
        "units": "HU",
        "unit": UNIT,
        "training patients": plan.pairs.patients,
        "recipe": {
            "command": f"python benchmarks/train_denoisers.py --folder DIR --only {name}",
            "data": asdict(plan) | {"photons": plan.pairs.photons},
            "training": {
                key: value for key, value in asdict(recipe).items() if key not in ("architecture", "settings")
            },
            "loss": "sqrt(r² + 0.001²) + r², r the error over the noise level plus 10 HU",
            "optimiser": "Adam, cosine rate, 200 steps of warm-up, gradients clipped at 1, weights averaged by 0.999",
            "precision": "bfloat16 convolutions, float32 weights; stored as float16",
            "losses": run.losses[:: max(1, len(run.losses) // 20)] + run.losses[-1:],
            "seconds": round(run.seconds),
            "machine": f"{os.cpu_count()} CPU cores, of which it had one",
            "torch": torch.__version__,
            "date": datetime.now(UTC).date().isoformat(),
        },
        "seed": SEED,
    }
    weights = {key: value.half() for key, value in run.model.state_dict().items()}
    save_weights(path, weights, card)
    save_weights(path, weights, card | {"scores": scores(Learned(name, target), folder, quick)})


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where data and checkpoints go")
    parser.add_argument("--weights", type=Path, help="where weights go; those that raymend ships, unless --quick")
    parser.add_argument("--only", choices=tuple(RECIPES), help="one network")
    parser.add_argument("--quick", action="store_true", help="at a size that learns nothing")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    plan, recipes = (SMALL, QUICK) if options.quick else (data.Plan(), RECIPES)
    target = options.weights or (options.folder if options.quick else SHIPPED)
    (options.folder / "data").mkdir(parents=True, exist_ok=True)
    data.make(options.folder / "data", plan)
    for name, recipe in recipes.items():
        if options.only in (None, name):
            run = fit(name, recipe, options.folder)
            ship(name, recipe, run, plan, options.folder, target, options.quick)


if __name__ == "__main__":
    main()
