"""A small U-Net that removes noise of a known level."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class UNet(nn.Module):
    """Predict the noise of an image from the image and its noise level, at four scales.

    There is no normalisation, so that the brightness of a region is free to differ from that of its neighbours.

    Args:
        widths: channels per scale, each scale half as fine as the one before.
        level: whether the level of the noise is a second channel of the input.

    Source:
        Ronneberger et al. 2015, MICCAI; the level as a channel: Zhang et al. 2018, IEEE TIP 27(9): 4608-4622.
    """

    def __init__(self, widths: tuple[int, ...] = (32, 64, 96, 128), *, level: bool = True) -> None:
        super().__init__()
        self.level = level
        inputs = (2 if level else 1, *widths[:-1])
        self.down = nn.ModuleList(_pair(a, b) for a, b in zip(inputs, widths, strict=True))
        self.rise = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in zip(widths[-2::-1], widths[:0:-1], strict=True))
        self.up = nn.ModuleList(_pair(2 * a, a) for a in widths[-2::-1])
        self.last = nn.Conv2d(widths[0], 1, 3, padding=1)
        nn.init.zeros_(self.last.weight)

    @property
    def multiple(self) -> int:
        """What the sides of the input are padded to a multiple of."""
        return int(2 ** (len(self.down) - 1))

    def forward(self, image: Tensor, level: Tensor) -> Tensor:
        """Return the image without its noise (batch, 1, y, x); level (batch,) is in the unit of the image."""
        padded = pad_to(image, self.multiple)
        x = torch.cat([padded, level.view(-1, 1, 1, 1).expand_as(padded)], 1) if self.level else padded
        residual = self._residual(x)[..., : image.shape[-2], : image.shape[-1]]
        return image - residual

    def _residual(self, x: Tensor) -> Tensor:
        kept: list[Tensor] = []
        for k, block in enumerate(self.down):
            x = block(F.avg_pool2d(x, 2) if k else x)
            kept.append(x)
        for rise, block, skip in zip(self.rise, self.up, kept[-2::-1], strict=True):
            higher = F.interpolate(rise(x), scale_factor=2.0, mode="nearest")
            x = block(torch.cat([higher, skip], 1))
        found: Tensor = self.last(x)
        return found


def pad_to(image: Tensor, multiple: int) -> Tensor:
    """Continue an image (batch, channel, y, x) at its far sides to multiples: mirrored, or repeated if it is tiny."""
    y, x = (-n % multiple for n in image.shape[-2:])
    mode = "reflect" if y < image.shape[-2] and x < image.shape[-1] else "replicate"
    return F.pad(image, (0, x, 0, y), mode=mode)


def _pair(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, 3, padding=1), nn.ReLU(inplace=True),
    )  # fmt: skip
