"""Does a renewal of locks show a reviewer what changes, and leave alone what does not?"""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from builder import renew
from builder.errors import InputError
from builder.lock import Lock, LockedFile, read_lock, write_lock
from builder.profile import Profile
from builder.project import Project
from builder.sources import Source
from tests.support.results import package, record, write_result

PROFILE = Profile.model_validate({"name": "work", "distribution": "arch", "users": [{"name": "user"}]})


def lock(snapshot: str, *versions: str) -> Lock:
    files = [
        LockedFile(
            kind="package",
            repository="extra",
            path=f"i3-wm-{version}.pkg.tar.zst",
            size=1,
            sha256=package("i3-wm", version).digest,
            name="i3-wm",
            version=version,
        )
        for version in versions
    ]
    return Lock(
        profile="work",
        distribution=PROFILE.distribution,
        source=Source.UPSTREAM,
        snapshot=snapshot,
        request="0" * 64,
        mirrors={"extra": "https://mirror.example.org/extra"},
        files=files,
    )


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A checkout whose lock names i3-wm 4.24-1, and a build that makes of a lock what it says."""
    made = Project(tmp_path / "root", tmp_path / "cache", tmp_path / "dist")
    path = made.profiles / "work.upstream.lock"
    made.profiles.mkdir(parents=True)
    write_lock(path, lock("2026-11-01", "4.24-1"))

    def deliver(*_: object, **__: object) -> Any:
        found = read_lock(path)
        packages = [package(f.name, f.version) for f in found.packages()]
        place = made.dist / "work"
        for old in place.glob("*"):
            old.unlink()
        write_result(place, record(version=found.snapshot.replace("-", "."), packages=packages))
        return SimpleNamespace(place=place)

    monkeypatch.setattr(renew, "deliver", deliver)
    monkeypatch.setattr(renew, "load_profile", lambda *_: PROFILE)
    monkeypatch.setattr(renew, "source_for", lambda *_: Source.UPSTREAM)
    monkeypatch.setattr(renew, "obtain_lock", lambda *_, **__: read_lock(path))
    return made


def next_lock(monkeypatch: pytest.MonkeyPatch, project: Project, following: Lock) -> None:
    def make_lock(*_: object, **__: object) -> Lock:
        write_lock(project.profiles / "work.upstream.lock", following)
        return following

    monkeypatch.setattr(renew, "make_lock", make_lock)


def test_a_newer_package_is_shown_and_the_new_lock_handed_over(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    next_lock(monkeypatch, project, lock("2026-11-08", "4.25-1"))
    text = renew.renew(project, ["work"], tmp_path / "out")
    assert "## work: 2026-11-01 → 2026-11-08" in text
    assert "~ i3-wm  4.24-1 → 4.25-1" in text
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "summary.md",
        "work.diff.html",
        "work.upstream.lock",
    ]
    assert read_lock(tmp_path / "out/work.upstream.lock").snapshot == "2026-11-08"


def test_the_same_packages_of_a_later_day_leave_the_lock_as_it_is(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    next_lock(monkeypatch, project, lock("2026-11-08", "4.24-1"))
    text = renew.renew(project, ["work"], tmp_path / "out")
    assert "The same packages as before" in text
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["summary.md"]
    assert read_lock(project.profiles / "work.upstream.lock").snapshot == "2026-11-01"


def test_a_directory_with_something_in_it_is_not_written_to(project: Project, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not empty"):
        renew.renew(project, ["work"], tmp_path)
