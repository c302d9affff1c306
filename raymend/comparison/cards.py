"""Images for the page: grey for values, two colours on nothing for differences; small enough to be inside it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import avg_pool2d

from raymend.comparison.views import View
from raymend.figures import grey
from raymend.rendering import inside
from recon.io.png import encode_palette

_BUDGET: Final = 5.2e6  # bytes of all images in the page
_LEVELS: Final = 7  # of differences on either side of 0; 15 colours fit into 4 bits
_COLD, _WARM = (38, 118, 212), (226, 98, 8)


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much images are reduced so that the page stays small.

    Args:
        step: pixels that become one along each side.
    """

    step: int

    @classmethod
    def of(cls, seen: Sequence[View]) -> "Sizes":
        """Choose for all images of a page together, from what the first method's take: that is often the noisiest."""
        whole = cls(step=1)
        taken = sum((len(one.planes) + 1) * _taken(one, plane, whole) for one in seen for plane in _first(one))
        return cls(step=max(1, math.ceil(math.sqrt(taken / _BUDGET))))


def _first(seen: View) -> list[Tensor]:
    return list(seen.planes.values())[:1]


def _taken(seen: View, plane: Tensor, sizes: Sizes) -> int:
    """Return the bytes of an image and its difference in the page."""
    return len(_image(seen, plane, sizes)) + len(_difference(seen, plane, sizes))


def cards(seen: View, sizes: Sizes, scores: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    """Return the pictures of the reference and of each method, with their numbers.

    Args:
        seen: the case.
        sizes: of the images.
        scores: numbers of each method, in words.
    """
    named = [("reference", seen.reference), *seen.planes.items()]
    return [
        {
            "name": name,
            "scores": scores.get(name, ()),
            "image": _image(seen, plane, sizes),
            "detail": inside(grey(plane[seen.detail][None], seen.detail_window)),
            "difference": "" if at == 0 else _difference(seen, plane, sizes),
        }
        for at, (name, plane) in enumerate(named)
    ]


def marks(seen: View) -> dict[str, float]:
    """Return where detail and profile lie in the image, in its pixels, and how high a pixel is for its width."""
    top, left = (part.start for part in seen.box)
    rows, columns = seen.detail
    _, dy, dx = seen.shown.grid.spacing
    height, width = (part.stop - part.start for part in seen.box)
    return {
        "width": width,
        "height": height,
        "ratio": round(width * dx / (height * dy), 4),
        "detail_ratio": round((columns.stop - columns.start) * dx / ((rows.stop - rows.start) * dy), 4),
        "x": columns.start - left,
        "y": rows.start - top,
        "across": columns.stop - columns.start,
        "down": rows.stop - rows.start,
        "line": seen.row - top + 0.5,
        "from": seen.columns.start - left,
        "to": seen.columns.stop - left,
    }


def _image(seen: View, plane: Tensor, sizes: Sizes) -> str:
    return inside(grey(_reduced(plane[seen.box], sizes.step)[None], seen.window))


def _difference(seen: View, plane: Tensor, sizes: Sizes) -> str:
    gap = _reduced((plane - seen.reference)[seen.box], sizes.step).numpy()
    levels = np.round(np.clip(gap / seen.limit, -1, 1) * _LEVELS).astype(np.int8) + _LEVELS
    text = {"Software": "raymend", "Difference": f"-{seen.limit:g} to {seen.limit:g} HU"}
    return inside(encode_palette(levels.astype(np.uint8), _palette(), text))


def _palette() -> NDArray[np.uint8]:
    """Return colours that are the denser the larger the difference; none is transparent, on light and dark paper."""
    shares = np.arange(-_LEVELS, _LEVELS + 1) / _LEVELS
    colours = np.where(shares[:, None] < 0, _COLD, _WARM)
    return np.column_stack([colours, np.round(255 * np.abs(shares))]).astype(np.uint8)


def _reduced(plane: Tensor, step: int) -> Tensor:
    """Return means over squares of pixels; those at the right and lower edge may be smaller."""
    return plane if step == 1 else avg_pool2d(plane[None, None], step, ceil_mode=True)[0, 0]
