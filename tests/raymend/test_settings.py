"""Settings from a TOML file: what they say, what they refuse, and that a written file repeats the run."""

import math
import re
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from raymend.settings import (
    ReconstructionTable,
    RunSettings,
    Stated,
    load_settings,
    settings_text,
    used_settings,
    write_settings,
)
from raymend.settings.tables import TABLES
from recon import ConeBeam, Detector, FreeBeam, ParallelBeam, Scan, VolumeGrid
from recon.errors import ConfigError, GeometryError
from recon.io import write_scan
from recon.units import water_attenuation
from tests.raymend.conftest import GEOMETRIES, disc_scan

pytest.importorskip("pydantic", reason="settings are checked by pydantic")
pytest.importorskip("tomli_w", reason="settings are written by tomli-w")

FAN = """
[geometry]
kind = "cone"
views = 72
source_to_axis = 300
source_to_detector = 600
[detector]
pitch = 2
"""


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "run.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refusal(folder: Path, text: str | bytes) -> str:
    path = written(folder, text)
    with pytest.raises(ConfigError) as refused:
        load_settings(path)
    message = str(refused.value)
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """The projections of a fan-beam scan without any geometry."""
    path = tmp_path / "bare.npy"
    np.save(path, disc_scan(GEOMETRIES["fan"]).values.numpy())
    return path


KINDS = {
    "parallel": ("parallel", 'kind = "parallel"', "pitch = 1"),
    "fan": ("fan", 'kind = "cone"\nsource_to_axis = 300\nsource_to_detector = 600', "pitch = [2, 2]\nshape = [1, 64]"),
    "cone": ("cone", 'kind = "cone"\nviews = 40\narc_degrees = 360\nSOD = 300.0\nSDD = 600', "pixel_size = 2.0"),
    "helix": ("helix", 'kind = "helical"\npitch = 6\nturns = 2\ndso = 300\ndsd = 600', 'pitch = 2\ncurve = "flat"'),
}


@pytest.mark.parametrize("kind", KINDS)
def test_geometry_is_that_of_the_constructors(tmp_path: Path, kind: str) -> None:
    name, geometry, detector = KINDS[kind]
    stated = load_settings(written(tmp_path, f"[geometry]\n{geometry}\n[detector]\n{detector}\n"))
    expected = GEOMETRIES[name]
    assert stated.geometry(expected.shape) == expected


def test_angles_and_offset_in_the_units_of_their_names(tmp_path: Path) -> None:
    text = '[geometry]\nkind = "parallel"\nangles_degrees = [0, 45, 90.5]\n[detector]\npitch = [2, 1]\noffset = -3\n'
    geometry = load_settings(written(tmp_path, text)).geometry((3, 2, 32))
    angles = tuple(math.radians(a) for a in (0, 45, 90.5))
    assert geometry == ParallelBeam(
        angles=angles, detector=Detector(shape=(2, 32), pitch=(2.0, 1.0), offset=(0.0, -3.0))
    )


def test_other_spellings_are_noted(tmp_path: Path) -> None:
    fan = FAN.replace("source_to_axis", "SAD").replace("source_to_detector", "sid")
    stated = load_settings(written(tmp_path, fan))
    assert stated.geometry((72, 1, 64)) == GEOMETRIES["fan"]
    assert stated.notes == (
        "[geometry] source_to_axis taken from SAD",
        "[geometry] source_to_detector taken from sid (beside the other distance)",
    )


def test_bare_sid_is_refused_with_both_readings(tmp_path: Path) -> None:
    text = refusal(tmp_path, '[geometry]\nkind = "cone"\nsid = 300\n')
    assert text.startswith("geometry.sid: expected a distance with one meaning, got 300")
    assert "isocentre (write source_to_axis)" in text
    assert "image (write source_to_detector)" in text
    assert "problems" not in text


def test_spellings_that_differ_are_refused(tmp_path: Path) -> None:
    text = refusal(tmp_path, FAN.replace("[detector]", "dso = 301\n[detector]"))
    assert "source_to_axis and dso both state source_to_axis and differ" in text


