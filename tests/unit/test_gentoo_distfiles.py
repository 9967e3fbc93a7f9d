"""Are the files that a package is built from taken as the tree's Manifest says, and no others?"""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.distro.gentoo.distfiles import Distfile, distfiles_of, parse_manifest
from builder.errors import InputError, SeatsmithError, TrustError
from builder.lock import lock_text, parse_lock
from tests.support.locks import lock_of, locked

B, S = "ab" * 64, "cd" * 64
HELLO = f"DIST hello-1.0.tar 10240 BLAKE2B {B} SHA512 {S}\n"
OTHERS = f"AUX fix.patch 57 BLAKE2B {B} SHA512 {S}\nEBUILD hello-1.0.ebuild 751 BLAKE2B {B} SHA512 {S}\n"


def test_a_manifest_gives_size_and_digests_of_each_distfile() -> None:
    found = parse_manifest((OTHERS + HELLO).encode(), "Manifest")
    assert list(found) == ["hello-1.0.tar"]
    assert found["hello-1.0.tar"] == Distfile("hello-1.0.tar", 10240, {"BLAKE2B": B, "SHA512": S})


def test_a_distfile_is_where_glep_75_has_mirrors_keep_it() -> None:
    # what portage says (fetch.py, FilenameHashLayout) where layout.conf says: filename-hash BLAKE2B 8
    assert Distfile("foo-1.2.3.tar.gz", 0, {}).path == "7a/foo-1.2.3.tar.gz"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (HELLO + HELLO, "each name once"),
        (f"DIST ../passwd 1 BLAKE2B {B} SHA512 {S}\n", "no DIST line"),
        (f"DIST .. 1 BLAKE2B {B} SHA512 {S}\n", "no DIST line"),
        (f"DIST a.tar -1 BLAKE2B {B} SHA512 {S}\n", "no DIST line"),
        (f"DIST a.tar 1 BLAKE2B {B}\n", "no DIST line"),
        (f"DIST a.tar 1 BLAKE2B {B} SHA512\n", "no DIST line"),
        (f"DIST a.tar 1 BLAKE2B {B} SHA512 {S[:-1]}\n", "no DIST line"),
        (f"DIST a.tar 1 BLAKE2B {B} BLAKE2B {B} SHA512 {S}\n", "no DIST line"),
        ("DIST\n", "no DIST line"),
    ],
)
def test_a_misleading_line_is_refused_and_shown(line: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_manifest(line.encode(), "the Manifest of x")
    assert said in caught.value.message
    assert "\n" not in caught.value.message


@given(st.binary(max_size=400))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_a_manifest_or_are_refused(data: bytes) -> None:
    for text in (data, b"DIST " + data, HELLO.encode() + data):
        try:
            for name, distfile in parse_manifest(text, "Manifest").items():
                assert "/" not in name and distfile.size >= 0
        except SeatsmithError as e:
            assert e.message


def test_only_files_with_digests_in_the_tree_are_fetched(tmp_path: Path) -> None:
    place = tmp_path / "app-misc/hello"
    place.mkdir(parents=True)
    needed = {"app-misc/hello-1.0": ["hello-1.0.tar"], "virtual/pager-1": []}
    with pytest.raises(TrustError, match="no Manifest of app-misc/hello"):
        distfiles_of(tmp_path, needed)
    (place / "Manifest").write_text(OTHERS + HELLO)
    assert [(cpv, file.name) for cpv, file in distfiles_of(tmp_path, needed)] == [
        ("app-misc/hello-1.0", "hello-1.0.tar")
    ]
    with pytest.raises(TrustError, match=r"no digest of more\.tar"):
        distfiles_of(tmp_path, {"app-misc/hello-1.0": ["hello-1.0.tar", "more.tar"]})
    (place / "Manifest").write_text(HELLO.replace("hello-1.0.tar", "hello%20.tar"))
    with pytest.raises(InputError, match="cannot be built"):
        distfiles_of(tmp_path, {"app-misc/hello-1.0": ["hello%20.tar"]})


def test_a_lock_names_what_is_built_and_one_without_builds_reads_as_before() -> None:
    tree = locked("gentoo.tar", b"tree").model_copy(update={"kind": "tree", "name": "gentoo"})
    plain = locked("cpio-1.gpkg.tar", b"cpio")
    assert "builds" not in lock_text(lock_of(tree, plain))
    source = locked("ab/hello-1.0.tar", b"hello").model_copy(
        update={"kind": "distfile", "name": "app-misc/hello", "version": "1.0"}
    )
    builds = {"image": [("app-misc/hello", "1.0"), ("virtual/pager", "1")]}
    lock = lock_of(tree, plain, source, builds=builds)
    assert parse_lock(lock_text(lock).encode(), Path("x.lock")) == lock
    came = {(f.name, f.version): f.sha256 for f in lock.installed()}
    assert came == {
        (plain.name, plain.version): plain.sha256,
        ("app-misc/hello", "1.0"): source.sha256,
        ("virtual/pager", "1"): tree.sha256,
    }


def test_a_lock_that_builds_from_no_tree_is_refused() -> None:
    text = lock_text(lock_of(locked("cpio-1.gpkg.tar", b"cpio")))
    with pytest.raises(InputError, match="no one ebuild tree"):
        parse_lock(
            text.replace('"files"', '"builds": {"image": [["a/b", "1"]]},\n "files"').encode(), Path("x")
        )
