"""One draw of a case: what a method gets to work on."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from phantoms import Phantom
from recon import Scan, VolumeGrid, to_hu
from recon.analytic.fbp import prepare

_BLUR: Final = 0.7  # pixels; standard deviation of an insert's edge in an image of which no projections are known


@dataclass(frozen=True, kw_only=True, eq=False)
class Trial:
    """A noisy scan with the grid to reconstruct it on, or an image alone.

    Args:
        grid: where the image is wanted.
        seed: for methods that draw.
        scan: the noisy scan, or None where only its image is known.
        given: that image in HU (z, y, x), or None.
        water: attenuation of water in 1/mm, for HU.
    """

    grid: VolumeGrid
    seed: int
    scan: Scan | None = None
    given: Tensor | None = None
    water: float

    @cached_property
    def image(self) -> Tensor:
        """The image in HU that denoisers start from: that which is given, or FBP or FDK with the ramp alone."""
        if self.given is not None:
            return self.given
        assert self.scan is not None  # one of the two is there
        return to_hu(prepare(self.scan, self.grid, limited_angle=True).image(self.scan), self.water)

    def with_added(self, inserts: Phantom) -> "Trial":
        """Return the same draw of noise with inserts added to the object.

        The few photons that inserts take away are not missed: the noise stays as it is, to the bit, so that what
        differs between the images of a method is its answer to the inserts.
        """
        if self.scan is None:
            assert self.given is not None
            return replace(self, given=self.given + self._drawn(inserts))
        lines = inserts.line_integrals(self.scan.geometry, dtype=self.scan.dtype)
        return replace(self, scan=self.scan.changed(values=self.scan.values + lines))

    def _drawn(self, inserts: Phantom) -> Tensor:
        """Return inserts as an image shows them, in HU."""
        sharp = inserts.rasterised(self.grid, oversampling=4).double().numpy() / self.water * 1000
        return torch.from_numpy(gaussian_filter(sharp, (0, _BLUR, _BLUR))).float()
