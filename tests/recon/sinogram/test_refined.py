"""Refinements of a restoration: reverse rays joined, and variances read from the result."""

import math
from dataclasses import replace

import pytest
import torch

from phantoms import Dose, ball, simulate
from recon import ConeBeam, Detector, ParallelBeam, Scan
from recon.errors import ConfigError, GeometryError
from recon.geometry import ScanGeometry
from recon.sinogram import SPAD, Gibbs, restore, variance
from recon.sinogram.conjugate import Conjugates
from recon.sinogram.planes import planes, projections
from recon.sinogram.refined import Refinement

PANEL = Detector(shape=(1, 80), pitch=(2.0, 4.0))
DISTANCES = {"source_to_axis": 570.0, "source_to_detector": 1040.0}
FAN = ConeBeam.circular(120, detector=replace(PANEL, curve="arc"), **DISTANCES)
TURNS: list[ScanGeometry] = [
    FAN,
    ConeBeam.circular(121, start=0.7, detector=PANEL, **DISTANCES),
    ConeBeam.circular(120, detector=replace(PANEL, offset=(0.0, 5.0)), **DISTANCES),
    ConeBeam.circular(120, detector=replace(PANEL, offset=(0.0, 1.0), curve="arc"), **DISTANCES),
    ConeBeam(angles=tuple(-2 * math.pi * i / 110 for i in range(110)), detector=PANEL, **DISTANCES),
    ParallelBeam.circular(120, arc=2 * math.pi, detector=replace(PANEL, shape=(2, 80))),
]


def smooth(geometry: ScanGeometry) -> torch.Tensor:
    """Exact line integrals, as planes, of a Gaussian blob off the axis: by where each ray passes it."""
    source, centre, v, u = geometry.rays().unbind(1)
    rows, columns = geometry.detector.shape
    i = torch.arange(rows, dtype=torch.float64)[:, None, None, None] - (rows - 1) / 2
    at = torch.arange(columns, dtype=torch.float64)[None, None, :, None] - (columns - 1) / 2
    pixel = (centre[None, :, None] + i * v[None, :, None] + at * u[None, :, None])[..., 1:]
    if geometry.detector.curve == "arc":
        _, length = geometry.detector.coordinates()
        angle = length / 1040 - float(geometry.detector.offset[1]) / 1040
        middle, along = (centre - source)[:, None, 1:], u[:, None, 1:] / 4.0
        turned = middle * torch.cos(angle)[:, None] + 1040 * along * torch.sin(angle)[:, None]
        pixel = (source[:, None, 1:] + turned)[None]
    way = source[None, :, None, 1:].expand_as(pixel) if geometry.parallel else pixel - source[None, :, None, 1:]
    way = way / way.norm(dim=-1, keepdim=True)
    off = pixel - torch.tensor([20.0, 30.0], dtype=torch.float64)
    distance = off[..., 0] * way[..., 1] - off[..., 1] * way[..., 0]
    return torch.exp(-((distance / 25) ** 2))


@pytest.mark.parametrize("geometry", TURNS)
def test_a_ray_and_its_reverse_agree(geometry: ScanGeometry) -> None:
    """Measured 2e-3 at most, between columns; five columns aside it is off by 0.1 and more."""
    clean = smooth(geometry)
    conjugates = Conjugates.of(geometry)
    joined, spread = conjugates.joined(clean, torch.ones_like(clean))
    assert float((joined - clean).abs().max()) < 3e-3
    wrong, _ = conjugates.joined(clean.roll(5, 2), torch.ones_like(clean))
    assert float((wrong - clean.roll(5, 2)).abs().max()) > 0.1
    assert float(spread.median()) < 0.51
    assert float(spread.max()) <= 1


