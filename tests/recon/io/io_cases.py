"""Small scans and volumes, and one writer per format, for the tests of reading and writing."""

import math
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pydicom
import torch
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from scipy.io import savemat
from xcat_cases import avs_field, interfile, xcat_log

from recon.geometry import ConeBeam, Detector, FreeBeam, ParallelBeam, ScanGeometry
from recon.grid import VolumeGrid
from recon.io import write_scan, write_volume
from recon.scan import Calibration, Scan

DETECTOR = Detector(shape=(3, 5), pitch=(1.5, 0.7), offset=(0.25, -0.4))
CONE = ConeBeam.circular(7, detector=DETECTOR, source_to_axis=300, source_to_detector=500, pitch=3.25, start=0.1)
FAN = ConeBeam.circular(
    7, detector=Detector(shape=(1, 5), pitch=(1.0, 2.0), curve="arc"), source_to_axis=541, source_to_detector=949
)
PARALLEL = ParallelBeam(angles=(0.0, 0.5, 1 / 3, math.pi - 1e-9), detector=DETECTOR)
GEOMETRIES: list[ScanGeometry] = [CONE, FAN, PARALLEL, FreeBeam.of(CONE), FreeBeam.of(PARALLEL)]

GRID = VolumeGrid(shape=(4, 6, 5), spacing=(3.0, 1.5, 0.75), centre=(100.0, -20.0, 7.5))


def scan_of(geometry: ScanGeometry = CONE) -> Scan:
    """A scan with every part filled in."""
    draw = torch.Generator().manual_seed(1)
    return Scan(
        geometry=geometry,
        values=torch.rand(geometry.shape, generator=draw),
        weights=torch.rand(geometry.shape, generator=draw),
        poses=torch.rand((len(geometry), 6), generator=draw, dtype=torch.float64),
        calibration=Calibration(photons=2e4, electronic=8.5, water=0.02, energy=61.5),
        provenance=("simulated", "corrected for µ & ‘quotes’"),
    )


def volume() -> torch.Tensor:
    """An image without any symmetry, marked in one voxel."""
    image = torch.arange(math.prod(GRID.shape), dtype=torch.float32).reshape(GRID.shape) * 3.25 - 100
    image[3, 1, 4] = 3000.0
    return image


def data_exchange(path: Path, **change: object) -> None:
    """Counts with flats and darks; a value of None leaves a dataset out."""
    rng = np.random.default_rng(0)
    content = {
        "data": (100 + 900 * np.exp(-rng.random((8, 2, 40)))).astype("f4"),
        "data_white": np.full((3, 2, 40), 1000, "f4"),
        "data_dark": np.full((3, 2, 40), 100, "f4"),
        "theta": np.arange(8) * 22.5,
        **change,
    }
    with h5py.File(path, "w") as file:
        for name, value in content.items():
            if value is not None:
                file[f"exchange/{name}"] = value


def matlab(path: Path) -> None:
    settings = {
        "distanceSourceOrigin": 410.66, "distanceSourceDetector": 553.74, "distanceUnit": "mm", "voltage": "45",
        "angles": np.arange(6) * 60.0, "pixelSizePost": 0.2,
    }  # fmt: skip
    sinogram = np.random.default_rng(0).random((6, 20))
    savemat(path, {"CtDataFull": {"sinogram": sinogram, "parameters": settings}}, do_compression=True)


def npz(path: Path, **change: object) -> None:
    content = {
        "sinogram": np.random.default_rng(0).random((6, 20)), "angles": np.arange(6.0), "DSO": 410.0, "DSD": 553.0,
        "pitch": np.array([1.0, 0.2]), **change,
    }  # fmt: skip
    with path.open("wb") as file:
        np.savez_compressed(file, **{name: value for name, value in content.items() if value is not None})


def dicom(path: Path, *, height: float = 0.0, series: str = "1.2.3", seed: int = 0, **change: object) -> None:
    """One CT slice; a value of None leaves an element out."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[str(height), str(seed)])
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    stored = np.random.default_rng(seed).integers(0, 3000, (6, 5), dtype=np.uint16)
    content: dict[str, object] = {
        "SOPClassUID": CTImageStorage, "SOPInstanceUID": meta.MediaStorageSOPInstanceUID, "Modality": "CT",
        "SeriesInstanceUID": series, "Rows": 6, "Columns": 5, "PixelSpacing": [1.5, 0.75], "SliceThickness": 3,
        "ImagePositionPatient": [-10.0, -20.0, height], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "RescaleSlope": 1, "RescaleIntercept": -1024, "BitsAllocated": 16, "BitsStored": 16, "HighBit": 15,
        "PixelRepresentation": 0, "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2",
        "PixelData": stored.tobytes(), **change,
    }  # fmt: skip
    for name, value in content.items():
        if value is not None:
            setattr(dataset, name, value)
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)


def files_of(path: Path) -> list[Path]:
    """A file, or the files of a folder."""
    return sorted(item for item in path.rglob("*") if item.is_file()) if path.is_dir() else [path]


def content_of(path: Path) -> dict[str, bytes]:
    """The bytes of a file, or of all files in a folder, by name."""
    return {item.relative_to(path).as_posix(): item.read_bytes() for item in files_of(path)}


def _volume(path: Path) -> None:
    write_volume(path, volume()[:1] if path.suffix == ".png" else volume(), GRID, unit="HU")


SCAN_WRITERS: dict[str, Callable[[Path], None]] = {
    "own.h5": lambda path: write_scan(path, scan_of()),
    "own.npz": lambda path: write_scan(path, scan_of()),
    "own.zarr": lambda path: write_scan(path, scan_of()),
    "exchange.h5": data_exchange,
    "helsinki.mat": matlab,
    "plain.npz": npz,
}
VOLUME_WRITERS: dict[str, Callable[[Path], None]] = {
    "volume.nii": _volume,
    "volume.nii.gz": _volume,
    "volume.tif": _volume,
    "volume.npy": _volume,
    "volume.zarr": _volume,
    "slice.dcm": dicom,
    "xcat_log": xcat_log,
    "xcat.hv": interfile,
    "labels.fld": avs_field,
}
