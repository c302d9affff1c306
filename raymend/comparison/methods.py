"""Methods by name: how each makes an image of a trial, what it needs, how it is tuned and where it is from."""

import hashlib
import inspect
import math
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Literal

import torch
from torch import Tensor

from raymend.comparison.named import check_each_once
from raymend.comparison.trial import Trial
from raymend.nearest import nearest
from raymend.reconstruction import ALGEBRAIC, ITERATIONS, PENALISED, RESTORING, Settings, check_method, run
from recon import to_hu
from recon.errors import ConfigError, NumericalError, ShapeError
from restoration.denoisers import DENOISERS, Denoiser, denoiser
from restoration.plug_in import load_plug_in, plug_in

#: How the settings of a method are chosen: it has none, it chooses on each scan without the truth, or on tuning cases.
Tuning = Literal["none", "self", "strength"]

_PRIORS: Final = ("nlm", "tv", "unet")  # denoisers that are offered as priors
_WEAKEST, _STRONGEST = 0.25, 8.0  # factors on the default strength between which settings are tried
_WIDEST = 4.0  # factor between two of them


@dataclass(frozen=True, kw_only=True)
class Method:
    """A way from a trial to an image.

    Args:
        name: as on the command line.
        label: in words.
        source: the paper.
        needs: "projections", or "image" for what works on any image.
        tuning: how its settings are chosen.
        make: returns the image in HU (z, y, x) of a trial at a strength.
        missing: says why it cannot run here, or nothing.
        identity: what else its images depend on, such as the checksum of weights.
        trained: the patients that it has seen in training, in the words of `Case.patients`, by a test of a name.
        note: what a reader of its numbers should know.
        word: what makes it again in another process, or nothing.
    """

    name: str
    label: str
    source: str
    needs: Literal["projections", "image"]
    tuning: Tuning
    make: Callable[[Trial, float], Tensor]
    missing: Callable[[], str] = lambda: ""
    identity: Mapping[str, Any] = field(default_factory=dict)
    trained: Callable[[str], bool] = lambda patient: False
    note: str = ""
    word: str = ""

    def image(self, trial: Trial, strength: float = 1.0) -> Tensor:
        """Return the image of a trial, or say what is wrong with it.

        Raises:
            ConfigError: it cannot run here, or not on what the trial offers.
            ShapeError: an image of another shape.
            NumericalError: NaN or Inf.
        """
        why = self.missing()
        if why:
            raise ConfigError(why)
        if self.needs == "projections" and trial.scan is None:
            raise ConfigError("needs projections, and this case is an image alone")
        image = self.make(trial, strength)
        if not isinstance(image, Tensor) or tuple(image.shape) != trial.grid.shape:
            got = tuple(image.shape) if isinstance(image, Tensor) else type(image).__name__
            raise ShapeError(f"expected an image (z, y, x) = {trial.grid.shape}, got {got}")
        if not bool(torch.isfinite(image).all()):
            raise NumericalError("expected finite values, got NaN or Inf in the image")
        return image.detach().float()


def candidates(budget: int) -> tuple[float, ...]:
    """Return the strengths that are tried: 1, and others on both sides of it, even in their logarithms."""
    ratio = min(_WIDEST, (_STRONGEST / _WEAKEST) ** (1 / max(1, budget - 1)))
    weaker = round((budget - 1) * math.log(1 / _WEAKEST) / math.log(_STRONGEST / _WEAKEST))
    return tuple(ratio ** (k - weaker) for k in range(budget))


def methods() -> dict[str, Method]:
    """Return every method that raymend knows, by name."""
    found = [*_analytic(), *_algebraic(), *_penalised(), *_restoring(), *_denoising(), *_plugged(), _self_taught()]
    return {method.name: replace(method, word=method.name) for method in found}


def methods_of(things: Iterable[Any]) -> tuple[Method, ...]:
    """Return methods: each is one already, a name, a denoiser, a function, or "file.py:function" for one in a file.

    Raises:
        ConfigError: no method, an unknown one, or one named twice.
    """
    found = tuple(_method(thing) for thing in ([things] if isinstance(things, str) or callable(things) else things))
    check_each_once("methods", [method.name for method in found])
    return found


