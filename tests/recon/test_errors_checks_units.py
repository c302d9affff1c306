"""Errors say what was expected, what came and what to do; checks raise them."""

import math

import numpy as np
import pytest
import torch

from recon import Detector, Gradient, Identity, ParallelBeam, Projector, Scan, VolumeGrid, checks, errors, fbp
from recon.errors import (
    ConfigError,
    CTError,
    GeometryError,
    MissingExtraError,
    NumericalError,
    ResourceError,
    ShapeError,
    Status,
)
from recon.io.limits import byte_limit
from recon.iterative import cgls
from recon.operators import LinearOperator, subsets
from recon.random import generator
from recon.units import WATER, to_hu, to_mu, water_attenuation


@pytest.mark.parametrize(
    ("error", "builtin", "code"),
    [
        (errors.ConfigError, ValueError, 2),
        (errors.GeometryError, ValueError, 2),
        (errors.ShapeError, ValueError, 3),
        (errors.FormatError, ValueError, 3),
        (errors.UnsafeFileError, ValueError, 3),
        (errors.ResourceError, MemoryError, 4),
        (errors.NumericalError, ArithmeticError, 5),
        (errors.CheckpointError, ValueError, 6),
        (errors.WorkerError, RuntimeError, 7),
    ],
)
def test_every_error_is_ours_and_the_builtin_it_resembles(error: type, builtin: type, code: int) -> None:
    assert issubclass(error, CTError)
    assert issubclass(error, builtin)
    assert error.exit_code == code


def test_a_missing_package_comes_with_the_line_that_installs_it() -> None:
    error = MissingExtraError("pydicom", "io", "reading DICOM")
    assert isinstance(error, ImportError)
    assert error.exit_code == 2
    assert str(error) == 'reading DICOM needs the package pydicom; install it with: pip install "raymend[io]"'


def test_every_status_gives_advice_and_only_non_finite_images_are_unusable() -> None:
    assert [status for status in Status if not status.ok] == [Status.DIVERGED, Status.NOT_FINITE]
    assert all(": " in str(status) for status in Status)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, True, "3", None, 1 + 2j])
def test_numbers_must_be_finite(value: object) -> None:
    with pytest.raises(ConfigError, match=r"dose: expected a finite number in mGy, got"):
        checks.finite("dose", value, unit="mGy")


@pytest.mark.parametrize("value", [0, -1.0, 5e-324, math.nan])
def test_lengths_must_be_above_zero(value: float) -> None:
    with pytest.raises(GeometryError, match=rf"pitch: expected .* in mm, got {value!r}"):
        checks.lengths("pitch", (1.0, value), 2, error=GeometryError)


@pytest.mark.parametrize("value", [(1, 2), (1, 2, 3, 4), (1, 2, 0), (1, 2, -3), (1, 2, 3.0), (1, 2, True), 3, "123"])
def test_counts_are_whole_numbers_of_one_or_more(value: object) -> None:
    with pytest.raises(ConfigError, match=r"shape: expected 3 whole numbers of 1 or more, got"):
        checks.counts("shape", value, 3)


def test_one_length_stands_for_all_and_too_many_are_refused() -> None:
    assert checks.lengths("spacing", 2, 3) == (2.0, 2.0, 2.0)
    with pytest.raises(ConfigError, match=r"spacing: expected one number or 3 numbers in mm, got \(1, 2\)"):
        checks.lengths("spacing", (1, 2), 3)
    with pytest.raises(ConfigError, match=r"centre: expected 3 numbers in mm, got 0"):
        checks.position("centre", 0, 3)


def test_an_unknown_word_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="window: expected one of hann, cosine, got 'hannn'"):
        checks.choice("window", "hannn", ("hann", "cosine"))


def test_non_finite_values_are_counted_and_the_first_is_named() -> None:
    values = torch.zeros(2, 3, 4)
    values[1, 0, 2] = math.nan
    values[1, 2, 3] = math.inf
    with pytest.raises(NumericalError, match=r"values: expected finite values, got 2 of 24 .*first at \(1, 0, 2\)"):
        checks.all_finite("values", values)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int16, torch.uint16, torch.complex64])
def test_other_types_are_refused_with_advice(dtype: torch.dtype) -> None:
    with pytest.raises(ShapeError, match=rf"x: expected float32 or float64, got {dtype}; convert it"):
        checks.floating("x", torch.zeros(3).to(dtype))


def test_swapped_axes_are_recognised() -> None:
    with pytest.raises(ShapeError, match=r"x: expected \(z, y, x\) = \(2, 3, 4\).*got \(4, 3, 2\); the axes look"):
        checks.shaped("x", torch.zeros(4, 3, 2), (2, 3, 4), "z, y, x")


@pytest.mark.parametrize("seed", [-1, 1.0, True, None, "1"])
def test_seeds_are_whole_numbers(seed: object) -> None:
    with pytest.raises(ConfigError, match="seed: expected an integer of 0 or more, got"):
        generator(seed)


