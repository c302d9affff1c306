"""A user's own denoiser: what is taken, and what is said about the rest."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recon.errors import ConfigError, NumericalError, ShapeError
from restoration.plug_in import load_plug_in, plug_in

IMAGE = torch.linspace(-1000, 1000, 48).reshape(6, 8)


def halved(image: np.ndarray) -> np.ndarray:
    return image / 2


def less(image: np.ndarray, noise: float) -> np.ndarray:
    return image - noise


def test_a_function_of_the_slice() -> None:
    own = plug_in(halved)
    assert (own.name, own.missing()) == ("halved", "")
    torch.testing.assert_close(own(IMAGE), IMAGE / 2)
    torch.testing.assert_close(own(IMAGE, strength=0.5), 0.75 * IMAGE)


def test_a_function_of_slice_and_noise() -> None:
    own = plug_in(less, name="mine")
    assert own.name == "mine"
    torch.testing.assert_close(own(IMAGE, noise=10.0), IMAGE - 10)
    torch.testing.assert_close(own(IMAGE, noise=10.0, strength=2), IMAGE - 20)
    assert plug_in(lambda image, sigma: image).name == "plug-in"


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (lambda image, noise=5.0: image - noise, True),
        (lambda image, size=3: image - size, False),
        (lambda *arguments: arguments[0] - len(arguments), False),
        (np.abs, False),
    ],
    ids=["noise by default", "another setting", "any", "compiled"],
)
def test_the_noise_is_given_to_those_who_take_it(function: Callable[..., Any], told: bool) -> None:
    first, second = (plug_in(function)(IMAGE, noise=noise) for noise in (10.0, 30.0))
    assert bool((first != second).any()) is told


def test_functions_get_a_float32_array_of_their_own() -> None:
    def own(image: np.ndarray, noise: float) -> np.ndarray:
        assert (image.dtype, image.shape, type(noise)) == (np.float32, (6, 8), float)
        image[:] = 7
        return image

    image = IMAGE.expand(2, 6, 8).clone()
    assert bool((plug_in(own)(image, noise=1.0) == 7).all())
    assert torch.equal(image[1], IMAGE)


@pytest.mark.parametrize(
    "result",
    [IMAGE / 2, IMAGE.double() / 2, (IMAGE / 2).requires_grad_(), (IMAGE / 2).tolist(), (IMAGE / 2).double().numpy()],
    ids=["tensor", "double", "with a gradient", "list", "array"],
)
def test_results_are_taken_as_arrays_and_tensors(result: Any) -> None:
    found = plug_in(lambda image: result)(IMAGE)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, IMAGE / 2)


@pytest.mark.parametrize(
    ("result", "error", "message"),
    [
        (IMAGE[:4], ShapeError, r"mine: expected a result of \(y, x\) = \(6, 8\), got \(4, 8\)"),
        (None, ConfigError, r"mine: expected a result of numbers, got NoneType"),
        ("no", ConfigError, "mine: expected a result of numbers, got str"),
        (IMAGE * float("nan"), NumericalError, "mine: expected a finite result, got 48 of 48 NaN or Inf"),
        (IMAGE.numpy() * 1j, ShapeError, "mine: expected .* of complex numbers"),
    ],
    ids=["shape", "nothing", "text", "NaN", "complex"],
)
def test_wrong_results_are_refused(result: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        plug_in(lambda image, noise: result, name="mine")(IMAGE, noise=3.0)
    with pytest.raises(error, match=message):
        plug_in(lambda image: result, name="mine")(IMAGE)


def test_what_a_function_raises_is_said() -> None:
    def broken(image: np.ndarray) -> np.ndarray:
        raise ValueError("bad luck")

    with pytest.raises(ConfigError, match=r"broken: expected .* the function raised ValueError: bad luck") as caught:
        plug_in(broken)(IMAGE)
    assert isinstance(caught.value.__cause__, ValueError)


@pytest.mark.parametrize(
    "function",
    [lambda: 1, lambda a, b, c: a, lambda image, *, noise: image],
    ids=["none", "three", "by keyword"],
)
def test_other_parameters_are_refused(function: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError, match=r"mine: expected a function f\(image\) or f\(image, noise\), got \("):
        plug_in(function, name="mine")
    with pytest.raises(ConfigError, match="expected a function of a slice, got float"):
        plug_in(3.0)  # type: ignore[arg-type]


def test_a_function_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "own denoiser.py"
    file.write_text(
        "HALF = 0.5\n\ndef smooth(image):\n    return HALF * image\n\ndef third(image):\n    return image / 3\n"
    )
    own = load_plug_in(f"{file}:smooth")
    assert own.name == "smooth"
    torch.testing.assert_close(own(IMAGE), IMAGE / 2)
    with pytest.raises(ConfigError, match=r"expected a function 'sixth' in .*denoiser.py, got smooth, third"):
        load_plug_in(f"{file}:sixth")
    with pytest.raises(ConfigError, match="expected a function of a slice, got float"):
        load_plug_in(f"{file}:HALF")


def test_a_function_in_a_module() -> None:
    own = load_plug_in("scipy.ndimage:median_filter")
    assert own.name == "median_filter"
    with pytest.raises(ConfigError, match=r"at 'no_such_module:x', got ModuleNotFoundError"):
        load_plug_in("no_such_module:x")


def test_missing_and_broken_files_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"expected a Python file at .*none.py, got none"):
        load_plug_in(f"{tmp_path}/none.py:smooth")
    broken = tmp_path / "broken.py"
    broken.write_text("import\n")
    with pytest.raises(ConfigError, match="got SyntaxError"):
        load_plug_in(f"{broken}:smooth")
    for place in ("smooth", ":smooth", "file.py:", ""):
        with pytest.raises(ConfigError, match=r"expected path/to/file.py:function or package.module:function, got"):
            load_plug_in(place)
    text = tmp_path / "code.txt"
    text.write_text("def smooth(image): return image\n")
    with pytest.raises(ConfigError, match=r"ends in \.py"):
        load_plug_in(f"{text}:smooth")
