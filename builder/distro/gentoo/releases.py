"""Which stage3 and ebuild tree does Gentoo offer, and did Gentoo's release engineers sign them?

Places and formats: https://www.gentoo.org/downloads/signatures/ and https://wiki.gentoo.org/wiki/Stage_file.
A stage3 has a detached signature (.asc) and a clearsigned list of digests (.DIGESTS), and a clearsigned text
names the latest one. The tree's snapshot has a detached signature (.gpgsig).
"""

import contextlib
import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from builder import ui
from builder.errors import MachineError, TrustError
from builder.files import atomic_path, file_digest
from builder.lock import LockedFile
from builder.outputs.clearsigned import read_clearsigned
from builder.outputs.sign import Signature, Verdict, check_signature
from builder.sources import Source
from builder.store import Store
from builder.tools import Tools

if TYPE_CHECKING:
    import httpx

MIRROR = "https://distfiles.gentoo.org"
KEYS_URL = "https://qa-reports.gentoo.org/output/service-keys.gpg"
AUTOBUILDS = "releases/amd64/autobuilds"
BINPACKAGES = "releases/amd64/binpackages/23.0/x86-64"
SNAPSHOTS = "snapshots"
DISTFILES = "distfiles"
FLAVOUR = "stage3-amd64-systemd"  # never openrc: nspawn and the desktop need systemd
STAGE_KEY = "13EBBDBEDE7A12775DFDB1BABB572E0E2D182910"
TREE_KEY = "DCD05B71EAB94199527F44ACDB6B8C1F96D8BF6D"
LATEST = re.compile(rf"(\d{{8}}T\d{{6}}Z)/({FLAVOUR}-\1\.tar\.xz) (\d+)")
MAX_TEXT = 1 << 20  # bytes of a signed text, a signature or a key file


@dataclass(frozen=True)
class Trust:
    """Who may sign what: the contents of a key file, and the primary keys that are pinned."""

    keys: bytes
    stage: str
    tree: str


def trust_of(source: Source, http: "httpx.Client") -> Trust:
    """Gentoo's release keys, which are trusted by their pinned fingerprints; or the stand-in's own."""
    if source is Source.STANDIN:
        from builder.standin.gentoo.mirror import ensure_gentoo_mirror

        mirror = ensure_gentoo_mirror()
        return Trust(mirror.public_key.read_bytes(), mirror.fingerprint, mirror.fingerprint)
    return Trust(download(http, KEYS_URL), STAGE_KEY, TREE_KEY)


def download(http: "httpx.Client", url: str, *, limit: int = MAX_TEXT) -> bytes:
    """A file of at most ``limit`` bytes. Raises MachineError where it cannot be had or is too long."""
    import httpx

    try:
        with http.stream("GET", url) as answer:
            answer.raise_for_status()
            data = b""
            for block in answer.iter_bytes():
                data += block
                if len(data) > limit:
                    raise MachineError(f"{url} is longer than {limit} bytes")
            return data
    except httpx.HTTPError as e:
        raise MachineError(f"cannot fetch {url}: {e}") from e


def demand(found: Signature, pinned: str, what: str) -> None:
    """Refuse all but a good signature of the pinned primary key."""
    if found.verdict is not Verdict.GOOD or found.fingerprint != pinned:
        raise TrustError(
            f"{what} is not signed by the key that is pinned for it, {pinned}: {found}",
            hint="the mirror or the way to it changed it, or the key was changed: see docs/gentoo.md",
        )


def keep(store: Store, data: bytes, *, kind: str, repository: str, path: str, name: str) -> LockedFile:
    """Put a small file into the store; return how a lock names it."""
    sha256 = hashlib.sha256(data).hexdigest()
    with atomic_path(store.path(sha256)) as made:
        made.write_bytes(data)
    return LockedFile.model_validate(
        {
            "kind": kind,
            "repository": repository,
            "path": path,
            "size": len(data),
            "sha256": sha256,
            "name": name,
        }
    )


def latest_stage(http: "httpx.Client", base: str, trust: Trust, tools: Tools) -> tuple[str, int]:
    """Path below autobuilds and size of the latest stage3, as the signed text says."""
    url = f"{base}/latest-{FLAVOUR}.txt"
    found, text = read_clearsigned(download(http, url), [trust.keys], tools=tools)
    demand(found, trust.stage, url)
    for line in text.splitlines():
        if named := LATEST.fullmatch(line.strip()):
            return f"{named[1]}/{named[2]}", int(named[3])
    raise TrustError(f"{url} names no {FLAVOUR}")


