"""May a result be signed as a release? Decided on digests and documents; the images need not be here."""

from pathlib import Path
from typing import Any

from builder.errors import TrustError
from builder.files import file_digest
from builder.outputs.checksums import SUMS, parse_checksums
from builder.outputs.record import role_of
from builder.outputs.verify import Report, check_documents, read_json
from builder.outputs.write import MANIFEST, PROVENANCE


def check_release(directory: Path, second: Path | None) -> Report:
    """Refuse what must not be released; return what the documents say.

    ``directory`` needs SHA256SUMS, manifest.json and provenance.json. ``second`` is the SHA256SUMS of
    another builder, who built the same lock and commit on another machine. Raises TrustError listing every
    objection.
    """
    report = Report(directory)
    try:
        report.digests = parse_checksums(bounded(directory / SUMS))
        for name in (MANIFEST, PROVENANCE):
            path = directory / name
            if not path.is_file() or report.digests.get(name) != file_digest(path):
                report.problems.append(f"{name} is missing or not the one that {SUMS} lists")
        if report.ok:
            check_documents(report, None)
        if report.ok:
            report.problems += policy_objections(report, second)
    except TrustError as e:
        report.problems.append(e.message)
    if report.problems:
        lines = "\n".join(f"  {p}" for p in report.problems)
        raise TrustError(
            f"{directory} must not be released:\n{lines}",
            hint="sign without --release for a result that is only to be tried",
        )
    return report


def policy_objections(report: Report, second: Path | None) -> list[str]:
    objections = []
    if report.source != "upstream":
        objections.append(f"it was built from {report.source}, not from the distribution's own packages")
    if "standin" in report.version:
        objections.append(f"its version {report.version} is a stand-in's")
    git = source_state(read_json(report.directory / PROVENANCE))
    if not git.get("digest", {}).get("gitCommit"):
        objections.append("no git commit is known for the checkout that it was built from")
    if git.get("annotations", {}).get("dirty", True):
        objections.append("the checkout had changes that are in no commit")
    if second is None:
        objections.append(f"no second builder's {SUMS} was given (--second FILE)")
    else:
        objections += second_objections(report, second)
    return objections


def second_objections(report: Report, second: Path) -> list[str]:
    """How another builder's digests of the image files differ from ours."""
    path = second / SUMS if second.is_dir() else second
    if path.resolve() == (report.directory / SUMS).resolve():
        return [f"{path} is this result's own {SUMS}, not a second builder's"]
    theirs = {n: d for n, d in parse_checksums(bounded(path), what=str(path)).items() if role_of(n)}
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


def bounded(path: Path) -> bytes:
    """A checksum file's content, of which only so much is read that the parser can tell it is too large."""
    try:
        with path.open("rb") as f:
            return f.read((1 << 20) + 1)
    except OSError as e:
        raise TrustError(f"cannot read {path}: {e.strerror}") from e
