"""Find out how a detector is mounted, from a scan of an unknown object.

The detector is 1.7 columns off and turned by 0.9 degrees in its plane, and nobody told us. Two steps take turns: a
few iterations of CGLS reconstruct with the alignment found so far, and LBFGS, along the projector's own gradient, turns
and shifts the detector until the image's projections fall on the measured ones.

Run it from the repository's root: python docs/examples/align_detector.py
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from phantoms import shepp_logan, simulate
from recon import ConeBeam, Detector, FreeBeam, LeastSquares, Projector, VolumeGrid, solve
from recon.geometry import aligned_rays
from recon.iterative import CGLS

TRUE = (1.7, 0.9)  # columns, degrees


def scanner_of(size: int) -> tuple[ConeBeam, VolumeGrid]:
    """Make a small scanner, and a grid whose voxels are as large as its pixels are at the axis."""
    pixel = 64 / size
    panel = Detector(shape=(size, size), pitch=(1.6 * pixel, 1.6 * pixel))
    scanner = ConeBeam.circular(size, detector=panel, source_to_axis=300, source_to_detector=480)
    return scanner, VolumeGrid(shape=(size, size, size), spacing=pixel)


def alignment_of(shift: Tensor, tilt: Tensor, scanner: ConeBeam) -> Tensor:
    """Write columns and radians as shifts along (v, u, normal) in mm and turns about them in rad."""
    zero = torch.zeros_like(shift)
    return torch.stack([zero, shift * scanner.detector.pitch[1], zero, zero, zero, tilt])


def measured(scanner: ConeBeam) -> Tensor:
    """Simulate what the displaced detector sees: exact line integrals of a head that no grid has seen."""
    shift, tilt = torch.tensor(TRUE, dtype=torch.float64)
    alignment = alignment_of(shift, tilt.deg2rad(), scanner).expand(len(scanner), 6)
    real = FreeBeam(vectors=aligned_rays(scanner.rays(), alignment), detector=scanner.detector)
    return simulate(shepp_logan(dimensions=3, size=62), real).values


def smooth(values: Tensor) -> Tensor:
    """Average over some pixels twice: what is finer than voxels tells of the grid, not of the detector."""
    return avg_pool2d(avg_pool2d(values[:, None], 5, 1), 5, 1)


def align(size: int = 36, rounds: int = 2) -> tuple[float, float]:
    """Return the shift in columns and the tilt in degrees."""
    scanner, grid = scanner_of(size)
    values = measured(scanner)
    place = torch.zeros(2, dtype=torch.float64, requires_grad=True)  # columns: of the middle, of the top more than that

    def projector() -> Projector:
        alignment = alignment_of(place[0], place[1] / (size / 2), scanner)
        return Projector(grid=grid, geometry=scanner, alignment=alignment)

    for _ in range(rounds):
        image = solve(CGLS(), [LeastSquares(projector(), values)], iterations=12).image
        optimiser = torch.optim.LBFGS([place], max_iter=12, line_search_fn="strong_wolfe")

        def misfit(optimiser: torch.optim.Optimizer = optimiser, image: Tensor = image) -> float:
            optimiser.zero_grad()
            loss = 1e3 * smooth(projector() @ image - values).square().sum() / values.square().sum()
            loss.backward()
            return float(loss.detach())

        optimiser.step(misfit)
        shift, tilt = place[0].item(), math.degrees(place[1].item() / (size / 2))
        print(f"shift {shift:.4f} columns, tilt {tilt:.3f} degrees")
    return shift, tilt


if __name__ == "__main__":
    shift, tilt = align()
    print(f"true: shift {TRUE[0]:.4f} columns, tilt {TRUE[1]:.3f} degrees")
    assert math.isclose(shift, TRUE[0], abs_tol=0.02), shift
    assert math.isclose(tilt, TRUE[1], abs_tol=0.1), tilt
