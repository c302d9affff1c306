"""A user's own denoiser: any function of a slice, from Python or from a file named on the command line."""

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from recon.errors import ConfigError
from restoration.denoisers.denoiser import Denoiser, Plane, Slicewise

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class PlugIn(Slicewise):
    """A denoiser made of a function; see `plug_in`."""

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        self.name, self.label, self.source = name, name, "the user's own"
        self._function, self._told = function, _takes_noise(function, name)

    def _plane(self, plane: Plane, noise: float | None, strength: float) -> Any:
        if self._told:
            return super()._plane(plane, noise, strength)
        changed = self._checked(self._called(plane), torch.from_numpy(plane)).numpy()
        return plane + strength * (changed - plane)

    def _denoised(self, plane: Plane, noise: float) -> Any:
        return self._called(plane, noise)

    def _called(self, plane: Plane, *more: float) -> Any:
        try:
            return self._function(plane.copy(), *more)
        except Exception as error:
            raise ConfigError(
                f"{self.name}: expected a denoised slice of {plane.shape}, but the function raised "
                f"{type(error).__name__}: {error}; call it with one slice to see where"
            ) from error


def plug_in(function: Callable[..., Any], name: str | None = None) -> Denoiser:
    """Make a denoiser of a function of one slice.

    For example, with the package bm3d, whose licence allows no commercial use and which raymend does not install:
    `plug_in(lambda image, noise: bm3d.bm3d(image, noise), name="bm3d")`.

    Args:
        function: called with a slice in HU as a float32 array (y, x), and with the standard deviation of its noise in
            HU if it takes two arguments. It returns the denoised slice, as an array or a tensor. Without the noise,
            strength is how much of what it changes is changed.
        name: as on the command line; None for the function's own.

    Raises:
        ConfigError: not a function, or one that needs no or more than two arguments.
    """
    own = getattr(function, "__name__", type(function).__name__)
    named = ("plug-in" if own == "<lambda>" else own) if name is None else name
    return PlugIn(function, named)


def load_plug_in(place: str) -> Denoiser:
    """Make a denoiser of a function in a Python file or module, which is run.

    Args:
        place: "path/to/file.py:function" or "package.module:function".

    Raises:
        ConfigError: a place of another form, a file, module or function that is missing, or a file that raises.
    """
    where, colon, name = place.rpartition(":")
    if not (colon and where and name):
        raise ConfigError(f"plug-in: expected path/to/file.py:function or package.module:function, got {place!r}")
    module = _module(where, place)
    found = getattr(module, name, None)
    if found is None:
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise ConfigError(
            f"plug-in: expected a function {name!r} in {where}, got {', '.join(known) or 'no function'}; check the name"
        )
    return plug_in(found, name)


def _module(where: str, place: str) -> ModuleType:
    """Run a file or import a module."""
    path = Path(where)
    if path.suffix != ".py" and "/" not in where:
        imported: ModuleType = _run(lambda: importlib.import_module(where), place)
        return imported
    if not path.is_file():
        raise ConfigError(f"plug-in: expected a Python file at {where}, got none; check the path in {place!r}")
    spec = importlib.util.spec_from_file_location(f"plug_in_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"plug-in: expected a file that ends in .py, got {where}; rename it")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickles in it look there
    loader = spec.loader
    _run(lambda: loader.exec_module(module), place)
    return module


def _run(action: Callable[[], Any], place: str) -> Any:
    try:
        return action()
    except Exception as error:
        raise ConfigError(
            f"plug-in: expected Python code that can be imported at {place!r}, got {type(error).__name__}: {error}"
        ) from error


def _takes_noise(function: Callable[..., Any], name: str) -> bool:
    """Tell whether a function takes the noise next to the slice."""
    if not callable(function):
        raise ConfigError(f"{name}: expected a function of a slice, got {type(function).__name__}")
    try:
        known = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # compiled functions may not tell
        return False
    places = [parameter for parameter in known if parameter.kind in _POSITIONAL]
    needed = [parameter for parameter in places if parameter.default is parameter.empty]
    forced = [p for p in known if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    spread = any(parameter.kind is parameter.VAR_POSITIONAL for parameter in known)
    if len(needed) > 2 or forced or not (places or spread):
        raise ConfigError(
            f"{name}: expected a function f(image) or f(image, noise), got {inspect.signature(function)}; wrap it"
        )
    return len(needed) == 2 or (len(places) > 1 and places[1].name in ("noise", "sigma"))
