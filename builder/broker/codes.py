"""How are input events written (linux/input-event-codes.h), and which keys are special here?"""

import struct
from typing import NamedTuple

EVENT = struct.Struct("@llHHi")  # struct input_event
EV_SYN, EV_KEY, EV_REL, EV_ABS, EV_MSC, EV_SW, EV_LED, EV_SND, EV_REP = 0, 1, 2, 3, 4, 5, 17, 18, 20
KEY_OK = 0x160
BTN_MISC, BTN_LEFT, BTN_TASK, BTN_JOYSTICK, BTN_GEAR_UP = 0x100, 0x110, 0x117, 0x120, 0x151
BTN_TRIGGER_HAPPY, BTN_TRIGGER_HAPPY_LAST = 0x2C0, 0x2E7
BTN_DIGI = 0x140
BTN_TOUCH, BTN_TOOL_PEN = 0x14A, 0x140
BTN_GAMEPAD, BTN_THUMBR = 0x130, 0x13E
KEY_TOP = 0x2FF
KEY_ESC = 1
REL_X, REL_Y, REL_HWHEEL, REL_WHEEL, REL_WHEEL_HI_RES, REL_HWHEEL_HI_RES = 0, 1, 6, 8, 11, 12
ABS_X, ABS_Y = 0, 1
ABS_MT_SLOT, ABS_MT_POSITION_X, ABS_MT_TRACKING_ID = 0x2F, 0x35, 0x39
MSC_SERIAL, MSC_TIMESTAMP = 0, 5
FINE = 120  # steps of a high-resolution wheel in one of an ordinary wheel
FINE_WHEELS = {REL_WHEEL: REL_WHEEL_HI_RES, REL_HWHEEL: REL_HWHEEL_HI_RES}
LEDS = (0, 1, 2)  # Num Lock, Caps Lock, Scroll Lock
SYN_REPORT, SYN_DROPPED = 0, 3
PRESSED, RELEASED = 1, 0
FIRST_MT, LAST_MT = ABS_MT_SLOT, 0x3D

# The power keys are the host's (logind acts on them). SysRq commands the kernel, and a container can press
# keys of its own device; as KEY_PRINT the same key still makes pictures of the screen.
KEY_SYSRQ, KEY_PRINT = 99, 210
TRANSLATED = {KEY_SYSRQ: KEY_PRINT}
CONTROL, ALT = (29, 97), (56, 100)
FUNCTION_KEYS = {**{58 + n: n for n in range(1, 11)}, 87: 11, 88: 12}  # F1 and on: the terminal they mean
POWER_KEYS = frozenset({116, 142, 143, 205, 356, 408})  # power, sleep, wakeup, suspend, power2, restart
# The kernel itself switches radios by these (net/rfkill/input.c): told twice, it would switch them twice.
RADIO_KEYS = frozenset({237, 238, 239, 246, 247})  # Bluetooth, WLAN, UWB, WWAN, all
HOST_KEYS = POWER_KEYS | RADIO_KEYS


class Event(NamedTuple):
    """One input event, as linux/input.h has it, without its time."""

    kind: int
    code: int
    value: int


REPORT = Event(EV_SYN, SYN_REPORT, 0)


def is_button(code: int) -> bool:
    return BTN_MISC <= code < KEY_OK or BTN_TRIGGER_HAPPY <= code <= BTN_TRIGGER_HAPPY_LAST
