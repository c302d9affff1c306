"""What is written reads back: values, geometry, position, unit."""

import gzip
import math
import warnings
import zlib
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from io_cases import (
    CONE,
    GEOMETRIES,
    GRID,
    SCAN_WRITERS,
    VOLUME_WRITERS,
    content_of,
    data_exchange,
    dicom,
    npz,
    scan_of,
    volume,
)

from recon.errors import CTWarning
from recon.field_of_view import field_of_view
from recon.geometry import ConeBeam, Detector, FreeBeam, ParallelBeam, ScanGeometry
from recon.grid import VolumeGrid
from recon.io import describe, geometry_from_json, geometry_to_json, read_scan, read_volume, write_scan, write_volume
from recon.scan import Calibration, Scan

OPEN = pytest.mark.filterwarnings("ignore::recon.errors.CTWarning")


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=lambda g: type(g).__name__)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["scan.h5", "scan.npz", "scan.zarr"])
def test_own_formats_keep_everything(tmp_path: Path, geometry: ScanGeometry, dtype: torch.dtype, name: str) -> None:
    scan = scan_of(geometry)
    scan = replace(scan, values=scan.values.to(dtype))
    write_scan(tmp_path / name, scan)
    back = read_scan(tmp_path / name)
    assert back.geometry == scan.geometry
    assert back.values.dtype == dtype
    for part in ("values", "weights", "poses"):
        assert torch.equal(getattr(back, part), getattr(scan, part)), part
    assert back.weights is not None
    assert back.weights.dtype == torch.float32
    assert back.calibration == scan.calibration
    assert back.provenance[:-1] == scan.provenance
    assert f"{name}, sha256 " in back.provenance[-1]


@pytest.mark.parametrize("name", ["scan.h5", "scan.npz", "scan.zarr"])
def test_a_scan_without_options(tmp_path: Path, name: str) -> None:
    scan = replace(scan_of(), weights=None, poses=None, provenance=(), calibration=Calibration())
    write_scan(tmp_path / name, scan)
    back = read_scan(tmp_path / name)
    assert back.weights is None
    assert back.poses is None
    assert back.calibration == Calibration()
    assert len(back.provenance) == 1


@pytest.mark.parametrize("name", ["scan.h5", "scan.npz", "scan.zarr"])
def test_a_stated_geometry_leaves_the_rest_as_it_was(tmp_path: Path, name: str) -> None:
    write_scan(tmp_path / name, scan_of())
    other = ParallelBeam.circular(7, detector=CONE.detector)
    back = read_scan(tmp_path / name, geometry=other)
    assert back.geometry == other
    for part in ("values", "weights", "poses"):
        assert torch.equal(getattr(back, part), getattr(scan_of(), part)), part
    assert back.calibration == scan_of().calibration
    assert "geometry stated by the caller" in back.provenance


def test_plain_archives_state_their_calibration(tmp_path: Path) -> None:
    npz(tmp_path / "p.npz", photons=2e4, electronic=3.0, water=0.021, energy=np.float32(60))
    calibration = Calibration(photons=2e4, electronic=3.0, water=0.021, energy=60.0)
    assert read_scan(tmp_path / "p.npz").calibration == calibration


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=lambda g: type(g).__name__)
def test_geometry_as_json(geometry: ScanGeometry) -> None:
    assert geometry_from_json(geometry_to_json(geometry)) == geometry


def test_bare_array_with_a_geometry(tmp_path: Path) -> None:
    np.save(tmp_path / "bare.npy", scan_of().values.numpy())
    back = read_scan(tmp_path / "bare.npy", geometry=CONE)
    assert torch.equal(back.values, scan_of().values)


@pytest.mark.parametrize("dtype", [">f4", "<f8", "f2", ">f8"])
def test_other_number_formats_keep_their_values(tmp_path: Path, dtype: str) -> None:
    values = (np.arange(105).reshape(7, 3, 5) / 16).astype(dtype)
    for order in ("C", "F"):
        np.save(tmp_path / "bare.npy", np.asarray(values, order=order))  # type: ignore[call-overload]
        back = read_scan(tmp_path / "bare.npy", geometry=CONE)
        np.testing.assert_array_equal(back.values.numpy(), values.astype("f4"))


