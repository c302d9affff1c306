import re
import struct
from pathlib import Path
from typing import Any

import pytest
import torch

from raymend import demonstration, report
from raymend.demonstration import SIZES, Demonstration, demonstrate, noise_level, simulated_case, user_grid
from raymend.judging import noise, quiet_region, scores, steepness
from recon import Calibration, CTWarning, FreeBeam, VolumeGrid, noise_photons
from recon.io import read_scan


@pytest.fixture(scope="module")
def small() -> Demonstration:
    scan, grid, truth = simulated_case(SIZES["small"], 3)
    return demonstrate(scan, grid, truth, title="A <script>alert(1)</script> & friends")


def test_careful_method_is_clearly_better(small: Demonstration) -> None:
    plain, smooth, _, careful = (result.numbers for result in small.results)
    # Measured at 4 mm voxels: noise 52.4, 10.3, 6.0 HU, SSIM 0.668, 0.641, 0.751; RMSE about 70 HU, at edges.
    # At full size: RMSE 95.4, 51.3, 29.1 HU, SSIM 0.485, 0.523, 0.890; 38.1 HU and 0.871 without finer pixels.
    assert careful["noise"] < 0.7 * smooth["noise"] < 0.7 * plain["noise"]
    assert careful["ssim"] > 0.05 + max(plain["ssim"], smooth["ssim"])


def test_low_dose_method_is_better_than_fbp(small: Demonstration) -> None:
    plain, smooth, restored, _ = (result.numbers for result in small.results)
    assert small.results[2].name == "PWLS-SPAD"
    # Measured at 4 mm voxels: RMSE 82.1, 70.3, 60.6 HU.
    assert restored["rmse"] < 0.95 * min(plain["rmse"], smooth["rmse"])
    assert "by SURE" in dict(small.settings)["its settings"]


def test_noise_is_found_in_a_scan_that_states_none(small: Demonstration) -> None:
    bare = small.scan.changed(weights=None, calibration=Calibration())
    noisy, told = noise_level(bare)
    assert noisy is not None
    assert noisy.calibration.photons == noise_photons(bare)
    assert "estimated" in told
    assert noise_level(bare.changed(values=torch.ones_like(bare.values))) == (None, "")


@pytest.mark.slow
def test_careful_method_is_clearly_better_at_full_size() -> None:
    plain, smooth, restored, careful = (
        result.numbers for result in demonstrate(*simulated_case(SIZES["normal"], 5), title="full").results
    )
    # Measured without finer pixels: RMSE 89.4, 47.8, 35.3 HU; SSIM 0.483, 0.528, 0.838;
    # of PWLS-SPAD with seed 3: RMSE 49.2 beside 51.3 HU.
    assert restored["rmse"] < smooth["rmse"]
    assert careful["rmse"] < 0.8 * smooth["rmse"] < 0.8 * plain["rmse"]
    assert careful["ssim"] > 0.25 + smooth["ssim"]


def test_same_seed_gives_the_same_bits(small: Demonstration) -> None:
    scan, grid, truth = simulated_case(SIZES["small"], 3)
    again = demonstrate(scan, grid, truth, title="again")
    assert scan.values.equal(small.scan.values)
    for one, two in zip(small.results, again.results, strict=True):
        assert one.numbers == two.numbers
        assert one.image.equal(two.image)


def test_page_escapes_and_loads_nothing(small: Demonstration) -> None:
    html = report.page(small, report.pictures(small), seconds=1.0, command="raymend info <b>")
    assert "<script>alert(1)" not in html
    assert "A &lt;script&gt;alert(1)&lt;/script&gt; &amp; friends" in html
    assert "raymend info &lt;b&gt;" in html
    assert not re.search(r"https?:|//[a-z]|@import|url\(", re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "", html))
    sources = re.findall(r'(?:src|href)="([^"]*)"', html)
    assert sources
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert "default-src 'none'" in html


def test_page_states_windows_units_and_conditions(small: Demonstration) -> None:
    html = report.page(small, report.pictures(small), seconds=1.0, command="")
    for text in ("-160 to 240 HU", "-1350 to 150 HU", "data range 2000 HU", "mm square at", "seed 3", "PWLS-Huber"):
        assert text in html


def test_pictures_are_png(small: Demonstration) -> None:
    for name, content in report.pictures(small).items():
        assert content[:8] == b"\x89PNG\r\n\x1a\n", name
        width, height = struct.unpack(">2I", content[16:24])
        assert 300 < width < 4000
        assert 200 < height < 4000


