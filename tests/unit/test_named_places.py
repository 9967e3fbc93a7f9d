"""Is a place that a person names left alone where it holds something else than an earlier result?"""

import os
from pathlib import Path
from unittest.mock import Mock

import pytest

from builder.__main__ import run_cli, wrong_path
from builder.errors import InputError, UsageError
from builder.files import atomic_path, refuse_foreign, write_atomic
from builder.profile import load_profile
from builder.provision.seatdisk import open_seat
from builder.publish.pull import pull
from builder.render.preview import keep_rendered
from builder.sources import choose_source
from builder.volume.medium import Medium
from tests.support.profiles import project_at, write


def test_a_directory_of_other_files_is_not_replaced_by_a_rendering(tmp_path: Path) -> None:
    project = project_at(tmp_path)
    write(project, work="distribution: arch\nusers: [{name: bob}]\n")
    profile = load_profile(project, "work")
    home = tmp_path / "home"
    home.mkdir()
    (home / "letter").write_text("kept")
    with pytest.raises(InputError, match="home has files in it and is not an earlier rendering"):
        keep_rendered(profile, home)
    assert (home / "letter").read_text() == "kept"
    (home / "letter").unlink()
    keep_rendered(profile, home)
    keep_rendered(profile, home)  # over its own
    assert (home / "image").is_dir()


def test_a_directory_of_other_files_is_not_replaced_by_a_pulled_image(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home/letter").write_text("kept")
    with pytest.raises(InputError, match="not an earlier result"):
        pull("file:///nowhere", "work", tmp_path / "home", keys=[], state=tmp_path / "state")
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_what_an_earlier_result_is_tells_what_lies_in_it(tmp_path: Path) -> None:
    (tmp_path / "SHA256SUMS").touch()
    refuse_foreign(tmp_path, ("SHA256SUMS",), "an earlier result")
    refuse_foreign(tmp_path / "new", ("SHA256SUMS",), "an earlier result")
    with pytest.raises(InputError, match="not an earlier result"):
        refuse_foreign(tmp_path, ("manifest.json",), "an earlier result")


@pytest.mark.parametrize("place", ["", ".", "/", ".."])
def test_a_place_that_is_no_name_of_its_own_is_refused(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(InputError, match="cannot be replaced"), atomic_path(Path(place)) as made:
        made.mkdir()
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


def test_a_directory_is_never_replaced_by_a_file(tmp_path: Path) -> None:
    (tmp_path / "place").mkdir()
    with pytest.raises(InputError, match="place is a directory; the result is a file"):
        write_atomic(tmp_path / "place", "drawing")
    assert [path.name for path in tmp_path.iterdir()] == ["place"]


def test_a_path_below_a_file_is_a_wrong_path_and_no_defect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(project_at(tmp_path), work="distribution: arch\nusers: [{name: bob}]\n")
    (tmp_path / "letter").write_text("kept")
    monkeypatch.chdir(tmp_path)
    for words in (["--out", "letter/x"], ["--out=letter/x"]):
        assert run_cli(["render", "work", *words]) == 3
        assert "error: letter: File exists" in capsys.readouterr().err
    assert (tmp_path / "letter").read_text() == "kept"


def test_a_missing_file_that_nobody_named_stays_a_defect() -> None:
    error = FileNotFoundError(2, "No such file or directory", "/usr/share/seatsmith/part")
    assert wrong_path(error, ["seat", "plan", "demo"]) is None
    assert wrong_path(error, ["seat", "plan", "/usr/share/seatsmith/part"]) is not None
    assert wrong_path(FileNotFoundError(2, "No such file or directory", "."), ["x"]) is None
    assert wrong_path(FileNotFoundError(2, "No such file or directory"), ["x"]) is None


def test_a_path_in_circles_too_long_or_where_nothing_can_be_made_is_a_wrong_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(project_at(tmp_path), work="distribution: arch\nusers: [{name: bob}]\n")
    (tmp_path / "loop").symlink_to("loop")
    monkeypatch.chdir(tmp_path)
    for place, said in (
        ("loop/x/y", "Too many levels of symbolic links"),
        ("x" * 300, "File name too long"),
        ("/proc/x", "cannot make /proc/x: No such file or directory"),
    ):
        assert run_cli(["render", "work", "--out", place]) == 3
        assert said in capsys.readouterr().err


@pytest.mark.parametrize("variable", ["SEATSMITH_DIST", "XDG_CACHE_HOME", "XDG_STATE_HOME"])
def test_a_place_that_the_environment_names_and_that_is_a_file_is_a_wrong_path(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = NotADirectoryError(20, "Not a directory", "/letter/work")
    assert wrong_path(error, ["render", "work"]) is None
    monkeypatch.setenv(variable, "/letter")
    assert wrong_path(error, ["render", "work"]) is not None


def test_a_disk_without_a_seat_is_named(tmp_path: Path) -> None:
    letter = tmp_path / "letter"
    letter.write_bytes(bytes(4096))
    with letter.open("rb") as f, pytest.raises(InputError, match="letter holds no seat: there is no GUID"):
        open_seat(Medium(f.fileno(), letter), 4096)


def test_what_is_no_disk_is_refused_before_the_tools_tree_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project_at(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    monkeypatch.setattr("sys.stdin.isatty", lambda: False)
    refused = {
        ("/nonexistent",): "there is no",
        (".",): "neither a file nor a block device",
        ("mkosi.conf", "--files"): "the files are encrypted",
    }
    for words, said in refused.items():
        assert run_cli(["seat", "inspect", *words]) == 3
        assert said in capsys.readouterr().err
    assert not (tmp_path / "cache").exists()


def test_a_date_is_refused_where_it_would_be_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SEATSMITH_ROOT", raising=False)
    monkeypatch.chdir(tmp_path)
    write(project_at(tmp_path), work="users: [{name: bob}]\n")
    assert run_cli(["lock", "work", "--source", "standin", "--date", "2020-01-01"]) == 2
    assert "--date is of upstream" in capsys.readouterr().err


def test_a_source_that_there_is_not_is_a_wrong_command_line() -> None:
    with pytest.raises(UsageError, match="unknown source 'debian'"):
        choose_source("debian", "https://mirror.invalid")


def test_a_folder_of_profiles_that_is_closed_is_not_taken_for_an_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project_at(tmp_path)
    monkeypatch.chdir(tmp_path)
    closed = PermissionError(13, "Permission denied", str(tmp_path / "profiles"))
    monkeypatch.setattr(Path, "iterdir", Mock(side_effect=closed))
    assert run_cli(["profile", "show", "work"]) == 6
    assert "profiles: Permission denied" in capsys.readouterr().err


def test_a_disk_that_is_closed_is_a_matter_of_this_machine_and_not_of_usage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project_at(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "disk").write_bytes(bytes(4096))
    monkeypatch.setattr(os, "access", lambda *_: False)  # what typer would ask
    monkeypatch.setattr(os, "open", Mock(side_effect=PermissionError(13, "Permission denied", "disk")))
    assert run_cli(["seat", "inspect", "disk"]) == 6
    assert "error: cannot read disk: Permission denied\nhint: run it as root" in capsys.readouterr().err


def test_a_schema_is_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project_at(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert run_cli(["schema", "--write"]) == 3
    assert "there is no" in capsys.readouterr().err
    assert not (tmp_path / "profiles/schema.json").exists()
