import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import recon
from phantoms import attenuation
from raymend.cli.guard import describe
from recon import errors
from recon.io import read_scan, write_volume
from recon.kernels.cpu import simd


def test_unknown_command_suggests(raymend: Any) -> None:
    found = raymend("reconstrct")
    assert found.code == 2
    assert "reconstruct" in found.err
    assert "Traceback" not in found.err


def test_version_and_help(raymend: Any) -> None:
    assert raymend("--version").out.startswith("raymend 0.")
    helped = raymend("--help")
    assert all(name in helped.out for name in ("demo", "info", "reconstruct", "simulate", "reduce-dose", "doctor"))
    assert raymend("reconstruct", "-h").code == 0


def test_simulate_is_the_same_for_a_seed(raymend: Any, tmp_path: Path) -> None:
    options = ("--phantom", "disc", "--preset", "hyperfed4", "--views", 12, "--photons", 1e4, "--electronic", 10)
    for name, seed in (("a.h5", 4), ("b.h5", 4), ("c.h5", 5)):
        found = raymend("simulate", *options, "--seed", seed, "-o", tmp_path / name, "--json")
        assert found.code == 0, found.err
        assert found.json["shape"] == [12, 1, 350]
    a, b, c = (read_scan(tmp_path / name).values for name in ("a.h5", "b.h5", "c.h5"))
    assert a.equal(b)
    assert not a.equal(c)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--phantom", "thorx"), "thorax"),
        (("--preset", "somatom"), "somatom16"),
        (("--views", "0"), "--views"),
        (("--photons", "-5"), "photons"),
        (("--photons", "0"), "photons"),
        (("--photons", "1e4", "--electronic", "-1"), "electronic"),
        (("--photons", "nan"), "photons"),
        (("--electronic", "5"), "--photons"),
        (("--crosstalk", "0.1", "--bowtie"), "--crosstalk, --bowtie: need --photons"),
        (("--photons", "1e4", "--crosstalk", "0.6"), "crosstalk"),
        (("--photons", "1e4", "--focal-spot", "-1"), "focal_spot"),
        (("--mas", "2"), "belong together"),
        (("--mas", "-2", "--photons-per-mas", "1e4"), "--mas"),
        (("--mas", "2", "--photons-per-mas", "1e4", "--photons", "1e4"), "got both"),
        (("--phantom", "anatomy-knee"), "anatomy-thorax"),
        (("--phantom", "anatomy-head", "--patient", "-1"), "--patient"),
        (("--phantom", "anatomy-head", "--energy", "5"), "expected 20 to 150 keV"),
        (("--phantom", "disc", "--patient", "1"), "of which there is one"),
        (("--energy", "60"), "whose attenuation is fixed"),
        (("--height", "5"), "without --object FILE"),
        (("--object", "volume.nii", "--phantom", "disc"), "--phantom: expected none with --object"),
    ],
)
def test_simulate_refuses(raymend: Any, tmp_path: Path, options: tuple[str, ...], says: str) -> None:
    found = raymend("simulate", *options, "-o", tmp_path / "scan.h5")
    assert found.code == 2
    assert says in found.err
    assert found.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_simulate_takes_a_dose_in_milliampere_seconds(raymend: Any, tmp_path: Path) -> None:
    common = ("--phantom", "disc", "--preset", "hyperfed4", "--views", 6, "--electronic", 10, "--crosstalk", 0.05)
    options = (*common, "--focal-spot", 1, "--dead", 0.01, "--bowtie", "--seed", 2)
    for name, dose in (("a.h5", ("--photons", 2e4)), ("b.h5", ("--mas", 0.5, "--photons-per-mas", 4e4))):
        assert raymend("simulate", *options, *dose, "-o", tmp_path / name).code == 0
    a, b = (read_scan(tmp_path / name) for name in ("a.h5", "b.h5"))
    assert a.values.equal(b.values)
    assert "crosstalk=0.05" in a.provenance[1]
    assert "focal_spot=1.0" in a.provenance[1]
    assert "pixels were dead" in a.provenance[2]


