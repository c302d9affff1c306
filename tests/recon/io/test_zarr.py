"""Zarr stores: what they claim is checked before it is believed, and large scans stay where they are."""

import builtins
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import torch
import zarr
from io_cases import CONE, GRID, content_of, files_of, scan_of, volume

from recon import ConeBeam, Detector, Scan, VolumeGrid, fdk, memory
from recon.errors import ConfigError, CTError, FormatError, MissingExtraError, ResourceError, UnsafeFileError
from recon.io import atomic_folder, check_writable, describe, read_scan, read_volume, write_scan, write_volume
from recon.io.slabs import SlabWriter
from recon.io.zarr_own import SCAN, write_root
from recon.io.zstd_frame import blosc_size, zstd_size
from recon.stored import StoredScan

CHUNK = "values/c/0/0/0"
LARGE = ConeBeam.circular(16, detector=Detector(shape=(9, 30)), source_to_axis=80, source_to_detector=110)


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    write_scan(tmp_path / "s.zarr", scan_of())
    return tmp_path / "s.zarr"


def edit(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change metadata."""
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def forge(scan: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the metadata of the values, and the checksum so that it agrees."""
    edit(scan / "values" / "zarr.json", change)
    said = json.loads((scan / "zarr.json").read_text())["attributes"]["raymend"]
    write_root(scan, SCAN, said["arrays"], raymend={"calibration": said["calibration"]})


def image(path: Path, array: Any = None, **change: Any) -> None:
    """A store of another program: two channels of metadata left out, micrometres, 16-bit numbers."""
    values = np.arange(24, dtype="i2").reshape(2, 3, 4) if array is None else array
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
    steps = [
        {"type": "scale", "scale": [500.0, 250.0, 100.0]},
        {"type": "translation", "translation": [1000.0, 0, -50]},
    ]
    scales = {"axes": axes, "datasets": [{"path": "full", "coordinateTransformations": steps}]}
    ome = {"version": "0.5", "multiscales": [{**scales, **change.pop("scales", {})}], **change.pop("ome", {})}
    group = zarr.create_group(str(path), zarr_format=3, attributes={"ome": ome})
    if isinstance(values, np.ndarray):
        group.create_array("full", data=values, **change)
    else:
        group.create_array("full", shape=values, dtype=change.pop("dtype", "f4"), **change)


class TestStore:
    def test_says_what_it_is_to_other_programs(self, scan: Path) -> None:
        group = zarr.open_group(str(scan), mode="r")
        assert group.attrs["raymend"]["calibration"]["water"] == {"value": 0.02, "unit": "1/mm"}
        values = group["values"]
        assert values.metadata.dimension_names == ("view", "row", "column")
        assert values.compressors[0].checksum
        assert bytes(group["geometry"][:]).startswith(b'{"type": "ConeBeam"')

    def test_a_mebibyte_in_a_chunk(self, tmp_path: Path) -> None:
        geometry = ConeBeam.circular(
            5, detector=Detector(shape=(700, 600)), source_to_axis=900, source_to_detector=1200
        )
        write_scan(tmp_path / "s.zarr", Scan(geometry=geometry, values=torch.zeros(geometry.shape)))
        assert zarr.open_array(str(tmp_path / "s.zarr" / "values"), mode="r").chunks == (1, 350, 600)
        assert len(list((tmp_path / "s.zarr" / "values" / "c").rglob("0"))) >= 10  # zeros are stored, too
        assert torch.equal(read_scan(tmp_path / "s.zarr").values, torch.zeros(geometry.shape))

    def test_a_checksum_over_each_chunk(self, scan: Path) -> None:
        raw = bytearray((scan / CHUNK).read_bytes())
        raw[len(raw) // 2] ^= 1
        (scan / CHUNK).write_bytes(raw)
        with pytest.raises(FormatError, match="checksum does not match"):
            read_scan(scan)

    def test_a_checksum_over_the_metadata(self, scan: Path) -> None:
        def change(content: dict[str, Any]) -> None:
            content["attributes"]["raymend"]["calibration"]["water"]["value"] = 0.03

        edit(scan / "zarr.json", change)
        with pytest.raises(FormatError, match=r"s\.zarr: checksum does not match"):
            read_scan(scan)

    def test_a_missing_package(self, scan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        original = builtins.__import__

        def without(name: str, *rest: Any, **more: Any) -> Any:
            if name.split(".")[0] == "zarr":
                raise ImportError(name)
            return original(name, *rest, **more)

        monkeypatch.setattr(builtins, "__import__", without)
        with pytest.raises(MissingExtraError, match=r"reading Zarr needs .*raymend\[io\]") as caught:
            read_scan(scan)
        assert caught.value.exit_code == 2
        with pytest.raises(MissingExtraError, match="writing Zarr needs"):
            write_scan(scan, scan_of())
        with pytest.raises(MissingExtraError, match="writing Zarr needs"):
            write_volume(scan.with_name("v.zarr"), volume(), GRID)
        assert [item.name for item in scan.parent.iterdir()] == ["s.zarr"]


class TestBadStores:
    def test_no_metadata(self, scan: Path, tmp_path: Path) -> None:
        (tmp_path / "empty.zarr").mkdir()
        (scan / "zarr.json").unlink()
        for path in (scan, tmp_path / "empty.zarr"):
            for reader in (read_scan, read_volume, describe):
                with pytest.raises(FormatError, match=r"expected zarr\.json, got none .*not completely written"):
                    reader(path)

    @pytest.mark.parametrize("content", ["{", "[1]", '{"zarr_format": 3}', '{"zarr_format": 4}', "[" * 100_000, "\xff"])
    @pytest.mark.parametrize("name", ["zarr.json", "values/zarr.json"])
    def test_damaged_metadata(self, scan: Path, name: str, content: str) -> None:
        (scan / name).write_text(content, encoding="latin-1")
        with pytest.raises(FormatError, match=r"s\.zarr") as caught:
            read_scan(scan)
        assert "\n" not in str(caught.value)

    def test_missing_chunks_are_no_zeros(self, scan: Path) -> None:
        for name in ("values", "rays"):
            (scan / name / "c/0/0/0").unlink()
            with pytest.raises(FormatError, match=r"expected 1 chunks, got 0 \(missing: c/0/0/0\); .*not completely"):
                read_scan(scan)
        shutil.rmtree(scan / "values")
        with pytest.raises(FormatError, match=r"values: expected zarr\.json, got none"):
            read_scan(scan)

    @pytest.mark.parametrize(
        "damage", [lambda raw: raw[:-9], lambda raw: b"", lambda raw: raw * 2, lambda raw: raw + b"x"]
    )
    def test_cut_and_doubled_chunks(self, scan: Path, damage: Callable[[bytes], bytes]) -> None:
        (scan / CHUNK).write_bytes(damage((scan / CHUNK).read_bytes()))
        with pytest.raises(FormatError, match=r"c/0/0/0: cannot be read as a chunk of 420 bytes; .*truncated"):
            read_scan(scan)

    def test_bombs_do_not_go_off(self, scan: Path, tmp_path: Path) -> None:
        zeros = np.zeros(1 << 26, np.uint8)
        bomb = bytes(numcodecs.Zstd(checksum=True).encode(zeros))
        lying = bytearray(numcodecs.Zstd().encode(b"x" * 420))
        for raw in (bomb, bytes(lying) + bomb):
            (scan / CHUNK).write_bytes(raw)
            with pytest.raises(FormatError, match="cannot be read as a chunk"):
                read_scan(scan)
        image(tmp_path / "b.zarr", compressors=[zarr.codecs.BloscCodec()])
        (tmp_path / "b.zarr" / "full/c/0/0/0").write_bytes(numcodecs.Blosc().encode(zeros))
        with pytest.raises(FormatError, match="cannot be read as a chunk"):
            read_volume(tmp_path / "b.zarr")

    @pytest.mark.parametrize("chunks", [(1, 64, 64), (2_000_000, 512, 600)])
    def test_declares_terabytes(self, tmp_path: Path, chunks: tuple[int, ...]) -> None:
        image(tmp_path / "v.zarr", (2_000_000, 512, 600), chunks=chunks)
        start = time.monotonic()
        with pytest.raises(ResourceError, match=r"needs 2\.2\d* TiB"):
            read_volume(tmp_path / "v.zarr")
        assert time.monotonic() - start < 1

    def test_declares_more_chunks_than_can_be_counted(self, scan: Path) -> None:
        def change(content: dict[str, Any]) -> None:
            content["shape"] = [10**12, 3, 5]
            content["chunk_grid"]["configuration"]["chunk_shape"] = [1, 1, 1]

        forge(scan, change)
        with memory.limit("64GiB"), pytest.raises((FormatError, ResourceError), match="values"):
            read_scan(scan)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"data_type": "string"}, "expected numbers, got data of type 'string'"),
            ({"data_type": "variable_length_bytes"}, "expected numbers"),
            ({"data_type": {"name": "numpy.datetime64"}}, "expected numbers"),
            ({"data_type": "int16"}, "expected float32 or float64, got int16"),
            ({"codecs": [{"name": "bytes"}, {"name": "gzip"}]}, "packed by zstd or blosc.*got bytes, gzip"),
            ({"codecs": [{"name": "bytes"}, {"name": "numcodecs.pickle"}]}, "got bytes, numcodecs.pickle"),
            ({"codecs": [{"name": "sharding_indexed"}]}, "got sharding_indexed; write it without shards"),
            ({"codecs": "zstd"}, "Zarr array"),
            ({"codecs": []}, "expected chunks packed"),
            ({"shape": [7, 3]}, r"expected chunks for 2 axes, got \[7, 3, 5\]"),
            ({"shape": [7, -3, 5]}, "expected sizes of 1 or more"),
            ({"shape": [7, 0, 5]}, "empty array"),
            ({"shape": [7, 3.5, 5]}, "whole numbers"),
            ({"shape": None}, "whole numbers"),
            ({"shape": [6, 3, 5]}, r"7, 3, 5\] from the geometry, got \[6, 3, 5\]|values: .*7, 3, 5"),
            ({"chunk_grid": {"name": "rectilinear"}}, "got the grid 'rectilinear'"),
            ({"chunk_key_encoding": {"name": "other"}}, "named as Zarr does"),
            ({"chunk_key_encoding": {"name": "default", "configuration": {"separator": "../"}}}, "named as Zarr does"),
            ({"storage_transformers": [{"name": "x"}]}, "Zarr array"),
            ({"node_type": "group"}, "expected an array, got 'group'"),
        ],
    )  # fmt: skip
    def test_arrays_that_are_not_read(self, scan: Path, change: dict[str, Any], message: str) -> None:
        forge(scan, lambda content: content.update(change))
        with pytest.raises(FormatError, match=message):
            read_scan(scan)

    @pytest.mark.parametrize("name", [CHUNK, "values/zarr.json", "zarr.json", "values", "rays/c"])
    def test_links_out_of_the_store(self, scan: Path, tmp_path: Path, name: str) -> None:
        (scan / name).rename(tmp_path / "elsewhere")
        (scan / name).symlink_to(tmp_path / "elsewhere")
        for reader in (read_scan, describe):
            with pytest.raises(
                UnsafeFileError, match=r"a link, which may lead out of the store; copy the data into it"
            ):
                reader(scan)

    def test_links_out_of_a_volume(self, tmp_path: Path) -> None:
        write_volume(tmp_path / "v.zarr", volume(), GRID)
        (tmp_path / "v.zarr" / "0/c/1/0/0").unlink()
        (tmp_path / "v.zarr" / "0/c/1/0/0").symlink_to("/dev/zero")
        with pytest.raises(UnsafeFileError, match="a link"):
            read_volume(tmp_path / "v.zarr")

    def test_pipes_are_no_chunks(self, scan: Path) -> None:
        (scan / CHUNK).unlink()
        os.mkfifo(scan / CHUNK)
        with pytest.raises(FormatError, match="not a regular file"):
            read_scan(scan)

    def test_geometry_that_contradicts_its_rays(self, scan: Path) -> None:
        zarr.open_array(str(scan / "rays"), mode="r+")[0, 0, 0] = 1.0
        with pytest.raises(FormatError, match="contradict"):
            read_scan(scan)

    def test_another_version(self, scan: Path) -> None:
        edit(scan / "zarr.json", lambda content: content["attributes"]["raymend"].update(version=99))
        with pytest.raises(FormatError, match="expected format version 1 to 1, got 99; update raymend"):
            read_scan(scan)

    def test_zarr_version_2(self, tmp_path: Path) -> None:
        group = zarr.create_group(str(tmp_path / "old.zarr"), zarr_format=2)
        group.create_array("values", data=np.zeros(3))
        for reader in (read_scan, read_volume):
            with pytest.raises(FormatError, match="Zarr store of version 2, which is not read; write it again"):
                reader(tmp_path / "old.zarr")

    def test_another_layout_or_kind(self, scan: Path, tmp_path: Path) -> None:
        zarr.create_group(str(tmp_path / "other"), zarr_format=3)
        with pytest.raises(FormatError, match="expected projections, got a Zarr store of an unknown layout"):
            read_scan(tmp_path / "other")
        with pytest.raises(FormatError, match="got zarr scan; use read_scan"):
            read_volume(scan)
        write_volume(tmp_path / "v.zarr", volume(), GRID)
        with pytest.raises(FormatError, match="got zarr volume; use read_volume"):
            read_scan(tmp_path / "v.zarr")


