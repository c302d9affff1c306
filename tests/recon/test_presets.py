"""Named scanners have the numbers of the papers they come from."""

import math

import pytest
import torch

from recon.errors import ConfigError
from recon.geometry import PRESETS, preset
from recon.operators import Projector

# source to axis, source to detector, detector shape, u pitch, views, arc in degrees, grid shape, spacing (x); mm.
PUBLISHED = {
    "somatom16": (570, 1040, (1, 672), 1.407, 1160, 360, (1, 512, 512), 0.9766),
    "mirt_demo": (746.02, 1361.2, (1, 672), 1.85, 1160, 360, (1, 512, 512), 350 / 512),
    "hyperfed1": (595, 1085.6, (1, 368), 2.5716, 512, 360, (1, 256, 256), 1.33),
    "hyperfed2": (450, 800, (1, 315), 3.0, 512, 360, (1, 256, 256), 1.40),
    "hyperfed3": (400, 700, (1, 330), 2.6, 384, 360, (1, 256, 256), 1.39),
    "hyperfed4": (400, 750, (1, 350), 2.2, 400, 360, (1, 256, 256), 1.20),
    "hyperfed5": (500, 800, (1, 350), 2.5, 384, 360, (1, 256, 256), 1.40),
    "svct_fan": (1075, 2150, (1, 672), 1.0, 720, 360, (1, 256, 256), 1.0),
    "head_fan": (785, 1200, (1, 700), 0.64, 360, 360, (1, 256, 256), 1.0),
    "cbct_norm": (500, 700, (512, 512), 400 / 512, 75, 360, (256, 256, 256), 200 / 256),
    "cbct_luna": (800, 1200, (256, 256), 2.4, 50, 180, (256, 256, 256), 1.6),
    "cbct_linac": (1000, 1500, (384, 512), 0.776, 360, 360, (256, 256, 256), 1.0),
    "cbct_dental": (420, 640, (512, 512), 0.4, 360, 360, (256, 384, 384), 0.4),
}


def test_every_preset_is_listed_here() -> None:
    assert set(PRESETS) == set(PUBLISHED)


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_numbers_are_the_published_ones(name: str) -> None:
    axis, panel, shape, pitch, views, arc, grid, spacing = PUBLISHED[name]
    found = preset(name)
    assert (found.geometry.source_to_axis, found.geometry.source_to_detector) == (axis, panel)
    assert (found.geometry.detector.shape, found.geometry.detector.pitch[1]) == (shape, pitch)
    assert found.geometry.detector.curve == ("arc" if name == "somatom16" else "flat")
    assert len(found.geometry) == views
    assert found.geometry.angles[1] * views == pytest.approx(math.radians(arc))
    assert (found.grid.shape, found.grid.spacing[2]) == (grid, spacing)
    assert found.name == name
    assert found.source


def test_the_field_of_view_of_somatom16_is_250_mm() -> None:
    geometry = preset("somatom16").geometry
    edge = 336 * 1.407 / 1040
    assert geometry.source_to_axis * math.sin(edge) == pytest.approx(250, abs=0.5)
    assert float(geometry.fan_angles().max()) == pytest.approx(edge, rel=2e-3)


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_another_number_of_views_covers_the_same_arc(name: str) -> None:
    found = preset(name)
    assert found.with_views(None) is found
    few = found.with_views(10).geometry
    assert len(few) == 10
    assert few.angles[5] == pytest.approx(math.radians(PUBLISHED[name][5]) / 2)
    assert (few.detector, few.source_to_axis) == (found.geometry.detector, found.geometry.source_to_axis)


def test_no_preset_has_its_source_inside_the_grid() -> None:
    for name in PRESETS:
        found = preset(name)
        _, y, x = found.grid.extent
        assert math.hypot(y, x) / 2 < found.geometry.source_to_axis


def test_an_unknown_preset_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"preset: expected one of cbct_dental, .*svct_fan, got 'somatom'"):
        preset("somatom")


def test_a_preset_projects() -> None:
    small = preset("hyperfed4").with_views(2)
    values = Projector(grid=small.grid, geometry=small.geometry) @ torch.full(small.grid.shape, 0.01)
    assert float(values.max()) == pytest.approx(0.01 * 256 * 1.2 * math.sqrt(2), rel=0.3)
