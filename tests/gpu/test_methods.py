"""Gradients, FBP, FDK and iterations: on a GPU as on the CPU."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from recon import ConeBeam, Detector, ParallelBeam, Scan, VolumeGrid, cgls, fbp, fdk, kernels, os_sart, sirt
from recon.kernels.maps import maps
from tests.contracts.geometries import CASES, MOVED, Case
from tests.contracts.operators import draw
from tests.gpu.on_device import close, everywhere, on_gpu

BOX = VolumeGrid(shape=(9, 18, 17), spacing=(1.5, 1.1, 1.2), centre=(0.4, 0.5, -1.0))
SLICE = replace(BOX, shape=(1, 18, 17), centre=(0.0, 0.5, -1.0))
CONE = ConeBeam.circular(24, detector=Detector(shape=(16, 30)), source_to_axis=80, source_to_detector=110)
BEAMS = {
    "parallel": (ParallelBeam.circular(24, detector=Detector(shape=(12, 30))), BOX),
    "fan, arc": (
        ConeBeam.circular(24, detector=Detector(shape=(1, 30), curve="arc"), source_to_axis=80, source_to_detector=110),
        SLICE,
    ),
    "cone": (CONE, BOX),
    "cone, arc": (replace(CONE, detector=Detector(shape=(16, 30), curve="arc")), BOX),
    "half-fan": (replace(CONE, detector=Detector(shape=(16, 30), offset=(1.5, 9.0))), BOX),
}
pytestmark = pytest.mark.filterwarnings("ignore::recon.CTWarning")


def named(name: str) -> Case:
    return next(case for case in CASES if case.name == name)


@everywhere
def test_gradient_is_the_adjoint(device: torch.device) -> None:
    a = named("fan, flat").projector()
    x = draw(*a.domain_shape, dtype=torch.float32).to(device).requires_grad_()
    y = draw(*a.range_shape, dtype=torch.float32, seed=1).to(device)
    (gradient,) = torch.autograd.grad((a @ x * y).sum(), x)
    assert gradient.device.type == device.type
    assert torch.equal(gradient, a.T @ y)
    (twice,) = torch.autograd.grad(((a @ x) ** 2).sum() / 2, x)
    close(twice, a.T @ (a @ x), 1e-6)


@on_gpu
@pytest.mark.parametrize("case", MOVED, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_to_the_geometry_are_those_of_the_cpu(device: torch.device, case: Case, dtype: torch.dtype) -> None:
    gradients_agree(case, device, dtype, 2e-5 if dtype == torch.float32 else 1e-10)


@pytest.mark.parametrize("device", ["interpreter"], indirect=True)
def test_gradients_to_the_geometry_of_the_interpreter(device: torch.device) -> None:
    gradients_agree(named("cone, flat, moved"), device, torch.float32, 2e-5)


def gradients_agree(case: Case, device: torch.device, dtype: torch.dtype, share: float) -> None:
    from recon.kernels import cpu

    rays = case.projector().lines
    places = maps(case.geometry, case.grid, unit=30.0, poses=case.poses)
    x, y = draw(2, *case.grid.shape, dtype=dtype), draw(2, *case.geometry.shape, dtype=dtype)
    found = kernels.find("ray_gradient", x.to(device))(rays, x.to(device), y.to(device))
    close(found, cpu.ray_gradient(rays, x, y), share)
    found = kernels.find("map_gradient", y.to(device))(places, y.to(device), x.to(device))
    close(found, cpu.map_gradient(places, y, x), share)


@on_gpu
@pytest.mark.parametrize("name", ["fan, flat, moved", "cone, flat, moved", "helix, arc, moved", "free, tilted, moved"])
def test_gradient_to_poses_reaches_them_on_the_cpu(device: torch.device, name: str) -> None:
    case = named(name)
    x, y = (draw(*shape, dtype=torch.float32) for shape in (case.grid.shape, case.geometry.shape))
    gradients: list[Tensor] = []
    for place in (torch.device("cpu"), device):
        poses = case.poses.clone().requires_grad_()
        a = replace(case, poses=poses).projector()
        ((a @ x.to(place) * y.to(place)).sum() + (a.T @ y.to(place) * x.to(place)).sum()).backward()
        gradients.append(poses.grad)
    close(gradients[1], gradients[0], 2e-5)


@on_gpu
@pytest.mark.parametrize("name", BEAMS)
def test_filtered_backprojection_is_that_of_the_cpu(
    device: torch.device, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    images_agree(name, device, monkeypatch)


@pytest.mark.parametrize("device", ["interpreter"], indirect=True)
def test_filtered_backprojection_of_the_interpreter(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    images_agree("cone", device, monkeypatch)


def images_agree(name: str, device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    geometry, grid = BEAMS[name]
    scan = Scan(geometry=geometry, values=torch.rand(geometry.shape, generator=torch.Generator().manual_seed(4)))
    method = fbp if geometry.parallel or geometry.detector.shape[0] == 1 else fdk
    image = method(scan.to(device), grid)
    assert image.device.type == device.type
    half = method(scan.to(device), grid, precision="half")
    with monkeypatch.context() as patch:
        patch.setattr(kernels, "find", _own)
        expected = method(scan, grid)
    close(image, expected, 1e-5)
    close(half, expected, 2e-3)


def _own(operation: str, tensor: Tensor, precision: str = "single") -> object:
    from recon.kernels import cpu

    return getattr(cpu, operation)


@on_gpu
@pytest.mark.parametrize("name", ["fan, arc", "cone"])
def test_iterations_are_those_of_the_cpu(device: torch.device, name: str) -> None:
    geometry, grid = BEAMS[name]
    scan = Scan(geometry=geometry, values=torch.rand(geometry.shape, generator=torch.Generator().manual_seed(4)))
    for method in (sirt, cgls, os_sart):
        there = method(scan.to(device), grid, iterations=4).image
        assert there.device.type == device.type
        close(there, method(scan, grid, iterations=4).image, 1e-4)
