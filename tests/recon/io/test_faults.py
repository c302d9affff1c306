"""Damaged, hostile and mislabelled files: one clear error, in bounded time and memory."""

import builtins
import io
import os
import random
import struct
import subprocess
import sys
import time
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pydicom
import pytest
import torch
from io_cases import (
    CONE,
    GRID,
    SCAN_WRITERS,
    VOLUME_WRITERS,
    data_exchange,
    dicom,
    files_of,
    matlab,
    npz,
    scan_of,
    volume,
)

from recon.errors import (
    ConfigError,
    CTError,
    CTWarning,
    FormatError,
    MissingExtraError,
    NumericalError,
    ResourceError,
    UnsafeFileError,
)
from recon.geometry import Detector, ParallelBeam
from recon.io import describe, geometry_from_json, geometry_to_json, read_scan, read_volume, write_scan, write_volume

pytestmark = pytest.mark.filterwarnings("ignore::recon.errors.CTWarning")
NAN = float("nan")
WRITERS = {**SCAN_WRITERS, **VOLUME_WRITERS}


def read(path: Path, **given: Any) -> object:
    return (read_scan if path.name in SCAN_WRITERS else read_volume)(path, **given)


def same(one: Any, other: Any) -> bool:
    """Compare values and where they are."""
    where = [getattr(item, "grid", None) or item.geometry for item in (one, other)]
    return torch.equal(one.values, other.values) and where[0] == where[1]


@pytest.fixture(params=WRITERS)
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / request.param
    WRITERS[request.param](path)
    read(path)
    return path


def test_truncated_anywhere(file: Path) -> None:
    before = read(file)
    for part in files_of(file):
        whole = part.read_bytes()
        steps = range(64, len(whole), max(64, len(whole) // 20 // 64 * 64))
        for cut in sorted({0, 1, 7, min(100, len(whole) - 1), len(whole) - 1, *steps}):
            part.write_bytes(whole[:cut])
            try:
                after = read(file)
            except FormatError as error:
                said = str(error)
            else:  # what is missing was padding
                said = file.name if same(after, before) else f"{cut} of {len(whole)} bytes read as something else"
            assert file.name in said
            assert "\n" not in said
        part.write_bytes(whole)


@pytest.mark.parametrize(
    "content", [b"", b"view,row,value\n0,0,1.5\n" * 50, b"\0" * 4096, random.Random(0).randbytes(4096)]
)
def test_something_else_under_the_name(file: Path, content: bytes) -> None:
    (file / "zarr.json" if file.is_dir() else file).write_bytes(content)
    with pytest.raises(FormatError, match=r"empty file|unknown content"):
        read(file)


def test_more_than_the_limit_is_refused_before_it_is_read(file: Path) -> None:
    with pytest.raises(ResourceError, match=r"needs .* \(expected at most 64 B\); raise max_bytes"):
        read(file, max_bytes=64)


@pytest.mark.parametrize(("name", "step"), [("own.h5", 307), ("own.zarr", 29)])
def test_flipped_bits_are_found_or_harmless(tmp_path: Path, name: str, step: int) -> None:
    path = tmp_path / name
    write_scan(path, scan_of())
    before = read_scan(path)
    said = []
    for part in files_of(path):
        whole = part.read_bytes()
        for at in range(0, len(whole), step):
            part.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :])
            try:
                after = read_scan(path)
            except FormatError as error:
                said.append(str(error))
            else:
                assert all(torch.equal(getattr(after, n), getattr(before, n)) for n in ("values", "weights", "poses"))
                assert (after.geometry, after.calibration) == (before.geometry, before.calibration)
                assert after.provenance[:-1] == before.provenance[:-1]
        part.write_bytes(whole)
    assert sum("checksum" in text for text in said) > 3


def test_flipped_value_says_checksum(tmp_path: Path) -> None:
    path = tmp_path / "own.h5"
    write_scan(path, scan_of())
    whole = path.read_bytes()
    at = whole.index(scan_of().values.numpy().tobytes()) + 50
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
    with pytest.raises(FormatError, match="checksum"):
        read_scan(path)


