"""Can it read what is typed elsewhere, or type there: evdev, hidraw, uinput?

linux/input.h, linux/input-event-codes.h, linux/uinput.h; HID Usage Tables, keyboard page.
"""

import contextlib
import fcntl
import os
import struct
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from .calls import Absent, Context, Node, Notes
from .nodes import fixed, opened, use, with_fd

EVENT = struct.Struct("@llHHi")
EV_SYN, EV_KEY = 0, 1
ROWS = ((16, "qwertyuiop"), (30, "asdfghjkl"), (44, "zxcvbnm"))
LETTERS = {first + n: letter for first, row in ROWS for n, letter in enumerate(row)}
CODES = {letter: code for code, letter in LETTERS.items()}
UI_SET_EVBIT, UI_SET_KEYBIT, UI_DEV_SETUP = 0x40045564, 0x40045565, 0x405C5503
UI_DEV_CREATE, UI_DEV_DESTROY = 0x5501, 0x5502
SETUP = struct.Struct("@4H80sI")  # struct uinput_setup
UINPUT = fixed("/dev/uinput", 10, 223)
HID_A = 4  # usage of the letter a; the others follow


def pressed_letters(data: bytes) -> str:
    """Letters that went down, in what an event device says."""
    whole = len(data) - len(data) % EVENT.size
    rows = EVENT.iter_unpack(data[:whole])
    return "".join(
        LETTERS.get(code, "") for _, _, kind, code, value in rows if kind == EV_KEY and value == 1
    )


def reported_letters(data: bytes) -> str:
    """Letters that went down, in reports of the boot protocol (HID 1.11, appendix B.1): eight bytes each."""
    found, before = "", b""
    for start in range(0, len(data) - 7, 8):
        keys = data[start + 2 : start + 8]
        fresh = (key for key in keys if key not in before)
        found += "".join(chr(ord("a") + key - HID_A) for key in fresh if HID_A <= key < HID_A + 26)
        before = keys
    return found


def given() -> list[str]:
    """Event devices that this environment sees."""
    return sorted(str(path) for path in Path("/dev/input").glob("event*"))


def events(word: str) -> Iterator[bytes]:
    """What a keyboard says when somebody types this."""
    for letter in word:
        for value in (1, 0):
            yield EVENT.pack(0, 0, EV_KEY, CODES[letter], value) + EVENT.pack(0, 0, EV_SYN, 0, 0)


def type_at(fd: int, word: str) -> str:
    for event in events(word):
        os.write(fd, event)
        time.sleep(0.01)
    return f"wrote the keys of {word}"


def type_into(path: str, word: str) -> object:
    return with_fd(opened(path, os.O_WRONLY), lambda fd: type_at(fd, word))


def inject_given(notes: Notes, context: Context) -> None:
    """Type by writing to the event devices that it was given."""
    word = context.words["inject-given"]
    for path in given():
        notes.attempt(f"write to {path}", partial(type_into, path, word))


def inject_made(notes: Notes, context: Context) -> None:
    """Type by writing to event devices of the seat for which it makes nodes."""
    word = context.words["inject-made"]
    for node in others(context):
        use(notes, context, node, os.O_WRONLY, lambda fd: type_at(fd, word))


def others(context: Context) -> list[Node]:
    """Event devices of the seat; for a container those that it was not given, unless it was given all."""
    mine = set() if context.host else {Path(path).stat().st_rdev for path in given()}
    foreign = [node for node in context.events if os.makedev(node.major, node.minor) not in mine]
    return foreign or context.events


def inject_uinput(notes: Notes, context: Context) -> None:
    """Type by a keyboard of its own making."""
    word = context.words["inject-uinput"]
    use(notes, context, UINPUT, os.O_WRONLY, lambda fd: as_keyboard(fd, word))


def as_keyboard(fd: int, word: str) -> str:
    fcntl.ioctl(fd, UI_SET_EVBIT, EV_KEY)
    for code in LETTERS:
        fcntl.ioctl(fd, UI_SET_KEYBIT, code)
    fcntl.ioctl(fd, UI_DEV_SETUP, SETUP.pack(3, 1, 1, 1, b"seatsmith-probe", 0))
    fcntl.ioctl(fd, UI_DEV_CREATE)
    try:
        time.sleep(1.0)  # until whoever listens has opened it
        said = type_at(fd, word)
        time.sleep(0.5)
    finally:
        with contextlib.suppress(OSError):
            fcntl.ioctl(fd, UI_DEV_DESTROY)
    return said


def hidraws(context: Context) -> list[Node]:
    if not context.hidraws:
        raise Absent("no USB keyboard is plugged in")
    return context.hidraws
