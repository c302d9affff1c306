"""The recipe of the shipped denoisers, at a size that learns nothing."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from restoration.denoisers.learned import Learned
from restoration.denoisers.noise_level import noise_level

Load = Callable[[str], ModuleType]


def test_the_recipe_makes_data_weights_and_scores_and_resumes(
    script: Load, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = script("train_denoisers")
    train.main(["--folder", str(tmp_path), "--quick"])
    assert "red-cnn: step 4 of 4" in capsys.readouterr().out
    first = {name: (tmp_path / f"{name}.safetensors").read_bytes() for name in train.RECIPES}
    for name in train.RECIPES:
        card = Learned(name, tmp_path).card
        assert Learned(name, tmp_path).missing() == ""
        assert card["training patients"] == {"kind": ["thorax", "abdomen", "head", "jaw"], "seeds": [100000, 100001]}
        assert set(card["scores"]["in domain"]) == {"head 902"}
    train.main(["--folder", str(tmp_path), "--quick", "--only", "red-cnn"])
    assert "step" not in capsys.readouterr().out
    assert (tmp_path / "red-cnn.safetensors").read_bytes() == first["red-cnn"]


def test_patches_are_the_same_for_a_seed_and_tell_their_noise(script: Load, tmp_path: Path) -> None:
    data = script("denoiser_data")
    plan = data.Plan(slices=1, images=2, size=64, views=40, raster=2.0, first=100_002)
    pairs = replace(plan.pairs, kinds=("head",))
    images, about = data.reconstructed(pairs[0], plan)
    np.save(tmp_path / "a.npy", images)
    (tmp_path / "a.json").write_text(json.dumps(about))
    patches = data.Patches(tmp_path, 24)
    noisy, clean, level = patches.draw(3, 40)
    again = patches.draw(3, 40)
    assert noisy.shape == clean.shape == (40, 1, 24, 24)
    assert all(torch.equal(a, b) for a, b in zip(again, (noisy, clean, level), strict=True))
    for (clean_image, noise), row in zip(torch.from_numpy(images).float(), about, strict=True):
        for scale, tolerance in ((0.35, 0.01), (1.75, 0.01), (3.0, 0.05)):  # 0.003, 0.004 and 0.027 were measured
            told = noise_level(clean_image + scale * noise)
            assert data._level(scale, row["levels"]) == pytest.approx(told, rel=tolerance)


def test_nobody_is_trained_and_tested_on(script: Load) -> None:
    first, last = script("denoiser_data").Plan().pairs.patients["seeds"]
    assert not set(range(first, last + 1)) & set(script("denoiser_scores").HELD_OUT)
