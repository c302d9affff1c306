import math
from dataclasses import dataclass

import pytest
import torch
from scipy.optimize import minimize

from recon.errors import ConfigError, NumericalError, ShapeError
from recon.grid import VolumeGrid
from recon.iterative import Box, Huber, LeastSquares, NonNegative, Quadratic, TotalVariation, ray_weights
from recon.iterative.terms import safe_inverse
from recon.operators import Gradient
from recon.random import generator
from tests.recon.dense import Dense


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


SHAPE = (3, 4, 5)
MATRIX = draw(90, 60).abs()
WEIGHTS = draw(90, seed=2).abs()

SMOOTH = {
    "least squares": LeastSquares(Dense(MATRIX, SHAPE), draw(90, seed=1)),
    "weighted": LeastSquares(Dense(MATRIX, SHAPE), draw(90, seed=1), WEIGHTS),
    "signed": LeastSquares(Dense(draw(90, 60), SHAPE), draw(90, seed=1), WEIGHTS),
    "quadratic": Quadratic(strength=0.7, spacing=(2.0, 1.0, 0.5)),
    "huber": Huber(strength=0.7, corner=0.4, spacing=(2.0, 1.0, 0.5)),
    "huber with diagonals": Huber(strength=0.7, corner=0.4, spacing=(2.0, 1.0, 0.5), diagonals=True),
}
PROXIMABLE = {
    "box": Box(-0.5, 0.7),
    "non-negative": NonNegative(),
    "total variation": TotalVariation(strength=0.3, spacing=(2.0, 1.0, 0.5), iterations=5000, tolerance=1e-13),
    "bounded": TotalVariation(strength=0.3, box=NonNegative(), iterations=5000, tolerance=1e-13),
}


@pytest.mark.parametrize("term", SMOOTH.values(), ids=SMOOTH)
class TestEverySmoothTerm:
    def test_gradient_is_the_derivative_of_the_value(self, term):
        x = draw(*SHAPE, seed=5).requires_grad_()
        assert torch.autograd.gradcheck(term.value, x)
        (expected,) = torch.autograd.grad(term.value(x), x)
        torch.testing.assert_close(term.gradient(x.detach()), expected, rtol=1e-10, atol=1e-10)

    @pytest.mark.parametrize("everywhere", [False, True])
    def test_curvature_gives_a_parabola_above(self, term, everywhere):
        x = draw(*SHAPE, seed=5)
        value, gradient = term.value_and_gradient(x)
        bend = term.curvature(draw(*SHAPE, seed=9) if everywhere else x, everywhere=everywhere)
        for seed in range(10):
            for size in (0.01, 1.0, 100.0):
                gap = size * draw(*SHAPE, seed=20 + seed)
                bound = value + (gradient * gap).sum() + 0.5 * (bend * gap**2).sum()
                assert term.value(x + gap) <= bound * (1 + 1e-12)

    def test_batch_is_a_sum(self, term):
        x = draw(2, *SHAPE, seed=5)
        value = term.value(x[0]) + term.value(x[1])
        torch.testing.assert_close(term.value(x), value, rtol=1e-12, atol=0)
        torch.testing.assert_close(term.gradient(x)[1], term.gradient(x[1]), rtol=1e-10, atol=1e-10)

    def test_keeps_float32_and_its_input(self, term):
        if isinstance(term, LeastSquares):
            weights = None if term.weights is None else term.weights.float()
            term = LeastSquares(term.operator, term.data.float(), weights)
        x = draw(*SHAPE).float()
        before = x.clone()
        assert term.gradient(x).dtype == torch.float32
        assert term.curvature(x).dtype == torch.float32
        assert term.value(x).dtype == torch.float64
        assert torch.equal(x, before)


@pytest.mark.parametrize("term", PROXIMABLE.values(), ids=PROXIMABLE)
class TestEveryProximableTerm:
    def test_prox_beats_brute_force(self, term):
        x, step = draw(1, 2, 3, seed=4), 0.6

        def cost(z):
            z = torch.as_tensor(z).reshape(x.shape)
            return float(0.5 * (z - x).square().sum() + step * term.value(z))

        found = term.prox(x, step)
        best = cost(found.numpy())
        for start in (found, torch.full_like(x, 0.3)):
            searched = minimize(
                cost, start.flatten().numpy(), method="Nelder-Mead", options={"maxfev": 4000, "xatol": 1e-10}
            )
            assert best <= searched.fun + 1e-9
        for seed in range(50):
            assert best <= cost((found + 1e-3 * draw(1, 2, 3, seed=seed)).numpy()) + 1e-9

    def test_prox_is_not_expansive(self, term):
        a, b = draw(2, 6, 5, seed=1), draw(2, 6, 5, seed=2)
        assert (term.prox(a, 0.8) - term.prox(b, 0.8)).norm() <= (a - b).norm() * (1 + 1e-9)

    def test_prox_of_a_batch_is_that_of_each(self, term):
        x = draw(3, 2, 6, 5, seed=1)
        torch.testing.assert_close(term.prox(x, 0.8)[1], term.prox(x[1], 0.8), rtol=0, atol=1e-7)

    def test_prox_keeps_its_input(self, term):
        x = draw(2, 6, 5, seed=1).float()
        before = x.clone()
        assert term.prox(x, 0.8).dtype == torch.float32
        assert torch.equal(x, before)


def test_total_variation_splits_an_image_as_moreau_says():
    term, x = PROXIMABLE["total variation"], draw(2, 6, 5, seed=1)
    flat = term.prox(x, 0.8)
    # x - prox lies in the dual set and supports it at the prox: <prox, x - prox> = step · TV(prox).
    assert float((flat * (x - flat)).sum()) == pytest.approx(0.8 * float(term.value(flat)), rel=1e-6)
    assert float((x - flat).sum()) == pytest.approx(0.0, abs=1e-9)