def test_simulate_knows_patients_by_number(raymend: Any, tmp_path: Path) -> None:
    common = ("simulate", "--preset", "hyperfed4", "--views", 4, "-o", tmp_path / "scan.h5")
    found = {}
    for options in (("anatomy-head", 1, 60), ("anatomy-head", 2, 60), ("anatomy-head", 2, 100)):
        told = raymend(*common, "--phantom", options[0], "--patient", options[1], "--energy", options[2], "--json")
        assert told.code == 0, told.err
        scan = read_scan(tmp_path / "scan.h5")
        assert scan.provenance[0].startswith(f"simulated head of patient {options[1]}")
        assert scan.calibration.energy == told.json["energy"] == options[2]
        found[options[1:]] = scan
    one, two, hard = (found[key].values for key in ((1, 60), (2, 60), (2, 100)))
    assert float((one - two).abs().mean()) > 0.1
    assert 0.7 < float(hard.sum() / two.sum()) < 0.83  # water alone: 0.83; bone loses more
    assert raymend(*common, "--phantom", "thorax", "--patient", 3).code == 0
    assert "thorax, seed 3" in read_scan(tmp_path / "scan.h5").provenance[0]


def cylinder_volume(path: Path, unit: str) -> Path:
    """Water of 60 mm across, with 1000 HU in its upper half, off the file's origin."""
    grid = recon.VolumeGrid(shape=(8, 40, 40), spacing=(5.0, 2.0, 2.0), centre=(300.0, 40.0, -20.0))
    y, x = (torch.as_tensor(axis) - centre for axis, centre in zip(grid.axes()[1:], grid.centre[1:], strict=True))
    hu = torch.where(y[:, None] ** 2 + x**2 < 30**2, 0.0, -1000.0).repeat(8, 1, 1)
    hu[4:][hu[4:] == 0] = 1000.0
    write_volume(path, hu.float(), grid, unit=unit)
    return path


def test_simulate_scans_a_volume_of_a_file(raymend: Any, tmp_path: Path) -> None:
    """Measured: the chord of 60 mm in the middle, to 1 %: 1.155 of water at 70 keV."""
    volume, out = cylinder_volume(tmp_path / "body.nii.gz", "HU"), tmp_path / "scan.h5"
    common = ("simulate", "--object", volume, "--preset", "hyperfed4", "--views", 4, "-o", out)
    longest = {}
    for height, energy in ((-12.5, 70), (12.5, 70), (-12.5, 100)):
        found = raymend(*common, "--height", height, "--energy", energy)
        assert found.code == 0, found.err
        scan = read_scan(out)
        longest[height, energy] = float(scan.values.max())
        assert scan.calibration.water == pytest.approx(attenuation("water", energy))
        assert scan.provenance[0].startswith("simulated body.nii.gz")
        assert scan.provenance[1] == f"attenuation at {energy} keV"
    water = 60 * attenuation("water", 70)
    assert longest[-12.5, 70] == pytest.approx(water, rel=0.03)
    assert longest[12.5, 70] == pytest.approx(2 * water, rel=0.03)
    assert longest[-12.5, 100] / longest[-12.5, 70] == pytest.approx(
        attenuation("water", 100) / attenuation("water", 70), rel=1e-4
    )


def test_simulate_states_the_energy_that_it_took(raymend: Any, tmp_path: Path) -> None:
    volume, out = tmp_path / "body.nii.gz", tmp_path / "scan.h5"
    grid = recon.VolumeGrid(shape=(1, 8, 8), spacing=10.0)
    for unit, level, energy in (("HU", 0.0, 70.0), ("1/mm", 0.02, None)):
        write_volume(volume, torch.full(grid.shape, level), grid, unit=unit)
        found = raymend("simulate", "--object", volume, "--preset", "hyperfed4", "--views", 1, "-o", out)
        assert found.code == 0, found.err
        scan = read_scan(out)
        assert scan.calibration.energy == energy
        assert ("attenuation at 70 keV" in scan.provenance) is (unit == "HU")


def test_simulate_refuses_a_volume_that_leaves_something_open(raymend: Any, tmp_path: Path) -> None:
    out = tmp_path / "scan.h5"
    bare, body = (cylinder_volume(tmp_path / name, unit) for name, unit in (("bare.nii", "unknown"), ("hu.nii", "HU")))
    (tmp_path / "text.nii").write_text("not a volume")
    for options, code, says in (
        ((bare,), 2, "its values are -1000 to 1000"),
        ((bare, "--object-unit", "mm", "--energy", 60), 2, "in 1/mm already"),
        ((bare, "--object-unit", "Hounsfield"), 2, "--object-unit"),
        ((body, "--object-unit", "mm"), 2, "expected HU, which"),
        ((body, "--height", 21), 2, "expected -20 to 20 mm"),
        ((tmp_path / "text.nii",), 3, "text.nii"),
        ((tmp_path / "nothing.nii",), 3, "nothing.nii"),
    ):
        found = raymend("simulate", "--preset", "hyperfed4", "-o", out, "--object", *options)
        assert (found.code, found.err.count("\n")) == (code, 1), found.err
        assert says in found.err
        assert not out.exists()


