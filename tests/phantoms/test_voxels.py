"""Volumes as objects: units, places, line integrals, and the inverse crime."""

from pathlib import Path

import pytest
import torch

from phantoms import Dose, VolumeObject, attenuation, ball, simulate
from recon import fbp, write_volume
from recon.errors import ConfigError, CTWarning, NumericalError, ShapeError
from recon.geometry import ConeBeam, Detector, ParallelBeam
from recon.grid import VolumeGrid
from recon.io import Volume, read_volume
from recon.units import to_hu

GRID = VolumeGrid(shape=(30, 60, 64), spacing=(4.0, 2.0, 2.0))
CONE = ConeBeam.circular(
    5, detector=Detector(shape=(6, 20), pitch=(10, 8)), source_to_axis=570, source_to_detector=1040
)


def solid_ball(grid: VolumeGrid = GRID) -> VolumeObject:
    """Make a ball of voxels, 40 mm wide on each side."""
    return VolumeObject(values=ball(40).rasterised(grid), grid=grid)


def test_line_integrals_are_those_of_the_solid_as_voxels_shrink() -> None:
    exact = ball(40).line_integrals(CONE, subrays=2)
    errors = []
    for spacing in (6.0, 3.0, 1.5):
        grid = VolumeGrid(shape=(60, 60, 60), spacing=1.5).resampled(spacing)
        errors.append(float((solid_ball(grid).line_integrals(CONE, subrays=2) - exact).abs().mean()))
    assert errors[0] > 2 * errors[1] > 4 * errors[2]
    assert errors[2] < 0.004  # measured 0.0031 of up to 1.5


def test_sub_rays_are_averaged_as_asked() -> None:
    body = solid_ball()
    linear, counted = (body.line_integrals(CONE, subrays=(2, 3), averaging=a) for a in ("log", "exponential"))
    assert bool((counted <= linear + 1e-6).all())
    assert float((linear - counted).max()) > 1e-3
    single = body.line_integrals(CONE)
    torch.testing.assert_close(single, body.line_integrals(CONE, averaging="exponential"))
    assert single.dtype == torch.float32


def test_motion_moves_the_voxels() -> None:
    poses = torch.zeros(5, 6)
    poses[2, 2] = 12.0
    still, moved = solid_ball().line_integrals(CONE), solid_ball().line_integrals(CONE, poses)
    assert torch.equal(still[0], moved[0])
    exact = ball(40).line_integrals(CONE, poses)
    assert float((moved - exact).abs().mean()) < 0.01 < float((moved - still)[2].abs().max())


def test_drawing_interpolates_and_stops_at_the_outer_faces() -> None:
    values = torch.arange(8.0).reshape(1, 2, 4)
    body = VolumeObject(values=values, grid=VolumeGrid(shape=(1, 2, 4), spacing=2.0))
    fine = body.rasterised(VolumeGrid(shape=(1, 4, 8), spacing=1.0), oversampling=1)
    assert fine[0, 1].tolist() == pytest.approx([1.0, 1.25, 1.75, 2.25, 2.75, 3.25, 3.75, 4.0])
    wide = body.rasterised(VolumeGrid(shape=(3, 6, 12), spacing=(2.0, 1.0, 1.0)), oversampling=1)
    assert float(wide[0].max()) == float(wide[2].max()) == float(wide[1, 0].max()) == float(wide[1, :, 1].max()) == 0
    coarse = body.rasterised(VolumeGrid(shape=(1, 1, 2), spacing=4.0), oversampling=2)
    assert coarse.flatten().tolist() == pytest.approx([2.5, 4.5])


def test_the_objects_own_grid_is_warned_about() -> None:
    with pytest.warns(CTWarning, match="tested on its own discretisation"):
        solid_ball().rasterised(GRID)


def test_hounsfield_units_become_attenuation_at_the_energy() -> None:
    hu = torch.tensor([[[-1000.0, -100.0, 0.0, 1000.0]]])
    volume = Volume(values=hu, grid=VolumeGrid(shape=(1, 1, 4), centre=(50, 20, -30)), unit="HU")
    body = VolumeObject.of(volume, energy=60)
    assert body.water == pytest.approx(0.02059)
    assert (body.values / 0.02059).flatten().tolist() == pytest.approx([0, 0.9, 1.0, 1 + 1.935 / 1.559], rel=1e-3)
    assert body.grid.centre == (0, 0, 0)
    assert VolumeObject.of(volume, centred=False).grid.centre == (50, 20, -30)


