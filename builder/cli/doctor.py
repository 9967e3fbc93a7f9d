"""``seatsmith doctor``: what this machine can do."""

from dataclasses import asdict
from typing import Annotated

import typer

from builder.cli.output import show


def register(app: typer.Typer) -> None:
    app.command("doctor")(doctor)


def doctor(
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Tell what this machine can do (KVM, device-mapper, mirrors, space) and what follows."""
    from builder.doctor import Verdict, examine
    from builder.errors import ExitCode
    from builder.project import find_project

    findings = list(examine(find_project()))
    sign = {Verdict.YES: "✓", Verdict.LESS: "○", Verdict.NO: "✗"}
    width = max(len(f.what) for f in findings)
    lines = [
        f"{sign[f.verdict]} {f.what:<{width}}  {f.seen}\n  {'':<{width}}  → {f.follows}" for f in findings
    ]
    show([asdict(f) for f in findings], "\n".join(lines), as_json=json)
    if any(f.verdict is Verdict.NO for f in findings):
        raise typer.Exit(ExitCode.MACHINE)
