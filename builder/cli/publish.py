"""``seatsmith diff``, ``publish``, ``pull``: how images reach others."""

from pathlib import Path
from typing import Annotated

import typer

from builder.cli.output import show

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def register(app: typer.Typer) -> None:
    app.command("diff")(diff)


def diff(
    old: Annotated[Path, typer.Argument(help="A result directory or an image archive.")],
    new: Annotated[Path, typer.Argument(help="The one to compare with it.")],
    html: Annotated[Path | None, typer.Option(help="Write a web page here as well.")] = None,
    json: AsJson = False,
) -> None:
    """Show what differs between two images: packages, rights, units, files, sizes."""
    from builder.files import write_atomic
    from builder.publish.diff import diff_images
    from builder.publish.diffview import as_html, as_json, as_text

    found = diff_images(old, new)
    if html:
        write_atomic(html, as_html(found))
    show(as_json(found), as_text(found), as_json=json)
