"""How does the kernel make a virtual input device, and what can a real one say? What needs python-evdev."""

import fcntl
import os
from pathlib import Path

import evdev

from .codes import EV_ABS, EV_SYN
from .real import OURS, deafen
from .shapes import Shape

UINPUT = "/dev/uinput"
SYSFS = Path("/sys/devices/virtual/input")
LONGEST_NAME = 79  # linux/uinput.h: UINPUT_MAX_NAME_SIZE, with a zero
UI_GET_SYSNAME = (2 << 30) | (64 << 16) | (ord("U") << 8) | 44  # linux/uinput.h


class Uinput:
    """The kernel's virtual devices."""

    def __init__(self) -> None:
        self.switches: dict[int, str] = {}
        self.held: list[int] = []

    def make(self, place: str, shape: Shape) -> int:
        events: dict[int, list[object]] = {kind: list(codes) for kind, codes in shape.codes.items()}
        if EV_ABS in events:
            events[EV_ABS] = [(code, evdev.AbsInfo(*shape.axes[code])) for code in shape.codes[EV_ABS]]
        device = evdev.UInput(
            events,
            name=(shape.name or f"Seatsmith {place.replace('/', ' ')}")[:LONGEST_NAME],
            vendor=shape.vendor,
            product=shape.product,
            version=shape.version,
            bustype=shape.bus,
            devnode=UINPUT,
            phys=f"{OURS}{place}",
            input_props=list(shape.properties),
        )
        fd: int = device.fd  # stays open: nothing calls the object's close()
        os.set_blocking(fd, False)
        if device.device is not None:
            device.device.close()
        return fd

    def hold(self, fd: int) -> None:
        for node in (SYSFS / sysname(fd)).glob("event*"):
            held = os.open(f"/dev/input/{node.name}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            deafen(held, deaf=True)
            self.held.append(held)

    def silence(self, fd: int, *, silent: bool) -> None:
        if fd not in self.switches:
            self.switches[fd] = str(SYSFS / sysname(fd) / "inhibited")
        switch = os.open(self.switches[fd], os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(switch, b"1" if silent else b"0")
        finally:
            os.close(switch)


def sysname(fd: int) -> str:
    buffer = bytearray(64)
    fcntl.ioctl(fd, UI_GET_SYSNAME, buffer)
    return buffer.split(b"\0", 1)[0].decode()


def shape_of(node: str) -> Shape:
    """What a device can say, asked of the kernel."""
    device = evdev.InputDevice(node)
    try:
        codes: dict[int, tuple[int, ...]] = {}
        axes = {}
        for kind, found in device.capabilities(absinfo=True).items():
            if kind == EV_ABS:
                axes = {code: tuple(info) for code, info in found}
                codes[kind] = tuple(axes)
            elif kind != EV_SYN:
                codes[kind] = tuple(found)
        properties = tuple(device.input_props())
        bus, vendor, product, version = device.info
        return Shape(codes, axes, properties, vendor, product, bus, version, device.name)
    finally:
        device.close()