class TestVolume:
    def test_states_ngff(self, tmp_path: Path) -> None:
        write_volume(tmp_path / "v.zarr", volume(), GRID, unit="HU")
        group = zarr.open_group(str(tmp_path / "v.zarr"), mode="r")
        said = group.attrs["ome"]
        assert said["version"] == "0.5"
        assert said["multiscales"][0]["axes"] == [{"name": n, "type": "space", "unit": "millimeter"} for n in "zyx"]
        scale, shift = said["multiscales"][0]["datasets"][0]["coordinateTransformations"]
        assert scale == {"type": "scale", "scale": [3.0, 1.5, 0.75]}
        assert shift["translation"] == [float(axis[0]) for axis in GRID.axes()]
        assert group.attrs["raymend"]["unit"] == "HU"
        assert group["0"].metadata.dimension_names == ("z", "y", "x")
        np.testing.assert_array_equal(group["0"][:], volume().numpy())
        assert read_volume(tmp_path / "v.zarr").grid == GRID

    @pytest.mark.parametrize("packing", [None, "auto", [zarr.codecs.BloscCodec()], [zarr.codecs.Crc32cCodec()]])
    def test_stores_of_others(self, tmp_path: Path, packing: Any) -> None:
        image(tmp_path / "other", compressors=packing, chunks=(1, 2, 3))
        found = read_volume(tmp_path / "other")
        np.testing.assert_array_equal(found.values.numpy(), np.arange(24).reshape(2, 3, 4))
        assert (found.grid.shape, found.grid.spacing) == ((2, 3, 4), (0.5, 0.25, 0.1))
        assert found.grid.centre == pytest.approx((1.25, 0.25, 0.1))
        assert found.unit == "unknown"
        assert describe(tmp_path / "other")["kind"] == "zarr volume"

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"ome": {"version": "0.4"}}, "expected OME-NGFF 0.5, got '0.4'"),
            ({"ome": {"multiscales": []}}, "Zarr"),
            ({"scales": {"axes": [{"name": n} for n in "czyx"]}}, "expected the axes z, y, x, got c, z, y, x"),
            ({"scales": {"axes": [{"name": n} for n in "zyx"]}}, "expected lengths in .* got None, None, None"),
            ({"scales": {"coordinateTransformations": []}}, "positions beside each image"),
            ({"scales": {"datasets": []}}, "Zarr"),
            ({"scales": {"datasets": [{"path": "../x"}]}}, "path of an array inside the store, got '../x'"),
            ({"scales": {"datasets": [{"path": "/etc"}]}}, "inside the store"),
            ({"scales": {"datasets": [{"path": "full", "coordinateTransformations": []}]}}, "expected scale"),
            (
                {"scales": {"datasets": [
                    {"path": "full", "coordinateTransformations": [{"type": "scale", "scale": [1, 1, 0]}]}
                ]}},
                "spacing",
            ),
            ({"array": np.ones((2, 3))}, r"expected \(z, y, x\), got shape \(2, 3\)"),
            ({"array": np.ones((2, 3, 4), "c8")}, "expected numbers"),
            ({"shards": (2, 4, 4), "chunks": (1, 2, 2)}, "write it without shards"),
        ],
    )  # fmt: skip
    def test_images_that_are_no_volumes(self, tmp_path: Path, change: dict[str, Any], message: str) -> None:
        image(tmp_path / "v.zarr", **change)
        with pytest.raises(FormatError, match=message):
            read_volume(tmp_path / "v.zarr")


