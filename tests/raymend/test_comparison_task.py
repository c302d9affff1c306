"""Metrics from draws of noise and from inserts, against what is known of linear methods and of white noise."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from phantoms import Cylinder, Dose, Phantom, simulate
from raymend.comparison.cases import Prepared
from raymend.comparison.inserts import Discs, flat_sites
from raymend.comparison.setup import TASKS, Setup
from raymend.comparison.task import TASK_MEASURES, measure, protocol
from raymend.comparison.trial import Trial
from recon import Detector, ParallelBeam, VolumeGrid, to_hu
from recon.metrics import NoisePower, edge_transfer
from recon.random import generator
from recon.units import WATER

NOISE, SIZE, STEP = 20.0, 128, 0.8  # HU, pixels, mm
Values = dict[str, tuple[float, ...]]


def white(draws: int, *, size: int = SIZE, level: float = 40.0, first: int = 0, slices: int = 1) -> Prepared:
    """A constant image with white noise; there are no projections."""
    grid = VolumeGrid(shape=(slices, size, size), spacing=(1.0, STEP, STEP))

    def draw(number: int) -> Trial:
        noise = NOISE * torch.randn(grid.shape, generator=generator(first + number))
        return Trial(grid=grid, seed=number, given=level + noise, water=WATER)

    return Prepared(
        about="", reference=torch.full(grid.shape, level), kind="phantom", grid=grid,
        mask=torch.ones(grid.shape, dtype=torch.bool), region="", draws=draws, draw=draw,
    )  # fmt: skip


@pytest.fixture(scope="module")
def scanned() -> Prepared:
    """A water cylinder with a rod, as a scanner with parallel rays sees it, with three draws of noise."""
    shapes = (
        Cylinder(density=WATER, semi=(45.0, 47.0), length=math.inf),
        Cylinder(density=1.5 * WATER, centre=(0.0, 35.0, 0.0), semi=(4.0, 4.0), length=math.inf),
    )
    body = Phantom(shapes=shapes, name="cylinder")
    grid = VolumeGrid(shape=(1, SIZE, SIZE), spacing=(1.0, STEP, STEP))
    geometry = ParallelBeam.circular(60, detector=Detector(shape=(1, 160), pitch=(STEP, STEP)))
    scans = [simulate(body, geometry, dose=Dose(photons=1e5), seed=k) for k in range(3)]
    trials = [Trial(grid=grid, seed=k, scan=scan, water=WATER) for k, scan in enumerate(scans)]
    return Prepared(
        about="", reference=to_hu(body.rasterised(grid), WATER), kind="phantom", grid=grid,
        mask=torch.ones(grid.shape, dtype=torch.bool), region="", draws=3, draw=trials.__getitem__,
    )  # fmt: skip


def blurred(pixels: float, factor: float = 1.0) -> Callable[[Trial], Tensor]:
    return lambda trial: factor * torch.from_numpy(gaussian_filter(trial.image.numpy(), (0, pixels, pixels)))


def plain(trial: Trial) -> Tensor:
    return trial.image


def measured(
    names: Sequence[str], image: Callable[[Trial], Tensor], case: Prepared, setup: Setup | None = None
) -> Values:
    trials = [case.draw(k) for k in range(case.draws)]
    return measure(names, image, case, trials, [image(trial) for trial in trials], setup or Setup())


def mean(values: tuple[float, ...]) -> float:
    return math.fsum(values) / len(values)


def test_every_task_has_a_measure_and_says_what_it_rests_on() -> None:
    assert tuple(TASK_MEASURES) == TASKS
    setup = Setup(draws=7, contrast=123.0, faint=17.0)
    words = {name: protocol(name, setup) for name in TASKS}
    assert all("7 draws" in words[name] for name in TASKS if name != "ttf50")
    assert "123 HU" in words["ttf50"]
    assert "17 HU" in words["cnr"]
    assert "17 HU" in words["detectability"]


def test_noise_is_what_was_injected_and_its_interval_has_the_right_width() -> None:
    """White noise in N pixels is known to σ / √(2 N) per draw, from a mean over n draws to √(n / (n − 1)) of it."""
    values = [measured(["noise"], plain, white(4, first=4 * k))["noise"] for k in range(12)]
    assert {len(each) for each in values} == {4}
    assert mean([mean(each) for each in values]) == pytest.approx(NOISE, rel=0.002)
    spread = float(torch.tensor(values).var(dim=1).mean().sqrt())
    assert spread == pytest.approx(NOISE / math.sqrt(2 * SIZE**2) * math.sqrt(4 / 3), rel=0.35)


def test_two_draws_have_one_noise_between_them_and_one_draw_none() -> None:
    two = measured(TASKS, plain, white(2))
    assert [len(two[name]) for name in TASKS] == [1, 1, 1, 2, 1, 1]
    assert two["noise"][0] == pytest.approx(NOISE, rel=0.02)
    one = measured(TASKS, plain, white(1))
    assert [len(one[name]) for name in TASKS] == [0, 0, 0, 1, 1, 0]


def test_bias_is_what_a_method_adds() -> None:
    assert measured(["bias"], lambda trial: trial.image + 5, white(3))["bias"] == (pytest.approx(5, abs=0.4),)
    assert measured(["bias"], plain, white(3))["bias"][0] < 2  # noise of three draws alone has 11.5
    fifth = measured(["noise", "bias"], blurred(0, 0.2), white(3, level=50.0))
    assert fifth["bias"][0] == pytest.approx(40, rel=0.01)
    assert mean(fifth["noise"]) == pytest.approx(0.2 * NOISE, rel=0.01)


@pytest.mark.parametrize("pixels", [0.0, 1.0, 1.5])
def test_noise_frequency_of_filtered_white_noise_is_that_of_the_filter_in_squares_of_33_pixels(pixels: float) -> None:
    """Squares cut the noise off at their rims, which their expected spectrum has as well: measured within 1 %."""
    found = measured(["noise-frequency"], blurred(pixels), white(6))["noise-frequency"]
    lag = torch.arange(-32, 33, dtype=torch.float64)
    along = (1 - lag.abs() / 33) * (torch.exp(-(lag**2) / (4 * pixels**2)) if pixels else (lag == 0).double())
    at = torch.arange(33, dtype=torch.float64) / 33
    line = torch.cos(2 * math.pi * at[:, None] * lag) @ along
    expected = NoisePower(
        values=line[:, None] * line, spacing=(STEP, STEP), detrend="mean", regions=1, unit="HU"
    ).radial()  # fmt: skip
    assert len(found) == 6
    assert mean(found) == pytest.approx(expected.mean_frequency, rel=0.03)


@pytest.mark.parametrize("pixels", [0.0, 0.7, 1.0, 1.5, 2.0])
def test_sharpness_of_a_blurred_image_is_that_of_both_blurs(pixels: float) -> None:
    """An image alone shows inserts with an edge of 0.7 pixels, and the pixel's own width: measured within 0.7 %."""
    found = measured(["ttf50"], blurred(pixels), white(2))["ttf50"]
    assert len(found) == 2
    assert found[0] == pytest.approx(found[1], rel=1e-3)  # a linear method does not see the noise
    assert found[0] == pytest.approx(gaussian_f50(math.sqrt(0.7**2 + pixels**2 + 1 / 12)), rel=0.02)


