"""Does the same tree give the same archive, however it came to be, and is a difference told by name?"""

import io
import os
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest
import zstandard

from builder.archive import pack_tree
from builder.errors import CheckFailed
from builder.imagediff import describe_difference
from builder.rebuild import compared

EPOCH = 1793491200
WHICH = shutil.which


@pytest.fixture(autouse=True)
def without_diffoscope(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)


def make_tree(root: Path, *, backwards: bool = False) -> Path:
    names = ["etc/a", "etc/b", "usr/lib/c", "usr/lib/ü ber"]
    for name in reversed(names) if backwards else names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (root / "usr/lib/run").write_text("#!/bin/sh\n")
    (root / "usr/lib/run").chmod(0o755)
    (root / "usr/empty").mkdir()
    (root / "etc/link").symlink_to("../usr/lib/c")
    return root


def packed(tree: Path, name: str) -> bytes:
    final = tree.parent / f"{name}.tar.zst"
    pack_tree(tree, final, epoch=EPOCH)
    return final.read_bytes()


def entries(data: bytes) -> list[tarfile.TarInfo]:
    with tarfile.open(
        fileobj=io.BytesIO(zstandard.ZstdDecompressor().decompressobj().decompress(data))
    ) as tar:
        return tar.getmembers()


def test_an_archive_is_sorted_owned_by_root_and_of_one_time(tmp_path: Path) -> None:
    found = entries(packed(make_tree(tmp_path / "tree"), "one"))
    names = [e.name for e in found]
    assert names == sorted(names)
    assert "./usr/empty" in names
    assert {(e.uid, e.gid, e.uname, e.gname, e.mtime) for e in found} == {(0, 0, "", "", EPOCH)}
    modes = {e.name: e.mode for e in found}
    assert (modes["./usr/lib/run"], modes["./etc/a"], modes["./etc"]) == (0o755, 0o644, 0o755)
    assert next(e.linkname for e in found if e.name == "./etc/link") == "../usr/lib/c"


def test_the_same_tree_gives_the_same_bytes_however_it_was_made(tmp_path: Path) -> None:
    first = packed(make_tree(tmp_path / "first"), "one")
    other = make_tree(tmp_path / "second/elsewhere", backwards=True)
    for path in other.rglob("*"):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & 0o700)
            os.utime(path, (1, 1))
    if os.geteuid() == 0:
        os.chown(other / "etc/a", 4711, 4711)
    assert packed(other, "two") == first


def test_hard_links_and_holes_make_no_difference(tmp_path: Path) -> None:
    plain, odd = make_tree(tmp_path / "plain"), make_tree(tmp_path / "odd")
    (plain / "etc/twin").write_text("etc/a")
    os.link(odd / "etc/a", odd / "etc/twin")
    (plain / "zeros").write_bytes(bytes(1 << 20))
    with (odd / "zeros").open("wb") as f:
        f.truncate(1 << 20)
    assert packed(plain, "plain") == packed(odd, "odd")


def test_an_extended_attribute_of_the_build_machine_makes_no_difference(tmp_path: Path) -> None:
    plain, odd = make_tree(tmp_path / "plain"), make_tree(tmp_path / "odd")
    try:
        os.setxattr(odd / "etc/a", "user.note", b"x")
    except OSError:
        pytest.skip("this file system has no user attributes")
    assert packed(plain, "plain") == packed(odd, "odd")


