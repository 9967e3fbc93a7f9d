"""Is a result directory what somebody we trust vouched for, and does everything in it agree?"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from builder.errors import InputError, TrustError
from builder.outputs.checksums import SIGNATURE, SUMS, file_digests, published_names, read_checksums
from builder.outputs.manifest import SCHEMA
from builder.outputs.provenance import PREDICATE, STATEMENT
from builder.outputs.record import IMAGE_NAME, LOCK_SUFFIX, role_of
from builder.outputs.sign import SIGNATURE_LIMIT, Signature, check_signature
from builder.outputs.write import MANIFEST, PROVENANCE
from builder.tools import Tools

JSON_LIMIT = 64 << 20  # bytes of manifest or provenance


@dataclass
class Report:
    """What a check of a directory found; ``problems`` is empty where all is well."""

    directory: Path
    profile: str = ""
    version: str = ""
    source: str = ""
    signature: Signature | None = None
    digests: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.problems

    def raise_for_problems(self) -> None:
        """Raise TrustError that lists every problem."""
        if self.problems:
            lines = "\n".join(f"  {p}" for p in self.problems)
            raise TrustError(f"{self.directory} must not be trusted:\n{lines}")


def verify_directory(
    directory: Path,
    *,
    keys: Sequence[bytes],
    require_signature: bool = True,
    profile: str | None = None,
    tools: Tools | None = None,
) -> Report:
    """Check signature, checksums, completeness, and that manifest and provenance speak of these files.

    ``keys`` are the contents of the trusted key files; ``profile`` is the name that the image must be of.
    Nothing raised for a bad directory: all that was found is in the report. The order matters: unless the
    signature over SHA256SUMS is good (or none is required), nothing else is read.
    """
    report = Report(directory)
    sums = directory / SUMS
    if not sums.is_file():
        report.problems.append(f"there is no {SUMS}")
        return report
    check_signed(report, keys, require_signature=require_signature, tools=tools)
    if report.problems:
        return report
    try:
        report.digests = read_checksums(sums, what=SUMS)
        names = published_names(directory)
    except TrustError as e:
        report.problems.append(e.message)
        return report
    check_digests(report, names)
    check_documents(report, profile)
    return report


def check_signed(
    report: Report, keys: Sequence[bytes], *, require_signature: bool, tools: Tools | None
) -> None:
    """Check the signature over SHA256SUMS, as far as there is one and a key to check it with."""
    signature = report.directory / SIGNATURE
    if not signature.is_file():
        if require_signature:
            report.problems.append(f"it is not signed: there is no {SIGNATURE}")
        return
    if not keys:
        if require_signature:
            report.problems.append("no key was given to check the signature with")
        return
    with signature.open("rb") as f:
        data = f.read(SIGNATURE_LIMIT + 1)
    report.signature = check_signature(report.directory / SUMS, data, keys, tools=tools)
    if not report.signature.good:
        report.problems.append(f"{SIGNATURE}: {report.signature}")


def check_digests(report: Report, names: Sequence[str]) -> None:
    """``names`` are the files of the directory: they must be those that are listed, with their digests."""
    listed = report.digests
    for name in sorted(set(names) - set(listed)):
        report.problems.append(f"{name}: is not listed in {SUMS}")
    for name in sorted(set(listed) - set(names)):
        report.problems.append(f"{name}: is listed in {SUMS}, but missing")
    there = [report.directory / name for name in names if name in listed]
    for path, found in sorted(file_digests(there).items()):
        if found != listed[path.name]:
            size = path.stat().st_size
            report.problems.append(
                f"{path.name}: has been changed or cut short ({size} bytes): "
                f"expected sha256 {listed[path.name]}, found {found}"
            )


def check_documents(report: Report, profile: str | None) -> None:
    """Manifest and provenance, file names and lock must tell the same story."""
    try:
        manifest = read_json(report.directory / MANIFEST)
        statement = read_json(report.directory / PROVENANCE)
        report.profile, report.version = str(manifest["profile"]), str(manifest["version"])
        report.source = str(manifest["source"])
        if manifest["schema"] != SCHEMA:
            report.problems.append(f"{MANIFEST}: unknown schema {manifest['schema']!r}")
            return
        described = {str(f["name"]): str(f["sha256"]) for f in manifest["files"]}
        report.problems += manifest_problems(report, described)
        report.problems += provenance_problems(report, manifest, statement, described)
    except InputError as e:
        report.problems.append(e.message)
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        report.problems.append(f"{MANIFEST} or {PROVENANCE} lacks something: {type(e).__name__}: {e}")
    if profile and report.profile and report.profile != profile:
        report.problems.append(f"it is an image of {report.profile!r}, not of {profile!r}")


def manifest_problems(report: Report, described: dict[str, str]) -> list[str]:
    problems = []
    images = {name: digest for name, digest in report.digests.items() if role_of(name)}
    if described != images:
        differing = sorted({name for name, _ in described.items() ^ images.items()})
        problems.append(f"{MANIFEST} does not describe the files here: {', '.join(differing)}")
    for name in sorted(images):
        match = IMAGE_NAME.match(name)
        if match and (match["profile"], match["version"]) != (report.profile, report.version):
            problems.append(f"{name}: {MANIFEST} says {report.profile} {report.version}")
    return problems


def provenance_problems(
    report: Report, manifest: dict[str, Any], statement: dict[str, Any], described: dict[str, str]
) -> list[str]:
    problems = []
    if (statement["_type"], statement["predicateType"]) != (STATEMENT, PREDICATE):
        return [f"{PROVENANCE}: not an in-toto statement with SLSA v1 provenance"]
    definition = statement["predicate"]["buildDefinition"]
    subjects = {str(s["name"]): str(s["digest"]["sha256"]) for s in statement["subject"]}
    if subjects != described:
        problems.append(f"{PROVENANCE} is about other files than {MANIFEST}")
    for key in ("profile", "version", "source", "distribution"):
        if definition["externalParameters"][key] != manifest[key]:
            problems.append(
                f"{PROVENANCE} says {key} {definition['externalParameters'][key]!r}, "
                f"{MANIFEST} says {manifest[key]!r}"
            )
    inputs = definition["resolvedDependencies"]
    locks = [d["digest"]["sha256"] for d in inputs if d.get("name") == "lock" and "uri" not in d]
    here = [digest for name, digest in report.digests.items() if name.endswith(LOCK_SUFFIX)]
    if here != locks:
        problems.append(f"{PROVENANCE} names another lock than the one here")
    packages = sorted(
        (str(p["name"]), str(p.get("sha256") or p.get("sha512"))) for p in manifest["packages"]
    )
    built = sorted((str(d["name"]), next(iter(d["digest"].values()))) for d in inputs if "uri" in d)
    if packages != built:
        problems.append(f"{PROVENANCE} and {MANIFEST} name different packages")
    return problems


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of bounded size. Raises InputError."""
    try:
        if path.stat().st_size > JSON_LIMIT:
            raise InputError(f"{path.name} is larger than {JSON_LIMIT} bytes")
        value = json.loads(path.read_bytes())
    except FileNotFoundError as e:
        raise InputError(f"there is no {path.name}") from e
    except (ValueError, RecursionError) as e:
        raise InputError(f"{path.name} is not JSON: {e}") from e
    if not isinstance(value, dict):
        raise InputError(f"{path.name} is not a JSON object")
    return value
