"""XCAT and NCAT files: places, units, and what is refused."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from xcat_cases import XCAT_GRID, avs_field, body_per_cm, interfile, xcat_log

from recon.errors import ConfigError, CTWarning, FormatError, ResourceError, UnsafeFileError
from recon.io import describe, read_volume
from recon.io.limits import byte_limit
from recon.io.xcat import read_xcat

LIMIT = byte_limit(None)


@pytest.mark.parametrize("per", [1.0, 0.25])
def test_a_log_tells_size_and_unit(tmp_path: Path, per: float) -> None:
    xcat_log(tmp_path / "man_log", per=per)
    volume = read_volume(tmp_path / "man_log")
    assert volume.grid == XCAT_GRID
    assert volume.unit == "1/mm"
    np.testing.assert_allclose(volume.values.numpy(), body_per_cm() / 10, rtol=1e-6)
    by_raw, doubts = read_xcat(tmp_path / "man_atn_1.bin", LIMIT)
    assert np.array_equal(by_raw.values, volume.values)
    assert not doubts
    assert describe(tmp_path / "man_log")["kind"] == "xcat"


def test_interfile_tells_places_but_no_unit(tmp_path: Path) -> None:
    interfile(tmp_path / "man.hv", more="first pixel offset (mm) [1] := -10\nfirst pixel offset (mm) [3] := 100\n")
    volume = read_volume(tmp_path / "man.hv")
    assert volume.grid.shape == XCAT_GRID.shape
    assert volume.grid.spacing == XCAT_GRID.spacing
    assert volume.grid.centre == (107.5, 0, -3.75)
    assert volume.unit == "unknown"
    assert np.array_equal(volume.values, body_per_cm())
    for per, divisor in (("cm", 10), ("pixel", 2.5)):
        scaled, _ = read_xcat(tmp_path / "man.hv", LIMIT, per=per)
        assert scaled.unit == "1/mm"
        np.testing.assert_allclose(scaled.values.numpy(), body_per_cm() / divisor, rtol=1e-6)


def test_labels_of_an_avs_field(tmp_path: Path) -> None:
    avs_field(tmp_path / "slice.fld")
    with pytest.warns(CTWarning, match="voxel size: not stored, taken as 1 mm"):
        volume = read_volume(tmp_path / "slice.fld")
    assert volume.grid.shape == (1, 6, 5)
    assert volume.values[0, 0].tolist() == [0, 100, 100, 0, 20]
    assert float(volume.values[0, 5, 4]) == 200


def test_real_headers_and_labels(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "phantoms" / "xcat"
    header = (folder / "input_image_atn_1.hv").read_bytes()
    (tmp_path / "input_image_atn_1.hv").write_bytes(header)
    values = np.random.default_rng(0).random((64, 110, 110), dtype=np.float32)
    (tmp_path / "input_image_atn_1.bin").write_bytes(values.tobytes())
    volume = read_volume(tmp_path / "input_image_atn_1.hv")
    assert volume.grid.spacing == (4.0625, 4, 4)
    assert volume.grid.centre == pytest.approx((63 / 2 * 4.0625, -2, -2))
    assert np.array_equal(volume.values, values)
    with pytest.raises(FormatError, match="expected a file, got none"):
        read_volume(folder / "input_image_atn_1.hv")
    with pytest.warns(CTWarning, match="taken as 1 mm"):
        labels = read_volume(folder / "ncat_256_slice_140_ct_x100.fld")
    assert labels.grid.shape == (1, 256, 256)
    assert sorted(set(labels.values.flatten().tolist())) == [0, 20, 100, 190, 200]


def _edit(path: Path, old: str, new: str) -> None:
    text = path.read_bytes().decode("latin-1")
    assert old in text
    path.write_bytes(text.replace(old, new).encode("latin-1"))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("array_size = 6", "array_size = 7", r"expected 784 bytes for \(z, y, x\) = \(4, 7, 7\), got 576"),
        ("array_size = 6", "array_size = 99999999", "needs"),
        ("array_size = 6", "array_size = -6", "expected"),
        ("pixel width =   0.2500", "pixel width = 0", "spacing: expected a finite number above 0"),
        ("pixel width =   0.2500", "pixel width = .e.", "pixel width: expected a finite number"),
        ("slice number        = 14", "slice number        = 2", "shape: expected 3 whole numbers"),
        ("0.1928", "0.2200", "the most frequent value of the voxels, 0.1928, among its attenuations"),
        ("Coefficients (1/cm)", "Coefficients (1/inch)", "got neither"),
    ],
)
def test_logs_that_do_not_fit(tmp_path: Path, old: str, new: str, words: str) -> None:
    xcat_log(tmp_path / "man_log")
    _edit(tmp_path / "man_log", old, new)
    with pytest.raises((FormatError, ResourceError), match=words):
        read_volume(tmp_path / "man_log")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("matrix size [1] := 6", "matrix size [1] := six", "matrix size .1.: expected a whole number, got 'six'"),
        ("matrix size [3] := 4", "matrix size [3] := 5", "expected 720 bytes"),
        ("matrix size [3] := 4", "matrix size [3] := 999999999", "needs"),
        ("[3] := 5", "[3] := nan", "expected a finite number"),
        (":= float", ":= signed integer", "number format: expected float of 4 bytes"),
        ("LITTLEENDIAN", "MIDDLE", "byte order: expected LITTLEENDIAN or BIGENDIAN"),
        ("!END OF INTERFILE", "", "expected !END OF INTERFILE, got none; it is truncated"),
        ("body.bin", "nobody.bin", "expected a file, got none"),
    ],
)
def test_interfile_headers_that_do_not_fit(tmp_path: Path, old: str, new: str, words: str) -> None:
    interfile(tmp_path / "man.hv")
    _edit(tmp_path / "man.hv", old, new)
    with pytest.raises((FormatError, ResourceError), match=words):
        read_volume(tmp_path / "man.hv")


@pytest.mark.parametrize("name", ["../body.bin", "/etc/passwd", "..", "a\\b", ""])
def test_a_header_names_no_file_elsewhere(tmp_path: Path, name: str) -> None:
    interfile(tmp_path / "man.hv", data=name)
    with pytest.raises(UnsafeFileError, match="expected a file beside the header"):
        read_volume(tmp_path / "man.hv")


def test_a_link_to_elsewhere_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    interfile(folder / "man.hv", data="link.bin")
    (folder / "body.bin").rename(tmp_path / "body.bin")
    os.symlink(tmp_path / "body.bin", folder / "link.bin")
    with pytest.raises(UnsafeFileError, match="a link to another folder"):
        read_volume(folder / "man.hv")


@pytest.mark.parametrize(
    ("old", "new", "error", "words"),
    [
        ("dim1=5", "dim1=6", FormatError, "expected 36 bytes"),
        ("veclen=1", "veclen=2", FormatError, "one value per point"),
        ("data=byte", "data=short", FormatError, "data: expected byte"),
        ("ndim=2", "ndim=9", FormatError, "2 or 3 axes"),
        ("\f\f", "", FormatError, "two form feeds"),
        ("nspace=2", "variable 1 file=/etc/passwd filetype=binary", UnsafeFileError, "names of other files"),
    ],
)
def test_avs_fields_that_are_refused(tmp_path: Path, old: str, new: str, error: type[Exception], words: str) -> None:
    avs_field(tmp_path / "slice.fld")
    _edit(tmp_path / "slice.fld", old, new)
    with pytest.raises(error, match=words):
        read_volume(tmp_path / "slice.fld")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: (folder / "man_log").unlink(), "expected a header beside it"),
        (lambda folder: (folder / "man_atn_1.bin").write_bytes(bytes(576)), "expected voxels above 0"),
        (lambda folder: (folder / "man_atn_1.bin").write_bytes(bytes(575)), "expected 576 bytes"),
    ],
)
def test_raw_files_that_cannot_be_read(tmp_path: Path, spoil: Callable[[Path], object], words: str) -> None:
    xcat_log(tmp_path / "man_log")
    spoil(tmp_path)
    with pytest.raises(FormatError, match=words):
        read_xcat(tmp_path / "man_atn_1.bin", LIMIT)


def test_a_log_of_several_frames_asks_for_one(tmp_path: Path) -> None:
    xcat_log(tmp_path / "man_log")
    (tmp_path / "man_atn_2.bin").write_bytes((tmp_path / "man_atn_1.bin").read_bytes())
    with pytest.raises(FormatError, match=r"expected one man_atn_N.bin beside it, got 2; give the path of one"):
        read_volume(tmp_path / "man_log")
    assert read_xcat(tmp_path / "man_atn_2.bin", LIMIT)[0].unit == "1/mm"


def test_another_unit_is_refused(tmp_path: Path) -> None:
    interfile(tmp_path / "man.hv")
    with pytest.raises(ConfigError, match="per: expected one of cm, pixel"):
        read_xcat(tmp_path / "man.hv", LIMIT, per="inch")
