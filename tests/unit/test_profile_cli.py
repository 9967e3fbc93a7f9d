"""seatsmith profile, check and schema, as a person runs them."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.__main__ import run_cli
from builder.profile import load_profile, profile_names, resolve_profile
from builder.profile.load import check_part
from builder.profile.show import show_text
from builder.project import Project, find_project
from tests.support.profiles import project_at, write

REPOSITORY = find_project(Path(__file__))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.delenv("SEATSMITH_ROOT", raising=False)
    monkeypatch.chdir(tmp_path)
    return project_at(tmp_path)


@pytest.mark.parametrize("name", ["work", "private", "guest", "gentoo-work"])
def test_a_shipped_profile_shows_as_it_did(
    name: str, golden: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(REPOSITORY.root)
    golden(f"profile/{name}.yaml", show_text(resolve_profile(REPOSITORY, name)) + "\n")


@pytest.mark.parametrize("name", ["work", "private", "guest", "gentoo-work"])
def test_what_show_prints_is_itself_a_profile_that_comes_to_the_same(name: str, project: Project) -> None:
    resolved = resolve_profile(REPOSITORY, name)
    write(project, **{name: show_text(resolved)})
    assert load_profile(project, name) == resolved.profile


def test_show_quotes_what_would_be_read_as_something_else(project: Project) -> None:
    text = "keymap: 'no'\nhostname: '123a'\ndescription: 'a: b #c'\nextends: _a\npackages: {add: [git]}\n"
    write(project, work=text, _a="packages: {add: [vim]}\n")
    before = load_profile(project, "work")
    write(project, work=show_text(resolve_profile(project, "work")))
    assert load_profile(project, "work") == before


def test_show_as_json_has_the_origin_of_each_value(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    write(project, work="extends: _a\n", _a="users:\n- name: al\n")
    assert run_cli(["profile", "show", "work", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["profile"]["users"][0]["name"] == "al"
    assert shown["origins"]["users[0].name"] == "profiles/_a.yaml:2"
    assert shown["origins"]["users[0].uid"] == "default: the next free one"
    assert shown["origins"]["hostname"] == "default: the profile's name"
    assert shown["files"] == ["profiles/_a.yaml", "profiles/work.yaml"]


def test_list_shows_broken_profiles_too(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    write(project, work="description: Work\n", bad="keymap: [\n", _part="keymap: us\n")
    assert run_cli(["profile", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["bad   cannot be used; see: seatsmith check", "work  arch    container  VT8   Work"]


def test_check_tells_every_problem_of_every_file_and_ends_with_3(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    write(project, work="keymap: '%'\n", mail="locale: x\nwrong: 1\n", _part="display: {vt: 0}\n")
    (project.profiles / "other.yml").touch()
    assert run_cli(["check"]) == 3
    said = capsys.readouterr()
    told = [line.split(": ")[0] for line in said.err.splitlines()[1:]]
    assert told == [
        "profiles/_part.yaml:1:15",
        "profiles/mail.yaml:1:9",
        "profiles/mail.yaml:2:1",
        "profiles/other.yml:1:1",
        "profiles/work.yaml:1:9",
    ]
    assert said.out == ""


def test_check_tells_a_problem_of_a_shared_part_once(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    write(project, a="extends: _p\n", b="extends: _p\n", _p="locale: x\n")
    assert run_cli(["check", "--json"]) == 3
    assert len(json.loads(capsys.readouterr().out)["problems"]) == 1


def test_check_looks_at_seats(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    write(project, work="keymap: us\n")
    project.seats.mkdir()
    (project.seats / "pc.yaml").write_text("nonsense: 1\n")
    assert run_cli(["check"]) == 3
    assert "profiles/seats/pc.yaml:1:1: unknown key 'nonsense'" in capsys.readouterr().err


def test_a_part_is_not_blamed_for_what_its_user_completes(project: Project) -> None:
    write(project, _a="display: {vt: 7, autologin: al}\npackages: {add: [app-misc/x]}\n")
    assert check_part(project, "_a") == []


def test_new_writes_a_profile_that_can_be_used(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    write(project, _a="users: [{name: al}]\n", work="display: {vt: 8}\n")
    assert run_cli(["profile", "new", "mail", "--extends", "_a", "--distribution", "gentoo"]) == 0
    profile = load_profile(project, "mail")
    assert (profile.display.vt, profile.distribution, profile.users[0].name) == (9, "gentoo", "al")
    assert sorted(p.name for p in project.profiles.iterdir()) == ["_a.yaml", "mail.yaml", "work.yaml"]
    assert (project.profiles / "mail.yaml").stat().st_mode & 0o777 == 0o644


def test_every_commented_line_of_a_new_profile_is_right_when_uncommented(project: Project) -> None:
    assert run_cli(["profile", "new", "mail"]) == 0
    path = project.profiles / "mail.yaml"
    lines = path.read_text().splitlines()
    head, rest = lines[:3], lines[3:]
    opened = "\n".join([*head, *(line.replace("# ", "", 1) for line in rest)])
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g"
    path.write_text(opened.replace("ssh-ed25519 AAAA…", key))
    write(project, _desktop="keymap: us\n")
    assert load_profile(project, "mail").display.autologin == "user"


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["work"], 3, "exists and is left as it is"),
        (["../x"], 3, "the name '../x' is not a profile name"),
        (["_x"], 3, "is not a profile name"),
        (["x", "--vt", "7"], 3, "VT 7 is the host's"),
        (["x", "--extends", "_bsae"], 3, "did you mean '_base'?"),
        (["x", "--extends", "a\nkeymap: x"], 3, "contains a line break"),
        (["x", "--distribution", "debian"], 2, "accepted: arch, gentoo"),
    ],
)
def test_new_refuses_what_it_cannot_write(
    project: Project, capsys: pytest.CaptureFixture[str], words: list[str], code: int, message: str
) -> None:
    write(project, work="keymap: de\n", _base="keymap: us\n")
    assert run_cli(["profile", "new", *words]) == code
    assert message in capsys.readouterr().err
    assert sorted(p.name for p in project.profiles.iterdir()) == ["_base.yaml", "work.yaml"]
    assert (project.profiles / "work.yaml").read_text() == "keymap: de\n"


@pytest.mark.parametrize("name", ["no", "y", "on"])
def test_new_survives_names_that_yaml_has_another_use_for(project: Project, name: str) -> None:
    assert run_cli(["profile", "new", name]) == 0
    assert load_profile(project, name).description == name.capitalize()


def test_schema_prints_json(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["schema"]) == 0
    assert json.loads(capsys.readouterr().out)["properties"]["extends"]


def test_all_shipped_profiles_are_in_order() -> None:
    assert {"work", "private", "guest", "gentoo-work"} <= set(profile_names(REPOSITORY))
    for name in profile_names(REPOSITORY):
        load_profile(REPOSITORY, name)


def test_loading_a_profile_is_quick() -> None:
    load_profile(REPOSITORY, "work")
    times = []
    for _ in range(5):
        started = time.perf_counter()
        load_profile(REPOSITORY, "work")
        times.append(time.perf_counter() - started)
    assert min(times) < 0.06


def test_loading_a_profile_imports_nothing_heavy() -> None:
    code = (
        "import sys; from pathlib import Path; from builder.profile import load_profile\n"
        "from builder.project import find_project; load_profile(find_project(), 'work')\n"
        "heavy = 'jsonschema', 'rich', 'typer', 'jinja2', 'httpx', 'cryptography'\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY.root,
        env=dict(os.environ),
        capture_output=True,
        check=True,
    )
    assert done.stdout == b"[]\n"
