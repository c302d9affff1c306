"""Results of a projector have a gradient with respect to its poses and its alignment."""

import copy
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.autograd import grad, gradcheck

from recon import Diagonal, Projector, Solution, cgls, memory, os_sart, pwls, sirt
from recon.errors import ConfigError, GeometryError, NumericalError, ShapeError
from recon.operators import Identity, LinearOperator
from recon.operators.apply import _KEPT
from recon.scan import Scan
from tests.contracts.geometries import CASES, MOVED, Case, wobble
from tests.contracts.operators import draw, example
from tests.contracts.test_blocks import singly

FLAT = [case for case in MOVED if not case.geometry.arc_detector]
CONE = next(case for case in MOVED if case.name == "cone, flat, moved")
moved = pytest.mark.parametrize("case", MOVED, ids=str)


def projector(case: Case, poses: Tensor | None, alignment: Tensor | None = None) -> Projector:
    return Projector(grid=case.grid, geometry=case.geometry, poses=poses, alignment=alignment)


def slack(case: Case, *, seed: int = 1) -> Tensor:
    """Displacement of the detector by about a third of a millimetre and two degrees, different in every view."""
    return 0.3 * wobble(len(case.geometry)) * draw(6, seed=seed).sign()


@moved
def test_gradient_to_poses(case: Case) -> None:
    poses, x, y = case.poses.clone().requires_grad_(), draw(*case.grid.shape), draw(*case.geometry.shape)
    assert gradcheck(lambda p, x: projector(case, p) @ x, (poses, x.requires_grad_()), fast_mode=True)
    assert gradcheck(lambda p, y: projector(case, p).T @ y, (poses, y.requires_grad_()), fast_mode=True)


@pytest.mark.parametrize("case", FLAT, ids=str)
def test_gradient_to_alignment(case: Case) -> None:
    x, y = draw(2, *case.grid.shape), draw(2, *case.geometry.shape)
    for alignment in (slack(case), slack(case)[0].clone()):
        given = (case.poses.clone().requires_grad_(), alignment.requires_grad_())
        assert gradcheck(lambda p, a: projector(case, p, a) @ x, given, fast_mode=True)
        assert gradcheck(lambda p, a: projector(case, p, a).T @ y, given, fast_mode=True)


@moved
def test_a_graph_of_poses_changes_no_bit(case: Case) -> None:
    plain, traced = case.projector(), projector(case, case.poses.clone().requires_grad_())
    x, y = draw(*case.grid.shape).requires_grad_(), draw(*case.geometry.shape)
    (expected,) = grad((plain @ x * y).sum(), x)
    assert torch.equal(grad((traced @ x * y).sum(), x)[0], expected)
    assert torch.equal(traced @ x, plain @ x)
    assert torch.equal(traced.T @ y, plain.T @ y)


@pytest.fixture
def single_slices_and_views(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setattr(memory, "even_parts", singly)
    monkeypatch.setattr(memory.Budget, "work", property(lambda budget: 1))
    with memory.limit("64GiB", scratch=tmp_path):
        yield


def gradients(case: Case, operator: Callable[[Tensor], LinearOperator]) -> tuple[Tensor, Tensor]:
    """Differentiate forward and adjoint by poses."""
    poses = case.poses.clone().requires_grad_()
    a = operator(poses)
    x, y = draw(2, *a.domain_shape), draw(2, *a.range_shape, seed=1)
    return grad((a @ x * y).sum(), poses)[0], grad((a.T @ y.square() * x).sum(), poses)[0]


@moved
def test_gradient_in_blocks_is_that_of_the_whole(case: Case, request: pytest.FixtureRequest) -> None:
    expected = gradients(case, lambda poses: projector(case, poses))
    request.getfixturevalue("single_slices_and_views")
    for found, whole in zip(gradients(case, lambda poses: projector(case, poses)), expected, strict=True):
        torch.testing.assert_close(found, whole, rtol=0, atol=1e-12 * float(whole.abs().max()))  # 2e-15 measured


def test_gradient_in_blocks_to_alignment(request: pytest.FixtureRequest) -> None:
    alignment = slack(CONE).requires_grad_()
    x = draw(*CONE.grid.shape)
    (expected,) = grad((projector(CONE, CONE.poses, alignment) @ x).square().sum(), alignment)
    request.getfixturevalue("single_slices_and_views")
    (found,) = grad((projector(CONE, CONE.poses, alignment) @ x).square().sum(), alignment)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12 * float(expected.abs().max()))