@pytest.mark.parametrize("name", ["own.npz", "plain.npz", "volume.nii.gz"])
def test_flipped_bits_in_compressed_files(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    WRITERS[name](path)
    whole = path.read_bytes()
    at = len(whole) // 3
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
    with pytest.raises(FormatError):
        read(path)


def mutated(whole: bytes, draw: random.Random) -> bytes:
    """Flip, overwrite, cut out, double or cut off a few bytes; half of the time near the start, where headers are."""
    data = bytearray(whole)
    for _ in range(draw.choice((1, 1, 2, 8, 40))):
        if not data:
            break
        at = draw.randrange(min(len(data), 600) if draw.random() < 0.5 else len(data))
        kind, end = draw.randrange(6), at + draw.randrange(1, 9)
        if kind < 2:
            data[at] ^= 1 << draw.randrange(8)
        elif kind < 4:
            data[at:end] = draw.choice((b"\0", b"\xff", draw.randbytes(1))) * len(data[at:end])
        elif kind == 4:
            data[at:end] = b"" if draw.random() < 0.5 else data[at:end] * 2
        elif draw.random() < 0.2:
            del data[at:]
    return bytes(data)


HDF5 = [name for name in WRITERS if name.endswith(".h5")]


@pytest.mark.parametrize(
    "file", [pytest.param(name, marks=[pytest.mark.slow] * (name in HDF5)) for name in WRITERS], indirect=True
)
def test_damaged_at_random_ends_in_an_error_of_ours(file: Path) -> None:
    """200 files per format, the same ones each time; 60 of HDF5, where every one takes a process of its own."""
    draw, said = random.Random(file.name), ""
    for k in range(60 if file.name in HDF5 else 200):
        part = draw.choice(files_of(file)) if file.is_dir() else file
        whole = part.read_bytes()
        part.write_bytes(mutated(whole, draw))
        with warnings.catch_warnings(action="ignore"):  # libraries warn about what they then read or refuse
            try:
                read(file, max_bytes=1 << 26)
            except CTError as error:
                said = str(error)
            except Exception as error:
                raise AssertionError(f"mutation {k} of {part}: {error!r}") from error
        part.write_bytes(whole)
        assert "\n" not in said, k
    assert said


class TestNotAFile:
    @pytest.mark.parametrize("reader", [read_scan, read_volume, describe])
    def test_pipes_and_devices(self, tmp_path: Path, reader: Callable[[Path], object]) -> None:
        os.mkfifo(tmp_path / "pipe.h5")
        for path in (tmp_path / "pipe.h5", Path("/dev/zero")):
            start = time.monotonic()
            with pytest.raises(FormatError, match="not a regular file"):
                reader(path)
            assert time.monotonic() - start < 1

    @pytest.mark.parametrize("name", ["none.h5", "n" * 300, "nul\0.h5"])
    def test_nothing_there(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(FormatError, match="expected a file, got none"):
            read_scan(tmp_path / name)

    def test_folder(self, tmp_path: Path) -> None:
        with pytest.raises(FormatError, match="a folder"):
            read_scan(tmp_path)
        with pytest.raises(FormatError, match="DICM is missing"):
            read_volume(tmp_path)


class TestHdf5:
    def test_declares_terabytes(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "e.h5", "w") as file:
            file.create_dataset("exchange/data", (2_000_000, 512, 600), "f4", chunks=(1, 64, 64))
        assert (tmp_path / "e.h5").stat().st_size < 10_000
        start = time.monotonic()
        with pytest.raises(ResourceError, match=r"needs 2\.2\d* TiB"):
            read_scan(tmp_path / "e.h5")
        assert time.monotonic() - start < 1

    def test_truncated_says_both_sizes(self, tmp_path: Path) -> None:
        for name in ("own.h5", "exchange.h5"):
            WRITERS[name](tmp_path / name)
            whole = (tmp_path / name).read_bytes()
            (tmp_path / name).write_bytes(whole[:3000])
            with pytest.raises(FormatError, match=rf"truncated: expected {len(whole)} bytes, got 3000"):
                read_scan(tmp_path / name)

    def test_a_library_that_crashes_or_hangs_ends_a_child(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        data_exchange(tmp_path / "e.h5")
        monkeypatch.setattr("recon.io.probe._SECONDS", 1)
        for number, (ending, says) in enumerate(
            [("os.kill(os.getpid(), 11)", "crashed on it .signal 11"), ("time.sleep(60)", "did not come to an end")]
        ):
            script = tmp_path / f"{number}.py"
            script.write_text(f"import os, time; {ending}")
            monkeypatch.setattr("recon.io.probe.__file__", str(script))
            with pytest.raises(FormatError, match=says):
                read_scan(tmp_path / "e.h5")

    def test_every_object_is_visited_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with h5py.File(tmp_path / "e.h5", "w") as file:
            for k in range(20):
                file[f"other/{k}"] = h5py.ExternalLink("elsewhere.h5", "x") if k == 19 else np.ones(3)
        with pytest.raises(UnsafeFileError, match=r"e\.h5: /other/19 is a link to another file"):
            read_scan(tmp_path / "e.h5")
        monkeypatch.setattr(sys, "executable", "")  # without a child, what is read is checked on its own
        data_exchange(tmp_path / "secret.h5")
        with h5py.File(tmp_path / "e.h5", "w") as file:
            file["far"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "exchange/data")
            file["exchange/data"] = h5py.SoftLink("/far")
        with pytest.raises(UnsafeFileError, match="leads to another file"):
            read_scan(tmp_path / "e.h5")
        data_exchange(tmp_path / "e.h5", data=None)
        with h5py.File(tmp_path / "e.h5", "a") as file:
            file["counts"] = np.full((8, 2, 40), 500, "u2")
            file["exchange/data"] = h5py.SoftLink("/counts")
        assert read_scan(tmp_path / "e.h5").values.shape == (8, 2, 40)

    def test_declares_more_than_it_stores(self, tmp_path: Path) -> None:
        for chunks in (None, (1, 64, 64)):
            with h5py.File(tmp_path / "e.h5", "w") as file:
                file.create_dataset("exchange/data", (100, 64, 64), "f4", chunks=chunks)
            with pytest.raises(FormatError, match="not completely written"):
                read_scan(tmp_path / "e.h5")

    def test_reads_no_other_file(self, tmp_path: Path) -> None:
        other = tmp_path / "secret.h5"
        data_exchange(other)
        (tmp_path / "secret.raw").write_bytes(b"secret" * 1000)

        def link(file: h5py.File) -> None:
            file["exchange/data"] = h5py.ExternalLink(str(other), "exchange/data")

        def root_link(file: h5py.File) -> None:
            file["exchange"] = h5py.ExternalLink(str(other), "exchange")

        def storage(file: h5py.File) -> None:
            raw = [(str(tmp_path / "secret.raw"), 0, 800)]
            file.create_dataset("exchange/data", (2, 10, 10), "f4", external=raw)

        def virtual(file: h5py.File) -> None:
            layout = h5py.VirtualLayout((8, 2, 40), "f4")
            layout[:] = h5py.VirtualSource(str(other), "exchange/data", (8, 2, 40))
            file.create_virtual_dataset("exchange/data", layout)

        for hostile in (link, root_link, storage, virtual):
            with h5py.File(tmp_path / "e.h5", "w") as file:
                hostile(file)
            with pytest.raises(UnsafeFileError, match=r"e\.h5.*copy the data into this one"):
                read_scan(tmp_path / "e.h5")

    def test_loop_of_links(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "e.h5", "w") as file:
            file["exchange/data"] = h5py.SoftLink("/exchange/data")
            file["exchange/self"] = file["exchange"]
        with pytest.raises(FormatError):
            read_scan(tmp_path / "e.h5")

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"data_white": None}, "flats: expected flat fields or air, got neither"),
            ({"data_white": np.full((3, 2, 40), 50, "f4")}, "swapped"),
            ({"data_white": np.zeros((3, 2, 40), "f4"), "data_dark": None}, "see no beam"),
            ({"data_white": np.ones((3, 2, 41), "f4")}, r"flats: .*\(3, 2, 41\)"),
            ({"theta": None}, "exchange/theta"),
            ({"theta": np.arange(9.0)}, r"\[9, 2, 40\] from the geometry, got \[8, 2, 40\]"),
            ({"data": np.zeros((0, 2, 40), "f4")}, "empty array"),
            ({"data": np.zeros((8, 2), "c8")}, r"real|neither"),
        ],
    )
    def test_contradicting_data_exchange(self, tmp_path: Path, change: dict[str, object], message: str) -> None:
        data_exchange(tmp_path / "e.h5", **change)
        with pytest.raises(FormatError, match=message):
            read_scan(tmp_path / "e.h5")

    def test_unknown_layout_and_version(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "x.h5", "w") as file:
            file["some/data"] = np.ones(3)
        with pytest.raises(FormatError, match="unknown layout"):
            read_scan(tmp_path / "x.h5")
        write_scan(tmp_path / "own.h5", scan_of())
        with h5py.File(tmp_path / "own.h5", "a") as file:
            file.attrs["version"] = 99
        with pytest.raises(FormatError, match="expected format version 1 to 1, got 99"):
            read_scan(tmp_path / "own.h5")

    def test_geometry_that_contradicts_its_rays(self, tmp_path: Path) -> None:
        write_scan(tmp_path / "own.h5", scan_of())
        with h5py.File(tmp_path / "own.h5", "a") as file:
            file["rays"][0, 0, 0] += 1
        with pytest.raises(FormatError, match="contradict"):
            read_scan(tmp_path / "own.h5")

    @pytest.mark.slow
    def test_damaged_files_do_not_end_the_process(self, tmp_path: Path) -> None:
        data_exchange(tmp_path / "e.h5")
        program = (
            "import sys, warnings, random; warnings.simplefilter('ignore')\n"
            "from recon.io import read_scan; from recon.errors import CTError\n"
            "whole = open(sys.argv[1], 'rb').read(); draw = random.Random(0)\n"
            "for k in range(40):\n"
            "    cut = bytearray(whole)\n"
            "    for _ in range(draw.choice((1, 1, 4, 30))):\n"
            "        cut[draw.randrange(min(len(cut), 4000))] = draw.randrange(256)\n"
            "    open(sys.argv[2], 'wb').write(cut)\n"
            "    try: read_scan(sys.argv[2], pitch=1.0)\n"
            "    except CTError: pass\n"
            "print('alive')"
        )
        arguments = [sys.executable, "-c", program, str(tmp_path / "e.h5"), str(tmp_path / "cut.h5")]
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=300, check=False)
        assert done.stdout.strip() == "alive", (done.returncode, done.stderr[-500:])


