"""Scans whose rays keep their height, in sizes and proportions that no kernel was written for."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from recon.geometry import ConeBeam, Detector, FreeBeam, ParallelBeam, ScanGeometry
from recon.grid import VolumeGrid
from recon.kernels import cpu, reference
from recon.kernels.lines import Lines, lines
from tests.contracts.operators import draw

SLICE = VolumeGrid(shape=(1, 37, 29), spacing=(1.3, 0.9, 1.2), centre=(0.0, 2.4, -3.6))
STACK = VolumeGrid(shape=(5, 19, 23), spacing=(1.5, 0.8, 1.1), centre=(0.3, -0.5, 0.7))
LINE = Detector(shape=(1, 53), pitch=(1.0, 1.4), offset=(0.0, -1.35))
PANEL = Detector(shape=(4, 41), pitch=(1.7, 1.1), offset=(0.4, -0.3))
HALF = replace(LINE, offset=(0.0, 33.0))
TURN = 2 * math.pi


def fan(detector: Detector, views: int = 7, **settings: float) -> ConeBeam:
    return ConeBeam.circular(
        views, detector=detector, **{"source_to_axis": 60.0, "source_to_detector": 97.0, "start": 0.1} | settings
    )


def parallel(detector: Detector, views: int = 7, **settings: float) -> ParallelBeam:
    return ParallelBeam.circular(views, detector=detector, **{"arc": TURN, "start": 0.1} | settings)


def curved(detector: Detector) -> Detector:
    return replace(detector, curve="arc")


def pitched(detector: Detector, pitch: float) -> Detector:
    return replace(detector, pitch=(detector.pitch[0], pitch))


def drifting(views: int) -> Tensor:
    """Motion within the plane."""
    return torch.randn(views, 6, generator=torch.Generator().manual_seed(3)).double() * torch.tensor(
        [0.0, 2.0, 2.0, 0.3, 0.0, 0.0]
    )


CASES: dict[str, tuple[ScanGeometry, VolumeGrid]] = {
    "parallel": (parallel(LINE), SLICE),
    "parallel, right angles": (parallel(LINE, 4, start=0.0), SLICE),
    "parallel, 45 degrees": (parallel(LINE, 4, start=math.pi / 4), replace(SLICE, spacing=(1.0, 1.1, 1.1))),
    "fan, flat": (fan(LINE), SLICE),
    "fan, arc": (fan(curved(LINE)), SLICE),
    "half-fan, flat": (fan(HALF), SLICE),
    "half-fan, arc": (fan(curved(HALF)), SLICE),
    "wide fan": (fan(pitched(LINE, 4.0), 9), SLICE),
    "wide fan, arc": (fan(pitched(curved(LINE), 4.0), 9), SLICE),
    "half a circle of arc": (fan(pitched(curved(LINE), 5.6), 9), SLICE),
    "source close by": (fan(LINE, 12, source_to_axis=30.0), SLICE),
    "free": (FreeBeam.of(fan(LINE)), SLICE),
    "free, parallel": (FreeBeam.of(parallel(LINE)), SLICE),
    "one column": (fan(replace(LINE, shape=(1, 1), offset=(0.0, 0.1)), 11), SLICE),
    "one column, parallel": (parallel(replace(LINE, shape=(1, 1), offset=(0.0, 0.1)), 11), SLICE),
    "sixteen columns": (fan(replace(LINE, shape=(1, 16))), SLICE),
    "fine bins": (fan(Detector(shape=(1, 301), pitch=(1.0, 0.25))), SLICE),
    "finest bins": (fan(Detector(shape=(1, 801), pitch=(1.0, 0.09))), SLICE),
    "fine bins, parallel": (parallel(Detector(shape=(1, 201), pitch=(1.0, 0.3))), SLICE),
    "coarse bins": (fan(pitched(LINE, 5.0)), replace(SLICE, shape=(1, 70, 90), spacing=(1.0, 0.8, 0.7))),
    "coarsest bins": (parallel(pitched(LINE, 3.1)), replace(SLICE, shape=(1, 201, 190), spacing=(1.0, 0.5, 0.5))),
    "one pixel": (fan(LINE), replace(SLICE, shape=(1, 1, 1), centre=(0.0, 0.0, 0.0))),
    "one line": (fan(LINE), replace(SLICE, shape=(1, 1, 40))),
    "one file": (fan(LINE), replace(SLICE, shape=(1, 40, 1))),
    "far from the axis": (parallel(LINE), replace(SLICE, centre=(0.0, 50.0, -30.0))),
    "out of sight": (parallel(LINE, 3, arc=0.3), replace(SLICE, centre=(0.0, 0.0, 500.0))),
    "flat pixels": (fan(LINE), replace(SLICE, shape=(1, 11, 140), spacing=(1.0, 3.0, 0.25))),
    "row between slices": (parallel(LINE), replace(STACK, centre=(0.4, 0.0, 0.0))),
    "row above the slices": (parallel(LINE), replace(STACK, centre=(-30.0, 0.0, 0.0))),
    "rows": (parallel(PANEL), STACK),
    "rows, aligned": (parallel(replace(PANEL, pitch=(1.5, 1.1), offset=(0.3, 0.0), shape=(5, 41))), STACK),
    "more rows than slices": (parallel(replace(PANEL, shape=(9, 41), pitch=(0.4, 1.1))), STACK),
    "rows, free": (FreeBeam.of(parallel(PANEL)), STACK),
    "larger than a tile": (
        fan(Detector(shape=(1, 150), pitch=(1.0, 1.7)), source_to_axis=150.0, source_to_detector=200.0),
        replace(SLICE, shape=(1, 131, 97)),
    ),
    "source inside": (fan(LINE), replace(SLICE, shape=(1, 131, 97))),
}


def agree(lines: Lines, *, batch: int = 1) -> None:
    """Ask that the fast path and the twin give the same, forward and adjoint, relative to the largest sum of sizes."""
    volume, values = (
        draw(batch, *shape, seed=i, dtype=torch.float32) for i, shape in enumerate((lines.grid_shape, lines.shape))
    )
    # Against the twin in float64; 2e-6 measured at the worst of the cases.
    for operation, x in (("forward", volume), ("adjoint", values)):
        found, expected = getattr(cpu, operation)(lines, x), getattr(reference, operation)(lines, x.double())
        assert found.dtype == torch.float32
        assert found.is_contiguous()
        scale = float(getattr(reference, operation)(lines, x.double().abs()).max())
        torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-5 * max(scale, 1e-3))
    left = float((cpu.forward(lines, volume).double() * values).sum())
    right = float((volume.double() * cpu.adjoint(lines, values)).sum())
    sizes = float((cpu.forward(lines, volume.abs()).double() * values.abs()).sum())
    assert abs(left - right) <= 5e-6 * sizes  # 2e-6 measured, where a ray's whole sum is one pixel; else 1e-7


def case(name: str) -> Lines:
    return lines(*CASES[name])