def test_simulate_refuses_what_memory_cannot_hold(raymend: Any, tmp_path: Path) -> None:
    out = tmp_path / "s.h5"
    found = raymend("simulate", "--phantom", "disc", "--preset", "somatom16", "--views", "1000000000", "-o", out)
    assert (found.code, out.exists()) == (4, False)
    assert "take fewer --views" in found.err


def simulated(raymend: Any, path: Path, *options: object) -> Path:
    common = ("--phantom", "disc", "--preset", "hyperfed4", "--views", 40, "-o", path)
    found = raymend("simulate", *common, *options)
    assert found.code == 0, found.err
    return path


def test_a_reduced_scan_has_the_noise_of_one_at_the_lower_dose(raymend: Any, tmp_path: Path) -> None:
    """Of 14 000 values each; in steps of column so that the disc itself does not count, measured within 2 %."""
    truth = read_scan(simulated(raymend, tmp_path / "truth.h5")).values
    full = simulated(raymend, tmp_path / "full.h5", "--photons", 4e4, "--electronic", 10)
    direct = simulated(raymend, tmp_path / "direct.h5", "--photons", 1e4, "--electronic", 10, "--seed", 1)
    low = tmp_path / "low.h5"
    found = raymend("reduce-dose", full, "--to", "25%", "--seed", 3, "-o", low, "--json")
    assert found.code == 0, found.err
    assert {"fraction": 0.25, "photons": 1e4, "electronic": 10, "seed": 3}.items() <= found.json.items()
    noise, other = (read_scan(path).values - truth for path in (low, direct))
    assert float(noise.var() / other.var()) == pytest.approx(1, rel=0.06)
    written = low.read_bytes()
    assert raymend("reduce-dose", full, "--to", "0.25", "--seed", 3, "-o", low).code == 0
    assert low.read_bytes() == written
    assert "dose reduced to 25 %" in " ".join(read_scan(low).provenance)


def test_reduce_dose_asks_for_photons_where_a_scan_states_none(raymend: Any, tmp_path: Path) -> None:
    scan = recon.read_scan(simulated(raymend, tmp_path / "full.h5", "--photons", 4e4))
    bare = tmp_path / "bare.h5"
    recon.write_scan(bare, scan.changed(calibration=recon.Calibration(), weights=None))
    found = raymend("reduce-dose", bare, "--to", "25%", "-o", tmp_path / "low.h5")
    assert (found.code, found.err.count("\n")) == (2, 1)
    assert "pass --photons N" in found.err
    options = ("--photons", 4e4, "--electronic", 5, "--crosstalk", 0.05)
    found = raymend("reduce-dose", bare, "--to", "10%", "-o", tmp_path / "low.h5", *options, "--json")
    assert (found.json["photons"], found.json["electronic"]) == (4e3, 5)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--to", "25"), "did you mean 25%?"),
        (("--to", "150%"), "up to 100%"),
        (("--to", "0"), "above 0"),
        (("--to", "-5%"), "above 0"),
        (("--to", "nan"), "such as 25% or 0.25"),
        (("--to", "quarter"), "such as 25% or 0.25"),
        (("--to", "25%", "--photons", "0"), "photons"),
        (("--to", "25%", "--photons", "-1e4"), "photons"),
        (("--to", "25%", "--electronic", "-1"), "electronic"),
        (("--to", "25%", "--crosstalk", "0.5"), "crosstalk"),
        (("--to", "25%", "--seed", "-1"), "seed"),
        (("--to", "25%", "--photons", "100"), "expected the noise of 100 photons"),
    ],
)
def test_reduce_dose_refuses(raymend: Any, tmp_path: Path, options: tuple[str, ...], says: str) -> None:
    scan = simulated(raymend, tmp_path / "full.h5", "--photons", 4e4)
    found = raymend("reduce-dose", scan, "-o", tmp_path / "low.h5", *options)
    assert found.code == 2
    assert says in found.err
    assert found.err.count("\n") == 1
    assert not (tmp_path / "low.h5").exists()


