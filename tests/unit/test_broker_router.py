"""Does an input event reach the environment in front, and nobody else? The broker's decisions alone."""

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from builder.broker.codes import (
    ABS_MT_POSITION_X,
    ABS_MT_SLOT,
    ABS_MT_TRACKING_ID,
    EV_ABS,
    EV_KEY,
    EV_LED,
    EV_REL,
    EV_SYN,
    REL_WHEEL,
    REL_WHEEL_HI_RES,
    REL_X,
    REPORT,
    SYN_DROPPED,
    Event,
)
from builder.broker.real import packed
from builder.broker.router import LONGEST_FRAME, Delivery, Router
from builder.broker.shapes import KEYBOARD, MOUSE, TOP, Routes

A, B, POWER, SYSRQ, PRINT = 30, 48, 116, 99, 210
WORK, GUEST, HOST = 8, 9, 7
KEYS = Routes(keys=KEYBOARD, buttons=MOUSE, relative=MOUSE)


def press(code: int) -> list[Event]:
    return [Event(EV_KEY, code, 1), REPORT]


def release(code: int) -> list[Event]:
    return [Event(EV_KEY, code, 0), REPORT]


def router(vt: int = WORK) -> Router:
    made = Router({WORK: "work", GUEST: "guest"})
    made.switch(vt)
    made.add("board", KEYS)
    return made


def said(deliveries: list[Delivery]) -> list[tuple[str, Event]]:
    return [(d.environment, e) for d in deliveries for e in d.events if e != REPORT]


def test_a_key_goes_to_the_environment_in_front() -> None:
    assert router(WORK).read("board", press(A)) == [
        Delivery("work", KEYBOARD, (Event(EV_KEY, A, 1), REPORT))
    ]
    assert said(router(GUEST).read("board", press(A))) == [("guest", Event(EV_KEY, A, 1))]


def test_while_the_host_is_in_front_nobody_is_told_anything() -> None:
    assert router(HOST).read("board", press(A)) == []


def test_a_held_key_is_released_where_it_was_pressed_and_does_not_come_up_elsewhere() -> None:
    broker = router(WORK)
    broker.read("board", press(A))
    assert said(broker.switch(GUEST)) == [("work", Event(EV_KEY, A, 0))]
    broker.add("board", KEYS)
    assert broker.read("board", release(A)) == []


def test_half_a_frame_from_before_a_switch_is_never_finished_after_it() -> None:
    broker = router(WORK)
    broker.read("board", [Event(EV_KEY, A, 1)])
    broker.switch(GUEST)
    broker.add("board", KEYS)
    assert said(broker.read("board", press(B))) == [("guest", Event(EV_KEY, B, 1))]


def test_a_key_on_two_keyboards_comes_up_with_the_last() -> None:
    broker = router()
    broker.add("second", KEYS)
    broker.read("board", press(A))
    assert broker.read("second", press(A)) == []
    assert broker.read("board", release(A)) == []
    assert said(broker.read("second", release(A))) == [("work", Event(EV_KEY, A, 0))]


def test_a_keyboard_that_is_unplugged_lets_go_of_its_keys() -> None:
    broker = router()
    broker.read("board", press(A))
    assert said(broker.remove("board")) == [("work", Event(EV_KEY, A, 0))]
    assert broker.remove("board") == []


def test_lost_events_release_what_was_held_and_the_broken_frame_is_dropped() -> None:
    broker = router()
    broker.read("board", press(A))
    lost = [Event(EV_SYN, SYN_DROPPED, 0), Event(EV_KEY, B, 1), REPORT]
    assert said(broker.read("board", lost)) == [("work", Event(EV_KEY, A, 0))]
    assert said(broker.read("board", press(B))) == [("work", Event(EV_KEY, B, 1))]


def test_a_device_that_never_ends_its_frame_does_not_fill_the_memory() -> None:
    broker = router()
    broker.read("board", [Event(EV_REL, REL_X, 1)] * (10 * LONGEST_FRAME))
    assert len(broker.sources["board"].frame) <= LONGEST_FRAME


def test_power_keys_stay_with_the_host_and_sysrq_is_but_print() -> None:
    broker = router()
    assert broker.read("board", press(POWER)) == []
    assert said(broker.read("board", press(SYSRQ))) == [("work", Event(EV_KEY, PRINT, 1))]


def test_a_step_of_a_coarse_wheel_is_told_in_fine_steps_too() -> None:
    broker = router()
    broker.add("mouse", Routes(relative=MOUSE, coarse=frozenset({REL_WHEEL})))
    turned = said(broker.read("mouse", [Event(EV_REL, REL_WHEEL, -1), Event(EV_REL, REL_X, 3), REPORT]))
    assert [event[1:] for _, event in turned] == [(REL_WHEEL, -1), (REL_WHEEL_HI_RES, -120), (REL_X, 3)]


