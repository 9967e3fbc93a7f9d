"""Does the loop keep environments apart when devices flood, readers are stuck, or terminals move?"""

import os
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.broker.clones import Clones
from builder.broker.codes import (
    ABS_MT_POSITION_X,
    ABS_MT_SLOT,
    ABS_MT_TRACKING_ID,
    BTN_TOUCH,
    EV_ABS,
    EV_KEY,
    EV_LED,
    EV_REL,
    REL_X,
    REPORT,
    Event,
)
from builder.broker.real import packed
from builder.broker.reopening import LONGEST, PAUSE
from builder.broker.shapes import Shape
from tests.support.brokerdesk import BOARD, MOUSE, TERMINALS, Desk

WORK, GUEST, HOST = 8, 9, 7
A, CONTROL, ALT, F2, F8, F9 = 30, 29, 56, 60, 66, 67
DOWN, UP = Event(EV_KEY, A, 1), Event(EV_KEY, A, 0)
SCREEN = Shape(
    {EV_KEY: (BTN_TOUCH,), EV_ABS: (ABS_MT_SLOT, ABS_MT_POSITION_X)},
    {ABS_MT_SLOT: (0, 0, 9, 0, 0, 0), ABS_MT_POSITION_X: (0, 0, 4095, 0, 0, 40)},
    properties=(1,),
    name="A touch screen",
)


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk()
    desk.plug("board", BOARD)
    yield desk
    desk.close()


def test_what_is_typed_goes_to_the_front_alone(desk: Desk) -> None:
    desk.says("board", DOWN)
    desk.turn()
    assert desk.maker.read("work/keyboard") == [DOWN]
    assert desk.maker.read("guest/keyboard") == []


def test_the_broker_hears_no_device_while_the_host_is_in_front(desk: Desk) -> None:
    assert desk.devices.deaf == {"board": False}
    desk.switch(HOST)
    assert desk.devices.deaf == {"board": True}
    desk.plug("mouse", MOUSE)
    assert desk.devices.deaf == {"board": True, "mouse": True}
    assert all(desk.maker.silent.values())


def test_only_the_front_may_say_anything_by_its_virtual_devices(desk: Desk) -> None:
    desk.switch(GUEST)
    assert {place for place, silent in desk.maker.silent.items() if not silent} == {
        "guest/keyboard",
        "guest/mouse",
        "guest/pointer",
    }


def test_what_was_typed_before_a_switch_and_not_yet_read_is_nobodys(desk: Desk) -> None:
    desk.says("board", DOWN)
    desk.switch(GUEST)
    desk.says("board", UP)
    desk.turn()
    assert desk.maker.read("guest/keyboard") == []
    assert desk.maker.read("work/keyboard") == []


def test_what_is_read_while_the_terminal_moves_is_thrown_away(desk: Desk) -> None:
    desk.says("board", DOWN)
    desk.terminal.moves_when_asked.append(GUEST)
    desk.turn()
    assert desk.maker.read("work/keyboard") == desk.maker.read("guest/keyboard") == []
    assert desk.broker.router.active == "guest"


def test_a_reader_that_is_stuck_stalls_nobody_and_fills_no_memory(desk: Desk) -> None:
    desk.plug("mouse", MOUSE)
    started = time.monotonic()
    for _ in range(5000):  # nobody reads work/mouse
        desk.says("mouse", Event(EV_REL, REL_X, 1))
        desk.turn()
    desk.says("board", DOWN)
    desk.turn()
    assert desk.maker.read("work/keyboard") == [DOWN], "its other devices go on"
    desk.switch(GUEST)
    desk.says("mouse", Event(EV_REL, REL_X, 1))
    desk.turn()
    assert desk.maker.read("guest/mouse") == [Event(EV_REL, REL_X, 1)], "and so do other environments"
    assert desk.broker.clones.lost > 4000, "what nobody reads is dropped, not kept"
    assert time.monotonic() - started < 10


