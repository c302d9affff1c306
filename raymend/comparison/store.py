"""Cells on the disk: each is written once when it is done, under a name made from all that it depends on."""

import hashlib
import json
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from raymend.comparison.outcome import Cell, Shown
from recon.errors import ConfigError, CTWarning, FormatError
from recon.grid import VolumeGrid
from recon.io.atomic import atomic_write, check_writable

_MANIFEST: Final = "comparison.json"
_FORMAT: Final = 1
_KEPT: Final = 2  # images of a cell


def key_of(identity: Mapping[str, Any]) -> str:
    """Return a name for what a result depends on."""
    text = json.dumps(identity, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


class Store:
    """A folder of finished cells and of what pictures need of the cases.

    Args:
        folder: which must exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._cells = folder / "cells"

    def finished(self, key: str) -> Cell | None:
        """Return a cell, or None where it is not finished; one that is damaged is made again, which is said."""
        if not self._at(key, ".json").is_file():
            return None
        try:
            return self.cell(key)
        except FormatError as error:
            warnings.warn(f"{error}", CTWarning, stacklevel=2)
            return None

    def cell(self, key: str) -> Cell:
        """Return a finished cell.

        Raises:
            FormatError: a damaged file.
        """
        path = self._at(key, ".json")
        try:
            told = json.loads(path.read_text())
            values = {name: tuple(float(n) for n in numbers) for name, numbers in told["values"].items()}
            images = tuple(torch.from_numpy(_array(self._at(key, ".npy")))) if told["images"] else ()
            return Cell(values=values, images=images, seconds=float(told["seconds"]), message=told["message"])
        except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
            raise FormatError(
                f"{path}: expected a finished cell with its images, got {error}; it is made again"
            ) from None

    def keep(self, key: str, cell: Cell) -> None:
        """Write a cell; its numbers come last and say that it is finished."""
        self._cells.mkdir(exist_ok=True)
        images = cell.images[:_KEPT]
        if images:
            _write_array(self._at(key, ".npy"), torch.stack(list(images)))
        told = {
            "values": {name: list(values) for name, values in cell.values.items()},
            "images": len(images),
            "seconds": cell.seconds,
            "message": cell.message,
        }
        with atomic_write(self._at(key, ".json")) as temporary:
            temporary.write_text(json.dumps(told))

    def shown(self, key: str, name: str) -> Shown | None:
        """Return what pictures need of a case, if it was kept."""
        path = self._at(key, ".case.json")
        if not path.is_file():
            return None
        try:
            told = json.loads(path.read_text())
            reference, mask = (torch.from_numpy(_array(self._at(key, f".{n}.npy"))) for n in ("reference", "mask"))
            grid = VolumeGrid(**told.pop("grid"))
            return Shown(name=name, reference=reference, mask=mask, grid=grid, **told)
        except (OSError, ValueError, KeyError, TypeError, EOFError):
            return None  # damaged: it is made again

    def keep_shown(self, key: str, shown: Shown) -> None:
        """Write what pictures need of a case."""
        self._cells.mkdir(exist_ok=True)
        _write_array(self._at(key, ".reference.npy"), shown.reference.float())
        _write_array(self._at(key, ".mask.npy"), shown.mask)
        told = {"about": shown.about, "kind": shown.kind, "region": shown.region, "grid": asdict(shown.grid)}
        with atomic_write(self._at(key, ".case.json")) as temporary:
            temporary.write_text(json.dumps(told))

    def _at(self, key: str, suffix: str) -> Path:
        return self._cells / f"{key}{suffix}"


def check_folder(folder: Path, about: Mapping[str, Any], *, resume: bool) -> None:
    """Refuse a folder of other things or of another comparison, before anything is written.

    A folder of the same setup is gone on with, also with more methods or cases. With `resume` any comparison's folder
    is: cells that still fit are used, and the tables become those of the new one.

    Raises:
        ConfigError: a folder of other things, or of a comparison with another setup or of more methods or cases; or a
            place where none can be made.
    """
    manifest = folder / _MANIFEST
    if not folder.exists():
        check_writable(folder)
    elif not folder.is_dir():
        raise ConfigError(f"{folder}: expected a folder, got a file; choose another name")
    elif manifest.exists():
        if not resume:
            _same(folder, _read(manifest), about)
    elif any(not item.name.startswith(".raymend") for item in folder.iterdir()):
        raise ConfigError(f"{folder}: expected a new folder or that of a comparison, got one with other files in it")


def claim(folder: Path, about: Mapping[str, Any]) -> None:
    """Write into a folder what is compared in it."""
    with atomic_write(folder / _MANIFEST) as temporary:
        temporary.write_text(json.dumps({"format": _FORMAT, **about}, indent=1, default=str) + "\n")


def _read(manifest: Path) -> dict[str, Any]:
    try:
        told: dict[str, Any] = json.loads(manifest.read_text())
        if told["format"] == _FORMAT and {"setup", "tuning", "methods", "cases"} <= told.keys():
            return told
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise FormatError(f"{manifest}: expected what is compared in this folder, got something else; take another folder")


def _same(folder: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Refuse a comparison that is not the same or a larger one."""
    changed = [
        f"{name} {old['setup'].get(name)!r} (now {value!r})"
        for name, value in json.loads(json.dumps(new["setup"])).items()
        if old["setup"].get(name) != value and name != "display"
    ]
    changed += [f"tuning cases {old['tuning']}"] if old["tuning"] != list(new["tuning"]) else []
    for kind in ("methods", "cases"):
        left_out = [name for name in old[kind] if name not in new[kind]]
        changed += [f"{kind} {', '.join(left_out)} (now left out)"] if left_out else []
    if changed:
        raise ConfigError(
            f"{folder}: expected a new folder or that of the same comparison, got one with {'; '.join(changed)}; take "
            "another folder, or resume=True (--resume) to use what still fits and write the tables anew"
        )


def _array(path: Path) -> np.ndarray[Any, Any]:
    found: np.ndarray[Any, Any] = np.load(path, allow_pickle=False)
    return found


def _write_array(path: Path, values: Tensor) -> None:
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.save(file, values.cpu().numpy(), allow_pickle=False)
