"""What is kept of a check whose virtual PC dies, and of one that passes?"""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from builder.machine.agent import Answer
from builder.machine.errors import MachineDied
from builder.machine.evidence import Evidence
from builder.machine.hardware import Sockets

RED, BLUE = (200, 0, 0), (0, 0, 200)


class Screen:
    """A machine whose screen is red, then blue, and which can die."""

    def __init__(self, place: Path) -> None:
        place.mkdir()
        self.files = Sockets(place)
        self.colour = RED
        self.dead = False

    def look(self) -> Path:
        self.draw(self.files.look)
        return self.files.look

    def screenshot(self, path: Path) -> Path:
        self.draw(self.files.screen)
        self.draw(path)
        return path

    def draw(self, path: Path) -> None:
        if self.dead:
            raise MachineDied("QEMU was killed by signal 9")
        Image.new("RGB", (8, 6), self.colour).save(path)


@pytest.fixture
def screen(tmp_path: Path) -> Screen:
    return Screen(tmp_path / "machine")


def evidence_of(screen: Screen, folder: Path, *, says: str = "") -> tuple[Evidence, list[str]]:
    asked: list[str] = []

    def run(command: str, *, timeout: float) -> Answer:
        asked.append(command)
        return Answer(0, says)

    seat: Any = SimpleNamespace(machine=screen, host=SimpleNamespace(shell=SimpleNamespace(run=run)))
    return Evidence(folder, "tone", seat), asked


def colour_of(evidence: Evidence, number: int) -> object:
    with Image.open(evidence.folder / evidence.record.pictures[number].file) as picture:
        return picture.convert("RGB").getpixel((0, 0))


def test_a_machine_that_dies_at_once_leaves_the_picture_of_the_checks_beginning(
    screen: Screen, tmp_path: Path
) -> None:
    evidence, _ = evidence_of(screen, tmp_path)
    screen.dead = True
    evidence.last_look()
    assert [picture.caption for picture in evidence.record.pictures] == ["the last that was seen"]
    assert colour_of(evidence, 0) == RED


def test_a_machine_that_dies_later_leaves_the_last_of_its_pictures(screen: Screen, tmp_path: Path) -> None:
    evidence, _ = evidence_of(screen, tmp_path)
    screen.colour = BLUE
    screen.look()
    screen.dead = True
    evidence.last_look()
    assert colour_of(evidence, 0) == BLUE


def test_a_picture_that_was_cut_off_is_passed_over_for_the_one_before(
    screen: Screen, tmp_path: Path
) -> None:
    evidence, _ = evidence_of(screen, tmp_path)
    screen.files.screen.write_bytes(b"\x89PNG\r\n\x1a\n cut off")
    screen.dead = True
    evidence.last_look()
    assert len(evidence.record.pictures) == 1
    assert colour_of(evidence, 0) == RED


def test_a_machine_that_lives_is_looked_at_once(screen: Screen, tmp_path: Path) -> None:
    evidence, _ = evidence_of(screen, tmp_path)
    screen.colour = BLUE
    evidence.last_look()
    assert [picture.caption for picture in evidence.record.pictures] == ["at the end"]
    assert colour_of(evidence, 0) == BLUE


def test_a_passed_check_has_what_was_logged_while_it_ran(screen: Screen, tmp_path: Path) -> None:
    evidence, asked = evidence_of(screen, tmp_path, says="work kernel: a keyboard")
    evidence.excerpt()
    assert evidence.record.logs == {"journal meanwhile": "work kernel: a keyboard"}
    assert "--since=-1s" in asked[0]
    assert "--directory" in asked[0], "strict containers link no journal on the host"
