"""Pairs of scans to learn from."""

import pytest
import torch

from phantoms.anatomy import anatomy
from phantoms.sampler import TRAINING_SEEDS, ScanPairs, slice_of
from recon import preset
from recon.errors import ConfigError

GEOMETRY = preset("hyperfed1").with_views(24).geometry


def pairs(**changes: object) -> ScanPairs:
    settings: dict[str, object] = {"geometries": (GEOMETRY,), "count": 5, "spacing": 3.0, **changes}
    return ScanPairs(**settings)  # type: ignore[arg-type]


def test_a_pair_is_the_same_whenever_it_is_asked_for() -> None:
    found, last = list(pairs(count=3, kinds=("head", "jaw"))), pairs(count=3, kinds=("head", "jaw"))[-1]
    assert torch.equal(found[2].noisy.values, last.noisy.values)
    assert torch.equal(found[2].clean.values, last.clean.values)
    assert found[2].height == last.height
    assert not torch.equal(found[0].clean.values, found[2].clean.values)
    assert [pair.kind for pair in found] == ["head", "jaw", "head"]
    assert [pair.seed for pair in found] == [TRAINING_SEEDS + k for k in range(3)]


def test_the_patients_are_those_for_training() -> None:
    assert pairs().patients == {
        "kind": ["thorax", "abdomen", "head", "jaw"],
        "seeds": [TRAINING_SEEDS, TRAINING_SEEDS + 4],
    }
    assert TRAINING_SEEDS > 1000


def test_the_two_scans_differ_by_noise_of_the_dose() -> None:
    low, high = (pairs(photons=(n, n), kinds=("head",))[0] for n in (1e4, 1e6))
    assert torch.equal(low.clean.values, high.clean.values)
    assert low.noisy.calibration.photons == pytest.approx(1e4)
    weak, strong = ((pair.noisy.values - pair.clean.values).std() for pair in (high, low))
    assert float(strong / weak) > 8  # 10 where counts are many; few photons behind the body make it more
    assert low.clean.weights is None
    assert low.noisy.weights is not None


def test_a_slice_lies_in_the_plane_of_the_beam() -> None:
    patient = anatomy(seed=3, kind="head")
    found = slice_of(patient, 20.0, spacing=2.0)
    assert found.grid.centre[0] == 0
    assert found.grid.shape[0] == 1
    same = patient.hounsfield(20.0, *found.grid.axes()[1:])
    middle = found.values[0] / found.water * 1000 - 1000
    assert float((middle - same).abs()[same > -500].median()) < 1e-3  # HU in the head; 4e-5 was measured


def test_what_cannot_be_drawn_is_refused() -> None:
    for words, change in (
        ("kinds", {"kinds": ("foot",)}),
        ("photons", {"photons": (0.0, 1.0)}),
        ("geom", {"kinds": ()}),
    ):
        with pytest.raises(ConfigError, match=words):
            pairs(**change)
    with pytest.raises(IndexError):
        pairs()[5]
