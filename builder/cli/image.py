"""``seatsmith image``, ``lock``, ``fetch``, ``verify``, ``mkosi``, ``store``: from a profile to an image."""

import os
from pathlib import Path
from typing import Annotated

import typer

from builder.cli.output import show
from builder.cli.publish import RebuilderKeys, profile_name, rebuilder_keys
from builder.cli.shell_names import complete_profile, complete_source
from builder.cli.sign import Keys, default_keys

Name = Annotated[
    str, typer.Argument(help="The profile's name: a file below profiles/.", autocompletion=complete_profile)
]
SourceOption = Annotated[
    str,
    typer.Option(
        "--source", envvar="SOURCE", help="auto, upstream or standin.", autocompletion=complete_source
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Locked = Annotated[bool, typer.Option("--locked", help="Refuse to make or renew a lock (CI, releases).")]

store_app = typer.Typer(no_args_is_help=True, help="The store of fetched packages.")


def register(app: typer.Typer) -> None:
    app.command("image")(image)
    app.command("lock")(lock)
    app.command("fetch")(fetch)
    app.command("verify")(verify)
    app.command("mkosi", context_settings={"ignore_unknown_options": True})(pass_to_mkosi)
    app.add_typer(store_app, name="store")


def image(
    name: Name,
    source: SourceOption = "auto",
    locked: Locked = False,
    force: Annotated[bool, typer.Option("--force", help="Build even where nothing changed.")] = False,
    version: Annotated[str | None, typer.Option("--image-version", help="Default: the lock's date.")] = None,
    json: Json = False,
) -> None:
    """Build a profile's image and put it, with its host bundle and papers, into dist/NAME."""
    from builder.project import find_project
    from builder.quick import report
    from builder.uptodate import Request, recall

    project = find_project()
    request = Request(name, source, version, os.environ.get("SIGNING_KEY", ""))
    result = None if force else recall(project, request)
    if result is None:
        from builder.deliver import deliver
        from builder.profile import load_profile

        result = deliver(
            project, load_profile(project, name), source=source, locked=locked, force=force, version=version
        )
    show(*report(name, result), as_json=json)


def lock(
    name: Name,
    source: SourceOption = "auto",
    date: Annotated[
        str | None, typer.Option("--date", help="Snapshot of the mirror, YYYY-MM-DD (default: yesterday).")
    ] = None,
    json: Json = False,
) -> None:
    """Resolve a profile's packages anew and pin them by size and digest."""
    from builder.distro.arch import parse_day
    from builder.errors import UsageError
    from builder.image import lock_path, make_lock, source_for
    from builder.profile import load_profile
    from builder.project import find_project
    from builder.sources import Source

    project = find_project()
    profile = load_profile(project, name)
    if date is not None:
        parse_day(date)  # before the network is asked
    origin = source_for(profile, source)
    if date is not None and origin is Source.STANDIN:
        raise UsageError("--date is of upstream; the stand-in has the packages of one day alone")
    made = make_lock(project, profile, origin, date=date)
    path = lock_path(project, profile, origin)
    show(
        {"lock": path, "source": origin, "snapshot": made.snapshot, "packages": len(made.packages())},
        f"{path}: {len(made.packages())} packages as of {made.snapshot} ({origin})",
        as_json=json,
    )


def fetch(name: Name, source: SourceOption = "auto", locked: Locked = False, json: Json = False) -> None:
    """Bring everything that a profile's lock names into the store."""
    from builder.image import fetch as fetch_lock
    from builder.image import obtain_lock, source_for
    from builder.profile import load_profile
    from builder.project import find_project

    project = find_project()
    profile = load_profile(project, name)
    found = obtain_lock(project, profile, source_for(profile, source), locked=locked)
    fetch_lock(project, found)
    count = len(found.files)
    show({"profile": name, "files": count}, f"{count} files of {name} are in the store", as_json=json)


def verify(
    name: Name,
    source: SourceOption = "auto",
    require_rebuilders: Annotated[
        int, typer.Option(min=0, help="Do not build: N others must have signed that dist/NAME came out.")
    ] = 0,
    statement: Annotated[
        list[Path] | None, typer.Option(help="Rebuild statement, or directory (default: dist/rebuilds/).")
    ] = None,
    key: Keys = None,
    rebuilder_key: RebuilderKeys = None,
    json: Json = False,
) -> None:
    """Build the image a second time under other conditions and compare it bit by bit."""
    if require_rebuilders:
        verify_by_others(name, require_rebuilders, statement, key, rebuilder_key, json)
        return
    from builder.image import source_for
    from builder.profile import load_profile
    from builder.project import find_project
    from builder.rebuild import verify_reproducible

    project = find_project()
    profile = load_profile(project, name)
    outcome = verify_reproducible(project, profile, source_for(profile, source))
    show(
        {"profile": name, "identical": True, "digests": outcome.digests, "conditions": outcome.conditions},
        f"{name}: both builds are bit-identical\n"
        + "\n".join(f"  {digest}  {file}" for file, digest in outcome.digests.items())
        + f"\n  the second build had {', '.join(outcome.conditions)}",
        as_json=json,
    )


def verify_by_others(
    name: str,
    number: int,
    statement: list[Path] | None,
    key: list[Path] | None,
    rebuilder_key: list[Path] | None,
    json: bool,
) -> None:
    from builder.outputs.sign import trusted_keys
    from builder.project import find_project
    from builder.publish.statements import verify_vouched

    dist = find_project().dist
    report, found = verify_vouched(
        dist / profile_name(name),
        keys=trusted_keys(default_keys(key)),
        statements=statement or [dist / "rebuilds"],
        rebuilder_keys=rebuilder_keys(rebuilder_key, number),
        number=number,
    )
    show(
        {"profile": name, "version": report.version, "signature": report.signature, "rebuilders": found},
        f"{name} {report.version}: {report.signature}\n"
        + "\n".join(f"  rebuilt bit by bit by {fingerprint}" for fingerprint in found),
        as_json=json,
    )


def pass_to_mkosi(
    name: Name,
    words: Annotated[list[str], typer.Argument(help="After --: options and a verb for mkosi.")],
    source: SourceOption = "auto",
) -> None:
    """Call mkosi itself with everything that a build of the profile would give it."""
    from builder.image import interactive_mkosi
    from builder.profile import load_profile
    from builder.project import find_project

    project = find_project()
    raise typer.Exit(interactive_mkosi(project, load_profile(project, name), source, words))


@store_app.command("export")
def store_export(
    name: Name,
    archive: Annotated[Path, typer.Argument(help="The tar to write.")],
    source: SourceOption = "auto",
    json: Json = False,
) -> None:
    """Write a lock and all its inputs into one tar, for a machine without network."""
    from builder.carry import export_inputs
    from builder.profile import load_profile
    from builder.project import find_project

    project = find_project()
    count = export_inputs(project, load_profile(project, name), source, archive)
    said = f"{archive}: the lock of {name} and {count} files"
    show({"profile": name, "archive": archive, "files": count}, said, as_json=json)


@store_app.command("import")
def store_import(
    archive: Annotated[Path, typer.Argument(help="A tar made by store export.")], json: Json = False
) -> None:
    """Take an exported tar in: files into the store, the lock to where it is looked for."""
    from builder.carry import import_inputs
    from builder.project import find_project

    profile, count = import_inputs(find_project(), archive)
    said = f"{count} files and the lock of {profile} taken in"
    show({"profile": profile, "files": count}, said, as_json=json)


@store_app.command("prune")
def store_prune(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go; remove nothing.")] = False,
    json: Json = False,
) -> None:
    """Remove what no lock of the project names: in the cache, in profiles/ and in dist/."""
    from builder.carry import prune_store
    from builder.project import find_project
    from builder.ui import size_text

    gone = prune_store(find_project(), dry_run=dry_run)
    would = "would be removed" if dry_run else "removed"
    show(
        {"files": gone.files, "size": gone.size, "removed": not dry_run},
        f"{gone.files} files, {size_text(gone.size)}, {would} from the store",
        as_json=json,
    )
