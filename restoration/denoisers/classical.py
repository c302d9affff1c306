"""Denoisers that need no training, through scikit-image.

Their factors on the noise are near the best RMSE inside the body on FBP images (Ram-Lak) of patients 900 and 901 of
`phantoms.anatomy`, two thoraxes, an abdomen and a head, 256 × 256, somatom16, 5e4 and 2e5 photons, with the noise that
`noise_level` finds. Left of the RMSE of the noisy image, on (geometric) average: non-local means 0.63, TV 0.66,
bilateral 0.73, wavelet 0.74; factors 15 % off cost 0.02 at most. That was with a search of 11 × 11 pixels for non-local
means; the 21 × 21 it takes leave 1 % more there, and keep the edges of real slices better. The noise of FBP is not
white, and streaks are not noise to any of them.
"""

from importlib.util import find_spec
from typing import Any

import numpy as np

from restoration.denoisers.denoiser import Plane, Slicewise

_SHIFTS = tuple((k, 3 * k % 8) for k in range(8))  # every row and column of a wavelet's 8 × 8 cell once
_FLAT = 1e4  # pixels
_RIM = 16  # pixels; makes room for two levels in the smallest image


class Classical(Slicewise):
    """A denoiser of scikit-image, known by its name; see `CLASSICAL`."""

    def missing(self) -> str:
        """Say what to install, or nothing."""
        lacking = [package for module, package in self._needs() if find_spec(module) is None]
        return f'needs {" and ".join(lacking)}; install it with: pip install "raymend[compare]"' if lacking else ""

    def _needs(self) -> list[tuple[str, str]]:
        """Return modules and the packages they come with."""
        return [("skimage", "scikit-image")]


class NonLocalMeans(Classical):
    """Average pixels whose surroundings look alike.

    Source:
        Buades, Coll and Morel 2005, CVPR 2: 60-65; in the fast way of Darbon et al. 2008, ISBI: 1331-1334.
    """

    name, label, source = "nlm", "Non-local means", "Buades, Coll and Morel 2005, CVPR 2: 60-65"

    def _denoised(self, plane: Plane, noise: float) -> Any:
        smooth = _restoration().denoise_nl_means(
            plane,
            patch_size=5,
            patch_distance=10,
            h=0.7 * noise,
            sigma=0.7 * noise,
            fast_mode=True,
            preserve_range=True,
        )
        return smooth.reshape(plane.shape)  # a single pixel comes back without axes


class Bilateral(Classical):
    """Average the nearest pixels of like value: 5 × 5, all as near.

    Source:
        Tomasi and Manduchi 1998, ICCV: 839-846.
    """

    name, label, source = "bilateral", "Bilateral filter", "Tomasi and Manduchi 1998, ICCV: 839-846"

    def _denoised(self, plane: Plane, noise: float) -> Any:
        # scikit-image (0.26) reads its table of distances in rows of the wrong length, so that only a flat one does
        # what it should, and makes its table of values for images from 0 up.
        low = plane.min()
        smooth = _restoration().denoise_bilateral(
            plane - low, win_size=5, sigma_color=1.35 * noise, sigma_spatial=_FLAT, mode="edge"
        )
        return smooth + low


class TotalVariation(Classical):
    """Keep the sum of all gradients' lengths small.

    Source:
        Rudin, Osher and Fatemi 1992, Physica D 60: 259-268; Chambolle 2004, JMIV 20: 89-97.
    """

    name, label, source = "tv", "Total variation", "Chambolle 2004, JMIV 20: 89-97"

    def _denoised(self, plane: Plane, noise: float) -> Any:
        # In double precision: its iterations end when an energy over the whole image changes by 2e-6 of itself.
        return _restoration().denoise_tv_chambolle(plane.astype(np.float64), weight=0.5 * noise, eps=2e-6)


class Wavelet(Classical):
    """Shrink small coefficients of a Symlet of 4 moments, on average over 8 shifts of the image.

    Source:
        Donoho and Johnstone 1994, Biometrika 81(3): 425-455; shifts: Coifman and Donoho 1995, Translation-invariant
        de-noising.
    """

    name, label, source = "wavelet", "Wavelet shrinkage", "Donoho and Johnstone 1994, Biometrika 81(3): 425-455"

    def _needs(self) -> list[tuple[str, str]]:
        return [*super()._needs(), ("pywt", "PyWavelets")]

    def _denoised(self, plane: Plane, noise: float) -> Any:
        wide = np.pad(plane, _RIM, "symmetric")  # what is shifted runs round the border
        total = np.zeros_like(wide)
        for shift in _SHIFTS:
            # A universal threshold, not BayesShrink: that wipes out whole bands where texture counts as noise.
            shrunk = _restoration().denoise_wavelet(
                np.roll(wide, shift, (0, 1)), sigma=0.17 * noise, wavelet="sym4", mode="soft", method="VisuShrink",
                wavelet_levels=2,
            )  # fmt: skip
            total += np.roll(shrunk, (-shift[0], -shift[1]), (0, 1))
        return total[_RIM:-_RIM, _RIM:-_RIM] / len(_SHIFTS)


CLASSICAL = (NonLocalMeans(), Bilateral(), TotalVariation(), Wavelet())


def _restoration() -> Any:
    import skimage.restoration

    return skimage.restoration
