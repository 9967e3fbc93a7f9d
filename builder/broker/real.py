"""Which real input devices has the seat, what does one say, and when does one come or go?"""

import ctypes
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from .asking import HEARD
from .codes import ABS_MT_SLOT, EV_KEY, EV_LED, EV_SYN, EVENT, REPORT, Event
from .environments import DATABASE
from .shapes import Shape

BATCH = 64 * EVENT.size
OURS = "seatsmith/"  # how the physical location of our own virtual devices begins
EVIOCSMASK, EVIOCGRAB, EVIOCGABS = 0x40104593, 0x40044590, 0x80184540  # linux/input.h
MASK = struct.Struct("@IIQ")  # struct input_mask; the mask of type EV_SYN is that of the types
ALL = (1 << 32) - 1
TYPES_SIZE, KEYS_SIZE = 8, 96  # bytes; the kernel takes whole longs alone, and KEY_CNT is 0x300
ALL_KEYS = (1 << KEYS_SIZE * 8) - 1
AXIS = struct.Struct("@6i")  # struct input_absinfo
CLASS = Path("/sys/class/input")

NETLINK_KOBJECT_UEVENT = 15
GROUP_UDEV = 2
HEADER = struct.Struct("=8s4sIII")  # systemd's src/libsystemd/sd-device/device-monitor.c
MAGIC = b"libudev\0" + 0xFEEDCAFE.to_bytes(4, "big")
CREDENTIALS = struct.Struct("=iII")


def read(fd: int) -> bytes:
    """What a device says; empty where it has nothing to say. Raises OSError where it is gone."""
    try:
        data = os.read(fd, BATCH)
    except BlockingIOError:
        return b""
    if not data:
        raise OSError(errno.ENODEV, "the device ended")
    return data


def unpacked(data: bytes) -> list[Event]:
    return [Event(kind, code, value) for _, _, kind, code, value in EVENT.iter_unpack(data)]


def packed(events: tuple[Event, ...]) -> bytes:
    return b"".join(EVENT.pack(0, 0, *event) for event in events)


def udev_properties(node: str) -> dict[str, str] | None:
    """What udev's database says of a device, or None as long as udev has not seen it."""
    try:
        number = Path(node).stat().st_rdev
        text = (DATABASE / f"c{os.major(number)}:{os.minor(number)}").read_text()
    except OSError:
        return None
    pairs = (line[2:].partition("=") for line in text.splitlines() if line.startswith("E:"))
    return {key: value for key, _, value in pairs}


def physical_place(name: str) -> str:
    try:
        return (CLASS / name / "device/phys").read_text().strip()
    except OSError:
        return ""


def is_wanted(node: str) -> bool:
    """Input devices of the main seat, as udev says; not our own ones, nor sensors."""
    found = udev_properties(node)
    if found is None or found.get("ID_INPUT") != "1" or found.get("ID_SEAT", "seat0") != "seat0":
        return False
    if found.get("ID_INPUT_ACCELEROMETER") or found.get("LIBINPUT_IGNORE_DEVICE") == "1":
        return False
    return not physical_place(Path(node).name).startswith(OURS)


def present() -> Iterator[str]:
    """Nodes of the devices that are there now."""
    for entry in sorted(CLASS.glob("event*")):
        node = f"/dev/input/{entry.name}"
        if is_wanted(node):
            yield node


def deafen(fd: int, *, deaf: bool, but: Iterable[int] = ()) -> None:
    """Have the kernel tell this descriptor nothing ``but`` of these keys, by masks of event types and keys.

    Opening at each switch instead takes 50 ms for a USB mouse (drivers/hid/usbhid/hid-core.c), and closing
    waits for all processors.
    """
    keys = sum(1 << code for code in but) if deaf else ALL_KEYS
    types = ALL if not deaf else 1 << EV_KEY if keys else 0
    for kind, mask, size in ((EV_KEY, keys, KEYS_SIZE), (EV_SYN, types, TYPES_SIZE)):
        codes = (ctypes.c_char * size).from_buffer_copy(mask.to_bytes(size, "little"))
        fcntl.ioctl(fd, EVIOCSMASK, MASK.pack(kind, size, ctypes.addressof(codes)))


class Devices:
    """The kernel's input devices, of which python-evdev says what they can say."""

    def __init__(self, shape_of: Callable[[str], Shape]) -> None:
        self.shape_of = shape_of

    def is_wanted(self, node: str) -> bool:
        return is_wanted(node)

    def open(self, node: str) -> int:
        return os.open(node, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def deafen(self, fd: int, *, deaf: bool) -> None:
        deafen(fd, deaf=deaf, but=HEARD)

    def grab(self, fd: int, *, grabbed: bool) -> None:
        try:
            fcntl.ioctl(fd, EVIOCGRAB, int(grabbed))
        except OSError as e:
            if e.errno not in (errno.EBUSY, errno.EINVAL):  # who else has it keeps it from consoles, too
                raise

    def slot(self, fd: int) -> int:
        axis = bytearray(AXIS.size)
        try:
            fcntl.ioctl(fd, EVIOCGABS + ABS_MT_SLOT, axis)
        except OSError:
            return 0
        value: int = AXIS.unpack(axis)[0]
        return value


def set_lights(fd: int, lights: dict[int, int]) -> None:
    """Let the lights of a keyboard shine; one that has none refuses, and that is fine."""
    if lights:
        events = tuple(Event(EV_LED, code, value) for code, value in sorted(lights.items()))
        try:
            os.write(fd, packed((*events, REPORT)))
        except OSError as e:
            if e.errno not in (errno.EINVAL, errno.ENODEV):
                raise


class Monitor:
    """udevd's messages about input devices."""

    def __init__(self) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        self.socket = socket.socket(socket.AF_NETLINK, kind, NETLINK_KOBJECT_UEVENT)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.socket.bind((0, GROUP_UDEV))

    def fileno(self) -> int:
        return self.socket.fileno()

    def changes(self) -> Iterator[tuple[str, str]]:
        """Action and node of each; an overrun of the kernel's buffer shows as ("lost", "")."""
        while True:
            try:
                data, ancillary, flags, (_, groups) = self.socket.recvmsg(
                    1 << 16, socket.CMSG_SPACE(CREDENTIALS.size)
                )
            except BlockingIOError:
                return
            except OSError as e:
                if e.errno != errno.ENOBUFS:
                    raise
                yield "lost", ""
                continue
            by_root = any(
                level == socket.SOL_SOCKET
                and kind == socket.SCM_CREDENTIALS
                and CREDENTIALS.unpack_from(credentials)[1] == 0
                for level, kind, credentials in ancillary
            )
            if by_root and groups == GROUP_UDEV and not flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                found = message_properties(data)
                node = found.get("DEVNAME", "")
                if found.get("SUBSYSTEM") == "input" and node.startswith("/dev/input/event"):
                    yield found.get("ACTION", ""), node


def message_properties(data: bytes) -> dict[str, str]:
    """The properties in a message of udevd; none where it is not one."""
    if len(data) < HEADER.size or not data.startswith(MAGIC):
        return {}
    _, _, _, offset, length = HEADER.unpack_from(data)
    body = data[offset : offset + length].decode(errors="replace")
    pairs = (pair.partition("=") for pair in body.split("\0") if "=" in pair)
    return {key: value for key, _, value in pairs}
