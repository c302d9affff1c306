import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from phantoms import Ellipsoid, Phantom
from raymend.cli.job import Job
from raymend.reconstruction import ITERATIVE
from raymend.reconstruction import METHODS as METHODS_BY_NAME
from recon import ConeBeam, Detector, Scan, memory
from recon.errors import ResourceError
from recon.io import read_scan, read_volume, write_scan

METHODS = {"parallel": "fbp", "fan": "fbp", "cone": "fdk", "helix": "os-sart"}


def test_method_and_grid_follow_from_the_geometry(raymend: Any, any_scan: tuple[str, Path], tmp_path: Path) -> None:
    kind, scan = any_scan
    out = tmp_path / "image.nii.gz"
    found = raymend("reconstruct", scan, "-o", out, "--json")
    assert found.code == 0, found.err
    assert found.json["method"] == METHODS[kind]
    volume = read_volume(out)
    assert volume.unit == "1/mm"
    assert list(volume.grid.shape) == found.json["shape"]
    middle = volume.values[volume.grid.shape[0] // 2, volume.grid.shape[1] // 2, volume.grid.shape[2] // 2]
    assert float(middle) == pytest.approx(0.02, rel=0.1 if kind == "helix" else 0.02)


def test_helix_comes_with_advice(raymend: Any, any_scan: tuple[str, Path], tmp_path: Path) -> None:
    kind, scan = any_scan
    found = raymend("reconstruct", scan, "-o", tmp_path / "image.npy", "--shape", 16)
    assert ("note: a helical scan has no filtered backprojection" in found.err) == (kind == "helix")


def test_units_and_formats(raymend: Any, scan_file: Path, tmp_path: Path) -> None:
    for name, unit in (("a.nii", "hu"), ("b.tif", "mm"), ("c.npy", "hu"), ("d.png", "hu")):
        found = raymend("reconstruct", scan_file, "-o", tmp_path / name, "--unit", unit, "--shape", 32, "--json")
        assert found.code == 0, found.err
        assert found.json["unit"] == ("HU" if unit == "hu" else "1/mm")
        assert (tmp_path / name).stat().st_size > 0
    assert read_volume(tmp_path / "a.nii").unit == "HU"


@pytest.mark.parametrize("in_blocks", [False, True])
def test_from_store_to_store(
    raymend: Any, scan_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_blocks: bool
) -> None:
    scan, whole, out = tmp_path / "scan.zarr", tmp_path / "whole.nii", tmp_path / "image.zarr"
    write_scan(scan, read_scan(scan_file))
    assert raymend("reconstruct", scan_file, "-o", whole, "--shape", 16, "--unit", "hu").code == 0
    if in_blocks:
        monkeypatch.setattr(memory.Budget, "work", property(lambda budget: 1))
        monkeypatch.setattr(memory, "even_parts", lambda count, _, **__: [slice(i, i + 1) for i in range(count)])
    for _ in range(2):  # the second time it is replaced
        found = raymend("reconstruct", scan, "-o", out, "--shape", 16, "--unit", "hu", "--json")
        assert found.code == 0, found.err
    expected = read_volume(whole).values
    torch.testing.assert_close(read_volume(out).values, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))
    for path, holds in ((scan, "scan"), (out, "volume")):
        said = raymend("info", path, "--json").json
        assert (said["holds"], said["kind"]) == (holds, f"zarr {holds}")
    refused = raymend("reconstruct", scan, "-o", scan)
    assert refused.code == 2
    assert "apart from the inputs" in refused.err


def test_a_store_without_its_package_is_refused_at_once(
    raymend: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "zarr", None)
    found = raymend("reconstruct", tmp_path / "none.h5", "-o", tmp_path / "image.zarr")
    assert found.code == 2
    assert 'pip install "raymend[io]"' in found.err


@pytest.mark.parametrize("method", METHODS_BY_NAME)
def test_every_method_runs(raymend: Any, scan_file: Path, tmp_path: Path, method: str) -> None:
    analytic = method not in ITERATIVE
    if method.startswith("pwls"):
        known = read_scan(scan_file)
        write_scan(scan_file, known.changed(calibration=replace(known.calibration, photons=1e6)))
    found = raymend(
        "reconstruct", scan_file, "-o", tmp_path / "image.npy", "--method", method,
        *(() if analytic else ("--iterations", 4)), "--shape", "1,32,40", "--spacing", 2.0, "--json",
    )  # fmt: skip
    assert found.code == 0, found.err
    assert found.json["shape"] == [1, 32, 40]
    assert found.json["spacing_mm"] == [1.0, 2.0, 2.0]  # a slice is as thick as a detector row at the axis
    assert found.json["iterations"] == (None if analytic else 4)
    middle = float(np.load(tmp_path / "image.npy")[0, 14:18, 18:22].mean())
    assert middle == pytest.approx(0.02, rel={"sirt": 0.6, "cgls": 0.1}.get(method, 0.05))


