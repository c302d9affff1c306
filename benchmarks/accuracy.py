"""How far projectors are from exact line integrals: raymend beside the CPU models of ASTRA and RTK, on the same cases.

    python benchmarks/accuracy.py [--size 256] [--json accuracy.json] [--check]

Two objects whose line integrals are known: a smooth ball, mu(r) = (1 - (r/R)²)² within R, whose integral at distance
p from its centre is 16/15 (R² - p²)^(5/2) / R⁴; and the FORBILD head. A pixel's pitch at the axis is a voxel. Errors
are relative root mean square, in per cent, against the ray through a pixel's centre and against the mean over the
pixel, once from an image of values at the voxels' centres and once from an image of means over the voxels.

Only what is installed is measured; benchmarks/README.md says how to install the peers.
"""

import argparse
import json
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from phantoms.library import forbild_head
from recon.geometry import ConeBeam, Detector, ParallelBeam
from recon.geometry.convert import from_astra_values, to_astra, to_astra_volume
from recon.grid import VolumeGrid
from recon.kernels.lines import lines
from recon.kernels.reference import view_rays
from recon.operators import Projector

DISTANCES = {"source_to_axis": 570.0, "source_to_detector": 1040.0}
FIELD = 256.0  # mm, width of the image
CENTRE, RADIUS = (3.1, -11.9, 7.3), 95.0  # mm, (z, y, x), of the ball; off the axis and off the voxels
SUBRAYS = 8  # per pixel and axis, for the mean over a pixel
TOLERANCE = 1.01  # a model within a per cent of the best counts as equal: sums in float32 differ

Geometry = ParallelBeam | ConeBeam
Truth = Callable[[Geometry, int], Tensor]


@dataclass(frozen=True, kw_only=True)
class Case:
    """An object on a grid, and what a perfect scanner would measure."""

    scanner: str
    shown: str  # ball or head
    image: str  # what a voxel holds: centre or mean
    geometry: Geometry
    grid: VolumeGrid
    volume: Tensor
    ray: Tensor
    pixel: Tensor


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table; errors in per cent."""

    scanner: str
    shown: str
    image: str
    model: str
    ray: float
    pixel: float


def cases(size: int) -> Iterator[Case]:
    """Make every scanner with every object and both kinds of image."""
    for scanner, geometry, grid in scanners(size):
        for shown, image in (("ball", "centre"), ("ball", "mean"), ("head", "centre"), ("head", "mean")):
            truth, draw = (ball_integrals, ball_on) if shown == "ball" else (head_integrals, head_on)
            ray, pixel = truth(geometry, 1), truth(geometry, SUBRAYS)
            volume = draw(grid, 1 if image == "centre" else 8 if grid.shape[0] == 1 else 4)
            yield Case(
                scanner=scanner,
                shown=shown,
                image=image,
                geometry=geometry,
                grid=grid,
                volume=volume.float(),
                ray=ray,
                pixel=pixel,
            )


def scanners(size: int) -> Iterator[tuple[str, Geometry, VolumeGrid]]:
    """Yield parallel and fan scanners in 2-D and a cone beam a third as fine, with pixels that match the voxels."""
    step = FIELD / size
    zoom = DISTANCES["source_to_detector"] / DISTANCES["source_to_axis"]
    bins = 2 * round(0.75 * size) + 1
    grid = VolumeGrid(shape=(1, size, size), spacing=(step, step, step))
    row = Detector(shape=(1, bins), pitch=(step, step))
    fan = Detector(shape=(1, bins), pitch=(step * zoom, step * zoom))
    yield "parallel", ParallelBeam.circular(180, detector=row, start=0.003), grid
    yield "fan", ConeBeam.circular(180, detector=fan, start=0.003, **DISTANCES), grid
    coarse = size // 3
    step = FIELD / coarse
    panel = Detector(shape=(coarse, 3 * coarse // 2), pitch=(step * zoom, step * zoom))
    box = VolumeGrid(shape=(coarse, coarse, coarse), spacing=(step, step, step))
    yield "cone", ConeBeam.circular(20, detector=panel, start=0.003, **DISTANCES), box


def ball_on(grid: VolumeGrid, oversampling: int) -> Tensor:
    """Draw the ball: the mean over evenly spaced points of each voxel."""
    counts = tuple(1 if n == 1 else oversampling for n in grid.shape)
    z, y, x = (
        (axis[:, None] + _within(step, count)).flatten()
        for axis, step, count in zip(grid.axes(), grid.spacing, counts, strict=True)
    )
    cz, cy, cx = CENTRE
    near = ((z - cz) ** 2)[:, None, None] + ((y - cy) ** 2)[:, None] + (x - cx) ** 2
    fine = (1 - near / RADIUS**2).clamp_min(0) ** 2
    return torch.nn.functional.avg_pool3d(fine[None], counts)[0]


def _within(step: float, count: int) -> Tensor:
    """Spread points evenly over a step, about its middle."""
    return (torch.arange(count, dtype=torch.float64) - (count - 1) / 2) * (step / count)


def ball_integrals(geometry: Geometry, subrays: int) -> Tensor:
    """Integrate the ball along the rays through a pixel's centre, or average several per pixel."""
    (rows, columns), (v, u) = geometry.detector.shape, geometry.detector.pitch
    split = (1 if rows == 1 else subrays, subrays)
    detector = replace(
        geometry.detector, shape=(rows * split[0], columns * split[1]), pitch=(v / split[0], u / split[1])
    )
    fine = replace(geometry, detector=detector)
    rays = lines(fine, VolumeGrid(shape=(1, 1, 1)))
    values = torch.stack([_through_ball(*view_rays(rays, view)) for view in range(len(fine))])
    return torch.nn.functional.avg_pool2d(values.reshape(fine.shape)[None], split)[0]


