"""``seatsmith diff``, ``publish``, ``pull``: how images reach others."""

from pathlib import Path
from typing import Annotated

import typer

from builder.cli.output import show
from builder.cli.sign import AsJson, Keys, SigningKey, SigstoreIdentity, SigstoreIssuer, default_keys

AllowStandin = Annotated[
    bool, typer.Option("--allow-standin", help="Accept images of the stand-in and test releases.")
]


RebuilderKeys = Annotated[
    list[Path] | None,
    typer.Option(
        "--rebuilder-key",
        help="Public key file of a rebuilder, or a directory of them (default: ci/keys/rebuilders/).",
    ),
]


def register(app: typer.Typer) -> None:
    app.command("diff")(diff)
    app.command("publish")(publish)
    app.command("pull")(pull)
    app.command("rebuild")(rebuild)


def rebuilder_keys(given: list[Path] | None, number: int) -> list[bytes]:
    """Contents of the keys whose rebuilds count; none where none are required."""
    from builder.errors import InputError
    from builder.outputs.sign import trusted_keys
    from builder.project import find_project

    if not number and not given:
        return []
    place = find_project().root / "ci/keys/rebuilders"
    if not given and not place.is_dir():
        raise InputError(
            f"no rebuilder is trusted here: there is no {place}",
            hint="name the keys of those whose rebuilds count with --rebuilder-key FILE, or put them there",
        )
    return trusted_keys(given or [place])


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


def publish(
    to: Annotated[Path, typer.Option("--to", help="The directory that a web server serves.")],
    signing_key: SigningKey = "",
    results: Annotated[
        list[Path] | None, typer.Argument(help="Signed result directories; none to renew the expiry.")
    ] = None,
    key: Keys = None,
    expires: Annotated[str, typer.Option(help="How long the index may be believed: 30d, 12h.")] = "30d",
    keep: Annotated[int, typer.Option(min=1, help="Releases of a profile that stay published.")] = 5,
    deltas: Annotated[bool, typer.Option(help="Make updates from the release before.")] = True,
    gzip: Annotated[
        bool, typer.Option("--gzip", help="Also copies that importctl of systemd before 258 can pull.")
    ] = False,
    report: Annotated[Path | None, typer.Option(help="HTML report of the boot test.")] = None,
    statement: Annotated[
        list[Path] | None,
        typer.Option(help="A rebuild statement to publish, or a directory of them; its .gpg lies beside."),
    ] = None,
    registry: Annotated[
        str | None, typer.Option(help="Also copy all of it into a registry: oci://HOST/REPOSITORY.")
    ] = None,
    allow_standin: AllowStandin = False,
    json: AsJson = False,
) -> None:
    """Add signed results to a static directory, and sign what is current there."""
    from builder.errors import UsageError
    from builder.outputs.sign import trusted_keys
    from builder.publish.index import parse_span
    from builder.publish.site import Terms, publish
    from builder.publish.statements import read_statements
    from builder.ui import size_text

    if report and not results:
        raise UsageError("--report is of the results that are published, and none is named")
    terms = Terms(
        key=signing_key,
        trusted=trusted_keys(default_keys(key)),
        lifetime=parse_span(expires),
        keep=keep,
        allow_standin=allow_standin,
        gzip=gzip,
    )
    index = publish(
        to,
        results or [],
        terms,
        deltas=deltas,
        report=report,
        statements=read_statements(statement or []),
    )
    if registry:
        from builder.publish.oci import push

        push(to, registry)
    lines = [f"{to}: index {index.serial}, good until {index.expires:%Y-%m-%d %H:%M} UTC"]
    lines += [
        f"  {profile} {release.version}  release {release.release}"
        + "".join(f", {size_text(s)} as an update from {v}" for v, s in release.updates().items())
        for profile, releases in sorted(index.profiles.items())
        for release in releases
    ]
    show(index.model_dump(mode="json"), "\n".join(lines), as_json=json)