WRONG: list[tuple[str, str, str]] = [
    ("unknown key", FAN.replace("[detector]", "angle_unit = 1\n[detector]"), "did you mean angles_degrees?"),
    ("nearest key", "[reconstruction]\nfilter_window = 'hann'", "did you mean window?"),
    ("key of another table", "[grid]\niterations = 3", "grid.iterations: unknown key; it belongs to [reconstruction]"),
    ("unknown table", "[geometri]\nviews = 3", "geometri: unknown key; did you mean geometry?"),
    ("no table", "geometry = 3", "geometry: expected a table, got '3'"),
    ("negative", FAN.replace("300", "-1"), "geometry.source_to_axis: expected a finite number above 0 in mm, got -1"),
    ("nan", FAN.replace("300", "nan"), "geometry.source_to_axis: expected a finite number in mm, got nan"),
    ("inf", FAN.replace("300", "inf"), "geometry.source_to_axis: expected a finite number in mm, got inf"),
    ("overflow", FAN.replace("300", "1e400"), "geometry.source_to_axis: expected a finite number in mm, got inf"),
    ("huge integer", FAN.replace("300", "1" + "0" * 400), "geometry.source_to_axis: expected a finite number"),
    ("truth for a number", FAN.replace("300", "true"), "expected a finite number in mm, got True"),
    ("text for a number", FAN.replace("300", "'300'"), "expected a finite number in mm, got '300'"),
    ("a date", FAN.replace("300", "2024-01-01"), "geometry.source_to_axis: expected a finite number"),
    ("truth for a count", "[reconstruction]\niterations = true", "reconstruction.iterations: expected a valid integer"),
    ("text for a count", "[reconstruction]\niterations = '50'", "reconstruction.iterations: expected a valid integer"),
    ("half a count", "[reconstruction]\niterations = 2.5", "reconstruction.iterations: expected a valid integer"),
    ("number for truth", "[calibration]\nlog = 1", "calibration.log: expected a valid boolean, got '1'"),
    ("window", "[reconstruction]\nwindow = 'hannn'", "expected one of ram-lak, shepp-logan, cosine, hamming, hann"),
    ("method", "[reconstruction]\nmethod = 'fpb'", "reconstruction.method: expected one of fbp, fdk, cgls"),
    ("list for a word", "[reconstruction]\nmethod = ['fbp']", "reconstruction.method: expected one of fbp"),
    ("cutoff", "[reconstruction]\ncutoff = 0", "reconstruction.cutoff: expected a number above 0 and up to 1"),
    ("grey range", "[reconstruction]\nwindow_hu = [3, 1]", "reconstruction.window_hu: expected [low, high]"),
    ("no view", FAN.replace("72", "0"), "geometry.views: expected a valid integer from 1"),
    ("no angle", "[geometry]\nkind = 'parallel'\nangles_degrees = []", "expected a list of one or more"),
    ("views and angles", "[geometry]\nkind = 'parallel'\nviews = 2\nangles_degrees = [0]", "expected no views beside"),
    ("distances of parallel rays", "[geometry]\nkind = 'parallel'\nsod = 3", "source_to_axis: expected none"),
    ("no distance", "[geometry]\nkind = 'cone'\nsod = 3", "geometry.source_to_detector: expected a distance in mm"),
    ("no kind", "[geometry]\nviews = 3", "geometry.kind: expected a value, got none"),
    ("kind", "[geometry]\nkind = 'fan'", "geometry.kind: expected one of parallel, cone, helical, got 'fan'"),
    ("circle with turns", FAN.replace("[detector]", "turns = 2\n[detector]"), "turns: belongs to kind = 'helical'"),
    ("helix without pitch", FAN.replace('"cone"', '"helical"\nturns = 1'), "geometry.pitch: expected the advance"),
    ("pixel", "[detector]\npitch = [1, 0]", "detector.pitch: expected a finite number above 0 in mm, got 0"),
    ("three pitches", "[detector]\npitch = [1, 1, 1]", "detector.pitch: expected one number or 2 numbers in mm"),
    ("words", "[grid]\nspacing = 'fine'", "grid.spacing: expected numbers in mm, got 'fine'"),
    ("shape", "[grid]\nshape = [1, 2]", "grid.shape: expected 3 whole numbers of 1 or more"),
    ("variance", "[calibration]\nelectronic = -1", "calibration.electronic: expected a number of 0 or more"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "says"), WRONG, ids=[w[0] for w in WRONG])
def test_one_mistake_is_said_with_its_path(tmp_path: Path, name: str, text: str, says: str) -> None:
    assert says in refusal(tmp_path, text)


