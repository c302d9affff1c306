import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from phantoms import Dose, anatomy, shepp_logan, simulate
from raymend.comparison import pictures, wording
from raymend.comparison.cards import Sizes, cards
from raymend.comparison.charts import ticks
from raymend.comparison.outcome import Cell, Entrant, Measure, Outcome, Shown
from raymend.comparison.page import page
from raymend.comparison.setup import Setup
from raymend.comparison.text import markdown
from raymend.comparison.views import spectra, view
from recon import ConeBeam, Detector, VolumeGrid, fbp, to_hu
from recon.io.png import encode_palette
from recon.metrics import rmse, ssim

MEASURES = (
    Measure(name="rmse", label="RMSE", unit="HU", better="lower", protocol="no window, body, 2-D, reference: phantom"),
    Measure(
        name="ssim",
        label="SSIM",
        unit="",
        better="higher",
        protocol="window -1000..1000 HU, Gaussian window of 11 pixels, sigma 1.5, body, 2-D, reference: phantom",
    ),
)
OBJECTS: dict[str, Callable[[], Any]] = {
    "shepp-logan": shepp_logan,
    "anatomy-3": lambda: anatomy(seed=3),
    "anatomy-9": lambda: anatomy(seed=9),
}
LABELS = {"fbp": "filtered backprojection, ramp", "hann": "filtered backprojection, Hann"}