def image(place: Path, *changes: dict[str, Any]) -> Path:
    """An archive of three files, with these changes to the last."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in ("./a", "./b", "./usr/bin/ping"):
            info = tarfile.TarInfo(name)
            content = b"content"
            if name == "./usr/bin/ping":
                for key, value in [pair for change in changes for pair in change.items()]:
                    if key == "content":
                        content = value
                    else:
                        setattr(info, key, value)
            info.size = len(content) if info.isfile() else 0
            tar.addfile(info, io.BytesIO(content) if info.isfile() else None)
    place.write_bytes(zstandard.compress(buffer.getvalue()))
    return place


CAPABILITY = "SCHILY.xattr.security.capability"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"content": b"CONTENT"}, "./usr/bin/ping: content"),
        ({"content": b"longer content"}, "./usr/bin/ping: size 7 → 14, content"),
        ({"mode": 0o4755}, "./usr/bin/ping: mode 644 → 4755"),
        ({"uid": 1000}, "./usr/bin/ping: owner 0:0 → 1000:0"),
        ({"mtime": 5}, "./usr/bin/ping: time 0 → 5"),
        ({"type": tarfile.SYMTYPE, "linkname": "x"}, "type 0 → 2"),
        ({"pax_headers": {CAPABILITY: "x"}}, "attributes"),
        ({"name": "./usr/bin/pong"}, "./usr/bin/ping: only in the first build"),
    ],
)
def test_a_difference_is_told_by_file_and_kind(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    lines = describe_difference(image(tmp_path / "1.tar.zst"), image(tmp_path / "2.tar.zst", change))
    assert said in "\n".join(lines)


def test_another_value_of_an_attribute_is_a_difference(tmp_path: Path) -> None:
    one = image(tmp_path / "1.tar.zst", {"pax_headers": {CAPABILITY: "x"}})
    two = image(tmp_path / "2.tar.zst", {"pax_headers": {CAPABILITY: "y"}})
    assert "attributes" in describe_difference(one, two)[0]


def test_the_same_files_packed_otherwise_are_told_so(tmp_path: Path) -> None:
    one, two = image(tmp_path / "1.tar.zst"), image(tmp_path / "2.tar.zst")
    two.write_bytes(zstandard.compress(zstandard.decompress(two.read_bytes()), 19))
    assert "packed differently" in describe_difference(one, two)[0]


def test_many_differences_are_counted_and_ten_shown(tmp_path: Path) -> None:
    trees = []
    for name in ("one", "two"):
        tree = tmp_path / name
        tree.mkdir()
        for n in range(30):
            (tree / f"file{n:02}").write_text(name)
        packed(tree, name)
        trees.append(tmp_path / f"{name}.tar.zst")
    lines = describe_difference(*trees)
    assert len(lines) == 11
    assert lines[-1] == "… and 20 more"


def test_files_that_are_no_archives_are_compared_by_bytes(tmp_path: Path) -> None:
    one, two = tmp_path / "1.efi", tmp_path / "2.efi"
    one.write_bytes(bytes(200_000) + b"a")
    two.write_bytes(bytes(200_000) + b"b")
    assert describe_difference(one, two) == ["from byte 200000 on"]
    two.write_bytes(bytes(200_000))
    assert describe_difference(one, two) == ["from byte 200000 on"]


def test_a_damaged_archive_is_compared_by_bytes(tmp_path: Path) -> None:
    one, two = image(tmp_path / "1.tar.zst"), tmp_path / "2.tar.zst"
    two.write_bytes(one.read_bytes()[:60])
    assert describe_difference(one, two) == ["from byte 60 on"]


def test_where_diffoscope_is_installed_it_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "bin/diffoscope"
    fake.parent.mkdir()
    fake.write_text('#!/bin/sh\necho "asked about $3 and $4"; seq 100; exit 1\n')
    fake.chmod(0o755)
    monkeypatch.setattr("shutil.which", WHICH)
    monkeypatch.setenv("PATH", f"{fake.parent}:/usr/bin:/bin")
    lines = describe_difference(tmp_path / "one", tmp_path / "two")
    assert lines[0] == f"asked about {tmp_path}/one and {tmp_path}/two"
    assert len(lines) == 40


def test_two_builds_are_compared_file_by_file_and_the_other_ones_file_is_kept(tmp_path: Path) -> None:
    first, second = tmp_path / "images/key", tmp_path / "made"
    for place in (first, second):
        place.mkdir(parents=True)
        (place / "image.tar.zst").write_bytes(b"same")
    (first / "done.json").touch()  # is of the cache, and not of the build
    assert list(compared(first, second)) == ["image.tar.zst"]
    (second / "image.efi").write_bytes(b"new")
    with pytest.raises(CheckFailed, match=r"image\.efi was made by the second of the two builds alone"):
        compared(first, second)
    (first / "image.efi").write_bytes(b"nee")
    with pytest.raises(
        CheckFailed, match=r"image\.efi of the two builds differs:\n  from byte 2 on"
    ) as caught:
        compared(first, second)
    kept = tmp_path / "images/differs-image.efi"
    assert kept.read_bytes() == b"new" and str(kept) in (caught.value.hint or "")
