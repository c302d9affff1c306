"""The command `raymend`; `python -m raymend` is the same."""

import atexit
import gc
from typing import Annotated

import typer

import raymend
from raymend.cli.commands import Commands
from raymend.cli.compare import compare, methods
from raymend.cli.demo import demo
from raymend.cli.doctor import doctor
from raymend.cli.guard import command
from raymend.cli.info import info
from raymend.cli.reconstruct import reconstruct
from raymend.cli.reduce_dose import reduce_dose
from raymend.cli.simulate import simulate

app = typer.Typer(
    name="raymend",
    cls=Commands,
    help="CT reconstruction: from projections to images in HU, with numbers that say how good they are.",
    epilog="Start with: raymend demo",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help needs no import of rich
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
for function in (demo, info, reconstruct, simulate, reduce_dose, compare, methods, doctor):
    app.command()(command(function))


def _version(wanted: bool) -> None:
    if wanted:
        print(f"raymend {raymend.__version__}")
        raise typer.Exit


@app.callback()
def about(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """CT reconstruction: from projections to images in HU, with numbers that say how good they are."""


def main() -> None:
    """Run the command line."""
    atexit.register(gc.freeze)  # a process that ends need not look for garbage: half a second of every command
    app(prog_name="raymend")


if __name__ == "__main__":
    main()
