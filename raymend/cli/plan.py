"""`raymend plan`: how image quality depends on dose and views, and what is best for each dose."""

import time
from pathlib import Path
from typing import Annotated

import typer

from raymend.cli import common
from raymend.cli.common import Debug, Json
from raymend.cli.compare import parse_window, shown, split


def plan(
    methods: Annotated[
        str, typer.Option(help="Names that `raymend methods` lists, or file.py:function.")
    ] = "fbp-hann,nlm,unet",
    photons: Annotated[str, typer.Option(help="Doses: photons per pixel and view.")] = "1e4,3e4,1e5,3e5",
    views: Annotated[str, typer.Option(help="Numbers of views.")] = "145,290,580,1160",
    case: Annotated[str, typer.Option(help="A phantom, patient or volume; see compare.")] = "anatomy-thorax:1",
    out: Annotated[Path, typer.Option(help="The folder for tables and figures.")] = Path("raymend-plan"),
    metric: Annotated[str, typer.Option(help="What counts: one of those of compare.")] = "rmse",
    preset: Annotated[str, typer.Option(help="The scanner; an unknown name lists all.")] = "somatom16",
    electronic: Annotated[float, typer.Option(help="Variance of the electronic noise in photons squared.")] = 11.0,
    size: Annotated[int, typer.Option(help="Pixels along a side of the image.")] = 256,
    seed: Annotated[int, typer.Option(help="Of the first noise draw.")] = 0,
    draws: Annotated[int, typer.Option(help="How often the noise is drawn, for intervals.")] = 2,
    window: Annotated[str, typer.Option(help="low,high in HU, or chest, abdomen or neuro.")] = "-1000,1000",
    reference: Annotated[str, typer.Option(help="What is right: phantom or noise-free (projections).")] = "phantom",
    budget: Annotated[int, typer.Option(help="Strengths tried at every point; 1 for no tuning.")] = 1,
    tuning_cases: Annotated[
        str | None, typer.Option(help="What strengths are chosen on.", show_default="three random patients")
    ] = None,
    processes: Annotated[int | None, typer.Option(help="How many work at a time.", show_default="one a core")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on in a folder whose sweep was another one.")] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Sweep dose and views, and draw what each method makes of them; run it again to go on."""
    from raymend.comparison.plan import plan as run

    begun = time.perf_counter()
    with shown("planning", quiet=json) as tell:
        found = run(
            split(methods), case, photons=_numbers("--photons", photons), views=_whole("--views", views),
            metric=metric, out=out, preset=preset, electronic=electronic, size=size, seed=seed, draws=draws,
            window=parse_window(window), reference=reference, budget=budget, processes=processes, resume=resume,
            tuning=None if tuning_cases is None else split(tuning_cases), progress=tell,
        )  # fmt: skip
    if json:
        seconds = round(time.perf_counter() - begun, 1)
        common.print_json({"out": str(out), **found.as_dict(), "seconds": seconds})
    else:
        print(found.table())
        print(f"\n{out / 'pareto.png'}, {out / 'surfaces.png'}: figures; {out / 'plan.csv'}: the numbers")


def _numbers(option: str, text: str) -> list[float]:
    try:
        return [float(word) for word in split(text)]
    except ValueError:
        raise common.config_error(f"{option}: expected numbers with commas between, got {text!r}") from None


def _whole(option: str, text: str) -> list[int]:
    numbers = _numbers(option, text)
    if not all(number.is_integer() for number in numbers):
        raise common.config_error(f"{option}: expected whole numbers with commas between, got {text!r}")
    return [int(number) for number in numbers]
