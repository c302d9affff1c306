"""Cases by the words of the command line: phantoms, patients, volumes, scans and pairs of images."""

import hashlib
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from phantoms import ANATOMIES, VolumeObject
from phantoms.voxels import Scannable
from raymend.comparison.cases import Case, Measured, Pair, Simulated
from raymend.comparison.named import check_each_once
from raymend.nearest import nearest
from raymend.scanned import NAMES, by_name
from recon import read_scan, read_volume
from recon.errors import ConfigError, CTWarning
from recon.io import Volume
from recon.io.detect import SCANS, VOLUMES, detect
from recon.io.zarr_look import is_store

_NUMBERED: Final = re.compile(r"([a-z-]+):(\d+)(?:\.\.(\d+))?")
_SLICE: Final = re.compile(r"(.+)@(\d+)")
_CHUNK: Final = 1 << 20
_NOBODY: Final = ("", "anonymous", "anonymized", "anonymised", "anon", "unknown", "none", "0")  # names of no patient
_MOST: Final = 1000  # patients of one range

#: Cases that settings are chosen on unless others are named; patients of these numbers are refused in a test.
TUNING: Final = ("anatomy-thorax:901", "anatomy-abdomen:902", "anatomy-head:903")


def cases_of(things: Iterable[Any] | Mapping[str, Any]) -> tuple[Case, ...]:
    """Return cases: each is a case already, an object to scan, or words as `raymend compare --cases` takes them.

    Words are "shepp-logan" or another phantom, "anatomy-thorax:7" or "anatomy-thorax:0..4" for patients, a file or
    folder: a scan, a volume to scan ("volume.nii.gz@12" for one slice), or "low.dcm=full.dcm" for a pair of images.
    A mapping gives them names; files of one name are told apart by their folders.

    Raises:
        ConfigError: no case, an unknown one, or one named twice.
        FormatError: a file that holds neither a scan nor a volume.
    """
    if isinstance(things, Mapping):
        found = tuple(replace(_one(thing), name=name) for name, thing in things.items())
    else:
        found = _told_apart(
            [case for thing in ([things] if isinstance(things, str) else things) for case in _cases(thing)]
        )
    check_each_once("cases", [case.name for case in found])
    return found


def _one(thing: Any) -> Any:
    found = list(_cases(thing))
    if len(found) != 1:
        raise ConfigError(f"cases: expected one case for each name, got {len(found)} of {thing!r}")
    return found[0]


def _told_apart(cases: list[Case]) -> tuple[Case, ...]:
    """Name files of one name after their folders, too."""
    names = [case.name for case in cases]
    found: list[Any] = [
        replace(case, name=_longer(case)) if names.count(case.name) > 1 and case.word else case  # type: ignore[type-var]
        for case in cases
    ]
    return tuple(found)


def _longer(case: Case) -> str:
    """Return the name of a case with the folder that its file is in."""
    folder = Path(case.word.partition("=")[0]).parent.name
    return f"{folder}/{case.name}" if folder else case.name


def _cases(thing: Any) -> Iterator[Case]:
    if isinstance(thing, Case):
        yield thing
    elif isinstance(thing, str | Path):
        yield from _spoken(str(thing))
    elif hasattr(thing, "line_integrals") and hasattr(thing, "rasterised"):
        yield Simulated(name=thing.name, make=lambda: thing, content=_content(thing), patient=_patient(thing))
    else:
        raise ConfigError(f"cases: expected words, files, objects to scan or cases, got {type(thing).__name__}")


def _spoken(text: str) -> Iterator[Case]:
    numbered = _NUMBERED.fullmatch(text)
    if numbered and numbered[1] in NAMES:
        yield from _patients(numbered[1], int(numbered[2]), int(numbered[3] or numbered[2]))
    elif text in NAMES:
        first = 0 if text.startswith("anatomy-") else None
        make = partial(by_name, text, patient=first)
        yield Simulated(name=text, make=make, content=text, patient=_named(text, first), word=text)
    elif "=" in text and not Path(text).exists():
        yield _pair(text)
    else:
        yield _file(text)


def _patients(name: str, first: int, last: int) -> Iterator[Case]:
    if not first <= last < first + _MOST:
        raise ConfigError(f"cases: expected a range of up to {_MOST} patients that grows, got {name}:{first}..{last}")
    for number in range(first, last + 1):
        word = f"{name}:{number}"
        make = partial(by_name, name, patient=number)
        yield Simulated(name=word, make=make, content=word, patient=_named(name, number), word=word)


def _named(name: str, number: int | None) -> str:
    """Name whom a phantom shows; thorax and abdomen of a number are the same patient, and so are head and jaw."""
    kind = name.removeprefix("anatomy-")
    if name == kind:
        return "" if number is None else f"{name} {number}"
    return f"anatomy of a {'trunk' if kind in ('thorax', 'abdomen') else 'head'} {number}"