class TestNumpy:
    def test_objects_are_never_unpickled(self, tmp_path: Path) -> None:
        marker = tmp_path / "ran"

        class Attack:
            def __reduce__(self) -> tuple[Any, ...]:
                return (Path.touch, (marker,))

        array = np.array([Attack()], dtype=object)
        np.save(tmp_path / "o.npy", array, allow_pickle=True)
        np.savez(tmp_path / "o.npz", sinogram=array)  # type: ignore[arg-type]
        for name in ("o.npy", "o.npz"):
            with pytest.raises(UnsafeFileError, match="Python objects"):
                read_scan(tmp_path / name, geometry=CONE)
        assert not marker.exists()

    @pytest.mark.parametrize("shape", ["(-1, 5)", "(10**9, 10**9)", "(2, 3, 9)", "(True, 3)"])
    def test_lying_shape(self, tmp_path: Path, shape: str) -> None:
        shape = shape.replace("10**9", "1" + "0" * 9)
        header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
        content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + b"\0" * 24
        (tmp_path / "l.npy").write_bytes(content)
        with pytest.raises((FormatError, ResourceError), match=r"l\.npy"):
            read_scan(tmp_path / "l.npy", geometry=CONE)

    def test_bomb(self, tmp_path: Path) -> None:
        with (
            zipfile.ZipFile(tmp_path / "b.npz", "w", zipfile.ZIP_DEFLATED) as archive,
            archive.open("values.npy", "w") as member,
        ):
            np.lib.format.write_array_header_1_0(
                member, {"descr": "<f4", "fortran_order": False, "shape": (64, 1024, 1024)}
            )
            for _ in range(256):
                member.write(bytes(1 << 20))
        assert (tmp_path / "b.npz").stat().st_size < 1 << 19
        with pytest.raises(ResourceError, match="256 MiB"):
            read_scan(tmp_path / "b.npz", max_bytes=64 << 20)

    def test_zip_without_arrays(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "z.npz", "w") as archive:
            archive.writestr("../../evil.txt", "x")
        with pytest.raises(FormatError, match="expected NumPy arrays"):
            read_scan(tmp_path / "z.npz")
        assert not list(tmp_path.rglob("evil*"))

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"sinogram": None}, "expected one of values, sinogram"),
            ({"values": np.ones((6, 20))}, "expected one of"),
            ({"angles": None}, "angles: expected one list in radians"),
            ({"angles_deg": np.arange(6.0)}, "both radians and degrees"),
            ({"angles": np.arange(7.0)}, r"\[7, 1, 20\] from the geometry, got \[6, 1, 20\]"),
            ({"sinogram": np.ones((20, 6))}, r"\[6, 1, 6\] from the geometry, got \[20, 1, 6\]"),
            ({"angles": np.arange(6.0) * 60}, "looks like degrees"),
            ({"DSD": None}, "no source_to_detector"),
            ({"DSO": None, "DSD": None, "sid": 500.0}, "source_to_axis.*or source to image"),
            ({"SOD": 300.0}, "both state source_to_axis and differ"),
            ({"DSO": "far"}, "expected one number, got 'far'"),
            ({"DSO": np.nan}, "finite number"),
            ({"DSO": -1.0}, "source_to_axis"),
            ({"DSO": 600.0}, "swapped"),
            ({"pitch": None}, "pitch: expected the step"),
            ({"pitch": np.ones(3)}, "3 numbers"),
            ({"curve": "round"}, "expected flat or arc"),
            ({"offset": 30.0}, "half the detector"),
            ({"sinogram": np.ones((6, 20), "c16")}, "expected real numbers, got complex128"),
            ({"sinogram": np.ones((6, 20), "u2")}, "looks like raw counts.*--log"),
            ({"sinogram": np.full((6, 20), 900.0)}, "looks like raw counts.*--log"),
            ({"sinogram": np.ones(6)}, r"expected \[view, row, column\]"),
            ({"sinogram": np.ones((6, 1, 20, 1))}, "4 axes"),
            ({"sinogram": np.ones((0, 20))}, "empty"),
            ({"geometry": '{"type": "Spiral"}'}, "expected a type among ConeBeam"),
        ],
    )
    def test_contradicting_plain_names(self, tmp_path: Path, change: dict[str, object], message: str) -> None:
        npz(tmp_path / "p.npz", **change)
        with pytest.raises(CTError, match=message) as caught:
            read_scan(tmp_path / "p.npz")
        assert caught.value.exit_code in (2, 3)

    @pytest.mark.parametrize(
        "change",
        [
            {"pitch": "x"}, {"pitch": np.array([1, 2j])}, {"offset": "x"}, {"offset": np.ones(0)}, {"photons": np.nan},
            {"photons": "many"}, {"photons": np.ones(2)}, {"photons": -1.0}, {"energy": np.inf}, {"angles": "all"},
            {"angles_deg": "all", "angles": None}, {"DSO": None, "DSD": None, "sid": np.ones(3)}, {"pitch": -1.0},
            {"curve": np.ones(3)}, {"format": "raymend scan 9"}, {"format": "raymend scan 1"}, {"geometry": "[]"},
        ],
        ids=lambda change: "-".join(change),
    )  # fmt: skip
    def test_scans_that_cannot_be_used_are_bad_files(self, tmp_path: Path, change: dict[str, object]) -> None:
        npz(tmp_path / "p.npz", **change)
        with pytest.raises(FormatError, match=r"p\.npz"):
            read_scan(tmp_path / "p.npz")

    @pytest.mark.parametrize(
        "change",
        [
            {"spacing": "a"}, {"spacing": np.ones(2)}, {"spacing": 0.0}, {"spacing": np.ones(0)}, {"z_mm": np.ones(0)},
            {"z_mm": "a"}, {"centre": np.ones(2)}, {"centre": "abc"}, {"centre": np.full(3, np.nan)}, {"unit": "ells"},
            {"unit": np.ones(3)}, {"volume": np.ones(3)}, {"volume": np.ones((2, 0))}, {"volume": "abc"},
        ],
        ids=lambda change: "-".join(change),
    )  # fmt: skip
    def test_volumes_that_cannot_be_used_are_bad_files(self, tmp_path: Path, change: dict[str, Any]) -> None:
        np.savez(tmp_path / "v.npz", **{"volume": np.ones((2, 3, 4)), **change})
        with pytest.raises(FormatError, match=r"v\.npz"):
            read_volume(tmp_path / "v.npz")

    def test_swapped_axes_are_named(self, tmp_path: Path) -> None:
        np.save(tmp_path / "s.npy", scan_of().values.numpy().transpose(2, 1, 0))
        with pytest.raises(FormatError, match="axes look swapped"):
            read_scan(tmp_path / "s.npy", geometry=CONE)

    def test_not_finite(self, tmp_path: Path) -> None:
        values = scan_of().values.numpy().copy()
        values[2, 1, 3] = np.nan
        np.save(tmp_path / "n.npy", values)
        with pytest.raises(NumericalError, match=r"1 of 105 NaN or Inf, the first at \(2, 1, 3\)"):
            read_scan(tmp_path / "n.npy", geometry=CONE)
        np.save(tmp_path / "v.npy", np.full((2, 3, 4), np.inf))
        with pytest.raises(NumericalError, match="24 of 24"):
            read_volume(tmp_path / "v.npy")

    def test_whole_numbers_that_float32_cannot_hold(self, tmp_path: Path) -> None:
        np.save(tmp_path / "v.npy", np.full((2, 3, 4), 2**24 + 1))
        with pytest.raises(FormatError, match=r"2\^24"):
            read_volume(tmp_path / "v.npy")


