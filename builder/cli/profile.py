"""``seatsmith profile``, ``check`` and ``schema``: look at profiles before anything is built from them."""

from typing import Annotated, Any

import typer

from builder.cli.output import show
from builder.cli.shell_names import complete_profile

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]

# what `seatsmith check` looks at beside profiles: a word for it, its folder, and two functions module:name,
# (Project) -> names, and (Project, name) -> anything that raises InputError where the file is wrong
CHECKS = [("seat", "profiles/seats", "builder.seat.load:seat_names", "builder.seat.plan:load_plan")]


def register(app: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True, help="Show, list and begin profiles.")
    group.command("show")(show_profile)
    group.command("list")(list_profiles)
    group.command("new")(new)
    app.add_typer(group, name="profile")
    app.command("check")(check)
    app.command("schema")(schema)


def show_profile(
    name: Annotated[str, typer.Argument(help="Name of a profile.", autocompletion=complete_profile)],
    json: AsJson = False,
) -> None:
    """Show what a profile comes to, and from which line each value is."""
    from builder.profile import resolve_profile
    from builder.profile.positions import display_path
    from builder.profile.show import origins, settings, show_text
    from builder.project import find_project

    resolved = resolve_profile(find_project(), name)
    value = {
        "profile": settings(resolved),
        "origins": origins(resolved),
        "files": [display_path(f) for f in resolved.files],
    }
    show(value, show_text(resolved), as_json=json)


def list_profiles(json: AsJson = False) -> None:
    """List the profiles with what they are."""
    from builder.errors import InputError
    from builder.profile import profile_names, resolve_profile
    from builder.project import find_project

    project = find_project()
    rows: list[dict[str, Any]] = []
    for name in profile_names(project):
        try:
            p = resolve_profile(project, name).profile
        except InputError as e:
            rows.append({"name": name, "error": e.message})
            continue
        rows.append(
            {
                "name": name,
                "distribution": p.distribution.value,
                "role": p.role.value,
                "vt": p.display.vt,
                "bootable": p.bootable,
                "description": p.description,
            }
        )
    width = max((len(str(row["name"])) for row in rows), default=0)
    lines = []
    for row in rows:
        words = "cannot be used; see: seatsmith check"
        if "error" not in row:
            words = f"{row['distribution']:<6}  {row['role']:<9}  VT{row['vt']:<2}  {row['description']}"
        lines.append(f"{row['name']:<{width}}  {words}")
    show(rows, "\n".join(lines) or "there are no profiles", as_json=json)


def new(
    name: Annotated[str, typer.Argument(help="Name of the new profile.")],
    extends: Annotated[
        list[str] | None, typer.Option(help="What it builds on; may be given several times.")
    ] = None,
    distribution: Annotated[str | None, typer.Option(help="arch or gentoo.")] = None,
    vt: Annotated[
        int | None, typer.Option(help="Virtual terminal; default: the first free from 8 on.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Begin a profile: write profiles/NAME.yaml with the usual settings, commented."""
    from builder.errors import UsageError
    from builder.profile.model import Distribution
    from builder.profile.new import checked_words, new_profile
    from builder.profile.positions import display_path
    from builder.project import find_project

    if distribution is not None and distribution not in list(Distribution):
        raise UsageError(
            f"there is no distribution {distribution!r}", hint=f"accepted: {', '.join(Distribution)}"
        )
    path = new_profile(
        find_project(),
        name,
        extends=checked_words(extends or []),
        distribution=Distribution(distribution) if distribution else None,
        vt=vt,
    )
    show({"path": display_path(path)}, f"wrote {display_path(path)}", as_json=json)


def check(json: AsJson = False) -> None:
    """Check all profiles and seats; exit with 3 where something is wrong."""
    from builder.profile.check import check_all
    from builder.profile.positions import FileError
    from builder.project import find_project

    report = check_all(find_project(), CHECKS)
    value = {
        "checked": report.checked,
        "problems": [
            {
                "file": str(p.position.file),
                "line": p.position.line,
                "column": p.position.column,
                "message": p.message,
            }
            for p in report.problems
        ],
    }
    if json or not report.problems:
        show(value, f"checked {', '.join(report.checked)}: no errors", as_json=json)
    if report.problems:
        raise FileError(report.problems)


def schema(
    write: Annotated[
        bool,
        typer.Option("--write", help="Renew profiles/schema.json and the reference in docs/profiles.md."),
    ] = False,
) -> None:
    """Print the JSON schema of profile files."""
    from builder.profile.schema import schema_text, write_schema
    from builder.project import find_project

    if write:
        write_schema(find_project())
    else:
        print(schema_text(), end="")
