"""Contract of every solid: chords, points and motions agree."""

import math

import pytest
import torch

from phantoms import Box, Cone, Cylinder, Ellipsoid, HalfSpace, Shape
from phantoms.phantom import Phantom
from recon.errors import ConfigError
from recon.geometry import Detector, ParallelBeam, rotation_matrices

TURN = (0.5, -0.3, 0.8)
CUTS = (HalfSpace(normal=(0, 1, 1), offset=2.0), HalfSpace(normal=(-1, 0, 0.5), offset=6.0))

SHAPES: dict[str, Shape] = {
    "ball": Ellipsoid(density=1.0, semi=(9, 9, 9)),
    "ellipsoid": Ellipsoid(density=0.5, centre=(3, -2, 4), semi=(4, 12, 7)),
    "ellipsoid turned": Ellipsoid(density=0.5, centre=(3, -2, 4), semi=(4, 12, 7)).moved(turn=TURN),
    "cylinder": Cylinder(density=2.0, centre=(1, 2, -3), semi=(6, 9), length=15),
    "cylinder turned": Cylinder(density=2.0, semi=(6, 9), length=15).moved((2, 1, 0), TURN),
    "box": Box(density=1.0, centre=(0, 5, 0), size=(10, 14, 6)),
    "box turned": Box(density=1.0, centre=(0, 5, 0), size=(10, 14, 6)).moved(turn=TURN),
    "cone": Cone(density=1.0, semi=(8, 5), length=16),
    "cone blunt": Cone(density=1.0, semi=(8, 5), length=16, tip=0.4).moved((1, 2, 3), TURN),
    "cone upside down": Cone(density=1.0, semi=(4, 4), length=12, tip=2.0),
    "ellipsoid cut": Ellipsoid(density=1.0, semi=(9, 10, 11), clips=CUTS),
    "cylinder cut and turned": Cylinder(density=1.0, semi=(8, 8), length=18, clips=CUTS).moved((1, 1, 1), TURN),
    "box cut": Box(density=1.0, size=(14, 14, 14), clips=CUTS[:1]),
    "cone cut": Cone(density=1.0, semi=(8, 8), length=16, tip=0.3, clips=CUTS[1:]),
}
VOLUMES = {
    "ball": 4 / 3 * math.pi * 9**3,
    "ellipsoid": 4 / 3 * math.pi * 4 * 12 * 7,
    "ellipsoid turned": 4 / 3 * math.pi * 4 * 12 * 7,
    "cylinder": math.pi * 6 * 9 * 15,
    "cylinder turned": math.pi * 6 * 9 * 15,
    "box": 10 * 14 * 6.0,
    "box turned": 10 * 14 * 6.0,
    "cone": math.pi * 8 * 5 * 16 / 3,
    "cone blunt": math.pi * 8 * 5 * 16 / 3 * (1 + 0.4 + 0.16),
    "cone upside down": math.pi * 16 * 12 / 3 * (1 + 2 + 4),
}
every_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