def test_total_variation_of_a_constant_is_zero_and_of_a_step_is_its_area():
    term = TotalVariation(strength=2.0, spacing=(2.0, 1.0, 0.5))
    assert float(term.value(torch.full((3, 4, 5), 7.0))) == 0.0
    step = torch.zeros(3, 4, 6)
    step[..., 3:] = 0.25
    assert float(term.value(step)) == pytest.approx(2.0 * 0.25 * (3 * 2.0) * (4 * 1.0), rel=1e-6)


def test_total_variation_flattens_everything_when_strong():
    x = draw(1, 6, 5)
    flat = TotalVariation(strength=1e3, iterations=5000, tolerance=1e-12).prox(x, 1.0)
    torch.testing.assert_close(flat, torch.full_like(x, x.mean().item()), rtol=0, atol=1e-4)
    torch.testing.assert_close(TotalVariation(strength=0.0).prox(x, 1.0), x)


@pytest.mark.parametrize("prior", [Quadratic(strength=2.0), Huber(strength=2.0, corner=0.01)])
@pytest.mark.parametrize("diagonals", [False, True])
def test_priors_mean_the_same_on_finer_grids(prior, diagonals):
    # A slope of 0.02/mm² along x and 0.01/mm² along y over a cube of 24 mm; the borders make the rest.
    found = []
    for n in (24, 96):
        grid = VolumeGrid(shape=(1, n, n), spacing=24 / n)
        _, y, x = grid.axes()
        image = (0.01 * y[:, None] + 0.02 * x)[None]
        term = type(prior)(**{**vars(prior), "diagonals": diagonals}).on(grid)
        found.append(float(term.value(image)) / 24**2)
    assert found[0] == pytest.approx(found[1], rel=0.05)
    if isinstance(prior, Quadratic):
        assert found[1] == pytest.approx(2.0 * 0.5 * (0.01**2 + 0.02**2), rel=0.03)


def test_huber_is_quadratic_inside_and_linear_outside():
    wide, pair = Huber(strength=3.0, corner=0.5), torch.zeros(1, 1, 2, dtype=torch.float64)
    for jump, expected in ((0.2, 0.02), (0.5, 0.125), (2.0, 0.5 * (2.0 - 0.25))):
        pair[0, 0, 1] = jump
        assert float(wide.value(pair)) == pytest.approx(3.0 * expected, rel=1e-12)


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: Huber(corner=0.0), "corner"),
        (lambda: Huber(strength=-1.0), "strength"),
        (lambda: Quadratic(strength=math.nan), "strength"),
        (lambda: TotalVariation(strength=-1.0), "strength"),
        (lambda: TotalVariation(strength=1.0, iterations=0), "iterations"),
        (lambda: Box(1.0, 0.0), "low, high"),
    ],
)
def test_settings_that_mean_nothing_are_refused(make, word):
    with pytest.raises(ConfigError, match=word):
        make()


@pytest.mark.parametrize("prior", [Huber(strength=0.0), Quadratic(strength=0.0)])
def test_no_strength_is_no_prior(prior):
    x = draw(*SHAPE)
    assert float(prior.value(x)) == 0.0
    assert not prior.gradient(x).any()


def test_least_squares_checks_its_arrays():
    operator = Dense(MATRIX, SHAPE)
    with pytest.raises(ShapeError, match="data"):
        LeastSquares(operator, draw(89))
    with pytest.raises(NumericalError, match="data"):
        LeastSquares(operator, draw(90) / 0)
    with pytest.raises(ShapeError, match="weights"):
        LeastSquares(operator, draw(90), -WEIGHTS)
    with pytest.raises(ShapeError, match="weights"):
        LeastSquares(operator, draw(90), WEIGHTS[:4])


@pytest.mark.parametrize("name", ["least squares", "weighted"])
def test_subsets_add_up_to_the_whole(name):
    term, x = SMOOTH[name], draw(*SHAPE)
    parts = term.split(7)
    assert term.split(7) is parts
    torch.testing.assert_close(sum(part.value(x) for part in parts), term.value(x))
    torch.testing.assert_close(sum(part.gradient(x) for part in parts), term.gradient(x))
    torch.testing.assert_close(sum(part.curvature(x) for part in parts), term.curvature(x))
    # The subsets are views of the data: no second copy in memory.
    assert all(part.data.untyped_storage().data_ptr() == term.data.untyped_storage().data_ptr() for part in parts)


def test_subsets_need_views():
    term = LeastSquares(Gradient((2, 3, 4)), draw(3, 2, 3, 4))
    assert term.split(1) == (term,)
    with pytest.raises(ConfigError, match="views"):
        term.split(2)


def test_rays_that_miss_the_grid_weigh_nothing():
    matrix = torch.tensor([[1.0, 3.0], [0.0, 0.0], [1e-4, 0.0]])
    weights = ray_weights(Dense(matrix, (1, 1, 2)), torch.zeros(1))
    assert weights.tolist() == [0.25, 0.0, 0.0]
    assert safe_inverse(torch.zeros(3)).tolist() == [0.0, 0.0, 0.0]


def test_the_contract_notices_a_curvature_that_is_too_small():
    @dataclass(frozen=True, kw_only=True)
    class Broken(Quadratic):
        def curvature(self, x, *, everywhere=False):
            return 0.2 * super().curvature(x, everywhere=everywhere)

    with pytest.raises(AssertionError):
        TestEverySmoothTerm().test_curvature_gives_a_parabola_above(Broken(), True)