@pytest.mark.parametrize(
    "text",
    ["", "[1]", "{}", '{"type": "ConeBeam"}',
     '{"type": "ParallelBeam", "angles": [0], "detector": {"shape": [1, 2], "x": 1}}',
     '{"type": "ParallelBeam", "angles": ["a"], "detector": {"shape": [1, 2]}}', "[" * 100_000,
     '{"type": "ParallelBeam", "angles": [NaN], "detector": {"shape": [1, 2]}}'],
)  # fmt: skip
def test_geometry_text_that_is_none(text: str) -> None:
    with pytest.raises(FormatError, match="geometry"):
        geometry_from_json(text)


class TestMatlab:
    def test_bomb(self, tmp_path: Path) -> None:
        from scipy.io import savemat

        savemat(tmp_path / "b.mat", {"CtDataFull": np.zeros((4000, 4000))}, do_compression=True)
        with pytest.raises(ResourceError, match="needs"):
            read_scan(tmp_path / "b.mat", max_bytes=1 << 20)

    def test_unknown_variables_are_listed(self, tmp_path: Path) -> None:
        from scipy.io import savemat

        savemat(tmp_path / "u.mat", {"picture": np.zeros((4, 5))})
        with pytest.raises(FormatError, match=r"got picture \(4, 5\)"):
            read_scan(tmp_path / "u.mat")

    def test_missing_setting(self, tmp_path: Path) -> None:
        from scipy.io import savemat

        savemat(
            tmp_path / "m.mat", {"CtDataFull": {"sinogram": np.zeros((4, 5)), "parameters": {"distanceUnit": "mm"}}}
        )
        with pytest.raises(FormatError, match="pixelSizePost"):
            read_scan(tmp_path / "m.mat")


