"""Is a lock read exactly, and everything else refused with file and place, also what was made to mislead?"""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder import lock as lock_module
from builder.errors import InputError
from builder.lock import Lock, lock_text, parse_lock, read_lock, write_lock
from tests.support.locks import lock_of, locked

PLACE = Path("profiles/work.upstream.lock")
GOOD = lock_of(locked("bash-1.0-1-any.pkg.tar.zst", b"bash"), locked("zlib-1.0-1-any.pkg.tar.zst", b"zlib"))


def changed(**more: Any) -> bytes:
    """The good lock with other values at the top."""
    return json.dumps({**json.loads(lock_text(GOOD)), **more}).encode()


def with_file(**more: Any) -> bytes:
    """The good lock with other values in its first file."""
    data = json.loads(lock_text(GOOD))
    data["files"][0] |= more
    return json.dumps(data).encode()


def refused(data: bytes) -> str:
    with pytest.raises(InputError) as caught:
        parse_lock(data, PLACE)
    assert caught.value.exit_code == 3
    assert caught.value.message.startswith(f"{PLACE}: ")
    assert caught.value.hint == "renew it with: seatsmith lock PROFILE"
    return caught.value.message


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    write_lock(tmp_path / "lock", GOOD)
    assert read_lock(tmp_path / "lock") == GOOD


def test_a_lock_has_one_file_a_line_so_that_a_diff_is_one_of_packages() -> None:
    lines = lock_text(GOOD).splitlines()
    assert sum('"kind"' in line for line in lines) == 2
    assert lock_text(GOOD) == lock_text(parse_lock(lock_text(GOOD).encode(), PLACE))


def test_a_lock_without_files_is_json_too() -> None:
    empty = lock_of()
    assert parse_lock(lock_text(empty).encode(), PLACE) == empty


def test_a_missing_lock_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no lock") as caught:
        read_lock(tmp_path / "none")
    assert caught.value.hint == "make one with: seatsmith lock PROFILE"


def test_a_directory_is_no_lock(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read the lock .*directory"):
        read_lock(tmp_path)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "not a lock: Expecting value"),
        (b"\0\0\0", "not a lock"),
        (b"[]", "valid dictionary or object|object"),
        (b"null", "object"),
        (b"{}", "profile: Field required"),
        (b'"x"', "object"),
        (lock_text(GOOD).encode()[:200], "not a lock"),
        (lock_text(GOOD).encode() + b"{}", "not a lock: Extra data"),
        (b'\xff\xfe{"format": 1}', "not a lock: 'utf-8'"),
        (lock_text(GOOD).encode().replace(b"bash", b"b\xe4sh"), "not a lock: 'utf-8'"),
        (b'{"profile": "a", "profile": "b"}', "not a lock: the key 'profile' is there twice"),
        (
            lock_text(GOOD).encode().replace(b'"size": 4', b'"size": 4, "size": 5', 1),
            "'size' is there twice",
        ),
        (b"[" * 200_000, "not a lock"),
        (b'{"a":' * 200_000, "not a lock"),
    ],
)
def test_what_is_no_json_object_is_refused(data: bytes, said: str) -> None:
    import re

    assert re.search(said, refused(data))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("format", 2),
        ("format", "1"),
        ("extra", 1),
        ("profile", "../../etc/cron.d/x"),
        ("profile", "a/b"),
        ("profile", ""),
        ("profile", None),
        ("profile", "work\n"),
        ("distribution", "slackware"),
        ("source", "auto"),
        ("source", "elsewhere"),
        ("snapshot", "yesterday"),
        ("snapshot", "2026-02-30"),
        ("snapshot", "1950-01-01"),
        ("snapshot", "2026-11-01T00:00"),
        ("snapshot", 20261101),
        ("request", "short"),
        ("request", "Z" * 64),
        ("mirrors", []),
        ("mirrors", {"core": 5}),
        ("mirrors", {"core": "ftp://mirror.example.org"}),
        ("mirrors", {"core": "https://mirror.example.org\nServer = http://evil"}),
        ("mirrors", {"core]\n[evil": "https://mirror.example.org"}),
        ("files", {}),
        ("files", [5]),
        ("files", "core"),
    ],
)
def test_a_wrong_value_is_refused_with_its_key(key: str, value: object) -> None:
    assert refused(changed(**{key: value})).startswith(f"{PLACE}: {key}")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("kind", "virus"),
        ("repository", ""),
        ("repository", "a b"),
        ("path", ""),
        ("path", "/etc/passwd"),
        ("path", "../bash"),
        ("path", "a/../../bash"),
        ("path", "a//bash"),
        ("path", "./bash"),
        ("path", ".."),
        ("path", "bash?x=1"),
        ("path", "bash#x"),
        ("path", "b%2e%2e"),
        ("path", "b ash"),
        ("path", "bash\n"),
        ("path", "ba\\sh"),
        ("path", "bä"),
        ("path", "a" * 2000),
        ("size", -1),
        ("size", "4"),
        ("size", 4.0),
        ("size", True),
        ("size", None),
        ("size", 10**30),
        ("sha256", ""),
        ("sha256", "A" * 64),
        ("sha256", "a" * 63),
        ("sha256", "../" + "a" * 61),
        ("sha256", "a" * 64 + "\n"),
        ("sha512", "a" * 64),
        ("name", "ba\x1b[31msh"),
        ("name", 5),
        ("version", "1 0"),
        ("unknown", 1),
    ],
)
def test_a_wrong_value_of_a_file_is_refused_with_its_place(key: str, value: object) -> None:
    assert refused(with_file(**{key: value})).startswith(f"{PLACE}: files.0.{key}")


def test_a_file_of_a_repository_without_mirror_is_refused() -> None:
    assert "'extra', which has no mirror" in refused(with_file(repository="extra"))


def test_a_file_that_is_there_twice_is_refused() -> None:
    assert "is there twice" in refused(with_file(path="zlib-1.0-1-any.pkg.tar.zst"))


def test_a_number_too_long_to_read_is_refused() -> None:
    assert "not a lock" in refused(
        lock_text(GOOD).encode().replace(b'"size": 4', b'"size": ' + b"9" * 10_000)
    )


def test_a_huge_file_is_refused_before_it_is_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock_module, "MAX_LOCK", 1000)
    path = tmp_path / "lock"
    with path.open("wb") as f:
        f.truncate(1 << 40)
    with pytest.raises(InputError, match="larger than"):
        read_lock(path)


@settings(max_examples=300, deadline=None)
@given(position=st.integers(0, 2000), replacement=st.binary(max_size=3))
def test_a_damaged_lock_is_read_as_a_lock_or_refused_and_never_anything_else(
    position: int, replacement: bytes
) -> None:
    data = lock_text(GOOD).encode()
    position %= len(data)
    try:
        found = parse_lock(data[:position] + replacement + data[position + len(replacement) :], PLACE)
    except InputError as e:
        assert str(PLACE) in e.message
    else:
        assert isinstance(found, Lock)
