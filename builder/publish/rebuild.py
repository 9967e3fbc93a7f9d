"""Does a published image come out of its lock again, bit by bit? Built here, compared, and vouched for."""

import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder import ui
from builder.deliver import inputs_of
from builder.distro import backend
from builder.errors import CheckFailed, InputError
from builder.files import atomic_path, file_digest, tree_digest
from builder.image import VERSION
from builder.imagediff import describe_difference
from builder.outputs.provenance import git_state
from builder.outputs.record import role_of
from builder.outputs.release import source_state
from builder.outputs.sign import open_signer
from builder.outputs.statement import STATEMENT_SUFFIX, write_statement
from builder.profile import Profile, load_profile
from builder.project import Project
from builder.publish.index import now
from builder.publish.papers import Papers, signed_papers
from builder.rebuild import built_elsewhere
from builder.tools import Tools, ensure_tools

ROLES = {"image.tar.zst": "image", "host.tar.zst": "host-bundle", "image.efi": "uki"}


@dataclass(frozen=True)
class Rebuilt:
    """A rebuild that gave the published bits."""

    profile: str
    version: str
    digests: Mapping[str, str]
    conditions: list[str]
    statement: Path | None
    """The signed statement; its signature lies beside it under ``….gpg``. None without a key."""
    fingerprint: str


def rebuild(
    project: Project,
    where: str,
    name: str | None,
    *,
    keys: Sequence[bytes],
    signing_key: str,
    version: str | None = None,
    into: Path | None = None,
    tools: Tools | None = None,
) -> Rebuilt:
    """Rebuild a published image from its own lock, compare, and sign that it came out the same.

    ``where`` is a published directory's URL or path, or a result directory. The checkout must be the one
    that the image's provenance names. Raises CheckFailed where the rebuild differs; nothing is signed then.
    """
    tools = tools or ensure_tools()
    with tempfile.TemporaryDirectory(prefix="seatsmith-papers-") as scratch:
        papers = signed_papers(where, name, Path(scratch), keys=keys, tools=tools, version=version)
    profile = load_profile(project, papers.report.profile)
    check_checkout(project, profile, papers)
    note_tools(papers, tools)
    published = papers.report.version
    if not re.fullmatch(VERSION, published):
        raise InputError(f"{published!r} is no version of an image")
    with built_elsewhere(project, profile, papers.lock, published) as (made, conditions):
        digests = same_files(project, papers, made, Path(where))
    statement, fingerprint = None, ""
    if signing_key:
        place = into or project.dist / "rebuilds"
        statement, fingerprint = vouch(project, papers, digests, signing_key, place, tools)
    return Rebuilt(profile.name, published, digests, conditions, statement, fingerprint)


def check_checkout(project: Project, profile: Profile, papers: Papers) -> None:
    """Refuse early where this checkout cannot give the image. Raises InputError."""
    commit = source_state(papers.provenance).get("digest", {}).get("gitCommit")
    hint = f"take the sources it was built from: git checkout {commit}" if commit else None
    named = {
        str(d["name"]): next(iter(d["digest"].values()))
        for d in papers.provenance["predicate"]["buildDefinition"]["resolvedDependencies"]
        if not {"uri", "annotations"} & d.keys() and d["name"] not in ("lock", "seatsmith")
    }
    here = {name: input_digest(path) for name, path in inputs_of(project, profile).items()}
    if differing := sorted(name for name in here.keys() | named.keys() if here.get(name) != named.get(name)):
        raise InputError(
            f"{profile.name} {papers.report.version} was built from others than this checkout's "
            + ", ".join(differing),
            hint=hint,
        )
    if papers.lock.request != backend(profile.distribution).request(profile, project, papers.lock.source):
        raise InputError(
            f"the lock was made for other packages than {profile.name} asks for here", hint=hint
        )
    if commit != git_state(project.root).commit:
        ui.current().warn(
            f"the image was built from commit {commit or '(none)'}, and this checkout is another"
        )


def input_digest(path: Path) -> str:
    return tree_digest(path) if path.is_dir() else file_digest(path)


def note_tools(papers: Papers, tools: Tools) -> None:
    """Name tools of another version than the published build had: the first suspects if it differs."""
    theirs = {
        str(d["name"]): str(d["uri"]).rpartition("@")[2]
        for d in papers.provenance["predicate"]["runDetails"]["builder"].get("builderDependencies", [])
    }
    from urllib.parse import quote

    ours = {name: quote(version) for name, version in tools.versions().items()}
    if other := sorted(n for n in theirs.keys() & ours.keys() if theirs[n] != ours[n]):
        ui.current().warn(f"{len(other)} tools have other versions than the published build's: {other[0]} …")


def same_files(project: Project, papers: Papers, made: Path, where: Path) -> dict[str, str]:
    """The published digests, which the rebuilt files have too. Raises CheckFailed naming what differs."""
    ours = {ROLES[path.name]: path for path in made.iterdir() if path.name in ROLES}
    lines: list[str] = []
    for name, digest in sorted(papers.images.items()):
        path = ours.pop(str(role_of(name)), None)
        found = file_digest(path) if path else "not made"
        if found == digest:
            continue
        lines.append(f"  {name}: published {digest}, rebuilt {found}")
        if path and (where / name).is_file():
            lines += [f"    {line}" for line in describe_difference(where / name, path)]
    lines += [f"  {path.name} was made, and none was published" for path in ours.values()]
    if not lines:
        return papers.images
    kept = project.cache / "rebuilds" / papers.report.profile
    with atomic_path(kept) as copy:
        shutil.copytree(made, copy, symlinks=True)
    raise CheckFailed(
        f"{papers.report.profile} {papers.report.version} does not come out the same:\n" + "\n".join(lines),
        hint=f"what was rebuilt is kept: {kept} (compare with: seatsmith diff)",
    )


def vouch(
    project: Project, papers: Papers, digests: Mapping[str, str], key: str, place: Path, tools: Tools
) -> tuple[Path, str]:
    """Write and sign the statement; return it and the signer's fingerprint."""
    report = papers.report
    place.mkdir(parents=True, exist_ok=True)
    with open_signer(key, tools=tools) as signer:
        who = signer.fingerprint[-16:].lower()
        path = place / f"{report.profile}_{report.version}.{who}{STATEMENT_SUFFIX}"
        path.with_name(f"{path.name}.gpg").unlink(missing_ok=True)  # an older one's
        write_statement(
            path,
            digests,
            profile=report.profile,
            version=report.version,
            lock=papers.lock_digest,
            git=git_state(project.root),
            when=now(),
        )
        signature = signer.sign(path, path.with_name(f"{path.name}.gpg"))
    return path, signature.fingerprint


def describe(rebuilt: Rebuilt) -> tuple[dict[str, Any], str]:
    """The result as a value for programs and as words for people."""
    value = {
        "profile": rebuilt.profile,
        "version": rebuilt.version,
        "identical": True,
        "digests": dict(rebuilt.digests),
        "conditions": rebuilt.conditions,
        "statement": rebuilt.statement,
        "fingerprint": rebuilt.fingerprint,
    }
    lines = [f"{rebuilt.profile} {rebuilt.version}: the rebuild is bit-identical"]
    lines += [f"  {digest}  {name}" for name, digest in rebuilt.digests.items()]
    lines.append(f"  it had {', '.join(rebuilt.conditions)}")
    if rebuilt.statement:
        lines.append(f"  {rebuilt.statement}: signed by {rebuilt.fingerprint}")
    else:
        lines.append("  no statement: set SIGNING_KEY to vouch for it (docs/publishing.md)")
    return value, "\n".join(lines)
