"""May a result be signed as a release? Decided on digests and documents; the images need not be here."""

from pathlib import Path
from typing import Any

from builder.errors import TrustError
from builder.files import file_digest, write_atomic
from builder.outputs.checksums import SUMS, list_also, read_checksums
from builder.outputs.record import role_of
from builder.outputs.verify import Report, check_documents, read_json
from builder.outputs.write import MANIFEST, PROVENANCE

TEST_RELEASE = "TEST-RELEASE.txt"


def check_release(
    directory: Path, second: Path | None, *, test: bool = False, commit: str | None = None
) -> Report:
    """Refuse what must not be released; return what the documents say.

    ``directory`` needs SHA256SUMS, manifest.json and provenance.json. ``second`` is the SHA256SUMS of
    another builder, who built the same lock and commit on another machine. ``commit`` is the one that it
    must be built from. A ``test`` release may be of the stand-in, and is let off nothing else; mark it with
    mark_test_release(). Raises TrustError listing every objection.
    """
    report = Report(directory)
    try:
        report.digests = read_checksums(directory / SUMS, what=SUMS)
        for name in (MANIFEST, PROVENANCE):
            path = directory / name
            if not path.is_file() or report.digests.get(name) != file_digest(path):
                report.problems.append(f"{name} is missing or not the one that {SUMS} lists")
        if report.ok:
            check_documents(report, None)
        if report.ok:
            report.problems += [] if test else standin_objections(report)
            report.problems += checkout_objections(report, commit)
            report.problems += second_objections(report, second)
    except TrustError as e:
        report.problems.append(e.message)
    if report.problems:
        lines = "\n".join(f"  {p}" for p in report.problems)
        raise TrustError(
            f"{directory} must not be released:\n{lines}",
            hint="docs/signing.md has the way to a release; seatsmith sign signs what is only tried",
        )
    return report


def mark_test_release(directory: Path) -> None:
    """Put a file into the result, listed in SHA256SUMS, that says that it is for testing only."""
    write_atomic(directory / TEST_RELEASE, "This release was made for testing. Do not use its image.\n")
    list_also(directory, TEST_RELEASE)


def for_testing(report: Report) -> str:
    """Why a result may not be used in earnest; empty where it may."""
    if report.source != "upstream":
        return f"is built from the {report.source}, not from the distribution's own packages"
    return "is a test release" if TEST_RELEASE in report.digests else ""


def standin_objections(report: Report) -> list[str]:
    objections = []
    if report.source != "upstream":
        objections.append(
            f"it was built from {report.source}, not from the distribution's own packages "
            "(build it with --source upstream; to try all of this on a stand-in: --test)"
        )
    if "standin" in report.version:
        objections.append(f"its version {report.version} is a stand-in's")
    if TEST_RELEASE in report.digests:
        objections.append(f"it is marked as a test release ({TEST_RELEASE}; {again(report)})")
    return objections


def again(report: Report) -> str:
    """How a result is made anew that no change of its inputs asks for."""
    return f"build it again: seatsmith image {report.profile} --force"


def checkout_objections(report: Report, commit: str | None) -> list[str]:
    objections = []
    git = source_state(read_json(report.directory / PROVENANCE))
    built_from = git.get("digest", {}).get("gitCommit")
    if not built_from:
        objections.append(
            "no git commit is known for the checkout that it was built from (build it in a git clone)"
        )
    elif commit and built_from != commit:
        objections.append(f"it was built from commit {built_from}, not from {commit} ({again(report)})")
    if git.get("annotations", {}).get("dirty", True):
        objections.append(f"the checkout had changes that are in no commit (commit them; {again(report)})")
    return objections


def second_objections(report: Report, second: Path | None) -> list[str]:
    """How another builder's digests of the image files differ from ours."""
    if second is None:
        return [
            f"no second builder's {SUMS} was given (build the same commit on another machine, and name its "
            f"{SUMS} with --second FILE, of make with SECOND=FILE)"
        ]
    path = second / SUMS if second.is_dir() else second
    if path.resolve() == (report.directory / SUMS).resolve():
        return [f"{path} is this result's own {SUMS}, not a second builder's"]
    theirs = {n: d for n, d in read_checksums(path).items() if role_of(n)}
    ours = {n: d for n, d in report.digests.items() if role_of(n)}
    return [
        f"the second builder's {name} differs: ours {ours.get(name, 'missing')}, "
        f"theirs {theirs.get(name, 'missing')}"
        for name in sorted(ours.keys() | theirs.keys())
        if ours.get(name) != theirs.get(name)
    ]


def source_state(statement: dict[str, Any]) -> dict[str, Any]:
    """What provenance says of the checkout (provenance.git_descriptor)."""
    inputs = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
    found: dict[str, Any] = next((d for d in inputs if d.get("name") == "seatsmith" and "uri" not in d), {})
    return found
