"""What all methods of a comparison share: scanner, dose, noise draws, protocol and tuning budget."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Literal, get_args

from recon import checks
from recon.errors import ConfigError
from recon.metrics import CONSISTENCY, FIDELITY
from recon.metrics.metric import Window, checked_window

#: What images of simulated scans are compared with.
Truth = Literal["phantom", "noise-free"]

#: Metrics that need noise draws or inserts instead of a reference, by name; see `raymend.comparison.task`.
TASKS: Final = ("noise", "bias", "noise-frequency", "ttf50", "cnr", "detectability")

_WIDE: Final = (-1000.0, 1000.0)  # HU; its width is the data range of low-dose papers
#: Metrics whose value depends on the window.
WINDOWED: Final = ("psnr", "ssim", "ssim-uniform", "fsim", *CONSISTENCY)


@dataclass(frozen=True, kw_only=True)
class Setup:
    """The conditions that every method of a comparison works under.

    Args:
        preset: scanner of simulated cases.
        views: number of views of it, or of measured scans by leaving out views evenly; None for all.
        photons: per pixel and view without an object, of simulated cases; None for no noise.
        electronic: variance of the electronic noise in photons squared.
        fraction: share of their dose that measured scans keep, 1 for all of it.
        size: pixels along a side of the image.
        resample: bring a full-dose image on another grid to that of its low-dose image instead of refusing it.
        seed: of the first noise draw; the others follow.
        draws: how often the noise is drawn.
        window: (low, high) in HU, or "chest", "abdomen" or "neuro": what PSNR, SSIM and FSIM clip to. Its width is the
            data range.
        display: window of the pictures, or None for the same.
        reference: what simulated scans are compared with, "phantom", or "noise-free" for the image by FBP or FDK of
            projections without noise. Measured scans are compared with their image at full dose and all views.
        metrics: what is measured.
        budget: how many strengths are tried for each method that has one, on the tuning cases; 1 for no tuning.
        contrast: of the inserts for "ttf50", in HU.
        faint: contrast of the inserts for "cnr" and "detectability", in HU.

    Raises:
        ConfigError: a setting out of range, an unknown metric, or one that needs a window without one.
    """

    preset: str = "somatom16"
    views: int | None = None
    photons: float | None = 1e5
    electronic: float = 11.0
    fraction: float = 1.0
    size: int = 256
    resample: bool = False
    seed: int = 0
    draws: int = 3
    window: Window | None = _WIDE
    display: Window | None = None
    reference: Truth = "phantom"
    metrics: tuple[str, ...] = ("rmse", "ssim", "fsim")
    budget: int = 6
    contrast: float = 300.0
    faint: float = 40.0

    def __post_init__(self) -> None:
        for name, least in (("size", 16), ("draws", 1), ("budget", 1), ("seed", 0)):
            self._whole(name, least)
        if self.views is not None:
            self._whole("views", 1)
        for name in ("contrast", "faint"):
            checks.positive(name, getattr(self, name), unit="HU")
        if self.photons is not None:
            checks.positive("photons", self.photons, unit="photons per pixel")
        if checks.finite("electronic", self.electronic) < 0:
            raise ConfigError(f"electronic: expected a variance of 0 or more, got {self.electronic:g}")
        if not 0 < checks.finite("fraction", self.fraction) <= 1:
            raise ConfigError(f"fraction: expected a share of the dose above 0 and at most 1, got {self.fraction:g}")
        checks.choice("reference", self.reference, get_args(Truth))
        self._check_metrics()
        checked_window((-1.0, 1.0) if self.shown is None else self.shown)

    @property
    def shown(self) -> tuple[float, float] | None:
        """The low and high end of the pictures' window in HU."""
        return self.limits if self.display is None else checked_window(self.display)

    @property
    def limits(self) -> tuple[float, float] | None:
        """The low and high end of the window in HU."""
        return None if self.window is None else checked_window(self.window)

    def as_dict(self) -> dict[str, Any]:
        """Return what `json` can store."""
        return asdict(self) | {"window": self.limits, "display": self.shown, "metrics": list(self.metrics)}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> "Setup":
        """Return the setup that `as_dict` stored."""
        spans = {name: None if stored[name] is None else tuple(stored[name]) for name in ("window", "display")}
        told = {**stored, **spans, "metrics": tuple(stored["metrics"])}
        return cls(**{field.name: told[field.name] for field in fields(cls)})

    def _whole(self, name: str, least: int) -> None:
        value = getattr(self, name)
        if not checks.whole(value) or value < least:
            raise ConfigError(f"{name}: expected a whole number of {least} or more, got {value!r}")

    def _check_metrics(self) -> None:
        if isinstance(self.metrics, str) or not isinstance(self.metrics, Sequence) or not self.metrics:
            raise ConfigError(f"metrics: expected names such as ('rmse', 'ssim'), got {self.metrics!r}")
        object.__setattr__(self, "metrics", tuple(dict.fromkeys(self.metrics)))
        known = (*FIDELITY, *CONSISTENCY, *TASKS)
        for name in self.metrics:
            checks.choice("metrics", name, known)
        needy = [name for name in self.metrics if name in WINDOWED]
        if self.window is None and needy:
            raise ConfigError(
                f"window: expected (low, high) in HU for {', '.join(needy)}, whose values depend on it, got none"
            )
        if self.draws < 2 and "noise" in self.metrics:
            raise ConfigError("draws: expected 2 or more for noise, which is what differs between them, got 1")
