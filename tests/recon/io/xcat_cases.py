"""Small files as XCAT and NCAT write them."""

from pathlib import Path

import numpy as np

from recon.grid import VolumeGrid

XCAT_GRID = VolumeGrid(shape=(4, 6, 6), spacing=(5.0, 2.5, 2.5))
WATER_PER_CM = 0.1928

_LOG = """
 XCAT, a phantom of nobody
 array_size = 6
 starting slice number      = 11
 ending slice number        = 14
 pixel width =   0.2500 (cm/pixel)
 slice width =   0.5000 (cm/pixel)
 energy  = 70.000000 (keV)

 Linear Attenuation Coefficients (1/pixel):
   Body (water)      =   0.0482
   Lung              =   0.0125

 Linear Attenuation Coefficients (1/cm):
   Body (water)      =   0.1928
   Lung              =   0.0499
"""
_INTERFILE = """!INTERFILE  :=
name of data file := {data}
!GENERAL DATA :=
imagedata byte order := LITTLEENDIAN
!number format := float
!number of bytes per pixel := 4
number of dimensions := 3
!matrix size [1] := 6
scaling factor (mm/pixel) [1] := 2.5
!matrix size [2] := 6
scaling factor (mm/pixel) [2] := 2.5
!matrix size [3] := 4
scaling factor (mm/pixel) [3] := 5
{more}!END OF INTERFILE :=
"""


def body_per_cm() -> np.ndarray:
    """Attenuation in 1/cm (z, y, x): water with lungs, and a mark."""
    values = np.full((4, 6, 6), WATER_PER_CM, dtype="<f4")
    values[:, 2:4, 1:3] = 0.0499
    values[:, 0] = 0
    values[3, 5, 0] = 0.35
    return values


def xcat_log(path: Path, *, per: float = 1.0, **change: str) -> None:
    """Write a log, and beside it the raw values times the centimetres that they are per."""
    text = _LOG
    for old, new in change.items():
        text = text.replace(old.replace("_", " "), new)
    path.write_text(text)
    base = path.name.removesuffix("_log")
    (path.parent / f"{base}_atn_1.bin").write_bytes((body_per_cm() * per).astype("<f4").tobytes())


def interfile(path: Path, *, data: str = "body.bin", more: str = "") -> None:
    """Write a header, and beside it the raw values in 1/cm."""
    path.write_text(_INTERFILE.format(data=data, more=more))
    (path.parent / "body.bin").write_bytes(body_per_cm().tobytes())


def avs_field(path: Path) -> None:
    """Write a slice of labels."""
    labels = np.array([[0, 100, 100, 0, 20], [0, 190, 100, 100, 0], [0, 20, 20, 100, 200]], dtype=np.uint8)
    head = "# AVS field file\nndim=2\ndim1=5\ndim2=6\nnspace=2\nveclen=1\ndata=byte\nfield=uniform\n\f\f"
    path.write_bytes(head.encode() + np.tile(labels, (2, 1)).tobytes())