@pytest.mark.parametrize(
    "name", ["v.nii", "v.nii.gz", "v.tif", "v.tiff", "ünï cödé.nii", "-x.nii", "a b.tif", "v.zarr", "ä b.zarr"]
)
@pytest.mark.parametrize("unit", ["HU", "1/mm", "unknown"])
def test_volume_keeps_position_and_unit(tmp_path: Path, name: str, unit: str) -> None:
    write_volume(tmp_path / name, volume(), GRID, unit=unit)
    back = read_volume(tmp_path / name)
    assert torch.equal(back.values, volume())
    assert back.unit == unit
    assert back.grid.shape == GRID.shape
    np.testing.assert_allclose(back.grid.spacing, GRID.spacing, rtol=1e-6)  # NIfTI keeps float32
    np.testing.assert_allclose(back.grid.centre, GRID.centre, rtol=1e-6)


def test_longest_name_the_system_allows(tmp_path: Path) -> None:
    name = "n" * 251 + ".nii"
    write_volume(tmp_path / name, volume(), GRID)
    assert torch.equal(read_volume(tmp_path / name).values, volume())


def test_single_slice_stack(tmp_path: Path) -> None:
    grid = VolumeGrid(shape=(1, 6, 5))
    for name in ("one.tif", "one.nii"):
        write_volume(tmp_path / name, volume()[:1], grid)
        assert torch.equal(read_volume(tmp_path / name).values, volume()[:1])


def test_npy_volume_warns_of_its_missing_spacing(tmp_path: Path) -> None:
    write_volume(tmp_path / "v.npy", volume(), GRID)
    with pytest.warns(CTWarning, match="voxel size"):
        read_volume(tmp_path / "v.npy")
    back = read_volume(tmp_path / "v.npy", grid=GRID)
    assert back.grid == GRID
    assert torch.equal(back.values, volume())


def test_nibabel_sees_the_marked_voxel_where_it_is(tmp_path: Path) -> None:
    write_volume(tmp_path / "v.nii.gz", volume(), GRID)
    image = nibabel.load(tmp_path / "v.nii.gz")
    where = np.argwhere(image.get_fdata() == 3000.0)
    assert where.shape == (1, 3)
    z, y, x = (float(axis[i]) for axis, i in zip(GRID.axes(), (3, 1, 4), strict=True))
    np.testing.assert_allclose(image.affine @ [*where[0], 1], [-x, -y, z, 1], rtol=1e-6)
    np.testing.assert_allclose(image.get_qform(), image.get_sform(), atol=1e-5)
    assert image.header.get_xyzt_units()[0] == "mm"


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, -1), (1, -1, 1)])
@pytest.mark.parametrize("quaternion", [False, True])
def test_any_straight_nifti_orientation(
    tmp_path: Path, order: tuple[int, ...], signs: tuple[int, ...], quaternion: bool
) -> None:
    shape = (4, 6, 5)
    affine = np.zeros((4, 4))
    for axis, (world, sign, step) in enumerate(zip(order, signs, (1.0, 2.0, 3.0), strict=True)):
        affine[world, axis] = sign * step
    affine[:, 3] = 10, 20, 30, 1
    values = np.zeros(shape, "f4")
    values[1, 4, 2] = 1
    image = nibabel.Nifti1Image(values, None if quaternion else affine)
    if quaternion:
        image.header.set_qform(affine, code=1)
        image.header.set_sform(None, code=0)
    nibabel.save(image, tmp_path / "v.nii")
    back = read_volume(tmp_path / "v.nii")
    index = tuple(int(i) for i in back.values.nonzero()[0])
    z, y, x = (float(axis[i]) for axis, i in zip(back.grid.axes(), index, strict=True))
    np.testing.assert_allclose((-x, -y, z), (affine @ [1, 4, 2, 1])[:3], atol=1e-4)


def test_nifti_scale_and_whole_numbers(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.arange(24, dtype=">i2").reshape(2, 3, 4), np.eye(4))
    image.header.set_slope_inter(2.0, -1024.0)
    nibabel.save(image, tmp_path / "v.nii")
    expected = nibabel.load(tmp_path / "v.nii").get_fdata()
    back = read_volume(tmp_path / "v.nii").values.numpy()
    np.testing.assert_allclose(back.transpose(2, 1, 0)[::-1, ::-1], expected, rtol=1e-6)


