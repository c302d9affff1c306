import itertools
import math

import pytest
import torch

from recon.errors import CheckpointError, ConfigError, NumericalError, ShapeError, Status
from recon.iterative import (
    CGLS,
    FISTA,
    OSSART,
    SIRT,
    Box,
    Huber,
    LeastSquares,
    NonNegative,
    OSMomentum,
    PrimalDual,
    Quadratic,
    SmoothTerm,
    Stop,
    TotalVariation,
    solve,
)
from recon.iterative.fingerprint import fingerprint
from recon.iterative.solvers.base import State
from recon.random import generator
from tests.recon.dense import Dense


def draw(*shape, seed=0):
    return torch.rand(*shape, generator=generator(seed), dtype=torch.float64)


SHAPE = (1, 3, 4)
# Well conditioned and non-negative, so that even the slow solvers arrive.
ROWS = torch.randperm(48, generator=generator(4)) % 12
MATRIX = 0.1 * draw(48, 12) + torch.eye(12, dtype=torch.float64)[ROWS]
DATA, WEIGHTS = draw(48, seed=1), 0.5 + draw(48, seed=2)
TRUTH = draw(*SHAPE, seed=3)
CONSISTENT = Dense(MATRIX, SHAPE) @ TRUTH


def misfit(weights=WEIGHTS, data=DATA):
    return LeastSquares(Dense(MATRIX, SHAPE), data, weights)


def closed_form(weights, data=DATA):
    w = torch.ones(48, dtype=torch.float64) if weights is None else weights
    return torch.linalg.solve(MATRIX.T @ (w[:, None] * MATRIX), MATRIX.T @ (w * data)).reshape(SHAPE)


# Iterations to arrive within 1e-6; with subsets only data without contradictions have a single answer.
SOLVERS = {
    "cgls": (CGLS(), 15),
    "sirt": (SIRT(), 800),
    "sirt relaxed": (SIRT(relaxation=1.8), 800),
    "os-sart of one": (OSSART(subsets=1), 800),
    "fista": (FISTA(), 400),
    "fista with a long step": (FISTA(length=1e6), 400),
    "os-momentum of one": (OSMomentum(subsets=1), 400),
    "primal-dual": (PrimalDual(), 800),
}
SUBSETS = {"os-sart": (OSSART(subsets=4), 400), "os-momentum": (OSMomentum(subsets=3), 600)}
EVERY = {**SOLVERS, **SUBSETS}
MONOTONE = ("cgls", "sirt", "sirt relaxed", "os-sart of one")


def run(solver, terms, iterations, **more):
    return solve(solver, terms, iterations=iterations, **more)


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
@pytest.mark.parametrize(("solver", "iterations"), SOLVERS.values(), ids=SOLVERS)
def test_reaches_the_closed_form(solver, iterations, weights):
    found = run(solver, [misfit(weights)], iterations)
    torch.testing.assert_close(found.image, closed_form(weights), rtol=0, atol=1e-6)
    assert found.status.ok