def blurred(image: Tensor, sigma: float) -> Tensor:
    steps = torch.arange(-int(3 * sigma) - 1, int(3 * sigma) + 2, dtype=image.dtype)
    weights = torch.exp(-0.5 * (steps / sigma) ** 2)
    kernel = (weights / weights.sum())[None, None, None]
    padded = torch.nn.functional.pad(image[:, None], [len(steps) // 2] * 4, mode="replicate")
    return torch.conv2d(torch.conv2d(padded, kernel), kernel.mT)[:, 0]


def outcome_of(
    *, size: int = 96, cases: Sequence[str] = ("shepp-logan", "anatomy-3"), draws: int = 3, methods: int = 4
) -> Outcome:
    """FBP, Hann, blurs and one that fails, on simulated scans."""
    shown, cells = [], {}
    blurs = [0.4 + 0.15 * k for k in range(max(0, methods - 3))]
    names = ["fbp", "hann", *(f"gauss-{sigma:.1f}" for sigma in blurs), "bm3d"][:methods]
    for case in cases:
        grid, reference, images = _scanned(case, size, draws)
        mask = reference > -900
        shown.append(
            Shown(
                name=case,
                about=f"{case}, fan beam of 672 pixels, 290 views, 1e4 photons per pixel",
                reference=reference,
                kind="phantom",
                grid=grid,
                mask=mask,
                region="body",
            )
        )
        made = {"fbp": images["ram-lak"], "hann": images["hann"]}
        made |= {f"gauss-{s:.1f}": [blurred(image, s) for image in images["ram-lak"]] for s in blurs}
        for name in names:
            cells[case, name] = _cell(made.get(name), reference, mask)
    entrants = tuple(
        Entrant(
            name=name,
            label=LABELS.get(name, f"{name} on FBP"),
            source="a paper of 1984" if name in LABELS else "a paper of 2007",
            tuning="nothing to tune" if name in LABELS else "strength 1.2, the best of 6 on the tuning cases by RMSE",
        )
        for name in names
    )
    return Outcome(
        setup=Setup(size=size, draws=draws, seed=1, metrics=("rmse", "ssim"), photons=1e4),
        entrants=entrants,
        shown=tuple(shown),
        measures=MEASURES,
        cells=cells,
        tuning="anatomy-101 and anatomy-102, which are not among the cases",
        notes=("Objects without texture suit methods that favour flat regions.",),
    )


def _scanned(case: str, size: int, draws: int) -> tuple[VolumeGrid, Tensor, dict[str, list[Tensor]]]:
    body = OBJECTS[case]()
    step = (230.0 if case == "shepp-logan" else 400.0) / size
    detector = Detector(shape=(1, 336), pitch=(2.8, 2.8), curve="arc")
    geometry = ConeBeam.circular(290, detector=detector, source_to_axis=570, source_to_detector=1040)
    grid = VolumeGrid(shape=(1, size, size), spacing=(1.0, step, step))
    images: dict[str, list[Tensor]] = {"ram-lak": [], "hann": []}
    water = 0.0
    for seed in range(1, 1 + draws):
        scan = simulate(body, geometry, dose=Dose(photons=1e4, electronic=11), seed=seed)
        water = scan.calibration.water
        for window, found in images.items():
            found.append(to_hu(fbp(scan, grid, window=window), water))
    return grid, to_hu(body.rasterised(grid), water).float(), images


def _cell(images: list[Tensor] | None, reference: Tensor, mask: Tensor) -> Cell:
    if images is None:
        return Cell(message="bm3d: expected the package bm3d, which is not installed; its licence keeps it out of here")
    values = {
        "rmse": tuple(rmse(image, reference, mask=mask) for image in images),
        "ssim": tuple(ssim(image, reference, data_range=2000.0, mask=mask) for image in images),
    }
    return Cell(values=values, images=tuple(images[:2]), seconds=0.031)


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    return outcome_of()


Numbers = Mapping[str, Sequence[Sequence[float]]]


def numbered(values: Numbers, *, better: Literal["lower", "higher"] = "lower") -> Outcome:
    """An outcome of given numbers, by method, case and draw; no number is a failure."""
    methods, cases = list(values), len(next(iter(values.values())))
    image, grid = torch.zeros(1, 32, 32), VolumeGrid(shape=(1, 32, 32))
    names = [f"case-{k}" for k in range(cases)]
    shown = tuple(
        Shown(name=name, about="", reference=image, kind="phantom", grid=grid, mask=image == 0, region="")
        for name in names
    )
    measure = Measure(name="rmse", label="RMSE", unit="HU", better=better, protocol="none")
    cells = {
        (case, method): Cell(values={"rmse": tuple(found)}, images=(image,)) if found else Cell(message="broken")
        for method in methods
        for case, found in zip(names, values[method], strict=True)
    }
    draws = max(len(found) for per_case in values.values() for found in per_case)
    return Outcome(
        setup=Setup(size=32, draws=max(draws, 1), seed=0, metrics=("rmse",)),
        entrants=tuple(Entrant(name=name, label=name, source="", tuning="") for name in methods),
        shown=shown,
        measures=(measure,),
        cells=cells,
    )


HEADLINES: tuple[tuple[dict[str, list[list[float]]], str], ...] = (
    (
        {"fbp": [[40.0], [50.0], [60.0]], "unet": [[20.0], [25.1], [29.9]]},
        "unet is first in RMSE on all 3 cases, 50 % [25, 75] below fbp.",
    ),
    (
        {"fbp": [[40.0], [50.0], [60.0]], "nlm": [[50.0], [60.0], [70.0]]},
        "fbp, the baseline, is first in RMSE on all 3 cases.",
    ),
    ({"fbp": [[40.0], [50.0], [60.0]], "nlm": [[30.0], [61.0], [55.0]]}, "nlm and fbp are tied for first in RMSE."),
    (
        {"fbp": [[90.0], [91.0], [89.0]], "nlm": [[40.0], [50.0], [60.0]], "tv": [[41.0], [49.0], [61.0]]},
        "nlm and tv are tied for first in RMSE; nlm is 44 % [15, 74] below fbp.",
    ),
    (
        {"fbp": [[40.0, 41.0, 40.0]], "unet": [[20.0, 21.0, 20.0]]},
        "unet is first in RMSE on case-0, 50 % [50, 50] below fbp.",
    ),
    (
        {"fbp": [[40.0]], "unet": [[30.0]]},
        "unet is first in RMSE on case-0, 25 % below fbp; a single draw gives no interval.",
    ),
    ({"fbp": [[40.0, 41.0, 42.0]]}, "fbp reaches 41.0 HU [38.5, 43.5] in RMSE on case-0."),
    (
        {"fbp": [[40.0], [41.0]], "unet": [[], []]},
        "fbp, the only method with numbers, reaches 40.5 HU in RMSE on all 2 cases.",
    ),
    ({"fbp": [[], [41.0]], "unet": [[30.0], []]}, "No method has RMSE on all 2 cases."),
    ({"fbp": [[]], "unet": [[]]}, "No method has RMSE on case-0."),
)


@pytest.mark.parametrize(("values", "said"), HEADLINES)
def test_headline_says_no_more_than_the_numbers(values: dict[str, list[list[float]]], said: str) -> None:
    found = numbered(values)
    assert wording.headline(found, found.measures[0]) == said
    assert said in re.sub("<[^>]*>", "", page(found))


def test_headline_counts_a_crowd_instead_of_naming_it() -> None:
    values = {"fbp": [[50.0], [60.0]]} | {f"m{k}": [[50.0 + k], [60.0 - k]] for k in range(1, 7)}
    found = numbered(values)
    said = wording.headline(found, found.measures[0])
    assert said == "fbp has the best mean RMSE, but 6 others are not clearly behind."


def test_higher_is_better_turns_words_and_colours() -> None:
    found = numbered({"fbp": [[0.5], [0.6]], "unet": [[0.9], [0.99]]}, better="higher")
    assert "above fbp" in wording.headline(found, found.measures[0])
    assert 'class="better"' in page(found)
    assert 'class="worse"' in page(numbered({"fbp": [[0.5], [0.6]], "unet": [[0.9], [0.99]]}))


@pytest.mark.parametrize(
    ("one", "two", "places"),
    [(52.1, 23.4, 1), (0.912, 0.61, 3), (0.9991, 0.9995, 5), (1520.0, 130.0, 0), (0.0, 0.0, 2), (35.0, 35.004, 3)],
)
def test_digits_tell_methods_apart(one: float, two: float, places: int) -> None:
    assert wording.decimals(numbered({"fbp": [[one]], "nlm": [[two]]}), "rmse") == places


def test_table_fits_a_terminal_and_says_what_failed(outcome: Outcome) -> None:
    lines = outcome.table().splitlines()
    assert max(len(line) for line in lines) <= 100
    text = "\n".join(lines)
    for said in ("failed: bm3d", "change from fbp, paired over 2 cases", "mean of 2 cases", "the best of 6", "Student"):
        assert said in text
    row, places = outcome.row("anatomy-3", "hann", "rmse"), wording.decimals(outcome, "rmse")
    assert f"{row.mean:.{places}f} [{row.low:.{places}f}, {row.high:.{places}f}]" in text


def test_table_breaks_many_metrics_into_parts_that_fit() -> None:
    one = numbered({"fbp": [[40.0, 41.0]], "nlm": [[30.0, 32.0]]})
    many = tuple(replace(one.measures[0], label=f"metric number {k}") for k in range(9))
    lines = replace(one, measures=many).table().splitlines()
    assert max(len(line) for line in lines) <= 100
    assert all(sum(f"metric number {k} (HU)" in line for line in lines) == 1 for k in range(9))


def test_changes_over_fewer_cases_say_so() -> None:
    found = numbered({"fbp": [[40.0], [50.0], [60.0]], "nlm": [[30.0], [40.0], []]})
    assert "(2 cases)" in found.table()
    assert "<small>2 cases</small>" in page(found)
    assert "failed on 1 of 3" in page(found)


def test_markdown_keeps_its_columns(outcome: Outcome) -> None:
    entrants = (replace(outcome.entrants[0], name="a|b"), *outcome.entrants[1:])
    cells = {(case, "a|b" if method == "fbp" else method): cell for (case, method), cell in outcome.cells.items()}
    rows = [line for line in markdown(replace(outcome, entrants=entrants, cells=cells)) if line.startswith("|")]
    assert len(rows) == 3 * (2 + len(entrants))
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {5}


def test_page_loads_nothing(outcome: Outcome) -> None:
    html = page(outcome, command="raymend compare --methods fbp,hann")
    plain = re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "", html)
    assert not re.search(r"https?:|//[a-z]|@import|url\(", plain)
    sources = re.findall(r'(?:src|href)="([^"]*)"', html)
    assert len(sources) > 2 * 3 * 3
    assert all(source.startswith(("data:image/png;base64,", "#case-")) for source in sources)
    assert "default-src 'none'" in html


def test_page_escapes(outcome: Outcome) -> None:
    bad = "<script>alert(1)</script>"
    worst = replace(outcome.entrants[3], name=bad, label=bad, source=bad, note=bad, tuning=bad)
    entrants = (*outcome.entrants[:3], worst)
    shown = tuple(replace(one, about=bad, region=bad, kind=bad) for one in outcome.shown)
    measures = tuple(replace(one, label=bad, unit=bad, protocol=bad) for one in outcome.measures)
    cells = {
        (case, bad if method == "bm3d" else method): replace(cell, message=cell.message and bad)
        for (case, method), cell in outcome.cells.items()
    }
    whole = replace(outcome, entrants=entrants, shown=shown, measures=measures, cells=cells, notes=(bad,), tuning=bad)
    html = page(whole, command=bad)
    assert html.count("<script>") == 1
    assert html.count("&lt;script&gt;alert(1)") > 10


def test_page_says_all_that_numbers_rest_on(outcome: Outcome) -> None:
    html = page(outcome)
    for said in (
        "somatom16", "10000 photons", "seed 1", "data range 2000 HU", "−1000 to 1000 HU", "body",
        "a paper of 1984", "anatomy-101", "the best of 6", "suit methods that favour flat regions", "Setup(preset=",
        "raymend 0", "phantom", "its licence keeps it out of here", "Radial noise power spectrum",
        "Profile along the marked line",
    ):  # fmt: skip
        assert said in html, said


def single(outcome: Outcome) -> Outcome:
    """The same with one noise draw."""
    cells = {
        key: replace(cell, values={name: found[:1] for name, found in cell.values.items()}, images=cell.images[:1])
        for key, cell in outcome.cells.items()
    }
    return replace(outcome, setup=replace(outcome.setup, draws=1), cells=cells)


def alone(outcome: Outcome) -> Outcome:
    """One method on one case of one draw."""
    return replace(single(outcome), entrants=outcome.entrants[:1], shown=outcome.shown[:1])


def failed(outcome: Outcome) -> Outcome:
    """Nothing worked."""
    return replace(outcome, cells={key: Cell(message="nothing works") for key in outcome.cells})


def volumes(outcome: Outcome) -> Outcome:
    """Three slices, other sizes, voxels that are no cubes, no window, infinite numbers, an image that does not fit."""

    def cut(image: Tensor, k: int) -> Tensor:
        return image[..., : 80 - 9 * k, : 90 - 20 * k].repeat(3, 1, 1)

    order = [shown.name for shown in outcome.shown]
    shown = tuple(
        replace(
            one,
            reference=cut(one.reference, k),
            mask=cut(one.mask, k),
            grid=VolumeGrid(shape=tuple(cut(one.mask, k).shape), spacing=(1.0, 2.0, 1.0)),
        )
        for k, one in enumerate(outcome.shown)
    )
    cells = {
        (case, method): replace(
            cell,
            values={"rmse": cell.values["rmse"], "ssim": (math.inf,) * 3} if cell.values else {},
            images=tuple(i if method == "hann" else cut(i, order.index(case)) for i in cell.images),
        )
        for (case, method), cell in outcome.cells.items()
    }
    setup = replace(outcome.setup, window=None, metrics=("rmse",))
    return replace(outcome, shown=shown, cells=cells, setup=setup)


@pytest.mark.parametrize("vary", [single, alone, failed, volumes])
def test_everything_is_drawn_of_odd_outcomes(outcome: Outcome, vary: Callable[[Outcome], Outcome]) -> None:
    odd = vary(outcome)
    assert max(len(line) for line in odd.table().splitlines()) <= 100
    html = page(odd)
    assert "nan" not in re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "", html).lower()
    assert ("need two noise draws" in html) == (vary is not volumes)
    assert ("slice 2 of 3" in html) == (vary is volumes)
    assert ("the reference&#39;s grid" in html) == (vary is volumes)
    drawn = pictures.files(odd)
    assert all(content[:8] == b"\x89PNG\r\n\x1a\n" for content in drawn.values())
    kinds = ["images", "profile", *["noise-power"] * (vary is volumes)]
    assert set(drawn) == {"metrics.png", *(f"{s.name}-{kind}.png" for s in odd.shown for kind in kinds)}


