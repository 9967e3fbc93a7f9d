"""How did an image come about? An in-toto statement with SLSA v1 provenance names every input by digest.

Formats: in-toto Attestation Framework, Statement v1; SLSA v1.0 provenance. There is no start or end time
in it: the statement is the same for everybody who builds the same commit from the same lock, and a
rebuilder can compare whole files.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from builder import __version__
from builder.errors import MachineError
from builder.files import file_digest, tree_digest, write_json
from builder.outputs.record import ImageRecord, package_url
from builder.run import ProgramError, run

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:seatsmith:image-build:1"
LOCAL_BUILDER = "urn:seatsmith:builder:local"


@dataclass(frozen=True)
class GitState:
    """Which sources a build ran from. ``commit`` is None outside a git checkout, which counts as dirty."""

    commit: str | None
    dirty: bool


def git_state(checkout: Path) -> GitState:
    """Commit of a checkout, and whether files differ from it (new files count, ignored ones do not)."""
    git = ["git", "-c", "safe.directory=*", "-C", str(checkout)]
    try:
        commit = run([*git, "rev-parse", "HEAD"]).text.strip()
        changes = run([*git, "status", "--porcelain", "--untracked-files=normal"]).text
    except (ProgramError, MachineError):
        return GitState(None, True)
    return GitState(commit, bool(changes.strip()))


def write_provenance(
    path: Path,
    record: ImageRecord,
    files: Sequence[Path],
    *,
    git: GitState,
    inputs: Mapping[str, Path],
    parameters: Mapping[str, Any] | None = None,
    builder_id: str = LOCAL_BUILDER,
) -> Path:
    """Write the provenance of an image made of ``files``.

    ``inputs`` are what a build reads from the checkout beside the code (lock, profile, files tree, keys), by
    the name a reader knows them by; directories are digested as trees. ``parameters`` are the build's
    options as far as they can change its result.
    """
    write_json(path, provenance(record, files, git, inputs, parameters or {}, builder_id))
    return path


def provenance(
    record: ImageRecord,
    files: Sequence[Path],
    git: GitState,
    inputs: Mapping[str, Path],
    parameters: Mapping[str, Any],
    builder_id: str,
) -> dict[str, Any]:
    """The statement that ``write_provenance`` writes."""
    return {
        "_type": STATEMENT,
        "subject": [{"name": f.name, "digest": {"sha256": file_digest(f)}} for f in sorted(files)],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "profile": record.profile,
                    "version": record.version,
                    "distribution": record.distribution,
                    "architecture": record.architecture,
                    "source": record.source,
                    **parameters,
                },
                "internalParameters": {"SOURCE_DATE_EPOCH": record.epoch},
                "resolvedDependencies": [
                    git_descriptor(git),
                    *(input_descriptor(name, p) for name, p in sorted(inputs.items())),
                    *locked_descriptors(record),
                    *package_descriptors(record),
                ],
            },
            "runDetails": {
                "builder": {
                    "id": builder_id,
                    "version": {"seatsmith": __version__},
                    "builderDependencies": [
                        {"name": name, "uri": f"pkg:deb/debian/{quote(name)}@{quote(version)}"}
                        for name, version in sorted(record.tools.items())
                    ],
                },
            },
        },
    }


def git_descriptor(git: GitState) -> dict[str, Any]:
    descriptor: dict[str, Any] = {"name": "seatsmith", "annotations": {"dirty": git.dirty}}
    if git.commit:
        descriptor["digest"] = {"gitCommit": git.commit}
    return descriptor


def input_descriptor(name: str, path: Path) -> dict[str, Any]:
    if path.is_dir():
        return {"name": name, "digest": {"seatsmithTree": tree_digest(path)}}
    return {"name": name, "digest": {"sha256": file_digest(path)}}


def locked_descriptors(record: ImageRecord) -> list[dict[str, Any]]:
    """What a lock names beside packages; ``kind`` tells them from files of the checkout."""
    return [
        {"name": i.name, "digest": {"sha256": i.sha256}, "annotations": {"kind": i.kind}}
        for i in sorted(record.inputs, key=lambda i: (i.kind, i.name))
    ]


def package_descriptors(record: ImageRecord) -> list[dict[str, Any]]:
    return [
        {
            "name": p.name,
            "uri": package_url(record, p),
            "digest": {p.algorithm: p.digest},
        }
        for p in record.sorted_packages()
    ]
