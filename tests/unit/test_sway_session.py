"""Does sway start when its terminal is shown, with which configuration, and without 3D?"""

import fcntl
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "mkosi.extra/usr/lib/seatsmith/sway-session"
SWAY = """#!/bin/sh
echo "${WLR_RENDERER:-gl} $*" >>%s
[ "$WLR_RENDERER" = pixman ] || exit 1
[ -e %s ] || exec sleep 60
"""


class Session:
    """The script with files of the test's in place of the machine's, and a sway that has no 3D."""

    def __init__(self, top: Path) -> None:
        self.active, self.started, self.short = top / "active", top / "started", top / "short"
        self.home = top / "home"
        facts = top / "environment"
        facts.write_text("NAME=work\nVT=8\n")
        self.script = top / "session"
        text = SCRIPT.read_text(encoding="utf-8")
        for path, here in (
            ("/sys/class/tty/tty0/active", self.active),
            ("/usr/lib/seatsmith/environment", facts),
            ("/run/seatsmith/", f"{top}/"),
        ):
            assert path in text
            text = text.replace(path, os.fspath(here))
        self.script.write_text(text)
        (top / "sway").write_text(SWAY % (self.started, self.short))
        (top / "sway").chmod(0o755)
        self.show(8)

    def show(self, vt: int) -> None:
        self.active.write_text(f"tty{vt}\n")

    def start(self, *argv: str) -> subprocess.Popen[bytes]:
        path = f"{self.script.parent}:{os.environ['PATH']}"
        return subprocess.Popen(["sh", self.script, *argv], env={"PATH": path, "HOME": os.fspath(self.home)})

    def runs(self) -> list[str]:
        return self.started.read_text().splitlines() if self.started.exists() else []


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Session(tmp_path)


def test_sway_starts_when_its_terminal_is_shown_and_not_before(session: Session) -> None:
    session.show(7)
    session.short.touch()
    running = session.start()
    time.sleep(0.7)
    assert session.runs() == []
    session.show(8)
    assert running.wait(10) == 0


def test_no_other_environment_comes_to_the_front_while_sway_starts(session: Session) -> None:
    turn = session.script.parent / "turn"
    turn.touch()
    (session.script.parent / "screen-is-up").touch()
    with turn.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        running = session.start()
        time.sleep(0.7)
        assert session.runs() == []
    wait_for(lambda: len(session.runs()) == 2)  # the second, after the first that had no 3D, goes on
    with turn.open() as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    running.terminate()
    assert running.wait(10) == 0


def test_where_there_is_no_3d_sway_draws_by_its_own_program(session: Session) -> None:
    session.short.touch()
    assert session.start().wait(10) == 0
    assert session.runs() == [f"{how} --config /etc/xdg/sway/config" for how in ("gl", "pixman")]


def test_a_users_own_configuration_goes_first_and_a_named_one_before_it(session: Session) -> None:
    session.short.touch()
    own = session.home / ".config/sway/config"
    own.parent.mkdir(parents=True)
    own.touch()
    assert session.start().wait(10) == 0
    assert session.start("--config", "/etc/greetd/seatsmith.sway").wait(10) == 0
    assert session.runs()[1::2] == ["pixman ", "pixman --config /etc/greetd/seatsmith.sway"]


def test_a_session_that_is_told_to_end_ends_sway(session: Session) -> None:
    running = session.start()
    wait_for(lambda: len(session.runs()) == 2)
    time.sleep(0.2)
    running.terminate()
    assert running.wait(10) == 0


def wait_for(ask: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not ask():
        assert time.monotonic() < deadline
        time.sleep(0.05)