def test_sharpness_of_a_filtered_reconstruction_is_that_of_both(scanned: Prepared) -> None:
    """Measured within 2 % of the product of the filter and the transfer of a single disc in the middle."""
    case, trial = replace(scanned, draws=1), scanned.draw(0)
    disc = Discs(sites=((64, 64),), reach=20, radius=10, grid=case.grid)
    answer = disc.squares(trial.with_added(disc.phantom(300.0, WATER)).image - trial.image)
    edge = edge_transfer(answer, spacing=STEP, radius=10 * STEP, half_width=8 * STEP, centre=disc.centre)
    for pixels in (0.0, 1.0, 1.5):
        filtered = edge.values * torch.exp(-2 * (math.pi * pixels * STEP * edge.frequency) ** 2)
        found = measured(["ttf50"], blurred(pixels), case)["ttf50"]
        assert found == (pytest.approx(replace(edge, values=filtered).f50, rel=0.02),)


def gaussian_f50(pixels: float) -> float:
    """Return the frequency at which a Gaussian blur leaves half, in 1/mm."""
    return math.sqrt(math.log(2) / 2) / (math.pi * pixels * STEP)


def test_a_method_that_fades_contrast_is_less_sharp_and_one_that_erases_has_nothing() -> None:
    full, faded = (measured(["ttf50"], blurred(1.0, factor), white(1))["ttf50"][0] for factor in (1.0, 0.8))
    assert faded == pytest.approx(full * math.sqrt(math.log(0.8 / 0.5) / math.log(2)), rel=0.02)  # of a Gaussian
    gone = measured(TASKS, lambda trial: torch.full(trial.grid.shape, 40.0), white(3))
    assert gone["ttf50"] == (0.0, 0.0, 0.0)
    assert mean(gone["noise"]) == 0
    assert gone["noise-frequency"] == gone["cnr"] == gone["detectability"] == ()
    faint = measured(["ttf50", "cnr"], blurred(0.0, 0.3), white(3))
    assert faint["ttf50"] == (0.0, 0.0, 0.0)
    assert mean(faint["cnr"]) == pytest.approx(mean(measured(["cnr"], plain, white(3))["cnr"]), rel=1e-3)


