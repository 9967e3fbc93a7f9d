"""Is an image built from Arch's archive? From a small one on loopback, whose address alone is another.

Laid out and signed as Arch's is (docs/upstream.md): a directory a day, packages signed by packagers whom
main keys have certified, databases without signatures, and the keys in archlinux-keyring.
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from builder.distro.arch import ARCHIVE
from builder.distro.packagesets import wanted_packages
from builder.files import remove_tree
from builder.profile import load_profile
from builder.run import run
from builder.sources import Source
from builder.standin.server import serve
from builder.tools import Tools, tree_key
from tests.support.gpgkeys import KeyMaker, TestKey
from tests.support.pacman_repo import TinyPackage, write_repository
from tests.support.tinyproject import FILESYSTEM, PROFILE, Outcome, TinyProject, make_project

DAY, OTHER_DAY = "2026-11-01", "2026-11-02"
STEM = "tiny_2026.11.01_x86-64"


@dataclass(frozen=True)
class Archive:
    """The archive below ``place``, served at ``url``, and a project that takes it for Arch's."""

    tiny: TinyProject
    place: Path
    url: str

    def run(self, *words: str) -> Outcome:
        return self.tiny.run(*words, env={"SOURCE": "upstream"})


def publish(make_key: KeyMaker, tools: Tools, place: Path, names: list[str], packager: TestKey) -> None:
    """One day of the archive: packages with detached signatures, databases without."""
    extra = [TinyPackage(name, depends=("filesystem",)) for name in names if name != "filesystem"]
    for repository, packages in (("core", [TinyPackage("filesystem", files=FILESYSTEM)]), ("extra", extra)):
        home = make_key.ring.home
        where = write_repository(tools, place, repository, packages, home=home, signed=False)
        for package in packages:
            make_key.gpg(
                ["--local-user", packager.fingerprint, "--detach-sign", str(where / package.filename)]
            )


def own_keyring(tools: Path, make_key: KeyMaker, main: list[TestKey], packagers: list[TestKey]) -> None:
    """Put these keys in the place of archlinux-keyring's."""
    place = tools / "usr/share/keyrings"
    keys = [key.fingerprint for key in (*main, *packagers)]
    contents = {
        "archlinux.gpg": make_key.gpg(["--export", *keys]),
        "archlinux-trusted": "".join(f"{key.fingerprint}:4:\n" for key in main).encode(),
        "archlinux-revoked": b"",
    }
    for name, content in contents.items():
        (place / name).unlink()  # the file is the real tree's, too
        (place / name).write_bytes(content)


@pytest.fixture(scope="module")
def archive(tools: Tools, make_key: KeyMaker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    assert tools.root is not None
    place = tmp_path_factory.mktemp("upstream")
    tiny = make_project(place / "checkout", place / "cache", tools)
    shutil.rmtree(tiny.project.cache / "standin")
    main = [make_key(f"main{n}") for n in range(3)]
    trusted, doubted = make_key("packager"), make_key("doubted")
    for number, key in enumerate(main):
        make_key.gpg(["--local-user", key.fingerprint, "--quick-sign-key", trusted.fingerprint])
        if number:  # pacman wants three
            make_key.gpg(["--local-user", key.fingerprint, "--quick-sign-key", doubted.fingerprint])
    own_tools = tiny.project.cache / "tools" / tree_key()
    own_tools.unlink()
    run(["cp", "-a", "--link", tools.root, own_tools])
    own_keyring(own_tools, make_key, main, [trusted, doubted])
    names = wanted_packages(load_profile(tiny.project, "tiny"), Source.UPSTREAM)
    for day, packager in ((DAY, trusted), (OTHER_DAY, doubted)):
        publish(make_key, tools, place / "archive/repos" / day.replace("-", "/"), names, packager)
    code = tiny.root / "builder/distro/arch.py"
    with serve(place / "archive") as url:
        text = code.read_text()
        assert text.count(ARCHIVE) == 1
        code.write_text(text.replace(ARCHIVE, url))
        yield Archive(tiny, place / "archive", url)
    remove_tree(place)


def test_an_image_of_upstream_is_built_from_its_lock_alone(archive: Archive) -> None:
    refused = archive.run("image", "tiny", "--locked")
    assert refused.code == 3, refused.err
    assert "profiles/tiny.upstream.lock does not exist" in refused.err

    locked = archive.run("lock", "tiny", "--date", DAY)
    assert locked.code == 0, locked.err
    lock = json.loads((archive.tiny.root / "profiles/tiny.upstream.lock").read_text())
    assert lock["mirrors"] == {n: f"{archive.url}/repos/2026/11/01/{n}/os/x86_64" for n in ("core", "extra")}
    kinds = {(f["kind"], f["path"].endswith(".sig")) for f in lock["files"]}
    assert kinds == {("database", False), ("package", False), ("signature", True)}
    signed = {f["name"] for f in lock["files"] if f["kind"] == "signature"}
    assert signed == {f["name"] for f in lock["files"] if f["kind"] == "package"}

    made = archive.run("image", "tiny", "--locked")
    assert made.code == 0, made.err
    manifest = json.loads((archive.tiny.dist() / "manifest.json").read_text())
    assert (manifest["source"], manifest["version"]) == ("upstream", "2026.11.01")
    assert (archive.tiny.dist() / f"{STEM}.tar.zst").exists()
    assert not (archive.tiny.project.cache / "standin").exists(), "no stand-in was needed"
    same = archive.run("verify", "tiny")
    assert same.code == 0, same.err


def test_a_lock_with_all_its_inputs_is_built_from_while_upstream_is_silent(
    archive: Archive, tmp_path: Path
) -> None:
    assert archive.run("lock", "tiny", "--date", DAY).code == 0
    assert archive.run("fetch", "tiny", "--locked").code == 0
    shutil.rmtree(archive.tiny.project.cache / "images", ignore_errors=True)
    shutil.rmtree(archive.tiny.project.cache / "state", ignore_errors=True)
    away = archive.place.rename(tmp_path / "away")
    try:
        made = archive.run("image", "tiny", "--locked")
        assert made.code == 0, made.err
        silent = archive.run("lock", "tiny", "--date", DAY)
        assert silent.code == 6, silent.err
        assert f"{archive.url}/repos/ does not answer" in silent.err
        assert "SOURCE=standin" in silent.err, "and it never falls back by itself"
    finally:
        away.rename(archive.place)


def test_a_packager_whom_too_few_main_keys_have_certified_is_refused(archive: Archive) -> None:
    archive.tiny.write_profile(PROFILE, "doubt")
    assert archive.run("lock", "doubt", "--date", OTHER_DAY).code == 0
    refused = archive.run("image", "doubt")
    assert refused.code == 4, refused.err
    assert 'signature from "doubted <doubted@example.org>" is marginal trust' in refused.err
    assert not archive.tiny.dist("doubt").exists()


def test_a_lock_without_a_date_is_of_yesterday(archive: Archive) -> None:
    before = datetime.now(UTC) - timedelta(days=1)
    refused = archive.run("lock", "tiny")
    days = {f"{day:/repos/%Y/%m/%d/core}" for day in (before, datetime.now(UTC) - timedelta(days=1))}
    assert refused.code == 6, refused.err
    assert any(day in refused.err for day in days), refused.err
