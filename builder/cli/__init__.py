"""Which commands are there? Each module of this package adds its own; heavy imports wait until one runs."""

import importlib
import pkgutil
from typing import Annotated

import typer

from builder import __version__, ui

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Build, write, boot-test and provision the environments of a seat.",
)


def show_version(wanted: bool) -> None:
    if wanted:
        print(f"seatsmith {__version__}")
        raise typer.Exit


@app.callback()
def common(
    debug: Annotated[
        bool, typer.Option("--debug", help="Log every program that is run; show tracebacks.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say only warnings and errors.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    ui.use(ui.choose(quiet=quiet))


# AREA.py registers commands; AREA_COMMAND.py does what one of them says, and is imported when that runs
for module in pkgutil.iter_modules(__path__):
    if "_" in module.name:
        continue
    if hasattr(found := importlib.import_module(f"{__name__}.{module.name}"), "register"):
        found.register(app)
