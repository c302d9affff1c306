"""Images by FBP and FDK have a gradient with respect to the values and the poses of their scan."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad, grad, gradcheck, gradgradcheck

from recon import Scan, VolumeGrid, fbp, fdk, memory, read_scan, write_scan
from recon.errors import ConfigError
from recon.geometry import ConeBeam, Detector, FreeBeam, ParallelBeam, ScanGeometry
from recon.stored import StoredScan
from tests.contracts.geometries import GEOMETRIES, Case, wobble
from tests.contracts.operators import draw
from tests.contracts.test_blocks import singly

pytestmark = pytest.mark.filterwarnings("ignore::recon.errors.CTWarning")  # tiny detectors cut every object

NAMES = [
    name
    for name, (geometry, _) in GEOMETRIES.items()
    if not isinstance(geometry, FreeBeam) and not getattr(geometry, "pitch", 0) and len(geometry) > 1
]
HALF = ConeBeam.circular(
    5, detector=Detector(shape=(4, 9), pitch=(1.7, 1.6), offset=(0.4, 3.1)), source_to_axis=30, source_to_detector=47
)
CASES = [Case(name, *GEOMETRIES[name]) for name in NAMES] + [Case("half-fan", HALF, GEOMETRIES["cone, flat"][1])]
CONE = next(case for case in CASES if case.name == "cone, flat")
each = pytest.mark.parametrize("case", CASES, ids=str)


def image(case: Case, values: Tensor, poses: Tensor | None, padding: str = "zero") -> Tensor:
    geometry: ScanGeometry = case.geometry
    method = fbp if isinstance(geometry, ParallelBeam) or geometry.detector.shape[0] == 1 else fdk
    scan = Scan(geometry=geometry, values=values, poses=poses)
    return method(scan, case.grid, padding=padding, limited_angle=True)


def setting(case: Case, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Return values, with a view of zeros as beside an object, and poses, both with a graph."""
    values = draw(*case.geometry.shape).abs()
    values[0] = 0
    return values.to(dtype).requires_grad_(), (0.3 * wobble(len(case.geometry))).requires_grad_()


@each
@pytest.mark.parametrize("padding", ["zero", "edge"])
def test_gradient_to_values_and_poses(case: Case, padding: str) -> None:
    values, poses = setting(case)
    values = values.detach()[:] + 0.1 * (padding == "edge")  # the root of a continuation has no slope at 0
    assert gradcheck(lambda v, p: image(case, v, p, padding), (values.requires_grad_(), poses), fast_mode=True)


def test_rows_of_zeros_have_a_finite_gradient() -> None:
    values, poses = setting(CONE)
    for found in grad(image(CONE, values, poses, "edge").square().sum(), (values, poses)):
        assert bool(found.isfinite().all())
        assert bool(found.abs().sum() > 0)


@each
def test_a_graph_changes_no_bit(case: Case) -> None:
    values, poses = setting(case, torch.float32)
    for padding in ("zero", "edge"):
        expected = image(case, values.detach(), poses.detach(), padding)
        assert torch.equal(image(case, values, poses, padding), expected)
    with torch.no_grad():
        assert not image(case, values, poses).requires_grad


@each
def test_gradient_in_single_precision(case: Case) -> None:
    found, expected = (
        grad(image(case, *given).square().sum(), given)
        for given in (setting(case, torch.float32), setting(case, torch.float64))
    )
    for single, double in zip(found, expected, strict=True):
        # 4e-7 of the largest measured.
        torch.testing.assert_close(single.double(), double, rtol=0, atol=5e-6 * float(double.abs().max()))