def test_a_device_that_never_falls_silent_takes_no_turn_of_another(desk: Desk) -> None:
    desk.plug("mouse", MOUSE)
    with pytest.raises(BlockingIOError):
        while True:
            desk.devices.ends["mouse"].send(packed((Event(EV_REL, REL_X, 1), REPORT)))
    desk.says("board", DOWN)
    desk.turn()
    assert desk.maker.read("work/keyboard") == [DOWN]
    assert len(desk.maker.read("work/mouse")) <= 64


def test_a_device_that_is_gone_lets_go_and_is_not_asked_again(desk: Desk) -> None:
    desk.says("board", DOWN)
    desk.turn()
    desk.pull("board")
    desk.turn()
    assert desk.maker.read("work/keyboard") == [DOWN, UP]
    assert desk.broker.open == {}
    desk.monitor.tell("remove", "board")
    desk.turn()


def test_a_device_that_is_gone_by_the_time_of_a_switch_stops_nothing(desk: Desk) -> None:
    desk.plug("mouse", MOUSE)
    desk.pull("board")
    desk.switch(GUEST)
    assert set(desk.broker.open) == {"mouse"}
    desk.says("mouse", Event(EV_REL, REL_X, 1))
    desk.turn()
    assert desk.maker.read("guest/mouse") == [Event(EV_REL, REL_X, 1)]


def test_control_alt_and_a_function_key_switch_whatever_the_environment_does(desk: Desk) -> None:
    for code in (CONTROL, ALT, F2):
        desk.says("board", Event(EV_KEY, code, 1))
        desk.turn()
    assert desk.terminal.asked == [2]
    assert [e.code for e in desk.maker.read("work/keyboard")] == [CONTROL, ALT, F2]
    desk.says("board", Event(EV_KEY, CONTROL, 0))
    desk.says("board", Event(EV_KEY, F2, 0))
    desk.says("board", Event(EV_KEY, F2, 1))
    desk.turn()
    assert desk.terminal.asked == [2]


def test_an_environment_is_silent_before_it_is_left_and_speaks_again_if_it_stays(desk: Desk) -> None:
    silent = []
    desk.terminal.activate = lambda vt: silent.append(dict(desk.maker.silent))  # type: ignore[method-assign]
    desk.says("board", *(Event(EV_KEY, code, 1) for code in (CONTROL, ALT, F2)))
    desk.turn()
    assert all(silent[0].values())
    desk.says("board", Event(EV_KEY, F2, 0), Event(EV_KEY, F8, 1))
    desk.turn()
    assert not desk.maker.silent["work/keyboard"]
    desk.maker.read("work/keyboard")
    desk.says("board", DOWN)
    desk.turn()
    assert desk.maker.read("work/keyboard") == [DOWN]


def test_a_light_that_the_front_sets_shines_and_one_of_another_waits(desk: Desk) -> None:
    assert desk.lights("board") == {0: 0, 1: 0, 2: 0}
    desk.maker.readers["guest/keyboard"].send(packed((Event(EV_LED, 1, 1), REPORT)))
    desk.turn()
    assert desk.lights("board") == {}
    desk.maker.readers["work/keyboard"].send(packed((Event(EV_LED, 0, 1), REPORT)))
    desk.turn()
    assert desk.lights("board") == {0: 1}
    desk.switch(GUEST)
    assert desk.lights("board") == {0: 0, 1: 1, 2: 0}


def test_a_touch_screen_gets_a_virtual_one_of_its_shape_in_every_environment(desk: Desk) -> None:
    desk.plug("screen", SCREEN)
    made = [place for place in desk.maker.shapes if "touch" in place]
    assert sorted(place.split("/")[0] for place in made) == ["guest", "work"]
    assert all(desk.maker.shapes[place] == SCREEN for place in made)
    assert {place: desk.maker.silent[place] for place in made} == {p: p.startswith("guest") for p in made}
    assert desk.maker.held == set(desk.broker.clones.fds.values())
    before = len(desk.maker.shapes)
    desk.monitor.tell("remove", "screen")
    desk.turn()
    desk.plug("screen", SCREEN)
    assert len(desk.maker.shapes) == before, "it is kept for the next time"