def test_all_mistakes_are_said_at_once(tmp_path: Path) -> None:
    text = refusal(
        tmp_path,
        '[geometry]\nkind = "cone"\nangle_unit = 1\ndso = nan\nviews = "50"\n'
        '[reconstruction]\nwindow = "hannn"\niterations = true\n[grid]\nspacing = -1\n[scanner]\n',
    )
    assert text.startswith("7 problems: (1) ")
    for path in (
        "geometry.angle_unit", "geometry.source_to_axis", "geometry.views", "reconstruction.window",
        "reconstruction.iterations", "grid.spacing", "scanner",
    ):  # fmt: skip
        assert f") {path}: " in text
    many = refusal(tmp_path, "[grid]\n" + "".join(f"a{k} = 1\n" for k in range(100)))
    assert many.endswith("and 80 more")


NO_TOML: list[tuple[str, bytes, str]] = [
    ("statement", b"[geometry]\nkind = \n", "line 2, column 8"),
    ("twice", b"[grid]\nshape = 3\nshape = 4\n", "line 3, column 10"),
    ("empty", b"", "line 1, column 1: expected TOML, got an empty file"),
    ("byte-order mark", b"\xef\xbb\xbf[grid]\n", "line 1, column 1: expected TOML, got a byte-order mark"),
    ("utf-16", "[grid]\n".encode("utf-16"), "line 1, column 1: expected UTF-8, got UTF-16"),
    ("utf-16 without mark", "[grid]\n".encode("utf-16-le"), "line 1, column"),
    ("latin-1", "[grid]\n# é\n".encode("latin-1"), "line 2, column 3: expected UTF-8"),
    ("nested", b"a = " + b"[" * 5000, "nested too deeply"),
    ("hex", b"a = 0x" + b"f" * 8000, "expected numbers and lists of usual size"),
    ("large", b"#" * (5 << 20), "expected at most 4 MiB"),
]