def test_an_absolute_axis_is_stretched_and_kept_in_its_range() -> None:
    broker = router()
    broker.add("tablet", Routes(absolute="pointer", scales={0: (0, 1000)}))
    for value, expected in ((0, 0), (1000, TOP), (500, TOP // 2), (-5, 0), (5000, TOP)):
        found = said(broker.read("tablet", [Event(EV_ABS, 0, value), REPORT]))
        assert found == [("work", Event(EV_ABS, 0, expected))]


def test_a_finger_that_was_down_before_the_switch_is_not_seen_after_it() -> None:
    broker = router()
    broker.add("pad", Routes(absolute="touch0", touch=True))
    down = [Event(EV_ABS, ABS_MT_TRACKING_ID, 5), Event(EV_ABS, ABS_MT_POSITION_X, 9), REPORT]
    assert said(broker.read("pad", down))[-1] == ("work", Event(EV_ABS, ABS_MT_POSITION_X, 9))
    ended = said(broker.switch(GUEST))
    assert ended == [
        ("work", Event(EV_ABS, ABS_MT_SLOT, 0)),
        ("work", Event(EV_ABS, ABS_MT_TRACKING_ID, -1)),
    ]
    broker.add("pad", Routes(absolute="touch0", touch=True))
    moved = [Event(EV_ABS, ABS_MT_POSITION_X, 10), REPORT]
    assert broker.read("pad", moved) == []


def test_a_light_shines_only_for_the_environment_in_front() -> None:
    broker = router(WORK)
    assert broker.led("work", Event(EV_LED, 0, 1))
    assert not broker.led("guest", Event(EV_LED, 1, 1))
    assert broker.leds == {"work": {0: 1}, "guest": {1: 1}}


def as_it_is(broker: Router, *events: Event) -> tuple[str, str] | None:
    return broker.as_it_is("mouse", packed(events))


def test_movements_alone_are_passed_on_as_they_are_and_to_the_front_alone() -> None:
    broker = router()
    broker.add("mouse", Routes(relative=MOUSE, buttons=MOUSE, coarse=frozenset({REL_WHEEL})))
    moved = Event(EV_REL, REL_X, 3)
    assert as_it_is(broker, moved, REPORT, moved, REPORT) == ("work", MOUSE)
    assert as_it_is(broker, moved) is None, "half a frame"
    for other in (
        Event(EV_KEY, 0x110, 1),
        Event(EV_REL, REL_WHEEL, 1),
        Event(EV_ABS, 0, 1),
        Event(EV_SYN, SYN_DROPPED, 0),
    ):
        assert as_it_is(broker, moved, other, REPORT) is None, other
    broker.read("mouse", [moved])
    assert as_it_is(broker, moved, REPORT) is None, "the frame began before"
    broker.switch(HOST)
    assert as_it_is(broker, moved, REPORT) is None


steps = st.lists(
    st.one_of(
        st.tuples(st.just("switch"), st.sampled_from([WORK, GUEST, HOST])),
        st.tuples(
            st.just("key"),
            st.tuples(st.sampled_from(["one", "two"]), st.sampled_from([A, B]), st.booleans()),
        ),
        st.tuples(st.just("unplug"), st.sampled_from(["one", "two"])),
        st.tuples(st.just("lost"), st.sampled_from(["one", "two"])),
    ),
    max_size=60,
)


@given(steps)
def test_whatever_happens_only_the_front_is_told_and_nothing_stays_pressed(script: list[tuple]) -> None:  # type: ignore[type-arg]
    broker = Router({WORK: "work", GUEST: "guest"})
    front: str | None = None
    pressed: dict[str, set[int]] = defaultdict(set)

    def told(deliveries: list[Delivery], by: str | None) -> None:
        for environment, event in said(deliveries):
            assert environment == by
            # never a press of what is down, never a release of what is up
            assert (event.code in pressed[environment]) == (event.value == 0)
            (pressed[environment].add if event.value else pressed[environment].discard)(event.code)

    for what, value in script:
        if what == "switch":
            told(broker.switch(value), front)
            assert not any(pressed.values())
            front = {WORK: "work", GUEST: "guest"}.get(value)
        elif what == "key":
            name, code, down = value
            if name not in broker.sources:
                broker.add(name, KEYS)
            told(broker.read(name, press(code) if down else release(code)), front)
        elif what == "unplug":
            told(broker.remove(value), front)
        else:
            told(broker.read(value, [Event(EV_SYN, SYN_DROPPED, 0), REPORT]), front)
