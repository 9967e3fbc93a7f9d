"""How does a result become part of a static directory that any web server can serve?

    index.json, index.json.gpg     what is current, signed, with an expiry date
    index.html, keys.gpg           for people; the public keys
    PROFILE/VERSION/…              a result directory as it was signed, never changed again
    PROFILE/extra/…                package diffs, boot-test reports, deltas, rebuild statements
    PROFILE/importd/VERSION/…      the image again, for importctl of systemd before 258 (importd.py)

Everything that the index names is in place before the index is, so a reader never finds a gap.
"""

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from builder import ui
from builder.errors import InputError, TrustError
from builder.files import atomic_path, exclusive, file_digest, remove_tree, write_atomic
from builder.outputs.checksums import SIGNATURE, SUMS
from builder.outputs.gpg import trusted_keyring
from builder.outputs.release import for_testing
from builder.outputs.sign import Signer, check_signature, open_signer
from builder.outputs.statement import SignedStatement
from builder.outputs.verify import Report, verify_directory
from builder.publish.diff import ImageDiff, diff_images
from builder.publish.diffview import as_html
from builder.publish.importd import IMPORTD, add_gzip_copies
from builder.publish.index import (
    INDEX,
    INDEX_SIGNATURE,
    Delta,
    Index,
    Patch,
    Release,
    index_text,
    now,
    parse_index,
    release_place,
)
from builder.publish.page import index_page
from builder.publish.release import check_known
from builder.publish.statements import add_statements
from builder.tools import Tools, ensure_tools

KEYS = "keys.gpg"
EXTRA = "extra"
LINK_BESIDE = re.compile(r'<a href="(?![a-z]+:|[/#])[^"]*">')


@dataclass(frozen=True)
class Terms:
    """Under which terms is published."""

    key: str
    """SIGNING_KEY for the index."""
    trusted: Sequence[bytes]
    """Key files whose signatures a result may carry; they are published too."""
    lifetime: timedelta = timedelta(days=30)
    keep: int = 5
    """Releases of a profile that stay; older ones are removed."""
    allow_standin: bool = False
    gzip: bool = False
    """Add copies of the images that importctl of systemd before 258 can read."""


def publish(
    root: Path,
    results: Sequence[Path],
    terms: Terms,
    *,
    deltas: bool = True,
    report: Path | None = None,
    statements: Sequence[SignedStatement] = (),
    tools: Tools | None = None,
) -> Index:
    """Add signed result directories to the published directory ``root`` and sign a new index.

    Without results only the index is renewed, which puts its expiry off. ``report`` is a boot test's HTML
    page for the one result given, ``statements`` are others' rebuilds of what is published. Raises
    TrustError for a result that does not verify and for a key that no seat would believe the index by,
    InputError for another result under a published version.
    """
    tools = tools or ensure_tools()
    root.mkdir(parents=True, exist_ok=True)
    with (
        exclusive(root / ".lock", f"the published directory {root}"),
        open_signer(terms.key, tools=tools) as signer,
    ):
        check_known(signer, terms.trusted, tools)
        index = current_index(root, terms, tools)
        profiles = dict(index.profiles) if index else {}
        for result in results:
            checked = verified(result, terms, tools)
            releases = profiles.get(checked.profile, [])
            profiles[checked.profile] = add_release(root, checked, releases, deltas=deltas, report=report)
        for profile, releases in profiles.items():
            profiles[profile] = releases[: terms.keep]
        profiles = add_statements(root, profiles, statements, EXTRA)
        if terms.gzip:
            add_gzip_copies(root, profiles, signer)
        published = now()
        following = Index(
            serial=(index.serial if index else 0) + 1,
            published=published,
            expires=published + terms.lifetime,
            profiles=profiles,
        )
        write_index(root, following, signer, terms, tools)
        remove_unlisted(root, following)
        return following


def current_index(root: Path, terms: Terms, tools: Tools) -> Index | None:
    """The index that is there now. One that we did not sign is refused rather than carried on."""
    path = root / INDEX
    if not path.exists():
        return None
    signature = check_signature(path, (root / INDEX_SIGNATURE).read_bytes(), terms.trusted, tools=tools)
    if not signature.good:
        raise TrustError(f"{path} is not ours: {signature}", hint="publish into another directory")
    return parse_index(path.read_bytes())


def verified(result: Path, terms: Terms, tools: Tools) -> Report:
    if not (result / SIGNATURE).exists():
        raise TrustError(
            f"{result} is not signed",
            hint=f"sign it first: seatsmith release {result.name}, or to try it seatsmith sign {result}",
        )
    report = verify_directory(result, keys=terms.trusted, tools=tools)
    report.raise_for_problems()
    if (why := for_testing(report)) and not terms.allow_standin:
        raise TrustError(f"{result} {why}", hint="for trying and testing: --allow-standin")
    return report