def _file(text: str) -> Case:
    path, slice_number = _path(text)
    kind = _format(path)
    if kind in SCANS and (kind not in VOLUMES or (kind == "npz" and slice_number is None)):
        return Measured(name=path.name, read=partial(read_scan, path), content=_digest(path), word=text)
    content = {"file": _digest(path), "slice": slice_number}
    return Simulated(
        name=path.name if slice_number is None else f"{path.name}@{slice_number}",
        make=partial(_object, path, slice_number), content=content,
        patient=_patient_of(path) or f"file {content['file']}", word=text,
    )  # fmt: skip


def _pair(text: str) -> Case:
    low, _, full = text.partition("=")
    (low_path, low_slice), (full_path, full_slice) = _path(low), _path(full)
    return Pair(
        name=f"{low_path.name}{'' if low_slice is None else f'@{low_slice}'}",
        read=partial(_both, low_path, low_slice, full_path, full_slice),
        content={"low": _digest(low_path), "full": _digest(full_path), "slices": [low_slice, full_slice]},
        patient=_patient_of(low_path),
        word=text,
    )


def _path(text: str) -> tuple[Path, int | None]:
    """Return a file or folder and the number of a slice, or offer the nearest name."""
    path, sliced = Path(text), _SLICE.fullmatch(text)
    if not path.exists() and sliced:
        path = Path(sliced[1])
    if not path.exists():
        near = nearest(text.partition(":")[0], NAMES)
        raise ConfigError(
            f"cases: expected a phantom, a patient such as anatomy-thorax:7, or a file, got {text!r}, which is none"
            + (f"; did you mean {near}?" if near else f"; phantoms are {', '.join(NAMES)}")
        )
    return path, int(sliced[2]) if sliced and not Path(text).exists() else None


def _object(path: Path, slice_number: int | None) -> Scannable:
    volume = _in_hu(read_volume(path), path)
    if volume.values.shape[0] > 1 or slice_number is not None:
        volume = one_slice(volume, volume.values.shape[0] // 2 if slice_number is None else slice_number, path)
    return VolumeObject.of(Volume(values=volume.values.clamp_min(-1000), grid=volume.grid, unit="HU"), name=path.name)


def _both(low: Path, low_slice: int | None, full: Path, full_slice: int | None) -> tuple[Volume, Volume]:
    found = []
    for path, number in ((low, low_slice), (full, full_slice)):
        volume = _in_hu(read_volume(path), path)
        found.append(volume if number is None else one_slice(volume, number, path))
    return found[0], found[1]


def one_slice(volume: Volume, number: int, path: Path) -> Volume:
    """Return one slice of a volume.

    Raises:
        ConfigError: there is no such slice.
    """
    count = volume.values.shape[0]
    if not 0 <= number < count:
        raise ConfigError(f"{path}@{number}: expected a slice from 0 to {count - 1}, got {number}")
    z = float(volume.grid.axes()[0][number])
    grid = volume.grid.region((1, *volume.grid.shape[1:]), (z, *volume.grid.centre[1:]))
    return Volume(values=volume.values[number : number + 1], grid=grid, unit=volume.unit)


def _in_hu(volume: Volume, path: Path) -> Volume:
    """Return a volume in HU; one without a unit is taken for HU if it looks like it, and that is said."""
    if volume.unit == "HU":
        return volume
    looks = volume.unit == "unknown" and float(volume.values.min()) < -500 and float(volume.values.max()) > 0
    if not looks:
        raise ConfigError(f"{path}: expected a volume in HU, got one in {volume.unit}; convert it")
    warnings.warn(f"{path}: states no unit; its values were taken for HU", CTWarning, stacklevel=2)
    return Volume(values=volume.values, grid=volume.grid, unit="HU")


def _digest(path: Path) -> str:
    """Return the sha256 of a file, or of all files of a folder."""
    digest = hashlib.sha256()
    for file in [path] if path.is_file() else sorted(item for item in path.rglob("*") if item.is_file()):
        with file.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()[:32]


def _format(path: Path) -> str:
    """Return what a file or store is; other folders are taken for those of DICOM slices."""
    return "dicom" if path.is_dir() and not is_store(path) else detect(path)


def _patient_of(path: Path) -> str:
    """Return whom a DICOM file or folder is of; other files do not say it."""
    if _format(path) != "dicom":
        return ""
    import pydicom

    first = path if path.is_file() else next(item for item in sorted(path.rglob("*")) if item.is_file())
    told = pydicom.dcmread(first, stop_before_pixels=True, specific_tags=["PatientID", "StudyInstanceUID"])
    name = str(told.get("PatientID", "")).strip()
    if name.lower() in _NOBODY:
        return f"study {told.get('StudyInstanceUID', '')}" if told.get("StudyInstanceUID") else ""
    return f"patient {name}"


def _patient(thing: Any) -> str:
    kind, seed = getattr(thing, "kind", None), getattr(thing, "seed", None)
    return _named(f"anatomy-{kind}", seed) if kind in ANATOMIES else ""


def _content(thing: Any) -> str:
    """Describe an object by all its numbers; voxels by their digest."""
    if isinstance(thing, VolumeObject):
        digest = hashlib.sha256(thing.values.contiguous().numpy().tobytes()).hexdigest()[:32]
        return f"{thing!r} {thing.water} {digest}"
    shapes = getattr(thing, "shapes", "")
    return f"{thing!r} {shapes} {thing.water}"
