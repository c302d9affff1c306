"""Grids of voxels."""

import math
import pickle

import pytest
import torch

from recon.errors import GeometryError
from recon.grid import VolumeGrid

GRID = VolumeGrid(shape=(3, 4, 5), spacing=(2.0, 1.0, 0.5), centre=(10.0, 0.0, -3.0))


def test_printed_form_evaluates_back_and_equal_grids_have_equal_hashes() -> None:
    again = eval(repr(GRID), {"VolumeGrid": VolumeGrid})
    assert again == GRID
    assert hash(again) == hash(GRID)
    assert pickle.loads(pickle.dumps(GRID)) == GRID


def test_lists_and_single_numbers_are_taken() -> None:
    assert VolumeGrid(shape=[1, 2, 3], spacing=2) == VolumeGrid(shape=(1, 2, 3), spacing=(2.0, 2.0, 2.0))
    assert hash(VolumeGrid(shape=torch.zeros(1, 2, 3).shape)) == hash(VolumeGrid(shape=(1, 2, 3)))


def test_extent_runs_from_face_to_face() -> None:
    z, _, x = GRID.axes()
    assert GRID.extent == (6.0, 4.0, 2.5)
    assert float(z[-1] - z[0]) + 2.0 == GRID.extent[0]
    assert float(x[-1] - x[0]) + 0.5 == GRID.extent[2]


def test_indices_and_positions_are_inverse() -> None:
    points = torch.cartesian_prod(*GRID.axes())
    indices = torch.cartesian_prod(*(torch.arange(float(n), dtype=torch.float64) for n in GRID.shape))
    torch.testing.assert_close(GRID.to_index(points), indices, rtol=0, atol=1e-12)


def test_a_region_keeps_the_spacing() -> None:
    region = GRID.region((1, 2, 3), (10.0, 0.0, 0.0))
    assert (region.shape, region.spacing, region.centre) == ((1, 2, 3), GRID.spacing, (10.0, 0.0, 0.0))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shape": (0, 4, 4)}, r"shape: expected 3 whole numbers of 1 or more, got \(0, 4, 4\)"),
        ({"shape": (4, 4)}, r"shape: expected 3 whole numbers of 1 or more, got \(4, 4\)"),
        ({"shape": (4.0, 4, 4)}, r"shape: expected 3 whole numbers"),
        ({"shape": (4, 4, 4), "spacing": 0}, r"spacing: expected a finite number above 0 in mm, got 0"),
        ({"shape": (4, 4, 4), "spacing": (1, 1, -1)}, r"spacing: .* above 0 in mm, got -1"),
        ({"shape": (4, 4, 4), "spacing": (1, 1, 5e-324)}, r"spacing: .* above 0 in mm, got 5e-324"),
        ({"shape": (4, 4, 4), "spacing": (1, 1, math.inf)}, r"spacing: expected a finite number in mm, got inf"),
        ({"shape": (4, 4, 4), "spacing": (1, 1)}, r"spacing: expected one number or 3 numbers in mm"),
        ({"shape": (4, 4, 4), "centre": (0, math.nan, 0)}, r"centre: expected a finite number in mm, got nan"),
        ({"shape": (4, 4, 4), "centre": (0, 0)}, r"centre: expected 3 numbers in mm"),
    ],
)
def test_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(GeometryError, match=message):
        VolumeGrid(**settings)
