"""Scans keep values, weights and motion with the geometry they belong to."""

import math
import pickle

import numpy as np
import pytest
import torch

from recon.errors import ConfigError, CTError, FormatError, GeometryError, NumericalError, ShapeError
from recon.geometry import Detector, ParallelBeam
from recon.grid import VolumeGrid
from recon.operators import Projector
from recon.scan import Calibration, Scan

GEOMETRY = ParallelBeam(angles=(0.0, 0.4, 0.8, 1.2, 1.6), detector=Detector(shape=(2, 3)))
VALUES = torch.arange(30.0).reshape(5, 2, 3)
POSES = torch.arange(30.0, dtype=torch.float64).reshape(5, 6)


def scan(**changes: object) -> Scan:
    return Scan(**{"geometry": GEOMETRY, "values": VALUES, "weights": VALUES + 1, "poses": POSES, **changes})


@pytest.mark.parametrize(
    ("views", "kept"),
    [
        (slice(None, None, 2), [0, 2, 4]),
        (slice(None, None, -1), [4, 3, 2, 1, 0]),
        (slice(-2, None), [3, 4]),
        ([3, 0], [3, 0]),
        ((1,), [1]),
        (range(1, 4), [1, 2, 3]),
        (torch.tensor([4, 1]), [4, 1]),
        (np.array([0, -1]), [0, 4]),
        ([True, False, True, False, False], [0, 2]),
        (torch.tensor([True] * 5), [0, 1, 2, 3, 4]),
        (np.array([False] * 4 + [True]), [4]),
        (2, [2]),
        (-1, [4]),
        (np.int64(1), [1]),
        (torch.tensor(3), [3]),
    ],
    ids=str,
)
def test_some_views_take_everything_along(views: object, kept: list[int]) -> None:
    part = scan()[views]
    assert part.geometry.angles == tuple(GEOMETRY.angles[i] for i in kept)
    assert torch.equal(part.values, VALUES[kept])
    assert torch.equal(part.weights, VALUES[kept] + 1)
    assert torch.equal(part.poses, POSES[kept])
    assert scan(weights=None, poses=None)[views].weights is None
    assert Projector.of(part, VolumeGrid(shape=(1, 2, 2))).range_shape == part.values.shape


@pytest.mark.parametrize("views", [5, -6, [0, 5], [0.5], "all", None, [True, False]])
def test_views_that_do_not_exist_are_refused(views: object) -> None:
    with pytest.raises(IndexError, match="views: expected numbers within 5 views, or a mask of 5"):
        scan()[views]


def test_no_view_at_all_is_refused() -> None:
    with pytest.raises(GeometryError, match="leaves no view of 5"):
        scan()[5:]


REFUSED = {
    "axes swapped": ({"values": VALUES.mT}, ShapeError, r"values: expected \(view, row, column\) .*axes look swapped"),
    "another number of views": ({"values": VALUES[:4]}, ShapeError, r"values: .* = \(5, 2, 3\).*got \(4, 2, 3\)"),
    "a batch": ({"values": VALUES[None]}, ShapeError, r"values: .* = \(5, 2, 3\).*got \(1, 5, 2, 3\)"),
    "empty": ({"values": VALUES[:, :0]}, ShapeError, r"values: .*got \(5, 0, 3\)"),
    "an array": ({"values": VALUES.numpy()}, ShapeError, r"values: expected a torch tensor, got ndarray; wrap"),
    "half precision": ({"values": VALUES.half()}, ShapeError, r"values: expected float32 or float64, got .*float16"),
    "complex": ({"values": VALUES + 0j}, ShapeError, r"values: expected float32 or float64, got torch.complex64"),
    "uint16 counts": (
        {"values": VALUES.to(torch.uint16)}, FormatError, r"values: .*got torch.uint16.*raw counts.*--log"
    ),
    "float counts": (
        {"values": VALUES * 1000}, FormatError, r"values: expected line integrals .*50.*, got .*29000.*raw counts"
    ),
    "not a number": (
        {"values": VALUES.where(VALUES != 7, math.nan)}, NumericalError, r"values: .*got 1 of 30.*\(1, 0, 1\)"
    ),
    "infinite": ({"values": VALUES - math.inf}, NumericalError, r"values: .*got 30 of 30"),
    "weights of another shape": ({"weights": VALUES[0]}, ShapeError, r"weights: expected \(view, row, column\)"),
    "negative weights": ({"weights": -VALUES}, ShapeError, r"weights: expected inverse variances of 0 or more"),
    "weights not finite": ({"weights": 1 / VALUES}, NumericalError, r"weights: .*got 1 of 30"),
    "integer weights": ({"weights": VALUES.int()}, ShapeError, r"weights: expected float32 or float64"),
    "poses of another length": ({"poses": POSES[:4]}, ShapeError, r"poses: expected \(view, 6\) = \(5, 6\)"),
    "poses as an array": ({"poses": POSES.numpy()}, ShapeError, r"poses: expected a torch tensor, got ndarray"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(REFUSED))
def test_refused(name: str) -> None:
    changes, error, message = REFUSED[name]
    with pytest.raises(error, match=message) as caught:
        scan(**changes)
    assert isinstance(caught.value, CTError)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"photons": 0}, "photons: expected a finite number above 0"),
        ({"photons": math.nan}, "photons: expected a finite number"),
        ({"energy": -70.0}, "energy: expected a finite number above 0"),
        ({"water": 0.0}, "water: expected a finite number above 0 in 1/mm"),
        ({"electronic": -1.0}, "electronic: expected a variance of 0 or more, got -1"),
    ],
)
def test_calibrations_that_cannot_be_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Calibration(**settings)


def test_a_change_makes_another_scan() -> None:
    first = scan()
    second = first.with_values(VALUES / 2, "halved").with_values(VALUES / 4, "halved again")
    assert second.provenance == ("halved", "halved again")
    assert first.provenance == ()
    assert torch.equal(first.values, VALUES)
    assert torch.equal(first.moved(POSES + 1).poses, POSES + 1)
    assert torch.equal(first.poses, POSES)
    assert len(first) == 5


def test_pickles_and_moves_between_devices() -> None:
    again = pickle.loads(pickle.dumps(scan())).to("cpu")
    assert again.geometry == GEOMETRY
    assert torch.equal(again.values, VALUES)
    assert again.calibration == Calibration()


def test_any_memory_layout_is_taken() -> None:
    values = VALUES.permute(2, 1, 0).contiguous().permute(2, 1, 0)
    assert not values.is_contiguous()
    assert torch.equal(scan(values=values).values, VALUES)
