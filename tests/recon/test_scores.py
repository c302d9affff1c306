"""Scores: what they print, store and refuse."""

import json
import math

import pytest
import torch

from recon.errors import ConfigError, FormatError, NumericalError, ShapeError
from recon.metrics import FIDELITY, Conditions, Metric, Protocol, Score, evaluate, psnr, rmse, ssim
from recon.random import generator


def image(seed=0, shape=(1, 64, 60)):
    return 400 * torch.rand(shape, generator=generator(seed), dtype=torch.float64) - 160


SOFT = Protocol(reference="phantom", window=(-160.0, 240.0))


def scores(**settings):
    body = torch.zeros(64, 60, dtype=torch.bool)
    body[10:50, 10:50] = True
    settings = {
        "reference": "noise-free reconstruction",
        "window": "abdomen",
        "mask": body,
        "region": "body",
        **settings,
    }
    return evaluate(image(), image(1), Protocol(**settings), metrics=tuple(n for n in FIDELITY if n != "fsim"))


def test_a_score_prints_with_all_that_it_rests_on():
    given = {"metric": "ssim", "label": "SSIM", "unit": "", "better": "higher", "note": "11x11 Gaussian, per slice"}
    score = Score(value=0.9712, conditions=SOFT.conditions, **given)
    assert str(score) == "SSIM 0.9712 (window -160..240 HU, 11x11 Gaussian, per slice, reference: phantom)"
    assert [str(s).split(" ", 2)[2] for s in scores()[:2]] == [
        "HU (window -150..250 HU, body of 1600 voxels, reference: noise-free reconstruction)",
        "dB (window -150..250 HU, body of 1600 voxels, reference: noise-free reconstruction)",
    ]
    cube = FIDELITY["ssim-uniform"].score(
        image(), image(1), Protocol(reference="phantom", data_range=2000.0, dimensions=3, unit="HU")
    )
    assert cube.protocol == "no window, data range 2000 HU, 7x7x7 uniform, reference: phantom"


@pytest.mark.parametrize("index", range(len(FIDELITY) - 1))
@pytest.mark.parametrize("settings", [{}, {"window": None, "data_range": 1.5, "dimensions": 3, "unit": "1/mm"}])
def test_a_score_survives_json(index, settings):
    score = scores(**settings)[index]
    text = json.dumps(score.as_dict(), allow_nan=False)
    assert Score.from_dict(json.loads(text)) == score


def test_an_infinite_score_survives_json():
    score = FIDELITY["psnr"].score(image(), image(), SOFT)
    assert score.value == math.inf
    assert Score.from_dict(json.loads(json.dumps(score.as_dict(), allow_nan=False))) == score


@pytest.mark.parametrize(
    "damage",
    [
        {"conditions": None},
        {"conditions": {"window": [1.0]}},
        {"value": "much"},
        {"colour": "red"},
        {"conditions": {"reference": "phantom"}},
    ],
)
def test_a_damaged_score_is_refused(damage):
    with pytest.raises(FormatError, match="score: expected the fields"):
        Score.from_dict({**scores()[0].as_dict(), **damage})


def test_evaluation_gives_what_the_plain_functions_give():
    x, y = image(), image(1)
    found = {s.metric: s.value for s in evaluate(x, y, SOFT, metrics=("rmse", "psnr", "ssim", "ssim-uniform"))}
    a, b = x.clamp(-160, 240), y.clamp(-160, 240)
    assert found == {
        "rmse": rmse(a, b),
        "psnr": psnr(a, b, data_range=400.0),
        "ssim": ssim(a, b, data_range=400.0),
        "ssim-uniform": ssim(a, b, data_range=400.0, kernel="uniform"),
    }


def test_evaluation_takes_any_metric_and_gives_rows():
    bias = Metric(
        name="bias", label="bias", unit="image", better="lower", function=lambda x, r, p: float((x - r).mean())
    )
    (score,) = evaluate(image() + 3, image(), Protocol(reference="phantom", data_range=400.0), metrics=[bias])
    assert score.row() == {
        "name": "bias",
        "value": pytest.approx(3.0),
        "unit": "HU",
        "direction": "lower is better",
        "protocol": "no window, data range 400 HU, reference: phantom",
    }


def test_evaluation_refuses_what_means_nothing():
    x = image()
    for protocol in (None, (-160, 240)):
        with pytest.raises(ConfigError, match="protocol: expected a Protocol"):
            evaluate(x, x, protocol)
    for metrics in ("rmse", ()):
        with pytest.raises(ConfigError, match="metrics: expected a sequence of names"):
            evaluate(x, x, SOFT, metrics=metrics)
    with pytest.raises(ConfigError, match=r"metrics: expected one of rmse, psnr.*got 'mse'"):
        evaluate(x, x, SOFT, metrics=["mse"])
    with pytest.raises(ShapeError, match="equal shapes"):
        evaluate(x, x[:, 1:], SOFT, metrics=["rmse"])
    with pytest.raises(NumericalError, match="x: expected finite values"):
        evaluate(x / 0, x, SOFT, metrics=["rmse"])
    with pytest.raises(ShapeError, match="mask: expected"):
        evaluate(x, x, Protocol(reference="phantom", window="chest", mask=torch.ones(3, 3) > 0), metrics=["rmse"])


def test_conditions_count_the_voxels_that_a_mask_takes():
    assert SOFT.conditions == Conditions(
        reference="phantom", window=(-160.0, 240.0), data_range=400.0, region="", voxels=None, dimensions=2, unit="HU"
    )
    mask = torch.tensor([[True, False], [True, True]])
    assert str(Protocol(reference="phantom", window="neuro", mask=mask)) == (
        "window 0..80 HU, 2-D, mask of 3 voxels, reference: phantom"
    )