@pytest.fixture
def single_slices_and_views(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setattr(memory, "even_parts", singly)
    monkeypatch.setattr(memory.Budget, "work", property(lambda budget: 1))
    with memory.limit("64GiB", scratch=tmp_path):
        yield


@each
def test_gradient_in_blocks_is_that_of_the_whole(case: Case, request: pytest.FixtureRequest) -> None:
    given = setting(case)
    expected = grad(image(case, *given).square().sum(), given)
    request.getfixturevalue("single_slices_and_views")
    for found, whole in zip(grad(image(case, *given).square().sum(), given), expected, strict=True):
        torch.testing.assert_close(found, whole, rtol=0, atol=1e-11 * float(whole.abs().max()))


@pytest.mark.parametrize("name", ["cone, flat", "half-fan"])
def test_gradient_on_devices_in_turn(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two devices that are both the CPU: what travels, and in which order, is the same for GPUs."""
    case = next(case for case in CASES if case.name == name)
    given, sent = setting(case), []
    expected = grad(image(case, *given).square().sum(), given)
    in_turn = memory.in_turn

    def watched(items: Iterable[Any], work: Callable[[Any, torch.device | None], Any]) -> Iterator[Any]:
        def noted(item: Any, device: torch.device | None) -> Any:
            sent.append(device)
            return work(item, device)

        return in_turn(items, noted)

    with memory.limit("64GiB", scratch=tmp_path, devices=("cpu", "cpu:0")):
        found_image = image(case, *given)
        monkeypatch.setattr(memory, "in_turn", watched)
        gradients = grad(found_image.square().sum(), given)
    assert len(sent) >= 4
    assert sent[:4] == 2 * [torch.device("cpu"), torch.device("cpu:0")]
    for found, whole in zip(gradients, expected, strict=True):
        torch.testing.assert_close(found, whole, rtol=0, atol=1e-11 * float(whole.abs().max()))


def test_functional_and_forward_derivatives_are_refused() -> None:
    values, poses = (given.detach() for given in setting(CONE))
    for derive in (
        lambda f, x: torch.func.grad(lambda y: f(y).sum())(x),
        lambda f, x: torch.func.jvp(f, (x,), (x,)),
        lambda f, x: torch.func.vjp(f, x),
        lambda f, x: torch.func.vmap(torch.func.grad(lambda y: (y * f(x)).sum()))(x[:, 0]),
        dual,
    ):
        for function, x in ((lambda v: image(CONE, v, None), values), (lambda p: image(CONE, values, p), poses)):
            with pytest.raises(ConfigError, match=r"fbp, fdk: expected a derivative by backward .*or a Projector"):
                derive(function, x)
    values.requires_grad_()
    found = image(CONE, values, None)
    with pytest.raises(ConfigError, match=r"got torch\.func or forward mode"):
        dual(lambda slope: grad(found, values, slope)[0], torch.ones_like(found))


def dual(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    with forward_ad.dual_level():
        return function(forward_ad.make_dual(x, x))


def test_mapping_over_scans_and_poses_is_refused() -> None:
    values, poses = (given.detach() for given in setting(CONE))
    with pytest.raises(ConfigError, match=r"values: expected the same for all items of torch\.func\.vmap, .*loop over"):
        torch.func.vmap(lambda v: image(CONE, v, None))(values.expand(2, *values.shape))
    with pytest.raises(ConfigError, match=r"poses: expected the same for all items of torch\.func\.vmap"):
        torch.func.vmap(lambda p: image(CONE, values, p))(poses.expand(2, *poses.shape))
    factors = torch.tensor([1.0, 2.0])  # other things may be mapped
    scaled = torch.func.vmap(lambda factor: factor * image(CONE, values, None))(factors)
    assert torch.equal(scaled[1], 2 * image(CONE, values, None))


def test_gradient_to_one_of_the_two() -> None:
    values, poses = setting(CONE)
    both = grad(image(CONE, values, poses).square().sum(), (values, poses))
    (by_values,) = grad(image(CONE, values, poses.detach()).square().sum(), values)
    (by_poses,) = grad(image(CONE, values.detach(), poses).square().sum(), poses)
    assert torch.equal(by_values, both[0])
    assert torch.equal(by_poses, both[1])
    (still,) = grad(image(CONE, values, None).square().sum(), values)
    assert bool(still.isfinite().all())


@each
def test_second_derivative_by_values(case: Case) -> None:
    values, _ = setting(case)
    assert gradgradcheck(lambda v: image(case, v, None).square(), values, fast_mode=True)


def test_other_second_derivatives_are_refused() -> None:
    values, poses = setting(CONE)
    for given in (image(CONE, values, poses), image(CONE, values, None, "edge")):
        (slope,) = grad(given.square().sum(), values, create_graph=True)
        with pytest.raises(ConfigError, match="fbp, fdk: expected a first derivative by poses, or with padding"):
            grad(slope.sum(), values)


def test_a_scan_keeps_the_graph_of_what_it_is_given() -> None:
    values, poses = setting(CONE)
    scan = Scan(geometry=CONE.geometry, values=values, poses=poses)
    for part in (scan, scan[1:3], scan.noted("seen"), scan.moved(poses)):
        assert part.values.requires_grad
        assert part.poses is not None
        assert part.poses.requires_grad
    some = scan[[4, 1]]
    for _ in range(2):
        found = grad(fdk(some, CONE.grid, limited_angle=True).sum(), poses)[0]
    assert bool(found[[0, 2, 3]].eq(0).all())
    assert bool(found[[1, 4]].abs().sum() > 0)


def test_scans_with_a_graph_are_written_as_numbers(tmp_path: Path) -> None:
    values, poses = setting(CONE)
    scan = Scan(geometry=CONE.geometry, values=values, poses=poses)
    for name in ("scan.h5", "scan.npz", "scan.zarr"):
        write_scan(tmp_path / name, scan)
        read = read_scan(tmp_path / name)
        assert torch.equal(read.values, values.detach())
        assert not read.values.requires_grad


def test_a_scan_on_the_disk_has_a_gradient_to_poses(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    values, poses = setting(CONE)
    write_scan(tmp_path / "scan.h5", Scan(geometry=CONE.geometry, values=values))
    expected = grad(image(CONE, values.detach(), poses).square().sum(), poses)[0]
    request.getfixturevalue("single_slices_and_views")
    stored = read_scan(tmp_path / "scan.h5").moved(poses)
    assert isinstance(stored, StoredScan)
    (found,) = grad(fdk(stored, CONE.grid, limited_angle=True).square().sum(), poses)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-11 * float(expected.abs().max()))


def test_a_level_row() -> None:
    """A single slice in the plane of a single row is read without neighbours."""
    geometry = ConeBeam.circular(5, detector=Detector(shape=(1, 9)), source_to_axis=30, source_to_detector=47)
    case = Case("", geometry, VolumeGrid(shape=(1, 6, 7)))
    values = draw(*geometry.shape).abs().requires_grad_()
    assert gradcheck(lambda v: image(case, v, None), values, fast_mode=True)
