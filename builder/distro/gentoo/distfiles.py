"""Which files does it take to build a package from source, and are they what the tree's Manifest says?

A package's Manifest (GLEP 74) has a line ``DIST NAME SIZE HASH VALUE …`` for each file of any of its
versions. Mirrors keep a file below the first two digits of its name's BLAKE2B (GLEP 75).
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from builder.distro.gentoo.index import split_cpv
from builder.distro.gentoo.releases import fetched, pinned
from builder.errors import InputError, MachineError, TrustError
from builder.files import file_digest
from builder.lock import LockedFile, safe_path
from builder.store import Store

if TYPE_CHECKING:
    import httpx

MAX_MANIFEST = 8 << 20  # bytes; the largest of Gentoo has 0.5 MiB
HASHES = {"BLAKE2B": "blake2b", "SHA512": "sha512"}  # what all of Gentoo's Manifests have
DIGEST = r"[0-9a-f]{128}"


@dataclass(frozen=True)
class Distfile:
    """One file that an ebuild is built from, as the tree says."""

    name: str
    size: int
    digests: Mapping[str, str]
    """By the names that Manifests give hashes: BLAKE2B and SHA512."""

    @property
    def path(self) -> str:
        """Where mirrors keep it, below `distfiles`."""
        return f"{hashlib.blake2b(self.name.encode()).hexdigest()[:2]}/{self.name}"


def parse_manifest(data: bytes, where: str) -> dict[str, Distfile]:
    """The DIST lines of a package's Manifest, by name. Raises InputError for what cannot be one."""
    if len(data) > MAX_MANIFEST:
        raise InputError(f"{where}: not a Manifest: larger than {MAX_MANIFEST >> 20} MiB")
    try:
        text = data.decode()
    except UnicodeDecodeError as e:
        raise InputError(f"{where}: not a Manifest: {e}") from e
    found: dict[str, Distfile] = {}
    for line in text.split("\n"):
        words = line.split()
        if not words or words[0] != "DIST":
            continue
        made = parse_dist(words[1:])
        if made is None or made.name in found:
            raise InputError(
                f"{where}: {line[:60]!r} is no DIST line: NAME SIZE HASH VALUE …, each name once"
            )
        found[made.name] = made
    return found


def parse_dist(words: Sequence[str]) -> Distfile | None:
    """The words of a DIST line after the first; None for what is not one."""
    if len(words) < 2 or len(words) % 2:
        return None
    name, size = words[:2]
    digests = dict(zip(words[2::2], words[3::2], strict=True))
    if (
        "/" in name
        or name in (".", "..")
        or not re.fullmatch(r"[0-9]{1,12}", size)
        or len(digests) != len(words) // 2 - 1
    ):
        return None
    if not all(re.fullmatch(DIGEST, digests.get(key, "")) for key in HASHES):
        return None
    return Distfile(name, int(size), {key: digests[key] for key in HASHES})


def distfiles_of(tree: Path, needed: Mapping[str, Sequence[str]]) -> list[tuple[str, Distfile]]:
    """CPV and file for each file that ``needed`` names by CPV, each file once."""
    found: dict[str, tuple[str, Distfile]] = {}
    for cpv, names in sorted(needed.items()):
        if not names:
            continue
        manifest = tree / split_cpv(cpv)[0] / "Manifest"
        if not manifest.is_file():
            raise TrustError(f"the ebuild tree has no Manifest of {cpv}, and so no digest of its files")
        known = parse_manifest(manifest.read_bytes(), f"the Manifest of {cpv}")
        for name in names:
            if name not in known:
                raise TrustError(f"the Manifest of {cpv} has no digest of {name}")
            try:
                safe_path(name)
            except ValueError as e:
                raise InputError(f"{cpv} cannot be built: {e}") from e
            found.setdefault(name, (cpv, known[name]))
    return [found[name] for name in sorted(found)]


def pin_distfile(http: "httpx.Client", base: str, cpv: str, wanted: Distfile, store: Store) -> LockedFile:
    """Fetch a distfile, compare it with the tree's Manifest, and pin it."""
    name, version = split_cpv(cpv)
    try:
        with fetched(http, f"{base}/{wanted.path}", wanted.size, store) as archive:
            for key, digest in wanted.digests.items():
                if file_digest(archive, HASHES[key]) != digest:
                    raise TrustError(
                        f"{wanted.name} of {cpv} does not have the {key} that the tree's Manifest says",
                        hint="the mirror or the way to it changed it: try another mirror",
                    )
            made = pinned(
                archive, store, kind="distfile", repository="distfiles", path=wanted.path, name=name
            )
    except MachineError as e:
        raise MachineError(
            f"{cpv} is not on the binhost, and a file that it is built from cannot be had: {e.message}",
            hint="mirrors do not keep the files of every ebuild (RESTRICT=fetch or mirror)",
        ) from e
    return made.model_copy(update={"version": version, "sha512": wanted.digests["SHA512"]})
