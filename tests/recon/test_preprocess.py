"""Counts to line integrals, and the search for the rotation axis."""

import math
import warnings

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor

from recon.errors import CTWarning, FormatError, GeometryError, NumericalError
from recon.geometry import ConeBeam, Detector, ParallelBeam, ScanGeometry
from recon.scan import Scan
from recon.sinogram.centre import find_centre, with_centre
from recon.sinogram.preprocess import line_integrals


def ellipses(geometry: ScanGeometry) -> Tensor:
    """Exact line integrals through a few ellipses, along the rays that the geometry itself states."""
    rays = geometry.rays()
    assert not geometry.arc_detector
    columns = torch.arange(geometry.detector.shape[1], dtype=torch.float64) - (geometry.detector.shape[1] - 1) / 2
    pixel = rays[:, 1, None] + columns[:, None] * rays[:, 3, None]
    start = pixel if geometry.parallel else rays[:, 0, None].expand_as(pixel)
    along = rays[:, 0, None].expand_as(pixel) if geometry.parallel else pixel - start
    along = (along / along.norm(dim=-1, keepdim=True))[..., 1:]
    total = torch.zeros(pixel.shape[:2], dtype=torch.float64)
    for mu, *where in ((0.02, 0, 0, 60, 50), (0.03, 20, 15, 12, 8), (-0.01, -25, 5, 6, 15), (0.02, 5, -30, 9, 5)):
        centre, radius = torch.tensor(where[:2]), torch.tensor(where[2:])
        p, d = (start[..., 1:] - centre) / radius, along / radius
        a, b, c = (d * d).sum(-1), (p * d).sum(-1), (p * p).sum(-1) - 1
        total += mu * 2 * (b * b - a * c).clamp_min(0).sqrt() / a
    return total[:, None]


def scan_of(geometry: ScanGeometry, noise: float = 0.0) -> Scan:
    values = ellipses(geometry)
    draw = torch.randn(values.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return Scan(geometry=geometry, values=(values + noise * draw).float())


def detector(offset: float, pitch: float = 1.0) -> Detector:
    return Detector(shape=(1, 192), pitch=(pitch, pitch), offset=(0.0, offset))


def frames(level: float, shape: tuple[int, ...] = (4, 3, 40)) -> Tensor:
    return torch.full(shape, level)


def counts_of(values: Tensor, beam: float = 1000.0, dark: float = 100.0) -> Tensor:
    return dark + (beam - dark) * torch.exp(-values)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.uint16, torch.int32])
def test_counts_become_line_integrals(dtype: torch.dtype) -> None:
    values = torch.linspace(0, 2, 5 * 3 * 40).reshape(5, 3, 40)
    counts = counts_of(values, 40100.0).to(dtype)
    result = line_integrals(counts, frames(40100.0), frames(100.0))
    # an integer count is off by up to one in 5400
    torch.testing.assert_close(result.values, values, atol=2e-4, rtol=0)
    assert result.clamped == 0
    assert result.photons == pytest.approx(40000)


def test_air_stands_for_flats() -> None:
    values = torch.linspace(0, 2, 60).reshape(1, 2, 30)
    for air in (900.0, torch.full((2, 30), 900.0)):
        result = line_integrals(counts_of(values, 900.0, 0.0), air=air)
        torch.testing.assert_close(result.values, values, atol=1e-6, rtol=1e-6)


def test_counts_without_beam_are_clamped_and_counted() -> None:
    counts = counts_of(torch.ones(5, 3, 40))
    counts[0, 1, 2], counts[3, 0, 7] = 0, 100
    with pytest.warns(CTWarning, match="counts: 2 of 600"):
        result = line_integrals(counts, frames(1000.0), frames(100.0))
    assert result.clamped == 2
    assert float(result.values[0, 1, 2]) == pytest.approx(1.0, abs=1e-6)


def test_no_count_at_all() -> None:
    with pytest.raises(NumericalError, match="beam on"):
        line_integrals(torch.zeros(5, 3, 40), frames(1000.0))


def test_dead_pixels_are_interpolated_and_counted() -> None:
    ramp = torch.linspace(0, 1, 40).expand(5, 3, 40)
    flats, counts = frames(1000.0), counts_of(ramp)
    flats[:, 1, 5], counts[:, 1, 5] = 100, 7
    flats[:, 2, 0], counts[:, 2, 0] = 0, 7
    with pytest.warns(CTWarning, match="2 dead pixels"):
        result = line_integrals(counts, flats, frames(100.0))
    assert int(result.bad.sum()) == 2
    torch.testing.assert_close(result.values[:, 1], ramp[:, 1], atol=1e-5, rtol=0)
    assert torch.isfinite(result.values).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"flats": None}, "neither"),
        ({"air": 5.0}, "both"),
        ({"flats": frames(50.0), "darks": frames(1000.0)}, "swapped"),
        ({"flats": frames(0.0), "darks": None}, "100%, expected at most 5%"),
        ({"flats": frames(9.0, (4, 3, 41))}, r"\(3, 40\), got \(4, 3, 41\)"),
        ({"darks": frames(9.0, (0, 3, 40))}, "darks"),
        ({"flats": None, "air": 0.0}, "air: expected"),
        ({"flats": None, "air": torch.ones(40)}, "air: expected a number or"),
        ({"counts": torch.ones(3, 40)}, "view, row, column"),
        ({"counts": torch.ones(0, 3, 40)}, "at least one pixel"),
        ({"counts": torch.ones(1, 3, 40, dtype=torch.complex64)}, "real numbers"),
    ],
)
def test_references_that_cannot_be_used(change: dict[str, object], message: str) -> None:
    given: dict[str, object] = {"counts": frames(500.0), "flats": frames(1000.0), "darks": frames(100.0), **change}
    with pytest.raises(FormatError, match=message):
        line_integrals(**given)  # type: ignore[arg-type]


