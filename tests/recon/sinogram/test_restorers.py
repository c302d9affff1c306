"""Restoration of projections: compiled kernels against their plain twins, and both against closed forms."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from recon.errors import ConfigError
from recon.sinogram import reference
from recon.sinogram.restorers import SPAD, TV, Gibbs, PeronaMalik, Restorer

RESTORERS: list[Restorer] = [
    Gibbs(strength=300.0, iterations=5),
    Gibbs(strength=300.0, iterations=5, across_views=0.25),
    TV(strength=40.0, iterations=4, corner=0.02),
    TV(strength=40.0, iterations=3, corner=0.001, sweeps=3),
    PeronaMalik(iterations=4),
    SPAD(iterations=4, rows=True),
    SPAD(iterations=3, mode="first", directions=4, kappa=1.5, step=0.3, rows=True),
    *(
        SPAD(iterations=4, mode=mode, directions=directions, kappa=1.5, step=step)
        for mode, directions, step in [
            ("first", 4, 0.5), ("second", 8, 0.5), ("both", 8, 0.3), ("both", 4, 1.0), ("first", 8, 1.0),
        ]
    ),
]  # fmt: skip


def arch(columns: int) -> Tensor:
    column = torch.linspace(-1, 1, columns, dtype=torch.float64)
    return 3 * (1 - column**2) + (column > 0.3) * 0.5


def noisy(shape: tuple[int, int, int], *, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Make an arch with a step in it, as a projection has, and its variance."""
    rng = torch.Generator().manual_seed(3)
    clean = arch(shape[2])
    variance = 1e-4 * torch.exp(clean) * (0.5 + torch.rand(shape, generator=rng, dtype=torch.float64))
    values = clean + variance.sqrt() * torch.randn(shape, generator=rng, dtype=torch.float64)
    return values.to(dtype), variance.to(dtype)


@pytest.mark.parametrize("restorer", RESTORERS, ids=repr)
@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("shape", [(1, 12, 9), (2, 7, 8), (1, 5, 1), (1, 1, 6), (3, 3, 2)])
def test_kernels_equal_their_twins(restorer: Restorer, periodic: bool, shape: tuple[int, int, int]) -> None:
    values, variance = noisy(shape)
    periodic = periodic and shape[1] > 2
    plain = restorer(values, variance, periodic=periodic, plain=True)
    assert (restorer(values, variance, periodic=periodic) - plain).abs().max() < 1e-12  # measured 3e-15
    fast = restorer(values.float(), variance.float(), periodic=periodic)
    assert fast.dtype == torch.float32
    assert (fast - plain).abs().max() < 2e-6  # measured 5e-7


@pytest.mark.parametrize("restorer", RESTORERS, ids=repr)
def test_threads_change_no_bit(restorer: Restorer, monkeypatch: pytest.MonkeyPatch) -> None:
    values, variance = noisy((2, 31, 40))
    alone = restorer(values, variance, periodic=True)
    monkeypatch.setattr("recon.sinogram.compiled._SMALL", 0)
    assert torch.equal(restorer(values, variance, periodic=True), alone)


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("restorer", RESTORERS, ids=repr)
def test_every_point_is_written(restorer: Restorer) -> None:
    values, variance = noisy((2, 5, 7))
    before = values.clone()
    assert bool(restorer(values, variance, periodic=True).isfinite().all())
    assert torch.equal(values, before)


@pytest.mark.parametrize("restorer", RESTORERS, ids=repr)
@pytest.mark.parametrize("plain", [False, True])
def test_constant_data_stay(restorer: Restorer, plain: bool) -> None:
    values, (_, variance) = torch.full((1, 6, 7), 2.5, dtype=torch.float64), noisy((1, 6, 7))
    restored = restorer(values, variance, periodic=False, plain=plain)
    assert (restored - 2.5).abs().max() < 1e-12


@pytest.mark.parametrize("restorer", RESTORERS, ids=repr)
def test_where_a_turn_begins_does_not_matter(restorer: Restorer) -> None:
    values, variance = noisy((1, 12, 9))
    turned = restorer(values.roll(4, 1), variance.roll(4, 1), periodic=True)
    assert (turned.roll(-4, 1) - restorer(values, variance, periodic=True)).abs().max() < 1e-13


@pytest.mark.parametrize("restorer", RESTORERS, ids=repr)
def test_noise_falls(restorer: Restorer) -> None:
    values, variance = noisy((1, 24, 240))
    restored = replace(restorer, iterations=15)(values, variance, periodic=True)
    share = (restored - arch(240)).square().mean() / (values - arch(240)).square().mean()
    assert share < 0.5


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("views", [6, 7])
def test_gibbs_solves_its_linear_system(views: int, periodic: bool) -> None:
    values, variance = noisy((1, views, 5))
    strength, across, count = 150.0, 0.25, views * 5
    laplace = torch.zeros(count, count, dtype=torch.float64)
    index = torch.arange(count).reshape(views, 5)
    edges = [(i, j, 1.0) for i, j in zip(index[:, :-1].flatten(), index[:, 1:].flatten(), strict=True)]
    below = index.roll(-1, 0) if periodic else index[1:]
    edges += [(i, j, across) for i, j in zip(index.flatten(), below.flatten(), strict=False)]
    for i, j, weight in edges:
        laplace[i, i] += weight
        laplace[j, j] += weight
        laplace[i, j] -= weight
        laplace[j, i] -= weight
    exact = torch.linalg.solve(
        torch.eye(count, dtype=torch.float64) + strength * variance.flatten()[:, None] * laplace, values.flatten()
    )
    found = Gibbs(strength=strength, iterations=400, across_views=across)(values, variance, periodic=periodic)
    assert (found.flatten() - exact).abs().max() < 1e-10  # measured 2e-14


