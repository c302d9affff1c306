"""One image in plane: fast path against twin, in every proportion of pixels and bins."""

import pytest
import torch

from recon.kernels import cpu
from recon.kernels.cpu import in_plane, tables
from recon.kernels.lines import lines
from tests.contracts.geometries import CASES as ALL
from tests.kernels.in_plane_cases import CASES, LINE, SLICE, agree, case, drifting, fan, parallel

pytestmark = pytest.mark.usefixtures("poisoned")


@pytest.mark.parametrize("name", CASES)
def test_fast_path_equals_twin(name: str) -> None:
    assert in_plane.in_plane(case(name))
    agree(case(name))


@pytest.mark.parametrize("name", CASES)
def test_fast_path_equals_twin_in_batches(name: str) -> None:
    agree(case(name), batch=3)


@pytest.mark.parametrize("geometry", [fan(LINE), parallel(LINE)], ids=["fan", "parallel"])
def test_motion_within_the_plane_stays_fast(geometry) -> None:  # type: ignore[no-untyped-def]
    moved = lines(geometry, SLICE, drifting(len(geometry)))
    assert in_plane.in_plane(moved)
    agree(moved)


def test_rays_that_leave_their_plane_are_left_to_others() -> None:
    tilted = ("cone", "helix", "tilted", "free, flat")
    for entry in ALL:
        rays = lines(entry.geometry, entry.grid, entry.poses)
        if any(word in entry.name for word in tilted) or (entry.poses is not None):
            assert not in_plane.in_plane(rays), entry.name


def test_double_precision_is_left_to_the_general_kernel() -> None:
    assert not in_plane.applies(case("fan, flat"), torch.zeros(1, dtype=torch.float64))


def test_tables_are_made_once_and_go_with_their_lines() -> None:
    rays = case("fan, flat")
    before = len(in_plane._plan.plans)
    cpu.forward(rays, torch.zeros(1, *rays.grid_shape))
    plan = in_plane._plan(rays)
    cpu.adjoint(rays, torch.zeros(1, *rays.shape))
    assert in_plane._plan(rays) is plan
    assert len(in_plane._plan.plans) == before + 1
    del rays
    assert len(in_plane._plan.plans) == before


def test_every_way_of_reading_is_tested() -> None:
    kinds, gathers = set(), set()
    for name in CASES:
        made = tables.tabulate(case(name))
        kinds |= set(made.groups[:, 4].tolist())
        gathers.add(made.gather)
    assert kinds == {tables.FAST, tables.WIDE, tables.SLOW}
    assert gathers == {True, False}
