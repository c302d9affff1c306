"""Dose: photons per column."""

import pytest
import torch

from phantoms.dose import relative_fan
from recon.geometry import ConeBeam, Detector, FreeBeam


@pytest.mark.parametrize("curve", ["flat", "arc"])
def test_a_free_geometry_has_the_fan_of_the_scanner_it_writes_out(curve: str) -> None:
    """A half-fan set-up too: the fan is measured from the axis, not from the detector's middle."""
    detector = Detector(shape=(3, 40), pitch=(5, 5), offset=(4.0, 80.0), curve=curve)
    cone = ConeBeam.circular(4, detector=detector, source_to_axis=300, source_to_detector=500)
    torch.testing.assert_close(relative_fan(FreeBeam.of(cone)), relative_fan(cone), rtol=0, atol=1e-12)
    expected = cone.fan_angles() / cone.fan_angles().abs().max()
    torch.testing.assert_close(relative_fan(cone), expected, rtol=0, atol=1e-12)