def signed_digest(text: str, filename: str) -> str:
    """The SHA512 of a file in a .DIGESTS text: a heading, then lines of digest and name."""
    heading = ""
    found = set()
    for line in text.splitlines():
        if line.startswith("#"):
            heading = line
        elif heading == "# SHA512 HASH":
            digest, _, name = line.partition("  ")
            if name == filename and re.fullmatch(r"[0-9a-f]{128}", digest):
                found.add(digest)
    if len(found) != 1:
        raise TrustError(f"the signed digests name {len(found)} SHA512 of {filename}, not one")
    return found.pop()


def pin_stage(
    http: "httpx.Client", base: str, path: str, size: int, trust: Trust, *, store: Store, tools: Tools
) -> list[LockedFile]:
    """Fetch a stage3, check it in both ways that Gentoo signs it, and pin it with its signatures."""
    title = f"stage3 {path.partition('/')[0]}"
    digests = download(http, f"{base}/{path}.DIGESTS")
    found, text = read_clearsigned(digests, [trust.keys], tools=tools)
    demand(found, trust.stage, f"the digests of {title}")
    sha512 = signed_digest(text, Path(path).name)
    signature = download(http, f"{base}/{path}.asc")
    with fetched(http, f"{base}/{path}", size, store) as archive:
        if file_digest(archive, "sha512") != sha512:
            raise TrustError(f"{title} is not what its signed digests say", hint="try another mirror")
        demand(check_signature(archive, signature, [trust.keys], tools=tools), trust.stage, title)
        stage = pinned(archive, store, kind="stage", repository="autobuilds", path=path, name="stage3")
    stage = stage.model_copy(update={"version": path.partition("/")[0], "sha512": sha512})
    return [
        stage,
        keep(
            store, digests, kind="signature", repository="autobuilds", path=f"{path}.DIGESTS", name="stage3"
        ),
        keep(store, signature, kind="signature", repository="autobuilds", path=f"{path}.asc", name="stage3"),
    ]


def pin_tree(
    http: "httpx.Client", base: str, day: str, trust: Trust, *, store: Store, tools: Tools
) -> list[LockedFile]:
    """Fetch the ebuild tree's snapshot of ``day`` (YYYYMMDD), check its signature and pin it."""
    path = f"gentoo-{day}.tar.xz"
    signature = download(http, f"{base}/{path}.gpgsig")
    with fetched(http, f"{base}/{path}", None, store) as archive:
        found = check_signature(archive, signature, [trust.keys], tools=tools)
        demand(found, trust.tree, f"the ebuild tree of {day}")
        tree = pinned(archive, store, kind="tree", repository="snapshots", path=path, name="gentoo")
    kept = keep(
        store, signature, kind="signature", repository="snapshots", path=f"{path}.gpgsig", name="gentoo"
    )
    return [tree.model_copy(update={"version": day}), kept]


@contextlib.contextmanager
def fetched(http: "httpx.Client", url: str, size: int | None, store: Store) -> Iterator[Path]:
    """A large file, downloaded beside the store, and gone when leaving unless it was moved in.

    ``size`` is what it must have, where that is known. Raises MachineError or TrustError.
    """
    import httpx

    store.root.mkdir(parents=True, exist_ok=True)
    target = store.root / f"unchecked-{hashlib.sha256(url.encode()).hexdigest()[:16]}"
    try:
        with http.stream("GET", url) as answer, target.open("wb") as out:
            answer.raise_for_status()
            total = int(answer.headers.get("Content-Length", 0))
            with ui.current().step(f"Fetching {url.rpartition('/')[2]}", total=total) as meter:
                for block in answer.iter_bytes(1 << 20):
                    out.write(block)
                    meter.advance(len(block))
                    if size is not None and out.tell() > size:
                        break
        if size is not None and target.stat().st_size != size:
            raise TrustError(f"{url} does not have the {size} bytes that are signed for")
        yield target
    except httpx.HTTPError as e:
        raise MachineError(f"cannot fetch {url}: {e}") from e
    finally:
        target.unlink(missing_ok=True)


def pinned(archive: Path, store: Store, *, kind: str, repository: str, path: str, name: str) -> LockedFile:
    """Move a checked file into the store; return how a lock names it."""
    file = LockedFile.model_validate(
        {
            "kind": kind,
            "repository": repository,
            "path": path,
            "size": archive.stat().st_size,
            "sha256": file_digest(archive),
            "name": name,
        }
    )
    store.adopt(archive, file)
    return file


def kept_of(files: Sequence[LockedFile], kind: str) -> LockedFile:
    """The one file of a kind in a lock."""
    found = [f for f in files if f.kind == kind]
    if len(found) != 1:
        raise TrustError(f"the lock names {len(found)} files of kind {kind}, not one")
    return found[0]
