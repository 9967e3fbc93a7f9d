"""Do the X servers of two environments take their terminals one after another?"""

import os
import subprocess
import time
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "mkosi.extra/usr/lib/seatsmith/in-turn"


class Environment:
    """One of them, with a /run of its own but for the file that all see; its X only says that it began."""

    def __init__(self, top: Path, name: str, turn: Path) -> None:
        self.up, self.began = top / f"{name}.up", top / f"{name}.began"
        self.script = top / name
        text = SCRIPT.read_text(encoding="utf-8")
        for path, here in (("/run/seatsmith/turn", turn), ("/run/seatsmith/screen-is-up", self.up)):
            assert text.count(path) == 1
            text = text.replace(path, os.fspath(here))
        self.script.write_text(text)
        (top / "X").write_text('#!/bin/sh\necho "$*" > "$1"\n')
        (top / "X").chmod(0o755)

    def start(self) -> subprocess.Popen[bytes]:
        path = f"{self.script.parent}:{os.environ['PATH']}"
        return subprocess.Popen(["sh", self.script, "X", self.began, "vt8"], env={"PATH": path})


def test_the_second_server_begins_when_the_first_is_up(tmp_path: Path) -> None:
    turn = tmp_path / "turn"
    turn.touch()
    work, private = Environment(tmp_path, "work", turn), Environment(tmp_path, "private", turn)
    work.up.touch()  # from an earlier server, and says nothing about this one
    assert work.start().wait(10) == 0
    assert work.began.read_text() == f"{work.began} vt8\n"
    second = private.start()
    time.sleep(0.5)
    assert not private.began.exists()
    work.up.touch()
    assert second.wait(10) == 0
    assert private.began.exists()
    private.up.touch()


def test_a_server_of_which_no_host_knows_begins_at_once(tmp_path: Path) -> None:
    alone = Environment(tmp_path, "work", tmp_path / "no turn")
    assert alone.start().wait(10) == 0
    assert alone.began.exists()
