"""Phantoms: exact line integrals in every geometry, both rules, and pictures."""

import math

import pytest
import torch
from torch import Tensor

from phantoms import Box, Cone, Cylinder, Ellipsoid, Phantom, Shape, forbild_abdomen, forbild_head, forbild_thorax
from recon.errors import ConfigError, ShapeError
from recon.geometry import ConeBeam, Detector, FreeBeam, ParallelBeam, ScanGeometry, moved_rays
from recon.grid import VolumeGrid
from recon.kernels.lines import lines
from recon.kernels.reference import view_rays

FAR = {"source_to_axis": 570.0, "source_to_detector": 1040.0}
PANEL = Detector(shape=(6, 9), pitch=(8, 11), offset=(3.0, -7.0))
GEOMETRIES: dict[str, ScanGeometry] = {
    "parallel": ParallelBeam.circular(5, detector=PANEL),
    "fan": ConeBeam.circular(5, detector=Detector(shape=(1, 15), pitch=(2, 9)), **FAR),
    "fan on an arc": ConeBeam.circular(
        5, detector=Detector(shape=(1, 15), pitch=(2, 9), curve="arc", offset=(0, 4)), **FAR
    ),
    "cone": ConeBeam.circular(5, detector=PANEL, **FAR),
    "cone on an arc": ConeBeam.circular(5, detector=Detector(shape=(6, 9), pitch=(8, 11), curve="arc"), **FAR),
    "helix": ConeBeam.helical(7, detector=PANEL, pitch=20, turns=1.5, **FAR),
    "free": FreeBeam.of(ConeBeam.circular(4, detector=PANEL, **FAR)),
    "one pixel": ConeBeam.circular(3, detector=Detector(shape=(1, 1), pitch=(2, 2)), **FAR),
}
MIX: tuple[Shape, ...] = (
    Ellipsoid(density=1.0, semi=(40, 50, 60)),
    Box(density=0.2, centre=(0, 10, 0), size=(50, 30, 40)).moved(turn=(0.4, 0.1, 0)),
    Cylinder(density=2.0, centre=(5, -10, 20), semi=(15, 10), length=40),
    Cone(density=0.0, centre=(0, 15, 10), semi=(12, 9), tip=0.4, length=30),
    Ellipsoid(density=3.0, centre=(0, 0, 15), semi=(9, 4, 4)),
)
every_geometry = pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)


