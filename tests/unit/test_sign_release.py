"""Is everything refused that must not be released?"""

import shutil
from pathlib import Path

import pytest

from builder.errors import TrustError
from builder.outputs.checksums import write_checksums
from builder.outputs.provenance import GitState
from builder.outputs.release import check_release
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
