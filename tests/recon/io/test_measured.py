"""Measured files and the results of other programs, read as their geometry says."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.io import loadmat

from recon.errors import CTWarning, FormatError
from recon.geometry import ConeBeam, ParallelBeam, ScanGeometry
from recon.io import describe, read_scan, read_volume, write_volume
from recon.sinogram import find_centre

pytestmark = pytest.mark.data


def test_helsinki(shared_data: Path) -> None:
    full = read_scan(shared_data / "htc2022_fanbeam/htc2022_tb_full.mat")
    part = read_scan(shared_data / "htc2022_fanbeam/htc2022_tb_limited_40deg.mat")
    assert isinstance(full.geometry, ConeBeam)
    assert full.geometry.shape == (721, 1, 560)
    assert (full.geometry.source_to_axis, full.geometry.source_to_detector) == (410.66, 553.74)
    assert full.geometry.detector.pitch == (0.2, 0.2)
    assert full.geometry.detector.curve == "flat"
    at = [int(np.argmin(np.abs(np.array(full.geometry.angles) - a))) for a in part.geometry.angles]  # type: ignore[attr-defined]
    assert at == list(range(580, 661))
    assert torch.equal(full[at].values, part.values)
    assert abs(find_centre(full[:720])) < 0.1  # half a column; measured: 0.04 mm


def _ellipsoids(geometry: ScanGeometry, table: NDArray[np.floating], parts: int) -> torch.Tensor:
    """Average exact line integrals over parts x parts rays per pixel of an arc detector."""
    rays = geometry.rays()
    rows, columns = geometry.detector.shape
    source, centre, v, u = rays.unbind(1)
    reach = (centre - source).norm(dim=1, keepdim=True)
    ahead, side = (centre - source) / reach, u / u.norm(dim=1, keepdim=True)
    sub = (torch.arange(parts, dtype=torch.float64) - (parts - 1) / 2) / parts
    total = torch.zeros(geometry.shape, dtype=torch.float64)
    for s in sub:
        for t in sub:
            gamma = (torch.arange(columns) - (columns - 1) / 2 + s) * float(u[0].norm()) / float(reach[0])
            k = torch.arange(rows) - (rows - 1) / 2 + t
            along = ahead[:, None] * gamma.cos()[:, None] + side[:, None] * gamma.sin()[:, None]
            rise = (k[:, None] * v[:, None]) / reach[:, None]
            ray = along[:, None] + rise[:, :, None]
            total += _through(source[:, None, None], ray / ray.norm(dim=-1, keepdim=True), table)
    return total / parts**2


def _through(start: torch.Tensor, ray: torch.Tensor, table: NDArray[np.floating]) -> torch.Tensor:
    total = torch.zeros(ray.shape[:-1], dtype=torch.float64)
    for x, y, z, rx, ry, rz, _, _, mu in table:
        radius = torch.tensor([rz, ry, rx])
        p, d = (start - torch.tensor([z, y, x])) / radius, ray / radius
        a, b, c = (d * d).sum(-1), (p * d).sum(-1), (p * p).sum(-1) - 1
        total += mu * 2 * (b * b - a * c).clamp_min(0).sqrt() / a
    return total


def test_mirt_projections_are_those_of_its_ellipsoids(shared_data: Path) -> None:
    """Sense of rotation, columns, rows and offset: any of them wrong is an error of 3 % or more."""
    path = shared_data / "reference_results/mirt_fdk_example.mat"
    scan = read_scan(path)
    assert scan.geometry.detector.offset == (0.0, 4.0)
    assert scan.geometry.arc_detector
    exact = _ellipsoids(scan.geometry, loadmat(path, variable_names=["ell"])["ell"], 4)
    error = float((exact - scan.values).square().mean().sqrt() / exact.square().mean().sqrt())
    assert error < 0.006  # measured: 0.0036; MIRT averages rays over each pixel in its own way


def test_leap_head(shared_data: Path) -> None:
    scan = read_scan(shared_data / "reference_results/leap_forbild_head.npz")
    assert isinstance(scan.geometry, ParallelBeam)
    assert scan.geometry.shape == (720, 1, 512)
    assert scan.geometry.angles[1] == pytest.approx(math.pi / 720)
    phantom = read_volume(shared_data / "reference_results/leap_forbild_head.npz")
    assert phantom.grid.spacing == (0.8, 0.8, 0.8)
    # a view's centre of mass follows the image's: row k of the phantom is at y(k), without a flip
    _, y, x = phantom.grid.axes()
    image = phantom.values[0].double()
    where = [float((image.sum(axis) * along).sum() / image.sum()) for axis, along in ((0, x), (1, y))]
    theta = torch.tensor(scan.geometry.angles, dtype=torch.float64)
    _, u = scan.geometry.detector.coordinates()
    moment = (scan.values[:, 0].double() * u).sum(1) / scan.values[:, 0].double().sum(1)
    torch.testing.assert_close(moment, where[0] * theta.cos() + where[1] * theta.sin(), atol=0.02, rtol=0)


def test_xcist_fan(shared_data: Path) -> None:
    path = shared_data / "reference_results/xcist_catsim_fan.npz"
    with pytest.warns(CTWarning, match="geometry: not stored"):
        scan = read_scan(path)
    assert scan.geometry.shape == (1000, 1, 900)
    assert abs(find_centre(scan)) < 0.1  # measured: 0.0 mm; the scanner's -1.25 columns are not in the data
    with pytest.warns(CTWarning, match="voxel size"):
        assert read_volume(path).unit == "HU"


def test_tooth(shared_data: Path) -> None:
    scan = read_scan(shared_data / "tooth_synchrotron_hdf5/tooth.h5", pitch=0.01, centre="find")
    assert scan.geometry.shape == (181, 2, 640)
    assert 319.5 - scan.geometry.detector.offset[1] / 0.01 == pytest.approx(296, abs=0.5)  # measured: 296.0
    assert -0.2 < float(scan.values.min()) < float(scan.values.max()) < 2.5
    assert scan.calibration.photons == pytest.approx(27837, rel=1e-3)


def test_neutrons(shared_data: Path) -> None:
    with pytest.warns(CTWarning, match="not above the dark field"):
        scan = read_scan(shared_data / "neutron_tiff_stack/neutron_rows60_67.npz", pitch=1.0, centre="find")
    assert 417.0 - scan.geometry.detector.offset[1] == pytest.approx(399, abs=1.0)


@pytest.mark.parametrize(
    ("name", "shape", "spacing", "centre", "low"),
    [
        ("ct_chest_siemens/dicom_original", (4, 512, 512), (3, 0.8828125, 0.8828125), (-82, -161, -6), -1024),
        ("ct_neck_jaw_philips/dicom_original", (5, 512, 512), (1.5, 0.515625, 0.515625), (502, 131.742, 11.742), -1024),
        ("ct_chest_siemens/chest_256.npz", (44, 256, 256), (3, 1.765625, 1.765625), None, -1024),
        ("nifti_abdomen/example_ct.nii.gz", (112, 101, 122), (3, 3, 3), None, -1207),
        ("format_samples/CT_small.dcm", (1, 128, 128), (5, 0.661468, 0.661468), None, -896),
    ],
)
def test_volumes(
    shared_data: Path, name: str, shape: tuple[int, ...], spacing: tuple[float, ...], centre: tuple[float, ...] | None,
    low: float,
) -> None:  # fmt: skip
    volume = read_volume(shared_data / name)
    assert volume.grid.shape == shape
    assert volume.grid.spacing == pytest.approx(spacing)
    assert centre is None or volume.grid.centre == pytest.approx(centre, abs=1e-3)
    assert float(volume.values.min()) == low


def test_dicom_and_nifti_agree_on_where_things_are(shared_data: Path, tmp_path: Path) -> None:
    volume = read_volume(shared_data / "ct_chest_siemens/dicom_original")
    write_volume(tmp_path / "chest.nii.gz", volume.values, volume.grid, unit=volume.unit)
    back = read_volume(tmp_path / "chest.nii.gz")
    assert torch.equal(back.values, volume.values)
    assert back.grid.centre == pytest.approx(volume.grid.centre)
    assert back.unit == "HU"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ct_head_phantom_philips/dicom_tilt", "-18.5 degrees"),
        ("format_samples/eCT_Supplemental.dcm", "Enhanced CT"),
        ("format_samples/matlab_v73_phantom3d.mat", "v7.3"),
        ("format_samples/vtk_head.mha", "MetaImage"),
        ("format_samples/varian_FilterBowtie.xim", "XIM"),
        ("rock_nexus/Sinogram_Rock_sample_3D.nxs", "NeXus"),
        ("htc2022_fanbeam/htc2022_ta_full_recon_fbp.mat", "reconFullFbp"),
        ("reference_results/README.md", "unknown content"),
    ],
)
def test_what_is_not_read_is_named(shared_data: Path, name: str, said: str) -> None:
    with pytest.raises(FormatError, match=said):
        describe(shared_data / name)