class TestNifti:
    @pytest.mark.parametrize(
        ("at", "form", "value", "message"),
        [
            (40, "<h", -3, "dim"), (42, "<h", -5, "dim"), (42, "<h", 32000, "truncated"), (70, "<h", 32, "code 32"),
            (80, "<f", 0.0, "pixdim"), (80, "<f", -1.0, "pixdim"), (108, "<f", NAN, "vox_offset"),
            (112, "<f", NAN, "scl_slope"), (280, "<f", NAN, "affine"), (280, "<f", 0.0, "independent"),
            (284, "<f", 0.5, "oblique volume"), (344, "<i", 0, "unknown content"),
        ],
    )  # fmt: skip
    def test_headers_that_lie(self, tmp_path: Path, at: int, form: str, value: float, message: str) -> None:
        write_volume(tmp_path / "v.nii", volume(), GRID)
        content = bytearray((tmp_path / "v.nii").read_bytes())
        struct.pack_into(form, content, at, value)
        (tmp_path / "v.nii").write_bytes(content)
        with pytest.raises(FormatError, match=message):
            read_volume(tmp_path / "v.nii")


class TestTiff:
    def test_pages_of_differing_size(self, tmp_path: Path) -> None:
        import tifffile

        with tifffile.TiffWriter(tmp_path / "d.tif") as writer:
            writer.write(np.zeros((4, 5), "f4"), metadata=None)
            writer.write(np.zeros((4, 6), "f4"), metadata=None)
        with pytest.raises(FormatError, match="page 1"):
            read_volume(tmp_path / "d.tif")

    def test_colours(self, tmp_path: Path) -> None:
        import tifffile

        tifffile.imwrite(tmp_path / "c.tif", np.zeros((4, 5, 3), "u1"), photometric="rgb")
        with pytest.raises(FormatError, match="grey values"):
            read_volume(tmp_path / "c.tif")