def _through_ball(origin: Tensor, direction: Tensor) -> Tensor:
    away = torch.tensor(CENTRE, dtype=torch.float64) - origin
    unit = direction / direction.norm(dim=1, keepdim=True)
    across = (away**2).sum(1) - (away * unit).sum(1) ** 2
    integral: Tensor = 16 / 15 * (RADIUS**2 - across).clamp_min(0) ** 2.5 / RADIUS**4
    return integral


def head_on(grid: VolumeGrid, oversampling: int) -> Tensor:
    return forbild_head().rasterised(grid, oversampling=oversampling, dtype=torch.float64)


def head_integrals(geometry: Geometry, subrays: int) -> Tensor:
    return forbild_head().line_integrals(geometry, subrays=subrays, dtype=torch.float64)


def raymend(case: Case) -> Tensor:
    values: Tensor = Projector(grid=case.grid, geometry=case.geometry) @ case.volume
    return values


def astra(model: str) -> Callable[[Case], Tensor | None]:
    """Return a CPU model of ASTRA, which has none in cone beam and no Joseph in fan beam."""

    def project(case: Case) -> Tensor | None:
        import astra as toolbox

        known = {"parallel": ("line", "strip", "linear"), "fan": ("line", "strip"), "cone": ()}
        if model not in known[case.scanner]:
            return None
        proj_geom, vol_geom = to_astra(case.geometry, case.grid)
        name = model if case.scanner == "parallel" else f"{model}_fanflat"
        projector = toolbox.create_projector(name, proj_geom, vol_geom)
        number, values = toolbox.create_sino(to_astra_volume(case.volume, vol_geom), projector)
        toolbox.data2d.delete(number)
        toolbox.projector.delete(projector)
        return from_astra_values(values, proj_geom)

    return project