def test_counts_that_are_not_finite() -> None:
    counts = frames(500.0)
    counts[1, 2, 3] = math.nan
    with pytest.raises(NumericalError, match=r"1 of 480 NaN or Inf, the first at \(1, 2, 3\)"):
        line_integrals(counts, frames(1000.0))


@pytest.mark.parametrize("block", [1, 5 * 7 * 9 * 8, 1 << 30])
@pytest.mark.filterwarnings("ignore::recon.errors.CTWarning")
def test_blocks_of_views_give_the_numbers_of_the_whole(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    draw = torch.Generator().manual_seed(0)
    counts = (torch.rand(23, 7, 9, generator=draw) * 1000 - 5).to(torch.int32)
    flats, darks = torch.full((2, 7, 9), 1000.0), torch.full((7, 9), 20.0)
    flats[:, 2, 3] = 0
    monkeypatch.setattr("recon.sinogram.preprocess._BLOCK", block)
    got = line_integrals(counts, flats, darks)
    share = (counts.double() - 20) / 980
    share[:, 2, 3] = 1
    low = share <= 0
    wanted = -share.where(~low, share[~low].min()).log()
    wanted[:, 2, 3] = (wanted[:, 2, 2] + wanted[:, 2, 4]) / 2
    torch.testing.assert_close(got.values, wanted.float())
    assert got.clamped == int(low.sum()) > 0


@pytest.mark.parametrize("offset", [0.0, 0.33, -7.4, 11.65])
@pytest.mark.parametrize("views", [90, 180])
def test_axis_from_half_a_turn(views: int, offset: float) -> None:
    scan = scan_of(ParallelBeam.circular(views, detector=detector(offset)))
    # at 90 views of 192 columns the measured error is 0.05 columns, at 180 views 0.05
    assert find_centre(with_centre(scan, 0.0)) == pytest.approx(offset, abs=0.101)


@pytest.mark.parametrize("offset", [0.33, -7.4])
def test_axis_from_a_full_turn_of_parallel_rays_and_noise(offset: float) -> None:
    geometry = ParallelBeam.circular(120, detector=detector(offset * 0.5, 0.5 * 1.6), arc=2 * math.pi, start=0.3)
    found = find_centre(with_centre(scan_of(geometry, noise=0.02), 0.0))
    assert found == pytest.approx(offset * 0.5, abs=0.08)


@pytest.mark.parametrize("offset", [0.4, -6.3])
def test_axis_from_a_full_turn_of_a_fan(offset: float) -> None:
    geometry = ConeBeam.circular(
        240, detector=detector(offset, 1.4), source_to_axis=300, source_to_detector=500
    )  # fmt: skip
    assert find_centre(with_centre(scan_of(geometry), 0.0)) == pytest.approx(offset, abs=0.14)


def test_order_of_views_and_start_do_not_matter() -> None:
    scan = scan_of(ParallelBeam.circular(120, detector=detector(5.2), start=-1.0))
    backwards = scan[list(range(119, -1, -1))]
    assert find_centre(backwards) == pytest.approx(5.2, abs=0.1)


def test_too_few_angles_for_a_search() -> None:
    fan = ConeBeam.circular(20, detector=detector(0.0), source_to_axis=300, source_to_detector=500, arc=3.0)
    for geometry in (fan, ParallelBeam.circular(20, detector=detector(0.0), arc=2.0)):
        with pytest.raises(GeometryError, match="state the offset"):
            find_centre(scan_of(geometry))


@pytest.mark.data
def test_axis_of_the_tooth(shared_data: object) -> None:
    with h5py.File(f"{shared_data}/tooth_synchrotron_hdf5/tooth.h5") as file:
        data, flat, dark = (torch.from_numpy(file[f"exchange/{n}"][:]) for n in ("data", "data_white", "data_dark"))
        angles = np.radians(file["exchange/theta"][:]).tolist()
    result = line_integrals(data, flat, dark)
    geometry = ParallelBeam(angles=angles, detector=Detector(shape=(2, 640)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        offset = find_centre(Scan(geometry=geometry, values=result.values))
    assert 319.5 - offset == pytest.approx(296, abs=0.5)  # measured: 296.0
