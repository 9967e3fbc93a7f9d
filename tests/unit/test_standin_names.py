"""Are Debian's names and versions legal, and in the same order, as Arch and Gentoo write them?"""

import re
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from builder.standin.names import extras, gentoo_word, name_of, names, pacman_version, split_version
from builder.standin.server import serve


@pytest.mark.parametrize(
    ("debian", "arch"),
    [
        ("1.2-3", "1.2-3"),
        ("2:1.2.3-4+b1", "2:1.2.3-4.1"),
        ("1.2", "1.2-1"),
        ("1.2-0", "1.2-1"),
        ("1.0~rc1-2", "1.0rc1-2"),
        ("257.13-1~deb13u1", "257.13-1.1"),
        ("0~20260420-1~deb13u1", "0.20260420-1.1"),
        ("7.6.q-36", "7.6.q-36"),
        ("1.3.dfsg+really1.3.1-1+deb13u1", "1.3.dfsg+really1.3.1-1.1"),
        ("2.4+20151223.gitfa8646d.1-2+b5", "2.4+20151223.gitfa8646d.1-2.5"),
    ],
)
def test_a_debian_version_becomes_one_that_pacman_takes(debian: str, arch: str) -> None:
    assert pacman_version(debian) == arch
    assert re.fullmatch(r"(\d+:)?[A-Za-z0-9.+_]+-\d+(\.\d+)?", arch)


def test_epoch_version_and_revision_come_apart() -> None:
    assert split_version("2:1.0-rc1-3") == (2, "1.0-rc1", "3")
    assert split_version("1.0") == (0, "1.0", "")
    assert split_version("a:1") == (0, "a:1", "")


@pytest.mark.parametrize(
    ("debian", "word"),
    [("libc6", "libc6"), ("python3.13", "python3_13"), ("foo-2", "foo_2"), ("g++", "g++"), ("-x", "x")],
)
def test_a_debian_name_becomes_one_that_pms_allows(debian: str, word: str) -> None:
    assert gentoo_word(debian) == word


def test_every_row_of_the_table_has_legal_and_unique_names() -> None:
    table = names()
    assert len({n.arch for n in table}) == len(table)
    debian = [d for n in table for d in n.debian]
    assert len(set(debian)) == len(debian)
    for name in table:
        assert name.arch == "-" or re.fullmatch(r"[a-z0-9@_+][a-z0-9@._+-]*", name.arch)
        assert name.gentoo == "-" or re.fullmatch(r"[a-z0-9-]+/[A-Za-z0-9+_-]+", name.gentoo)


def test_a_package_that_the_table_does_not_know_keeps_its_name() -> None:
    assert name_of("libnobody1.2").arch == "libnobody1.2"
    assert name_of("libnobody1.2").gentoo == "debian/libnobody1_2"


def test_what_packages_say_beyond_debian_is_of_known_kinds() -> None:
    known = {
        "repository", "description", "depends", "optdepends", "provides", "conflicts", "replaces",
        "groups", "backup", "version_of", "without",
    }  # fmt: skip
    for name, extra in extras().items():
        assert set(extra) <= known, name


@pytest.mark.parametrize(
    ("older", "newer"),
    [("1.0~rc1-1", "1.0-1"), ("1.0-1", "1.0-1+b1"), ("1.0-1", "1:0.1-1"), ("1.9-1", "1.10-1")],
)
def test_newer_stays_newer(older: str, newer: str) -> None:
    assert subprocess.run(["dpkg", "--compare-versions", older, "lt", newer], check=False).returncode == 0
    assert vercmp_key(pacman_version(older)) < vercmp_key(pacman_version(newer))


def vercmp_key(version: str) -> tuple[int, tuple[tuple[int, int | str], ...]]:
    """Enough of alpm's order for these: epoch, then numbers by value; a letter is older than the end."""
    epoch, _, rest = version.rpartition(":")
    parts = re.findall(r"\d+|[a-z]+", rest.partition("-")[0])
    release = re.findall(r"\d+", rest.partition("-")[2])
    found: list[tuple[int, int | str]] = [(2, int(p)) if p.isdigit() else (0, p) for p in parts]
    return int(epoch or 0), (*found, (1, 0), *((2, int(r)) for r in release))


def read(url: str, byte_range: str = "") -> tuple[int, bytes]:
    request = urllib.request.Request(url, headers={"Range": byte_range} if byte_range else {})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as e:
        return e.code, b""


def test_the_server_gives_whole_files_and_parts_of_them(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"0123456789")
    with serve(tmp_path) as base:
        assert base.startswith("http://127.0.0.1:")
        assert read(f"{base}/file") == (200, b"0123456789")
        assert read(f"{base}/file", "bytes=4-") == (206, b"456789")
        assert read(f"{base}/file", "bytes=4-5") == (206, b"45")
        assert read(f"{base}/file", "bytes=20-") == (416, b"")
        assert read(f"{base}/none") == (404, b"")


def test_the_server_gives_nothing_from_outside_its_directory(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("no")
    (tmp_path / "www").mkdir()
    with serve(tmp_path / "www") as base:
        assert read(f"{base}/../secret")[0] == 404
        assert read(f"{base}/%2e%2e/secret")[0] == 404