def test_contrast_to_noise_is_that_of_the_disc_over_the_injected_noise() -> None:
    """The edge's blur reaches into the disc: measured 3 % low; a single draw has its noise from each square alone."""
    for draws in (1, 6):
        found = measured(["cnr"], plain, white(draws), Setup(faint=60.0))["cnr"]
        assert mean(found) == pytest.approx(60 / NOISE, rel=0.07)


@pytest.mark.parametrize("pixels", [0.0, 1.0])
def test_detectability_in_white_noise_is_that_of_the_matched_filter_before_and_after_blur(pixels: float) -> None:
    """A blur can be undone by an observer; the discs' own edge of 0.7 pixels belongs to the signal."""
    case = white(16)
    disc = Discs(sites=((64, 64),), reach=8, radius=4, grid=case.grid).phantom(15.0, WATER)
    trial = case.draw(0)
    signal = trial.with_added(disc).image - trial.image
    truth = float(signal.double().norm()) / NOISE
    found = measured(["detectability"], blurred(pixels), case, Setup(faint=15.0))["detectability"]
    assert found == (pytest.approx(truth, rel=0.05),)


def test_a_scan_has_all_numbers_and_the_same_ones_again(scanned: Prepared) -> None:
    found = measured(TASKS, plain, scanned)
    assert {name: len(values) for name, values in found.items()} == {
        "noise": 3, "bias": 1, "noise-frequency": 3, "ttf50": 3, "cnr": 3, "detectability": 1,
    }  # fmt: skip
    assert all(math.isfinite(value) for values in found.values() for value in values)
    assert measured(["ttf50"], plain, replace(scanned, draws=1))["ttf50"] == found["ttf50"][:1]
    soft = measured(["noise", "noise-frequency"], blurred(1.0), scanned)
    assert all(mean(soft[name]) < 0.8 * mean(found[name]) for name in soft)


def test_volumes_are_asked_in_their_middle_slice() -> None:
    def only_there(trial: Trial) -> Tensor:
        image = trial.image.clone()
        image[0], image[2] = 0, 0
        return image

    case = white(3, slices=3)
    found, whole = measured(TASKS, only_there, case), measured(TASKS, plain, case)
    for name in ("noise-frequency", "ttf50", "cnr", "detectability"):
        assert found[name] == whole[name]
    assert mean(found["noise"]) == pytest.approx(NOISE / math.sqrt(3), rel=0.02)


def test_squares_lie_in_flat_tissue_inside_the_mask_and_apart(scanned: Prepared) -> None:
    half = scanned.mask.clone()
    half[..., : SIZE // 2] = False
    sites = flat_sites(scanned.reference, half, reach=6, count=50, seed=0)
    assert 8 <= len(sites) < 50
    for k, (row, column) in enumerate(sites):
        assert column - 6 >= SIZE // 2
        assert float(scanned.reference[0, row - 6 : row + 7, column - 6 : column + 7].min()) > -500
        assert all(max(abs(row - r), abs(column - c)) > 12 for r, c in sites[:k])
    first = scanned.reference[0, sites[0][0] - 6 : sites[0][0] + 7, sites[0][1] - 6 : sites[0][1] + 7]
    assert float(first.max() - first.min()) < 1  # not on the rod
    assert sites == flat_sites(scanned.reference, half, reach=6, count=50, seed=0)


def test_objects_without_room_have_no_numbers_that_ask_for_it() -> None:
    found = measured(TASKS, plain, white(3, size=16))
    assert [len(found[name]) for name in TASKS] == [3, 1, 0, 0, 0, 0]


def test_objects_of_no_tissue_have_inserts_in_their_denser_half() -> None:
    case = white(1, size=64, level=-900.0)
    case.reference[..., :32] -= 50
    sites = flat_sites(case.reference, case.mask, reach=4, count=9, seed=0)
    assert sites
    assert all(column - 4 >= 30 for _, column in sites)
