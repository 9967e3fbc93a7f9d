"""Do the first words after a switch wait for a desktop that opens its devices anew, and for nobody else?"""

import contextlib
import ctypes
import errno
import os
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.broker.codes import EV_KEY, EV_REL, REL_X, Event
from builder.broker.reopening import LONGEST, MOST, PAUSE, Nodes
from tests.support.brokerdesk import BOARD, MOUSE, Desk

WORK, GUEST, HOST = 8, 9, 7
A, B, CONTROL, ALT, F2 = 30, 48, 29, 56, 60


@pytest.fixture
def desk() -> Iterator[Desk]:
    """A seat whose `work` has opened its keyboard at an earlier visit, and is entered again."""
    desk = Desk(WORK)
    desk.plug("board", BOARD)
    desk.openings.open("keyboard")
    desk.turn()
    desk.switch(HOST)
    desk.switch(WORK)
    desk.maker.read("work/keyboard")
    yield desk
    desk.close()


def press(desk: Desk, *codes: int) -> None:
    for code in codes:
        desk.says("board", Event(EV_KEY, code, 1))
    desk.turn()


def heard(desk: Desk, place: str = "work/keyboard") -> list[int]:
    return [event.code for event in desk.maker.read(place) if event.value == 1]


def wait(desk: Desk, seconds: float) -> None:
    desk.now += seconds
    desk.turn()


def test_first_words_wait_until_a_desktop_has_opened_its_keyboard_and_come_in_their_order(
    desk: Desk,
) -> None:
    press(desk, A)
    press(desk, B)
    assert heard(desk) == []
    desk.openings.open("keyboard")
    desk.turn()
    assert heard(desk) == []
    wait(desk, PAUSE)
    assert heard(desk) == [A, B]


def test_a_desktop_that_was_slow_to_open_its_keyboard_is_given_as_long_again(desk: Desk) -> None:
    press(desk, A)
    desk.now += 1.0
    desk.openings.open("keyboard")
    desk.turn()
    desk.now += 0.9
    press(desk, B)
    assert heard(desk) == []
    wait(desk, 0.1)
    assert heard(desk) == [A, B]


def test_once_it_has_opened_its_keyboard_nothing_waits(desk: Desk) -> None:
    desk.openings.open("keyboard")
    desk.turn()
    wait(desk, PAUSE)
    press(desk, A)
    assert heard(desk) == [A]


def test_a_mouse_that_is_opened_does_not_end_the_wait_for_the_keyboard(desk: Desk) -> None:
    press(desk, A)
    desk.openings.open("mouse")
    desk.turn()
    wait(desk, PAUSE)
    assert heard(desk) == []


def test_who_keeps_his_devices_open_is_told_at_once() -> None:
    desk = Desk(WORK)
    desk.plug("board", BOARD)
    for _ in range(2):
        press(desk, A)
        assert heard(desk) == [A]
        desk.switch(HOST)
        desk.switch(WORK)
    desk.close()


def test_who_does_not_open_them_is_told_after_a_while_and_not_kept_waiting_again(desk: Desk) -> None:
    press(desk, A)
    wait(desk, LONGEST)
    assert heard(desk) == [A]
    desk.switch(HOST)
    desk.switch(WORK)
    press(desk, B)
    assert heard(desk) == [B]


def test_words_that_waited_when_their_terminal_was_left_are_nobodys(desk: Desk) -> None:
    press(desk, A)
    desk.switch(GUEST)
    desk.now += LONGEST
    desk.turn_if_ready()
    desk.switch(WORK)
    desk.now += LONGEST
    desk.turn()
    assert heard(desk) == heard(desk, "guest/keyboard") == []


def test_control_alt_and_a_function_key_do_not_wait(desk: Desk) -> None:
    press(desk, CONTROL, ALT, F2)
    assert desk.terminal.asked == [2]


