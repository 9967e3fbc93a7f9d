"""Is an environment told what is typed only where somebody asked for it, and left where nobody did?"""

from collections.abc import Iterator

import pytest

from builder.broker import asking
from builder.broker.asking import STARTED
from builder.broker.codes import EV_KEY, Event
from builder.broker.router import Router
from builder.broker.service import Broker
from tests.support.brokerdesk import BOARD, MOUSE, TERMINALS, Desk

WORK, GUEST, HOST = 8, 9, 7
A, CONTROL, ALT, F2, F8, F9 = 30, 29, 56, 60, 66, 67
DOWN, UP = Event(EV_KEY, A, 1), Event(EV_KEY, A, 0)


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk()
    desk.plug("board", BOARD)
    yield desk
    desk.close()


def test_who_comes_to_the_front_by_itself_is_told_nothing_and_sent_back(desk: Desk) -> None:
    desk.switch(HOST)
    desk.comes(WORK)
    for _ in range(3):
        desk.says("board", DOWN, UP)
        desk.turn()
    assert desk.maker.read("work/keyboard") == []
    assert all(desk.maker.silent.values()), "nor may it type"
    assert desk.terminal.off[-1] == WORK, "its console hears nothing"
    assert desk.terminal.asked == []
    desk.openings.open("keyboard")
    desk.turn()
    desk.now += STARTED
    desk.turn()
    assert desk.terminal.asked == [HOST]
    desk.says("board", DOWN)
    desk.turn()
    assert desk.maker.read("work/keyboard") == [], "it may be slow to go"


def test_the_kernel_tells_nobody_else_what_is_typed_while_the_console_may_hear_it(desk: Desk) -> None:
    desk.switch(HOST)
    assert desk.devices.grabbed == set()
    desk.terminal.keeps_out = True
    desk.comes(WORK)
    desk.plug("mouse", MOUSE)
    assert desk.devices.grabbed == {"board", "mouse"}
    desk.comes(GUEST)
    assert desk.devices.grabbed == {"board", "mouse"}, "who came by itself as well"
    desk.comes(HOST)
    assert desk.devices.grabbed == set()
    desk.comes(WORK)
    desk.says("board", Event(EV_KEY, CONTROL, 1), Event(EV_KEY, ALT, 1), Event(EV_KEY, F8, 1))
    desk.turn()
    assert desk.devices.grabbed == set(), "somebody asked for it"


def test_devices_are_grabbed_before_the_console_is_turned_off_and_not_for_longer(desk: Desk) -> None:
    desk.switch(HOST)
    seen: list[set[str]] = []
    turn_off = desk.terminal.keys_off
    desk.terminal.keys_off = lambda: (seen.append(set(desk.devices.grabbed)), turn_off())[1]  # type: ignore[method-assign]
    desk.comes(WORK)
    assert (seen, desk.devices.grabbed) == ([{"board"}], set())


def test_an_environment_that_comes_back_after_one_that_came_by_itself_is_told_again(desk: Desk) -> None:
    desk.switch(GUEST)
    for _ in range(2):
        desk.comes(WORK)
        desk.now += asking.LONGEST
        desk.turn()
        assert desk.terminal.asked.pop() == GUEST
        desk.says("board", DOWN)
        desk.turn()
        desk.comes(GUEST)
        desk.says("board", UP, DOWN, UP)
        desk.turn()
        assert desk.maker.read("guest/keyboard") == [DOWN, UP]
    assert desk.maker.read("work/keyboard") == []
    desk.switch(HOST)
    desk.comes(GUEST)
    desk.says("board", DOWN)
    desk.turn()
    assert desk.maker.read("guest/keyboard") == [], "it was left since"


def test_keys_that_are_still_held_from_one_switch_do_for_the_next(desk: Desk) -> None:
    for code in (CONTROL, ALT, F9):
        desk.says("board", Event(EV_KEY, code, 1))
        desk.turn()
    desk.comes(GUEST)
    desk.says("board", Event(EV_KEY, F9, 0), Event(EV_KEY, F2, 1))
    desk.turn()
    assert desk.terminal.asked == [GUEST, 2]


def test_who_starts_no_display_server_is_sent_back_all_the_same(desk: Desk) -> None:
    desk.switch(HOST)
    desk.comes(WORK)
    desk.now += asking.LONGEST
    desk.turn()
    assert desk.terminal.asked == [HOST]


def test_a_display_server_is_left_only_once_it_has_started(desk: Desk) -> None:
    desk.switch(HOST)
    desk.terminal.is_starting = True
    desk.comes(WORK)
    desk.openings.open("keyboard")
    for _ in range(9):
        desk.turn()
        desk.now += STARTED
    assert desk.terminal.asked == []
    desk.comes(GUEST)  # the next one has its turn
    desk.terminal.is_starting = False
    desk.now += asking.LONGEST
    desk.turn()
    assert desk.terminal.asked == [HOST], "not who came by itself either"


def test_who_says_that_it_starts_for_ever_is_left_all_the_same(desk: Desk) -> None:
    desk.switch(HOST)
    desk.terminal.is_starting = True
    desk.comes(WORK)
    for _ in range(5):
        desk.now += asking.LONGEST
        desk.turn()
    assert desk.terminal.asked == [HOST]