class TestDicom:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"Rows": 60}, "expected 600 bytes for 60 x 5, got 60"),
            ({"RescaleSlope": 0}, "RescaleSlope"),
            ({"RescaleSlope": None}, "RescaleSlope"),
            ({"PixelData": None}, "PixelData"),
            ({"PixelSpacing": None}, "none of PixelSpacing"),
            ({"GantryDetectorTilt": 12.5}, "GantryDetectorTilt: expected 0, got 12.5 degrees"),
            ({"ImageOrientationPatient": [1, 0, 0, 0, 0.8, 0.6]}, "oblique volume"),
            ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.4"}, "expected CT Image Storage, got MR Image Storage"),
            ({"SliceThickness": None}, "SliceThickness"),
        ],
    )
    def test_slices_that_cannot_be_used(self, tmp_path: Path, change: dict[str, object], message: str) -> None:
        dicom(tmp_path / "s.dcm", **change)
        with pytest.raises(FormatError, match=message):
            read_volume(tmp_path / "s.dcm")

    @pytest.mark.parametrize(
        ("slices", "message"),
        [
            ([{"height": 0.0}, {"height": 3.0}, {"height": 9.0}, {"height": 12.0}], "3 and 9; slices are missing"),
            ([{"height": 0.0}, {"height": 3.0}, {"height": 3.0}], "two at 3 mm"),
            ([{"height": 0.0}, {"height": 3.0, "series": "1.2.4"}], "expected one series, got 2"),
            ([{"height": 0.0}, {"height": 3.0, "PixelSpacing": [1, 1]}], "PixelSpacing: expected the same"),
        ],
    )
    def test_folders_that_are_no_volume(self, tmp_path: Path, slices: list[dict[str, Any]], message: str) -> None:
        for k, change in enumerate(slices):
            dicom(tmp_path / f"{k}.dcm", **change)
        with pytest.raises(FormatError, match=message):
            read_volume(tmp_path)

    def test_other_files_are_left_out_with_a_warning(self, tmp_path: Path) -> None:
        dicom(tmp_path / "s.dcm")
        (tmp_path / "LICENSE.txt").write_text("free")
        with pytest.warns(CTWarning, match="1 files are not DICOM"):
            read_volume(tmp_path)

    def test_text_says_that_dicm_is_missing(self, tmp_path: Path) -> None:
        (tmp_path / "t.dcm").write_text("no picture " * 100)
        with pytest.raises(FormatError, match="DICM is missing"):
            read_volume(tmp_path / "t.dcm")

    def test_deflated_bomb(self, tmp_path: Path) -> None:
        dicom(tmp_path / "s.dcm")
        dataset = pydicom.dcmread(tmp_path / "s.dcm")
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
        dataset.add_new(0x00091001, "OB", bytes(20 << 20))
        dataset.save_as(tmp_path / "s.dcm")
        assert (tmp_path / "s.dcm").stat().st_size < 100_000
        with pytest.raises(ResourceError, match="unpacks to more"):
            read_volume(tmp_path / "s.dcm", max_bytes=1 << 20)
        assert read_volume(tmp_path / "s.dcm").grid.shape == (1, 6, 5)

    def test_nested_too_deeply(self, tmp_path: Path) -> None:
        dicom(tmp_path / "s.dcm")
        level = bytes.fromhex("e17f0110") + b"SQ\0\0" + b"\xff" * 4 + bytes.fromhex("feff00e0") + b"\xff" * 4
        with (tmp_path / "s.dcm").open("ab") as file:
            file.write(level * 5000)
        with pytest.raises(FormatError, match=r"s\.dcm"):
            read_volume(tmp_path / "s.dcm")

    def test_missing_package(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        dicom(tmp_path / "s.dcm")
        original = builtins.__import__

        def without(name: str, *rest: Any, **more: Any) -> Any:
            if name.split(".")[0] == "pydicom":
                raise ImportError(name)
            return original(name, *rest, **more)

        monkeypatch.setattr(builtins, "__import__", without)
        with pytest.raises(MissingExtraError, match=r"reading DICOM needs .*raymend\[io\]") as caught:
            read_volume(tmp_path / "s.dcm")
        assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"max_bytes": 0}, "max_bytes"),
        ({"centre": "guess"}, "centre"),
        ({"pitch": -1.0}, "pitch"),
        ({"centre": 1e9}, "offset"),
    ],
)
def test_settings_that_make_no_sense(tmp_path: Path, given: dict[str, Any], message: str) -> None:
    data_exchange(tmp_path / "e.h5")
    with pytest.raises(CTError, match=message) as caught:
        read_scan(tmp_path / "e.h5", **given)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("name", ["own.h5", "own.npz", "own.zarr", "helsinki.mat"])
