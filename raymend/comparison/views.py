"""What is worth showing of a case: a window, the part with the object, a telling detail, a line through it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from raymend.comparison.inserts import in_tissue
from raymend.comparison.outcome import Outcome, Shown
from raymend.figures import Window
from recon.metrics import RadialNoise, noise_power

_MARGIN: Final = 0.04  # of the object's size, around it
_DETAIL: Final = 0.22  # of the shown part's shorter side
_COVERED: Final = 0.98  # share of a detail in the mask
_TISSUE: Final = (-500.0, 200.0)  # HU: the least of tissue, and how far from its median contrasts count
_SQUARES: Final = 16
_LEAST: Final = 3.0  # HU: standard deviation of a reference that counts as structure
_FLAT: Final = 20.0  # HU: standard deviation of a reference that counts as flat, or twice that of the flattest square
_STEPS: Final = (1.0, 2.0, 5.0, 10.0)

Box = tuple[slice, slice]


@dataclass(frozen=True, kw_only=True, eq=False)
class View:
    """A case as its pictures show it, all methods alike.

    Args:
        shown: the case.
        number: of the slice, from 0.
        box: rows and columns of the part with the object.
        window: of the images in HU.
        limit: of the differences in HU, above and below 0.
        detail: rows and columns where methods differ most and the reference has structure.
        detail_window: of the detail in HU.
        row: of the profile, through the detail.
        columns: of the profile.
        reference: the slice in HU (y, x).
        planes: the slice by each method that has an image, in HU (y, x).
        second: the slice of the second noise draw, of the methods that have one.
    """

    shown: Shown
    number: int
    box: Box
    window: Window
    limit: float
    detail: Box
    detail_window: Window
    row: int
    columns: slice
    reference: Tensor
    planes: Mapping[str, Tensor]
    second: Mapping[str, Tensor]

    @property
    def height(self) -> float:
        """The profile's y in mm."""
        return float(self.shown.grid.axes()[1][self.row])


@dataclass(frozen=True, kw_only=True, eq=False)
class Spectra:
    """Radial noise power spectra, or why there are none.

    Args:
        lines: by method.
        said: what they rest on, or why there are none.
    """

    lines: Mapping[str, RadialNoise]
    said: str


def view(outcome: Outcome, shown: Shown, window: Window | None = None) -> View:
    """Choose what to show of a case.

    Args:
        outcome: of the comparison.
        shown: one of its cases.
        window: (low, high) in HU; None for the setup's, or without one for that of the reference.
    """
    reference, mask = _middle(shown.reference), _counted(shown)
    found = {entrant.name: _fitting(outcome, shown, entrant.name) for entrant in outcome.entrants}
    planes = {name: images[0] for name, images in found.items() if images}
    window = window or outcome.setup.shown or _usual(reference, mask)
    box = _around(mask)
    detail = _telling(reference, list(planes.values()), mask, window, box)
    row, columns = _line(reference, detail, box, window)
    return View(
        shown=shown,
        number=shown.reference.shape[0] // 2,
        box=box,
        window=window,
        limit=_limit(reference, list(planes.values()), mask),
        detail=detail,
        detail_window=_narrower(reference[detail], [plane[detail] for plane in planes.values()], window),
        row=row,
        columns=columns,
        reference=reference,
        planes=planes,
        second={name: images[1] for name, images in found.items() if len(images) > 1},
    )


