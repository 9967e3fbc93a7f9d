"""``seatsmith tools``: the tree of external programs."""

from typing import Annotated

import typer

from builder.cli.output import show


def register(app: typer.Typer) -> None:
    app.command("tools")(tools)


def tools(
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Make the tools tree where it is missing, and say where it is."""
    from builder.tools import ensure_tools

    tree = ensure_tools()
    versions = tree.versions()
    show(
        {"path": tree.root, "versions": versions},
        f"tools tree: {tree.root or 'the programs of this host'} ({len(versions)} packages, "
        f"mkosi {versions.get('mkosi', '?')}, qemu {versions.get('qemu-system-x86', '?')})",
        as_json=json,
    )