def test_figure_shows_reference_methods_and_their_differences(outcome: Outcome) -> None:
    figure = outcome.figure("anatomy-3", window=(-160.0, 240.0))
    shown = [axes for axes in figure.axes if axes.images and not axes.axison]
    assert [axes.get_title() for axes in shown if axes.get_title()] == ["reference", "fbp", "hann", "gauss-0.4"]
    assert len(shown) == 3 * 4 - 1
    first = {axes.images[0].get_clim() for axes in shown if axes.get_title()}
    assert first == {(-160.0, 240.0)}


def test_files_have_names_of_their_own(outcome: Outcome) -> None:
    shown = tuple(replace(outcome.shown[0], name=name) for name in ("/data/a.dcm", "b\\a.dcm", "..", "Kopf ä/1"))
    assert pictures.file_names(replace(outcome, shown=shown)) == ["a.dcm-1", "a.dcm-2", "case", "1"]


def test_page_of_many_stays_small() -> None:
    source = torch.Generator().manual_seed(0)
    found = numbered({f"method-{k}": [[40.0]] for k in range(12)})
    reference = torch.zeros(1, 256, 256)
    noisy = torch.randn(reference.shape, generator=source)
    shown = replace(found.shown[0], reference=reference, grid=VolumeGrid(shape=(1, 256, 256)), mask=reference == 0)

    def weight(noise: float) -> tuple[int, int]:
        cells = {key: replace(cell, images=(noise * noisy,)) for key, cell in found.cells.items()}
        seen = view(replace(found, shown=(shown,), cells=cells), shown)
        sizes = Sizes.of([seen] * 5)
        one = cards(replace(seen, planes={"method-0": seen.planes["method-0"]}), sizes, {})[1]
        return sizes.step, 60 * sum(len(one[key]) for key in ("image", "detail", "difference"))

    (step, size), (coarse, reduced) = weight(8.0), weight(400.0)
    assert (step, coarse) == (1, 2)
    assert size < 5.5e6
    assert reduced < 5.5e6