def add_release(
    root: Path, result: Report, releases: Sequence[Release], *, deltas: bool, report: Path | None
) -> list[Release]:
    """Copy a result into the tree and put it in front of the profile's releases."""
    profile, version = result.profile, result.version
    place = release_place(root, profile, version)
    if version in (EXTRA, IMPORTD):
        raise InputError(f"{version!r} cannot be a version: a directory of the site has that name")
    sums = file_digest(result.directory / SUMS)
    same = next((r for r in releases if r.version == version), None)
    if same and same.sums != sums:
        raise InputError(
            f"{profile} {version} is already published with other files",
            hint="published versions never change: build with another --image-version",
        )
    if same:
        ui.current().say(f"  {profile} {version} is already published")
        return list(releases)
    with ui.current().step(f"Copying {profile} {version}"), atomic_path(place) as made:
        shutil.copytree(result.directory, made, ignore=shutil.ignore_patterns("*.part"))
        for path in (made, *made.iterdir()):
            path.chmod(0o755 if path.is_dir() else 0o644)
    extra = root / profile / EXTRA
    extra.mkdir(parents=True, exist_ok=True)
    newest = max(releases, key=lambda r: r.release, default=None)
    found: list[Delta] = []
    patches: list[Patch] = []
    page = ""
    if newest:
        before = release_place(root, profile, newest.version)
        with ui.current().step(f"Comparing {profile} {version} with {newest.version}"):
            page = write_diff_page(extra, diff_images(before, place), newest.version, version)
        if deltas:
            from builder.publish.delta import make_delta
            from builder.publish.reuse import make_patches

            delta = make_delta(before, place, extra, newest.version, version)
            found = [delta] if delta else []
            patches = make_patches(before, place, extra, newest.version, version)
    return [
        Release(
            release=(newest.release if newest else 0) + 1,
            version=version,
            source=result.source,
            sums=sums,
            size=sum(p.stat().st_size for p in place.iterdir()),
            published=now(),
            deltas=found,
            patches=patches,
            diff=page,
            report=copy_report(extra, report, version) if report else "",
        ),
        *releases,
    ]


def write_diff_page(extra: Path, diff: ImageDiff, old: str, new: str) -> str:
    name = f"{old}_{new}.diff.html"
    write_atomic(extra / name, as_html(diff))
    return f"{EXTRA}/{name}"


def copy_report(extra: Path, report: Path, version: str) -> str:
    """The page alone: it has its pictures in it, and what it links beside itself stays behind."""
    name = f"{version}.report.html"
    write_atomic(extra / name, LINK_BESIDE.sub("<a>", report.read_text(encoding="utf-8")))
    return f"{EXTRA}/{name}"


def write_index(root: Path, index: Index, signer: Signer, terms: Terms, tools: Tools) -> None:
    """Sign and place the index; the page for people and the keys come first."""
    fresh = root / ".new"
    remove_tree(fresh)
    fresh.mkdir()
    own = signer.public_key()
    write_atomic(root / KEYS, own + other_keys(own, terms, tools))
    write_atomic(root / "index.html", index_page(root, index, signer.fingerprint))
    (fresh / INDEX).write_text(index_text(index))
    signer.sign(fresh / INDEX, fresh / INDEX_SIGNATURE)
    # a reader between the two renames sees a signature that does not fit, and asks again
    for name in (INDEX, INDEX_SIGNATURE):
        (fresh / name).replace(root / name)
    fresh.rmdir()


def other_keys(own: bytes, terms: Terms, tools: Tools) -> bytes:
    """The trusted keys beside the signing one: the next key of a rotation, revoked ones."""
    with trusted_keyring(tools, [own]) as (ring, _):
        mine = {k.fingerprint for k in ring.public_keys()}
    with trusted_keyring(tools, terms.trusted) as (ring, _):
        return b"".join(ring.export(k.fingerprint) for k in ring.public_keys() if k.fingerprint not in mine)


def remove_unlisted(root: Path, index: Index) -> None:
    """Remove releases and extras that no release in the index names any more."""
    for profile, releases in index.profiles.items():
        kept = {r.version for r in releases} | {EXTRA, IMPORTD}
        named = {Path(n).name for r in releases for n in (r.diff, r.report) if n}
        named |= {d.file for r in releases for d in r.deltas} | {p.file for r in releases for p in r.patches}
        named |= {f"{n}{end}" for r in releases for n in r.rebuilds for end in ("", ".gpg")}
        for place in (root / profile).iterdir():
            if place.name not in kept:
                remove_tree(place)
        for path in (root / profile / EXTRA).iterdir():
            if path.name not in named:
                remove_tree(path)
