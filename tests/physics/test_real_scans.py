"""Measured scans and other toolboxes' results: geometry, scale and sharpness of what we make of them.

Each test states what was measured when it was written.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import loadmat
from torch import Tensor

from phantoms import Ellipsoid, Phantom
from recon import Scan, VolumeGrid, fbp, fdk, to_hu
from recon.errors import CTWarning
from recon.io import read_scan
from recon.metrics import correlation, matthews

pytestmark = pytest.mark.data

DISCS = ("solid_disc", "ta", "tb", "tc", "td")


def otsu(image: Tensor, bins: int = 256) -> Tensor:
    """Split an image in two classes of least variance (Otsu 1979)."""
    low, high = float(image.min()), float(image.max())
    counts = torch.histc(image, bins, low, high).double()
    centres = torch.linspace(low, high, bins + 1, dtype=torch.float64)[:-1] + (high - low) / bins / 2
    below, mass = counts.cumsum(0), (counts * centres).cumsum(0)
    above = below[-1] - below
    between = below * above * (mass / below.clamp_min(1) - (mass[-1] - mass) / above.clamp_min(1)) ** 2
    return image > float(centres[int(between.argmax())])


def array(path: Path) -> Tensor:
    """Return the one variable of a MATLAB file, turned so that y grows with the row as in our grids."""
    content = {name: value for name, value in loadmat(path).items() if not name.startswith("__")}
    (value,) = content.values()
    return torch.from_numpy(np.ascontiguousarray(value[::-1]).astype(np.float32))


def helsinki(folder: Path, name: str) -> Tensor:
    scan = read_scan(folder / "htc2022_fanbeam" / f"htc2022_{name}_full.mat")
    with pytest.warns(CTWarning, match="1 repeated view;"):  # 0 and 360 degrees
        return fbp(scan, VolumeGrid(shape=(1, 512, 512), spacing=0.2 * 410.66 / 553.74))[0]


def test_helsinki_disc_equals_the_shipped_reconstruction(shared_data: Path) -> None:
    """Measured: correlation 0.99998, scale 1.00001."""
    ours = helsinki(shared_data, "ta")
    theirs = array(shared_data / "htc2022_fanbeam" / "htc2022_ta_full_recon_fbp.mat") / 0.1483223
    assert correlation(ours, theirs) >= 0.9999
    assert float((ours * theirs).sum() / (theirs * theirs).sum()) == pytest.approx(1, abs=0.005)


@pytest.mark.parametrize("name", DISCS)
def test_helsinki_discs_segment_as_shipped(shared_data: Path, name: str) -> None:
    """Measured: Matthews correlation 0.9992 to 0.9999."""
    truth = array(shared_data / "htc2022_fanbeam" / f"htc2022_{name}_full_recon_fbp_seg.mat") > 0.5
    assert matthews(otsu(helsinki(shared_data, name)), truth) >= 0.995


@pytest.fixture(scope="module")
def michigan(shared_data: Path) -> tuple[Scan, Phantom]:
    path = shared_data / "reference_results" / "mirt_fdk_example.mat"
    table = loadmat(path, variable_names=["ell"])["ell"].tolist()
    solids = tuple(
        Ellipsoid(centre=(cz, cy, cx), semi=(rz, ry, rx), density=mu) for cx, cy, cz, rx, ry, rz, _, _, mu in table
    )
    return read_scan(path), Phantom(name="four ellipsoids", rule="additive", shapes=solids)


def test_michigan_cone_projections_are_those_of_its_phantom(michigan: tuple[Scan, Phantom]) -> None:
    """Measured: 0.38 % rms of the rms value, 0.16 % of the maximum, with 3 x 3 sub-rays per pixel."""
    scan, phantom = michigan
    ours = phantom.line_integrals(scan.geometry, subrays=(3, 3), averaging="log").to(scan.values)
    assert float((ours - scan.values).norm() / scan.values.norm()) < 0.006


def test_michigan_cone_objects_have_their_attenuation(michigan: tuple[Scan, Phantom]) -> None:
    """Measured: -0.1, -0.2, -0.6 and -0.6 %."""
    scan, phantom = michigan
    grid = VolumeGrid(shape=(50, 60, 64), spacing=7.8125)
    image, truth = fdk(scan, grid), phantom.rasterised(grid)
    z, y, x = grid.axes()
    points = torch.stack(torch.meshgrid(z, y, x, indexing="ij"), -1)
    for index, solid in enumerate(phantom.shapes):
        core = within(solid, points, 0.75)
        for other in phantom.shapes[1:] if index == 0 else ():
            core &= ~within(other, points, 1.3)
        assert float(image[core].mean()) == pytest.approx(float(truth[core].mean()), rel=0.02)


def within(solid: Ellipsoid, points: Tensor, share: float) -> Tensor:
    offset = (points - torch.tensor(solid.centre)) / torch.tensor(solid.semi)
    return offset.square().sum(-1) < share**2


def test_xcist_fan_equals_its_own_reconstruction(shared_data: Path) -> None:
    """Measured with the Hann window: correlation 0.9995, slope 0.997, offset -6 HU."""
    path = shared_data / "reference_results" / "xcist_catsim_fan.npz"
    with np.load(path) as content:
        theirs = content["recon_hu"].astype(np.float64)
    with pytest.warns(CTWarning, match="geometry: not stored"):
        scan = read_scan(path)
    image = fbp(scan, VolumeGrid(shape=(1, 512, 512), spacing=400 / 512), window="hann")
    ours = to_hu(image, water=0.02)[0].numpy().astype(np.float64)
    y, x = np.mgrid[:512, :512] - 255.5
    disc = np.hypot(y, x) < 255
    slope, offset = np.polyfit(theirs[disc], ours[disc], 1)
    assert np.corrcoef(theirs[disc], ours[disc])[0, 1] > 0.999
    assert slope == pytest.approx(1, abs=0.01)
    assert abs(offset) < 15


def test_leap_parallel_head_equals_its_phantom(shared_data: Path) -> None:
    """Measured: correlation 0.9867 with the phantom, 0.9872 with LEAP's reconstruction."""
    path = shared_data / "reference_results" / "leap_forbild_head.npz"
    image = fbp(read_scan(path), VolumeGrid(shape=(1, 512, 512), spacing=0.8))[0]
    with np.load(path) as content:
        phantom = torch.from_numpy(content["phantom"].astype(np.float32))
    assert correlation(image, phantom) >= 0.985


def test_the_tooth_is_sharpest_at_the_axis_that_is_found(shared_data: Path) -> None:
    """Measured: column 296.0, where the image has more gradient energy than half a pixel to either side."""
    path = shared_data / "tooth_synchrotron_hdf5" / "tooth.h5"
    with pytest.warns(CTWarning, match="pixel size"):
        found = read_scan(path, centre="find").geometry.detector.offset[1]
    assert 319.5 - found == pytest.approx(296.0, abs=0.5)
    grid = VolumeGrid(shape=(1, 400, 400), centre=(0.5, 0, 0))
    sharpness = {}
    for shift in (-1.0, -0.5, 0.0, 0.5, 1.0):
        with pytest.warns(CTWarning):
            image = fbp(read_scan(path, centre=found + shift), grid)
        sharpness[shift] = float(image.diff(dim=1).abs().sum() + image.diff(dim=2).abs().sum())
    assert max(sharpness, key=lambda s: sharpness[s]) in (-0.5, 0.0, 0.5)
