"""Is everything refused that must not be released?"""

import shutil
from pathlib import Path

import pytest

from builder.errors import TrustError
from builder.outputs.checksums import write_checksums
from builder.outputs.provenance import GitState
from builder.outputs.release import check_release, for_testing, mark_test_release
from builder.outputs.verify import verify_directory
from tests.support.results import CLEAN, record, write_result

DOCUMENTS = ("SHA256SUMS", "manifest.json", "provenance.json")


@pytest.fixture
def second(tmp_path: Path) -> Path:
    """The checksums of a builder who came to the same result."""
    write_result(tmp_path / "second")
    return tmp_path / "second" / "SHA256SUMS"


def test_a_release_is_decided_on_the_documents_without_the_images(tmp_path: Path, second: Path) -> None:
    write_result(tmp_path / "built")
    (tmp_path / "signing").mkdir()
    for name in DOCUMENTS:
        shutil.copy(tmp_path / "built" / name, tmp_path / "signing")
    assert check_release(tmp_path / "signing", second).profile == "work"


def test_a_standin_image_is_no_release(tmp_path: Path) -> None:
    for place in ("a", "b"):
        write_result(tmp_path / place, record(version="2026.11.01-standin", source="standin"))
    with pytest.raises(TrustError, match="built from standin, not from the distribution's own") as caught:
        check_release(tmp_path / "a", tmp_path / "b")
    assert "a stand-in's" in caught.value.message


def test_a_test_release_may_be_of_the_standin_and_is_marked_in_what_is_signed(tmp_path: Path) -> None:
    for place in ("a", "b"):
        write_result(tmp_path / place, record(version="2026.11.01-standin", source="standin"))
    check_release(tmp_path / "a", tmp_path / "b", test=True)
    mark_test_release(tmp_path / "a")
    report = verify_directory(tmp_path / "a", keys=[], require_signature=False)
    assert report.problems == []
    assert "TEST-RELEASE.txt" in report.digests
    check_release(tmp_path / "a", tmp_path / "b", test=True)


def test_a_marked_result_is_for_testing_whatever_it_is_made_of(tmp_path: Path, second: Path) -> None:
    write_result(tmp_path / "a")
    report = check_release(tmp_path / "a", second)
    assert for_testing(report) == ""
    mark_test_release(tmp_path / "a")
    with pytest.raises(TrustError, match="marked as a test release"):
        check_release(tmp_path / "a", second)
    assert for_testing(check_release(tmp_path / "a", second, test=True)) == "is a test release"


def test_a_test_release_is_let_off_nothing_else(tmp_path: Path) -> None:
    write_result(tmp_path, git=GitState(CLEAN.commit, True))
    with pytest.raises(TrustError, match="changes that are in no commit") as caught:
        check_release(tmp_path, None, test=True)
    assert "no second builder" in caught.value.message


def test_a_result_of_another_commit_is_no_release(tmp_path: Path, second: Path) -> None:
    write_result(tmp_path / "a")
    check_release(tmp_path / "a", second, commit=CLEAN.commit)
    with pytest.raises(TrustError, match=f"built from commit {CLEAN.commit}, not from {'e' * 40}"):
        check_release(tmp_path / "a", second, commit="e" * 40)


@pytest.mark.parametrize(
    ("git", "objection"),
    [
        (GitState(CLEAN.commit, True), "changes that are in no commit"),
        (GitState(None, True), "no git commit is known"),
        (GitState(None, False), "no git commit is known"),
    ],
)
def test_a_dirty_or_unknown_checkout_is_no_release(
    tmp_path: Path, second: Path, git: GitState, objection: str
) -> None:
    write_result(tmp_path / "a", git=git)
    with pytest.raises(TrustError, match=objection):
        check_release(tmp_path / "a", second)


def test_a_release_needs_a_second_builder(tmp_path: Path) -> None:
    write_result(tmp_path)
    with pytest.raises(TrustError, match="no second builder"):
        check_release(tmp_path, None)


def test_the_second_builder_must_be_another_one(tmp_path: Path) -> None:
    write_result(tmp_path)
    with pytest.raises(TrustError, match="not a second builder's"):
        check_release(tmp_path, tmp_path)


def test_a_second_builder_with_another_image_stops_the_release(tmp_path: Path) -> None:
    write_result(tmp_path / "a", image=b"one")
    write_result(tmp_path / "b", image=b"two")
    with pytest.raises(
        TrustError, match=r"second builder's work_2026.11.01_x86-64.tar.zst differs: ours [0-9a-f]{64}"
    ):
        check_release(tmp_path / "a", tmp_path / "b")


def test_a_second_builder_who_built_less_stops_the_release(tmp_path: Path, second: Path) -> None:
    write_result(tmp_path / "a")
    (second.parent / "work_2026.11.01_x86-64.host.tar.zst").unlink()
    write_checksums(second.parent)
    with pytest.raises(TrustError, match="theirs missing"):
        check_release(tmp_path / "a", second)


@pytest.mark.parametrize("name", ["manifest.json", "provenance.json"])
def test_documents_other_than_the_listed_ones_are_not_believed(
    tmp_path: Path, second: Path, name: str
) -> None:
    write_result(tmp_path / "a")
    text = (tmp_path / "a" / name).read_text()
    (tmp_path / "a" / name).write_text(text.replace("work", "w0rk"))
    with pytest.raises(TrustError, match=f"{name} is missing or not the one"):
        check_release(tmp_path / "a", second)