def test_gradient_passes_through_the_algebra() -> None:
    left, right = Diagonal(draw(*CONE.geometry.shape)), Diagonal(draw(*CONE.grid.shape, seed=1))

    def composed(poses: Tensor) -> LinearOperator:
        a = projector(CONE, poses)
        return left @ (2.0 * a - projector(CONE, 0.5 * poses)) @ right

    poses, x = CONE.poses.clone().requires_grad_(), draw(*CONE.grid.shape)
    y = draw(*CONE.geometry.shape, seed=2)
    assert gradcheck(lambda p: composed(p) @ x, poses, fast_mode=True)
    assert gradcheck(lambda p: composed(p).T @ y, poses, fast_mode=True)
    assert gradcheck(lambda p: (a := projector(CONE, p)).T @ (a @ x), poses, fast_mode=True)
    assert composed(poses).requires_grad
    assert not composed(poses.detach()).requires_grad


def test_gradient_to_the_weights_of_a_diagonal() -> None:
    weights, x = draw(2, 3).requires_grad_(), draw(2, 3, seed=1).requires_grad_()
    assert gradcheck(lambda w, x: Diagonal(w) @ x + Diagonal(w).T @ x, (weights, x))


def test_some_views_keep_the_graph() -> None:
    poses, alignment = CONE.poses.clone().requires_grad_(), slack(CONE)[0].clone().requires_grad_()
    a, x = projector(CONE, poses, alignment), draw(*CONE.grid.shape)
    some = a[[3, 0]]
    for _ in range(2):  # twice through one projector: a subset is made once and used in every epoch
        found = grad((some @ x).square().sum(), (poses, alignment))
    expected = grad((a @ x)[[3, 0]].square().sum(), (poses, alignment))
    for part, whole in zip(found, expected, strict=True):
        torch.testing.assert_close(part, whole, rtol=0, atol=1e-12 * float(whole.abs().max()))
    assert bool(found[0][[1, 2, 4]].eq(0).all())


def test_poses_of_any_type_get_a_gradient_of_theirs() -> None:
    poses = CONE.poses.float().requires_grad_()
    (projector(CONE, poses) @ torch.ones(CONE.grid.shape)).sum().backward()
    assert poses.grad is not None
    assert poses.grad.dtype == torch.float32
    assert bool(poses.grad.abs().sum() > 0)


def test_a_derivative_by_the_image_may_be_differentiated_by_poses() -> None:
    def slope(poses: Tensor, x: Tensor) -> Tensor:
        (found,) = grad((projector(CONE, poses) @ x).square().sum(), x, create_graph=True)
        return found

    x = draw(*CONE.grid.shape).requires_grad_()
    assert gradcheck(slope, (CONE.poses.clone().requires_grad_(), x), fast_mode=True)


def test_second_derivatives_by_poses_are_refused() -> None:
    poses, x = CONE.poses.clone().requires_grad_(), draw(*CONE.grid.shape).requires_grad_()
    for y in ((projector(CONE, poses) @ x).square(), (projector(CONE, poses).T @ draw(*CONE.geometry.shape)).square()):
        (slope,) = grad(y.sum(), poses, create_graph=True)
        with pytest.raises(ConfigError, match="poses, alignment: expected a first derivative, got a second"):
            grad(slope.sum(), poses)


