"""``seatsmith render``: where does it write, and does --diff show what a change of the profile changes?"""

import json
from pathlib import Path

import pytest

from builder.__main__ import run_cli
from builder.project import Project
from tests.support.profiles import project_at, write

WORK = "users: [{name: al}]\ndisplay: {vt: 8}\n"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    for name in ("SEATSMITH_ROOT", "SEATSMITH_DIST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    project = project_at(tmp_path)
    write(project, work=WORK)
    return project


def test_nothing_is_rendered_into_a_result_whose_files_are_signed_for(project: Project) -> None:
    (project.root / "dist/work").mkdir(parents=True)
    assert run_cli(["render", "work"]) == 0
    assert list((project.root / "dist/work").iterdir()) == []
    assert (project.root / "dist/work.rendered/host/etc/systemd/nspawn/work.nspawn").is_file()


def test_a_diff_is_with_what_was_rendered_last_and_writes_nothing(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli(["render", "work"]) == 0
    capsys.readouterr()
    assert run_cli(["render", "work", "--diff"]) == 0
    assert "nothing differs from" in capsys.readouterr().out
    write(project, work=WORK.replace("8", "12"))
    for _ in range(2):
        assert run_cli(["render", "work", "--diff", "--json"]) == 0
        shown = json.loads(capsys.readouterr().out)
        assert "image/etc/lightdm/lightdm.conf.d/50-seatsmith.conf" in shown["changed"]
        assert "+minimum-vt=12" in shown["diff"] and "-minimum-vt=8" in shown["diff"]
    write(project, work=WORK)
    assert run_cli(["render", "work", "--diff", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["changed"] == []


def test_a_file_that_comes_and_one_that_goes_are_named(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli(["render", "work"]) == 0
    capsys.readouterr()
    write(project, work=WORK + "isolation: shared\n")
    assert run_cli(["render", "work", "--diff", "--json"]) == 0
    changed = json.loads(capsys.readouterr().out)["changed"]
    assert "host/etc/pulse/default.pa.d/60-seatsmith-containers.pa" in changed
    assert "host/etc/seatsmith/environments/work.json" in changed


@pytest.mark.parametrize("user", ["a b", "a/../b", "", "%u", "a:b", "Ä", "root", "-x", "a\nb"])
def test_a_host_user_that_cannot_be_one_is_refused(
    project: Project, capsys: pytest.CaptureFixture[str], user: str
) -> None:
    assert run_cli(["render", "work", f"--host-user={user}"]) == 2
    assert "error: --host-user " in capsys.readouterr().err
    assert not (project.root / "dist").exists()