@pytest.mark.parametrize(("solver", "iterations"), EVERY.values(), ids=EVERY)
class TestEverySolver:
    def test_finds_what_consistent_data_show(self, solver, iterations):
        found = run(solver, [misfit(data=CONSISTENT)], iterations)
        torch.testing.assert_close(found.image, TRUTH, rtol=0, atol=1e-6)

    def test_resumes_bit_for_bit(self, solver, iterations):
        whole = run(solver, [misfit()], 9)
        part = run(solver, [misfit()], 4)
        resumed = run(solver, [misfit()], 9, resume=part)
        assert torch.equal(resumed.image, whole.image)
        assert resumed.history == whole.history
        assert resumed.iterations == whole.iterations == 9
        assert part.iterations == 4

    def test_a_state_survives_being_taken_apart(self, solver, iterations):
        state = run(solver, [misfit()], 3).state
        tensors, numbers = state.parts()
        again = type(state).from_parts(tensors, numbers)
        assert torch.equal(solver.step([misfit()], again).image, solver.step([misfit()], state).image)
        with pytest.raises(CheckpointError, match="image"):
            type(state).from_parts({}, numbers)

    def test_goes_down(self, solver, iterations):
        objective = run(solver, [misfit()], 30).history["objective"]
        assert objective[-1] < objective[0]

    def test_a_batch_gives_what_each_item_gives(self, solver, iterations):
        data = torch.stack([DATA, draw(48, seed=8)])
        both = run(solver, [LeastSquares(Dense(MATRIX, SHAPE), data, WEIGHTS)], iterations)
        assert both.image.shape == (2, *SHAPE)
        for image, values in zip(both.image, data, strict=True):
            alone = run(solver, [misfit(data=values)], iterations)
            torch.testing.assert_close(image, alone.image, rtol=0, atol=1e-6)

    def test_leaves_start_and_data_alone(self, solver, iterations):
        start, data = draw(*SHAPE, seed=7), DATA.clone()
        before = start.clone()
        first = run(solver, [misfit(data=data)], 1, start=start)
        held = first.image.clone()
        run(solver, [misfit(data=data)], 3, resume=first)
        assert torch.equal(start, before)
        assert torch.equal(data, DATA)
        assert torch.equal(first.image, held)

    def test_works_in_float32(self, solver, iterations):
        term = LeastSquares(Dense(MATRIX, SHAPE), CONSISTENT.float(), WEIGHTS.float())
        found = run(solver, [term], iterations)
        assert found.image.dtype == torch.float32
        torch.testing.assert_close(found.image, TRUTH.float(), rtol=0, atol=1e-4)

    def test_stays_at_the_answer(self, solver, iterations):
        found = run(solver, [misfit(data=CONSISTENT)], 3, start=TRUTH)
        torch.testing.assert_close(found.image, TRUTH, rtol=0, atol=1e-12)

    def test_ends_at_the_first_value_that_is_not_finite(self, solver, iterations):
        class Spoilt(Dense):
            calls = 0

            def _adjoint(self, y):
                Spoilt.calls += 1
                return super()._adjoint(y) * (math.nan if Spoilt.calls > 6 else 1.0)

            def __getitem__(self, views):
                return Spoilt(self.matrix[views], self.shape)

        found = run(solver, [LeastSquares(Spoilt(MATRIX, SHAPE), DATA)], 50)
        assert found.status is Status.NOT_FINITE
        assert not found.status.ok
        assert torch.isfinite(found.image).all()
        assert f"at iteration {found.iterations + 1}" in found.advice

    def test_voxels_that_no_ray_sees_keep_their_start(self, solver, iterations):
        matrix = MATRIX.clone()
        matrix[:, 5] = 0
        matrix[3] = 0
        start = torch.full(SHAPE, 0.25, dtype=torch.float64)
        found = run(solver, [LeastSquares(Dense(matrix, SHAPE), DATA)], 20, start=start)
        assert found.status.ok
        assert torch.isfinite(found.image).all()
        assert float(found.image.flatten()[5]) == pytest.approx(0.25, abs=1e-12)

    def test_refuses_data_that_say_nothing(self, solver, iterations):
        with pytest.raises((ConfigError, NumericalError), match="above 0"):
            run(solver, [misfit(torch.zeros(48, dtype=torch.float64))], 3)


@pytest.mark.parametrize("name", MONOTONE)
def test_the_objective_never_rises(name):
    solver, _ = SOLVERS[name]
    objective = run(solver, [misfit()], 60).history["objective"]
    assert all(b <= a * (1 + 1e-12) for a, b in itertools.pairwise(objective))