def test_functional_derivatives_are_those_of_backward() -> None:
    def loss(poses: Tensor, x: Tensor) -> Tensor:
        return (projector(CONE, poses) @ x).square().sum()

    x, poses = draw(3, *CONE.grid.shape), CONE.poses.clone().requires_grad_()
    expected = torch.stack([grad(loss(poses, item), poses)[0] for item in x])
    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(CONE.poses, x)
    torch.testing.assert_close(each, expected, rtol=0, atol=1e-12 * float(expected.abs().max()))
    with pytest.raises(ConfigError, match="expected reverse mode"):
        torch.func.jvp(lambda p: loss(p, x[0]), (CONE.poses,), (CONE.poses,))


def test_mapping_over_poses_and_alignment_is_refused() -> None:
    x, many = draw(*CONE.grid.shape), CONE.poses.expand(2, *CONE.poses.shape)

    def loss(motion: dict[str, Tensor]) -> Tensor:
        return (Projector(grid=CONE.grid, geometry=CONE.geometry, **motion) @ x).square().sum()

    for name in ("poses", "alignment"):
        for function in (loss, torch.func.grad(loss)):
            refused = rf"{name}: expected the same for all items of torch\.func\.vmap, got one of each; loop over"
            with pytest.raises(ConfigError, match=refused):
                torch.func.vmap(function)({name: many})


def test_copies_have_the_numbers_and_no_graph() -> None:
    poses = (2 * CONE.poses.clone().requires_grad_()) / 2
    alignment = 2 * slack(CONE).requires_grad_()
    a, x = projector(CONE, poses, alignment), draw(*CONE.grid.shape)
    for other in (pickle.loads(pickle.dumps(a)), copy.deepcopy(a)):
        assert not other.requires_grad
        assert torch.equal(other @ x, a @ x)
    assert repr(a).endswith("poses=..., alignment=...)")
    weighted = Diagonal(draw(2).requires_grad_() * 2)
    assert torch.equal(copy.deepcopy(weighted) @ torch.ones(2), (weighted @ torch.ones(2)).detach())


@pytest.mark.parametrize("method", [sirt, os_sart, cgls, pwls])
def test_iterations_take_poses_as_numbers(method: Callable[..., Solution]) -> None:
    a = CONE.projector()
    scan = Scan(geometry=CONE.geometry, values=(a @ draw(*CONE.grid.shape).abs()).float(), poses=CONE.poses)
    expected = method(scan, CONE.grid, iterations=3).image
    found = method(scan.moved(CONE.poses.clone().requires_grad_()), CONE.grid, iterations=3).image
    assert torch.equal(found, expected)
    assert not found.requires_grad


def test_a_projection_outside_a_graph_has_none() -> None:
    a = projector(CONE, CONE.poses.clone().requires_grad_())
    with torch.no_grad():
        assert not (a @ torch.ones(CONE.grid.shape)).requires_grad
    assert a.adjoint_error() < 1e-12
    assert a.norm() > 0


def test_alignment_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"alignment: expected \(6,\) or \(view, 6\) = \(5, 6\), got \(4, 6\)"):
        projector(CONE, None, torch.zeros(4, 6))
    with pytest.raises(ShapeError, match="alignment: expected a torch tensor, got list"):
        projector(CONE, None, [0.0] * 6)
    with pytest.raises(NumericalError, match="alignment: expected finite values"):
        projector(CONE, None, torch.full((6,), float("nan")))
    arc = next(case for case in CASES if case.name == "fan, arc")
    with pytest.raises(GeometryError, match="alignment: expected a flat detector, got an arc"):
        projector(arc, None, torch.zeros(6))


