"""Contrast to noise, uniformity, streaks and how slices fit together: closed forms, and what they refuse."""

import json
import math

import pytest
import torch

from recon.errors import ConfigError, NumericalError, ShapeError
from recon.metrics import (
    CONSISTENCY,
    Protocol,
    Score,
    cnr,
    evaluate,
    reformat_ssim,
    slice_change,
    ssim,
    streak_level,
    uniformity,
)
from recon.random import generator

HU = Protocol(reference="phantom", window=(-160.0, 240.0))


def white(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def box(rows, columns, n=40):
    mask = torch.zeros(n, n, dtype=torch.bool)
    mask[rows, columns] = True
    return mask


INSERT, AROUND = box(slice(12, 28), slice(12, 28)), box(slice(0, 10), slice(0, 40))


class TestContrastToNoise:
    def test_is_contrast_over_deviation(self):
        image = 5 * white(30, 40, 40) + 20.0 * INSERT - 1000
        assert cnr(image, signal=INSERT, background=AROUND) == pytest.approx(4, rel=0.03)  # measured 0.1 %
        assert cnr(-2 * image, signal=INSERT, background=AROUND) == pytest.approx(
            cnr(image, signal=INSERT, background=AROUND), rel=1e-9
        )

    def test_does_not_take_levels_of_slices_for_noise(self):
        image = white(20, 40, 40) + 3.0 * INSERT
        shifted = image + 100 * torch.arange(20.0).double()[:, None, None]
        assert cnr(shifted, signal=INSERT, background=AROUND) == pytest.approx(
            cnr(image, signal=INSERT, background=AROUND), rel=1e-9
        )

    def test_is_defined_for_constant_images(self):
        flat = torch.full((40, 40), 7.0)
        assert cnr(flat, signal=INSERT, background=AROUND) == 0.0
        assert cnr(flat + INSERT, signal=INSERT, background=AROUND) == math.inf

    def test_refuses_other_regions(self):
        image = white(40, 40)
        with pytest.raises(ConfigError, match="expected regions apart"):
            cnr(image, signal=INSERT, background=INSERT | AROUND)
        with pytest.raises(ShapeError, match="signal: expected a tensor of booleans"):
            cnr(image, signal=INSERT.float(), background=AROUND)
        with pytest.raises(ShapeError, match="background: expected the last axes"):
            cnr(image, signal=INSERT, background=AROUND[1:])
        with pytest.raises(ShapeError, match="background: expected 2 or more pixels"):
            cnr(image, signal=INSERT, background=box(3, 4))
        with pytest.raises(NumericalError, match="image: expected finite"):
            cnr(image / 0, signal=INSERT, background=AROUND)


def test_uniformity_is_the_largest_deviation_from_the_centre():
    image = torch.zeros(2, 40, 40)
    rims = [box(slice(0, 4), slice(18, 22)), box(slice(36, 40), slice(18, 22)), box(slice(18, 22), slice(0, 4))]
    centre = box(slice(18, 22), slice(18, 22))
    assert uniformity(image + 3, centre=centre, periphery=rims) == 0.0
    for rim, level in zip(rims, (2.0, -5.0, 4.0), strict=True):
        image[:, rim] = level
    assert uniformity(image + 1000, centre=centre, periphery=rims) == 5.0
    with pytest.raises(ConfigError, match="periphery: expected a sequence of one mask for each"):
        uniformity(image, centre=centre, periphery=[])
    with pytest.raises(ConfigError, match="periphery: expected a sequence of one mask for each"):
        uniformity(image, centre=centre, periphery=rims[0])


class TestStreaks:
    def gumbel(self, location, scale, lines):
        """Return lines whose largest steps are the quantiles of Gumbel's distribution."""
        share = (torch.arange(lines, dtype=torch.float64) + 0.5) / lines
        image = torch.zeros(lines, 6, dtype=torch.float64)
        image[:, 3] = location - scale * torch.log(-torch.log(share))
        return image[torch.randperm(lines, generator=generator(0))]

    def test_is_the_location_of_gumbels_distribution(self):
        image = self.gumbel(50.0, 8.0, 400)
        assert streak_level(image, along="y") == pytest.approx(50.0, rel=2e-3)
        assert streak_level(image.T, along="x") == pytest.approx(50.0, rel=2e-3)
        assert streak_level(-3 * image + 1000, along="y") == pytest.approx(150.0, rel=2e-3)
        assert streak_level(image.reshape(4, 100, 6), along="y") == streak_level(image, along="y")

    def test_rises_with_streaks_across_its_lines_only(self):
        noise = 10 * white(40, 40)
        streaks = torch.where(torch.arange(40) % 4 == 0, 60.0, 0.0)[:, None].expand(40, 40)
        quiet = streak_level(noise, along="x")
        assert streak_level(noise + streaks, along="x") > quiet + 40
        assert streak_level(noise + streaks, along="y") == pytest.approx(streak_level(noise, along="y"), rel=1e-12)

    def test_a_constant_region_has_none(self):
        assert streak_level(torch.full((20, 20), 0.1), along="y") == 0.0

    def test_refuses_what_has_no_distribution(self):
        with pytest.raises(ShapeError, match="at least 8 lines"):
            streak_level(torch.zeros(40, 7), along="x")
        with pytest.raises(ConfigError, match="along: expected one of y, x"):
            streak_level(torch.zeros(40, 40), along="z")


def volume(*shape, seed=0):
    return 400 * torch.rand(*shape, generator=generator(seed), dtype=torch.float64) - 160


class TestSlices:
    def test_flicker_has_the_closed_form(self):
        truth = volume(200, 12, 12)
        flicker = 8 * white(200, 1, 1)
        found = slice_change(truth + flicker, truth, data_range=400.0)
        assert found == pytest.approx(float(flicker.diff(dim=0).square().mean().sqrt()) / 400, rel=1e-12)
        assert found == pytest.approx(math.sqrt(2) * 8 / 400, rel=0.15)  # 200 slices: 6 %
        assert slice_change(truth + 50, truth, data_range=400.0) == pytest.approx(0, abs=1e-12)

    def test_both_neighbours_must_be_in_the_mask(self):
        truth, mask = torch.zeros(6, 4, 4), torch.ones(6, 4, 4, dtype=torch.bool)
        x = truth.clone()
        x[3, :2] = 100
        mask[3, :2] = False
        assert slice_change(x, truth, data_range=400.0) > 0.05
        assert slice_change(x, truth, data_range=400.0, mask=mask) == 0.0
        mask[::2] = False
        with pytest.raises(ShapeError, match="True in two neighbouring slices"):
            slice_change(x, truth, data_range=400.0, mask=mask)

    @pytest.mark.parametrize(("plane", "order"), [("coronal", (1, 0, 2)), ("sagittal", (2, 0, 1))])
    def test_reformats_are_planes_across_slices(self, plane, order):
        x, y = volume(13, 18, 20), volume(13, 18, 20, seed=1)
        found = reformat_ssim(x, y, plane=plane, data_range=400.0)
        assert found == pytest.approx(ssim(x.permute(order), y.permute(order), data_range=400.0), rel=1e-12)
        mask = torch.rand(13, 18, 20, generator=generator(2)) > 0.3
        assert reformat_ssim(x, y, plane=plane, data_range=400.0, mask=mask) == pytest.approx(
            ssim(x.permute(order), y.permute(order), data_range=400.0, mask=mask.permute(order)), rel=1e-12
        )
        batch = reformat_ssim(torch.stack([x, x]), torch.stack([y, y]), plane=plane, data_range=400.0)
        assert batch == pytest.approx(found, rel=1e-12)

    @pytest.mark.parametrize("metric", CONSISTENCY.values(), ids=CONSISTENCY)
    def test_every_metric_prefers_equal_volumes_and_is_defined_for_constant_ones(self, metric):
        x, noise = volume(14, 16, 18), volume(14, 16, 18, seed=1)
        worse = [metric(x + level * noise, x, HU) for level in (0.0, 0.01, 0.1, 1.0)]
        assert worse == sorted(worse, reverse=metric.better == "higher")
        best = 0.0 if metric.better == "lower" else pytest.approx(1.0, abs=1e-12)
        for shape in ((2, 1, 1), (3, 15, 2)):
            flat = torch.full(shape, 7.0)
            assert metric(flat, flat, HU) == best
            assert not math.isnan(metric(flat + 5, flat, HU))
        with pytest.raises(ShapeError, match="2 or more slices"):
            metric(x[0], x[0], HU)
        with pytest.raises(ShapeError, match="equal shapes"):
            metric(x, x[1:], HU)
        with pytest.raises(NumericalError, match="expected finite"):
            metric(x, x / 0, HU)

    def test_scores_say_what_they_rest_on(self):
        scores = evaluate(volume(12, 12, 12), volume(12, 12, 12, seed=1), HU, metrics=tuple(CONSISTENCY.values()))
        assert "window -160..240 HU, from slice to slice, over the data range, reference: phantom" in str(scores[0])
        assert "coronal planes" in str(scores[1])
        for score in scores:
            assert Score.from_dict(json.loads(json.dumps(score.as_dict()))) == score
        with pytest.raises(ConfigError, match="plane: expected one of coronal, sagittal"):
            reformat_ssim(volume(3, 3, 3), volume(3, 3, 3), plane="axial", data_range=1.0)
