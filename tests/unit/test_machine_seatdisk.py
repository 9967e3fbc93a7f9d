"""What is said of a seat that was not written, and of one that nobody has described?"""

from pathlib import Path

import pytest

from builder.errors import InputError
from builder.machine.seatdisk import written_seat
from builder.project import Project
from builder.tools import Tools

ROOT = Path(__file__).parents[2]


def ask(seat: str, tmp_path: Path) -> InputError:
    project = Project(ROOT, tmp_path / "cache", tmp_path / "dist")
    with pytest.raises(InputError) as e:
        written_seat(project, seat, Tools(None), tmp_path)
    return e.value


def test_a_seat_that_nobody_has_described_is_answered_with_those_there_are(tmp_path: Path) -> None:
    error = ask("demmo", tmp_path)
    assert error.message == "there is no seat 'demmo'"
    assert "demo" in (error.hint or "")


def test_a_seat_that_was_not_written_is_answered_with_how_to(tmp_path: Path) -> None:
    error = ask("demo", tmp_path)
    assert error.message.endswith("demo.img does not exist")
    assert error.hint == "run: make seat SEAT=demo"