@pytest.mark.parametrize(("energy", "mu"), [(30, 0.03756), (60, 0.02059), (80, 0.01837), (150, 0.01505)])
def test_water_at_the_tabulated_energies(energy: float, mu: float) -> None:
    assert water_attenuation(energy) == pytest.approx(mu, rel=1e-12)


def test_water_falls_with_energy_and_is_the_default_at_about_70_kev() -> None:
    found = [water_attenuation(energy) for energy in range(30, 151)]
    assert found == sorted(found, reverse=True)
    assert water_attenuation(70) == pytest.approx(WATER, rel=0.02)  # 0.012 measured


@pytest.mark.parametrize("energy", [0, 29.9, 151, 70000, math.nan])
def test_energies_outside_the_table_are_refused(energy: float) -> None:
    with pytest.raises(ConfigError, match=r"energy: expected 30 to 150 keV, got .*in keV"):
        water_attenuation(energy)


@pytest.mark.parametrize("water", [0.0, -0.02, math.nan, math.inf])
def test_water_must_attenuate(water: float) -> None:
    for convert in (to_hu, to_mu):
        with pytest.raises(ConfigError, match=r"water: expected a finite attenuation above 0 in 1/mm, got"):
            convert(torch.zeros(3), water)


def test_numbers_of_numpy_are_numbers() -> None:
    grid = VolumeGrid(shape=tuple(np.array([1, 2, 3])), spacing=np.float32(2.0), centre=np.zeros(3))
    assert grid == VolumeGrid(shape=(1, 2, 3), spacing=(2.0, 2.0, 2.0))
    with pytest.raises(GeometryError, match="spacing: expected a finite number in mm, got None"):
        VolumeGrid(shape=(1, 2, 3), spacing=None)


def test_poses_that_want_a_gradient_are_refused() -> None:
    geometry = ParallelBeam.circular(2, detector=Detector(shape=(1, 4)))
    with pytest.raises(ConfigError, match=r"pass poses\.detach"):
        Projector(grid=VolumeGrid(shape=(1, 4, 4)), geometry=geometry, poses=torch.zeros(2, 6, requires_grad=True))


def test_operators_add_only_to_operators() -> None:
    with pytest.raises(TypeError):
        Identity((2, 2)) + 3
    with pytest.raises(ShapeError, match="shape: expected 3 whole numbers"):
        Gradient((4, 4))


def test_seeds_factors_and_counts_may_be_numpys() -> None:
    x = torch.rand(2, 3, generator=generator(np.int64(3)))  # type: ignore[arg-type]
    assert x.equal(torch.rand(2, 3, generator=generator(3)))
    a = Identity((2, 3))
    for twice in (a * np.float32(2), np.float32(2) * a, a * np.int64(2)):
        assert isinstance(twice, LinearOperator)
        assert (twice @ x).equal(2 * x)
    detector = Detector(shape=(1, 8))
    whole = Projector(grid=VolumeGrid(shape=(1, 4, 4)), geometry=ParallelBeam.circular(6, detector=detector))
    assert subsets(whole, np.int64(2)) == subsets(whole, 2)  # type: ignore[arg-type]
    assert byte_limit(np.int64(100)) == 100  # type: ignore[arg-type]
    for wrong in (True, np.bool_(True)):
        for refuses in (generator, a.__mul__, lambda count: subsets(whole, count), byte_limit):
            with pytest.raises(ConfigError):
                refuses(wrong)  # type: ignore[operator]


def test_what_memory_cannot_hold_is_refused_before_it_is_taken() -> None:
    """Case 60: the numbers and what to do; 20000 cubed in float32 are 29.1 TiB."""
    grid = VolumeGrid(shape=(20_000, 20_000, 20_000), spacing=0.01)
    geometry = ParallelBeam.circular(6, detector=Detector(shape=(1, 8)))
    scan = Scan(geometry=geometry, values=torch.zeros(geometry.shape))
    projector = Projector.of(scan, grid)
    says = r"volume: about 29802\.3 GiB of memory needed, [\d.]+ GiB available; take fewer or larger voxels"
    for use in (lambda: projector.T @ scan.values, lambda: fbp(scan, grid), lambda: cgls(scan, grid, iterations=1)):
        with pytest.raises(ResourceError, match=says):
            use()
    checks.fits_memory("small", 1000)
    assert 1 << 20 < checks.available_memory() < 1 << 50


def test_tensors_on_two_devices_are_refused() -> None:
    here, there = torch.zeros(2), torch.zeros(2, device="meta")
    assert checks.together("weights", here, "the data", here) is here
    with pytest.raises(ConfigError, match=r"weights: expected a tensor on cpu like the data, got one on meta; move"):
        checks.together("weights", there, "the data", here)
