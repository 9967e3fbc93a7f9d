"""Is a stage3, tree or index of Gentoo taken only with the signatures that it must have?"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from builder.distro.gentoo.distfiles import HASHES, Distfile, pin_distfile
from builder.distro.gentoo.index import Binary
from builder.distro.gentoo.releases import FLAVOUR, Trust, latest_stage, pin_stage, pin_tree
from builder.distro.gentoo.resolve import pin_binaries
from builder.errors import MachineError, TrustError
from builder.lock import LockedFile, refuse_rollback
from builder.store import Store
from builder.tools import Tools
from tests.support.gpgkeys import KeyMaker, TestKey
from tests.support.locks import lock_of, locked

STAMP = "20261101T000000Z"
STAGE = f"{STAMP}/{FLAVOUR}-{STAMP}.tar.xz"
CONTENT = b"stage3" * 1000
BASE = "http://mirror.example.org"


@dataclass
class Mirror:
    """A mirror in memory whose files each test may change."""

    keys: KeyMaker
    key: TestKey
    store: Store
    tools: Tools
    place: Path
    files: dict[str, bytes] = field(default_factory=dict)

    @property
    def http(self) -> httpx.Client:
        def answer(request: httpx.Request) -> httpx.Response:
            data = self.files.get(request.url.path.lstrip("/"))
            return httpx.Response(404) if data is None else httpx.Response(200, content=data)

        return httpx.Client(transport=httpx.MockTransport(answer))

    @property
    def trust(self) -> Trust:
        return Trust(self.key.public.read_bytes(), self.key.fingerprint, self.key.fingerprint)

    def clearsigned(self, text: str, key: TestKey | None = None) -> bytes:
        source, target = self.place / "text", self.place / "text.asc"
        source.write_text(text)
        target.unlink(missing_ok=True)
        user = (key or self.key).fingerprint
        self.keys.gpg(["--local-user", user, "--output", str(target), "--clearsign", str(source)])
        return target.read_bytes()

    def detached(self, data: bytes, key: TestKey | None = None) -> bytes:
        source, target = self.place / "data", self.place / "data.sig"
        source.write_bytes(data)
        target.unlink(missing_ok=True)
        user = (key or self.key).fingerprint
        self.keys.gpg(["--local-user", user, "--output", str(target), "--detach-sign", str(source)])
        return target.read_bytes()

    def digests(self, content: bytes = CONTENT) -> str:
        return f"# SHA512 HASH\n{hashlib.sha512(content).hexdigest()}  {Path(STAGE).name}\n"

    def stage(self) -> list[LockedFile]:
        path, size = latest_stage(self.http, BASE, self.trust, self.tools)
        return pin_stage(self.http, BASE, path, size, self.trust, store=self.store, tools=self.tools)


@pytest.fixture
def mirror(make_key: KeyMaker, release: TestKey, tools: Tools, tmp_path: Path) -> Mirror:
    made = Mirror(make_key, release, Store(tmp_path / "store"), tools, tmp_path)
    made.files = {
        f"latest-{FLAVOUR}.txt": made.clearsigned(f"# Latest\n{STAGE} {len(CONTENT)}\n"),
        STAGE: CONTENT,
        f"{STAGE}.DIGESTS": made.clearsigned(made.digests()),
        f"{STAGE}.asc": made.detached(CONTENT),
    }
    return made


def test_a_well_signed_stage_is_pinned_with_its_signatures(mirror: Mirror) -> None:
    stage, digests, signature = mirror.stage()
    assert (stage.kind, stage.version, stage.size) == ("stage", STAMP, len(CONTENT))
    assert stage.sha512 == hashlib.sha512(CONTENT).hexdigest()
    assert mirror.store.checked(stage).read_bytes() == CONTENT
    assert [mirror.store.has(f) for f in (digests, signature)] == [True, True]


def alter_stage(mirror: Mirror) -> None:
    mirror.files[STAGE] = CONTENT[:-1] + b"!"


def shorten_stage(mirror: Mirror) -> None:
    mirror.files[STAGE] = CONTENT[:-1]


def alter_digests(mirror: Mirror) -> None:
    signed = mirror.files[f"{STAGE}.DIGESTS"]
    mirror.files[f"{STAGE}.DIGESTS"] = signed.replace(b"# SHA512", b"# SHA512 ", 1)


def put_text_before_the_header(mirror: Mirror) -> None:
    evil = CONTENT[:-1] + b"!"
    mirror.files[STAGE] = evil
    signed = mirror.clearsigned("nothing\n")
    mirror.files[f"{STAGE}.DIGESTS"] = mirror.digests(evil).encode() + b"\n" + signed


def swap_signature(mirror: Mirror) -> None:
    mirror.files[f"{STAGE}.asc"] = mirror.detached(b"something else")


def sign_by_another_key(mirror: Mirror) -> None:
    other = mirror.keys("somebody else")
    mirror.files[f"{STAGE}.DIGESTS"] = mirror.clearsigned(mirror.digests(), other)


def name_by_another_key(mirror: Mirror) -> None:
    other = mirror.keys("somebody else")
    mirror.files[f"latest-{FLAVOUR}.txt"] = mirror.clearsigned(f"{STAGE} {len(CONTENT)}\n", other)


def name_no_stage(mirror: Mirror) -> None:
    mirror.files[f"latest-{FLAVOUR}.txt"] = mirror.clearsigned("../../etc/passwd 10\n")


def leave_it_unsigned(mirror: Mirror) -> None:
    mirror.files[f"{STAGE}.DIGESTS"] = mirror.digests().encode()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (alter_stage, "not what its signed digests say"),
        (shorten_stage, "bytes that are signed for"),
        (alter_digests, "not signed by the key that is pinned"),
        (put_text_before_the_header, "0 SHA512"),
        (swap_signature, "not signed by the key that is pinned"),
        (sign_by_another_key, "not signed by the key that is pinned"),
        (name_by_another_key, "not signed by the key that is pinned"),
        (name_no_stage, "names no stage3"),
        (leave_it_unsigned, "not signed by the key that is pinned"),
    ],
)
def test_a_stage_that_is_not_what_was_signed_is_refused_and_not_kept(
    mirror: Mirror, spoil: Callable[[Mirror], None], said: str
) -> None:
    spoil(mirror)
    with pytest.raises(TrustError, match=said):
        mirror.stage()
    kept = [p for p in mirror.store.root.rglob("*") if p.is_file() and p.read_bytes() == mirror.files[STAGE]]
    assert kept == []


def test_an_expired_key_signs_nothing_any_more(mirror: Mirror, make_key: KeyMaker) -> None:
    old = make_key.made_in_2020("an old release key")
    data, signature = mirror.place / "tree", mirror.place / "tree.sig"
    data.write_bytes(CONTENT)
    make_key.sign_in_2020(old, data, signature)
    mirror.files |= {
        "gentoo-20261101.tar.xz": CONTENT,
        "gentoo-20261101.tar.xz.gpgsig": signature.read_bytes(),
    }
    trust = Trust(old.public.read_bytes(), old.fingerprint, old.fingerprint)
    with pytest.raises(TrustError, match="expired"):
        pin_tree(mirror.http, BASE, "20261101", trust, store=mirror.store, tools=mirror.tools)


def test_a_tree_signed_by_the_stage_key_alone_is_refused(mirror: Mirror, make_key: KeyMaker) -> None:
    tree_key = make_key("snapshots")
    keys = mirror.key.public.read_bytes() + tree_key.public.read_bytes()
    trust = Trust(keys, mirror.key.fingerprint, tree_key.fingerprint)
    mirror.files |= {
        "gentoo-20261101.tar.xz": CONTENT,
        "gentoo-20261101.tar.xz.gpgsig": mirror.detached(CONTENT),
    }
    with pytest.raises(TrustError, match="pinned"):
        pin_tree(mirror.http, BASE, "20261101", trust, store=mirror.store, tools=mirror.tools)
    mirror.files["gentoo-20261101.tar.xz.gpgsig"] = mirror.detached(CONTENT, tree_key)
    tree, _ = pin_tree(mirror.http, BASE, "20261101", trust, store=mirror.store, tools=mirror.tools)
    assert tree.version == "20261101"


def test_a_gpkg_that_the_index_tells_otherwise_of_is_refused(mirror: Mirror, tmp_path: Path) -> None:
    path = "sys-apps/sed/sed-4.9-1.gpkg.tar"
    mirror.files[path] = CONTENT
    right = hashlib.sha1(CONTENT, usedforsecurity=False).hexdigest()
    for size, sha1 in ((len(CONTENT), "ab" * 20), (len(CONTENT) + 1, right)):
        binary = Binary("sys-apps/sed-4.9", "1", path, size, sha1, "")
        with pytest.raises(TrustError, match="not what the index says"):
            pin_binaries(mirror.http, BASE, [binary], mirror.store, tmp_path / f"{size}-{sha1[:4]}")
    gone = Binary("sys-apps/sed-4.9", "1", "sys-apps/sed/gone.gpkg.tar", 1, right, "")
    with pytest.raises(MachineError, match="404"):
        pin_binaries(mirror.http, BASE, [gone], mirror.store, tmp_path / "gone")


def test_a_distfile_that_the_manifest_tells_otherwise_of_is_refused(mirror: Mirror) -> None:
    digests = {key: hashlib.new(name, CONTENT).hexdigest() for key, name in HASHES.items()}
    wanted = Distfile("hello-1.0.tar", len(CONTENT), digests)
    path = wanted.path

    def pin() -> LockedFile:
        return pin_distfile(mirror.http, BASE, "app-misc/hello-1.0", wanted, mirror.store)

    for altered, said in (
        (CONTENT[:-1] + b"!", "BLAKE2B"),
        (CONTENT[:-1], "bytes"),
        (CONTENT + b"!", "bytes"),
    ):
        mirror.files[path] = altered
        with pytest.raises(TrustError, match=said):
            pin()
    del mirror.files[path]
    with pytest.raises(MachineError, match=r"hello-1\.0 is not on the binhost.*404"):
        pin()
    mirror.files[path] = CONTENT
    pinned = pin()
    assert (pinned.kind, pinned.name, pinned.version) == ("distfile", "app-misc/hello", "1.0")
    assert pinned.sha512 == digests["SHA512"]
    assert mirror.store.checked(pinned).read_bytes() == CONTENT


def test_an_older_index_than_that_of_the_lock_before_is_refused() -> None:
    def index(version: str) -> LockedFile:
        made = locked("Packages", version.encode())
        return made.model_copy(update={"kind": "index", "name": "Packages", "version": version})

    before, older, newer = (lock_of(index(v)) for v in ("1795305600", "1795305599", "1795305601"))
    refuse_rollback(before, newer)
    refuse_rollback(before, before)
    with pytest.raises(TrustError, match="older than the 1795305600"):
        refuse_rollback(before, older)