def random_rays(number: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw lines from far away towards points near the origin; a few run along an axis."""
    rng = torch.Generator().manual_seed(seed)
    target = 8 * torch.randn(number, 3, generator=rng, dtype=torch.float64)
    direction = torch.randn(number, 3, generator=rng, dtype=torch.float64)
    direction[:3] = torch.eye(3, dtype=torch.float64)
    direction = direction / direction.norm(dim=1, keepdim=True)
    return target - 600 * direction, direction * 3.7  # a direction need not have length 1


@every_shape
def test_chord_is_where_points_are_inside(shape: Shape) -> None:
    origin, direction = random_rays(150)
    enter, leave = shape.chords(origin, direction)
    t = torch.linspace(560 / 3.7, 640 / 3.7, 8001, dtype=torch.float64)
    inside = shape.contains(origin[:, None] + t[:, None] * direction[:, None])
    step = float(t[1] - t[0])
    measured = inside.sum(1) * step
    assert float((leave - enter - measured).abs().max()) <= 1.01 * step
    hit = measured > 2 * step
    assert hit.sum() > 25
    assert bool((inside == ((t >= enter[:, None]) & (t <= leave[:, None]) & (leave > enter)[:, None]))[hit].all())


@every_shape
def test_chords_of_the_kernel_are_those_of_the_plain_twin(shape: Shape) -> None:
    geometry = ParallelBeam.circular(5, detector=Detector(shape=(7, 9), pitch=(3, 3)), start=0.2)
    phantom = Phantom(shapes=(shape,)).moved(turn=(0.1, 0.7, 0.2))
    values = phantom.line_integrals(geometry, dtype=torch.float64)
    direction, centre, v, u = geometry.rays().unbind(1)
    rows, columns = torch.arange(7) - 3.0, torch.arange(9) - 4.0
    origin = centre[:, None, None] + rows[:, None, None] * v[:, None, None] + columns[None, :, None] * u[:, None, None]
    enter, leave = phantom.shapes[0].chords(origin, direction[:, None, None])
    assert float((shape.density * (leave - enter) - values).abs().max()) < 1e-11


@every_shape
def test_bounds_hold_the_solid(shape: Shape) -> None:
    points = 25 * (2 * torch.rand(100_000, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64) - 1)
    inside = points[shape.contains(points)] - torch.tensor(shape.centre, dtype=torch.float64)
    assert len(inside) > 400
    assert bool((inside.abs() <= torch.tensor(shape.half_extent, dtype=torch.float64) + 1e-9).all())
    assert float(inside.norm(dim=1).max()) <= shape.radius + 1e-9


@pytest.mark.parametrize("name", VOLUMES)
def test_parallel_projection_has_the_mass_of_the_solid(name: str) -> None:
    shape = SHAPES[name].moved(turn=(0.1, 0.7, 0.2))  # no face along the pixels
    detector = Detector(shape=(160, 160), pitch=(0.3, 0.3))
    views = ParallelBeam.circular(3, detector=detector)
    mass = Phantom(shapes=(shape,)).line_integrals(views, dtype=torch.float64).sum((1, 2)) * 0.3**2
    torch.testing.assert_close(mass, torch.full_like(mass, shape.density * VOLUMES[name]), rtol=1e-3, atol=0)


@every_shape
def test_moved_solid_holds_the_moved_points(shape: Shape) -> None:
    rng = torch.Generator().manual_seed(2)
    points = 20 * (2 * torch.rand(20_000, 3, generator=rng, dtype=torch.float64) - 1)
    shift, turn = torch.tensor([3.0, -1, 2], dtype=torch.float64), torch.tensor([0.3, 1.2, -0.7], dtype=torch.float64)
    there = points @ rotation_matrices(turn).T + shift
    moved = shape.moved(tuple(shift.tolist()), tuple(turn.tolist()))
    assert bool((moved.contains(there) == shape.contains(points)).all())


@every_shape
def test_scaled_solid_holds_the_scaled_points(shape: Shape) -> None:
    points = 20 * (2 * torch.rand(20_000, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64) - 1)
    assert bool((shape.scaled(2.5).contains(2.5 * points) == shape.contains(points)).all())


def test_shapes_compare_hash_and_print() -> None:
    for shape in SHAPES.values():
        assert eval(repr(shape)) == shape  # the printed form is Python
        assert hash(shape) == hash(eval(repr(shape)))


def test_an_endless_cylinder_has_finite_chords_across() -> None:
    rod = Cylinder(density=1.0, semi=(3, 3))
    enter, leave = rod.chords(torch.tensor([7.0, -50, 0]).double(), torch.tensor([0.5, 1, 0]).double())
    assert float((leave - enter) * math.hypot(0.5, 1)) == pytest.approx(6 * math.hypot(0.5, 1))
    assert bool(rod.contains(torch.tensor([1e6, 0, 0.0])))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Ellipsoid(density=1.0, semi=(1, 0, 1)), "semi: expected a finite number above 0"),
        (lambda: Ellipsoid(density=math.nan, semi=(1, 1, 1)), "density: expected a finite number"),
        (lambda: Box(density=1.0, size=(1, 1, -2)), "size: expected"),
        (lambda: Box(density=1.0, size=(1, 1, 1), axes=((1, 0, 0), (0, 1, 0), (0, 1, 1))), "axes: expected"),
        (lambda: Cone(density=1.0, semi=(1, 1), length=2, tip=-1), "tip, length: expected"),
        (lambda: Cone(density=1.0, semi=(1, 1), length=math.inf), "tip, length: expected"),
        (lambda: HalfSpace(normal=(0, 0, 0), offset=1.0), "normal: expected a vector with a direction"),
        (lambda: SHAPES["ball"].scaled(0), "factor: expected"),
    ],
)
def test_impossible_solids_are_refused(make, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make()