def spectra(seen: View) -> Spectra:
    """Return the noise power of each method from what its two stored draws differ by, where the reference is flat."""
    if not seen.second:
        return Spectra(lines={}, said="Noise power spectra need two noise draws; there is one.")
    dy, dx = seen.shown.grid.spacing[1:]
    side = max(8, min(32, min(seen.reference.shape) // 12))
    counted, where = _counted(seen.shown), "of tissue"
    corners, rough = _flattest(seen.reference, _tissue_of(seen.reference, counted), side)
    if not corners:  # thin or small objects
        corners, rough = _flattest(seen.reference, counted, side)
        where = "outside tissue, into which none fits,"
    if not corners:
        return Spectra(lines={}, said=f"No square of {side} pixels fits into the {seen.shown.region or 'mask'}.")
    lines = {}
    for name, second in seen.second.items():
        noise = (seen.planes[name] - second) / math.sqrt(2)
        squares = torch.stack([noise[y : y + side, x : x + side] for y, x in corners])
        lines[name] = noise_power(squares, spacing=(dy, dx), detrend="mean").radial()
    said = (
        f"From what two noise draws differ by, in {len(corners)} squares of {side} × {side} pixels {where} where the "
        f"reference is flattest (standard deviation up to {max(rough, 0.1):.1f} HU), means taken off."
    )
    return Spectra(lines=lines, said=said)


def chosen(outcome: Outcome, shown: Shown, names: Sequence[str], most: int = 6) -> list[str]:
    """Return the methods whose lines a reader can tell apart: the baseline and the best by the first metric."""
    if len(names) <= most:
        return list(names)
    measure = outcome.measures[0]
    sign = 1 if measure.better == "lower" else -1
    means = {name: sign * outcome.row(shown.name, name, measure.name).mean for name in names}
    best = sorted(names, key=lambda name: means[name] if math.isfinite(means[name]) else math.inf)
    baseline = [name for name in names if name == outcome.entrants[0].name]
    kept = {*baseline, *[name for name in best if name not in baseline][: most - 1]}
    return [name for name in names if name in kept]


def _middle(image: Tensor) -> Tensor:
    """Return the middle slice in float64."""
    return image[image.shape[0] // 2].detach().cpu().double()


def _counted(shown: Shown) -> Tensor:
    """Return where pixels of the middle slice count; all of them where the mask leaves none."""
    mask = _middle(shown.mask.expand_as(shown.reference)).bool()
    return mask if bool(mask.any()) else torch.ones_like(mask)


def _fitting(outcome: Outcome, shown: Shown, method: str) -> list[Tensor]:
    """Return the slices of a method's images that lie on the reference's grid."""
    images = outcome.cell(shown.name, method).images
    return [_middle(image) for image in images if image.shape == shown.reference.shape]


def _usual(reference: Tensor, mask: Tensor) -> Window:
    """Return the range of a reference without its extremes."""
    low, high = torch.quantile(_thinned(reference[mask]), torch.tensor([0.005, 0.995], dtype=torch.float64)).tolist()
    margin = max(10.0, 0.05 * (high - low))
    return round(low - margin, -1), round(high + margin, -1)


def _thinned(values: Tensor) -> Tensor:
    return values.flatten()[:: max(1, values.numel() // 1_000_000)]


def _around(mask: Tensor) -> Box:
    """Return the rows and columns of a mask with a margin."""
    margin = round(_MARGIN * max(mask.shape))

    def part(used: Tensor) -> slice:
        where = used.nonzero().flatten()
        return slice(max(0, int(where[0]) - margin), min(len(used), int(where[-1]) + 1 + margin))

    return part(mask.any(dim=1)), part(mask.any(dim=0))


def _telling(reference: Tensor, planes: Sequence[Tensor], mask: Tensor, window: Window, box: Box) -> Box:
    """Return the square where methods differ most from each other and the reference has structure.

    Both count only near the tissue's median, in squares of nothing else where there are some: the edges of bone and
    air would always win.
    """
    near = _tissue(reference, mask, window)
    truth = reference[box].clamp(*near)
    side = max(2, min(*truth.shape, max(12, round(_DETAIL * min(truth.shape)))))
    seen = torch.stack([_mean(plane[box].clamp(*near), 3) for plane in planes] or [truth])
    gap = seen.var(dim=0, correction=0) if len(seen) > 1 else (seen[0] - truth) ** 2
    structure = (_squares(truth**2, side) - _squares(truth, side) ** 2).clamp_min(0)
    covered = _squares(mask[box].double(), side)
    inside = covered >= min(_COVERED, float(covered.max()))
    soft = _squares((reference[box] == truth).double(), side)
    fine = inside & (soft >= _COVERED) & (structure >= _LEAST**2)
    score = torch.where(fine if bool(fine.any()) else inside, (_squares(gap, side) + 1e-12) * structure, -1.0)
    top, left = divmod(int(score.argmax()), score.shape[1])
    top, left = top + box[0].start, left + box[1].start
    return slice(top, top + side), slice(left, left + side)


def _tissue(reference: Tensor, mask: Tensor, window: Window) -> Window:
    """Return a range around the median of what is no air, as far as the window shows it."""
    least, reach = _TISSUE
    values = reference[mask].clamp(*window)
    dense = values[values > least]
    middle = float((dense if 4 * len(dense) >= len(values) else values).median())  # a thin shell is not the tissue
    return max(window[0], middle - reach), min(window[1], middle + reach)


def _mean(plane: Tensor, side: int) -> Tensor:
    """Return the mean around each pixel."""
    return avg_pool2d(plane[None, None], side, stride=1, padding=side // 2, count_include_pad=False)[0, 0]


def _squares(plane: Tensor, side: int) -> Tensor:
    """Return the mean of every square, by its corner."""
    return avg_pool2d(plane[None, None], side, stride=1)[0, 0]


def _line(reference: Tensor, detail: Box, box: Box, window: Window) -> tuple[int, slice]:
    """Return the row of the detail with most structure, and columns on both sides of the detail."""
    rows, columns = detail
    steps = reference[detail].clamp(*window).diff(dim=1).abs().sum(dim=1)
    third = len(steps) // 4  # near its middle
    row = rows.start + third + int(steps[third : len(steps) - third].argmax())
    side = (columns.stop - columns.start) // 2
    return row, slice(max(box[1].start, columns.start - side), min(box[1].stop, columns.stop + side))


def _narrower(part: Tensor, parts: Sequence[Tensor], window: Window) -> Window:
    """Return a window that the detail fills with the methods' usual noise, where the images' is much wider."""
    low, high = torch.quantile(part.flatten(), torch.tensor([0.02, 0.98], dtype=torch.float64)).tolist()
    errors = sorted(float((each - part).square().mean().sqrt()) for each in parts)
    margin = max(75.0, 0.3 * (high - low), *(1.5 * error for error in errors[len(errors) // 2 :][:1]))
    tight = max(window[0], round(low - margin, -1)), min(window[1], round(high + margin, -1))
    return tight if tight[1] - tight[0] < 0.7 * (window[1] - window[0]) else window


def _limit(reference: Tensor, planes: Sequence[Tensor], mask: Tensor) -> float:
    """Return a round limit that all but few differences of the usual method stay in."""
    sizes = [float(torch.quantile(_thinned((plane - reference)[mask].abs()), 0.97)) for plane in planes]
    usual = sorted(sizes)[len(sizes) // 2] if sizes else 1.0
    scale = 10.0 ** math.floor(math.log10(max(usual, 1.0)))
    return next(step * scale for step in _STEPS if step * scale >= min(usual, 9.99 * scale))


def _flattest(reference: Tensor, mask: Tensor, side: int) -> tuple[list[tuple[int, int]], float]:
    """Return the corners of squares in the mask where the reference varies least, and how much the worst does."""
    if side > min(reference.shape):
        return [], 0.0
    middle = reference - reference[mask].mean()
    spread = (_tiles(middle**2, side) - _tiles(middle, side) ** 2).clamp_min(0)
    spread = torch.where(_tiles(mask.double(), side) == 1, spread, torch.inf)
    order = spread.flatten().argsort()[:_SQUARES].tolist()
    limit = max(_FLAT**2, 4 * float(spread.min()))
    kept = [at for at in order if float(spread.flatten()[at]) <= limit < math.inf]
    corners = [(at // spread.shape[1] * side, at % spread.shape[1] * side) for at in kept]
    return corners, max((math.sqrt(float(spread.flatten()[at])) for at in kept), default=0.0)


def _tissue_of(reference: Tensor, mask: Tensor) -> Tensor:
    return torch.from_numpy(in_tissue(reference.double().numpy(), mask.numpy()))


def _tiles(plane: Tensor, side: int) -> Tensor:
    return avg_pool2d(plane[None, None], side)[0, 0]
