"""Derivatives by the vectors that place rays: the twin against finite differences, the chain against the twin."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import pad

from recon.kernels import reference
from recon.kernels.lines import Lines
from recon.kernels.slopes import chain, rays
from tests.contracts.geometries import CASES, Case
from tests.contracts.operators import draw
from tests.kernels.ray_cases import ON_KINKS, VECTORS, nudged

each_case = pytest.mark.parametrize("case", CASES, ids=str)


def setting(case: Case, batch: int = 2) -> tuple[Lines, Tensor, Tensor]:
    table = nudged(case)
    return table, draw(batch, *table.grid_shape), draw(batch, *table.shape, seed=1)


def plane_sums(table: Lines, volume: Tensor, projections: Tensor) -> Tensor:
    """Sum samples and their slopes along every ray, plane by plane: (view, row, column, 5)."""
    found = torch.zeros(*table.shape, 5, dtype=torch.float64)
    points, directions = rays(table, slice(None))
    main = reference.main_axis(directions)
    for index in torch.cartesian_prod(*(torch.arange(n) for n in table.shape)).tolist():
        at, d, axis = points[tuple(index)], directions[tuple(index)], int(main[tuple(index)])
        others = [other for other in range(3) if other != axis]
        planes = volume.movedim(axis + 1, 1)
        padded = torch.tensordot(projections[(slice(None), *index)], pad(planes, (1, 1, 1, 1)), 1)
        for k in range(table.grid_shape[axis]):
            place = (at + (k - at[axis]) * d / d[axis])[others]
            (i, j), (f, g) = (place.floor().int() + 1).tolist(), (place - place.floor()).tolist()
            if not (0 <= i <= padded.shape[1] - 2 and 0 <= j <= padded.shape[2] - 2):
                continue
            (a, b), (c, e) = padded[k, i : i + 2, j : j + 2].tolist()
            by_p, by_q = (1 - g) * (c - a) + g * (e - b), (1 - f) * (b - a) + f * (e - c)
            sample = (1 - f) * ((1 - g) * a + g * b) + f * ((1 - g) * c + g * e)
            h = k - (table.grid_shape[axis] - 1) / 2
            found[tuple(index)] += torch.tensor([sample, by_p, h * by_p, by_q, h * by_q], dtype=torch.float64)
    return found


@each_case
def test_the_twin_equals_finite_differences(case: Case) -> None:
    table, volume, projections = setting(case)
    found = reference.ray_gradient(table, volume, projections)
    for number, name in enumerate(VECTORS):
        step = 1e-6 * draw(len(table.source), 3, seed=2 + number)
        totals = [
            (reference.forward(replace(table, **{name: getattr(table, name) + side * step}), volume) * projections)
            .sum((0, 2, 3))  # one number per view
            for side in (1, -1)
        ]  # fmt: skip
        # 4e-9 of the largest slope measured: rounding of the sums over twice the step.
        expected = (totals[0] - totals[1]) / 2
        torch.testing.assert_close(
            (found[:, number] * step).sum(1), expected, rtol=0, atol=1e-13 * float(found.abs().max())
        )


@pytest.mark.parametrize("case", ON_KINKS.values(), ids=str)
def test_on_kinks_the_twin_has_the_slope_towards_larger_indices(case: Case) -> None:
    """Rays shifted along z and, where they are parallel, across the main axis: a kink is left on one side for all."""
    table = case.projector().lines
    volume, projections = draw(2, *table.grid_shape), draw(2, *table.shape, seed=1)
    shift = torch.zeros_like(table.source)
    shift[:, 0] = 1e-7
    if table.parallel:
        along = reference.main_axis(table.source)
        shift = torch.full_like(shift, 1e-7).scatter_(1, along[:, None], 0.0)
    moved = replace(table, centre=table.centre + shift)
    if not table.parallel:
        moved = replace(moved, source=table.source + shift)
    found = reference.ray_gradient(table, volume, projections)
    by_shift = found[:, 1] if table.parallel else found[:, 0] + found[:, 1]

    def total(rays_of: Lines) -> Tensor:
        return (reference.forward(rays_of, volume) * projections).sum((0, 2, 3))  # one number per view

    expected = (total(moved) - total(table)) / 1e-7
    scale = max(float(found.abs().max()), 1e-3)
    torch.testing.assert_close((by_shift * shift).sum(1) / 1e-7, expected, rtol=0, atol=1e-6 * scale)


@each_case
def test_the_chain_equals_the_twin(case: Case) -> None:
    table, volume, projections = setting(case)
    expected = reference.ray_gradient(table, volume, projections)
    sums = plane_sums(table, volume, projections)
    for views in (slice(None), slice(1, 3)):
        found = chain(table, views, sums[views])
        # 3e-15 of the largest slope measured.
        torch.testing.assert_close(found, expected[views], rtol=0, atol=1e-12 * float(expected.abs().max()))


def test_a_flat_detector_has_no_slope_by_depth() -> None:
    for name in ("free, parallel", "cone, flat", "free, tilted"):
        found = reference.ray_gradient(*setting(next(case for case in CASES if case.name == name)))
        assert not bool(found[:, 4].any())
        assert bool(found[:, :4].abs().amax((0, 2)).gt(0).all())
