"""Scans that stay in their file: the same as scans in memory, and nothing but what was there at the beginning."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from recon import ConeBeam, Detector, Scan, VolumeGrid, fdk, find_centre, memory, read_scan, sirt, with_centre
from recon.errors import FormatError, NumericalError
from recon.io import write_scan
from recon.stored import StoredScan
from tests.recon.io.io_cases import GEOMETRIES, data_exchange, scan_of

GEOMETRY = ConeBeam.circular(16, detector=Detector(shape=(9, 30)), source_to_axis=80, source_to_detector=110)


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Scan]:
    """Write a scan and read it within a budget of memory whose blocks are small."""
    monkeypatch.setattr(memory.Budget, "work", property(lambda budget: 1))
    monkeypatch.setattr(memory, "even_parts", lambda count, _, **__: [slice(i, i + 1) for i in range(count)])

    def through(scan: Scan, name: str = "scan.h5") -> Scan:
        write_scan(tmp_path / name, scan)
        with memory.limit("64GiB", scratch=tmp_path):
            return read_scan(tmp_path / name)

    return through


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=lambda g: type(g).__name__)
@pytest.mark.parametrize("name", ["scan.h5", "scan.zarr"])
def test_a_stored_scan_is_the_scan(geometry: ConeBeam, stored: Callable[..., Scan], name: str) -> None:
    scan = scan_of(geometry)
    found = stored(scan, name)
    assert isinstance(found, StoredScan)
    assert found.geometry == scan.geometry
    assert found.calibration == scan.calibration
    assert found.provenance[:-1] == scan.provenance
    assert found.dtype == scan.dtype
    assert found.poses is not None
    assert torch.equal(found.poses, scan.poses)
    assert torch.equal(found.block(slice(1, 3), slice(0, 2)), scan.values[1:3, :2])
    assert torch.equal(found.values, scan.values)
    assert torch.equal(found.weights, scan.weights)
    assert torch.equal(found[::2].values, scan.values[::2])
    assert "provenance" in repr(found)
    assert found.to("cpu") is found


@pytest.mark.parametrize("name", ["scan.h5", "scan.zarr"])
def test_small_scans_are_read_at_once(tmp_path: Path, name: str) -> None:
    write_scan(tmp_path / name, scan_of())
    with memory.limit("64GiB", scratch=tmp_path):
        assert type(read_scan(tmp_path / name)) is Scan


@pytest.mark.parametrize("name", ["scan.h5", "scan.zarr"])
def test_changing_what_is_known_of_a_stored_scan_reads_nothing(stored: Callable[..., Scan], name: str) -> None:
    found = stored(scan_of(GEOMETRY), name)
    moved = with_centre(found, 0.5).noted("seen").moved(torch.zeros(16, 6))
    assert isinstance(moved, StoredScan)
    assert moved.geometry.detector.offset == (0.0, 0.5)
    assert moved.provenance[-1] == "seen"
    assert type(found.with_values(found.values * 2, "doubled")) is Scan


@pytest.mark.parametrize("name", ["scan.h5", "scan.zarr"])
def test_methods_take_stored_scans(stored: Callable[..., Scan], name: str) -> None:
    grid = VolumeGrid(shape=(5, 16, 17))
    values = torch.rand(GEOMETRY.shape, generator=torch.Generator().manual_seed(2))
    values[..., :4] = values[..., -4:] = 0
    scan = Scan(geometry=GEOMETRY, values=values)
    found = stored(scan, name)
    image = fdk(scan, grid)
    torch.testing.assert_close(fdk(found, grid), image, rtol=0, atol=1e-5 * float(image.abs().max()))
    torch.testing.assert_close(sirt(found, grid, iterations=2).image, sirt(scan, grid, iterations=2).image)
    assert find_centre(found) == find_centre(scan)


@pytest.mark.parametrize("touch", [True, False])
def test_a_file_that_changes_during_a_run_is_refused(touch: bool, stored: Callable[..., Scan], tmp_path: Path) -> None:
    found = stored(scan_of(GEOMETRY))
    found.block(slice(0, 1), slice(None))
    if touch:
        os.utime(tmp_path / "scan.h5", ns=(1, 1))
    else:
        write_scan(tmp_path / "scan.h5", scan_of(GEOMETRY))
    with pytest.raises(FormatError, match=r"scan\.h5: expected the file the run began with, but it has changed"):
        found.block(slice(1, 2), slice(None))


def test_a_file_that_vanishes_during_a_run_is_refused(stored: Callable[..., Scan], tmp_path: Path) -> None:
    found = stored(scan_of(GEOMETRY))
    (tmp_path / "scan.h5").unlink()
    with pytest.raises(FormatError, match=r"scan\.h5: .* it is gone; put the same file back"):
        found.block(slice(1, 2), slice(None))


def test_parts_are_checked_as_they_are_read(stored: Callable[..., Scan], tmp_path: Path) -> None:
    import h5py

    found = stored(scan_of(GEOMETRY))
    with h5py.File(tmp_path / "scan.h5", "r+") as file:
        file["values"][3, 2, 1] = float("nan")
    with memory.limit("64GiB", scratch=tmp_path):
        found = read_scan(tmp_path / "scan.h5")
    found.block(slice(0, 3), slice(None))
    with pytest.raises(NumericalError, match="values: expected finite values"):
        found.block(slice(3, 4), slice(None))


def test_arrays_that_do_not_fit_the_geometry_are_refused(stored: Callable[..., Scan], tmp_path: Path) -> None:
    import h5py

    stored(scan_of(GEOMETRY))
    with h5py.File(tmp_path / "scan.h5", "r+") as file:
        values = file["values"][:, :4]
        del file["values"]
        file["values"] = values
    with memory.limit("64GiB", scratch=tmp_path), pytest.raises(FormatError, match=r"scan.h5:values: expected \(view"):
        read_scan(tmp_path / "scan.h5")


def test_counts_become_line_integrals_block_by_block(stored: Callable[..., Scan], tmp_path: Path) -> None:
    data_exchange(tmp_path / "counts.h5")
    whole = read_scan(tmp_path / "counts.h5", pitch=1.0)
    with memory.limit("64GiB", scratch=tmp_path):
        found = read_scan(tmp_path / "counts.h5", pitch=1.0)
    assert torch.equal(found.values, whole.values)