@pytest.mark.parametrize("periodic", [False, True])
def test_tv_finds_the_minimum_of_its_cost(periodic: bool) -> None:
    values, variance = noisy((1, 6, 8))
    strength, corner = 20.0, 0.05

    def cost(q: Tensor) -> Tensor:
        b, v = (reference.shifted(q, *step, periodic) - q for step in ((0, 1), (1, 0)))
        slopes = (b**2 + v**2 + corner**2).sqrt().sum()
        return 0.5 * ((values - q).square() / variance).sum() + strength * slopes

    q = values.clone().requires_grad_()
    step = 1 / (float(1 / variance.min()) + 8 * strength / corner)
    for _ in range(4000):  # plain descent, with a step that cannot diverge
        (gradient,) = torch.autograd.grad(cost(q), q)
        q = (q - step * gradient).detach().requires_grad_()
    q = q.detach()
    found = TV(strength=strength, iterations=300, corner=corner)(values, variance, periodic=periodic)
    assert float(cost(found)) <= float(cost(q)) * (1 + 1e-12)
    assert (found - q).abs().max() < 1e-6


@pytest.mark.parametrize("directions", [4, 8])
def test_ramps_diffuse_freely_under_second_differences(directions: int) -> None:
    """Adding a ramp, however steep, adds it to the result: where slopes do not change nothing stops the diffusion."""
    values, variance = noisy((1, 20, 20))
    ramp = torch.arange(20.0, dtype=torch.float64)[:, None] * 3 - torch.arange(20.0, dtype=torch.float64) * 2
    inner = (slice(None), slice(5, -5), slice(5, -5))
    for mode, free in (("second", True), ("first", False)):
        spad = SPAD(mode=mode, directions=directions, iterations=4)
        added = spad(values + ramp, variance, periodic=False) - ramp - spad(values, variance, periodic=False)
        assert (float(added[inner].abs().max()) < 1e-12) == free


def test_rows_are_neighbours_like_views_and_columns() -> None:
    """Turned by a permutation of the axes the data give the same, turned back; alike rows change no more than one."""
    values, variance = noisy((6, 6, 6))
    spad = SPAD(iterations=3, rows=True)
    found = spad(values, variance, periodic=False)
    for axes in ((1, 2, 0), (2, 1, 0)):
        turned = spad(values.permute(axes).contiguous(), variance.permute(axes).contiguous(), periodic=False)
        back = tuple(axes.index(i) for i in range(3))
        assert (turned.permute(back) - found).abs().max() < 1e-13
    assert (found - replace(spad, rows=False)(values, variance, periodic=False)).abs().max() > 1e-3


def test_rows_of_one_object_lose_more_noise_together() -> None:
    values, variance = noisy((8, 24, 120))
    spad = SPAD(iterations=4)
    errors = [
        (replace(spad, rows=rows)(values, variance, periodic=True) - arch(120)).square().mean()
        for rows in (False, True)
    ]
    assert errors[1] < 0.7 * errors[0]


def test_a_step_of_one_to_four_neighbours_is_perona_malik() -> None:
    values, variance = noisy((1, 9, 9))
    spad = SPAD(strength=700.0, mode="first", directions=4, step=1.0, kappa=2.0, iterations=6)
    assert torch.equal(
        spad(values, variance, periodic=True),
        PeronaMalik(strength=700.0, kappa=2.0, iterations=6)(values, variance, periodic=True),
    )


def test_a_value_that_was_not_measured_is_filled_from_its_neighbours() -> None:
    values, variance = noisy((1, 9, 9))
    values, variance[0, 4, 4] = torch.full_like(values, 1.5), torch.inf
    values[0, 4, 4] = -7.0
    for restorer in RESTORERS:
        restored = replace(restorer, iterations=60)(values, variance, periodic=True)
        assert float((restored - 1.5).abs().max()) < 1e-3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Gibbs(strength=-1.0), "strength: expected a finite number above 0"),
        (lambda: TV(corner=0.0), "corner"),
        (lambda: SPAD(mode="third"), "mode: expected one of first, second, both"),
        (lambda: SPAD(directions=6), "directions: expected 4 or 8, got 6"),
        (lambda: SPAD(step=0.0), "step: expected a share"),
        (lambda: SPAD(kappa=float("nan")), "kappa"),
        (lambda: Gibbs(iterations=0), "iterations"),
    ],
)
def test_settings_out_of_range_are_refused(make: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()  # type: ignore[operator]


def test_a_variance_that_does_not_fit_is_refused() -> None:
    values, variance = noisy((1, 4, 5))
    with pytest.raises(ConfigError, match="variance: expected"):
        Gibbs()(values, variance[:, 1:], periodic=False)
    with pytest.raises(ConfigError, match="leave noise-free"):
        Gibbs()(values, 0 * variance, periodic=False)