def test_demo_writes_a_folder(raymend: Any, tmp_path: Path) -> None:
    out = tmp_path / "demo ä"
    found = raymend("demo", "--size", "small", "--out", out)
    assert found.code == 0, found.err
    assert {"index.html", "scan.h5", "differences.png", "profile.png", "sinogram.png", "geometry.png"} <= {
        item.name for item in out.iterdir()
    }
    for text in ("RMSE (HU)", "PSNR (dB)", "SSIM", "FBP ram-lak", "PWLS-Huber", "data range 2000 HU", "next:"):
        assert text in found.out
    assert read_scan(out / "scan.h5").calibration.photons is not None


def test_demo_with_a_scan(raymend: Any, any_scan: tuple[str, Path], tmp_path: Path) -> None:
    kind, scan = any_scan
    found = raymend("demo", "--scan", scan, "--out", tmp_path / "out", "--json")
    assert found.code == 0, found.err
    names = [result["method"] for result in found.json["results"]]
    assert names[-1] == "PWLS-Huber"
    assert names[0] == ("OS-SART" if kind == "helix" else "FDK ram-lak" if kind == "cone" else "FBP ram-lak")
    assert all("rmse" not in result and "noise" in result for result in found.json["results"])
    html = (tmp_path / "out" / "index.html").read_text()
    assert "There is no truth to compare with" in html
    assert not (tmp_path / "out" / "scan.h5").exists()


def test_demo_leaves_nothing_behind_a_bad_scan(raymend: Any, tmp_path: Path) -> None:
    (tmp_path / "bad.h5").write_bytes(b"nothing of use")
    found = raymend("demo", "--scan", tmp_path / "bad.h5", "--out", tmp_path / "out")
    assert found.code == 3
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "says"), [(("--size", "huge"), "--size"), (("--seed", "-1"), "--seed"), (("--out", "a/b/c"), "a/b")]
)
def test_demo_refuses(
    raymend: Any, tmp_path: Path, options: tuple[str, str], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = raymend("demo", *options)
    assert found.code == 2
    assert says in found.err
    assert list(tmp_path.iterdir()) == []


def test_demo_refuses_a_file_as_its_folder(raymend: Any, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    found = raymend("demo", "--out", tmp_path / "out")
    assert found.code == 2
    assert (tmp_path / "out").read_text() == "mine"


def test_free_trajectories_are_demonstrated_too(small: Demonstration) -> None:
    from dataclasses import replace

    free = replace(small.scan, geometry=FreeBeam.of(small.scan.geometry))[::4]
    with pytest.warns(CTWarning, match="about the z axis"):
        grid = user_grid(free)
    outcome = demonstrate(free, VolumeGrid(shape=(1, 40, 60), spacing=8.0), None, title="free")
    assert max(grid.shape) <= 512
    assert [result.name for result in outcome.results] == ["OS-SART", "PWLS-Huber"]  # no backprojection to follow
    assert report.page(outcome, report.pictures(outcome), seconds=1.0, command="")


def test_long_scans_are_thinned_and_the_page_says_so(small: Demonstration, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demonstration, "_BUDGET", 1e7)
    outcome = demonstrate(small.scan, small.grid, None, title="thin")
    assert dict(outcome.settings)["views used by the careful method"] == "every 3 of 120"
    assert dict(outcome.settings)["solver"].endswith("on pixels half as wide")


def test_numbers_of_a_perfect_image() -> None:
    truth = torch.zeros(1, 40, 40)
    truth[:, 10:30, 10:30] = 50.0
    assert scores(truth, truth)["rmse"] == 0
    assert scores(truth, truth)["ssim"] == pytest.approx(1)
    assert 25 <= steepness(truth, truth) <= 50  # central differences; corners are steeper than sides
    assert steepness(truth / 2, truth) == pytest.approx(steepness(truth, truth) / 2)


def test_noise_is_measured_where_tissue_is_flat() -> None:
    image = torch.full((1, 60, 60), -1000.0)
    image[:, 20:40, 20:40] = 40.0
    image[:, 20:40, 20:40] += 10 * torch.randn(20, 20, generator=torch.Generator().manual_seed(0))
    region = quiet_region(image, VolumeGrid(shape=(1, 60, 60), spacing=2.0))
    assert region.side == 8.0
    assert all(abs(position) <= 20 for position in region.centre)
    assert 2 < noise(image, region) < 10
    assert str(region).startswith("8 mm square at (z, y, x) = (0, ")