@pytest.mark.parametrize(("name", "content", "says"), NO_TOML, ids=[w[0] for w in NO_TOML])
def test_what_is_no_toml_is_placed(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    assert says in refusal(tmp_path, content)


def test_distances_are_checked_before_the_data_are_read(raymend: Any, tmp_path: Path) -> None:
    path = written(tmp_path, FAN.replace("600", "200"))
    with pytest.raises(GeometryError, match=r"run.toml: \[geometry\] source_to_detector: expected at .* 300 mm"):
        load_settings(path)
    found = raymend("reconstruct", tmp_path / "nowhere.npy", "-o", tmp_path / "a.npy", "--settings", path)
    assert (found.code, found.err.count("\n")) == (2, 1)


def test_detector_is_checked_by_its_constructor(tmp_path: Path) -> None:
    stated = load_settings(written(tmp_path, FAN + "offset = [0, 500]\n"))
    with pytest.raises(GeometryError, match=r"run.toml: \[detector\] offset: expected less than half the detector"):
        stated.geometry((72, 1, 64))


def test_nothing_at_the_path(raymend: Any, scan_file: Path, tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere.toml", tmp_path):
        found = raymend("reconstruct", scan_file, "-o", tmp_path / "a.npy", "--settings", path)
        assert found.code == 2, found.err
        assert str(path) in found.err


@pytest.mark.parametrize("views", [0, 1])
def test_no_views_and_one_view_are_refused(raymend: Any, tmp_path: Path, views: int) -> None:
    np.save(tmp_path / "one.npy", np.zeros((views, 1, 16), np.float32))
    path = written(tmp_path, FAN.replace("views = 72\n", ""))
    found = raymend("reconstruct", tmp_path / "one.npy", "-o", tmp_path / "a.npy", "--settings", path)
    assert found.code == (2 if views else 3), found.err
    assert "views" in found.err or "empty" in found.err
    assert found.err.count("\n") == 1


def test_scan_without_geometry_is_reconstructed(raymend: Any, bare: Path, scan_file: Path, tmp_path: Path) -> None:
    assert raymend("reconstruct", bare, "-o", tmp_path / "no.npy").code == 3
    path = written(tmp_path, FAN)
    assert raymend("reconstruct", bare, "-o", tmp_path / "a.npy", "--settings", path, "--shape", 24).code == 0
    assert raymend("reconstruct", scan_file, "-o", tmp_path / "b.npy", "--shape", 24).code == 0
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()


def test_options_win_over_the_file(raymend: Any, bare: Path, tmp_path: Path) -> None:
    told = "[reconstruction]\nmethod = 'cgls'\niterations = 2\nunit = 'hu'\n[grid]\nshape = 12\n"
    path = written(tmp_path, FAN + told)
    call = ("reconstruct", bare, "-o", tmp_path / "a.npy", "--settings", path, "--json")
    plain, other = raymend(*call).json, raymend(*call, "--iterations", 3, "--shape", 16, "--unit", "mm").json
    assert (plain["method"], plain["iterations"], plain["unit"], plain["shape"]) == ("cgls", 2, "HU", [1, 12, 12])
    assert (other["method"], other["iterations"], other["unit"], other["shape"]) == ("cgls", 3, "1/mm", [1, 16, 16])
    assert raymend(*call, "--method", "fbp").json["iterations"] is None
    assert raymend(*call, "--pitch", 1).json["spacing_mm"][1] == pytest.approx(plain["spacing_mm"][1] / 2, rel=0.1)


def test_pitch_is_asked_for(raymend: Any, bare: Path, tmp_path: Path) -> None:
    path = written(tmp_path, FAN.replace("pitch = 2\n", ""))
    found = raymend("reconstruct", bare, "-o", tmp_path / "a.npy", "--settings", path)
    assert found.code == 2
    assert "[detector] pitch: expected the step between detector pixels in mm" in found.err
    assert raymend("reconstruct", bare, "-o", tmp_path / "a.npy", "--settings", path, "--pitch", 2).code == 0


def test_views_that_differ_from_the_data(raymend: Any, bare: Path, tmp_path: Path) -> None:
    found = raymend("info", bare, "--settings", written(tmp_path, FAN.replace("72", "71")))
    assert found.code == 3
    assert "[71, 1, 64] from the geometry, got [72, 1, 64]" in found.err


def test_detector_alone_changes_that_of_the_file(raymend: Any, scan_file: Path, tmp_path: Path) -> None:
    stated = load_settings(written(tmp_path, "[detector]\noffset = 1.5\n"))
    scan = stated.scan(scan_file)
    detector = replace(GEOMETRIES["fan"].detector, offset=(0.0, 1.5))
    assert scan.geometry == replace(GEOMETRIES["fan"], detector=detector)  # type: ignore[type-var]
    assert scan.provenance[-1] == "detector stated by the caller"
    assert stated.scan(scan_file, centre=0.5).geometry.detector.offset == (0.0, 0.5)
    with pytest.raises(ConfigError, match=r"\[detector\] shape: expected that of the data, \(1, 64\), got \(1, 65\)"):
        load_settings(written(tmp_path, "[detector]\nshape = [1, 65]\n")).scan(scan_file)


def test_pitch_alone_changes_that_of_the_file(tmp_path: Path, scan_file: Path) -> None:
    scan = load_settings(written(tmp_path, "[detector]\npitch = 2.5\n")).scan(scan_file)
    assert scan.geometry.detector.pitch == (2.5, 2.5)
    assert scan.provenance[-1] == "detector stated by the caller"


def test_free_trajectories_keep_their_detector(tmp_path: Path) -> None:
    free = FreeBeam.of(GEOMETRIES["fan"])
    write_scan(tmp_path / "free.h5", Scan(geometry=free, values=torch.zeros(free.shape)))
    with pytest.raises(ConfigError, match="FreeBeam, whose vectors state the detector"):
        load_settings(written(tmp_path, "[detector]\npitch = 2\n")).scan(tmp_path / "free.h5")


def test_calibration_is_kept_with_the_scan(scan_file: Path, counts_file: Path, tmp_path: Path) -> None:
    light = load_settings(written(tmp_path, "[calibration]\nphotons = 2e4\nelectronic = 10\nenergy = 60\n"))
    calibration = light.scan(scan_file).calibration
    assert (calibration.photons, calibration.electronic, calibration.energy) == (2e4, 10.0, 60.0)
    assert calibration.water == water_attenuation(60.0)
    with pytest.raises(ConfigError, match=r"run.toml: \[calibration\] energy: expected 30 to 150 keV"):
        load_settings(written(tmp_path, "[calibration]\nenergy = 1\n")).scan(scan_file)
    counts = load_settings(written(tmp_path, "[calibration]\nlog = true\nphotons = 1e4\n")).scan(counts_file)
    assert float(counts.values.max()) == pytest.approx(0.8, rel=0.05)


def test_data_exchange_needs_no_angles_beside_stated_ones(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        counts = {"data": np.full((72, 1, 64), 50), "data_white": np.full((1, 1, 64), 100)}
        for name, array in counts.items():
            file[f"exchange/{name}"] = array.astype(np.uint16)
    scan = load_settings(written(tmp_path, FAN)).scan(tmp_path / "scan.h5")
    assert scan.geometry == GEOMETRIES["fan"]
    assert float(scan.values.mean()) == pytest.approx(math.log(2))


def test_log_asks_for_photons(raymend: Any, counts_file: Path, tmp_path: Path) -> None:
    call = ("reconstruct", counts_file, "-o", tmp_path / "a.npy", "--settings")
    assert "add --photons N" in raymend(*call, written(tmp_path, "[calibration]\nlog = true\n")).err
    assert raymend(*call, written(tmp_path, "[calibration]\nphotons = 1e4\n"), "--log").code == 0


def test_grid_may_lie_anywhere(tmp_path: Path) -> None:
    geometry = GEOMETRIES["cone"]
    text = "[grid]\nshape = [4, 8, 10]\nspacing = 1.5\ncentre = [1, 2, 3]\n"
    assert load_settings(written(tmp_path, text)).grid(geometry) == VolumeGrid(
        shape=(4, 8, 10), spacing=(1.5, 1.5, 1.5), centre=(1.0, 2.0, 3.0)
    )
    grid = load_settings(written(tmp_path, "[grid]\nshape = 8\ncentre = [0, 2, 3]\n")).grid(geometry)
    assert (grid.shape[1:], grid.centre) == ((8, 8), (0.0, 2.0, 3.0))


def test_info_and_demo_take_settings(raymend: Any, bare: Path, tmp_path: Path) -> None:
    path = written(tmp_path, FAN + "[grid]\nshape = 16\n")
    told = raymend("info", bare, "--settings", path, "--json")
    assert told.json["geometry"]["type"] == "ConeBeam"
    assert f"--settings {path}" in raymend("info", bare, "--settings", path).out
    refused = raymend("demo", "--settings", path, "--out", tmp_path / "demo")
    assert refused.code == 2
    assert "--scan FILE" in refused.err


@pytest.mark.parametrize("kind", GEOMETRIES)
def test_written_settings_read_back(tmp_path: Path, kind: str) -> None:
    scan = disc_scan(GEOMETRIES[kind])
    grid = VolumeGrid(shape=(2, 12, 14), spacing=(0.1, 0.7, 1 / 3), centre=(0.0, 1e-7, -3.0))
    used = used_settings(scan, grid, ReconstructionTable(method="sirt", iterations=7, window_hu=(-160.0, 240.0)))
    write_settings(tmp_path / "used.toml", used)
    back = load_settings(tmp_path / "used.toml")
    assert back.settings == used
    assert back.geometry(scan.geometry.shape) == scan.geometry
    assert back.grid(scan.geometry) == grid
    assert back.notes == ()


def test_uneven_angles_are_listed_or_left_to_the_scan(tmp_path: Path) -> None:
    grid, table = VolumeGrid(shape=(1, 8, 8)), ReconstructionTable(method="fbp")
    detector = Detector(shape=(1, 32))
    whole = ParallelBeam(angles=tuple(math.radians(a) for a in (0, 1, 3, 7, 15, 31)), detector=detector)
    text = settings_text(used_settings(disc_scan(whole), grid, table))
    assert tomllib.loads(text)["geometry"]["angles_degrees"] == [0.0, 1.0, 3.0, 7.0, 15.0, 31.0]
    odd = ParallelBeam(angles=tuple(float(a) for a in np.random.default_rng(0).uniform(0, 3, 200)), detector=detector)
    text = settings_text(used_settings(disc_scan(odd), grid, table))
    assert "geometry" not in tomllib.loads(text)
    assert "# The geometry is that of the scan file." in text
    moved = disc_scan(whole).moved(torch.zeros(len(whole), 6))
    assert used_settings(moved, grid, table).geometry is None
    assert used_settings(disc_scan(FreeBeam.of(whole)), grid, table).detector.given() == {}


RUNS: list[tuple[object, ...]] = [
    ("--window", "hann", "--cutoff", 0.7, "--padding", "edge", "--shape", 20),
    ("--method", "cgls", "--iterations", 3, "--spacing", 3.1, "--unit", "hu"),
    ("--centre", 0.37, "--limited-angle", "--shape", "2,20,22"),
    ("--centre", "find", "--shape", 16),
]


@pytest.mark.parametrize("options", RUNS, ids=["fbp", "cgls", "centre", "find"])
def test_written_settings_repeat_the_run(
    raymend: Any, scan_file: Path, tmp_path: Path, options: tuple[object, ...]
) -> None:
    used = tmp_path / "used.toml"
    first = raymend("reconstruct", scan_file, "-o", tmp_path / "a.npy", *options, "--write-settings", used)
    assert first.code == 0, first.err
    again = raymend(
        "reconstruct", scan_file, "-o", tmp_path / "b.npy", "--settings", used,
        "--write-settings", tmp_path / "again.toml",
    )  # fmt: skip
    assert again.code == 0, again.err
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()
    assert used.read_text() == (tmp_path / "again.toml").read_text()


def test_counts_and_stated_geometry_repeat(raymend: Any, bare: Path, counts_file: Path, tmp_path: Path) -> None:
    stated = written(tmp_path, FAN.replace("views = 72", "start_degrees = 12.3"))
    for scan, options in ((bare, ("--settings", stated)), (counts_file, ("--log", "--photons", 1e4))):
        call = ("reconstruct", scan, "--shape", 16)
        used = tmp_path / f"{scan.stem}.toml"
        assert raymend(*call, "-o", tmp_path / "a.npy", *options, "--write-settings", used).code == 0
        assert raymend(*call, "-o", tmp_path / "b.npy", "--settings", used).code == 0
        assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()


def test_grey_range_needs_a_picture(raymend: Any, scan_file: Path, tmp_path: Path) -> None:
    path = written(tmp_path, "[reconstruction]\nwindow_hu = [-1000, 400]\n[grid]\nshape = 12\n")
    assert raymend("reconstruct", scan_file, "-o", tmp_path / "a.png", "--settings", path).code == 0
    assert raymend("reconstruct", scan_file, "-o", tmp_path / "a.npy", "--settings", path).code == 2


def test_outputs_never_replace_settings(raymend: Any, scan_file: Path, tmp_path: Path) -> None:
    path = written(tmp_path, "[grid]\nshape = 12\n")
    image = tmp_path / "image.npy"
    link = tmp_path / "link.npy"
    link.symlink_to(path)
    for options in (
        ("-o", link),
        ("-o", image, "--write-settings", path),
        ("-o", image, "--write-settings", scan_file),
        ("-o", image, "--write-settings", image),
        ("-o", image, "--write-settings", tmp_path),
        ("-o", image, "--write-settings", tmp_path / "nowhere" / "used.toml"),
        ("-o", image, "--state", path),
    ):
        found = raymend("reconstruct", scan_file, "--settings", path, *options)
        assert (found.code, found.err.count("\n")) == (2, 1), found.err
        assert not image.exists()
    assert path.read_text() == "[grid]\nshape = 12\n"


def test_missing_packages_are_named(
    raymend: Any, scan_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("tomli_w", "pydicom"):
        monkeypatch.setitem(sys.modules, package, None)
    used = tmp_path / "used.toml"
    found = raymend("reconstruct", scan_file, "-o", tmp_path / "a.npy", "--shape", 8, "--write-settings", used)
    assert found.code == 2
    assert "install it with: pip install tomli-w" in found.err
    assert not (tmp_path / "a.npy").exists()
    slice_file = tmp_path / "slice.dcm"
    slice_file.write_bytes(bytes(128) + b"DICM" + bytes(64))
    found = raymend("info", slice_file)
    assert found.code == 2
    assert 'pip install "raymend[io]"' in found.err
    monkeypatch.setitem(sys.modules, "pydantic", None)
    with pytest.raises(ConfigError, match="install it with: pip install pydantic"):
        load_settings(written(tmp_path, "[grid]\n"))


def test_the_example_of_the_readme_is_valid(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```toml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    geometry = load_settings(written(tmp_path, example)).geometry((360, 1, 64))
    assert isinstance(geometry, ConeBeam)
    assert set(tomllib.loads(example)) == set(TABLES)


def test_settings_without_a_file_state_nothing() -> None:
    assert load_settings(None) == Stated(settings=RunSettings())
    with pytest.raises(ConfigError):
        Stated().geometry((1, 1, 1))
    assert isinstance(load_settings(None).grid(GEOMETRIES["fan"]), VolumeGrid)
    assert isinstance(GEOMETRIES["fan"], ConeBeam)


MEANT = [("recn", "reconstruct"), ("rec", "reconstruct"), ("sim", "simulate"), ("Dem", "demo")]


@pytest.mark.parametrize(("typed", "meant"), MEANT)
def test_near_commands_are_suggested(raymend: Any, typed: str, meant: str) -> None:
    found = raymend(typed)
    assert found.code == 2
    assert f"No such command '{typed}'. Did you mean {meant}?" in found.err
    assert "Try demo, info" in raymend("xyzzy").err
