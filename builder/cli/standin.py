"""``seatsmith standin``: the embedded stand-in mirror."""

from typing import Annotated

import typer

from builder.cli.output import show


def register(app: typer.Typer) -> None:
    app.command("standin")(standin)


def standin(
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Make the stand-in mirror where it is missing, and say what it holds."""
    from dataclasses import asdict

    from builder.standin.mirror import ensure_mirror
    from builder.ui import size_text

    mirror = ensure_mirror()
    show(
        asdict(mirror),
        f"stand-in mirror: {mirror.root}\n"
        f"  pacman repositories of {mirror.date}: {mirror.packages} packages, {size_text(mirror.size)}\n"
        f"  signed by {mirror.fingerprint}",
        as_json=json,
    )
