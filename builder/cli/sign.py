"""``seatsmith sign`` and ``seatsmith verify-signature``: who vouches for a result."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from builder.cli.output import show

if TYPE_CHECKING:
    from builder.outputs.verify import Report

Keys = Annotated[
    list[Path] | None,
    typer.Option("--key", help="Trusted public key file or directory of them (default: ci/keys/)."),
]


def key_named(value: str) -> str:
    """Raises UsageError where no key is named: better than typer's word, which does not say how to go on."""
    from builder.errors import UsageError

    if not value:
        raise UsageError(
            "no key to sign with is named",
            hint="name one with SIGNING_KEY=FILE; how to make one, and its other forms: docs/signing.md",
        )
    return value


SigningKey = Annotated[
    str,
    typer.Option(
        "--signing-key",
        envvar="SIGNING_KEY",
        callback=key_named,
        help="Secret key file, fd:N, fingerprint in your agent, or pkcs11: URI.",
    ),
]
Test = Annotated[
    bool,
    typer.Option(
        "--test", help="Allow the stand-in, and mark the result, signed, as a release for testing."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
SigstoreIdentity = Annotated[
    str, typer.Option(help="Demand a sigstore bundle of this identity as well (an address or a URL).")
]
SigstoreIssuer = Annotated[str, typer.Option(help="The OpenID issuer that vouches for it.")]


def register(app: typer.Typer) -> None:
    app.command("sign")(sign)
    app.command("release")(release)
    app.command("verify-signature")(verify_signature)


def default_keys(given: list[Path] | None) -> list[Path]:
    """The key files to trust: those named, else the release keys of the checkout."""
    if given:
        return given
    from builder.project import find_project

    return [find_project().root / "ci/keys"]


def sign(
    directory: Annotated[Path, typer.Argument(help="A result directory, such as dist/work.")],
    signing_key: SigningKey = "",
    release: Annotated[
        bool, typer.Option("--release", help="Refuse what must not be released (see docs/signing.md).")
    ] = False,
    second: Annotated[
        Path | None, typer.Option(help="SHA256SUMS of a second builder; a release needs one that agrees.")
    ] = None,
    test: Test = False,
    sigstore: Annotated[
        bool,
        typer.Option("--sigstore", help="Write a sigstore bundle, too, as the identity of this CI job."),
    ] = False,
    commit: Annotated[
        str | None, typer.Option(help="With --release: the commit that it must have been built from.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Sign the checksums of a result; the images themselves are not needed.

    With --release, SHA256SUMS, manifest.json and provenance.json are read and must allow it.
    """
    from builder.outputs.release import check_release, mark_test_release
    from builder.outputs.sign import sign_checksums

    if release:
        check_release(directory, second, test=test, commit=commit)
    if test:
        mark_test_release(directory)

    if sigstore:
        from builder.outputs.sigstore import write_bundle

        write_bundle(directory)
    made = sign_checksums(directory, signing_key)
    show({"directory": directory, "fingerprint": made.fingerprint}, f"{directory}: {made}", as_json=json)


def release(
    names: Annotated[list[str], typer.Argument(help="Profiles whose dist/NAME is to be released.")],
    signing_key: SigningKey = "",
    second: Annotated[
        Path | None,
        typer.Option(help="A second builder's SHA256SUMS, or a directory with NAME/SHA256SUMS in it."),
    ] = None,
    test: Test = False,
    key: Keys = None,
    json: AsJson = False,
) -> None:
    """Sign results as a release, all or none: of a clean commit, from upstream, the same of two builders."""
    from builder.outputs.sign import trusted_keys
    from builder.project import find_project
    from builder.publish.release import Demands
    from builder.publish.release import release as release_all

    project = find_project()
    trusted = [] if test and not key else trusted_keys(default_keys(key))
    made = release_all(project, names, signing_key, Demands(trusted, second, test))
    mark = " as a TEST release" if test else ""
    show(
        {name: {"fingerprint": found.fingerprint, "test": test} for name, found in made.items()},
        "\n".join(f"{project.dist / name}: {found}{mark}" for name, found in made.items()),
        as_json=json,
    )


def verify_signature(
    directory: Annotated[Path, typer.Argument(help="A result directory, such as dist/work.")],
    key: Keys = None,
    profile: Annotated[
        str | None, typer.Option(help="The profile whose image this must be (default: any).")
    ] = None,
    allow_unsigned: Annotated[
        bool, typer.Option("--allow-unsigned", help="Check everything but the signature.")
    ] = False,
    sigstore_identity: SigstoreIdentity = "",
    sigstore_issuer: SigstoreIssuer = "",
    json: AsJson = False,
) -> None:
    """Check signature, checksums, manifest and provenance of a result; exit code 4 if anything is wrong."""
    from builder.errors import InputError, TrustError
    from builder.outputs.sign import trusted_keys
    from builder.outputs.sigstore import check_directory, identity_of
    from builder.outputs.verify import verify_directory

    if not directory.is_dir():
        raise InputError(f"there is no directory {directory}")
    identity = identity_of(sigstore_identity, sigstore_issuer)
    keys = [] if allow_unsigned and not key else trusted_keys(default_keys(key))
    report = verify_directory(directory, keys=keys, require_signature=not allow_unsigned, profile=profile)
    if identity and report.ok:
        try:
            check_directory(directory, identity)
        except TrustError as e:
            report.problems.append(e.message)
    if json:
        show(report_json(report), "", as_json=True)
    report.raise_for_problems()
    if not json:
        by = str(report.signature) if report.signature else "NOT signed"
        show(
            None,
            f"{directory}: {report.profile} {report.version} from {report.source}, "
            f"{len(report.digests)} files as listed, {by}",
            as_json=False,
        )


def report_json(report: "Report") -> dict[str, object]:
    signature = report.signature
    return {
        "ok": report.ok,
        "profile": report.profile,
        "version": report.version,
        "source": report.source,
        "signature": signature
        and {
            "verdict": signature.verdict,
            "fingerprint": signature.fingerprint,
            "key_id": signature.key_id,
            "made": signature.made,
        },
        "files": report.digests,
        "problems": report.problems,
    }