@pytest.mark.parametrize(
    ("given", "why"), [({"pitch": 1.0}, "pitch: .*states its detector"), ({"air": 1e4}, "air: .*line integrals")]
)
def test_settings_that_would_do_nothing(tmp_path: Path, name: str, given: dict[str, Any], why: str) -> None:
    WRITERS[name](tmp_path / name)
    with pytest.raises(ConfigError, match=why):
        read_scan(tmp_path / name, **given)


def test_pitch_beside_a_geometry_would_do_nothing(tmp_path: Path) -> None:
    data_exchange(tmp_path / "e.h5")
    geometry = ParallelBeam.circular(8, detector=Detector(shape=(2, 40)))
    with pytest.raises(ConfigError, match="pitch: expected none beside geometry"):
        read_scan(tmp_path / "e.h5", geometry=geometry, pitch=1.0)
    npz(tmp_path / "p.npz", geometry=geometry_to_json(geometry[:6]))
    with pytest.raises(ConfigError, match=r"pitch: expected none for .*p\.npz, whose geometry"):
        read_scan(tmp_path / "p.npz", pitch=1.0)


def test_wrong_kind_says_what_the_file_is(tmp_path: Path) -> None:
    write_volume(tmp_path / "v.nii", volume(), GRID)
    with pytest.raises(FormatError, match="got nifti; use read_volume"):
        read_scan(tmp_path / "v.nii")
    matlab(tmp_path / "m.mat")
    with pytest.raises(FormatError, match="got matlab; use read_scan"):
        read_volume(tmp_path / "m.mat")
    (tmp_path / "g.gz").write_bytes(b"\x1f\x8b" + bytes(50))
    with pytest.raises(FormatError, match="gzip data"):
        read_volume(tmp_path / "g.gz")


def test_geometry_of_another_size(tmp_path: Path) -> None:
    write_scan(tmp_path / "own.h5", scan_of())
    other = ParallelBeam.circular(7, detector=CONE.detector)
    assert read_scan(tmp_path / "own.h5", geometry=other).geometry == other
    with pytest.raises(FormatError, match=r"\[6, 3, 5\] from the geometry"):
        read_scan(tmp_path / "own.h5", geometry=other[:6])


def test_reading_loads_no_heavy_library() -> None:
    program = (
        "import sys, recon.io\n"
        "heavy = {'pydicom', 'nibabel', 'SimpleITK', 'matplotlib', 'skimage', 'pydantic', 'zarr', 'tifffile', 'PIL'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_stream_longer_than_declared_is_no_array(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((2, 3)))
    (tmp_path / "l.npy").write_bytes(buffer.getvalue() + b"more")
    with pytest.raises(FormatError, match="48 bytes"):
        read_volume(tmp_path / "l.npy")
