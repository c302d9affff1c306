"""Reading and writing scans and volumes, chosen by content and safe with files of unknown origin."""

from recon.io.atomic import atomic_write, check_writable, locked_folder
from recon.io.describe import describe
from recon.io.geometry_json import geometry_from_json, geometry_to_json
from recon.io.read import read_scan, read_volume
from recon.io.volume import Volume
from recon.io.write import write_scan, write_volume

__all__ = [
    "Volume",
    "atomic_write",
    "check_writable",
    "describe",
    "geometry_from_json",
    "geometry_to_json",
    "locked_folder",
    "read_scan",
    "read_volume",
    "write_scan",
    "write_volume",
]
