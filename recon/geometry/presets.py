"""Named scanners from the literature, as (geometry, grid) pairs."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from recon.errors import ConfigError
from recon.geometry.base import Detector
from recon.geometry.cone import ConeBeam
from recon.grid import VolumeGrid


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A scanner, the grid its images are usually made on, and where the numbers come from."""

    name: str
    geometry: ConeBeam
    grid: VolumeGrid
    source: str

    def with_views(self, views: int | None) -> "Preset":
        """Return the same scanner with another number of views over the same arc."""
        if views is None or views == len(self.geometry):
            return self
        g = self.geometry
        arc = (g.angles[-1] - g.angles[0]) * len(g) / (len(g) - 1)
        even = ConeBeam.circular(
            views,
            detector=g.detector,
            source_to_axis=g.source_to_axis,
            source_to_detector=g.source_to_detector,
            arc=arc,
            start=g.angles[0],
        )
        return replace(self, geometry=even)


def preset(name: str) -> Preset:
    """Return a named scanner; `PRESETS` lists the names.

    Raises:
        ConfigError: the name is not known.
    """
    if name not in PRESETS:
        raise ConfigError(f"preset: expected one of {', '.join(sorted(PRESETS))}, got {name!r}")
    return PRESETS[name]()


def _fan(
    name: str, distances: tuple[float, float], bins: int, pitch: float, views: int, image: tuple[int, float],
    source: str, *, curve: str = "flat",
) -> Preset:  # fmt: skip
    detector = Detector(shape=(1, bins), pitch=(pitch, pitch), curve=curve)
    geometry = ConeBeam.circular(views, detector=detector, source_to_axis=distances[0], source_to_detector=distances[1])
    n, step = image
    return Preset(name=name, geometry=geometry, grid=VolumeGrid(shape=(1, n, n), spacing=(step,) * 3), source=source)


def _cone(
    name: str, distances: tuple[float, float], panel: tuple[int, int, float], views: int,
    volume: tuple[tuple[int, int, int], float], source: str, *, arc: float = 2 * math.pi,
) -> Preset:  # fmt: skip
    rows, columns, pitch = panel
    geometry = ConeBeam.circular(
        views, detector=Detector(shape=(rows, columns), pitch=(pitch, pitch)), source_to_axis=distances[0],
        source_to_detector=distances[1], arc=arc,
    )  # fmt: skip
    return Preset(
        name=name, geometry=geometry, grid=VolumeGrid(shape=volume[0], spacing=(volume[1],) * 3), source=source
    )


_HYPERFED = "Yang et al., HyperFed (public configuration), lengths read as decimetres"

PRESETS: dict[str, Callable[[], Preset]] = {
    "somatom16": lambda: _fan(
        "somatom16", (570, 1040), 672, 1.407, 1160, (512, 0.9766),
        "Zeng et al. 2015, IEEE TNS 62(5), section II-C", curve="arc"),
    "mirt_demo": lambda: _fan(
        "mirt_demo", (746.02, 1361.2), 672, 1.85, 1160, (512, 350 / 512),
        "low-dose simulation demo of the Michigan Image Reconstruction Toolbox"),
    "hyperfed1": lambda: _fan("hyperfed1", (595, 1085.6), 368, 2.5716, 512, (256, 1.33), _HYPERFED),
    "hyperfed2": lambda: _fan("hyperfed2", (450, 800), 315, 3.0, 512, (256, 1.40), _HYPERFED),
    "hyperfed3": lambda: _fan("hyperfed3", (400, 700), 330, 2.6, 384, (256, 1.39), _HYPERFED),
    "hyperfed4": lambda: _fan("hyperfed4", (400, 750), 350, 2.2, 400, (256, 1.20), _HYPERFED),
    "hyperfed5": lambda: _fan("hyperfed5", (500, 800), 350, 2.5, 384, (256, 1.40), _HYPERFED),
    "svct_fan": lambda: _fan(
        "svct_fan", (1075, 2150), 672, 1.0, 720, (256, 1.0),
        "FreeSeed and CvG-Diff wrappers; units are pixels, detector distance chosen as twice the source distance"),
    "head_fan": lambda: _fan(
        "head_fan", (785, 1200), 700, 0.64, 360, (256, 1.0),
        "Thies et al., motion compensation by gradient geometry (public settings)"),
    "cbct_norm": lambda: _cone(
        "cbct_norm", (500, 700), (512, 512, 400 / 512), 75, ((256, 256, 256), 200 / 256),
        "Zha et al. 2024, R2-Gaussian synthetic scanner; one scene unit taken as 100 mm"),
    "cbct_luna": lambda: _cone(
        "cbct_luna", (800, 1200), (256, 256, 2.4), 50, ((256, 256, 256), 1.6),
        "Lin et al. 2024, C2RV-CBCT, LUNA16 configuration", arc=math.pi),
    "cbct_linac": lambda: _cone(
        "cbct_linac", (1000, 1500), (384, 512, 0.776), 360, ((256, 256, 256), 1.0),
        "raymend's default linear-accelerator panel (inferred, not a product)"),
    "cbct_dental": lambda: _cone(
        "cbct_dental", (420, 640), (512, 512, 0.4), 360, ((256, 384, 384), 0.4),
        "raymend's default dental scanner (inferred, not a product)"),
}  # fmt: skip