def test_what_no_material_has_is_repaired_with_a_warning() -> None:
    hu = torch.tensor([[[-2000.0, -1024.0, -1000.0, 40.0]]])
    with pytest.warns(CTWarning, match=r"volume: 2 of 4 values lie below those of nothing, down to -2000 HU"):
        body = VolumeObject.of(Volume(values=hu, grid=VolumeGrid(shape=(1, 1, 4)), unit="HU"))
    assert body.values[0, 0, :3].tolist() == [0, 0, 0]


def test_a_volume_read_from_a_file_is_scanned(tmp_path: Path) -> None:
    hu = to_hu(ball(40).rasterised(GRID))
    write_volume(tmp_path / "body.nii.gz", hu, GRID, unit="HU")
    body = read_volume(tmp_path / "body.nii.gz")
    fan = ParallelBeam.circular(90, detector=Detector(shape=(1, 60), pitch=(1, 2.2)))
    scan = simulate(body, fan, dose=Dose(photons=1e6), seed=1)
    assert scan.calibration.water == attenuation("water", 70)
    image = to_hu(fbp(scan, VolumeGrid(shape=(1, 20, 20), spacing=2.2)), scan.calibration.water)
    assert float(image[0, 6:14, 6:14].mean()) == pytest.approx(0, abs=2)  # measured 0.1


NCAT = {0: "air", 20: "lung", 100: "soft tissue", 190: ("cortical bone", 1.9), 200: ("cortical bone", 1.4)}


def test_labels_stand_for_tissues() -> None:
    labels = Volume(values=torch.tensor([[[0.0, 20, 100, 190, 200]]]), grid=VolumeGrid(shape=(1, 1, 5)))
    body = VolumeObject.labelled(labels, NCAT, energy=80)
    bone = attenuation("cortical bone", 80) / 1.92
    expected = [attenuation("air", 80), attenuation("lung", 80), attenuation("soft tissue", 80), 1.9 * bone, 1.4 * bone]
    assert body.values.flatten().tolist() == pytest.approx(expected)
    assert body.water == attenuation("water", 80)
    with pytest.raises(ConfigError, match=r"tissues: expected one for every label, got none for \[190.0, 200.0\]"):
        VolumeObject.labelled(labels, {0: "air", 20: "lung", 100: "water"})


def test_real_labels_are_scanned(shared_data: Path) -> None:
    grid = VolumeGrid(shape=(1, 256, 256), spacing=1.6)
    labels = read_volume(shared_data / "phantoms" / "xcat" / "ncat_256_slice_140_ct_x100.fld", grid=grid)
    body = VolumeObject.labelled(labels, NCAT)
    scan = simulate(body, ParallelBeam.circular(4, detector=Detector(shape=(1, 200), pitch=(1, 2.1))))
    assert 2 < float(scan.values.max()) < 9


def test_real_slices_are_scanned(shared_data: Path) -> None:
    volume = read_volume(shared_data / "nifti_abdomen" / "example_ct.nii.gz")
    with pytest.warns(CTWarning, match="below those of nothing"):
        body = VolumeObject.of(volume, unit="HU", name="abdomen")
    fan = ParallelBeam.circular(180, detector=Detector(shape=(1, 250), pitch=(1, 2.0)))
    scan = simulate(body, fan)
    grid = VolumeGrid(shape=(1, 110, 130), spacing=2.5)
    image, truth = fbp(scan, grid), body.rasterised(grid)
    inside = truth > 0.01
    assert float((image - truth)[inside].median().abs()) < 2e-5  # 1 HU; measured 0.04
    assert 4 < float(scan.values.max()) < 12


@pytest.mark.parametrize(
    ("ask", "error", "words"),
    [
        (lambda: VolumeObject(values=torch.zeros(2, 2, 2), grid=GRID), ShapeError, "values: expected"),
        (
            lambda: VolumeObject(values=torch.full((1, 1, 1), float("nan")), grid=VolumeGrid(shape=(1, 1, 1))),
            NumericalError,
            "values: expected finite",
        ),
        (
            lambda: VolumeObject.of(Volume(values=torch.zeros(30, 60, 64), grid=GRID)),
            ConfigError,
            'unit: expected "HU" or "1/mm", got a volume that states none; pass unit="HU"',
        ),
        (lambda: solid_ball().line_integrals(CONE, subrays=0), ConfigError, "subrays: expected"),
        (lambda: solid_ball().line_integrals(CONE, averaging="mean"), ConfigError, "averaging: expected one of"),
    ],
)
def test_impossible_requests_are_refused(ask, error, words: str) -> None:
    with pytest.raises(error, match=words):
        ask()
