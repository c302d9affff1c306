"""What every geometry promises."""

import importlib.util
import pickle
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
import torch

import recon.geometry
from recon.errors import GeometryError
from recon.geometry import FreeBeam, ScanGeometry
from recon.operators import Projector
from tests.contracts.geometries import CASES, GEOMETRIES, STILL, Case, doubled

each = pytest.mark.parametrize("geometry", [pair[0] for pair in GEOMETRIES.values()], ids=list(GEOMETRIES))
each_case = pytest.mark.parametrize("case", CASES, ids=str)
each_still = pytest.mark.parametrize("case", STILL, ids=str)


@each
def test_printed_form_evaluates_back(geometry: ScanGeometry) -> None:
    again = eval(repr(geometry), vars(recon.geometry))
    assert again == geometry
    assert type(again) is type(geometry)


@each
def test_equal_geometries_have_equal_hashes(geometry: ScanGeometry) -> None:
    twin = replace(geometry)
    assert twin == geometry
    assert hash(twin) == hash(geometry)
    assert geometry != doubled(geometry)
    assert len({geometry, twin, doubled(geometry)}) == 2


@each
def test_pickles(geometry: ScanGeometry) -> None:
    assert pickle.loads(pickle.dumps(geometry)) == geometry


@each
def test_cannot_be_changed(geometry: ScanGeometry) -> None:
    with pytest.raises(FrozenInstanceError):
        geometry.detector = None


@each
def test_rays_are_float64_and_fit_the_shape(geometry: ScanGeometry) -> None:
    assert geometry.rays().shape == (len(geometry), 4, 3)
    assert geometry.rays().dtype == torch.float64
    assert geometry.shape == (len(geometry), *geometry.detector.shape)


@each
@pytest.mark.parametrize("pick", ["reversed", "every other", "list", "array", "tensor", "mask", "last", "number"])
def test_some_views_are_some_rows_of_the_rays(geometry: ScanGeometry, pick: str) -> None:
    n = len(geometry)
    views, rows = {
        "reversed": (slice(None, None, -1), list(range(n))[::-1]),
        "every other": (slice(None, None, 2), list(range(0, n, 2))),
        "list": ([n - 1, 0], [n - 1, 0]),
        "array": (np.array([n - 1]), [n - 1]),
        "tensor": (torch.tensor([0, -1]), [0, n - 1]),
        "mask": (torch.arange(n) % 2 == 0, list(range(0, n, 2))),
        "last": (-1, [n - 1]),
        "number": (np.int64(0), [0]),
    }[pick]
    part = geometry[views]
    assert type(part) is type(geometry)
    assert torch.equal(part.rays(), geometry.rays()[rows])
    assert part.detector == geometry.detector


@each
def test_views_that_do_not_exist_are_refused(geometry: ScanGeometry) -> None:
    n = len(geometry)
    for views in (n, -n - 1, [0, n], 0.5, [0.0] * n, "0", None, [True] * (n + 2)):
        with pytest.raises(IndexError, match=rf"views: expected numbers within {n} views"):
            geometry[views]
    for nothing in ([], slice(0, 0), [False] * n):
        with pytest.raises(GeometryError, match=r"views: the selection .* leaves no view"):
            geometry[nothing]


@each
def test_a_loop_over_views_ends(geometry: ScanGeometry) -> None:
    assert sum(len(view) for view in geometry) == len(geometry)


@each_case
def test_lengths_doubled_double_the_line_integrals(case: Case) -> None:
    grid = replace(
        case.grid, spacing=tuple(2 * s for s in case.grid.spacing), centre=tuple(2 * c for c in case.grid.centre)
    )
    poses = None if case.poses is None else case.poses * torch.tensor([2.0, 2, 2, 1, 1, 1])
    twice = Projector(grid=grid, geometry=doubled(case.geometry), poses=poses)
    volume = torch.rand(case.grid.shape, dtype=torch.float64)
    # Powers of two scale without rounding; the norms and angles in between do not: 3e-15 measured.
    torch.testing.assert_close(twice @ volume, 2 * (case.projector() @ volume), rtol=1e-12, atol=1e-12)


@each_case
def test_written_out_view_by_view_it_projects_alike(case: Case) -> None:
    free = Projector(grid=case.grid, geometry=FreeBeam.of(case.geometry), poses=case.poses)
    volume = torch.rand(case.grid.shape)
    assert torch.equal(free @ volume, case.projector() @ volume)


@each_still
def test_has_a_figure(case: Case) -> None:
    if importlib.util.find_spec("recon.geometry.drawing") is None:
        pytest.skip("recon.geometry.drawing is not there yet")
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("agg")
    figure = case.geometry.figure(case.grid)
    assert figure.axes
    plt.close(figure)