def _method(thing: Any) -> Method:
    if isinstance(thing, Method):
        return thing
    if isinstance(thing, str):
        return _named(thing)
    if callable(thing):
        return of_denoiser(thing if hasattr(thing, "missing") else plug_in(thing))
    raise ConfigError(f"methods: expected names, denoisers or functions, got {type(thing).__name__}")


def _named(name: str) -> Method:
    known = methods()
    if name in known:
        return known[name]
    if ":" in name:
        return replace(of_denoiser(load_plug_in(name)), word=name, identity={"code": _text_of(name)})
    near = nearest(name, known)
    hint = f"did you mean {near}?" if near else f"they are {', '.join(known)}"
    raise ConfigError(
        f"methods: expected names that `raymend methods` lists, or file.py:function, got {name!r}; {hint}"
    )


def of_denoiser(one: Denoiser) -> Method:
    """Return the method that denoises the image by FBP or FDK, or the image that is given."""
    return Method(
        name=one.name, label=one.label, source=one.source, needs="image", tuning="strength",
        make=lambda trial, strength: one(trial.image, strength=strength), missing=one.missing,
        identity=_identity(one),
        trained=getattr(one, "trained_on", lambda patient: False), note=getattr(one, "note", ""),
    )  # fmt: skip


def _identity(one: Denoiser) -> dict[str, Any]:
    """Return what a denoiser's images depend on: the checksum of its weights, or the text of a user's function."""
    function = getattr(one, "function", None)
    return dict(getattr(one, "identity", {})) if function is None else {"code": _code_of(function)}


def _text_of(place: str) -> str:
    """Return the checksum of the file that "file.py:function" or "package.module:function" names."""
    where = Path(place.rpartition(":")[0])
    if not where.is_file():
        found = find_spec(str(where))
        where = Path("" if found is None or found.origin is None else found.origin)
    return hashlib.sha256(where.read_bytes()).hexdigest()


def _code_of(function: Callable[..., Any]) -> str:
    """Return the text of the file that a function is from, or something new each time where it may hold more."""
    bound = [getattr(function, name, None) for name in ("__closure__", "__self__", "__dict__", "func")]
    try:
        file = inspect.getsourcefile(function)
    except TypeError:
        file = None
    if any(bound) or file is None or not Path(file).is_file():
        return secrets.token_hex()  # its cells are not used again: nobody can tell whether it is the same
    return hashlib.sha256(Path(file).read_bytes()).hexdigest() + function.__qualname__


def _analytic() -> list[Method]:
    ramp = Method(
        name="fbp", label="FBP or FDK, ramp filter", tuning="none", needs="image",
        source="Feldkamp, Davis and Kress 1984, JOSA A 1(6): 612-619",
        make=lambda trial, strength: trial.image,
    )  # fmt: skip
    hann = Method(
        name="fbp-hann", label="FBP or FDK, Hann window and others", tuning="strength", needs="projections",
        source="Kak and Slaney 1988, section 3.3", make=_windowed,
    )  # fmt: skip
    return [ramp, hann]


def _windowed(trial: Trial, strength: float) -> Tensor:
    """Return FBP with the Hann window at strength 1, cut off at lower frequencies above, and milder windows below."""
    window = "hann" if strength > 0.7 else "cosine" if strength > 0.35 else "shepp-logan"
    cutoff = 1 / math.sqrt(max(1.0, strength))
    return _reconstructed(trial, Settings(method=_plain(trial), window=window, cutoff=cutoff, limited_angle=True))


def _plain(trial: Trial) -> str:
    assert trial.scan is not None  # `Method.image` asks for it
    return "fbp" if trial.scan.geometry.detector.shape[0] == 1 or trial.scan.geometry.parallel else "fdk"


