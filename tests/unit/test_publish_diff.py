"""Does the difference between two images say what a reviewer must not miss, in all its forms?"""

import json
import re
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from builder.cli import app
from builder.publish.diff import Change, ImageDiff, diff_images
from builder.publish.diffview import as_html, as_json, as_text
from tests.support.results import entry, pack, package, record, write_result

LINK, DIRECTORY = tarfile.SYMTYPE, tarfile.DIRTYPE
SERVICE = "usr/lib/systemd/system/sshd.service"
WANTS = "etc/systemd/system/multi-user.target.wants"


def owned(info: tarfile.TarInfo, uid: int = 0, *, capabilities: bool = False) -> tarfile.TarInfo:
    info.uid = uid
    if capabilities:
        info.pax_headers = {"SCHILY.xattr.security.capability": "\x01"}
    return info


OLD = [
    entry("./etc", DIRECTORY, mode=0o755),
    entry("./etc/shadow", mode=0o600),
    entry("./usr/bin/gone"),
    entry("./usr/bin/su", mode=0o4755),
    entry("./usr/bin/ping"),
    entry("./usr/bin/sh", LINK, target="bash"),
    entry(f"./{SERVICE}"),
    entry(f"./{WANTS}/cron.service", LINK, target="/usr/lib/systemd/system/cron.service"),
    owned(entry("./home/user", DIRECTORY, mode=0o700), 1000),
    entry("./usr/bin/same", mode=0o755),
]
NEW = [
    entry("./etc", DIRECTORY, mode=0o777),
    entry("./etc/shadow", mode=0o644),
    entry("./usr/bin/su", mode=0o755),
    owned(entry("./usr/bin/ping"), capabilities=True),
    entry("./usr/bin/sh", LINK, target="dash"),
    entry("./usr/bin/<b>new</b>", mode=0o6755),
    entry(f"./{SERVICE}"),
    entry(f"./{WANTS}/sshd.service", LINK, target=f"/{SERVICE}"),
    entry("./etc/systemd/system/cron.service", LINK, target="/dev/null"),
    owned(entry("./home/user", DIRECTORY, mode=0o700), 1001),
    entry("./usr/bin/same", mode=0o755),
]


def content(version: str) -> Callable[[str], bytes]:
    """The service's differs from one version to the next, at the same size."""
    return lambda name: f"{name} {version if name.endswith('sshd.service') else '-'}".encode()


@pytest.fixture
def sides(tmp_path: Path) -> tuple[Path, Path]:
    old, new = tmp_path / "old", tmp_path / "new"
    before = [package("bash", "5.2-1"), package("gone", "1-1"), package("same", "2-1")]
    after = [package("bash", "5.3-1"), package("fresh", "3-1"), package("same", "2-1")]
    write_result(old, record(version="1", packages=before), image=pack(*OLD, content=content("1")))
    write_result(new, record(version="2", packages=after), image=pack(*NEW, content=content("2")))
    return old, new


@pytest.fixture
def diff(sides: tuple[Path, Path]) -> ImageDiff:
    return diff_images(*sides)


def kinds(changes: list[Change]) -> dict[str, str]:
    return {change.name: change.kind for change in changes}


def test_packages_come_with_both_versions(diff: ImageDiff) -> None:
    assert diff.packages == [
        Change("bash", "5.2-1", "5.3-1"),
        Change("fresh", "", "3-1"),
        Change("gone", "1-1", ""),
    ]


def test_rights_beyond_the_callers_are_named_whether_they_came_or_went(diff: ImageDiff) -> None:
    assert diff.special == [
        Change("usr/bin/<b>new</b>", "", "6755 0:0"),
        Change("usr/bin/ping", "", "0644 0:0 with capabilities"),
        Change("usr/bin/su", "4755 0:0", ""),
    ]


def test_modes_and_owners_are_compared_of_what_both_have(diff: ImageDiff) -> None:
    assert diff.rights == [
        Change("etc", "0755 0:0", "0777 0:0"),
        Change("etc/shadow", "0600 0:0", "0644 0:0"),
        Change("home/user", "0700 1000:0", "0700 1001:0"),
        Change("usr/bin/su", "4755 0:0", "0755 0:0"),
    ]


def test_units_that_change_or_start_or_are_masked_are_named(diff: ImageDiff) -> None:
    masked = "etc/systemd/system/cron.service"
    assert kinds(diff.units) == {masked: "added", SERVICE: "changed"}
    assert diff.enabled == [
        Change("cron.service", "by multi-user.target", "masked"),
        Change("sshd.service", "", "by multi-user.target"),
    ]


def test_files_are_compared_by_content_and_target(diff: ImageDiff) -> None:
    found = kinds(diff.files)
    assert found["usr/bin/gone"] == "removed"
    assert found["usr/bin/sh"] == found[SERVICE] == "changed"
    assert "usr/bin/same" not in found
    assert diff.old_size != diff.new_size


def test_text_json_and_page_name_every_change(diff: ImageDiff) -> None:
    lists = (diff.packages, diff.special, diff.enabled, diff.units, diff.rights, diff.files)
    names = {change.name for found in lists for change in found}
    text, page = as_text(diff), as_html(diff)
    data = json.loads(json.dumps(as_json(diff)))
    for name in names:
        assert name in text
        assert name in json.dumps(data)
        assert name.replace("<", "&lt;").replace(">", "&gt;") in page
    assert "Special rights (setuid, setgid, capabilities): 2 added, 1 removed" in text
    assert "  ~ bash  5.2-1 → 5.3-1" in text
    assert not re.search("<b>new", page), "a name is no markup"


def test_many_files_are_cut_in_text_alone() -> None:
    diff = ImageDiff("a", "b", files=[Change(f"file{n}", "", "new") for n in range(250)])
    assert "… and 50 more (--json or --html shows all)" in as_text(diff)
    assert "file249" not in as_text(diff)
    assert "file249" in as_html(diff)


def test_the_command_shows_it_and_writes_the_page(sides: tuple[Path, Path], tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    done = CliRunner().invoke(app, ["diff", *map(str, sides), "--html", str(page), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["packages"][0]["new"] == "5.3-1"
    assert page.read_text().startswith("<!doctype html>")
    same = CliRunner().invoke(app, ["diff", str(sides[0]), str(sides[0])])
    assert "no differences in packages, files or rights" in same.stdout
