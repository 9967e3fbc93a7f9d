"""Does ``seatsmith --help`` stay quick? It loads nothing that only some command needs."""

import os
import subprocess
import sys
from importlib.abc import MetaPathFinder
from pathlib import Path

import pytest

from builder.__main__ import run_cli
from builder.errors import InputError, MachineError
from builder.project import cache_home, find_project
from tests.support.profiles import project_at, write

HEAVY = {"httpx", "jinja2", "numpy", "pydantic", "rich.progress", "yaml", "zstandard", "cryptography"}


def test_help_loads_no_library_that_only_a_command_needs() -> None:
    code = "import sys, builder.cli; print('\\n'.join(sys.modules))"
    loaded = set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.split())
    assert "builder.cli" in loaded
    assert not loaded & HEAVY


def test_every_command_module_without_an_underscore_adds_commands() -> None:
    import importlib
    import pkgutil

    import builder.cli

    names = [m.name for m in pkgutil.iter_modules(builder.cli.__path__) if "_" not in m.name]
    modules = [importlib.import_module(f"builder.cli.{name}") for name in names if name != "output"]
    assert all(hasattr(module, "register") for module in modules)


def seatsmith(words: str, place: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """A shell's command line of seatsmith, in ``place``."""
    python = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "PYTHON": sys.executable}
    argv = ["sh", "-c", f'"$PYTHON" -m builder {words}']
    return subprocess.run(argv, capture_output=True, cwd=place, env=python | environment)


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("seatsmith im", "image"),
        ("seatsmith image wo", "work"),
        ("seatsmith render ", "mail work"),
        ("seatsmith profile show m", "mail"),
        ("seatsmith verify work --source st", "standin"),
        ("seatsmith boot-test ", "pc"),
        ("seatsmith seat plan p", "pc"),
    ],
)
def test_the_shell_completes_commands_profiles_seats_and_sources(
    tmp_path: Path, words: str, offered: str
) -> None:
    project = project_at(tmp_path)
    write(project, work="keymap: us\n", mail="keymap: us\n", _part="keymap: us\n")
    project.seats.mkdir()
    (project.seats / "pc.yaml").touch()
    asked = {"_SEATSMITH_COMPLETE": "complete_bash", "COMP_WORDS": words}
    found = seatsmith("", tmp_path, COMP_CWORD=str(words.count(" ")), **asked)
    assert (found.returncode, found.stdout.decode().split()) == (0, offered.split()), found.stderr


def test_a_locale_without_utf_8_changes_nothing(tmp_path: Path) -> None:
    write(project_at(tmp_path), work="description: B\u00fcro \u2192 Haus\nusers: [{name: bob}]\n")
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    found = seatsmith("profile show work", tmp_path, **ascii_only)
    assert (found.returncode, found.stderr) == (0, b"")
    assert "B\u00fcro \u2192 Haus".encode() in found.stdout


def test_a_closed_or_full_stderr_does_not_change_the_exit_code(tmp_path: Path) -> None:
    project_at(tmp_path)
    for stream in ("2>&-", "2>/dev/full"):
        found = seatsmith(f"image nowhere {stream}", tmp_path)
        assert (found.returncode, found.stdout, found.stderr) == (3, b"", b""), stream


def test_a_name_that_is_no_text_is_shown_escaped(tmp_path: Path) -> None:
    (project_at(tmp_path).profiles / os.fsdecode(b"z\xff.yaml")).write_text("")
    found = seatsmith("profile list", tmp_path, PYTHONIOENCODING="utf-8:strict")
    assert found.returncode == 0
    assert b"z\\udcff" in found.stdout


def test_a_seat_file_that_is_a_directory_or_has_an_odd_name_is_called_that(tmp_path: Path) -> None:
    project = project_at(tmp_path)
    (project.seats / "dir.yaml").mkdir(parents=True)
    (project.seats / "PC.yaml").touch()
    said = seatsmith("check", tmp_path).stderr
    assert b"seats/dir.yaml:1:1: is not a file, and a seat file is one" in said
    assert b"seats/PC.yaml:1:1: its name 'PC' is not a seat name; accepted: lower-case letters" in said


def test_a_relative_cache_directory_is_ignored_and_a_missing_home_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", "/home/bob")
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    assert cache_home() == Path("/home/bob/.cache/seatsmith")

    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nobody)
    with pytest.raises(MachineError, match="HOME is not set"):
        cache_home()


def test_a_removed_working_directory_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEATSMITH_ROOT", raising=False)
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(InputError, match="working directory has been removed"):
        find_project()


def test_an_interruption_while_modules_load_is_told_like_any_other(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Interrupted(MetaPathFinder):
        def find_spec(self, name: str, path: object, target: object = None) -> None:
            if name == "builder.quick":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "builder.quick", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Interrupted(), *sys.meta_path])
    assert run_cli(["check"]) == 130
    assert capsys.readouterr().err.startswith("error: interrupted")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["image", "work", "--image-version", "A B"], "'A B' is no version"),
        (["lock", "work", "--date", "yesterday"], "'yesterday' is not a date"),
        (["lock", "work", "--date", "2026-02-30"], "'2026-02-30' is not a date"),
    ],
)
def test_a_version_or_date_is_looked_at_before_anything_else_is_done(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    said: str,
) -> None:
    write(project_at(tmp_path), work="users: [{name: bob}]\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOURCE", "upstream")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert run_cli(words) == 3
    error = capsys.readouterr().err
    assert said in error
    assert "resolving" not in error
