"""Do the documents speak of what there is?"""

import re
from pathlib import Path

import pytest
from typer.main import get_command

from builder.cli import app
from builder.distro.packagesets import initrd_packages, package_sets
from builder.errors import ExitCode
from builder.profile import Profile
from builder.project import Project
from builder.render.limits import DROPPED, LEFT, REFUSED

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("ci/**/*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if not re.match(r"[a-z]+:", target):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_goal_and_command_that_a_page_names_exists(page: Path) -> None:
    goals = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    commands = set(get_command(app).commands)  # type: ignore[attr-defined]
    text = page.read_text()
    assert set(re.findall(r"(?:^    |`)make ([a-z-]+)", text, re.M)) <= goals
    named = set(re.findall(r"(?:^    |`|bin/)seatsmith (?:--debug )?([a-z][a-z-]+)", text, re.M))
    planned = {"rebuild"} if "Not done yet" in text else set()
    assert named - planned <= commands


def test_every_test_in_the_list_of_attacks_exists() -> None:
    page = (ROOT / "docs/publishing.md").read_text()
    rows = page.partition("## Attacks")[2].partition("\n## ")[0].splitlines()
    named = [row.split(" | ")[2].rstrip(" |") for row in rows if row.startswith("| ") and ": " in row]
    assert len(named) >= 20
    for group in (group for row in named for group in row.split("; ")):
        file, _, tests = group.partition(": ")
        (path,) = ROOT.glob(f"tests/*/{file}.py")
        text = path.read_text()
        for test in tests.split(", "):
            assert f"def test_{test}(" in text, f"{file}: {test}"


def test_the_page_of_exit_codes_lists_exactly_those_that_there_are() -> None:
    rows = re.findall(r"^\| (\d+) \| ([A-Z]+) \|", (ROOT / "docs/exit-codes.md").read_text(), re.M)
    assert [(int(code), name) for code, name in rows] == [(c.value, c.name) for c in ExitCode]


def test_a_decision_is_short_and_its_number_its_own() -> None:
    decisions = sorted((ROOT / "docs/decisions").glob("*.md"))
    numbers = [path.name[:3] for path in decisions]
    assert len(set(numbers)) == len(numbers)
    for path in decisions:
        lines = [line for line in path.read_text().splitlines() if line.strip()]
        assert lines[0].startswith(f"# {path.name[:3]}: "), path.name
        assert len(lines) <= 20, path.name


def test_every_name_that_is_asked_of_arch_is_in_the_table_of_where_it_was_seen() -> None:
    text = (ROOT / "docs/upstream.md").read_text()
    table = re.findall(r"^\| `([a-z0-9@._+-]+)`[^|]*\| (core|extra) \| [A-Z].* \|$", text, re.M)
    shown = [name for name, _ in table]
    profile = Profile.model_validate({"name": "x", "distribution": "arch", "users": [{"name": "user"}]})
    asked = {name for names in package_sets("arch").values() for name in names}
    asked |= {"filesystem", *initrd_packages(profile, Project(ROOT, ROOT, ROOT))}
    assert shown == sorted(asked)


@pytest.mark.parametrize("isolation", ["strict", "shared"])
def test_every_line_that_nspawn_is_given_has_its_reason_on_the_page_of_settings(isolation: str) -> None:
    page = (ROOT / "docs/settings.md").read_text()
    rendered = (ROOT / f"tests/golden/render/work-{isolation}.txt").read_text()
    files = {part.split(" ")[0]: part for part in rendered.split("\n=== ")}
    lines = files["etc/systemd/nspawn/work.nspawn"].splitlines()
    lines += files["etc/systemd/system/systemd-nspawn@work.service.d/50-seatsmith.conf"].splitlines()
    keys = {key for line in lines if (key := line.partition("=")[0]).isalnum()}
    assert {"Boot", "DeviceAllow", "ExecStopPost"} <= keys
    assert sorted(key for key in keys if not re.search(rf"^\| .*`{key}=[^|]*\| ", page, re.M)) == []
    binds = [line.partition("=")[2].split(":") for line in lines if line.startswith("Bind")]
    targets = {words[min(1, len(words) - 1)].replace("tty8", "ttyN") for words in binds}
    assert "/dev/ttyN" in targets
    assert sorted(target for target in targets if target not in page) == []


def test_the_page_of_settings_says_what_became_of_each_setting_of_2021() -> None:
    page = (ROOT / "docs/settings.md").read_text().partition("## What became of the set-up of 2021")[2]
    first = "\n".join(line.split(" | ")[0] for line in page.splitlines() if line.startswith("| "))
    for setting in (
        "SYSTEMD_NSPAWN_USE_CGNS=0",
        "Bind=/sys/fs/cgroup",
        "Capability=all",
        "SystemCallFilter=",
        "/dev/fb0",
        "DevicePolicy=auto",
        "minimum-vt=8",
    ):
        assert setting in first, setting


def test_the_page_of_isolation_names_the_privileges_that_are_rendered() -> None:
    page = (ROOT / "docs/isolation.md").read_text()
    table = page.partition("## Privileges inside")[2].partition("\n## ")[0]
    rows = [row.split("|")[1:3] for row in table.splitlines() if row.startswith("| `")]
    said: dict[bool, set[str]] = {True: set(), False: set()}
    for names, what in rows:
        said[what.strip().startswith("dropped")] |= set(re.findall(r"`(\w+)`", names))
    assert said[True] == set(DROPPED)
    assert said[False] == LEFT - set(DROPPED)
    (calls,) = re.findall(r"nspawn's own list, less `([^`]+)`", table)
    found = {word for word in calls.split() if not word.endswith("*")}
    families = tuple(word.removesuffix("*") for word in calls.split() if word.endswith("*"))
    assert found == {call for call in REFUSED if not call.startswith(families)}
    assert any(call.startswith(families) for call in REFUSED)