def test_gradients_do_not_load_the_compiler_of_torch() -> None:
    code = (
        "import sys, torch; from tests.contracts.test_gradients import *\n"
        "poses = CONE.poses.clone().requires_grad_()\n"
        "(projector(CONE, poses) @ draw(*CONE.grid.shape)).sum().backward()\n"
        "assert poses.grad is not None and 'torch._dynamo' not in sys.modules"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_still_projector_stays_out_of_the_graph() -> None:
    a = example("cone, flat, moved")
    assert not a.requires_grad
    assert not (a @ draw(*a.domain_shape)).requires_grad


@pytest.mark.filterwarnings("ignore::UserWarning")  # the compiler's own, about what it cannot follow
def test_compiled_code_may_make_projectors_and_differentiate_by_poses() -> None:
    def loss(poses: Tensor, x: Tensor) -> Tensor:
        return (projector(CONE, poses) @ (2 * x)).square().sum()

    x, poses = draw(*CONE.grid.shape), CONE.poses.clone().requires_grad_()
    expected = grad(loss(poses, x), poses)[0]
    made = projector(CONE, poses)
    torch.compiler.reset()
    within = torch.compile(loss, backend="aot_eager")(poses, x)
    outside = torch.compile(lambda x: (made @ (2 * x)).square().sum(), backend="aot_eager")(x)
    for result in (within, outside):
        torch.testing.assert_close(grad(result, poses)[0], expected, rtol=0, atol=1e-12 * float(expected.abs().max()))


def compiled(loss: Callable[..., Tensor], *, whole: bool = False) -> Callable[..., Tensor]:
    torch.compiler.reset()
    return torch.compile(loss, backend="aot_eager", fullgraph=whole)


def released(a: Projector) -> Callable[[Tensor], Tensor]:
    inner = compiled(lambda a, x: a(2 * x).square().sum(), whole=True)
    return lambda x: inner(a[:], x)


SEEN_BY_COMPILED_CODE_ALONE: dict[str, Callable[[Projector], Callable[[Tensor], Tensor]]] = {
    "made": lambda a: compiled(lambda x: Projector(grid=a.grid, geometry=a.geometry)(2 * x).square().sum()),
    "sliced": lambda a: compiled(lambda x: a[:](2 * x).square().sum()),
    "released": released,
}


@pytest.mark.filterwarnings("ignore::UserWarning")  # the compiler's own, about what it cannot follow
@pytest.mark.parametrize("name", list(SEEN_BY_COMPILED_CODE_ALONE))
def test_backward_finds_operators_that_only_compiled_code_has_seen(name: str) -> None:
    a, x = Projector(grid=CONE.grid, geometry=CONE.geometry), draw(*CONE.grid.shape).requires_grad_()
    (expected,) = grad((a @ (2 * x)).square().sum(), x)
    loss = SEEN_BY_COMPILED_CODE_ALONE[name](a)
    for _ in range(2):
        (found,) = grad(loss(x), x)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12 * float(expected.abs().max()))


def use_others() -> None:
    """Use as many operators in compiled code as it keeps."""
    for other in [Identity((2,)) for _ in range(_KEPT)]:
        torch.ops.raymend.apply(torch.ones(1, 2), other._number, False)


def test_an_operator_gone_before_backward_is_said() -> None:
    apply, x = compiled(lambda a, x: a(x).sum(), whole=True), draw(2).requires_grad_()
    lost = apply(Identity((2,)), x)
    use_others()
    with pytest.raises(ConfigError, match=r"operator: .* got one that is gone.*keep a reference to it until backward"):
        grad(lost, x)
    a = Identity((2,))
    held = apply(a, x)
    use_others()
    assert torch.equal(grad(held, x)[0], torch.ones(2))


def test_no_two_processes_number_operators_alike() -> None:
    """Compilers keep code on the disk by its text, which names operators by number alone."""
    code = "from recon.operators import Identity; print(Identity((2,))._number)"
    root = Path(__file__).parents[2]
    other = int(subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, check=True).stdout)
    assert abs(other - Identity((2,))._number) > 100_000  # by chance once in a billion runs
