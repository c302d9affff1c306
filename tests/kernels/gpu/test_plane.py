"""In-plane scans on the GPU: Triton kernels against the twin, in every proportion of pixels and bins."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="needs Triton: pip install 'raymend[triton]'")

from recon.geometry import ConeBeam, Detector
from recon.kernels import reference
from recon.kernels.gpu import plane, plane_tables
from recon.kernels.lines import Lines, lines
from tests.contracts.operators import draw
from tests.kernels.in_plane_cases import CASES, LINE, SLICE, case, curved, drifting, fan, parallel

pytestmark = pytest.mark.usefixtures("poisoned")

STACKED = 8  # images, for which the kernels of stacks are taken
ROWS = [name for name, (_, grid) in CASES.items() if grid.shape[0] > 1]
STACKS = [  # what the kernels of stacks know of proportions is less than those of images do
    "parallel, 45 degrees", "fan, flat", "fan, arc", "half-fan, flat", "wide fan, arc", "half a circle of arc",
    "source close by", "free", "finest bins", "coarsest bins", "one pixel", "one file", "out of sight", "flat pixels",
    "source inside", *ROWS,
]  # fmt: skip
TINY = replace(SLICE, shape=(1, 11, 9), spacing=(1.3, 3.0, 3.6))
FEW = Detector(shape=(1, 13), pitch=(1.0, 5.6))


def inputs(lines: Lines, batch: int) -> tuple[Tensor, Tensor]:
    return tuple(  # type: ignore[return-value]
        draw(batch, *shape, seed=i, dtype=torch.float32) for i, shape in enumerate((lines.grid_shape, lines.shape))
    )


def results(
    lines: Lines, device: torch.device, volume: Tensor, values: Tensor, precision: str = "single"
) -> list[Tensor]:
    found = [
        operation(lines, x.to(device), precision).cpu()
        for operation, x in ((plane.forward, volume), (plane.adjoint, values))
    ]
    assert all(x.dtype == torch.float32 and x.is_contiguous() for x in found)
    return found


def error(lines: Lines, name: str, x: Tensor, found: Tensor) -> float:
    """Return the largest difference from the twin, relative to the largest sum of sizes of the first."""
    twin = getattr(reference, name)
    expected, scale = twin(lines, torch.cat([x, x[:1].abs()]).double()).split((len(x), 1))
    return float((found - expected).abs().max() / scale.max().clamp_min(1e-3))


def gap(volume: Tensor, values: Tensor, forward: Tensor, adjoint: Tensor) -> float:
    """Return how far a pair is from being transposes, relative to the norms."""
    left, right = (forward.double() * values).sum(), (volume * adjoint.double()).sum()
    return float((left - right).abs() / (forward.double().norm() * values.double().norm()).clamp_min(1e-3))


def agree(lines: Lines, device: torch.device, batch: int) -> None:
    volume, values = inputs(lines, batch)
    forward, adjoint = results(lines, device, volume, values)
    # 7e-7 forward and 2.3e-6 back measured at the worst of the cases.
    assert error(lines, "forward", volume, forward) <= 5e-6
    assert error(lines, "adjoint", values, adjoint) <= 5e-6
    assert gap(volume, values, forward, adjoint) <= 1e-6  # 2.6e-7 measured


@pytest.mark.parametrize("name", [name for name in CASES if name not in (*ROWS, "coarsest bins")])
def test_images_equal_twin(name: str, device: torch.device) -> None:
    assert plane.applies(case(name), torch.zeros(1))
    agree(case(name), device, 1)


@pytest.mark.parametrize("name", STACKS)
def test_stacks_equal_twin(name: str, device: torch.device) -> None:
    agree(case(name), device, 3 if name in ROWS[2:] else STACKED)


@pytest.mark.parametrize("geometry", [fan(LINE, 3), parallel(LINE, 3)], ids=["fan", "parallel"])
@pytest.mark.parametrize("batch", [1, STACKED])
def test_motion_within_the_plane_stays_here(geometry, batch: int, device: torch.device) -> None:  # type: ignore[no-untyped-def]
    moved = lines(geometry, SLICE, drifting(len(geometry)))
    assert plane.applies(moved, torch.zeros(1))
    agree(moved, device, batch)


@pytest.mark.parametrize("batch", [1, 17])
@pytest.mark.parametrize(
    "geometry", [fan(FEW, 3), fan(curved(FEW), 2), parallel(FEW, 3)], ids=["fan", "arc", "parallel"]
)
def test_blocks_of_a_gpu_equal_twin(
    geometry,
    batch: int,
    device: torch.device,
    monkeypatch: pytest.MonkeyPatch,  # type: ignore[no-untyped-def]
) -> None:
    monkeypatch.setattr(plane_tables, "_sizes", plane_tables.ON_GPU)
    agree(lines(geometry, TINY), device, batch)


# 11 bits are kept. Measured for both: results 3.3e-4 to 4.1e-4 away, adjoint gap 2e-6.
@pytest.mark.parametrize("precision", ["tf32", "half"])
@pytest.mark.parametrize("name", ["one file", "rows"])
def test_less_precision_is_close(name: str, precision: str, device: torch.device) -> None:
    rays = case(name)
    volume, values = inputs(rays, STACKED)
    volume[1] *= 1e-6  # each image has its own scale
    values[2] *= 1e6
    single = results(rays, device, volume, values)
    less = results(rays, device, volume, values, precision)
    for exact, found in zip(single, less, strict=True):
        distance = ((found - exact).flatten(1).norm(dim=1) / exact.flatten(1).norm(dim=1)).max()
        assert 1e-5 < distance < 1e-3
    assert gap(volume, values, *less) < 1e-5


def test_values_are_rounded_as_tensor_cores_read_them() -> None:
    values = draw(3, 40, 50, dtype=torch.float32)
    stored, _ = plane._stored(values, "tf32")
    assert bool((stored.view(torch.int32) & 0x1FFF == 0).all())
    assert float(((stored - values) / values).abs().max()) <= 2**-11


def test_results_repeat_whatever_the_strides(device: torch.device) -> None:
    rays = case("fan, flat")
    volume, values = (x.to(device) for x in inputs(rays, STACKED))
    for operation, x in ((plane.forward, volume), (plane.adjoint, values)):
        strided = torch.stack([x, x], -1)[..., 0].mT.contiguous().mT
        before = strided.clone()
        torch.testing.assert_close(operation(rays, strided), operation(rays, x), rtol=0, atol=0)
        assert torch.equal(strided, before)


def test_no_images_give_none(device: torch.device) -> None:
    rays = case("rows")
    for operation, shape, other in (
        (plane.forward, rays.grid_shape, rays.shape),
        (plane.adjoint, rays.shape, rays.grid_shape),
    ):
        assert operation(rays, torch.zeros(0, *shape, device=device)).shape == (0, *other)


def test_pieces_give_the_same_as_the_whole(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    rays = case("one file")
    volume, values = inputs(rays, 20)
    whole = results(rays, device, volume, values)
    monkeypatch.setattr(plane, "_BYTES", 1)
    monkeypatch.setattr(plane_tables, "_LISTED", 1)
    monkeypatch.setattr(plane_tables, "_PAIRS", 7)
    assert len(list(plane_tables.work(rays, device))) > 1
    for one, other in zip(whole, results(rays, device, volume, values), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=2e-6 * float(one.abs().max()))  # order of sums in a product


def test_what_is_not_in_plane_or_not_single_is_left_to_others() -> None:
    assert not plane.applies(case("fan, flat"), torch.zeros(1, dtype=torch.float64))
    cone = ConeBeam.circular(
        3, detector=Detector(shape=(4, 5), pitch=(1.0, 1.0)), source_to_axis=60.0, source_to_detector=97.0
    )
    assert not plane.applies(lines(cone, SLICE), torch.zeros(1))