def test_detail_is_where_methods_differ_and_structure_is() -> None:
    y, x = torch.meshgrid(torch.arange(128.0), torch.arange(128.0), indexing="ij")
    body = (y - 64) ** 2 + (x - 64) ** 2 < 55**2
    insert, other = ((y - 40) ** 2 + (x - 50) ** 2 < 16), ((y - 90) ** 2 + (x - 80) ** 2 < 16)
    reference = (torch.where(body, 40.0, -1000.0) + 30 * insert + 30 * other)[None]
    found = numbered({"fbp": [[2.0]], "lost": [[1.0]]})
    shown = replace(found.shown[0], reference=reference, mask=body[None], grid=VolumeGrid(shape=(1, 128, 128)))
    images = {"fbp": reference, "lost": reference - 30 * insert}
    cells = {("case-0", name): Cell(values={"rmse": (1.0,)}, images=(image,)) for name, image in images.items()}
    seen = view(replace(found, shown=(shown,), cells=cells), shown)
    rows, columns = seen.detail
    assert rows.start <= 36
    assert rows.stop >= 44
    assert columns.start <= 46
    assert columns.stop >= 54
    assert 36 <= seen.row <= 44
    low, high = seen.detail_window
    assert -1000 < low < 40 < 70 < high < 1000


