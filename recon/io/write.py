"""`write_scan` and `write_volume`: the format follows the suffix, every write is atomic."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from torch import Tensor

from recon import checks
from recon.errors import ConfigError
from recon.grid import VolumeGrid
from recon.io.atomic import check_writable
from recon.io.hdf5_scan import write_hdf5_scan
from recon.io.nifti import write_nifti
from recon.io.npy import write_npy
from recon.io.npz_scan import write_npz_scan
from recon.io.png import write_png
from recon.io.tiff import write_tiff
from recon.io.volume import Volume
from recon.io.zarr_scan import write_zarr_scan
from recon.io.zarr_volume import write_zarr_volume
from recon.scan import Scan

_SCANS: Final[dict[str, Callable[[Path, Scan], None]]] = {
    ".h5": write_hdf5_scan,
    ".hdf5": write_hdf5_scan,
    ".npz": write_npz_scan,
    ".zarr": write_zarr_scan,
}
_VOLUMES: Final = (".nii", ".nii.gz", ".tif", ".tiff", ".npy", ".png", ".zarr")


def write_scan(path: str | os.PathLike[str], scan: Scan) -> None:
    """Write a scan: .h5, .npz and .zarr keep everything; .h5 and .zarr (a folder) with checksums.

    Raises:
        ConfigError: another suffix, a place that cannot be written, a .zarr that raymend did not write.
        MissingExtraError: zarr is not installed.
        ResourceError: the disk is full; nothing is left behind.
    """
    target = Path(os.fspath(path))
    suffix = target.suffix.lower()
    if suffix not in _SCANS:
        raise ConfigError(f"{target}: expected a name ending in {', '.join(_SCANS)}, got {suffix or 'no suffix'!r}")
    _SCANS[suffix](check_writable(target), scan)


def write_volume(
    path: str | os.PathLike[str],
    values: Tensor,
    grid: VolumeGrid,
    *,
    window: tuple[float, float] | None = None,
    unit: str = "unknown",
) -> None:
    """Write a volume as NIfTI, TIFF stack, .npy, Zarr with OME-NGFF metadata, or one slice as PNG.

    Args:
        path: the suffix chooses the format: .nii, .nii.gz, .tif, .npy (values only), .zarr, .png.
        values: (z, y, x).
        grid: where the voxels are.
        window: (low, high) in the unit of the values, for PNG, where it is needed.
        unit: "HU", "1/mm" or "unknown"; kept in the file where the format can.

    Raises:
        ConfigError: another suffix, a window where none belongs or none where one does, an unwritable place,
            a .zarr that raymend did not write.
        MissingExtraError: zarr is not installed.
        NumericalError: NaN or Inf.
        ResourceError: the disk is full; nothing is left behind.
    """
    target = Path(os.fspath(path))
    suffix = volume_suffix(target)
    volume = Volume(values=values, grid=grid, unit=unit)
    checks.all_finite("values", values)
    if window is not None and suffix != ".png":
        raise ConfigError(f"window: expected none for {suffix}, which keeps the values, got {window!r}; leave it out")
    target = check_writable(target)
    if suffix == ".png":
        write_png(target, volume, window)
    elif suffix == ".zarr":
        write_zarr_volume(target, volume)
    elif suffix == ".npy":
        write_npy(target, values.detach().cpu().numpy())
    else:
        (write_tiff if suffix in (".tif", ".tiff") else write_nifti)(target, volume)


def volume_suffix(path: Path) -> str:
    """Return the suffix that chooses a volume's format, or refuse it."""
    name = path.name.lower()
    for suffix in _VOLUMES:
        if name.endswith(suffix):
            return suffix
    raise ConfigError(f"{path}: expected a name ending in {', '.join(_VOLUMES)}, got {path.suffix or 'no suffix'!r}")