def test_reduce_dose_refuses_a_scan_without_noise_and_its_own_input(raymend: Any, tmp_path: Path) -> None:
    scan = simulated(raymend, tmp_path / "quiet.h5")
    for out, options in (("low.h5", ()), ("low.h5", ("--photons", 1e4)), ("quiet.h5", ("--photons", 1e4))):
        found = raymend("reduce-dose", scan, "--to", "25%", "-o", tmp_path / out, *options)
        assert (found.code, found.err.count("\n")) == (2, 1), found.err
    assert [path.name for path in tmp_path.iterdir()] == ["quiet.h5"]


def test_info_says_what_a_scan_is(raymend: Any, any_scan: tuple[str, Path]) -> None:
    kind, scan = any_scan
    found = raymend("info", scan)
    assert found.code == 0
    assert ("ParallelBeam" if kind == "parallel" else "ConeBeam") in found.out
    assert "next: raymend reconstruct" in found.out
    content = raymend("info", scan, "--json").json
    assert content["holds"] == "scan"
    assert isinstance(content["warnings"], list)


def test_info_reads_what_reconstruct_writes(raymend: Any, scan_file: Path, tmp_path: Path) -> None:
    raymend("reconstruct", scan_file, "-o", tmp_path / "image.nii.gz", "--unit", "hu", "--shape", 16)
    content = raymend("info", tmp_path / "image.nii.gz", "--json").json
    assert (content["holds"], content["unit"]) == ("volume", "HU")


@pytest.mark.parametrize("content", [b"", b"not a scan at all", b"PK\x03\x04broken", b"\x89HDF\r\n\x1a\n"])
def test_info_refuses_what_it_does_not_know(raymend: Any, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "thing.h5"
    path.write_bytes(content)
    found = raymend("info", path)
    assert found.code == 3
    assert found.err.startswith("raymend: ")
    assert found.err.count("\n") == 1


def test_info_of_nothing_and_of_a_pipe(raymend: Any, tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "nowhere.h5", tmp_path / "pipe", "/dev/zero"):
        found = raymend("info", path)
        assert found.code == 3
        assert found.err.count("\n") == 1


def test_doctor_is_well(raymend: Any) -> None:
    content = raymend("doctor", "--json").json
    assert content["ok"]
    assert set(content["packages"]) == {"recon", "phantoms", "restoration", "raymend"}
    assert [test["name"].split()[0] for test in content["tests"]] == ["adjoint", "error", "files:"]
    assert content["torch"]["threads"] >= 1
    assert content["numba"]["threads"] >= 1
    assert content["numba"]["kernels compiled for"] in simd.NAMES
    text = raymend("doctor")
    assert text.code == 0
    assert "all tests passed" in text.out
    assert f"kernels compiled for  {simd.instruction_set()}\n" in text.out


def test_doctor_names_an_instruction_set_that_is_not_there(raymend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYMEND_SIMD", "avx1024")
    found = raymend("doctor", "--json")
    assert found.json["numba"]["kernels compiled for"].startswith("none: RAYMEND_SIMD: expected one of avx512")


def test_doctor_notices_a_broken_projector(raymend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recon.Projector.adjoint_error", lambda self, **_: 0.5)
    found = raymend("doctor")
    assert found.code == 5
    assert "FAIL adjoint error of a projector: 0.5" in found.out


@pytest.mark.parametrize(
    ("problem", "code"),
    [
        (errors.ConfigError("x"), 2),
        (errors.GeometryError("x"), 2),
        (errors.FormatError("x"), 3),
        (errors.ResourceError("x"), 4),
        (errors.NumericalError("x"), 5),
        (errors.CheckpointError("x"), 6),
        (errors.WorkerError("x"), 7),
        (MemoryError(), 4),
        (OSError(28, "No space left on device", "file"), 4),
        (KeyboardInterrupt(), 130),
        (ZeroDivisionError("x"), 70),
    ],
)
def test_exit_codes(problem: BaseException, code: int) -> None:
    assert describe(problem)[0] == code


def test_a_bug_asks_for_a_report_and_debug_shows_where(
    raymend: Any, scan_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(path: Path) -> None:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr("recon.io.describe", broken)
    found = raymend("info", scan_file)
    assert found.code == 70
    assert found.err.count("\n") == 1
    assert "two lines" in found.err
    assert "bug in raymend" in found.err
    assert "Traceback" in raymend("info", scan_file, "--debug").err


def test_json_is_all_that_stdout_holds(scan_file: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "raymend", "reconstruct", str(scan_file), "-o", str(tmp_path / "a.npy"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] == "done"