def test_dicom_folder_is_sorted_and_rescaled(tmp_path: Path) -> None:
    for name, height in (("c.dcm", 6.0), ("a.dcm", 0.0), ("b.dcm", 3.0)):
        dicom(tmp_path / name, height=height, seed=int(height))
    back = read_volume(tmp_path)
    assert back.unit == "HU"
    assert back.grid == VolumeGrid(shape=(3, 6, 5), spacing=(3.0, 1.5, 0.75), centre=(3.0, -16.25, -8.5))
    stored = np.random.default_rng(3).integers(0, 3000, (6, 5), dtype=np.uint16)
    np.testing.assert_array_equal(back.values[1].numpy(), stored.astype("f4") - 1024)


def test_dicom_from_the_feet_up_is_turned(tmp_path: Path) -> None:
    for height in (0.0, 3.0):
        dicom(
            tmp_path / f"{height}.dcm", height=height, seed=int(height), ImageOrientationPatient=[-1, 0, 0, 0, 1, 0],
            ImagePositionPatient=[10.0, -20.0, height],
        )  # fmt: skip
    back = read_volume(tmp_path)
    stored = np.random.default_rng(0).integers(0, 3000, (6, 5), dtype=np.uint16)
    np.testing.assert_array_equal(back.values[0].numpy(), stored[:, ::-1].astype("f4") - 1024)
    assert float(back.grid.axes()[2][-1]) == 10.0


def test_png_states_its_window_and_runs_downwards(tmp_path: Path) -> None:
    from PIL import Image

    grid = VolumeGrid(shape=(1, 6, 5), spacing=(1.0, 1.5, 0.75))
    write_volume(
        tmp_path / "s.png", torch.linspace(-200, 300, 30).reshape(1, 6, 5), grid, window=(-160, 240), unit="HU"
    )
    with Image.open(tmp_path / "s.png") as picture:
        grey, text = np.asarray(picture), dict(picture.info)
    assert text["Window"] == "-160 to 240 HU"
    assert (grey[0, 0], grey[-1, -1]) == (0, 255)
    assert (np.diff(grey.reshape(-1).astype(int)) >= 0).all()


@OPEN
def test_data_exchange_counts(tmp_path: Path) -> None:
    data_exchange(tmp_path / "e.h5")
    scan = read_scan(tmp_path / "e.h5", pitch=0.5)
    expected = np.random.default_rng(0).random((8, 2, 40))
    np.testing.assert_allclose(scan.values.numpy(), expected, atol=1e-6)
    assert isinstance(scan.geometry, ParallelBeam)
    assert scan.geometry.angles[3] == pytest.approx(np.radians(67.5))
    assert scan.geometry.detector.pitch == (0.5, 0.5)
    with pytest.warns(CTWarning, match="pixel size"):
        read_scan(tmp_path / "e.h5")


@OPEN
def test_centre_is_stated_or_found(tmp_path: Path) -> None:
    data_exchange(tmp_path / "e.h5")
    assert read_scan(tmp_path / "e.h5", pitch=0.5, centre=2.5).geometry.detector.offset == (0.0, 2.5)
    found = read_scan(tmp_path / "e.h5", pitch=0.5, centre="find")
    assert "detector offset" in found.provenance[-1]


def test_counts_with_air(tmp_path: Path) -> None:
    counts = np.round(1000 * np.exp(-scan_of().values.numpy())).astype(np.uint16)
    np.save(tmp_path / "c.npy", counts)
    back = read_scan(tmp_path / "c.npy", geometry=CONE, air=1000.0)
    torch.testing.assert_close(back.values, scan_of().values, atol=2e-3, rtol=0)