@pytest.mark.parametrize("solver", [CGLS(), FISTA(), OSMomentum(subsets=1)])
def test_quadratic_priors_have_a_closed_form(solver):
    prior = Quadratic(strength=0.8)
    eye = torch.eye(12, dtype=torch.float64).reshape(12, *SHAPE)
    bend = torch.stack([prior.gradient(e).flatten() for e in eye])
    expected = torch.linalg.solve(MATRIX.T @ (WEIGHTS[:, None] * MATRIX) + bend, MATRIX.T @ (WEIGHTS * DATA))
    found = run(solver, [misfit(), prior], 500)
    torch.testing.assert_close(found.image.flatten(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("solver", [SIRT(), OSSART(subsets=1), FISTA(), OSMomentum(subsets=1)])
def test_bounds_are_kept_and_the_slope_points_outwards_there(solver):
    data = MATRIX @ (draw(12, seed=3) - 0.5)
    found = run(solver, [misfit(data=data), NonNegative()], 1500)
    slope = misfit(data=data).gradient(found.image)
    inside = found.image > 0
    assert 0 < int(inside.sum()) < 12
    assert float(found.image.min()) == 0.0
    assert float(slope[inside].abs().max()) < 1e-6
    assert float(slope[~inside].min()) > -1e-6


def test_fista_and_os_momentum_agree_on_huber():
    terms = [misfit(), Huber(strength=0.5, corner=0.05)]
    a, b = (run(solver, terms, 2000).image for solver in (FISTA(), OSMomentum(subsets=1)))
    torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


def test_fista_with_total_variation_is_lower_than_its_neighbours():
    terms = [misfit(), TotalVariation(strength=0.1, box=NonNegative(), iterations=500, tolerance=1e-12)]
    found = run(FISTA(), terms, 500).image

    def cost(x):
        return sum(float(term.value(x)) for term in terms)

    for seed in range(60):
        assert cost(found) <= cost((found + 1e-3 * (draw(*SHAPE, seed=seed) - 0.5)).clamp(min=0)) + 1e-9


@pytest.mark.parametrize("box", [Box(), NonNegative(), Box(0.2, 0.6)])
@pytest.mark.parametrize("strength", [0.0, 0.1, 1.0])
def test_primal_dual_reaches_the_minimum_that_fista_with_an_inner_loop_does(box, strength):
    prior = TotalVariation(strength=strength, spacing=(1.0, 2.0, 0.5), box=box, iterations=2000, tolerance=1e-13)
    terms = [misfit(), prior]
    slow, direct = run(FISTA(), terms, 1500).image, run(PrimalDual(), terms, 6000).image
    torch.testing.assert_close(direct, slow, rtol=0, atol=1e-7)
    assert sum(float(term.value(direct)) for term in terms) == pytest.approx(
        sum(float(term.value(slow)) for term in terms), rel=1e-9
    )


def test_primal_dual_treats_operators_with_negative_entries():
    prior = TotalVariation(strength=0.1, iterations=2000, tolerance=1e-13)
    terms = [LeastSquares(Dense(MATRIX - 0.05, SHAPE), DATA, WEIGHTS), prior]
    torch.testing.assert_close(run(PrimalDual(), terms, 6000).image, run(FISTA(), terms, 1500).image, rtol=0, atol=1e-6)


@pytest.mark.parametrize("balance", [0.1, 10.0])
def test_any_balance_leads_to_the_same_image(balance):
    terms = [misfit(), TotalVariation(strength=0.1)]
    usual, other = (run(PrimalDual(balance=b), terms, 8000).image for b in (1.0, balance))
    torch.testing.assert_close(other, usual, rtol=0, atol=1e-6)


class TestTheLoop:
    def test_says_that_the_limit_was_reached(self):
        found = run(SIRT(), [misfit()], 2)
        assert found.status is Status.MAX_ITERATIONS
        assert "iteration 2" in found.advice
        assert str(found.status) in found.advice

    @pytest.mark.parametrize("solver", [CGLS(), SIRT(), FISTA()])
    def test_converges_at_the_tolerance(self, solver):
        found = run(solver, [misfit()], 5000, tolerance=1e-5)
        assert found.status is Status.CONVERGED
        assert found.history["change"][-1] <= 1e-5 < found.history["change"][-2]

    @pytest.mark.parametrize("solver", [CGLS(), SIRT(), FISTA(), OSSART(subsets=4), OSMomentum(subsets=4)])
    def test_notices_that_nothing_moves_any_more(self, solver):
        found = run(solver, [misfit()], 20_000)
        assert found.status is Status.STAGNATED
        assert found.iterations < 20_000

    def test_tells_progress_and_callbacks(self):
        told, seen = [], []
        found = run(
            SIRT(),
            [misfit()],
            3,
            progress=lambda *args: told.append(args),
            callbacks=[lambda so_far: seen.append(so_far)],
        )
        assert [(at, of) for at, of, _ in told] == [(1, 3), (2, 3), (3, 3)]
        assert [so_far.iterations for so_far in seen] == [1, 2, 3]
        assert told[-1][2]["objective"] == found.history["objective"][-1]
        assert [len(so_far.history["change"]) for so_far in seen] == [2, 3, 4]

    @pytest.mark.parametrize(("stop", "word"), [(Stop("good enough"), "good enough"), (KeyboardInterrupt(), "interr")])
    @pytest.mark.parametrize("solver", [CGLS(), FISTA(), OSMomentum(subsets=3)])
    def test_can_be_stopped_and_resumed(self, solver, stop, word):
        def halt(so_far):
            if so_far.iterations == 3:
                raise stop

        found = run(solver, [misfit()], 9, callbacks=[halt])
        assert (found.status, found.iterations) == (Status.STOPPED, 3)
        assert word in found.advice
        again = run(solver, [misfit()], 9, resume=found)
        assert torch.equal(again.image, run(solver, [misfit()], 9).image)

    def test_an_interrupt_inside_a_step_keeps_the_state_before_it(self):
        class Pressed(Dense):
            calls = 0

            def _forward(self, x):
                Pressed.calls += 1
                if Pressed.calls == 5:
                    raise KeyboardInterrupt
                return super()._forward(x)

        term = LeastSquares(Pressed(MATRIX, SHAPE), DATA)
        found = run(SIRT(), [term], 9)
        assert found.status is Status.STOPPED
        again = run(SIRT(), [term], 9, resume=found)
        torch.testing.assert_close(again.image, run(SIRT(), [misfit(None)], 9).image, rtol=0, atol=0)

    def test_a_climbing_objective_ends_it(self):
        class Climber(SIRT):
            def step(self, terms, state):
                return State(image=state.image, iteration=state.iteration + 1, objective=100.0**state.iteration)

        found = run(Climber(), [misfit()], 50)
        assert found.status is Status.DIVERGED
        assert "the objective rose from" in found.advice

    def test_more_iterations_than_asked_are_not_made(self):
        whole = run(CGLS(), [misfit()], 5)
        assert run(CGLS(), [misfit()], 5, resume=whole).iterations == 5
        assert run(CGLS(), [misfit()], 3, resume=whole).iterations == 5

    def test_refuses_to_resume_something_else(self):
        found = run(SIRT(), [misfit()], 2)
        with pytest.raises(CheckpointError, match="relaxation"):
            run(SIRT(relaxation=0.5), [misfit()], 3, resume=found)
        for other in (misfit(None), misfit(data=DATA + 1)):
            with pytest.raises(CheckpointError, match="same data"):
                run(SIRT(), [other], 3, resume=found)
        with pytest.raises(CheckpointError, match="same data"):
            run(SIRT(), [misfit(), NonNegative()], 3, resume=found)

    def test_the_fingerprint_depends_on_everything_and_on_nothing_else(self):
        prior = Huber(strength=1.0)
        assert fingerprint([misfit(), prior]) == fingerprint([misfit(), Huber(strength=1.0)])
        used = misfit()
        run(OSSART(subsets=3), [used], 2)
        assert fingerprint([used]) == fingerprint([misfit()])
        variants = [[misfit()], [misfit(), prior], [misfit(), Huber(strength=2.0)], [misfit(None)], [prior, misfit()]]
        assert len({fingerprint(terms) for terms in variants}) == len(variants)

    @pytest.mark.parametrize(
        ("settings", "error", "word"),
        [
            ({"iterations": 0}, ConfigError, "iterations"),
            ({"iterations": True}, ConfigError, "iterations"),
            ({"iterations": 3, "tolerance": math.nan}, ConfigError, "tolerance"),
            ({"iterations": 3, "tolerance": -1.0}, ConfigError, "tolerance"),
            ({"iterations": 3, "start": draw(3, 4, 1)}, ShapeError, "start"),
            ({"iterations": 3, "start": TRUTH.float()}, ShapeError, "float32"),
            ({"iterations": 3, "start": TRUTH / 0}, NumericalError, "start"),
        ],
    )
    def test_refuses_settings_that_mean_nothing(self, settings, error, word):
        with pytest.raises(error, match=word):
            solve(SIRT(), [misfit()], **settings)

    def test_needs_a_start_where_no_data_give_a_shape(self):
        with pytest.raises(ConfigError, match="start"):
            run(FISTA(), [Quadratic()], 3)
        flat = run(FISTA(), [Quadratic(strength=1.0)], 300, start=TRUTH)
        torch.testing.assert_close(flat.image, torch.full_like(TRUTH, float(TRUTH.mean())), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("solver", "terms"),
    [
        (CGLS(), [misfit(), NonNegative()]),
        (SIRT(), [misfit(), Quadratic()]),
        (OSSART(), [misfit(), TotalVariation(strength=1.0)]),
        (OSMomentum(), [misfit(), TotalVariation(strength=1.0)]),
        (PrimalDual(), [misfit(), Huber()]),
        (PrimalDual(), [misfit(), TotalVariation(strength=1.0), Box()]),
        (FISTA(), [misfit(), NonNegative(), Box(0.0, 1.0)]),
        (CGLS(), [misfit(), misfit()]),
        (SIRT(), [NonNegative()]),
    ],
)
def test_solvers_refuse_terms_they_cannot_treat(solver, terms):
    with pytest.raises(ConfigError, match="terms"):
        run(solver, terms, 2, start=TRUTH)


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: SIRT(relaxation=2.0), "relaxation"),
        (lambda: PrimalDual(balance=0.0), "balance"),
        (lambda: SIRT(relaxation=0.0), "relaxation"),
        (lambda: OSSART(subsets=0), "subsets"),
        (lambda: OSSART(decay=1.1), "decay"),
        (lambda: OSMomentum(subsets=-1), "subsets"),
        (lambda: FISTA(length=0.0), "length"),
        (lambda: FISTA(length=math.inf), "length"),
    ],
)
def test_solvers_refuse_settings_that_diverge(make, word):
    with pytest.raises(ConfigError, match=word):
        make()


class Pull(SmoothTerm):
    """A user's own term: ½ strength ‖x - goal‖², a plain class."""

    def __init__(self, goal, strength):
        self.goal, self.strength, self._cache = goal, strength, object()

    def value(self, x):
        return 0.5 * self.strength * (x - self.goal).square().sum().double()

    def gradient(self, x):
        return self.strength * (x - self.goal)

    def curvature(self, x, *, everywhere=False):
        return torch.full_like(x, self.strength)


def test_terms_of_a_plain_class_are_solved_and_resumed():
    terms = [misfit(), Pull(TRUTH, 2.0)]
    whole = solve(FISTA(), terms, iterations=6)
    part = solve(FISTA(), [misfit(), Pull(TRUTH, 2.0)], iterations=3)
    assert solve(FISTA(), terms, iterations=6, resume=part).image.equal(whole.image)
    for other in (Pull(TRUTH, 2.5), Pull(TRUTH + 1, 2.0), Pull((TRUTH + 1).numpy(), 2.0)):
        assert fingerprint([misfit(), other]) != whole.problem
    with pytest.raises(CheckpointError, match="same data and terms"):
        solve(FISTA(), [misfit(), Pull(TRUTH, 2.5)], iterations=6, resume=part)
