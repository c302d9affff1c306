"""What every smooth prior keeps to, and what is special about each."""

import math
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from recon.errors import ConfigError, NumericalError, ShapeError
from recon.grid import VolumeGrid
from recon.iterative import (
    FISTA,
    AnisotropicDiffusion,
    GeneralisedGaussian,
    Huber,
    NonLocal,
    Quadratic,
    RoundedTV,
    TotalVariation,
    solve,
)
from recon.iterative.priors import Prior, base, nonlocal_means
from recon.random import generator

SPACING = (2.0, 1.0, 0.5)
SOLID, FLAT = (3, 4, 5), (1, 6, 7)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def non_local(shape: tuple[int, ...], **settings: float | None) -> NonLocal:
    guide = draw(*shape, seed=77)
    return NonLocal(guide=guide, scale=1.5, strength=0.7, search=2.0, patch=1.0, spacing=SPACING, **settings)  # type: ignore[arg-type]


PRIORS = {
    "quadratic": lambda shape: Quadratic(strength=0.7, spacing=SPACING),
    "huber": lambda shape: Huber(strength=0.7, corner=0.4, spacing=SPACING),
    "huber with diagonals": lambda shape: Huber(strength=0.7, corner=0.4, spacing=SPACING, diagonals=True),
    "q-ggmrf 1": lambda shape: GeneralisedGaussian(strength=0.7, corner=0.4, exponent=1.0, spacing=SPACING),
    "q-ggmrf 1.5": lambda shape: GeneralisedGaussian(
        strength=0.7, corner=0.4, exponent=1.5, spacing=SPACING, diagonals=True
    ),
    "diffusion": lambda shape: AnisotropicDiffusion(strength=0.7, corner=0.4, spacing=SPACING),
    "rounded tv": lambda shape: RoundedTV(strength=0.7, corner=0.2, spacing=SPACING),
    "non-local": lambda shape: non_local(shape),
    "non-local huber": lambda shape: non_local(shape, corner=0.4),
}
CONVEX = [name for name in PRIORS if name != "diffusion"]


