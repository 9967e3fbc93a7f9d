"""Is an initrd taken again only where its inputs and its bits are the same?"""

from pathlib import Path

import pytest

from builder.keptinitrd import initrd_key, keep_initrd, kept_initrd
from builder.profile import Profile
from builder.project import Project
from tests.support.locks import lock_of, locked

PROFILE = Profile.model_validate({"name": "work", "users": [{"name": "user"}], "bootable": True})
KEY = "0" * 64


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = Project(tmp_path / "root", tmp_path / "cache", tmp_path / "dist")
    for name in (
        "mkosi.conf",
        "mkosi.conf.d/a.conf",
        "mkosi.images/initrd/mkosi.conf",
        "mkosi.extra/etc/motd",
    ):
        (project.root / name).parent.mkdir(parents=True, exist_ok=True)
        (project.root / name).write_text("[Content]\n")
    return project


def test_what_was_kept_is_found_under_its_key_alone(project: Project, tmp_path: Path) -> None:
    (tmp_path / "made").write_bytes(b"initrd")
    keep_initrd(project, PROFILE, KEY, tmp_path / "made")
    found = kept_initrd(project, PROFILE, KEY)
    assert found is not None
    assert found.read_bytes() == b"initrd"
    assert kept_initrd(project, PROFILE, "1" * 64) is None
    assert kept_initrd(project, PROFILE.model_copy(update={"name": "other"}), KEY) is None


def test_a_damaged_initrd_is_not_taken(project: Project, tmp_path: Path) -> None:
    (tmp_path / "made").write_bytes(b"initrd")
    keep_initrd(project, PROFILE, KEY, tmp_path / "made")
    found = kept_initrd(project, PROFILE, KEY)
    assert found is not None
    found.write_bytes(b"inItrd")
    assert kept_initrd(project, PROFILE, KEY) is None
    assert not found.exists()


def test_one_initrd_is_kept_for_each_profile(project: Project, tmp_path: Path) -> None:
    for content in (b"first", b"second"):
        (tmp_path / "made").write_bytes(content)
        keep_initrd(project, PROFILE, KEY, tmp_path / "made")
    found = kept_initrd(project, PROFILE, KEY)
    assert found is not None
    assert [found] == list(found.parent.iterdir())
    assert found.read_bytes() == b"second"


@pytest.mark.parametrize("name", ["mkosi.conf", "mkosi.conf.d/a.conf", "mkosi.images/initrd/mkosi.conf"])
def test_settings_are_part_of_the_key(project: Project, name: str) -> None:
    lock = lock_of(locked("a-1", b"a"))
    before = initrd_key(project, PROFILE, lock, "1")
    (project.root / name).write_text("[Build]\n")
    assert initrd_key(project, PROFILE, lock, "1") != before


def test_packages_version_and_profile_are_part_of_the_key_and_files_of_the_image_are_not(
    project: Project,
) -> None:
    lock = lock_of(locked("a-1", b"a"))
    before = initrd_key(project, PROFILE, lock, "1")
    (project.root / "mkosi.extra/etc/motd").write_text("changed")
    assert initrd_key(project, PROFILE, lock, "1") == before
    others = {
        initrd_key(project, PROFILE, lock, "2"),
        initrd_key(project, PROFILE, lock_of(locked("a-1", b"b")), "1"),
        initrd_key(project, PROFILE.model_copy(update={"locale": "de_DE.UTF-8"}), lock, "1"),
    }
    assert len(others | {before}) == 4