@pytest.mark.parametrize(
    ("change", "axis", "reach"),
    [
        ({}, 410, 553),
        ({"DSO": None, "SOD": 410.0}, 410, 553),
        ({"DSO": None, "DSD": None, "sad": 400.0, "sid": 700.0}, 400, 700),
        ({"DSO": None, "DSD": None, "sdd": 950.0, "sid": 550.0}, 550, 950),
        ({"DSO": None, "DSD": None, "source_to_axis": 1.0, "source_to_detector": 2.0}, 1, 2),
    ],
)
def test_spellings_of_the_distances(tmp_path: Path, change: dict[str, object], axis: float, reach: float) -> None:
    npz(tmp_path / "s.npz", **change)
    scan = read_scan(tmp_path / "s.npz")
    assert isinstance(scan.geometry, ConeBeam)
    assert (scan.geometry.source_to_axis, scan.geometry.source_to_detector) == (axis, reach)
    said = " ".join(scan.provenance)
    assert ("taken from" in said) == ("source_to_axis" not in change)


@OPEN
@pytest.mark.parametrize("name", [*SCAN_WRITERS, *VOLUME_WRITERS])
def test_describe_says_what_the_file_is(tmp_path: Path, name: str) -> None:
    ({**SCAN_WRITERS, **VOLUME_WRITERS})[name](tmp_path / name)
    said = describe(tmp_path / name)
    assert said["holds"] == ("scan" if name in SCAN_WRITERS else "volume")
    assert said["file"] == name
    assert isinstance(said["warnings"], list)
    assert said["range"]["low"] <= said["range"]["high"]


def test_describe_lists_what_looks_wrong(tmp_path: Path) -> None:
    angles = np.arange(30) * 7.0
    angles[4] = angles[3]
    values = np.random.default_rng(0).random((30, 40)) * 30
    values[:, 7] = 0.5
    npz(tmp_path / "odd.npz", sinogram=values, angles=None, angles_deg=angles * 20)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CTWarning)
        said = " ".join(describe(tmp_path / "odd.npz")["warnings"])
    for word in ("degrees", "repeat the one before", "counts?", "1 pixels are the same", "truncated"):
        assert word in said


def test_files_do_not_depend_on_the_clock(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_scan(tmp_path / f"{name}.h5", scan_of())
        write_scan(tmp_path / f"{name}.zarr", scan_of())
        write_volume(tmp_path / f"{name}.nii.gz", volume(), GRID)
    for suffix in (".h5", ".nii.gz", ".zarr"):
        assert content_of(tmp_path / f"a{suffix}") == content_of(tmp_path / f"b{suffix}")
    assert zlib.crc32(gzip.decompress((tmp_path / "a.nii.gz").read_bytes()))


def test_dead_pixels_are_told_from_still_objects(tmp_path: Path) -> None:
    """A centred disc with a small rod in it: most of its pixels never change, and two are dead."""
    geometry = ParallelBeam.circular(30, detector=Detector(shape=(1, 64)))
    u = geometry.detector.coordinates()[1]
    values = (2 * (25.0**2 - u**2).clamp_min(0).sqrt() * 0.02).expand(geometry.shape).clone()
    write_scan(tmp_path / "still.h5", Scan(geometry=geometry, values=values.float()))
    assert not any("same in every view" in text for text in describe(tmp_path / "still.h5")["warnings"])
    for k, angle in enumerate(geometry.angles):
        values[k, 0] += 0.3 * ((u - 10 * math.cos(angle)).abs() < 2)
    write_scan(tmp_path / "rod.h5", Scan(geometry=geometry, values=values.float()))
    assert not any("same in every view" in text for text in describe(tmp_path / "rod.h5")["warnings"])
    values[:, 0, 30:32] = 0.5
    write_scan(tmp_path / "dead.h5", Scan(geometry=geometry, values=values.float()))
    assert any("2 pixels are the same in every view" in text for text in describe(tmp_path / "dead.h5")["warnings"])


def test_field_of_view_is_described(tmp_path: Path) -> None:
    for name, geometry in (("cone", CONE), ("free", FreeBeam.of(CONE))):
        write_scan(tmp_path / f"{name}.h5", scan_of(geometry))
    said = [describe(tmp_path / f"{name}.h5")["geometry"]["field of view [mm]"] for name in ("cone", "free")]
    radius, half = field_of_view(CONE)
    assert said[0] == {"radius": radius, "height": 2 * half}
    assert said[1] == pytest.approx(said[0], rel=1e-6)
