"""Which virtual device stands for which real one, and which keys does none have?"""

import pytest

from builder.broker.codes import (
    ABS_MT_POSITION_X,
    ABS_MT_SLOT,
    ABS_X,
    ABS_Y,
    BTN_JOYSTICK,
    BTN_LEFT,
    BTN_TOUCH,
    EV_ABS,
    EV_KEY,
    EV_LED,
    EV_MSC,
    EV_REL,
    HOST_KEYS,
    KEY_PRINT,
    KEY_SYSRQ,
    MSC_SERIAL,
    REL_WHEEL,
    REL_WHEEL_HI_RES,
    REL_X,
    REL_Y,
    Event,
    is_button,
)
from builder.broker.shapes import (
    FIXED,
    KEYBOARD,
    MOUSE,
    POINTER,
    Shape,
    fixed_shape,
    routes_for,
    touch_shape,
)

A, MSC_SCAN = 30, 4
TABLET = Shape(
    {EV_KEY: (BTN_LEFT,), EV_ABS: (ABS_X, ABS_Y)},
    {ABS_X: (0, 0, 1023, 0, 0, 0), ABS_Y: (0, 0, 767, 0, 0, 0)},
)
TOUCHPAD = Shape(
    {EV_KEY: (BTN_LEFT, BTN_TOUCH, A), EV_ABS: (ABS_MT_SLOT, ABS_MT_POSITION_X), EV_LED: (1,)},
    {ABS_MT_SLOT: (3, 0, 4, 0, 0, 0), ABS_MT_POSITION_X: (0, 0, 1200, 0, 0, 12)},
    properties=(0,),
)


def test_the_virtual_keyboard_has_no_key_of_the_kernel_and_can_print() -> None:
    keys = set(fixed_shape(KEYBOARD).codes[EV_KEY])
    assert not keys & (HOST_KEYS | {KEY_SYSRQ})
    assert {A, KEY_PRINT} <= keys
    assert not [key for key in keys if is_button(key)]


def test_the_permanent_devices_are_told_apart_by_their_shape() -> None:
    assert len({fixed_shape(clone).signature for clone in FIXED}) == len(FIXED)


@pytest.mark.parametrize(
    ("shape", "keys", "buttons"),
    [
        (Shape({EV_KEY: (A,)}, {}), KEYBOARD, None),
        (Shape({EV_KEY: (BTN_LEFT,), EV_REL: (REL_X, REL_Y)}, {}), None, MOUSE),
        (Shape({EV_KEY: (A, BTN_LEFT), EV_REL: (REL_X, REL_Y)}, {}), KEYBOARD, MOUSE),
        (TABLET, None, POINTER),
    ],
    ids=["keyboard", "mouse", "receiver of both", "tablet of a virtual machine"],
)
def test_ordinary_devices_go_to_the_permanent_ones(
    shape: Shape, keys: str | None, buttons: str | None
) -> None:
    routes = routes_for(shape, None)
    assert routes is not None
    assert (routes.keys, routes.buttons) == (keys, buttons)


def test_the_range_of_an_absolute_pointer_is_known_for_stretching() -> None:
    routes = routes_for(TABLET, None)
    assert routes is not None
    assert routes.scales == {ABS_X: (0, 1023), ABS_Y: (0, 767)}


def test_a_touchpad_goes_to_a_device_of_its_own_shape_and_begins_at_its_slot() -> None:
    routes = routes_for(TOUCHPAD, "touch-1")
    assert routes is not None
    assert (routes.buttons, routes.absolute, routes.slot) == ("touch-1", "touch-1", 3)
    assert routes_for(TOUCHPAD, None) is None, "without a device of its shape nothing of it is passed on"


def test_the_device_made_for_a_touchpad_keeps_its_axes_and_drops_its_keys() -> None:
    made = touch_shape(TOUCHPAD)
    assert made.axes == TOUCHPAD.axes
    assert made.properties == TOUCHPAD.properties
    assert made.codes[EV_KEY] == (BTN_LEFT, BTN_TOUCH)


def test_a_pen_tablet_keeps_its_wheel_and_names_its_pens() -> None:
    pen = Shape(
        {EV_KEY: (BTN_TOUCH,), EV_REL: (REL_WHEEL,), EV_ABS: (ABS_X,), EV_MSC: (MSC_SERIAL, MSC_SCAN)},
        {ABS_X: (0, 0, 1, 0, 0, 0)},
    )
    made = touch_shape(pen)
    assert (made.codes[EV_REL], made.codes[EV_MSC]) == ((REL_WHEEL,), (MSC_SERIAL,))
    routes = routes_for(pen, "touch-1")
    assert routes is not None
    assert routes.of(Event(EV_REL, REL_WHEEL, 1)) == "touch-1"
    assert not routes.coarse, "it is cloned as it is"


def test_only_a_wheel_without_fine_steps_is_given_them() -> None:
    coarse = Shape({EV_REL: (REL_X, REL_Y, REL_WHEEL)}, {})
    fine = Shape({EV_REL: (REL_X, REL_Y, REL_WHEEL, REL_WHEEL_HI_RES)}, {})
    found = [routes_for(shape, None) for shape in (coarse, fine)]
    assert [REL_WHEEL in routes.coarse for routes in found if routes] == [True, False]


def test_where_a_finger_is_now_makes_no_other_device_and_another_range_does() -> None:
    moved = Shape(TOUCHPAD.codes, {**TOUCHPAD.axes, ABS_MT_SLOT: (0, 0, 4, 0, 0, 0)}, (0,))
    wider = Shape(TOUCHPAD.codes, {**TOUCHPAD.axes, ABS_MT_POSITION_X: (0, 0, 2400, 0, 0, 12)}, (0,))
    assert moved.signature == TOUCHPAD.signature
    assert wider.signature != TOUCHPAD.signature


@pytest.mark.parametrize("codes", [{EV_KEY: (BTN_JOYSTICK,)}, {}], ids=["game controller", "nothing"])
def test_game_controllers_and_devices_without_keys_are_not_passed_on(
    codes: dict[int, tuple[int, ...]],
) -> None:
    assert routes_for(Shape(codes, {}), None) is None