@pytest.mark.parametrize("geometry", [TURNS[0], TURNS[3]])
def test_the_variance_of_a_join_is_that_of_drawn_noise(geometry: ScanGeometry) -> None:
    rng = torch.Generator().manual_seed(2)
    share = 0.2 + torch.rand((1, len(geometry), 80), generator=rng, dtype=torch.float64)
    noise = share.sqrt() * torch.randn((300, len(geometry), 80), generator=rng, dtype=torch.float64)
    joined, spread = Conjugates.of(geometry).joined(noise, share.expand_as(noise))
    assert float((joined.square().mean(0) / spread[0]).mean()) == pytest.approx(1, abs=0.005)


def test_a_value_that_was_not_measured_is_its_reverse() -> None:
    clean = smooth(FAN)
    spread = torch.ones_like(clean)
    spread[0, 7, 30:33] = torch.inf
    values = torch.where(spread.isfinite(), clean, 9.0)
    joined, left = Conjugates.of(FAN).joined(values, spread)
    assert float((joined - clean).abs().max()) < 1e-3
    assert bool(left.isfinite().all())
    lost = torch.full_like(spread, torch.inf)
    joined, left = Conjugates.of(FAN).joined(values, lost)
    assert torch.equal(joined, values)
    assert bool(left.isinf().all())


def noisy(geometry: ScanGeometry = FAN) -> tuple[Scan, Scan]:
    body = ball(60.0, density=0.03)
    return simulate(body, geometry, dose=Dose(photons=3e3, electronic=11.0), seed=1), simulate(body, geometry)


def test_joined_rays_are_less_noisy_before_and_after() -> None:
    scan, clean = noisy()
    plain, both = (restore(scan, Gibbs(strength=3.0), tune="none", conjugate=one) for one in (False, True))
    errors = [float((one.scan.values - clean.values).square().mean()) for one in (plain, both)]
    assert errors[1] < 0.8 * errors[0]
    assert both.scan.provenance[-1].endswith("rays joined with their reverse")


def test_a_second_pass_takes_the_variance_of_the_first() -> None:
    scan, _ = noisy()
    spad = SPAD(iterations=5)
    spread = planes(variance(scan))
    refinement = Refinement.of(scan, passes=2)
    assert refinement.noise is not None
    first = spad(planes(scan.values), spread, periodic=True)
    second = spad(planes(scan.values), spread * refinement.noise(first).float(), periodic=True)
    result = restore(scan, spad, tune="none", passes=2).scan
    assert torch.equal(result.values, projections(second))
    assert not torch.equal(second, first)
    assert "in 2 passes" in result.provenance[-1]


def test_passes_read_the_variance_of_the_means() -> None:
    """Of noise-free means the ratio mends what the noise did to the first variance."""
    scan, clean = noisy()
    refinement = Refinement.of(scan, passes=2)
    assert refinement.noise is not None
    found = planes(variance(scan)) * refinement.noise(planes(clean.values)).float()
    exact = 1 / noisy_weights(clean)
    torch.testing.assert_close(found.double(), exact, rtol=1e-3, atol=0)


def noisy_weights(clean: Scan) -> torch.Tensor:
    from recon.counting import log_moments

    quanta = 3e3 * torch.exp(-planes(clean.values).double())
    return 1 / log_moments(quanta, 11.0)[1]


def test_impossible_refinements_are_refused() -> None:
    scan, _ = noisy()
    with pytest.raises(ConfigError, match="passes: expected 1 whole numbers of 1 or more"):
        restore(scan, tune="none", passes=0)
    with pytest.raises(ConfigError, match="photons: expected the mean photons"):
        restore(scan.changed(calibration=replace(scan.calibration, photons=None)), tune="none", passes=2)
    with pytest.raises(GeometryError, match="conjugate: expected parallel rays or a fan over one full turn"):
        restore(scan[:60], tune="none", conjugate=True)
    with pytest.raises(ConfigError, match="conjugate: expected an object at rest"):
        restore(scan.moved(torch.zeros(120, 6)), tune="none", conjugate=True)
    with pytest.raises(GeometryError, match="conjugate: expected one detector row, got 2"):
        Conjugates.of(replace(FAN, detector=replace(PANEL, shape=(2, 80))))
