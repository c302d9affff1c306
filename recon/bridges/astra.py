"""ASTRA's projectors as a linear operator, so that they can be compared, and their adjoint measured."""

import weakref
from typing import Any

import torch
from torch import Tensor

from recon import checks
from recon.errors import GeometryError, MissingExtraError, ResourceError
from recon.geometry import FreeBeam, ScanGeometry, moved_rays
from recon.geometry.convert import AstraDict, to_astra
from recon.geometry.pose import check_poses
from recon.grid import VolumeGrid
from recon.operators.linear import LinearOperator, Shape

MODELS = ("cuda", "line", "strip", "linear")
_SAME = 1e-9  # share of a voxel within which its sides count as equal


class AstraProjector(LinearOperator):
    """Project with ASTRA: volume (z, y, x) in 1/mm to line integrals (view, row, column), as `recon.Projector` does.

    What stands in for the transpose is ASTRA's backprojection. On a GPU it is not the transpose of its forward
    projection: `adjoint_error` says by how much, and gradients through this operator are off by that, too.

    Args:
        grid: where the volume lives; its voxels are cubes, in a plane squares.
        geometry: where the rays run, on a flat detector.
        poses: rigid motion of the object per view (view, 6), mm and rad, or None for a still object.
        model: "cuda", or one of ASTRA's models on the processor, for scans in a plane: "line" (Siddon's method),
            "strip" (areas), or "linear" (Joseph's method, parallel rays only).

    Raises:
        GeometryError: what ASTRA, or that model of it, cannot project.
        MissingExtraError: ASTRA is not installed; raised on use.
        ResourceError: this ASTRA cannot reach a GPU; raised on use.

    Source:
        van Aarle et al. 2016, Optics Express 24(22): 25129-25147; interface of version 2.5.0.
    """

    def __init__(
        self, *, grid: VolumeGrid, geometry: ScanGeometry, poses: Tensor | None = None, model: str = "cuda"
    ) -> None:
        geometry.check_grid(grid)
        self.model = checks.choice("model", model, MODELS)
        self.grid, self.geometry = grid, geometry
        self._proj_geom, self._vol_geom = to_astra(_moved(geometry, poses), grid)
        self._planar = "GridSliceCount" not in self._vol_geom
        _refuse(model, self._proj_geom, grid)
        self._handle: int | None = None  # by which ASTRA knows the projector, in this process

    @property
    def domain_shape(self) -> Shape:
        """The volume (z, y, x)."""
        return self.grid.shape

    @property
    def range_shape(self) -> Shape:
        """The projections (view, row, column)."""
        return self.geometry.shape

    @property
    def axes(self) -> tuple[str, str]:
        """Names of the axes of both shapes."""
        return "z, y, x", "view, row, column"

    def __repr__(self) -> str:
        return f"AstraProjector(grid={self.grid!r}, geometry={self.geometry!r}, model={self.model!r})"

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_handle": None}

    def _forward(self, x: Tensor) -> Tensor:
        astra, out = _ready(self.model, x), x.new_empty(len(x), *self.range_shape)
        for volume, values in zip(x, out, strict=True):
            result = self._ordered_values(values.float())
            self._calls(astra).direct_FP(self._projector(astra), self._ordered_volume(volume.float()), out=result)
            values.copy_(result[:, None] if self._planar else result.transpose(0, 1))
        return _finished(out)

    def _adjoint(self, y: Tensor) -> Tensor:
        astra, out = _ready(self.model, y), y.new_empty(len(y), *self.domain_shape)
        for values, volume in zip(y, out, strict=True):
            result = self._ordered_volume(volume.float())
            self._calls(astra).direct_BP(self._projector(astra), self._ordered_values(values.float()), out=result)
            volume.copy_(result.flip(0)[None] if self._planar else result)
        return _finished(out)

    def _ordered_volume(self, volume: Tensor) -> Tensor:
        """Order a volume as ASTRA does, as `recon.geometry.convert.to_astra_volume` does for arrays."""
        return volume[0].flip(0) if self._planar else volume.contiguous()

    def _ordered_values(self, values: Tensor) -> Tensor:
        return (values[:, 0] if self._planar else values.transpose(0, 1)).contiguous()

    def _calls(self, astra: Any) -> Any:
        return astra.projector if self._planar else astra.projector3d

    def _projector(self, astra: Any) -> int:
        """Return the number of the projector, made on first use and deleted with this object."""
        if self._handle is None:
            number = int(astra.create_projector(_name(self.model, self._proj_geom), self._proj_geom, self._vol_geom))
            weakref.finalize(self, self._calls(astra).delete, number)
            self._handle = number
        return self._handle


