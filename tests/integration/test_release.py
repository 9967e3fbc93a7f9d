"""Is a release of several images made of all or none, by a known key, from a clean commit?"""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from builder.errors import InputError, TrustError
from builder.outputs.checksums import SIGNATURE
from builder.outputs.provenance import GitState, git_state
from builder.outputs.verify import verify_directory
from builder.project import Project
from builder.publish.release import Demands, release
from builder.tools import Tools
from tests.support.gpgkeys import KeyMaker, TestKey
from tests.support.results import record, write_result

pytestmark = pytest.mark.tools

IDENTITY = ("-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false")
NAMES = ("work", "private")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A committed checkout, whose two images a second builder has as well, in ``second/``."""
    root = tmp_path / "checkout"
    root.mkdir()
    (root / ".gitignore").write_text("dist\n")
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run(["git", "-C", root, *IDENTITY, *words], check=True)
    commit = git_state(root).commit
    for name in NAMES:
        for place in (root / "dist", tmp_path / "second"):
            write_result(place / name, record(name), git=GitState(commit, False))
    return Project(root, tmp_path / "cache", root / "dist")


@pytest.fixture
def demands(tmp_path: Path, release_key: TestKey) -> Demands:
    return Demands([release_key.public.read_bytes()], tmp_path / "second")


@pytest.fixture
def release_key(make_key: KeyMaker) -> TestKey:
    return make_key("releasing")


def unsigned(project: Project) -> bool:
    return not any((project.dist / name / SIGNATURE).exists() for name in NAMES)


def test_all_images_of_a_release_are_signed(
    project: Project, demands: Demands, release_key: TestKey, tools: Tools
) -> None:
    made = release(project, NAMES, str(release_key.secret), demands, tools=tools)
    assert {name: found.fingerprint for name, found in made.items()} == dict.fromkeys(
        NAMES, release_key.fingerprint
    )
    for name in NAMES:
        report = verify_directory(project.dist / name, keys=demands.trusted, profile=name, tools=tools)
        assert report.problems == []


def test_one_image_that_must_not_be_released_stops_the_others(
    project: Project, demands: Demands, release_key: TestKey, tmp_path: Path
) -> None:
    write_result(tmp_path / "second/private", record("private"), image=b"another")
    with pytest.raises(TrustError, match=r"second builder's private_\S+ differs"):
        release(project, NAMES, str(release_key.secret), demands)
    assert unsigned(project)


def test_a_damaged_image_is_not_released(project: Project, demands: Demands, release_key: TestKey) -> None:
    (project.dist / "work/work_2026.11.01_x86-64.tar.zst").write_bytes(b"cut")
    with pytest.raises(TrustError, match="has been changed or cut short"):
        release(project, NAMES, str(release_key.secret), demands)
    assert unsigned(project)


def test_a_checkout_that_changed_after_the_build_releases_nothing(
    project: Project, demands: Demands, release_key: TestKey
) -> None:
    (project.root / "new").write_text("x")
    with pytest.raises(TrustError, match="has changes that are in no commit"):
        release(project, NAMES, str(release_key.secret), demands)
    (project.root / ".gitignore").write_text("dist\nnew\n")
    subprocess.run(["git", "-C", project.root, *IDENTITY, "commit", "-q", "-a", "-m", "second"], check=True)
    with pytest.raises(TrustError, match="it was built from commit"):
        release(project, NAMES, str(release_key.secret), demands)
    assert unsigned(project)


def test_a_key_that_nobody_was_told_of_makes_no_release(
    project: Project, demands: Demands, make_key: KeyMaker
) -> None:
    unknown = make_key("not-announced")
    with pytest.raises(TrustError, match="not among the release keys"):
        release(project, NAMES, str(unknown.secret), demands)
    assert unsigned(project)
    made = release(project, NAMES, str(unknown.secret), replace(demands, test=True))
    assert made["work"].good
    assert (project.dist / "work/TEST-RELEASE.txt").exists()


def test_an_image_that_was_not_built_is_not_released(
    project: Project, demands: Demands, release_key: TestKey
) -> None:
    with pytest.raises(InputError, match="other has not been built"):
        release(project, ["work", "other"], str(release_key.secret), demands)
