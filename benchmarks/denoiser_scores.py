"""How much a trained denoiser gains on patients it has not seen, on real slices, and on real low-dose images."""

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from low_dose_cases import Case, cases, data_folder
from safetensors.torch import load_file, save_file
from torch import Tensor

from phantoms import anatomy
from recon import read_volume, rmse
from recon.io.atomic import atomic_write

PHOTONS, SEED = 7e4, 1
HELD_OUT = range(900, 910)  # seeds of patients
KINDS = {"thorax": 430.0, "abdomen": 430.0, "head": 260.0, "jaw": 260.0}  # mm across the image
CONDITIONS = (
    "somatom16, 70000 photons, electronic variance 11, 256 pixels a side; RMSE in HU in the field of view against the "
    "reconstruction without noise; cut: mean over cases of 1 - network / noisy; drop: cut in domain / out of domain"
)
QUARTER = ("L143_{}/000073.IMA", "L143_{}/000105.IMA", "L192_{}/000024.IMA")
BODY = -500.0  # HU

Denoiser = Callable[[Tensor], Tensor]
Images = dict[str, dict[str, Tensor]]


def scored(quick: bool) -> dict[str, list[Case]]:
    """Return the cases that a denoiser is scored on."""
    kinds = tuple(KINDS)
    drawn = []
    for k in HELD_OUT[2:3] if quick else HELD_OUT:
        kind = kinds[(k - HELD_OUT[0]) % len(kinds)]
        drawn.append(
            Case(
                name=f"{kind} {k}", kind="thorax", make=lambda kind=kind, k=k: anatomy(seed=k, kind=kind),
                size=48 if quick else 256, width=KINDS[kind], quick=quick,
            )
        )  # fmt: skip
    real = [case for case in cases(quick).values() if case.kind == "real"]
    return {"in domain": drawn, "out of domain": real[2:3] if quick else real}


def images(file: Path, group: list[Case]) -> Images:
    """Return clean and noisy images and masks of cases, kept in a file."""
    if not file.exists():
        parts = {}
        for case in group:
            found = {
                "clean": case.image(case.clean),
                "noisy": case.image(case.scan(PHOTONS, SEED)),
                "mask": case.mask.clone(),
            }
            parts |= {f"{case.name}|{key}": value.contiguous() for key, value in found.items()}
        with atomic_write(file) as temporary:
            save_file(parts, temporary)
    stored: Images = {}
    for name, value in load_file(file).items():
        case_name, key = name.split("|")
        stored.setdefault(case_name, {})[key] = value
    return stored


def gains(denoise: Denoiser, shown: Images) -> dict[str, dict[str, float]]:
    """Return the RMSE before and after for each case."""
    rows = {}
    for name, one in shown.items():
        errors = [rmse(image, one["clean"], mask=one["mask"]) for image in (one["noisy"], denoise(one["noisy"]))]
        rows[name] = {key: round(value, 2) for key, value in zip(("noisy", "network"), errors, strict=True)}
    return rows


def cut(rows: dict[str, dict[str, float]]) -> float:
    """Return the mean share of the RMSE that is gone."""
    return round(mean(1 - row["network"] / row["noisy"] for row in rows.values()), 4)


def quarter_dose(denoise: Denoiser, folder: Path, names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return how far quarter-dose slices of patients are from the full-dose ones, in the body, before and after."""
    shown: Images = {}
    for name in names:
        quarter, full = (read_volume(folder / "ldct_pairs_mayo" / name.format(dose)).values for dose in ("QD", "FD"))
        shown[name.format("QD")] = {"noisy": quarter.float(), "clean": full.float(), "mask": full > BODY}
    return gains(denoise, shown)


def scores(denoise: Denoiser, folder: Path, quick: bool = False) -> dict[str, Any]:
    """Return all scores of a denoiser; where real data is absent, those in domain only."""
    told: dict[str, Any] = {"conditions": CONDITIONS}
    for name, group in scored(quick).items():
        if group:
            told[name] = gains(denoise, images(folder / f"{name.replace(' ', '-')}.safetensors", group))
            told[f"cut {name}"] = cut(told[name])
    real = data_folder()
    if real is not None:
        told["drop"] = round(told["cut in domain"] / told["cut out of domain"], 3)
        told["quarter dose against full dose, in the body"] = quarter_dose(
            denoise, real, QUARTER[:1] if quick else QUARTER
        )
    return told