def _moved(geometry: ScanGeometry, poses: Tensor | None) -> ScanGeometry:
    """Return a geometry that sees a still object as the given one sees the moved object."""
    if poses is None:
        return geometry
    rays = moved_rays(geometry.rays(), check_poses(poses, len(geometry)), parallel=geometry.parallel)
    return FreeBeam(vectors=rays.tolist(), detector=geometry.detector, parallel_rays=geometry.parallel)  # type: ignore[arg-type]


def _refuse(model: str, proj_geom: AstraDict, grid: VolumeGrid) -> None:
    """Raise if a model of ASTRA cannot project a geometry that ASTRA can hold."""
    kind = str(proj_geom["type"])
    planar = "DetectorCount" in proj_geom
    if not planar and model != "cuda":
        raise GeometryError(
            f"model: expected 'cuda' for a scan in three dimensions, got {model!r}; ASTRA's models on the processor "
            "take one detector row in the plane of one slice, and no motion out of it"
        )
    if model == "linear" and not kind.startswith("parallel"):
        raise GeometryError("model: expected 'line', 'strip' or 'cuda' for a fan beam, got 'linear', which ASTRA lacks")
    if model == "strip" and kind == "fanflat_vec":
        raise GeometryError(
            "model: expected 'line' or 'cuda' for a fan beam with a shifted detector, motion or views of its own, got "
            "'strip', which ASTRA has for plain circles only"
        )
    if not planar and max(grid.spacing) - min(grid.spacing) > _SAME * max(grid.spacing):
        z, y, x = grid.spacing
        raise GeometryError(
            f"spacing: expected cubes for ASTRA in three dimensions, got voxels of {z:g} × {y:g} × {x:g} mm; use "
            "grid.resampled with one spacing"
        )


def _name(model: str, proj_geom: AstraDict) -> str:
    if model == "cuda":
        return "cuda" if "DetectorCount" in proj_geom else "cuda3d"
    return f"{model}_fanflat" if str(proj_geom["type"]).startswith("fanflat") else model


def _ready(model: str, data: Tensor) -> Any:
    """Return the toolbox, ready to read what is being computed for a tensor; ASTRA has streams of its own."""
    if data.device.type not in ("cpu", "cuda") or (data.is_cuda and model != "cuda"):
        raise ResourceError(
            f"model: {model!r} projects tensors on the CPU, got one on {data.device}; move it with .cpu()"
        )
    try:
        import astra
    except ImportError as error:
        raise MissingExtraError("astra-toolbox", "astra", "projecting with ASTRA") from error
    if model == "cuda" and not astra.use_cuda():  # which would end the process later on
        raise ResourceError(
            "model: 'cuda' needs a GPU and an ASTRA built for it, and astra.use_cuda() says no; scans in a plane can "
            "be projected with model='line'"
        )
    if data.is_cuda:
        astra.set_gpu_index(data.device.index)
    _finished(data)
    return astra


def _finished(data: Tensor) -> Tensor:
    """Wait until a tensor on a GPU holds what it should."""
    if data.is_cuda:
        torch.cuda.synchronize(data.device)
    return data