def test_the_function_key_of_who_came_by_itself_lets_it_stay(desk: Desk) -> None:
    desk.switch(HOST)
    desk.comes(GUEST)
    desk.says("board", Event(EV_KEY, CONTROL, 1), Event(EV_KEY, ALT, 1), Event(EV_KEY, F9, 1))
    desk.turn()
    desk.says("board", Event(EV_KEY, F9, 0), DOWN)
    desk.turn()
    assert desk.maker.read("guest/keyboard") == [DOWN], "what was pressed before was not for it"
    desk.now += asking.LONGEST
    desk.turn_if_ready()
    assert desk.terminal.asked == []


@pytest.mark.parametrize(("later", "told"), [(asking.LATELY, [DOWN]), (asking.LATELY + 1, [])])
def test_a_terminal_comes_a_while_after_its_key_or_by_itself(
    desk: Desk, later: float, told: list[Event]
) -> None:
    desk.switch(HOST)
    desk.says("board", Event(EV_KEY, ALT, 1), Event(EV_KEY, F9, 1))  # as a text console wants it
    desk.turn()
    desk.now += later
    desk.comes(GUEST)
    desk.says("board", DOWN)
    desk.turn()
    assert desk.maker.read("guest/keyboard") == told


def test_who_was_in_front_when_the_machine_was_suspended_is_so_when_it_wakes_up(desk: Desk) -> None:
    for vt in (asking.SUSPENDED, WORK):
        desk.comes(vt)
    desk.says("board", DOWN)
    desk.turn()
    assert desk.maker.read("work/keyboard") == [DOWN]
    for vt in (asking.SUSPENDED, HOST, WORK):
        desk.comes(vt)
    desk.says("board", DOWN)
    desk.turn()
    assert desk.maker.read("work/keyboard") == [UP], "it wakes up to one terminal"


@pytest.mark.parametrize("past", [asking.SUSPENDED, GUEST])
def test_who_is_asked_to_go_is_told_nothing_when_it_is_back_from_elsewhere(desk: Desk, past: int) -> None:
    desk.says("board", *(Event(EV_KEY, code, 1) for code in (CONTROL, ALT, F2)))
    desk.turn()
    desk.maker.read("work/keyboard")
    desk.comes(past)  # by a control sequence, or with the help of another container
    desk.comes(WORK)
    desk.says("board", DOWN)
    desk.turn()
    assert DOWN not in desk.maker.read("work/keyboard")


def test_an_environment_on_the_terminal_of_suspend_is_one_like_others(desk: Desk) -> None:
    terminals = {**TERMINALS, asking.SUSPENDED: "guest"}
    desk.broker = Broker(desk.broker.clones, Router(terminals), desk.terminal, desk.devices, desk.openings)
    desk.broker.asking.now = lambda: desk.now
    desk.broker.begin(desk.monitor)
    desk.broker.asking.hear([Event(EV_KEY, code, 1) for code in (ALT, F9)])
    desk.broker.asking.vt = asking.SUSPENDED  # which has no key of its own
    desk.comes(asking.SUSPENDED)
    assert not desk.broker.asking.unasked
    desk.comes(WORK)
    assert desk.broker.asking.unasked, "nobody has suspended the machine"


def test_a_function_key_alone_is_for_programs(desk: Desk) -> None:
    desk.says("board", Event(EV_KEY, ALT, 1), Event(EV_KEY, ALT, 0), Event(EV_KEY, F9, 1))
    desk.turn()
    desk.comes(GUEST)
    desk.says("board", DOWN)
    desk.turn()
    assert desk.maker.read("guest/keyboard") == []


@pytest.mark.parametrize(
    ("graphic", "keys", "told"),
    [(True, (ALT,), []), (True, (CONTROL, ALT), [DOWN]), (False, (ALT,), [DOWN])],
)
def test_in_a_desktop_alt_and_a_function_key_are_for_programs(
    desk: Desk, graphic: bool, keys: tuple[int, ...], told: list[Event]
) -> None:
    desk.switch(HOST)
    desk.terminal.is_graphic = graphic
    for code in (*keys, F9):
        desk.says("board", Event(EV_KEY, code, 1))
        desk.turn()
    desk.comes(GUEST)
    desk.says("board", DOWN)
    desk.turn()
    assert desk.maker.read("guest/keyboard") == told


def test_a_key_of_a_keyboard_that_is_gone_is_not_held(desk: Desk) -> None:
    desk.says("board", Event(EV_KEY, ALT, 1))
    desk.turn()
    desk.pull("board")
    desk.turn()
    desk.plug("other", BOARD)
    desk.says("other", Event(EV_KEY, F9, 1))
    desk.turn()
    desk.comes(GUEST)
    desk.says("other", DOWN)
    desk.turn()
    assert desk.maker.read("guest/keyboard") == []


def test_one_key_asks_once(desk: Desk) -> None:
    desk.switch(GUEST)
    desk.comes(HOST)
    desk.comes(GUEST)
    desk.says("board", DOWN)
    desk.turn()
    assert desk.maker.read("guest/keyboard") == []