class TestPlace:
    def test_only_stores_of_ours_are_replaced(self, scan: Path, tmp_path: Path) -> None:
        (tmp_path / "file.zarr").write_text("mine")
        image(tmp_path / "other.zarr")
        (scan / "notes.txt").write_text("mine")
        for name, said in (("file", "got a file"), ("other", "got a folder"), ("s", r"got notes\.txt in it")):
            before = content_of(tmp_path / f"{name}.zarr")
            with pytest.raises(ConfigError, match=said):
                write_scan(tmp_path / f"{name}.zarr", scan_of())
            with pytest.raises(ConfigError, match=said):
                check_writable(tmp_path / f"{name}.zarr")
            assert content_of(tmp_path / f"{name}.zarr") == before

    def test_a_damaged_store_of_ours_is_replaced(self, scan: Path) -> None:
        (scan / CHUNK).unlink()
        write_volume(scan, volume(), GRID)
        assert torch.equal(read_volume(scan).values, volume())

    def test_inputs_are_no_outputs(self, scan: Path) -> None:
        for place in (scan, scan / "image.nii"):
            with pytest.raises(ConfigError, match="apart from the inputs"):
                check_writable(place, inputs=[scan])

    def test_without_an_exchange_of_names(self, scan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(atomic_folder, "_exchange", lambda: None)
        write_volume(scan, volume(), GRID)
        assert torch.equal(read_volume(scan).values, volume())
        assert [item.name for item in scan.parent.iterdir()] == ["s.zarr"]
        original, calls = os.rename, []

        def fails(one: Path, other: Path) -> None:
            calls.append(one)
            if len(calls) == 2:
                raise OSError(5, "Input/output error")
            original(one, other)

        before = content_of(scan)
        monkeypatch.setattr(os, "rename", fails)
        with pytest.raises(ConfigError, match="Input/output error"):
            write_scan(scan, scan_of())
        assert content_of(scan) == before
        assert [item.name for item in scan.parent.iterdir()] == ["s.zarr"]


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Scan], Scan]:
    """Write a scan and read it within a budget of memory whose blocks are small."""
    monkeypatch.setattr(memory.Budget, "work", property(lambda budget: 1))
    monkeypatch.setattr(memory, "even_parts", lambda count, _, **__: [slice(i, i + 1) for i in range(count)])
    monkeypatch.setattr("recon.io.chunks._CHUNK", 700)  # some rows of a view

    def through(scan: Scan) -> Scan:
        write_scan(tmp_path / "s.zarr", scan)
        with memory.limit("64GiB", scratch=tmp_path):
            return read_scan(tmp_path / "s.zarr")

    return through


