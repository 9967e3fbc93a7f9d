"""Does an image lose every trace of when and where it was built, and nothing else?"""

import os
from pathlib import Path

import pytest

from builder import normalise

EPOCH = 1793491200  # 2026-11-01
LATER = EPOCH + 500_000


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BUILDROOT", str(tmp_path))
    monkeypatch.setenv("SOURCE_DATE_EPOCH", str(EPOCH))
    monkeypatch.delenv("VARIANT_ID", raising=False)
    return tmp_path


def put(path: Path, text: str = "", mode: int = 0o644) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, errors="surrogateescape")
    path.chmod(mode)
    return path


def test_times_after_the_epoch_are_set_back_and_earlier_ones_kept(root: Path) -> None:
    new, old = put(root / "usr/new"), put(root / "usr/old")
    link = root / "usr/link"
    link.symlink_to("/nowhere")
    for path in (new, link, root / "usr"):
        os.utime(path, (LATER, LATER), follow_symlinks=False)
    os.utime(old, (1000, 1000))
    normalise.main()
    assert {int(p.lstat().st_mtime) for p in (new, link, root / "usr", root)} == {EPOCH}
    assert old.stat().st_mtime == 1000


def test_caches_logs_and_keyrings_of_the_build_are_removed(root: Path) -> None:
    gone = [
        put(root / "var/log/pacman.log"),
        put(root / "var/cache/ldconfig/aux-cache"),
        put(root / "etc/pacman.d/gnupg/pubring.gpg"),
        put(root / "etc/passwd-"),
        put(root / "etc/.pwd.lock"),
        put(root / "etc/.updated"),
        put(root / "var/.updated"),
        put(root / "usr/lib/python3/__pycache__/x.pyc"),
        put(root / "root/.gnupg/trustdb.gpg"),
    ]
    kept = [put(root / "var/log/wtmp"), put(root / "etc/passwd"), put(root / "etc/pacman.d/mirrorlist")]
    normalise.main()
    assert not [p for p in gone if p.exists()]
    assert all(p.exists() for p in kept)


def test_a_link_in_place_of_a_cache_is_removed_and_not_followed(root: Path, tmp_path: Path) -> None:
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    kept = put(outside / "kept")
    (root / "root").mkdir()
    (root / "root/.cache").symlink_to(outside)
    (root / "usr").mkdir()
    (root / "usr/__pycache__").symlink_to(outside)
    normalise.main()
    assert kept.exists()
    assert not (root / "root/.cache").is_symlink()


def test_the_days_in_shadow_are_the_epochs_and_all_else_stays(root: Path) -> None:
    text = "root:!*:20400:0:99999:7:::\nuser:!:1::::::\nodd:*::::::\nshort\n"
    shadow = put(root / "etc/shadow", text, 0o600)
    normalise.main()
    day = EPOCH // 86400
    assert shadow.read_text() == f"root:!*:{day}:0:99999:7:::\nuser:!:{day}::::::\nodd:*::::::\nshort\n"
    assert shadow.stat().st_mode & 0o777 == 0o600


def test_install_dates_of_pacman_are_the_epochs(root: Path) -> None:
    text = "%NAME%\nbash\n\n%INSTALLDATE%\n1799999999\n\n%SIZE%\n1799999999\n\n%PACKAGER%\nJ\udce4ger\n"
    desc = put(root / "var/lib/pacman/local/bash-5-1/desc", text)
    normalise.main()
    expected = text.replace("%INSTALLDATE%\n1799999999", f"%INSTALLDATE%\n{EPOCH}")
    assert desc.read_text(errors="surrogateescape") == expected


def test_times_in_portages_database_are_the_epochs(root: Path) -> None:
    package = root / "var/db/pkg/app-shells/bash-5.2"
    contents = put(
        package / "CONTENTS",
        f"dir /bin\nobj /bin/b ash 0123 {LATER}\nobj /bin/old 4567 1000\nsym /bin/sh -> bash {LATER}\n",
    )
    put(package / "metadata")
    normalise.main()
    assert contents.read_text() == (
        f"dir /bin\nobj /bin/b ash 0123 {EPOCH}\nobj /bin/old 4567 1000\nsym /bin/sh -> bash {EPOCH}\n"
    )
    assert not (package / "metadata").exists()


def test_a_stand_in_says_so_in_os_release_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = put(root / "usr/lib/os-release", "ID=arch\nVARIANT_ID=other")
    normalise.main()
    assert release.read_text() == "ID=arch\nVARIANT_ID=other", "upstream's is left alone"
    monkeypatch.setenv("VARIANT_ID", "standin")
    normalise.main()
    normalise.main()
    assert release.read_text() == "ID=arch\nVARIANT_ID=standin\n"


def test_an_empty_tree_is_no_problem(root: Path) -> None:
    normalise.main()
    assert list(root.iterdir()) == []