def test_a_finger_is_counted_in_the_slot_that_the_screen_is_at_when_it_is_heard(desk: Desk) -> None:
    desk.plug("screen", SCREEN)
    desk.switch(HOST)
    desk.devices.shapes["screen"] = Shape(SCREEN.codes, {**SCREEN.axes, ABS_MT_SLOT: (3, 0, 9, 0, 0, 0)})
    desk.switch(GUEST)
    desk.says("screen", Event(EV_ABS, ABS_MT_TRACKING_ID, 5))
    desk.turn()
    (place,) = [place for place in desk.maker.shapes if place.startswith("guest/touch")]
    told = desk.maker.read(place)
    assert told == [Event(EV_ABS, ABS_MT_SLOT, 3), Event(EV_ABS, ABS_MT_TRACKING_ID, 5)]


def test_of_five_shapes_of_touch_screens_four_get_a_device(desk: Desk) -> None:
    for product in range(5):
        desk.plug(f"screen{product}", Shape(SCREEN.codes, SCREEN.axes, SCREEN.properties, 1, product))
    assert len([place for place in desk.maker.shapes if place.startswith("work/touch")]) == 4
    assert "screen4" not in desk.broker.known


def test_devices_of_an_environment_that_is_gone_keep_their_numbers_and_are_silent(desk: Desk) -> None:
    before = desk.broker.clones.fds
    kept = {f"{environment}.{clone}": fd for (environment, clone), fd in before.items()}
    clones = Clones(["work"], kept, desk.maker)
    assert {environment for environment, _ in clones.fds} == {"work"}
    for (environment, clone), fd in before.items():
        os.fstat(fd)  # its container may still have the node, and a real device would get the number
        assert desk.maker.silent[f"{environment}/{clone}"]


steps = st.lists(
    st.one_of(
        st.tuples(st.just("type"), st.sampled_from(["board", "mouse"])),
        st.tuples(st.just("go"), st.sampled_from([WORK, GUEST, HOST])),
        st.tuples(st.just("ask"), st.sampled_from([WORK, GUEST, HOST])),
        st.tuples(st.just("go while it reads"), st.sampled_from([WORK, GUEST, HOST])),
        st.tuples(st.just("turn"), st.none()),
        st.tuples(st.just("notice"), st.none()),
        st.tuples(st.just("open"), st.sampled_from(["keyboard", "mouse"])),
        st.tuples(st.just("wait"), st.sampled_from([PAUSE, LONGEST])),
    ),
    max_size=80,
)


@settings(max_examples=150, deadline=None)
@given(steps)
def test_whenever_terminals_move_nothing_is_heard_on_another_side_than_it_was_said(
    script: list[tuple[str, str | int | float | None]],
) -> None:
    desk = Desk(HOST)
    desk.plug("board", BOARD)
    desk.plug("mouse", MOUSE)
    said_on: dict[int, int] = {}
    for number, (what, value) in enumerate(script, 1):
        if what == "type":
            said_on[number] = desk.terminal.now
            if value == "board":  # a key that goes down is heard once; its number tells it apart
                desk.says("board", Event(EV_KEY, number, 1))
            else:
                desk.says("mouse", Event(EV_REL, REL_X, number))
        elif what == "go":
            assert isinstance(value, int)
            desk.terminal.go(value)
        elif what == "ask":
            assert isinstance(value, int)
            desk.switch(value)
        elif what == "go while it reads":
            assert isinstance(value, int)
            desk.terminal.moves_when_asked.append(value)
        elif what == "turn":
            desk.turn_if_ready()
        elif what == "open":
            if desk.openings.front is not None:
                desk.openings.open(str(value))
        elif what == "wait":
            assert isinstance(value, float)
            desk.now += value
        else:
            desk.notice()
    desk.turn_if_ready()
    for vt, name in TERMINALS.items():
        keys = [event.code for event in desk.maker.read(f"{name}/keyboard")]
        moves = [event.value for event in desk.maker.read(f"{name}/mouse")]
        assert {said_on[number] for number in (*keys, *moves)} <= {vt}
    desk.close()
