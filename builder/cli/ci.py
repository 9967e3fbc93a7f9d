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
    only: Annotated[
        str | None,
        typer.Option(envvar="PROFILES", help="Only of these profiles: names with spaces between."),
    ] = None,
    source: Annotated[
        str, typer.Option(envvar="SOURCES", help="From these sources, the first of which is released.")
    ] = "auto",
    github: Annotated[
        bool, typer.Option("--github", help="Print images=[…] and so on, as $GITHUB_OUTPUT takes it.")
    ] = False,
    gitlab: Annotated[
        bool, typer.Option("--gitlab", help="Print GitLab's pipeline for them, from ci/gitlab/images.yml.")
    ] = False,
) -> None:
    """List the profiles whose images a change can have altered."""
    import json

    from builder.ci import gitlab_pipeline, sources
    from builder.ci import matrix as affected
    from builder.project import find_project

    project = find_project()
    names = affected(project, since, only=None if only is None else only.split())
    origins = sources(source)
    if gitlab:
        print(gitlab_pipeline((project.root / "ci/gitlab/images.yml").read_text(), names, origins), end="")
    elif github:
        print(f"images={json.dumps(names)}\nsources={json.dumps(origins)}\nsource={origins[0]}")
    else:
        print(json.dumps(names))


@ci_app.command("compare")
def compare(
    first: Annotated[Path, typer.Argument(help="A result directory, or a directory of several.")],
    second: Annotated[Path, typer.Argument(help="The same of another builder.")],
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


@ci_app.command("papers")
def papers(
    result: Annotated[Path, typer.Argument(help="A result directory.")],
    to: Annotated[Path, typer.Argument(help="A directory for the copies.")],
) -> None:
    """Copy what is said about a result, without its images: all that comparing and signing needs."""
    from builder.publish.papers import copy_papers

    print("\n".join(copy_papers(result, to)))


@ci_app.command("renew")
def renew(
    to: Annotated[Path, typer.Option("--to", help="Directory for the summary, new locks and diff pages.")],
    names: Annotated[list[str] | None, typer.Argument(help="Profiles (default: all).")] = None,
    source: Annotated[
        str, typer.Option("--source", envvar="SOURCE", help="auto, upstream or standin.")
    ] = "auto",
    date: Annotated[str | None, typer.Option(help="Snapshot of the mirror, YYYY-MM-DD.")] = None,
) -> None:
    """Renew locks, build before and after, and write down what changes for a reviewer."""
    from builder.project import find_project
    from builder.renew import renew as renew_all

    print(renew_all(find_project(), names or [], to, source=source, date=date), end="")


@ci_app.command("local")
def local(
    jobs: Annotated[list[str] | None, typer.Argument(help="Only these jobs (default: all).")] = None,
    workflow: Annotated[Path, typer.Option(help="The workflow to run.")] = Path("ci/github/images.yml"),
    env: Annotated[list[str] | None, typer.Option("--env", help="NAME=VALUE for every step.")] = None,
    release: Annotated[
        bool, typer.Option("--release", help="As for a tag: test releases by a key made for this run.")
    ] = False,
    keep: Annotated[Path | None, typer.Option(help="Copy the artifacts here.")] = None,
) -> None:
    """Run the pipeline's jobs here, step for step, each in a clean clone."""
    from builder.localci import run_workflow
    from builder.project import find_project

    extra = dict(e.split("=", 1) for e in env or [])
    run_workflow(find_project(), workflow, only=jobs or [], extra=extra, release=release, keep=keep)