def test_what_waits_fills_no_memory(desk: Desk) -> None:
    desk.plug("mouse", MOUSE)
    desk.openings.open("mouse")
    desk.turn()
    desk.switch(HOST)
    desk.switch(WORK)
    for number in range(MOST // 24):
        desk.says("mouse", Event(EV_REL, REL_X, number))
        desk.turn()
    assert not desk.broker.first_words.words
    assert desk.maker.read("work/mouse")


def test_the_kernel_tells_of_a_node_that_is_opened_by_the_name_of_its_virtual_device(tmp_path: Path) -> None:
    nodes, links = tmp_path / "nodes", tmp_path / "links"
    (links / "work").mkdir(parents=True)
    (links / "work/keyboard").symlink_to("/dev/input/event5")
    found = Nodes(["work", "guest"], nodes, links)
    assert found.follow("guest") is not None  # which does not run
    for _ in range(2):  # each start of an environment makes its directory anew
        shutil.rmtree(nodes, ignore_errors=True)
        (nodes / "work/input").mkdir(parents=True)
        for name in ("event5", "event6"):
            (nodes / "work/input" / name).write_text("")
        assert found.follow("work") is not None
        assert [*found.opened()] == []
        os.close(os.open(nodes / "work/input/event6", os.O_RDONLY))
        os.close(os.open(nodes / "work/input/event5", os.O_RDONLY))
        assert [*found.opened()] == ["keyboard"]
        assert found.follow(None) is None


def test_what_was_opened_before_a_visit_is_forgotten_and_what_was_just_before_its_notice_is_not(
    tmp_path: Path,
) -> None:
    nodes, links = tmp_path / "nodes", tmp_path / "links"
    (links / "work").mkdir(parents=True)
    (links / "work/keyboard").symlink_to("/dev/input/event5")
    (nodes / "work/input").mkdir(parents=True)
    node = nodes / "work/input/event5"
    node.write_text("")
    found = Nodes(["work"], nodes, links)
    node.read_text()
    found.follow(None)
    found.follow("work")
    assert [*found.opened()] == []
    found.follow(None)
    node.read_text()  # the desktop is quicker than the broker
    found.follow("work")
    assert [*found.opened()] == ["keyboard"]


class Starved:
    """The C library where root in containers has used up queues (inotify_init1) or watches, or neither."""

    def __init__(self, *lost: str, error: int = errno.EMFILE) -> None:
        self.lost, self.error = lost, error
        self.libc = ctypes.CDLL(None, use_errno=True)

    def __getattr__(self, name: str) -> object:
        return self.refuse if name in self.lost else getattr(self.libc, name)

    def refuse(self, *_: object) -> int:
        ctypes.set_errno(self.error)
        return -1


@contextlib.contextmanager
def no_descriptors_left() -> Iterator[None]:
    """inotify_init1 fails with EMFILE here, as it does where there are too many queues."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def place(tmp_path: Path) -> tuple[Path, Path]:
    """Nodes and links of an environment `work` with a keyboard."""
    nodes, links = tmp_path / "nodes", tmp_path / "links"
    (links / "work").mkdir(parents=True)
    (links / "work/keyboard").symlink_to("/dev/input/event5")
    (nodes / "work/input").mkdir(parents=True)
    (nodes / "work/input/event5").write_text("")
    return nodes, links


def hears(found: Nodes, nodes: Path) -> bool:
    (nodes / "work/input/event5").read_text()
    return [*found.opened()] == ["keyboard"]


def test_who_uses_up_all_queues_before_the_broker_starts_does_not_keep_it_from_starting(
    place: tuple[Path, Path],
) -> None:
    with no_descriptors_left():
        found = Nodes(["work"], *place)
        assert found.follow("work") is None
        assert found.follow(None) is None
    assert found.follow("work") is not None
    assert hears(found, place[0])


def test_who_uses_up_all_queues_later_takes_none_of_the_brokers(place: tuple[Path, Path]) -> None:
    found = Nodes(["work", "guest"], *place)
    queue = found.follow("work")
    found.libc = Starved("inotify_init1")  # type: ignore[assignment]
    for _ in range(3):
        assert found.follow(None) is None
        assert found.follow("guest") is not None
        assert found.follow("work") == queue
        assert hears(found, place[0])


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.ENOMEM])
def test_without_watches_there_is_nothing_to_hear_until_there_are_some(
    error: int, place: tuple[Path, Path]
) -> None:
    found = Nodes(["work"], *place)
    enough, found.libc = found.libc, Starved("inotify_add_watch", error=error)  # type: ignore[assignment]
    assert found.follow(None) is None
    assert found.follow("work") is None
    found.libc = enough
    assert found.follow("work") is not None
    assert hears(found, place[0])


def test_a_directory_that_its_last_container_still_holds_is_no_longer_heard(
    place: tuple[Path, Path], tmp_path: Path
) -> None:
    nodes, _ = place
    found = Nodes(["work"], *place)
    held = (nodes / "work/input").rename(tmp_path / "held")
    (nodes / "work/input").mkdir()
    (nodes / "work/input/event5").write_text("")
    found.follow("work")
    assert hears(found, nodes)
    (held / "event5").read_text()
    assert [*found.opened()] == []
