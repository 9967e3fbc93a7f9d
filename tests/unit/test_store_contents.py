"""Is what the store holds what was put there, when it is used, carried to another machine and cleared up?"""

import hashlib
import io
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from builder.errors import InputError, TrustError
from builder.lock import Lock, LockedFile, lock_text
from builder.store import LOCK_MEMBER, Pruned, Store
from tests.support.locks import left, lock_of, locked


def filled(tmp_path: Path, *files: tuple[str, bytes]) -> tuple[Store, Lock]:
    store = Store(tmp_path / "store")
    lock = lock_of(*(locked(name, content) for name, content in files))
    for file, (_, content) in zip(lock.files, files, strict=True):
        part = tmp_path / "new"
        part.write_bytes(content)
        store.adopt(part, file)
    return store, lock


@pytest.mark.parametrize("damage", [b"X", b"longer", b""])
def test_a_file_damaged_in_the_store_is_refused_and_removed(tmp_path: Path, damage: bytes) -> None:
    store, lock = filled(tmp_path, ("a-1.pkg", b"a"))
    file = lock.files[0]
    store.path(file.sha256).write_bytes(damage)
    with pytest.raises(TrustError) as caught:
        store.checked(file)
    assert f"expected sha256 {file.sha256}" in caught.value.message
    assert f"found    sha256 {hashlib.sha256(damage).hexdigest()}" in caught.value.message
    assert not store.has(file)
    with pytest.raises(InputError, match=r"a 1.0-1 is not in the store"):
        store.checked(file)


def test_a_missing_file_is_not_in_the_store(tmp_path: Path) -> None:
    assert not Store(tmp_path).has(LockedFile(**A.model_dump()))


def test_an_export_is_taken_in_by_an_empty_store(tmp_path: Path) -> None:
    store, lock = filled(tmp_path, ("a-1.pkg", b"a"), ("b-1.pkg", b"b" * 99999), ("c-1.pkg", b"a"))
    assert store.export(lock, tmp_path / "export.tar") == 2
    other = Store(tmp_path / "other")
    found, count = other.load(tmp_path / "export.tar")
    assert (found, count) == (lock, 2)
    assert all(other.checked(f) for f in lock.files)
    assert left(other) == []


def test_an_export_of_a_damaged_store_is_refused(tmp_path: Path) -> None:
    store, lock = filled(tmp_path, ("a-1.pkg", b"a"))
    store.path(lock.files[0].sha256).write_bytes(b"b")
    with pytest.raises(TrustError, match="not what was put there"):
        store.export(lock, tmp_path / "export.tar")


def archive(path: Path, *members: tuple[str, bytes] | tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w") as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                tar.addfile(info, io.BytesIO(member[1]))
    return path


def link(name: str, target: str, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


A = locked("a-1.pkg", b"a")
HEAD = (LOCK_MEMBER, lock_text(lock_of(A)).encode())
ODD: dict[str, tuple[Any, ...]] = {
    "a path outside": (HEAD, ("../../escape", b"a")),
    "an absolute path": (HEAD, ("/tmp/escape", b"a")),
    "a file that the lock does not name": (HEAD, ("b" * 64, b"a")),
    "a symbolic link": (HEAD, link(A.sha256, "/etc/passwd", tarfile.SYMTYPE)),
    "a hard link": (HEAD, link(A.sha256, LOCK_MEMBER, tarfile.LNKTYPE)),
    "a device": (HEAD, link(A.sha256, "", tarfile.CHRTYPE)),
    "a directory": (HEAD, link("dir", "", tarfile.DIRTYPE)),
    "a second lock": (HEAD, HEAD),
    "files before the lock": ((A.sha256, b"a"), HEAD),
}


@pytest.mark.parametrize("what", ODD)
def test_an_export_with_anything_else_in_it_is_refused(tmp_path: Path, what: str) -> None:
    store = Store(tmp_path / "deep/store")
    with pytest.raises(InputError, match="does not belong into a store export"):
        store.load(archive(tmp_path / "odd.tar", *ODD[what]))
    assert {p.name for p in tmp_path.iterdir()} == {"deep", "odd.tar"}
    assert left(store) == []


def test_an_export_whose_lock_would_land_elsewhere_is_refused(tmp_path: Path) -> None:
    evil = lock_text(lock_of(A)).replace('"profile": "work"', '"profile": "../../evil"').encode()
    with pytest.raises(InputError, match="profile"):
        Store(tmp_path / "store").load(archive(tmp_path / "odd.tar", (LOCK_MEMBER, evil)))


def test_an_export_with_a_changed_file_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    with pytest.raises(TrustError, match=r"a 1.0-1 \(a-1.pkg\) is not the file"):
        store.load(archive(tmp_path / "odd.tar", HEAD, (A.sha256, b"b")))
    assert not store.has(A)
    assert left(store) == []


def test_what_is_no_export_is_refused(tmp_path: Path) -> None:
    good = archive(tmp_path / "good.tar", HEAD, (A.sha256, b"a" * 1)).read_bytes()
    for data in (b"", b"no tar at all" * 99, good[:700], good[:1100]):
        (tmp_path / "odd.tar").write_bytes(data)
        with pytest.raises(InputError, match=r"odd.tar"):
            Store(tmp_path / "store").load(tmp_path / "odd.tar")


def test_an_export_that_lacks_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"lacks a 1.0-1"):
        Store(tmp_path / "store").load(archive(tmp_path / "odd.tar", HEAD))


def test_pruning_keeps_what_is_named_and_what_has_just_come(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    digests = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("kept", "gone", "new")}
    for name, digest in digests.items():
        store.path(digest).parent.mkdir(parents=True, exist_ok=True)
        store.path(digest).write_text(name)
        (store.root / f"{digest}.part").write_text("half")
        if name != "new":
            os.utime(store.path(digest), (0, 0))
            os.utime(store.root / f"{digest}.part", (0, 0))
    foreign = store.root / "notes.txt"
    foreign.write_text("mine")
    os.utime(foreign, (0, 0))
    assert store.prune({digests["kept"]}, dry_run=True) == Pruned(2, 8)
    assert store.path(digests["gone"]).exists()
    assert store.prune({digests["kept"]}) == Pruned(2, 8)
    left = {p.name for p in store.root.rglob("*") if p.is_file()}
    named = {d for name in ("kept", "new") for d in (digests[name], f"{digests[name]}.part")}
    assert left == named | {"notes.txt", "fetch.lock"}
