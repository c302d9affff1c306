import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from phantoms import Dose, anatomy, shepp_logan, simulate
from raymend.comparison.outcome import Cell, Entrant, Measure, Outcome, Shown
from raymend.comparison.page import page
from raymend.comparison.setup import Setup
from recon import ConeBeam, Detector, VolumeGrid, fbp, to_hu
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


def test_table_fits_a_terminal_and_says_what_failed(outcome: Outcome) -> None:
    lines = outcome.table().splitlines()
    assert max(len(line) for line in lines) <= 100
    text = "\n".join(lines)
    for said in ("failed: bm3d", "change from fbp, paired over 2 cases", "mean of 2 cases", "the best of 6", "Student"):
        assert said in text
    row = outcome.row("anatomy-3", "hann", "rmse")
    assert f"{row.mean:.1f} [{row.low:.1f}, {row.high:.1f}]" in text


def test_page_loads_nothing(outcome: Outcome) -> None:
    html = page(outcome, command="raymend compare --methods fbp,hann")
    plain = re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "", html)
    assert not re.search(r"https?:|//[a-z]|@import|url\(", plain)
    sources = re.findall(r'(?:src|href)="([^"]*)"', html)
    assert all(source.startswith(("data:image/png;base64,", "#case-")) for source in sources)
    assert "default-src 'none'" in html