def profile_name(name: str) -> str:
    """A name that is joined to paths before any file tells whether there is such a profile."""
    from builder.errors import UsageError
    from builder.profile.checks import PROFILE_NAME

    if problem := PROFILE_NAME.problem(name):
        raise UsageError(f"a profile's name: {problem}", hint=f"accepted: {PROFILE_NAME.accepted}")
    return name


def pull(
    url: Annotated[
        str, typer.Argument(help="A published directory: https://…, oci://…, file://… or a path.")
    ],
    name: Annotated[str, typer.Argument(help="The profile whose image to fetch.", callback=profile_name)],
    into: Annotated[Path | None, typer.Option(help="Result directory (default: dist/NAME).")] = None,
    key: Keys = None,
    image_version: Annotated[str | None, typer.Option(help="Not the newest release but this one.")] = None,
    allow_standin: AllowStandin = False,
    allow_dirty: Annotated[
        bool, typer.Option("--allow-dirty", help="Accept images built from uncommitted changes.")
    ] = False,
    allow_older: Annotated[
        bool, typer.Option("--allow-older", help="Accept an older release than was pulled before.")
    ] = False,
    require_rebuilders: Annotated[
        int, typer.Option(min=0, help="How many others must have rebuilt the image bit by bit.")
    ] = 0,
    rebuilder_key: RebuilderKeys = None,
    sigstore_identity: SigstoreIdentity = "",
    sigstore_issuer: SigstoreIssuer = "",
    json: AsJson = False,
) -> None:
    """Fetch an image and check signature, freshness, provenance, lock and contents before it is in place."""
    from builder.outputs.sign import trusted_keys
    from builder.outputs.sigstore import identity_of
    from builder.project import find_project, state_home
    from builder.publish.pull import Policy, pull
    from builder.ui import size_text

    identity = identity_of(sigstore_identity, sigstore_issuer)
    pulled = pull(
        url,
        name,
        into or find_project().dist / name,
        keys=trusted_keys(default_keys(key)),
        state=state_home() / "pulled.json",
        version=image_version,
        policy=Policy(
            allow_standin=allow_standin,
            allow_dirty=allow_dirty,
            allow_older=allow_older,
            rebuilders=require_rebuilders,
            rebuilder_keys=rebuilder_keys(rebuilder_key, require_rebuilders),
            identity=identity,
        ),
    )
    show(
        {
            "place": pulled.place,
            "profile": name,
            "version": pulled.release.version,
            "release": pulled.release.release,
            "fetched": pulled.fetched,
            "rebuilders": pulled.rebuilders,
        },
        f"{pulled.place}: {name} {pulled.release.version} ({size_text(pulled.fetched)} fetched), "
        f"{pulled.report.signature}",
        as_json=json,
    )


def rebuild(
    where: Annotated[
        str, typer.Argument(help="A published directory (URL or path), or a result directory.")
    ],
    name: Annotated[
        str | None, typer.Argument(help="The profile; not needed for a result directory.")
    ] = None,
    signing_key: Annotated[
        str,
        typer.Option(
            "--signing-key",
            envvar="SIGNING_KEY",
            help="Key file, fd:N, fingerprint in your agent, or pkcs11: URI; without one, only compare.",
        ),
    ] = "",
    key: Keys = None,
    image_version: Annotated[str | None, typer.Option(help="Not the newest release but this one.")] = None,
    into: Annotated[
        Path | None, typer.Option(help="Where the statement goes (default: dist/rebuilds/).")
    ] = None,
    json: AsJson = False,
) -> None:
    """Build a published image again from its own lock, compare, and sign a statement that it is the same."""
    from builder.outputs.sign import trusted_keys
    from builder.project import find_project
    from builder.publish.rebuild import describe
    from builder.publish.rebuild import rebuild as build_again

    made = build_again(
        find_project(),
        where,
        name,
        keys=trusted_keys(default_keys(key)),
        signing_key=signing_key,
        version=image_version,
        into=into,
    )
    value, text = describe(made)
    show(value, text, as_json=json)