class TestStored:
    def test_is_the_scan(self, stored: Callable[[Scan], Scan], tmp_path: Path) -> None:
        scan = scan_of(LARGE)
        found = stored(scan)
        assert isinstance(found, StoredScan)
        assert len(files_of(tmp_path / "s.zarr" / "values")) == 33  # two chunks per view, and the metadata
        assert torch.equal(found.block(slice(1, 3), slice(4, 7)), scan.values[1:3, 4:7])
        assert torch.equal(found.values, scan.values)
        assert torch.equal(found.weights, scan.weights)
        assert found.calibration == scan.calibration

    def test_fdk_is_that_in_memory(self, stored: Callable[[Scan], Scan]) -> None:
        draw = torch.Generator().manual_seed(2)
        values = torch.rand(LARGE.shape, generator=draw)
        values[..., :4] = values[..., -4:] = 0  # no warning of a truncated object
        scan = Scan(geometry=LARGE, values=values)
        grid = VolumeGrid(shape=(5, 16, 17))
        expected = fdk(scan, grid)
        torch.testing.assert_close(fdk(stored(scan), grid), expected, rtol=0, atol=1e-5 * float(expected.abs().max()))

    @pytest.mark.parametrize("name", ["zarr.json", "values/zarr.json", "values/c/3/1/0"])
    def test_changes_during_a_run_are_refused(self, stored: Callable[[Scan], Scan], tmp_path: Path, name: str) -> None:
        found = stored(scan_of(LARGE))
        part, rows = slice(3, 4), slice(7, 8)
        found.block(part, rows)
        file = tmp_path / "s.zarr" / name
        file.write_bytes(file.read_bytes())
        os.utime(file, ns=(0, 0))
        with pytest.raises(FormatError, match=r"but it has changed since; put the same (file|store) back"):
            found.block(part, rows)
        file.unlink()
        with pytest.raises(FormatError, match=r"but it is gone; put the same (file|store) back"):
            found.block(part, rows)

    def test_missing_chunks_and_other_shapes(self, stored: Callable[[Scan], Scan], tmp_path: Path) -> None:
        stored(scan_of(LARGE))
        path = tmp_path / "s.zarr"
        forge(path, lambda content: content.update(data_type="int32"))
        with memory.limit("64GiB"), pytest.raises(FormatError, match=r"in float32 or float64, got .* in int32"):
            read_scan(path)
        (path / "values/c/2/1/0").unlink()
        with memory.limit("64GiB"), pytest.raises(FormatError, match=r"32 chunks, got 31 \(missing: c/2/1/0\)"):
            read_scan(path)