@pytest.mark.parametrize("shape", [SOLID, FLAT], ids=["3-D", "2-D"])
@pytest.mark.parametrize("name", PRIORS)
class TestEveryPrior:
    def test_gradient_is_the_derivative_of_the_value(self, name: str, shape: tuple[int, ...]) -> None:
        prior, x = PRIORS[name](shape), draw(*shape, seed=5).requires_grad_()
        assert torch.autograd.gradcheck(prior.value, x)
        (expected,) = torch.autograd.grad(prior.value(x), x)
        torch.testing.assert_close(prior.gradient(x.detach()), expected, rtol=1e-10, atol=1e-10)

    @pytest.mark.parametrize("everywhere", [False, True])
    def test_curvature_gives_a_parabola_above(self, name: str, shape: tuple[int, ...], everywhere: bool) -> None:
        prior, x = PRIORS[name](shape), draw(*shape, seed=5)
        value, gradient = prior.value_and_gradient(x)
        bend = prior.curvature(draw(*shape, seed=9) if everywhere else x, everywhere=everywhere)
        for seed in range(10):
            for size in (0.01, 1.0, 100.0):
                gap = size * draw(*shape, seed=20 + seed)
                bound = value + (gradient * gap).sum() + 0.5 * (bend * gap**2).sum()
                assert prior.value(x + gap) <= bound * (1 + 1e-12)

    def test_curvature_everywhere_is_the_largest(self, name: str, shape: tuple[int, ...]) -> None:
        prior, x = PRIORS[name](shape), draw(*shape, seed=5)
        assert (prior.curvature(x) <= prior.curvature(x, everywhere=True) * (1 + 1e-12)).all()
        flat = torch.full(shape, 0.3, dtype=torch.float64)
        torch.testing.assert_close(prior.curvature(flat), prior.curvature(flat, everywhere=True), rtol=1e-6, atol=0)

    def test_a_constant_costs_nothing_and_pulls_at_nothing(self, name: str, shape: tuple[int, ...]) -> None:
        prior, x = PRIORS[name](shape), draw(*shape, seed=5)
        assert float(prior.value(torch.full(shape, 0.3, dtype=torch.float64))) == pytest.approx(0, abs=1e-12)
        assert float(prior.gradient(x).sum()) == pytest.approx(0, abs=1e-9)
        assert float(prior.value(x + 4)) == pytest.approx(float(prior.value(x)), rel=1e-9)

    def test_batch_is_a_sum(self, name: str, shape: tuple[int, ...]) -> None:
        prior, x = PRIORS[name](shape), draw(2, *shape, seed=5)
        torch.testing.assert_close(prior.value(x), prior.value(x[0]) + prior.value(x[1]), rtol=1e-12, atol=0)
        for function in (prior.gradient, prior.curvature):
            torch.testing.assert_close(function(x)[1], function(x[1]), rtol=1e-10, atol=1e-10)

    def test_slabs_change_nothing(self, name: str, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
        tall = (21, 3, 4) if shape[0] > 1 else (1, 21, 4)
        x = draw(*tall, seed=5)
        prior = PRIORS[name](tall)
        whole = [prior.value(x), prior.gradient(x), prior.curvature(x), prior.curvature(x, everywhere=True)]
        monkeypatch.setattr(base, "SLAB", 1)
        monkeypatch.setattr(nonlocal_means, "SLAB", 40)
        monkeypatch.setattr(nonlocal_means, "_KEPT_BYTES", 0)
        prior = PRIORS[name](tall)
        parts = [prior.value(x), prior.gradient(x), prior.curvature(x), prior.curvature(x, everywhere=True)]
        for a, b in zip(parts, whole, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)

    def test_keeps_float32_and_its_input(self, name: str, shape: tuple[int, ...]) -> None:
        prior, x = PRIORS[name](shape), draw(*shape).float()
        before = x.clone()
        assert prior.gradient(x).dtype == prior.curvature(x).dtype == torch.float32
        assert prior.value(x).dtype == torch.float64
        assert torch.equal(x, before)
        torch.testing.assert_close(prior.gradient(x).double(), prior.gradient(x.double()), rtol=1e-4, atol=1e-5)

    def test_strength_is_a_factor(self, name: str, shape: tuple[int, ...]) -> None:
        prior, x = PRIORS[name](shape), draw(*shape, seed=5)
        torch.testing.assert_close(prior.stronger(3.0).gradient(x), 3 * prior.gradient(x))
        assert not replace(prior, strength=0.0).gradient(x).any()
        with pytest.raises(ConfigError, match="strength: expected 0 or more, got -1"):
            replace(prior, strength=-1.0)


@pytest.mark.parametrize("name", CONVEX)
def test_convex_priors_lie_above_their_tangents(name: str) -> None:
    prior = PRIORS[name](SOLID)
    for seed in range(20):
        x, y = draw(*SOLID, seed=seed), 2 * draw(*SOLID, seed=100 + seed)
        tangent = prior.value(x) + (prior.gradient(x) * (y - x)).sum()
        assert prior.value(y) >= tangent - 1e-9


def test_diffusion_is_not_convex() -> None:
    pair = torch.zeros(1, 1, 2, dtype=torch.float64)
    prior = AnisotropicDiffusion(strength=1.0, corner=0.1)
    values = []
    for jump in (0.0, 1.0, 2.0):
        pair[..., 1] = jump
        values.append(float(prior.value(pair)))
    assert values[1] > 0.5 * (values[0] + values[2])


@pytest.mark.parametrize("wide", [1, 4], ids=["2-D", "3-D"])
@pytest.mark.parametrize(
    "make",
    [
        lambda guide: Quadratic(strength=2.0),
        lambda guide: GeneralisedGaussian(strength=2.0, corner=0.01),
        lambda guide: AnisotropicDiffusion(strength=2.0, corner=0.01),
        lambda guide: RoundedTV(strength=2.0, corner=0.005),
        lambda guide: NonLocal(guide=guide, scale=0.05, strength=2.0, search=3.0, patch=1.5),
    ],
    ids=["quadratic", "q-ggmrf", "diffusion", "rounded tv", "non-local"],
)
def test_priors_mean_the_same_on_finer_grids(make: object, wide: int) -> None:
    """A slope of 0.01/mm² along y and 0.02/mm² along x over 24 mm; borders and whole-voxel windows make the rest."""
    found = []
    for n in (24, 48):
        grid = VolumeGrid(shape=(1 if wide == 1 else n // 4, n, n), spacing=24 / n)
        _, y, x = grid.axes()
        image = (0.01 * y[:, None] + 0.02 * x).expand(grid.shape).contiguous()
        found.append(float(make(image).on(grid).value(image)))  # type: ignore[operator]
    assert found[0] == pytest.approx(found[1], rel=0.12)


def test_rounded_tv_tends_to_total_variation() -> None:
    x = draw(2, 5, 6)
    exact = float(TotalVariation(strength=0.7, spacing=SPACING).value(x))
    gaps = [exact - float(RoundedTV(strength=0.7, corner=c, spacing=SPACING).value(x)) for c in (0.1, 0.01, 0.001)]
    assert gaps[0] > gaps[1] > gaps[2] > 0
    assert gaps[2] < 1e-3 * exact
    step = torch.zeros(3, 4, 6, dtype=torch.float64)
    step[..., 3:] = 0.25
    rounded = RoundedTV(strength=2.0, corner=1e-6, spacing=SPACING)
    assert float(rounded.value(step)) == pytest.approx(2.0 * 0.25 * (3 * 2.0) * (4 * 1.0), rel=1e-4)


def test_the_exponent_leads_from_huber_to_quadratic() -> None:
    pair = torch.zeros(1, 1, 2, dtype=torch.float64)
    pair[..., 1] = 100.0
    steep = [
        float(GeneralisedGaussian(strength=1.0, corner=1.0, exponent=q).gradient(pair)[..., 1]) for q in (1.0, 1.5, 1.9)
    ]
    assert steep[0] == pytest.approx(0.5, rel=0.02)  # the slope of |t|/2
    assert steep[0] < steep[1] < steep[2] < 100


def test_non_local_weights_follow_the_guide_and_not_the_distance() -> None:
    guide = torch.zeros(1, 1, 12, dtype=torch.float64)
    guide[..., 6:] = 1.0
    prior = NonLocal(guide=guide, scale=0.1, strength=1.0, search=4.0, patch=0.4)
    x = torch.zeros_like(guide)
    x[..., 6:] = 5.0  # a step where the guide has one costs nothing
    assert float(prior.value(x)) < 1e-6
    x = torch.zeros_like(guide)
    x[..., 1] = 1.0
    pull = prior.gradient(x)[0, 0]
    assert float(pull[1]) > 0
    torch.testing.assert_close(pull[2:6], pull[0].expand(4))  # alike voxels pull alike, near or far
    assert not pull[6:].abs().gt(1e-9).any()


def test_non_local_weights_are_the_same_kept_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    x = draw(4, 5, 6)
    kept = non_local((4, 5, 6)).gradient(x)
    monkeypatch.setattr(nonlocal_means, "_KEPT_BYTES", 0)
    fresh = non_local((4, 5, 6))
    assert torch.equal(fresh.gradient(x), kept)
    assert not fresh._weights


def test_a_smooth_prior_can_be_minimised_alone() -> None:
    x = draw(1, 6, 5)
    flat = solve(FISTA(), [RoundedTV(strength=1.0, corner=0.5)], iterations=400, start=x).image
    torch.testing.assert_close(flat, torch.full_like(x, float(x.mean())), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("make", "error", "word"),
    [
        (lambda: RoundedTV(corner=0.0), ConfigError, "corner: .*TotalVariation"),
        (lambda: AnisotropicDiffusion(corner=-1.0), ConfigError, "corner"),
        (lambda: GeneralisedGaussian(exponent=2.0), ConfigError, "exponent: expected 1 or more and below 2"),
        (lambda: GeneralisedGaussian(exponent=0.9), ConfigError, "exponent"),
        (lambda: GeneralisedGaussian(corner=math.nan), ConfigError, "corner"),
        (lambda: NonLocal(guide=draw(1, 3, 3), scale=0.0), ConfigError, "scale"),
        (lambda: NonLocal(guide=draw(1, 3, 3), scale=1.0, corner=0.0), ConfigError, "corner"),
        (lambda: NonLocal(guide=draw(1, 3, 3), scale=1.0, search=0.0), ConfigError, "search"),
        (lambda: NonLocal(guide=draw(2, 1, 3, 3), scale=1.0), ShapeError, "guide"),
        (lambda: NonLocal(guide=draw(1, 3, 3) / 0, scale=1.0), NumericalError, "guide"),
        (lambda: NonLocal(guide=draw(1, 3, 3), scale=1.0).value(draw(1, 3, 4)), ShapeError, "guide: .*resample"),
    ],
)
def test_settings_that_mean_nothing_are_refused(make: object, error: type[Exception], word: str) -> None:
    with pytest.raises(error, match=word):
        make()  # type: ignore[operator]


def test_the_contract_notices_a_gradient_of_half_the_size() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Broken(RoundedTV):
        def gradient(self, x: Tensor) -> Tensor:
            return 0.5 * super().gradient(x)

    broken: Prior = Broken(strength=0.7, corner=0.2, spacing=SPACING)
    x = draw(*SOLID, seed=5).requires_grad_()
    (expected,) = torch.autograd.grad(broken.value(x), x)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(broken.gradient(x.detach()), expected)
