"""Metrics that ask for draws of noise or for inserts: noise and its texture, bias, sharpness, detection of discs."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import torch
from torch import Tensor

from raymend.comparison.cases import Prepared
from raymend.comparison.inserts import Discs, Site, flat_sites, squares
from raymend.comparison.outcome import Measure
from raymend.comparison.setup import Setup
from raymend.comparison.trial import Trial
from recon.errors import CTError, NumericalError
from recon.metrics import edge_transfer, hotelling, laguerre_gauss, noise_power

#: Metrics by name; what they rest on is told by `protocol`.
TASK_MEASURES: Final[dict[str, Measure]] = {
    measure.name: measure
    for measure in (
        Measure(name="noise", label="Noise", unit="HU", better="lower", protocol=""),
        Measure(name="bias", label="Bias", unit="HU", better="lower", protocol=""),
        Measure(name="noise-frequency", label="Noise frequency", unit="1/mm", better="higher", protocol=""),
        Measure(name="ttf50", label="TTF 50 %", unit="1/mm", better="higher", protocol=""),
        Measure(name="cnr", label="CNR", unit="", better="higher", protocol=""),
        Measure(name="detectability", label="Detectability", unit="", better="higher", protocol=""),
    )
}

_SHARP: Final = ((10, 8), (8, 6), (6, 4))  # radius and half width of the edge's profile in pixels, by preference
_SHARP_COUNT, _SHARP_LEAST = 6, 3  # discs, and fewest before smaller ones are taken
_FAINT, _FAINT_REACH, _FAINT_COUNT = 4, 8, 60  # pixels, pixels, squares of which half get a disc
_CNR_COUNT: Final = 8  # discs
_WIDTH, _CHANNELS = 1.5, 5  # radii, at which channels hold 98.4 % of a sharp disc, 99.9 % of one blurred by 1 pixel
_NPS_REACH: Final = (16, 12, 8)  # pixels, by preference; the lowest frequency seen is 1 / 33, 1 / 25 or 1 / 17 pixels
_NPS_COUNT, _NPS_LEAST = 8, 2  # squares, and fewest before smaller ones are taken


def protocol(name: str, setup: Setup) -> str:
    """Say what a metric rests on."""
    draws = f"{setup.draws} draws of noise"
    first, *smaller = (str(2 * reach + 1) for reach in _NPS_REACH)
    faint = f"discs of {setup.faint:g} HU and {_FAINT} pixels radius"
    return {
        "noise": f"deviation of voxels between {draws}; of measured scans, of the noise that is added",
        "bias": f"RMS of the mean over {draws} minus the reference, less the noise left in that mean",
        "noise-frequency": (
            f"mean frequency of the radial NPS of what differs between {draws}, in up to {_NPS_COUNT} flat squares in "
            f"tissue of the middle slice, of {first} pixels ({' or '.join(smaller)} where there is less room)"
        ),
        "ttf50": (
            f"frequency at which the edge of added discs of {setup.contrast:g} HU keeps half of that contrast, 0 "
            f"where nothing does: up to {_SHARP_COUNT} in flat tissue of the middle slice, radius {_SHARP[0][0]} "
            f"pixels ({_SHARP[1][0]} or {_SHARP[2][0]} where there is less room), images with and without them at the "
            "same noise"
        ),
        "cnr": (
            f"contrast of up to {_CNR_COUNT} added {faint} over the noise there between {draws}; of a single one, "
            "over what a quadratic leaves of each square"
        ),
        "detectability": (
            f"d' of added {faint} in noise between {draws}, by a Hotelling observer with {_CHANNELS} Laguerre-Gauss "
            f"channels of width {_WIDTH * _FAINT:g} pixels, up to {_FAINT_COUNT // 2} squares with a disc and as many "
            "without"
        ),
    }[name]


def measure(
    names: Iterable[str],
    image: Callable[[Trial], Tensor],
    prepared: Prepared,
    trials: Sequence[Trial],
    images: Sequence[Tensor],
    setup: Setup,
) -> dict[str, tuple[float, ...]]:
    """Return the numbers of one method on one case.

    Args:
        names: metrics out of `TASK_MEASURES`.
        image: runs the method.
        prepared: the case.
        trials: its draws of noise.
        images: those of the method, one per draw, in HU (z, y, x).
        setup: the conditions.

    Returns:
        Per metric a value per draw, a single value where draws have none of their own, or nothing where it is not
        defined: noise and what rests on it with one draw, contrast to noise without noise, sharpness beyond what
        pixels hold, all that asks for a place in objects without room for it.
    """
    stack = torch.stack([each.double() for each in images])
    method = _Answers(image=image, prepared=prepared, trials=tuple(trials), images=stack, setup=setup)
    return {name: _FOUND[name](method) for name in names}


@dataclass(frozen=True, kw_only=True, eq=False)
class _Answers:
    """A method on one case: its images (draw, z, y, x), and those with discs once they are asked for."""

    image: Callable[[Trial], Tensor]
    prepared: Prepared
    trials: tuple[Trial, ...]
    images: Tensor
    setup: Setup

    @property
    def draws(self) -> int:
        return len(self.images)

    def sites(self, reach: int, count: int) -> tuple[Site, ...]:
        case = self.prepared
        return flat_sites(case.reference, case.mask, reach=reach, count=count, seed=self.setup.seed)

    def discs(self, radius: float, reach: int, sites: tuple[Site, ...]) -> Discs:
        return Discs(sites=sites, reach=reach, radius=radius, grid=self.prepared.grid)

    def with_discs(self, discs: Discs, contrast: float) -> Tensor:
        """Run the method on all draws with discs added (draw, z, y, x)."""
        added = [trial.with_added(discs.phantom(contrast, trial.water)) for trial in self.trials]
        return torch.stack([self.image(trial).double() for trial in added])

    @cached_property
    def deviations(self) -> Tensor:
        """What differs from the mean over draws, scaled to the covariance of one draw (draw, z, y, x)."""
        return (self.images - self.images.mean(dim=0)) * math.sqrt(self.draws / (self.draws - 1))

    @cached_property
    def faint_sites(self) -> tuple[Site, ...]:
        return self.sites(_FAINT_REACH, _FAINT_COUNT)

    @cached_property
    def faint(self) -> tuple[Discs, Tensor]:
        """Every second of the flat squares with a faint disc, and the images with these."""
        discs = self.discs(_FAINT, _FAINT_REACH, self.faint_sites[::2])
        return discs, self.with_discs(discs, self.setup.faint)


def _noise(method: _Answers) -> tuple[float, ...]:
    if method.draws < 2:
        return ()
    mask = method.prepared.mask
    return _apart([float(each[mask].square().mean().sqrt()) for each in method.deviations])


def _bias(method: _Answers) -> tuple[float, ...]:
    if method.draws < 2:
        return ()
    mask, case = method.prepared.mask, method.prepared
    away = (method.images.mean(dim=0) - case.reference.double())[mask].square().mean()
    noise = method.deviations[:, mask].square().mean()
    return (math.sqrt(max(0.0, float(away - noise / method.draws))),)


def _noise_frequency(method: _Answers) -> tuple[float, ...]:
    reach, sites = _texture_sites(method)
    if method.draws < 2 or not sites:
        return ()
    dy, dx = method.prepared.grid.spacing[1:]
    try:
        spectra = [noise_power(squares(each, sites, reach), spacing=(dy, dx)) for each in method.deviations]
        return _apart([spectrum.radial().mean_frequency for spectrum in spectra])
    except NumericalError:  # no noise at all
        return ()


def _texture_sites(method: _Answers) -> tuple[int, tuple[Site, ...]]:
    """Return the largest squares that there is room for."""
    for reach in _NPS_REACH:
        sites = method.sites(reach, _NPS_COUNT)
        if len(sites) >= _NPS_LEAST:
            break
    return reach, sites


def _ttf50(method: _Answers) -> tuple[float, ...]:
    discs, half_width = _sharp_discs(method)
    if not discs.sites:
        return ()
    answers = discs.squares(method.with_discs(discs, method.setup.contrast) - method.images)
    try:
        return tuple(_half(each, discs, half_width, method.setup.contrast) for each in answers)
    except NumericalError:  # too sharp for the pixels
        return ()


def _half(answers: Tensor, discs: Discs, half_width: int, contrast: float) -> float:
    """Return the frequency at which half of the contrast that was added is left, 0 where it is nowhere.

    A share of the contrast that the method leaves, as is usual, would not notice a method that fades all of it.
    """
    width = half_width * max(discs.spacing)
    try:
        edge = edge_transfer(
            answers, spacing=discs.spacing, radius=discs.millimetres, half_width=width, centre=discs.centre
        )
    except NumericalError:  # no edge is left
        return 0.0
    return edge.at(contrast / 2 / edge.contrast) if edge.contrast > contrast / 2 else 0.0


def _sharp_discs(method: _Answers) -> tuple[Discs, int]:
    """Return the largest discs that there is room for, with the half width of their edges in pixels."""
    for radius, half_width in _SHARP:
        reach = radius + half_width + 1
        discs = method.discs(radius, reach, method.sites(reach, _SHARP_COUNT))
        if len(discs.sites) >= _SHARP_LEAST:
            break
    return discs, half_width


def _cnr(method: _Answers) -> tuple[float, ...]:
    if not method.faint_sites:
        return ()
    every, added = method.faint
    discs = method.discs(_FAINT, _FAINT_REACH, every.sites[:_CNR_COUNT])
    answers = discs.squares(added - method.images)
    inside, around = discs.within(0, 1 - 1 / _FAINT), discs.within(1 + 2 / _FAINT, math.inf)
    contrast = answers[..., inside].mean(dim=(-2, -1)) - answers[..., around].mean(dim=(-2, -1))
    noise = discs.squares(method.deviations) if method.draws > 1 else _detrended(discs.squares(method.images))
    deviation = noise.square().mean(dim=(-3, -2, -1)).sqrt()
    return _apart((contrast / deviation).tolist()) if bool((deviation > 0).all()) else ()


def _detrended(planes: Tensor) -> Tensor:
    """Return squares (..., y, x) without the quadratic that fits them, scaled for the six terms that it took."""
    at = torch.linspace(-1, 1, planes.shape[-1], dtype=torch.float64)
    y, x = (each.flatten() for each in torch.meshgrid(at, at, indexing="ij"))
    basis = torch.linalg.qr(torch.stack([torch.ones_like(y), y, x, y * x, y * y, x * x], dim=1)).Q
    flat = planes.flatten(-2)
    left: Tensor = (flat - flat @ basis @ basis.T) * math.sqrt(flat.shape[-1] / (flat.shape[-1] - basis.shape[1]))
    return left.reshape(planes.shape)


def _detectability(method: _Answers) -> tuple[float, ...]:
    sites = method.faint_sites
    if method.draws < 2 or len(sites) < 2:
        return ()
    discs, added = method.faint
    signal = discs.squares(added - method.images).mean(dim=0)
    present = signal + discs.squares(_independent(added))
    absent = squares(_independent(method.images), sites[1::2], _FAINT_REACH)
    size = present.shape[-1]
    channels = laguerre_gauss(
        (size, size), spacing=discs.spacing, width=_WIDTH * discs.millimetres, number=_CHANNELS, centre=discs.centre
    )
    try:
        return (hotelling(present.flatten(0, 1), absent.flatten(0, 1), channels).value,)
    except CTError:  # too few squares, or no noise
        return ()


def _independent(images: Tensor) -> Tensor:
    """Return noise alone, from n draws n − 1 times: Helmert's contrasts, each with the covariance of one draw."""
    found = [
        (images[:k].mean(dim=0) - images[k]) * math.sqrt(k / (k + 1)) for k in range(1, len(images))
    ]  # fmt: skip
    return torch.stack(found)


def _apart(values: Sequence[float]) -> tuple[float, ...]:
    """Spread values of deviations from a mean over draws so that the interval over draws is right.

    Such deviations are correlated by −1 / (n − 1), their squares by its square: values are too near to each other by
    √((n − 1) / (n − 2)). Those of two draws are the same number.
    """
    count = len(values)
    mean = math.fsum(values) / count
    if count == 2:
        return (mean,)
    wider = 1.0 if count == 1 else math.sqrt((count - 1) / (count - 2))
    return tuple(mean + wider * (value - mean) for value in values)


_FOUND: Final[dict[str, Callable[[_Answers], tuple[float, ...]]]] = {
    "noise": _noise,
    "bias": _bias,
    "noise-frequency": _noise_frequency,
    "ttf50": _ttf50,
    "cnr": _cnr,
    "detectability": _detectability,
}
