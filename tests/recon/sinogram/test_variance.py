"""The variance that restorers of projections trust."""

import math
import warnings

import pytest
import torch

from phantoms import Dose, disc, simulate
from recon import ConeBeam, Detector, FreeBeam, ParallelBeam
from recon.counting import cautious_variance
from recon.errors import ConfigError, CTWarning
from recon.scan import Calibration, Scan
from recon.sinogram.planes import periodic, planes, projections
from recon.sinogram.variance import mean_photons, variance
from recon.statistics import FEWEST, noise_weights

FAN = {"detector": Detector(shape=(2, 40), pitch=(2.0, 8.0)), "source_to_axis": 570, "source_to_detector": 1040}


def scan(photons: float = 1e4) -> Scan:
    geometry = ConeBeam.circular(20, **FAN)
    return simulate(disc(60.0), geometry, dose=Dose(photons=photons, electronic=11.0), seed=1)


def test_photons_give_the_variance_of_the_simulation() -> None:
    measured = scan()
    alone = variance(measured.changed(weights=None))
    expected = 1 / noise_weights(measured.values, 1e4, 11.0)
    assert torch.allclose(alone.double(), expected, rtol=1e-6)
    assert torch.allclose(alone, variance(measured), rtol=1e-2)  # its weights come from values before rounding
    assert alone.dtype == torch.float32


def test_less_than_a_photon_is_taken_as_one() -> None:
    starved = scan().changed(weights=None, values=torch.full((20, 2, 40), 9.0))
    assert float(mean_photons(starved).max()) < FEWEST
    assert torch.allclose(variance(starved).double(), cautious_variance(torch.tensor(1.0), 11.0))


def test_a_weight_of_nothing_is_an_infinite_variance() -> None:
    measured = scan()
    weights = measured.weights.clone()  # type: ignore[union-attr]
    weights[3, 0, 5] = 0
    assert math.isinf(float(variance(measured.changed(weights=weights))[3, 0, 5]))
    with pytest.raises(ConfigError, match="weights: expected some above 0"):
        variance(measured.changed(weights=0 * weights))


def test_a_scan_without_noise_is_refused() -> None:
    measured = scan().changed(weights=None, calibration=Calibration())
    with pytest.raises(ConfigError, match=r"photons: expected the mean photons per pixel"):
        variance(measured)


def test_planes_and_back() -> None:
    values = torch.rand(5, 2, 3)
    assert planes(values).shape == (2, 5, 3)
    assert torch.equal(projections(planes(values)), values)


CLOSED = [
    (ConeBeam.circular(20, **FAN), True),
    (ConeBeam.circular(21, start=1.0, **FAN), True),
    (ConeBeam.circular(20, arc=4.0, **FAN), False),
    (ConeBeam.circular(2, **FAN), False),
    (ConeBeam.circular(40, arc=4 * math.pi, **FAN), False),
    (ConeBeam.helical(20, pitch=10.0, turns=1.0, **FAN), False),
    (ParallelBeam.circular(20, detector=FAN["detector"]), False),
    (ParallelBeam.circular(20, arc=2 * math.pi, detector=FAN["detector"]), True),
    (ConeBeam(angles=tuple(-2 * math.pi * i / 30 for i in range(30)), **FAN), True),
    (FreeBeam.of(ConeBeam.circular(20, **FAN)), False),
]


@pytest.mark.parametrize(("geometry", "closed"), CLOSED)
def test_only_a_full_turn_closes(geometry: ConeBeam, closed: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert periodic(geometry) is closed


def test_views_out_of_order_are_told() -> None:
    with pytest.warns(CTWarning, match="not in the order of their angles"):
        assert not periodic(ConeBeam.circular(20, **FAN)[[0, 5, 1, 7, 3]])