class TestSlabs:
    @staticmethod
    def writer(path: Path) -> SlabWriter:
        return SlabWriter(path=path, grid=GRID, unit="HU", job={"scan": "abc"})

    def test_in_any_order_make_the_store_that_one_write_makes(self, tmp_path: Path) -> None:
        write_volume(tmp_path / "whole.zarr", volume(), GRID, unit="HU")
        write_scan(tmp_path / "parts.zarr", scan_of())
        with self.writer(tmp_path / "parts.zarr") as out:
            out.write(3, volume()[3:])
            out.write(0, volume()[:3])
            assert read_scan(tmp_path / "parts.zarr").geometry == CONE
        assert content_of(tmp_path / "parts.zarr") == content_of(tmp_path / "whole.zarr")
        assert sorted(item.name for item in tmp_path.iterdir()) == ["parts.zarr", "whole.zarr"]

    def test_a_run_that_ends_early_is_gone_on_with(self, tmp_path: Path) -> None:
        path = tmp_path / "v.zarr"
        with self.writer(path) as out:
            out.write(0, volume()[:2])
            out.write(2, volume()[2:3])
        assert not path.exists()
        with pytest.raises(CTError):
            read_volume(out.partial)
        chunk = out.partial / "0/c/1/0/0"
        chunk.write_bytes(chunk.read_bytes()[:-1])
        with self.writer(path) as out:
            assert out.finished == [slice(2, 3)]
            out.write(0, volume()[:2])
            out.write(3, volume()[3:])
        assert torch.equal(read_volume(path).values, volume())
        assert [item.name for item in tmp_path.iterdir()] == ["v.zarr"]

    def test_a_lost_store_is_begun_again(self, tmp_path: Path) -> None:
        with self.writer(tmp_path / "v.zarr") as out:
            out.write(0, volume()[:2])
        shutil.rmtree(out.partial)
        with self.writer(tmp_path / "v.zarr") as out:
            assert out.finished == []
            out.write(0, volume())
        assert torch.equal(read_volume(tmp_path / "v.zarr").values, volume())

    def test_other_folders_are_refused_at_once(self, tmp_path: Path) -> None:
        (tmp_path / "v.zarr").mkdir()
        with pytest.raises(ConfigError, match="got a folder"):
            self.writer(tmp_path / "v.zarr")


@pytest.mark.parametrize("size", [0, 1, 200, 300, 70_000, 1 << 18])
@pytest.mark.parametrize("checksum", [True, False])
def test_sizes_that_frames_state(size: int, checksum: bool) -> None:
    draw = np.random.default_rng(size)
    for content in (bytes(size), draw.bytes(size)):
        raw = bytes(numcodecs.Zstd(checksum=checksum).encode(content))
        assert zstd_size(raw) == size
        for wrong in (raw + raw, raw[:-1], raw + b"x", b"", b"no frame at all"):
            assert zstd_size(wrong) == -1
        if size:
            assert blosc_size(bytes(numcodecs.Blosc().encode(content))) == size
