"""Phantoms by name: sizes, values, places and seeds."""

import json
from pathlib import Path

import pytest
import torch

from phantoms import (
    PHANTOMS,
    Phantom,
    ball,
    contrast,
    disc,
    forbild_head,
    head,
    phantom,
    resolution,
    shepp_logan,
    thorax,
)
from recon.errors import ConfigError
from recon.geometry import Detector, ParallelBeam
from recon.grid import VolumeGrid
from recon.units import WATER, to_hu

every_phantom = pytest.mark.parametrize("name", PHANTOMS)


@every_phantom
def test_every_phantom_can_be_made_drawn_and_projected(name: str) -> None:
    made = phantom(name)
    assert isinstance(made, Phantom)
    picture = made.rasterised(VolumeGrid(shape=(1, 60, 60), spacing=8.0))
    assert bool(torch.isfinite(picture).all())
    assert 0 < float(picture.max()) < 0.1  # 1/mm: nothing is denser than twice bone
    assert float(picture.min()) >= -1e-9
    edge = torch.cat([picture[0, 0], picture[0, -1]])
    assert float(edge.abs().max()) == 0
    values = made.line_integrals(ParallelBeam.circular(4, detector=Detector(shape=(1, 64), pitch=(1, 8))))
    assert 0.5 < float(values.max()) < 15


@pytest.mark.parametrize("kind", ["1974", "high-contrast"])
def test_shepp_logan_has_the_published_table(kind: str, shared_data: Path) -> None:
    table = json.loads((shared_data / "phantoms" / "shepp_logan_2d.json").read_text())
    column = {"1974": "value_shepp_logan_1974", "high-contrast": "value_toft_1996_high_contrast"}[kind]
    up = torch.linspace(1, -1, 401, dtype=torch.float64)[:, None]
    right = torch.linspace(-1, 1, 401, dtype=torch.float64)[None, :]
    expected = torch.zeros(401, 401, dtype=torch.float64)
    for (a, b, x0, y0, degrees), value in zip(table["ellipses"], table[column], strict=True):
        angle = torch.deg2rad(torch.tensor(float(degrees), dtype=torch.float64))
        x, y = right - x0, up - y0
        along, across = x * angle.cos() + y * angle.sin(), y * angle.cos() - x * angle.sin()
        expected += value * ((along / a) ** 2 + (across / b) ** 2 <= 1).double()
    made = shepp_logan(kind, size=200.0, water=1.0)
    picture = made.rasterised(VolumeGrid(shape=(1, 401, 401), spacing=0.5), oversampling=1, dtype=torch.float64)[0]
    assert int(((picture - expected).abs() > 1e-9).sum()) <= 4  # points on an edge, by rounding


def test_shepp_logan_is_as_large_as_a_head_and_stands_the_right_way_up() -> None:
    low, high = shepp_logan().bounds
    assert (high[2] - low[2], high[1] - low[1]) == pytest.approx((138, 184))
    middle = shepp_logan("1974").attenuation(torch.tensor([[0.0, -35, 0], [0, 60.5, -8], [0, 60.5, 9], [0, 50, 50]]))
    assert (middle / WATER).tolist() == pytest.approx([1.03, 1.03, 1.02, 1.02])
    assert shepp_logan("1974").attenuation(torch.tensor([0.0, 60.5, 6])) / WATER == pytest.approx(1.03)


def test_three_dimensional_shepp_logan_has_ends() -> None:
    points = torch.tensor([[0.0, 0, 60], [79.5, 0, 0], [82, 0, 0], [25, -10, 0]])
    values = shepp_logan(dimensions=3, water=1.0).attenuation(points)
    assert values.tolist() == pytest.approx([0.2, 1.0, 0.0, 0.3])


def test_forbild_head_stands_with_the_nose_to_the_front() -> None:
    points = torch.tensor([[0.0, -84, 10], [0, -9.12, 0], [0, 0, 88], [0, 0, 80], [0, 36, 0], [8.72, -43, 47]])
    values = forbild_head(water=1.0).attenuation(points)
    assert values.tolist() == pytest.approx([0.0, 1.05, 0.0, 0.0, 1.045, 1.06])


def test_inserts_have_the_contrast_asked_for() -> None:
    made = contrast(levels=(10, -20), radii=(8, 4))
    grid = VolumeGrid(shape=(1, 1, 1), spacing=1.0, centre=(0, 0, 100 - 4 - 8))
    assert float(to_hu(made.rasterised(grid))) == pytest.approx(10, abs=1e-2)
    opposite = VolumeGrid(shape=(1, 1, 1), spacing=1.0, centre=(0, 0, -(100 - 4 - 8)))
    assert float(to_hu(made.rasterised(opposite))) == pytest.approx(-20, abs=1e-2)


def test_bars_have_the_frequency_asked_for() -> None:
    made = resolution(line_pairs=(2, 5))
    y = torch.linspace(-15, 15, 12_001, dtype=torch.float64)
    for side, pairs in ((1, 2), (-1, 5)):
        line = made.attenuation(torch.stack([0 * y, y, torch.full_like(y, 60.0 * side)], 1))
        (rises,) = (line.diff() > 0).nonzero(as_tuple=True)
        assert len(rises) == 5
        torch.testing.assert_close(y[rises].diff(), torch.full((4,), 10 / pairs).double(), atol=4e-3, rtol=0)


def test_ball_and_disc() -> None:
    cube, square = VolumeGrid(shape=(50, 50, 50)), VolumeGrid(shape=(1, 50, 50))
    mass = float(ball(20, density=0.5).rasterised(cube).sum())
    assert mass == pytest.approx(0.5 * 4 / 3 * torch.pi * 20**3, rel=1e-3)
    area = float(disc(20, density=0.5).rasterised(square, oversampling=8).sum())
    assert area == pytest.approx(0.5 * torch.pi * 20**2, rel=1e-3)


@pytest.mark.parametrize("make", [thorax, head])
def test_a_seed_makes_another_patient_again_and_again(make) -> None:
    grid = VolumeGrid(shape=(3, 80, 80), spacing=(20, 6, 6))
    plain, one, again, two = (make(seed=s).rasterised(grid) for s in (None, 5, 5, 6))
    assert torch.equal(one, again)
    assert not torch.equal(one, two)
    assert not torch.equal(one, plain)
    assert len(make(seed=5).shapes) > len(make().shapes)


@pytest.mark.parametrize("seed", range(3))
def test_vessels_and_nodules_stay_inside_the_lungs(seed: int) -> None:
    made = thorax(seed=seed, water=1.0)
    lungs = made.shapes[3:5]
    for shape in made.shapes[5 : len(made.shapes) - 266]:
        held = torch.stack([lung.contains(torch.tensor(shape.centre)) for lung in lungs])
        assert bool(held.any())


def test_the_same_phantom_at_another_energy() -> None:
    point = torch.zeros(3)
    assert float(head(water=0.02).attenuation(point)) == pytest.approx(1.045 * 0.02)
    assert head(water=0.02).water == 0.02


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda: phantom("skull"), "phantom: expected one of shepp-logan, "),
        (lambda: shepp_logan("toft"), "kind: expected one of high-contrast, 1974"),
        (lambda: shepp_logan(dimensions=4), "dimensions: expected 2 or 3"),
        (lambda: resolution(line_pairs=(0,)), "line_pairs: expected"),
        (lambda: contrast(radii=(30, 30, 30)), "radii, levels: expected inserts that fit"),
        (lambda: thorax(seed=-1), "seed: expected an integer"),
    ],
)
def test_what_does_not_exist_is_refused(ask, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        ask()