def _algebraic() -> list[Method]:
    sources = {
        "cgls": "Hestenes and Stiefel 1952, J. Res. NBS 49(6): 409-436",
        "sirt": "Gilbert 1972, J. Theor. Biol. 36(1): 105-117",
        "os-sart": "Wang and Jiang 2004, J. X-ray Sci. Technol. 12(3): 169-177",
    }
    return [
        Method(
            name=name, label=f"{name.upper()}, stopped early", source=sources[name], needs="projections",
            tuning="strength", make=partial(_stopped, name),
        )
        for name in ALGEBRAIC
    ]  # fmt: skip


def _stopped(name: str, trial: Trial, strength: float) -> Tensor:
    """Return the image after fewer iterations the stronger the smoothing should be."""
    return _reconstructed(trial, Settings(method=name, iterations=max(1, round(ITERATIONS[name] / strength))))


def _penalised() -> list[Method]:
    source = "Thibault et al. 2007, Med. Phys. 34(11): 4526-4544; priors: see recon.iterative.priors"
    return [
        Method(
            name=name, label=f"PWLS on the image, {prior}", source=source, needs="projections", tuning="strength",
            make=partial(_smoothed, name),
        )
        for name, prior in PENALISED.items() if name != "pwls"
    ]  # fmt: skip


def _smoothed(name: str, trial: Trial, strength: float) -> Tensor:
    return _reconstructed(trial, Settings(method=name, strength=strength))


def _restoring() -> list[Method]:
    source = "Zeng et al. 2015, IEEE TNS 62(5); choice by SURE: Ramani et al. 2008, IEEE TIP 17(9): 1540-1554"
    labels = {"gibbs": "Gibbs", "tv": "TV", "spad": "sub-pixel diffusion", "auto": "best of three"}
    return [
        Method(
            name=name, label=f"PWLS on the projections, {labels[kind]}, then FBP", source=source, needs="projections",
            tuning="self", make=partial(_restored, name),
        )
        for name, kind in RESTORING.items()
    ]  # fmt: skip


def _restored(name: str, trial: Trial, strength: float) -> Tensor:
    return _reconstructed(trial, Settings(method=name, strength=strength, limited_angle=True))


def _reconstructed(trial: Trial, settings: Settings) -> Tensor:
    assert trial.scan is not None  # `Method.image` asks for it
    check_method(settings.method, trial.scan.geometry)
    image, _ = run(trial.scan, trial.grid, settings)
    return to_hu(image, trial.water)


def _denoising() -> list[Method]:
    return [of_denoiser(make()) for make in DENOISERS.values()]


def _plugged() -> list[Method]:
    """Return the denoisers as priors."""
    source = "Zhang et al. 2021, IEEE TPAMI 44(10): 6360-6376; the prior: "
    found = [(name, denoiser(name)) for name in _PRIORS]
    return [
        Method(
            name=f"pnp-{name}", label=f"plug-and-play PWLS, {one.label}", source=source + one.source,
            needs="projections", tuning="strength", make=partial(_with_prior, one), missing=one.missing,
            identity=_identity(one), trained=getattr(one, "trained_on", lambda patient: False),
            note=getattr(one, "note", ""),
        )
        for name, one in found
    ]  # fmt: skip


def _with_prior(prior: Denoiser, trial: Trial, strength: float) -> Tensor:
    from restoration.denoisers.plug_and_play import plug_and_play

    assert trial.scan is not None  # `Method.image` asks for it
    solution = plug_and_play(trial.scan, trial.grid, prior, strength=strength)
    if not solution.status.ok:
        raise NumericalError(solution.advice)
    return to_hu(solution.image, trial.water)


def _self_taught() -> Method:
    return Method(
        name="noise2inverse", label="Noise2Inverse, trained on each scan", needs="projections", tuning="none",
        source="Hendriksen, Pelt and Batenburg 2020, IEEE TCI 6: 1320-1335", make=_taught,
    )  # fmt: skip


def _taught(trial: Trial, strength: float) -> Tensor:
    from restoration.denoisers.noise2inverse import noise2inverse

    assert trial.scan is not None  # `Method.image` asks for it
    return to_hu(noise2inverse(trial.scan, trial.grid, seed=trial.seed), trial.water)
