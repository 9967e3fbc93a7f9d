"""Which virtual devices does an environment have, and which of them serves a given real device?

Three never go away: keyboard, mouse and pointer (absolute, as virtual machines have). A touchpad, touch
screen or pen tablet has axes of its own, so it gets a virtual device of exactly its shape, at most
``MOST_TOUCH``.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from .codes import (
    ABS_MT_POSITION_X,
    ABS_MT_SLOT,
    ABS_X,
    ABS_Y,
    BTN_DIGI,
    BTN_JOYSTICK,
    BTN_LEFT,
    BTN_TASK,
    BTN_TOOL_PEN,
    BTN_TOUCH,
    EV_ABS,
    EV_KEY,
    EV_LED,
    EV_MSC,
    EV_REL,
    FINE_WHEELS,
    HOST_KEYS,
    KEY_ESC,
    KEY_TOP,
    LEDS,
    MSC_SERIAL,
    MSC_TIMESTAMP,
    REL_HWHEEL,
    REL_HWHEEL_HI_RES,
    REL_WHEEL,
    REL_WHEEL_HI_RES,
    REL_X,
    REL_Y,
    TRANSLATED,
    Event,
    is_button,
)

KEYBOARD, MOUSE, POINTER, TOUCH = "keyboard", "mouse", "pointer", "touch"
FIXED = (KEYBOARD, MOUSE, POINTER)
MOST_TOUCH = 4
BUS_VIRTUAL = 6
TOP = 32767

# struct input_absinfo: value, minimum, maximum, fuzz, flat, resolution
Axis = tuple[int, int, int, int, int, int]


@dataclass(frozen=True)
class Shape:
    """What a device can say: event types with their codes, ranges of absolute axes, and input properties."""

    codes: Mapping[int, tuple[int, ...]]
    axes: Mapping[int, Axis]
    properties: tuple[int, ...] = ()
    vendor: int = 0x1209
    product: int = 0
    bus: int = BUS_VIRTUAL
    version: int = 0
    name: str = ""
    """What programs know the real device by; a virtual one without has the name of its place."""

    @property
    def signature(self) -> str:
        """Equal for devices that one virtual device can stand for."""
        ranges = sorted((code, axis[1:]) for code, axis in self.axes.items())
        codes = sorted((kind, sorted(found)) for kind, found in self.codes.items())
        identity = (self.bus, self.vendor, self.product, self.version)
        said = repr((codes, ranges, sorted(self.properties), *identity))
        return hashlib.sha256(said.encode()).hexdigest()[:12]

    def has(self, kind: int, *codes: int) -> bool:
        return set(codes) <= set(self.codes.get(kind, ()))


@dataclass(frozen=True)
class Routes:
    """Which virtual devices the events of one real device go to; None: to none."""

    keys: str | None = None
    buttons: str | None = None
    relative: str | None = None
    absolute: str | None = None
    scales: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    """Ranges of absolute axes that are stretched to that of the virtual device."""
    coarse: frozenset[int] = frozenset()
    """Wheels of which the real device does not tell the fine steps that the virtual one has."""
    touch: bool = False
    slot: int = 0
    """The multi-touch slot that the device was at when it was opened."""

    def of(self, event: Event) -> str | None:
        if event.kind == EV_KEY:
            return self.buttons if is_button(event.code) else self.keys
        if event.kind == EV_REL:
            return self.relative
        if event.kind in (EV_ABS, EV_MSC) and (event.kind == EV_ABS or self.touch):
            return self.absolute
        return None


def keyboard_keys() -> Iterable[int]:
    """Every key but those of the host and SysRq; see codes.py."""
    return (
        k for k in range(KEY_ESC, KEY_TOP) if not is_button(k) and k not in HOST_KEYS | TRANSLATED.keys()
    )


def fixed_shape(clone: str) -> Shape:
    buttons = tuple(range(BTN_LEFT, BTN_TASK + 1))
    wheels = (REL_WHEEL, REL_HWHEEL, REL_WHEEL_HI_RES, REL_HWHEEL_HI_RES)
    if clone == KEYBOARD:
        return Shape({EV_KEY: tuple(keyboard_keys()), EV_LED: LEDS}, {}, product=1)
    if clone == MOUSE:
        return Shape({EV_KEY: buttons, EV_REL: (REL_X, REL_Y, *wheels)}, {}, product=2)
    axis = (0, 0, TOP, 0, 0, 0)
    codes = {EV_KEY: buttons, EV_REL: wheels, EV_ABS: (ABS_X, ABS_Y)}
    return Shape(codes, {ABS_X: axis, ABS_Y: axis}, product=3)


def is_touch(shape: Shape) -> bool:
    """Touchpads, touch screens and pens: everything whose axes mean more than a place on the screen."""
    pen_or_finger = {BTN_TOUCH, BTN_TOOL_PEN} & set(shape.codes.get(EV_KEY, ()))
    return shape.has(EV_ABS, ABS_MT_POSITION_X) or bool(pen_or_finger)


def is_game_controller(shape: Shape) -> bool:
    games = {*range(BTN_JOYSTICK, BTN_DIGI)}
    return not is_touch(shape) and bool(games & set(shape.codes.get(EV_KEY, ())))


def touch_shape(shape: Shape) -> Shape:
    """What of a touch device is passed on: buttons, axes, wheels, and the pen and the time that it names."""
    codes = {
        EV_KEY: tuple(code for code in shape.codes.get(EV_KEY, ()) if is_button(code)),
        EV_ABS: tuple(shape.codes.get(EV_ABS, ())),
        EV_REL: tuple(shape.codes.get(EV_REL, ())),
        EV_MSC: tuple(c for c in shape.codes.get(EV_MSC, ()) if c in (MSC_SERIAL, MSC_TIMESTAMP)),
    }
    return replace(shape, codes={kind: found for kind, found in codes.items() if found})


def routes_for(shape: Shape, touch_clone: str | None) -> Routes | None:
    """Where the events of a real device of this shape go; None where nothing of it is passed on."""
    keys = any(not is_button(code) and code not in HOST_KEYS for code in shape.codes.get(EV_KEY, ()))
    board = KEYBOARD if keys else None
    coarse = frozenset(wheel for wheel, fine in FINE_WHEELS.items() if not shape.has(EV_REL, fine))
    if is_game_controller(shape):
        return None
    if is_touch(shape):
        if touch_clone is None:
            return None
        slot = shape.axes.get(ABS_MT_SLOT, (0, 0, 0, 0, 0, 0))[0]
        return Routes(board, touch_clone, touch_clone, touch_clone, touch=True, slot=slot)
    if shape.has(EV_ABS, ABS_X, ABS_Y):
        scales = {code: shape.axes[code][1:3] for code in (ABS_X, ABS_Y)}
        return Routes(board, POINTER, POINTER, POINTER, scales, coarse)
    if shape.has(EV_REL, REL_X, REL_Y):
        return Routes(board, MOUSE, MOUSE, coarse=coarse)
    return Routes(keys=KEYBOARD) if keys else None