@pytest.mark.parametrize(
    ("method", "option"),
    [
        ("fbp", ("--iterations", 4)), ("fdk", ("--state", "kept")), ("fbp", ("--resume", "kept")),
        ("cgls", ("--window", "hann")), ("sirt", ("--cutoff", 0.5)), ("os-sart", ("--limited-angle",)),
        ("pwls", ("--padding", "edge")), ("fbp", ("--strength", 2)), ("sirt", ("--tune", "none")),
        ("cgls", ("--strength", 2)), ("pwls-nonlocal", ("--window", "hann")), ("pwls-auto", ("--iterations", 3)),
        ("pwls-spad", ("--iterations", 4)), ("pwls-tv", ("--state", "kept")),
    ],
)  # fmt: skip
def test_options_that_a_method_does_not_read_are_refused(
    raymend: Any, scan_file: Path, tmp_path: Path, method: str, option: tuple[object, ...]
) -> None:
    found = raymend("reconstruct", scan_file, "-o", tmp_path / "image.npy", "--method", method, *option)
    assert found.code == 2, found.err
    assert f"{option[0]}: expected none with --method {method}" in found.err
    assert found.err.count("\n") == 1
    assert not (tmp_path / "image.npy").exists()


def test_settings_that_a_method_does_not_read_are_told(raymend: Any, scan_file: Path, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text("[reconstruction]\nmethod = 'cgls'\niterations = 2\n")
    call = ("reconstruct", scan_file, "-o", tmp_path / "a.npy", "--shape", 12, "--settings", tmp_path / "run.toml")
    assert "note:" not in raymend(*call).err
    assert "note: iterations in the settings: not used by fbp\n" in raymend(*call, "--method", "fbp").err


@pytest.mark.parametrize(
    ("device", "method", "free", "moves", "blocks"),
    [
        ("cuda", "fbp", 1 << 40, [], ["cuda"]),
        ("cuda", "cgls", 1 << 40, ["cuda"], ["cuda"]),
        ("cuda:1", "cgls", 1 << 10, [], ["cuda:1"]),
        ("cuda:0,cuda:1", "cgls", 1 << 40, [], ["cuda:0", "cuda:1"]),
        ("cpu", "cgls", 1 << 40, [], []),
    ],
)
def test_data_go_to_the_devices_that_are_asked_for(
    raymend: Any, scan_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    device: str, method: str, free: int, moves: list[str], blocks: list[str],
) -> None:  # fmt: skip
    """Without a GPU at hand, say that there are two and look where data and blocks would go."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("recon.devices.free_memory", lambda device: free)
    found: dict[str, list[str]] = {"moves": []}

    def to(scan: Scan, device: str) -> Scan:
        found["moves"].append(device)
        return scan

    def run(job: Job, *_: Any) -> None:
        found["blocks"] = [str(device) for device in memory.current().devices]
        raise ResourceError("that is all")

    monkeypatch.setattr(Scan, "to", to)
    monkeypatch.setattr(Job, "run", run)
    ended = raymend(
        "reconstruct", scan_file, "-o", tmp_path / "image.npy", "--device", device, "--method", method, "--shape", 12
    )
    assert ended.err.endswith("that is all\n")
    assert found == {"moves": moves, "blocks": blocks}


@pytest.mark.gpu
@pytest.mark.parametrize("method", ["fbp", "cgls", "pwls"])
def test_cuda_gives_what_the_cpu_gives(raymend: Any, scan_file: Path, tmp_path: Path, method: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    for device in ("cpu", "cuda"):
        call = ("reconstruct", scan_file, "-o", tmp_path / f"{device}.npy", "--device", device, "--method", method)
        assert raymend(*call, "--shape", 24).code == 0
    cpu, cuda = (np.load(tmp_path / f"{device}.npy") for device in ("cpu", "cuda"))
    np.testing.assert_allclose(cuda, cpu, atol=1e-4 * abs(cpu).max())


def test_summary_for_people(raymend: Any, scan_file: Path, tmp_path: Path) -> None:
    found = raymend("reconstruct", scan_file, "-o", tmp_path / "image.npy", "--method", "cgls", "--iterations", 3)
    assert found.code == 0
    assert "by cgls" in found.out
    assert "iteration 3: stopped at the iteration limit" in found.out


def test_counts_need_the_logarithm(raymend: Any, counts_file: Path, tmp_path: Path) -> None:
    refused = raymend("reconstruct", counts_file, "-o", tmp_path / "image.npy")
    assert refused.code == 3
    assert "--log --photons N" in refused.err
    found = raymend("reconstruct", counts_file, "-o", tmp_path / "image.npy", "--log", "--photons", 1e4, "--json")
    assert found.code == 0, found.err
    assert found.json["max"] == pytest.approx(0.02, rel=0.4)


def test_axis_is_found(raymend: Any, tmp_path: Path) -> None:
    """A disc beside the axis, on a detector that is moved by 3.3 mm and does not say so."""
    detector = Detector(shape=(1, 64), pitch=(2.0, 2.0), offset=(0.0, 3.3))
    true = ConeBeam.circular(72, detector=detector, source_to_axis=300, source_to_detector=600)
    disc = Phantom(
        name="disc", rule="additive", shapes=(Ellipsoid(centre=(0, 6, -9), semi=(50, 14, 10), density=0.02),)
    )
    said = replace(true, detector=replace(detector, offset=(0.0, 0.0)))
    write_scan(tmp_path / "scan.h5", Scan(geometry=said, values=disc.line_integrals(true)))
    used = tmp_path / "used.toml"
    found = raymend(
        "reconstruct", tmp_path / "scan.h5", "-o", tmp_path / "image.npy", "--centre", "find", "--write-settings", used
    )
    assert found.code == 0, found.err
    assert tomllib.loads(used.read_text())["detector"]["offset"][1] == pytest.approx(3.3, abs=0.2)


def test_volume_beyond_the_field_of_view_is_warned_about(raymend: Any, scan_file: Path, tmp_path: Path) -> None:
    found = raymend("reconstruct", scan_file, "-o", tmp_path / "image.npy", "--shape", 64, "--spacing", 3, "--json")
    assert found.code == 0
    assert any("outside the field of view" in line for line in found.json["warnings"])
    assert [line for line in found.err.splitlines() if line.startswith("warning: volume outside")]
    assert ".py" not in found.err


def test_state_goes_on_where_it_was(raymend: Any, scan_file: Path, tmp_path: Path) -> None:
    from recon import VolumeGrid
    from recon.io import read_scan
    from recon.io.checkpoint import save_checkpoint
    from recon.iterative import cgls

    grid = VolumeGrid(shape=(1, 24, 24), spacing=2.5)
    save_checkpoint(tmp_path / "state", cgls(read_scan(scan_file), grid, iterations=3))
    common = ("reconstruct", scan_file, "--method", "cgls", "--shape", "1,24,24", "--spacing", "2.5,2.5,2.5")
    assert raymend(*common, "-o", tmp_path / "a.npy", "--iterations", 6, "--resume", tmp_path / "state").code == 0
    assert raymend(*common, "-o", tmp_path / "b.npy", "--iterations", 6).code == 0
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()
    other = raymend(*common, "-o", tmp_path / "c.npy", "--method", "sirt", "--resume", tmp_path / "state")
    assert other.code == 6
    assert not (tmp_path / "c.npy").exists()


def test_state_is_kept_while_an_iteration_runs(
    raymend: Any, scan_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from raymend.cli import job as command
    from recon.io.checkpoint import load_checkpoint

    monkeypatch.setattr(command, "_KEEP_EVERY", 0.0)
    common = ("reconstruct", scan_file, "--method", "sirt", "--shape", "1,24,24", "--spacing", "2.5")
    state = tmp_path / "state"
    assert raymend(*common, "-o", tmp_path / "a.npy", "--iterations", 4, "--state", state).code == 0
    assert load_checkpoint(state).iterations == 4
    assert raymend(*common, "-o", tmp_path / "b.npy", "--iterations", 7, "--resume", state).code == 0
    assert raymend(*common, "-o", tmp_path / "c.npy", "--iterations", 7).code == 0
    assert (tmp_path / "b.npy").read_bytes() == (tmp_path / "c.npy").read_bytes()


def test_a_picture_of_a_volume_is_refused_before_it_is_made(raymend: Any, tmp_path: Path) -> None:
    from recon.io import write_scan
    from tests.raymend.conftest import GEOMETRIES, disc_scan

    write_scan(tmp_path / "cone.h5", disc_scan(GEOMETRIES["cone"]))
    found = raymend("reconstruct", tmp_path / "cone.h5", "-o", tmp_path / "v.png", "--shape", "8,40,50")
    assert found.code == 2
    assert "expected one slice for a .png, got 8; take --shape 1,40,50" in found.err


BAD: list[tuple[str, tuple[object, ...], int, str]] = [
    ("method", ("--method", "fpb"), 2, "expected one of fbp, fdk"),
    ("window", ("--window", "hannn"), 2, "ram-lak, shepp-logan"),
    ("shape", ("--shape", "0"), 2, "--shape"),
    ("shape words", ("--shape", "big"), 2, "--shape"),
    ("spacing", ("--spacing", "-1"), 2, "--spacing"),
    ("nan", ("--spacing", "nan"), 2, "--spacing"),
    ("overflow", ("--spacing", "1e400"), 2, "--spacing"),
    ("iterations", ("--method", "cgls", "--iterations", "0"), 2, "--iterations"),
    ("iterations bool", ("--method", "cgls", "--iterations", "true"), 2, "--iterations"),
    ("unit", ("--unit", "furlong"), 2, "--unit"),
    ("centre", ("--centre", "middle"), 2, "--centre"),
    ("half of log", ("--log",), 2, "--photons"),
    ("grey range", ("--window-hu", "0,100"), 2, "--window-hu"),
    ("device", ("--device", "tpu"), 2, "--device: expected cpu, cuda, or GPUs such as cuda:0,cuda:1, got 'tpu'"),
    ("devices", ("--device", "cuda:0,cpu"), 2, "--device: expected"),
    ("one device twice", ("--device", "cuda:0,cuda:0"), 2, "--device: expected"),
    ("no such state", ("--method", "cgls", "--resume", "nowhere"), 6, "nowhere"),
    ("memory", ("--shape", "100000"), 4, "GiB"),
    ("unknown option", ("--shap", "3"), 2, "--shap"),
]


@pytest.mark.parametrize(("name", "options", "code", "says"), BAD, ids=[b[0] for b in BAD])
def test_bad_options_end_in_one_line(
    raymend: Any, scan_file: Path, tmp_path: Path, name: str, options: tuple[object, ...], code: int, says: str
) -> None:
    found = raymend("reconstruct", scan_file, "-o", tmp_path / "image.npy", *options)
    assert found.code == code, found.err
    assert says in found.err
    assert "Traceback" not in found.err
    assert not (tmp_path / "image.npy").exists()


def test_missing_device_names_the_way_out(
    raymend: Any, scan_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    found = raymend("reconstruct", scan_file, "-o", tmp_path / "image.npy", "--device", "cuda")
    assert found.code == 4
    assert found.err == "raymend: --device cuda: no CUDA device was found; run with --device cpu\n"


def test_bad_outputs_are_refused_before_the_scan_is_read(raymend: Any, scan_file: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.h5"
    damaged.write_bytes(b"nothing of use")
    (tmp_path / "folder.npy").mkdir()
    for output in (tmp_path / "folder.npy", tmp_path / "nowhere" / "image.npy", scan_file / "image.npy"):
        found = raymend("reconstruct", damaged, "-o", output)
        assert found.code == 2, found.err
        assert found.err.count("\n") == 1
    assert raymend("reconstruct", damaged, "-o", tmp_path / "image.xyz").code == 2
    assert raymend("reconstruct", damaged, "-o", tmp_path / "image.npy").code == 3


def test_output_never_replaces_the_input(raymend: Any, counts_file: Path, tmp_path: Path) -> None:
    link = tmp_path / "same.npy"
    link.symlink_to(counts_file)
    before = counts_file.read_bytes()
    found = raymend("reconstruct", counts_file, "-o", link)
    assert found.code == 2
    assert counts_file.read_bytes() == before


def test_names_may_be_odd(raymend: Any, scan_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    odd = tmp_path / "-ä scan 扫描.h5"
    odd.write_bytes(scan_file.read_bytes())
    found = raymend("reconstruct", "-o", "-ö image.npy", "--shape", 16, "--", odd.name)
    assert found.code == 0, found.err
    assert (tmp_path / "-ö image.npy").exists()
