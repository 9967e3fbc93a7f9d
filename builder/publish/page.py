"""What does a person see of a published directory? Every release, its files, and what is said about it."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from builder.outputs.checksums import BUNDLE, SIGNATURE, SUMS
from builder.outputs.record import LOCK_SUFFIX, role_of
from builder.outputs.release import TEST_RELEASE
from builder.outputs.write import MANIFEST, PROVENANCE
from builder.publish.diffview import render_page
from builder.publish.index import Index, Release, release_place

ROLES = {"image": "root filesystem", "host-bundle": "host bundle", "uki": "kernel and initrd"}
PAPERS = {
    MANIFEST: "packages",
    "sbom.spdx.json": "SPDX",
    "sbom.cdx.json": "CycloneDX",
    PROVENANCE: "provenance",
    SUMS: "checksums",
    SIGNATURE: "signature",
    BUNDLE: "sigstore",
}


@dataclass(frozen=True)
class Shown:
    """One release as the page shows it. Links start from the directory's top."""

    release: Release
    marks: list[str]
    images: list[tuple[str, str, int]]
    """Title, link and bytes."""
    links: list[tuple[str, str]]


def index_page(root: Path, index: Index, signer: str) -> str:
    """The page for an index whose files are in place; ``signer`` is the fingerprint of who signs it."""
    profiles = {
        profile: [shown(root, profile, release) for release in releases]
        for profile, releases in sorted(index.profiles.items())
    }
    return render_page("index.html.j2", index=index, signer=signer, profiles=profiles)


def shown(root: Path, profile: str, release: Release) -> Shown:
    place = release_place(root, profile, release.version)
    sizes = {path.name: path.stat().st_size for path in place.iterdir()}
    below = f"{profile}/{release.version}"
    images = [
        (title, f"{below}/{name}", sizes[name])
        for role, title in ROLES.items()
        for name in sorted(sizes)
        if role_of(name) == role
    ]
    return Shown(release, list(marks(release, sizes)), images, list(links(profile, release, below, sizes)))


def marks(release: Release, names: Collection[str]) -> Iterator[str]:
    if release.source != "upstream":
        yield f"{release.source}: for testing only"
    elif TEST_RELEASE in names:
        yield "test release"
    if number := len(release.rebuilds):
        yield f"{number} rebuild statement{'s' if number > 1 else ''}"


def links(profile: str, release: Release, below: str, names: Collection[str]) -> Iterator[tuple[str, str]]:
    if release.diff:
        yield "what changed", f"{profile}/{release.diff}"
    if release.report:
        yield "boot test", f"{profile}/{release.report}"
    yield from ((title, f"{below}/{name}") for name, title in PAPERS.items() if name in names)
    yield from (("lock", f"{below}/{name}") for name in sorted(names) if name.endswith(LOCK_SUFFIX))
