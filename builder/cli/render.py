"""``seatsmith render``: the files that a profile puts into its image and on its host."""

from pathlib import Path
from typing import Annotated

import typer

from builder.cli.output import show
from builder.cli.shell_names import complete_profile


def register(app: typer.Typer) -> None:
    app.command("render")(render)


def render(
    name: Annotated[
        str,
        typer.Argument(help="The profile's name: a file below profiles/.", autocompletion=complete_profile),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="Directory to render into (default: dist/NAME.rendered).")
    ] = None,
    diff: Annotated[
        bool, typer.Option("--diff", help="Show what differs from what was last rendered or built.")
    ] = False,
    host_user: Annotated[
        str | None,
        typer.Option("--host-user", help="Who runs the host's sound server (default: the profile's user)."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Render a profile: image/ for its image, host/ for the root of its host, mkosi.conf for mkosi."""
    import tempfile

    from builder.errors import UsageError
    from builder.profile import load_profile
    from builder.profile.checks import USER_NAME
    from builder.project import find_project
    from builder.render.preview import keep_rendered, render_all, tree_diff, tree_text

    if host_user is not None and (wrong := USER_NAME.problem(host_user)):
        raise UsageError(f"--host-user {wrong}", hint=f"accepted: {USER_NAME.accepted}")
    project = find_project()
    profile = load_profile(project, name)
    place = out or project.rendered(name)
    if diff:
        with tempfile.TemporaryDirectory() as scratch:
            render_all(profile, Path(scratch), host_user=host_user)
            lines = list(tree_diff(place, Path(scratch)))
        changed = [line[6:] for line in lines if line.startswith("+++ b/")]
        changed += [line[6:] for line in lines if line.startswith("--- a/") and line[6:] not in changed]
        said = "\n".join(lines) or f"nothing differs from {place}"
        show(
            {"profile": name, "compared": place, "changed": sorted(changed), "diff": lines},
            said,
            as_json=json,
        )
        return
    keep_rendered(profile, place, host_user=host_user)
    files = sorted(tree_text(place))
    show(
        {"profile": name, "place": place, "files": files},
        "\n".join([f"{place}: {len(files)} files", *(f"  {file}" for file in files)]),
        as_json=json,
    )
