"""`raymend reconstruct` on measured files and other programs' results, from the command to the written volume."""

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.io import loadmat

from phantoms import Ellipsoid, Phantom, VolumeObject
from recon import CTWarning, VolumeGrid, fbp, to_hu
from recon.io import read_scan, read_volume
from recon.metrics import correlation

pytestmark = pytest.mark.data


@pytest.mark.parametrize("form", [(), ("--json",)], ids=["text", "json"])
def test_helsinki_disc(raymend: Any, shared_data: Path, tmp_path: Path, form: tuple[str, ...]) -> None:
    """Measured: correlation 0.99998 with the reconstruction that is shipped, whose rows run against our y."""
    folder, out = shared_data / "htc2022_fanbeam", tmp_path / "ta.nii.gz"
    step = 0.2 * 410.66 / 553.74
    found = raymend(
        "reconstruct", folder / "htc2022_ta_full.mat", "-o", out, "--shape", "1,512,512", "--spacing", step, *form
    )
    assert found.code == 0, found.err
    assert "1 repeated view;" in found.err
    volume = read_volume(out)
    assert volume.grid.spacing[1:] == pytest.approx((step, step))
    shipped = loadmat(folder / "htc2022_ta_full_recon_fbp.mat")["reconFullFbp"]
    theirs = torch.from_numpy(np.ascontiguousarray(shipped[::-1]).astype(np.float32))
    assert correlation(volume.values[0], theirs) >= 0.9999
    if form:
        assert (found.json["method"], found.json["unit"], found.json["shape"]) == ("fbp", "1/mm", [1, 512, 512])
        assert found.json["max"] == pytest.approx(float(volume.values.max()))
        assert len(found.json["warnings"]) == 1
    else:
        assert "512 x 512 voxels" in found.out


@pytest.mark.parametrize("form", [(), ("--json",)], ids=["text", "json"])
def test_tooth_with_its_axis_found(raymend: Any, shared_data: Path, tmp_path: Path, form: tuple[str, ...]) -> None:
    """Measured: axis at column 296.0 of 640; where tests/physics finds the image sharpest."""
    tooth, out, used = shared_data / "tooth_synchrotron_hdf5" / "tooth.h5", tmp_path / "t.nii", tmp_path / "t.toml"
    common = ("reconstruct", tooth, "--pitch", 1, "--shape", "2,400,400", "--spacing", 1, *form)
    found = raymend(*common, "-o", out, "--centre", "find", "--write-settings", used)
    assert found.code == 0, found.err
    offset = read_offset(used)
    assert 319.5 - offset == pytest.approx(296.0, abs=0.5)
    volume = read_volume(out)
    assert volume.values.equal(fbp(read_scan(tooth, pitch=1, centre=offset), volume.grid))
    if form:
        assert (found.json["method"], found.json["spacing_mm"]) == ("fbp", [1.0, 1.0, 1.0])


def read_offset(settings: Path) -> float:
    return float(tomllib.loads(settings.read_text())["detector"]["offset"][1])


@pytest.mark.parametrize("form", [(), ("--json",)], ids=["text", "json"])
def test_michigan_cone(raymend: Any, shared_data: Path, tmp_path: Path, form: tuple[str, ...]) -> None:
    """Measured: the attenuation in the middle of the four ellipsoids is right to 0.6 %."""
    path, out = shared_data / "reference_results" / "mirt_fdk_example.mat", tmp_path / "cone.nii.gz"
    grid = VolumeGrid(shape=(50, 60, 64), spacing=7.8125)
    found = raymend("reconstruct", path, "-o", out, "--shape", "50,60,64", "--spacing", 7.8125, *form)
    assert found.code == 0, found.err
    table = loadmat(path, variable_names=["ell"])["ell"].tolist()
    solids = [Ellipsoid(centre=(z, y, x), semi=(c, b, a), density=mu) for x, y, z, a, b, c, _, _, mu in table]
    truth = Phantom(name="four ellipsoids", rule="additive", shapes=tuple(solids)).rasterised(grid)
    volume = read_volume(out)
    assert volume.grid.shape == grid.shape
    for solid in solids[1:]:
        k, j, i = (int(np.abs(axis.numpy() - c).argmin()) for axis, c in zip(grid.axes(), solid.centre, strict=True))
        core = (slice(k - 1, k + 2), slice(j - 1, j + 2), slice(i - 1, i + 2))
        assert float(volume.values[core].mean()) == pytest.approx(float(truth[core].mean()), rel=0.03)
    if form:
        assert found.json["method"] == "fdk"
    else:
        assert "by fdk" in found.out


def test_a_measured_slice_is_scanned_again(raymend: Any, shared_data: Path, tmp_path: Path) -> None:
    """Measured: the reconstruction of the simulated scan is 0.6 HU above the slices at the median over soft tissue."""
    folder, out = shared_data / "ct_neck_jaw_philips" / "dicom_original", tmp_path / "jaw.h5"
    found = raymend("simulate", "--object", folder, "--views", 290, "--photons", 1e6, "-o", out)
    assert found.code == 0, found.err
    assert "lie below those of nothing" in found.err
    with pytest.warns(CTWarning, match="lie below"):
        body = VolumeObject.of(read_volume(folder))
    scan = read_scan(out)
    grid = VolumeGrid(shape=(1, 128, 128), spacing=1.9)
    image, truth = (to_hu(mu, scan.calibration.water) for mu in (fbp(scan, grid), body.rasterised(grid)))
    tissue = (truth > -200) & (truth < 300)
    assert float((image - truth)[tissue].median()) == pytest.approx(0, abs=3)
