"""Rays that kernels are asked about beside the geometries of every contract."""

from dataclasses import replace

from recon.geometry import ConeBeam, Detector, FreeBeam, ParallelBeam, ScanGeometry
from recon.grid import VolumeGrid
from recon.kernels.lines import Lines, lines
from tests.contracts.geometries import GEOMETRIES, Case
from tests.contracts.operators import draw

VECTORS = ("source", "centre", "v", "u", "depth")


def nudge(table: Lines) -> Lines:
    """Move the vectors of each view by some hundredths, each by its own.

    Then every ray has one slope: off the planes of voxels, where samples bend, and off 45 degrees, where they jump.
    """
    moves = {name: 0.02 * draw(len(table.source), 3, seed=10 + i) for i, name in enumerate(VECTORS)}
    return replace(table, **{name: getattr(table, name) + move for name, move in moves.items()})


def nudged(case: Case) -> Lines:
    """Return the rays of a case, a little moved."""
    return nudge(lines(case.geometry, case.grid, case.poses))


def _many_rows(
    source: tuple[float, ...], centre: tuple[float, ...], v: tuple[float, ...], u: tuple[float, ...]
) -> tuple[ScanGeometry, VolumeGrid]:
    detector = Detector(shape=(11, 6))
    return FreeBeam(vectors=((source, centre, v, u),), detector=detector), VolumeGrid(shape=(9, 10, 8))


# Detectors of many rows along each axis: kernels lay memory out along them. One of each kind looks obliquely, so that
# rays side by side have different main axes, one of them along the rows.
ALONG_ROWS: dict[str, tuple[ScanGeometry, VolumeGrid]] = {
    "z": _many_rows((0.3, -40.0, 2.0), (0.0, 20.0, 1.0), (1.2, 0.1, 0.0), (0.1, 0.2, 1.9)),
    "y": _many_rows((0.3, 2.0, -40.0), (0.0, 1.0, 20.0), (0.1, 1.2, 0.0), (1.9, 0.2, 0.1)),
    "x": _many_rows((-40.0, 0.3, 2.0), (20.0, 0.0, 1.0), (0.0, 0.1, 1.2), (0.1, 1.9, 0.2)),
    "z, obliquely": _many_rows((-30.0, -30.5, 2.0), (14.0, 14.0, 1.0), (1.2, -1.0, 0.0), (0.1, 0.2, 1.9)),
    "y, obliquely": _many_rows((2.0, -30.0, -30.5), (1.0, 14.0, 14.0), (0.0, 1.2, -1.0), (1.9, 0.2, 0.1)),
    "x, obliquely": _many_rows((-30.5, 2.0, -30.0), (14.0, 1.0, 14.0), (-1.0, 0.0, 1.2), (0.1, 1.9, 0.2)),
}

# Scans that stand as users set them up: many rays run along planes of voxel centres, or cross them at voxel centres,
# and some at 45 degrees. What rounding makes of such places must not decide which slope is taken.
ON_KINKS: dict[str, Case] = {
    name: Case(name, geometry, grid)
    for name, (geometry, grid) in {
        "parallel": (ParallelBeam.circular(4, detector=Detector(shape=(1, 15))), VolumeGrid(shape=(1, 15, 15))),
        "parallel, many slices": (
            ParallelBeam.circular(8, detector=Detector(shape=(5, 14), pitch=(0.5, 0.5))),
            VolumeGrid(shape=(4, 9, 8)),
        ),
        "fan": (
            ConeBeam.circular(4, detector=Detector(shape=(1, 21)), source_to_axis=40, source_to_detector=60),
            VolumeGrid(shape=(1, 11, 11)),
        ),
        "cone": (
            ConeBeam.circular(4, detector=Detector(shape=(9, 21)), source_to_axis=40, source_to_detector=60),
            VolumeGrid(shape=(9, 11, 11)),
        ),
        "cone, magnified to one": (
            ConeBeam.circular(8, detector=Detector(shape=(6, 12)), source_to_axis=40, source_to_detector=40),
            VolumeGrid(shape=(6, 12, 11)),
        ),
        "contract, right angles": GEOMETRIES["parallel, right angles"],
        "contract, 45 degrees": GEOMETRIES["parallel, 45 degrees"],
    }.items()
}
