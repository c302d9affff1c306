"""Volumes that are written slab by slab: the same files, and nothing finished is ever lost."""

import json
import os
from pathlib import Path

import pytest
import torch

from recon.errors import ConfigError, FormatError, NumericalError, ResourceError, ShapeError
from recon.io import read_volume, slabs, write_scan, write_volume
from recon.io.slabs import SUFFIXES, SlabWriter
from tests.recon.io.io_cases import GRID, content_of, scan_of, volume

JOB = {"scan": "abc", "method": "fdk", "window": "hann"}
VALUES = volume()


def writer(path: Path, **job: str) -> SlabWriter:
    return SlabWriter(path=path, grid=GRID, unit="HU", job={**JOB, **job})


def write_half(path: Path) -> None:
    with writer(path) as out:
        out.write(2, VALUES[2:4])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_slabs_in_any_order_make_the_file_that_one_write_makes(tmp_path: Path, suffix: str) -> None:
    whole, parts = tmp_path / f"whole{suffix}", tmp_path / f"parts{suffix}"
    write_volume(whole, VALUES, GRID, unit="HU")
    with writer(parts) as out:
        out.write(3, VALUES[3:])
        out.write(0, VALUES[:2])
        assert out.finished == [slice(0, 2), slice(3, 4)]
        assert out.missing() == 1
        out.write(2, VALUES[2:3].double())
        assert out.range == (float(VALUES.min()), float(VALUES.max()))
    assert content_of(parts) == content_of(whole)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([whole.name, parts.name])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_run_that_ends_early_is_gone_on_with(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"v{suffix}"
    if suffix == ".zarr":
        write_scan(path, scan_of())
    else:
        path.write_text("old")
    old = content_of(path)
    write_half(path)
    assert content_of(path) == old
    with writer(path) as out:
        assert out.finished == [slice(2, 4)]
        out.write(0, VALUES[:2])
        assert out.range == (float(VALUES.min()), float(VALUES.max()))
    found = read_volume(path, grid=GRID if suffix == ".npy" else None)
    assert torch.equal(found.values, VALUES)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_leaving_without_all_slices_puts_nothing_in_place(tmp_path: Path) -> None:
    with writer(tmp_path / "v.nii") as out:
        out.write(0, VALUES[:1])
    assert not (tmp_path / "v.nii").exists()
    assert (tmp_path / "v.nii.partial").exists()


@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_a_damaged_slab_is_made_again(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "v.nii"
    write_half(path)
    partial = tmp_path / "v.nii.partial"
    content = bytearray(partial.read_bytes())
    content[-5] ^= 1
    if damage == "gone":
        partial.unlink()
    else:
        partial.write_bytes(content if damage == "flip" else content[:-100])
    with writer(path) as out:
        assert out.finished == []
        out.write(0, VALUES)
    assert torch.equal(read_volume(path).values, VALUES)


def test_slabs_of_another_job_are_never_mixed_in(tmp_path: Path) -> None:
    write_half(tmp_path / "v.nii")
    with (
        pytest.raises(
            ConfigError, match=r"got those of another \(window differ; window: hann there, cosine here\).*remove"
        ),
        writer(tmp_path / "v.nii", window="cosine"),
    ):
        pass
    with writer(tmp_path / "v.nii") as out:
        assert out.finished == [slice(2, 4)]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": "other", "job": {}, "slabs": [], "start": 0}'])
def test_a_journal_that_cannot_be_read_says_what_to_remove(tmp_path: Path, content: str) -> None:
    write_half(tmp_path / "v.nii")
    (tmp_path / "v.nii.partial.json").write_text(content)
    with (
        pytest.raises(FormatError, match=r"remove v\.nii\.partial and v\.nii\.partial\.json"),
        writer(tmp_path / "v.nii"),
    ):
        pass


def test_a_disk_that_fills_keeps_what_is_finished_and_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "v.nii"

    def fill(_: Path) -> None:
        raise OSError(28, "No space left on device")

    with writer(path) as out:
        out.write(0, VALUES[:2])
        monkeypatch.setattr(slabs, "sync", fill)
        with pytest.raises(ResourceError, match=r"disk is full; 2 of 4 slices are finished.*same command again"):
            out.write(2, VALUES[2:])
        monkeypatch.undo()
    with writer(path) as out:
        assert out.finished == [slice(0, 2)]
        out.write(2, VALUES[2:])
    assert torch.equal(read_volume(path).values, VALUES)


def test_a_volume_beyond_the_disk_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        free = 100

    monkeypatch.setattr(slabs.shutil, "disk_usage", lambda _: Usage)
    with pytest.raises(ResourceError, match=r"free, and the volume needs"), writer(tmp_path / "v.nii"):
        pass
    assert not list(tmp_path.iterdir())


def test_slabs_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with writer(tmp_path / "v.nii") as out:
        with pytest.raises(ShapeError, match="slab: expected"):
            out.write(0, VALUES[:, :3])
        with pytest.raises(ShapeError, match="slab: expected"):
            out.write(0, VALUES[:0])
        with pytest.raises(ShapeError, match="slab: expected slices within the grid's 4, got 3 to 5"):
            out.write(3, VALUES[:3])
        with pytest.raises(NumericalError, match="slab"):
            out.write(0, VALUES / 0)
        assert out.finished == []


def test_other_formats_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"expected a name ending in .nii"):
        writer(tmp_path / "v.png")


def test_the_journal_is_plain(tmp_path: Path) -> None:
    write_half(tmp_path / "v.nii")
    found = json.loads((tmp_path / "v.nii.partial.json").read_text())
    assert found["job"]["method"] == "fdk"
    assert found["slabs"][0][:2] == [2, 2]


def test_slabs_are_written_once(tmp_path: Path) -> None:
    with writer(tmp_path / "v.nii") as out:
        out.write(1, VALUES[1:3])
        with pytest.raises(ShapeError, match="expected slices that are not finished, got 2 to 3"):
            out.write(2, VALUES[2:])
        assert out.missing() == 2


def test_a_volume_has_one_writer(tmp_path: Path) -> None:
    with writer(tmp_path / "v.nii") as out:
        out.write(0, VALUES[:2])
        with pytest.raises(ConfigError, match=rf"v\.nii: in use by process {os.getpid()}; wait for it"):
            writer(tmp_path / "v.nii").__enter__()
        out.write(2, VALUES[2:])
    assert [p.name for p in tmp_path.iterdir()] == ["v.nii"]


@pytest.mark.parametrize(
    "change",
    [{"job": []}, {"job": None}, {"slabs": 5}, {"slabs": [[0, 1]]}, {"slabs": [["a", 1, "", 0, 0]]}, {"start": []}],
)
def test_a_damaged_journal_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    write_half(tmp_path / "v.nii")
    journal = tmp_path / "v.nii.partial.json"
    journal.write_text(json.dumps({**json.loads(journal.read_text()), **change}))
    with pytest.raises((FormatError, ConfigError), match=r"remove v\.nii\.partial"):
        writer(tmp_path / "v.nii").__enter__()


def test_a_disk_that_fills_while_a_volume_is_compressed_keeps_the_slabs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from recon.io import slab_places

    def fill(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(slab_places.shutil, "copyfileobj", fill)
    out = writer(tmp_path / "v.nii.gz").__enter__()
    out.write(0, VALUES)
    with pytest.raises(ResourceError, match=r"4 of 4 slices are finished and kept in v\.nii\.gz\.partial: free space"):
        out.__exit__(None)
    monkeypatch.undo()
    with writer(tmp_path / "v.nii.gz") as again:
        assert again.missing() == 0
    assert torch.equal(read_volume(tmp_path / "v.nii.gz").values, VALUES)