def test_noise_power_is_that_of_white_noise() -> None:
    source = torch.Generator().manual_seed(1)
    found = numbered({"fbp": [[2.0, 2.0]]})
    reference = torch.zeros(1, 200, 200)
    draws = tuple(10 * torch.randn(reference.shape, generator=source) for _ in range(2))
    shown = replace(
        found.shown[0], reference=reference, mask=reference == 0, grid=VolumeGrid(shape=(1, 200, 200), spacing=0.5)
    )
    cells = {("case-0", "fbp"): Cell(values={"rmse": (1.0, 1.0)}, images=draws)}
    power = spectra(view(replace(found, shown=(shown,), cells=cells), shown))
    assert "16 squares of 16 × 16 pixels" in power.said
    # Measured: 2.5 % from 100 HU² × 0.25 mm².
    assert float(power.lines["fbp"].values.mean()) == pytest.approx(25.0, rel=0.08)


def test_ticks_are_round_and_inside() -> None:
    assert ticks(0.61, 0.94) == [0.7, 0.8, 0.9]
    assert ticks(-3.0, 12.0) == [-2.0, 0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0] or ticks(-3.0, 12.0) == [0.0, 5.0, 10.0]
    assert ticks(5.0, 5.0) == [5.0]


def test_palette_comes_back_from_the_file() -> None:
    import io

    import numpy as np
    from PIL import Image

    palette = np.array([[255, 0, 0, 255], [0, 255, 0, 128], [9, 8, 7, 0]], dtype=np.uint8)
    indices = np.array([[0, 1, 2], [2, 2, 1]], dtype=np.uint8)
    read = Image.open(io.BytesIO(encode_palette(indices, palette, {"Software": "raymend"}))).convert("RGBA")
    assert (np.asarray(read) == palette[indices]).all()
