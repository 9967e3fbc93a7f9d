"""Is a result called up to date only while nothing that it depends on has changed?"""

import os
import shutil
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from builder import uptodate
from builder.project import Project
from builder.quick import words_of
from builder.sources import Source
from builder.uptodate import Delivery, Request, inputs_state, published, recall, remember

LATER = 10_000_000_000  # ns: long after all files were written
REQUEST = Request("work", "standin", None, "")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A checkout, as far as it is looked at, with a result of ``work``."""
    project = Project(tmp_path / "root", tmp_path / "cache", tmp_path / "root/dist")
    for name in ("mkosi.conf", "mkosi.extra/etc/motd", "profiles/work.yaml", "profiles/work.files/etc/a"):
        write(project.root / name, f"content of {name}")
    write(project.root / "builder/uptodate.py", "")
    write(project.root / "builder/templates/image/etc/x.j2", "rendered")
    write(project.cache / "locks/work.standin.lock", "{}")
    write(project.dist / "work/work_1_x86-64.tar.zst", "image")
    write(project.dist / "work/SHA256SUMS", "sums")
    monkeypatch.setattr(uptodate, "__file__", str(project.root / "builder/uptodate.py"))
    return project


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def inputs(project: Project) -> list[Path]:
    profiles = project.root / "profiles"
    return [
        profiles / "work.yaml",
        profiles / "work.files",
        project.cache / "locks/work.standin.lock",
        project.cache / "not there",
    ]


def delivery(project: Project, source: str = "standin") -> Delivery:
    place = project.dist / "work"
    return Delivery(place, published(place), "1", source, signed=False, fresh=True)


def note(project: Project, request: Request = REQUEST, *, source: str = "standin", port: int = 1) -> None:
    remember(
        project,
        request,
        delivery(project, source),
        inputs=inputs(project),
        probe_url=f"https://127.0.0.1:{port}/",
        before=inputs_state(project, inputs(project)),
        began=time.time_ns() + LATER,
    )


def test_what_was_noted_is_recalled_while_nothing_changes(project: Project) -> None:
    note(project)
    assert recall(project, REQUEST) == replace(delivery(project), fresh=False)


def test_nothing_is_recalled_where_nothing_was_noted(project: Project) -> None:
    assert recall(project, REQUEST) is None


def test_a_damaged_note_is_no_answer(project: Project) -> None:
    note(project)
    for text in ("", "{}", "[]", "null", "\x00", '{"request": 1}'):
        uptodate.memory(project, "work").write_text(text)
        assert recall(project, REQUEST) is None


EVERY_FILE = (
    "mkosi.conf",
    "mkosi.extra/etc/motd",
    "profiles/work.yaml",
    "profiles/work.files/etc/a",
    "builder/uptodate.py",
    "builder/templates/image/etc/x.j2",
    "../cache/locks/work.standin.lock",
    "dist/work/work_1_x86-64.tar.zst",
    "dist/work/SHA256SUMS",
)


def rewritten(path: Path) -> None:
    """Other content of the same size, and the old modification time."""
    before = path.stat()
    path.write_bytes(bytes(reversed(path.read_bytes())))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replaced(path: Path) -> None:
    other = path.with_name("other")
    shutil.copy2(path, other)
    rewritten(other)
    other.replace(path)


def removed(path: Path) -> None:
    path.unlink()


def executable(path: Path) -> None:
    path.chmod(path.stat().st_mode ^ 0o100)


def a_neighbour(path: Path) -> None:
    (path.parent / "mkosi.neighbour").write_text("")


def an_empty_directory(path: Path) -> None:
    (path.parent / "mkosi.neighbour").mkdir()


@pytest.mark.parametrize("change", [rewritten, replaced, removed, executable])
@pytest.mark.parametrize("name", EVERY_FILE)
def test_any_change_of_any_file_is_seen(project: Project, name: str, change: Callable[[Path], None]) -> None:
    note(project)
    time.sleep(0.02)  # longer than a tick of the file system's clock
    change(project.root / name)
    assert recall(project, REQUEST) is None


@pytest.mark.parametrize("change", [a_neighbour, an_empty_directory])
@pytest.mark.parametrize("name", [n for n in EVERY_FILE if "yaml" not in n and "lock" not in n])
def test_a_new_file_in_any_tree_is_seen(project: Project, name: str, change: Callable[[Path], None]) -> None:
    note(project)
    change(project.root / name)
    assert recall(project, REQUEST) is None


def test_a_file_that_was_not_there_and_comes_is_seen(project: Project) -> None:
    note(project)
    (project.cache / "not there").write_text("")
    assert recall(project, REQUEST) is None


def test_a_directory_behind_a_link_is_looked_into(project: Project) -> None:
    tree = project.root / "profiles/work.files"
    tree.rename(project.root / "elsewhere")
    tree.symlink_to("../elsewhere")
    note(project)
    assert recall(project, REQUEST)
    time.sleep(0.02)
    rewritten(project.root / "elsewhere/etc/a")
    assert recall(project, REQUEST) is None


def test_a_link_that_leads_elsewhere_is_seen(project: Project) -> None:
    link = project.root / "mkosi.extra/etc/link"
    link.symlink_to("one")
    note(project)
    link.unlink()
    link.symlink_to("two")
    assert recall(project, REQUEST) is None


def test_compiled_code_is_no_change(project: Project) -> None:
    note(project)
    write(project.root / "builder/__pycache__/uptodate.pyc", "compiled")
    write(project.root / "README.md", "not an input")
    assert recall(project, REQUEST)


@pytest.mark.parametrize("changed", [{"source": "upstream"}, {"version": "2"}, {"signing": "key"}])
def test_another_request_is_not_answered(project: Project, changed: dict[str, str]) -> None:
    note(project)
    assert recall(project, replace(REQUEST, **changed)) is None


def test_another_profile_is_not_answered(project: Project) -> None:
    note(project)
    shutil.copytree(project.dist / "work", project.dist / "private")
    assert recall(project, replace(REQUEST, profile="private")) is None


def test_an_input_that_changed_meanwhile_leaves_no_note(project: Project) -> None:
    note(project)
    before = inputs_state(project, inputs(project))
    time.sleep(0.02)
    rewritten(project.root / "mkosi.conf")
    remember(
        project,
        REQUEST,
        delivery(project),
        inputs=inputs(project),
        probe_url="",
        before=before,
        began=time.time_ns() + LATER,
    )
    assert recall(project, REQUEST) is None


def test_an_input_written_just_before_leaves_no_note(project: Project) -> None:
    remember(
        project,
        REQUEST,
        delivery(project),
        inputs=inputs(project),
        probe_url="",
        before=inputs_state(project, inputs(project)),
        began=time.time_ns(),
    )
    assert recall(project, REQUEST) is None


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_auto_keeps_to_the_stand_in_while_upstream_cannot_be_connected_to(
    project: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [n for n in os.environ if n.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    auto = replace(REQUEST, source="auto")
    port = free_port()
    note(project, auto, port=port)
    assert recall(project, auto)
    assert "does not answer; building from the embedded stand-in" in capsys.readouterr().err
    with socket.create_server(("127.0.0.1", port)):
        assert recall(project, auto) is None
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    assert recall(project, auto) is None


def test_auto_asks_again_whether_upstream_answers(project: Project) -> None:
    auto = replace(REQUEST, source="auto")
    note(project, auto, source=Source.UPSTREAM)
    assert recall(project, auto) is None


@pytest.mark.parametrize(
    ("said", "understood"),
    [
        ("image work", ("work", "auto", False)),
        ("image --json work --locked", ("work", "auto", True)),
        ("image work --source standin", ("work", "standin", False)),
        ("image --source=upstream work", ("work", "upstream", False)),
        ("image work private", None),
        ("image work --source", None),
        ("image work --force", None),
        ("image work --image-version 1", None),
        ("image --help", None),
        ("image work -- x", None),
        ("image", None),
        ("lock work", None),
        ("--debug image work", None),
        ("", None),
    ],
)
def test_only_plain_words_are_answered_before_the_command_line_is_loaded(
    said: str, understood: tuple[str, str, bool] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SOURCE", raising=False)
    assert words_of(said.split()) == understood


def test_the_source_is_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for value, source in (("standin", "standin"), ("", "auto")):
        monkeypatch.setenv("SOURCE", value)
        assert words_of(["image", "work"]) == ("work", source, False)
