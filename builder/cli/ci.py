"""``seatsmith ci``: what the pipelines in ci/ call."""

from pathlib import Path
from typing import Annotated

import typer

from builder.cli.output import show

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
ci_app = typer.Typer(no_args_is_help=True, help="What the pipelines in ci/ call (docs/ci.md).")


def register(app: typer.Typer) -> None:
    app.add_typer(ci_app, name="ci")


@ci_app.command("matrix")
def matrix(
    since: Annotated[
        str | None, typer.Option(help="A git revision (default: the last tag v*; all images without one).")
    ] = None,
    github: Annotated[
        bool, typer.Option("--github", help="Print images=[…], as $GITHUB_OUTPUT takes it.")
    ] = False,
) -> None:
    """List the profiles whose images a change can have altered."""
    import json

    from builder.ci import matrix as affected
    from builder.project import find_project

    names = affected(find_project(), since)
    print(("images=" if github else "") + json.dumps(names))


@ci_app.command("compare")
def compare(
    first: Annotated[Path, typer.Argument(help="A result directory.")],
    second: Annotated[Path, typer.Argument(help="Another builder's result of the same profile.")],
    json: AsJson = False,
) -> None:
    """Refuse (exit code 1) unless two builders made the same bits; only SHA256SUMS is read."""
    from builder.ci import compare as agreed

    digests = agreed(first, second)
    show(
        digests,
        "both builders made the same:\n" + "\n".join(f"  {d}  {n}" for n, d in digests.items()),
        as_json=json,
    )


@ci_app.command("local")
def local(
    jobs: Annotated[list[str] | None, typer.Argument(help="Only these jobs (default: all).")] = None,
    workflow: Annotated[Path, typer.Option(help="The workflow to run.")] = Path("ci/github/images.yml"),
    env: Annotated[list[str] | None, typer.Option("--env", help="NAME=VALUE for every step.")] = None,
) -> None:
    """Run the pipeline's jobs here, step for step, each in a clean clone."""
    from builder.localci import run_workflow
    from builder.project import find_project

    run_workflow(find_project(), workflow, only=jobs or [], extra=dict(e.split("=", 1) for e in env or []))
