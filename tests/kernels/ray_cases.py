"""Rays that have one slope each: off the planes of voxels, where samples bend, and off 45 degrees, where they jump."""

from dataclasses import replace

from recon.kernels.lines import Lines, lines
from tests.contracts.geometries import Case
from tests.contracts.operators import draw

VECTORS = ("source", "centre", "v", "u", "depth")


def nudged(case: Case) -> Lines:
    """Move the vectors of each view of a case by some hundredths, each by its own."""
    table = lines(case.geometry, case.grid, case.poses)
    moves = {name: 0.02 * draw(len(table.source), 3, seed=10 + i) for i, name in enumerate(VECTORS)}
    return replace(table, **{name: getattr(table, name) + move for name, move in moves.items()})
