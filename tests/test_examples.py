"""The scripts in docs/examples find what they promise."""

import importlib.util
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[1]


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_detector_is_aligned_by_an_unknown_object() -> None:
    script = example("align_detector")
    shift, tilt = script.align(size=24)
    assert abs(shift - script.TRUE[0]) < 0.02  # 0.007 measured
    assert abs(tilt - script.TRUE[1]) < 0.4  # 0.27 measured: 0.9 degrees are a fifth of a column at the outer rows
