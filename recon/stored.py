"""A scan whose projections stay in their file until they are asked for, block by block."""

import math
from typing import Any, Protocol

import torch
from torch import Tensor

from recon import memory
from recon.geometry import ScanGeometry
from recon.geometry.pose import check_poses
from recon.scan import Calibration, Scan


def stays(geometry: ScanGeometry) -> bool:
    """Tell whether projections are read block by block: within a budget of memory, if they are more than a block."""
    budget = memory.current()
    return budget.limit is not None and 4 * math.prod(geometry.shape) > budget.work


class Source(Protocol):
    """Where the arrays of a scan lie; every read refuses a file that is not the one it was."""

    @property
    def dtype(self) -> torch.dtype:
        """The type of the arrays."""

    @property
    def weighted(self) -> bool:
        """Whether there are weights."""

    def read(self, name: str, views: slice, rows: slice) -> Tensor:
        """Return part of "values" or "weights", (view, row, column)."""


class StoredScan(Scan):
    """A `Scan` on the disk: `block` reads what is asked for, `values` and `weights` read everything, once.

    What is read is checked like any scan's values. Within a budget of memory, what was read as a whole lies in a
    scratch file if memory is not to be filled with it.
    """

    source: Source

    def __init__(
        self,
        *,
        source: Source,
        geometry: ScanGeometry,
        poses: Tensor | None = None,
        calibration: Calibration | None = None,
        provenance: tuple[str, ...] = (),
    ) -> None:
        parts = {
            "source": source,
            "geometry": geometry,
            "poses": None if poses is None else check_poses(poses, len(geometry)),
            "calibration": calibration or Calibration(),
            "provenance": provenance,
            "_read": {},
        }
        for name, part in parts.items():
            object.__setattr__(self, name, part)

    def __repr__(self) -> str:
        return f"StoredScan(geometry={self.geometry!r}, provenance={self.provenance!r})"

    @property
    def dtype(self) -> torch.dtype:
        """The type of the values."""
        return self.source.dtype

    @property
    def values(self) -> Tensor:
        """All line integrals (view, row, column), read once."""
        return self._whole("values")

    @property
    def held(self) -> Tensor | None:
        """Nothing: numbers in a file are in no graph."""
        return None

    @property
    def weights(self) -> Tensor | None:
        """All inverse variances, read once, or None."""
        return self._whole("weights") if self.source.weighted else None

    def block(self, views: slice, rows: slice) -> Tensor:
        """Read the values of some views and rows (view, row, column)."""
        return self._checked("values", views, rows)

    def empty(self, *shape: int) -> Tensor:
        """Return a tensor of the values' type with arbitrary content; nothing is read."""
        return torch.empty(shape, dtype=self.dtype)

    def changed(self, **changes: Any) -> Scan:
        """Return the scan with other fields; the projections stay where they are unless they are replaced."""
        if {"values", "weights"} & set(changes):
            kept = {name: getattr(self, name) for name in ("geometry", "values", "weights", "poses", "calibration")}
            return Scan(**{**kept, "provenance": self.provenance, **changes})
        kept = {name: getattr(self, name) for name in ("geometry", "poses", "calibration", "provenance")}
        return StoredScan(source=self.source, **{**kept, **changes})

    def to(self, device: "torch.device | str") -> Scan:
        """Return the scan with its arrays on another device; for the processor they stay in the file."""
        return self if torch.device(device).type == "cpu" else super().to(device)

    def _whole(self, name: str) -> Tensor:
        kept: dict[str, Tensor] = self.__dict__["_read"]
        if name not in kept:
            out = memory.empty(self.geometry.shape, dtype=self.dtype, name=name)
            one = out[0].nbytes
            for views in memory.even_parts(len(out), one):
                out[views] = self._checked(name, views, slice(None))
                memory.release()
            kept[name] = out
        return kept[name]

    def _checked(self, name: str, views: slice, rows: slice) -> Tensor:
        part = self.source.read(name, views, rows)
        self._check_content(name, part)
        return part