def rtk(case: Case) -> Tensor | None:
    """Project with RTK's Joseph; its rotation axis is y, and its z is our -y."""
    import itk
    from itk import RTK

    if not isinstance(case.geometry, ConeBeam) or case.scanner != "cone":
        return None
    geometry = RTK.ThreeDCircularProjectionGeometry.New()
    for angle in case.geometry.angles:
        distances = case.geometry.source_to_axis, case.geometry.source_to_detector
        geometry.AddProjectionInRadians(*distances, angle)
    array = np.ascontiguousarray(case.volume.permute(1, 0, 2).flip(0).numpy())
    volume = _itk_image(itk, array, case.grid.spacing[2])
    empty = _itk_image(itk, np.zeros(case.geometry.shape, np.float32), case.geometry.detector.pitch[1])
    filter_ = RTK.JosephForwardProjectionImageFilter[type(volume), type(volume)].New()
    filter_.SetInput(0, empty)
    filter_.SetInput(1, volume)
    filter_.SetGeometry(geometry)
    filter_.Update()
    return torch.from_numpy(itk.array_from_image(filter_.GetOutput()).copy())


def _itk_image(itk: Any, array: np.ndarray, step: float) -> Any:
    """Make an image of equal steps whose middle is at 0; the views of projections need no position."""
    image = itk.image_from_array(array)
    image.SetSpacing([step] * 3)
    image.SetOrigin([-(n - 1) / 2 * step for n in array.shape[::-1]])
    return image


MODELS: dict[str, Callable[[Case], Tensor | None]] = {
    "raymend": raymend,
    "ASTRA line": astra("line"),
    "ASTRA strip": astra("strip"),
    "ASTRA linear": astra("linear"),
    "RTK Joseph": rtk,
}


def measure(case: Case) -> Iterator[Row]:
    """Run every model that is installed and knows the scanner."""
    for name, run in MODELS.items():
        try:
            values = run(case)
        except ImportError as missing:
            print(f"{name}: left out, {missing}", file=sys.stderr)
            continue
        if values is not None:
            errors = {"ray": percent(values, case.ray), "pixel": percent(values, case.pixel)}
            yield Row(scanner=case.scanner, shown=case.shown, image=case.image, model=name, **errors)


def percent(values: Tensor, truth: Tensor) -> float:
    return 100 * float((values.double() - truth).norm() / truth.norm())


def behind(rows: list[Row]) -> list[str]:
    """Name every case in which a peer is nearer to the truth than raymend."""
    found = []
    for ours in (row for row in rows if row.model == "raymend"):
        case = (ours.scanner, ours.shown, ours.image)
        for row in (r for r in rows if (r.scanner, r.shown, r.image) == case):
            for kind in ("ray", "pixel"):
                if getattr(ours, kind) > TOLERANCE * getattr(row, kind):
                    values = f"{getattr(row, kind):.4f} % against {getattr(ours, kind):.4f} %"
                    found.append(f"{'/'.join(case)}: {row.model} is nearer to the {kind}: {values}")
    return found


def versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for name in ("raymend", "torch", "numba", "astra-toolbox", "itk-rtk"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="Errors of projectors against exact line integrals.")
    parser.add_argument("--size", type=int, default=256, help="pixels across the image (default: 256)")
    parser.add_argument("--json", type=Path, help="write the rows and versions here, too")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a peer is nearer to the truth")
    arguments = parser.parse_args()
    rows = []
    print(f"{'scanner':10}{'object':8}{'image':8}{'model':14}{'ray %':>10}{'pixel %':>10}")
    for case in cases(arguments.size):
        for row in measure(case):
            rows.append(row)
            print(
                f"{row.scanner:10}{row.shown:8}{row.image:8}{row.model:14}{row.ray:10.4f}{row.pixel:10.4f}", flush=True
            )
    worse = behind(rows)
    print("\n".join(worse) or "raymend is nowhere behind")
    if arguments.json:
        record = {"versions": versions(), "size": arguments.size, "rows": [asdict(row) for row in rows]}
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")
    return int(arguments.check and bool(worse))


if __name__ == "__main__":
    sys.exit(main())
