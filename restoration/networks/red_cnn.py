"""RED-CNN: a residual encoder and decoder without scales."""

from torch import Tensor, nn
from torch.nn import functional as F


class REDCNN(nn.Module):
    """Five convolutions and five transposed ones of 5 x 5, with the input and two layers added on the way back.

    Unlike as published, there is no ReLU at the end, because HU are negative. What the convolutions take away at the
    sides the transposed ones give back; images must have 21 pixels a side.

    Args:
        width: channels; 96 as published.

    Source:
        Chen et al. 2017, IEEE TMI 36(12): 2524-2535, section II-B.
    """

    level = False
    multiple = 1

    def __init__(self, width: int = 96) -> None:
        super().__init__()
        self.encode = nn.ModuleList(nn.Conv2d(1 if k == 0 else width, width, 5) for k in range(5))
        self.decode = nn.ModuleList(nn.ConvTranspose2d(width, 1 if k == 4 else width, 5) for k in range(5))
        for name, value in self.named_parameters():
            if name.endswith("weight") and name != "decode.4.weight":
                nn.init.kaiming_normal_(value, nonlinearity="relu")
            else:
                nn.init.zeros_(value)

    def forward(self, image: Tensor, level: Tensor | None = None) -> Tensor:
        """Return the image without its noise (batch, 1, y, x); the level is not asked for."""
        kept, x = [image], image
        for k, layer in enumerate(self.encode):
            x = F.relu(layer(x))
            if k in (1, 3):
                kept.append(x)
        for k, layer in enumerate(self.decode):
            x = layer(x)
            if k in (0, 2, 4):
                x = x + kept.pop()
            if k < 4:
                x = F.relu(x)
        return x