def all_rays(geometry: ScanGeometry, poses: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return origin and direction of every ray in mm: (view, row, column, 3)."""
    told = lines(geometry, VolumeGrid(shape=(1, 1, 1)), poses)
    pairs = [view_rays(told, view) for view in range(len(geometry))]
    origin, direction = (torch.stack(part).view(*geometry.shape, 3) for part in zip(*pairs, strict=True))
    return origin, direction


def sampled(phantom: Phantom, origin: Tensor, direction: Tensor, reach: float, number: int = 8000) -> Tensor:
    """Integrate along rays by brute force, over `reach` mm on both sides of the point nearest to the origin."""
    direction = direction / direction.norm(dim=-1, keepdim=True)
    middle = origin - (origin * direction).sum(-1, keepdim=True) * direction
    t = ((torch.arange(number, dtype=torch.float64) + 0.5) / number * 2 - 1) * reach
    return torch.stack(
        [phantom.attenuation(m + t[:, None] * d).mean() * 2 * reach for m, d in zip(middle, direction, strict=True)]
    )


@every_geometry
@pytest.mark.parametrize("moving", [False, True], ids=["still", "moving"])
def test_a_ball_has_the_chords_of_the_closed_form(geometry: ScanGeometry, moving: bool) -> None:
    centre, radius = torch.tensor([6.0, -11, 17], dtype=torch.float64), 30.0
    poses = None
    if moving:
        poses = 0.1 * torch.randn(len(geometry), 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        poses[:, :3] *= 50
    phantom = Phantom(shapes=(Ellipsoid(density=0.02, centre=(6.0, -11, 17), semi=(radius,) * 3),))
    origin, direction = all_rays(geometry, poses)
    unit = direction / direction.norm(dim=-1, keepdim=True)
    apart = torch.linalg.cross(centre - origin, unit).norm(dim=-1)
    expected = 0.02 * 2 * (radius**2 - apart**2).clamp_min(0).sqrt()
    values = phantom.line_integrals(geometry, poses, dtype=torch.float64)
    assert values.shape == geometry.shape
    assert float((values - expected).abs().max()) < 1e-7  # near tangents the root halves the digits
    assert float(values.max()) > 0.3


@every_geometry
@pytest.mark.parametrize("rule", ["additive", "nested"])
def test_both_rules_agree_with_sampling(geometry: ScanGeometry, rule: str) -> None:
    phantom = Phantom(shapes=MIX, rule=rule)
    origin, direction = (part[::2].reshape(-1, 3)[:80:4] for part in all_rays(geometry))
    values = phantom.line_integrals(geometry, dtype=torch.float64)[::2].reshape(-1)[:80:4]
    # 160 mm in 8000 steps of 0.02 mm, up to 10 edges of contrast up to 3
    error = (values - sampled(phantom, origin, direction, 80)).abs()
    assert float(error.max()) < 0.15
    assert float(error.mean()) < 0.02


@pytest.mark.parametrize("make", [forbild_head, forbild_thorax, forbild_abdomen], ids=["head", "thorax", "abdomen"])
def test_forbild_agrees_with_sampling(make) -> None:
    phantom = make(water=1.0)
    rng = torch.Generator().manual_seed(4)
    target = torch.randn(12, 3, generator=rng, dtype=torch.float64) * torch.tensor([30.0, 40, 80])
    direction = torch.randn(12, 3, generator=rng, dtype=torch.float64) * torch.tensor([0.1, 1, 1])
    # each ray is the middle pixel of a view of its own
    v, u = torch.eye(3, dtype=torch.float64)[0], torch.linalg.cross(torch.eye(3).double()[0].expand(12, 3), direction)
    vectors = torch.stack([target - 2000 * direction, target, v.expand(12, 3), u], dim=1)
    geometry = FreeBeam(vectors=vectors.tolist(), detector=Detector(shape=(1, 1)))
    values = phantom.line_integrals(geometry, dtype=torch.float64).reshape(-1)
    expected = sampled(phantom, target, direction, 350, number=7000)
    assert float((values - expected).abs().max()) < 0.5  # mm of water; steps of 0.1 mm, some 20 edges
    assert float((values - expected).abs().mean()) < 0.1
    assert float(values.max()) > 100


def test_poses_move_the_phantom() -> None:
    geometry, phantom = GEOMETRIES["cone"], Phantom(shapes=MIX)
    pose = (4.0, -3.0, 6.0, 0.2, -0.1, 0.3)
    poses = torch.tensor([pose] * len(geometry), dtype=torch.float64)
    seen = phantom.line_integrals(geometry, poses, dtype=torch.float64)
    expected = phantom.moved(pose[:3], pose[3:]).line_integrals(geometry, dtype=torch.float64)
    torch.testing.assert_close(seen, expected, atol=1e-9, rtol=0)


def test_later_shapes_hide_earlier_ones() -> None:
    geometry = ParallelBeam.circular(1, detector=Detector(shape=(1, 1)))
    big, small = Ellipsoid(density=1.0, semi=(10, 10, 10)), Ellipsoid(density=0.25, semi=(4, 4, 4))
    hidden, shown = Phantom(shapes=(small, big)), Phantom(shapes=(big, small))
    added = Phantom(shapes=(big, small), rule="additive")
    values = [float(p.line_integrals(geometry)) for p in (hidden, shown, added)]
    assert values == pytest.approx([20, 12 + 2, 20 + 2])
    assert shown.attenuation(torch.tensor([[0.0, 0, 0], [0, 0, 9], [0, 0, 11]])).tolist() == [0.25, 1, 0]


def test_lengths_doubled_and_attenuation_halved_change_nothing() -> None:
    geometry = GEOMETRIES["cone"]
    twice = ConeBeam.circular(
        5,
        detector=Detector(shape=(6, 9), pitch=(16, 22), offset=(6.0, -14.0)),
        source_to_axis=1140,
        source_to_detector=2080,
    )
    phantom = Phantom(shapes=MIX)
    torch.testing.assert_close(
        2 * phantom.line_integrals(geometry), phantom.scaled(2).line_integrals(twice), atol=1e-4, rtol=1e-5
    )


@pytest.mark.parametrize("name", ["parallel", "cone", "cone on an arc", "free", "fan on an arc"])
def test_subrays_are_the_rays_of_a_finer_detector(name: str) -> None:
    geometry, phantom = GEOMETRIES[name], Phantom(shapes=MIX)
    rows, columns = geometry.detector.shape
    rays = geometry.rays()
    rays[:, 2] /= 2
    rays[:, 3] /= 3
    panel = Detector(shape=(rows * 2, columns * 3), curve=geometry.detector.curve)
    finer = FreeBeam(vectors=rays.tolist(), detector=panel, parallel_rays=geometry.parallel)
    fine = phantom.line_integrals(finer, dtype=torch.float64).view(-1, rows, 2, columns, 3)
    linear = phantom.line_integrals(geometry, subrays=(2, 3), averaging="log", dtype=torch.float64)
    torch.testing.assert_close(linear, fine.mean((2, 4)))
    photons = phantom.line_integrals(geometry, subrays=(2, 3), averaging="exponential", dtype=torch.float64)
    torch.testing.assert_close(photons, -torch.log(torch.exp(-fine).mean((2, 4))))
    assert bool((photons <= linear + 1e-12).all())  # the edge of a shadow lets light through


def test_one_row_sees_a_plane_unless_asked() -> None:
    geometry, phantom = GEOMETRIES["fan"], Phantom(shapes=MIX)
    plane = phantom.line_integrals(geometry, subrays=3)
    assert torch.equal(plane, phantom.line_integrals(geometry, subrays=(1, 3)))
    assert not torch.equal(plane, phantom.line_integrals(geometry, subrays=(3, 3)))


@pytest.mark.parametrize("rule", ["additive", "nested"])
def test_picture_is_the_mean_of_samples(rule: str) -> None:
    phantom = Phantom(shapes=(*MIX, Cylinder(density=0.5, centre=(0, 30, 0), semi=(6, 8))), rule=rule)
    grid = VolumeGrid(shape=(5, 16, 14), spacing=(11, 7, 9), centre=(3, -2, 5))
    fine = VolumeGrid(shape=(10, 48, 28), spacing=(5.5, 7 / 3, 4.5), centre=(3, -2, 5))
    samples = phantom.attenuation(torch.stack(torch.meshgrid(*fine.axes(), indexing="ij"), -1))
    expected = samples.view(5, 2, 16, 3, 14, 2).mean((1, 3, 5))
    picture = phantom.rasterised(grid, oversampling=(2, 3, 2), dtype=torch.float64)
    torch.testing.assert_close(picture, expected, atol=1e-12, rtol=0)
    assert phantom.rasterised(grid).dtype == torch.float32


def test_a_single_slice_is_a_plane() -> None:
    phantom, grid = Phantom(shapes=MIX), VolumeGrid(shape=(1, 20, 20), spacing=(50, 6, 6))
    assert torch.equal(phantom.rasterised(grid), phantom.rasterised(grid, oversampling=(1, 3, 3)))


def test_bounds_hold_everything() -> None:
    low, high = Phantom(shapes=MIX).bounds
    assert low == (-40, -50, -60)
    assert high == (40, 50, 60)
    assert Phantom(shapes=(Cylinder(density=1.0, semi=(3, 4)),)).bounds == ((-math.inf, -3, -4), (math.inf, 3, 4))


def test_rays_of_moved_scanners_agree_with_recon() -> None:
    geometry = GEOMETRIES["cone"]
    poses = torch.tensor([[1.0, 2, 3, 0.1, 0.2, 0.3]] * 5, dtype=torch.float64)
    free = FreeBeam(vectors=moved_rays(geometry.rays(), poses, parallel=False).tolist(), detector=PANEL)
    phantom = Phantom(shapes=MIX)
    torch.testing.assert_close(phantom.line_integrals(geometry, poses), phantom.line_integrals(free))


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda p, g: p.line_integrals(g, subrays=0), "subrays: expected 2 whole numbers"),
        (lambda p, g: p.line_integrals(g, subrays=(1, 1.5)), "subrays: expected 2 whole numbers"),
        (lambda p, g: p.line_integrals(g, averaging="mean"), "averaging: expected one of exponential, log"),
        (lambda p, g: p.rasterised(VolumeGrid(shape=(1, 2, 2)), oversampling=-1), "oversampling: expected"),
        (lambda p, g: Phantom(shapes=()), "shapes: expected at least one Shape"),
        (lambda p, g: Phantom(shapes=MIX, rule="sum"), "rule: expected one of additive, nested"),
    ],
)
def test_what_cannot_be_done_is_refused(ask, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        ask(Phantom(shapes=MIX), GEOMETRIES["cone"])


def test_poses_of_another_length_are_refused() -> None:
    with pytest.raises(ShapeError, match="poses: expected"):
        Phantom(shapes=MIX).line_integrals(GEOMETRIES["cone"], torch.zeros(4, 6))
