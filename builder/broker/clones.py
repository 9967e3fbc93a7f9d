"""How are the virtual devices of the environments made, kept over a restart, written to and silenced?"""

import fcntl
import os
import time
from pathlib import Path

import evdev

from . import sdnotify
from .codes import EV_ABS, Event
from .real import BATCH, EVENT, OURS, packed, udev_properties
from .router import Delivery
from .shapes import FIXED, MOST_TOUCH, TOUCH, Shape, fixed_shape

UINPUT = "/dev/uinput"
SYSFS = Path("/sys/devices/virtual/input")
UI_GET_SYSNAME = (2 << 30) | (64 << 16) | (ord("U") << 8) | 44  # linux/uinput.h
UDEV_WAIT = 10.0


class Clones:
    """All virtual devices, by environment and name. A file descriptor held open is a device that exists."""

    def __init__(self, environments: list[str], kept: dict[str, int]) -> None:
        self.fds: dict[tuple[str, str], int] = {}
        for word, fd in kept.items():
            environment, _, clone = word.partition(".")
            if environment in environments:
                self.fds[environment, clone] = fd
            else:
                sdnotify.forget(word)
                os.close(fd)
        self.environments = environments
        for environment in environments:
            for clone in FIXED:
                self.ensure(environment, clone, fixed_shape(clone))

    def ensure(self, environment: str, clone: str, shape: Shape) -> None:
        """Make a virtual device where it is not there from before, silent as yet."""
        if (environment, clone) not in self.fds:
            fd = make(f"{environment}/{clone}", shape)
            self.fds[environment, clone] = fd
            sdnotify.keep(f"{environment}.{clone}", fd)
        self.silence(environment, clone, silent=True)

    def touch(self, shape: Shape) -> str | None:
        """The virtual device of this shape, which every environment has; None where there are too many."""
        name = f"{TOUCH}-{shape.signature}"
        others = {clone for _, clone in self.fds if clone.startswith(TOUCH) and clone != name}
        if len(others) >= MOST_TOUCH:
            return None
        for environment in self.environments:
            self.ensure(environment, name, shape)
        return name

    def write(self, delivery: Delivery) -> None:
        """The kernel never lets a write to uinput wait: a stuck reader loses events, and nobody else."""
        os.write(self.fds[delivery.environment, delivery.clone], packed(delivery.events))

    def lights(self, fd: int) -> list[Event]:
        """What a reader has set on a virtual keyboard."""
        try:
            data = os.read(fd, BATCH)
        except BlockingIOError:
            return []
        return [Event(kind, code, value) for _, _, kind, code, value in EVENT.iter_unpack(data)]

    def silence(self, environment: str, clone: str, *, silent: bool) -> None:
        """A silent device says nothing, whoever writes to it: a reader could inject keystrokes otherwise,
        and the kernel's console takes them as well, on whichever terminal is active."""
        folder = SYSFS / sysname(self.fds[environment, clone])
        (folder / "inhibited").write_text("1" if silent else "0")

    def silence_all(self, environment: str | None, *, silent: bool) -> None:
        for of, clone in self.fds:
            if of == environment:
                self.silence(of, clone, silent=silent)

    def wait_for_udev(self) -> None:
        """Wait until udev has made the links in /dev/seatsmith."""
        deadline = time.monotonic() + UDEV_WAIT
        for environment, clone in self.fds:
            link = f"/dev/{OURS}{environment}/{clone}"
            while udev_properties(link) is None:
                if time.monotonic() > deadline:
                    raise SystemExit(f"udev has not made {link}: are Seatsmith's rules loaded?")
                time.sleep(0.02)


def make(place: str, shape: Shape) -> int:
    """A new virtual device; the file descriptor that keeps it."""
    events: dict[int, list[object]] = {kind: list(codes) for kind, codes in shape.codes.items()}
    if EV_ABS in events:
        events[EV_ABS] = [(code, evdev.AbsInfo(*shape.axes[code])) for code in shape.codes[EV_ABS]]
    device = evdev.UInput(
        events,
        name=f"Seatsmith {place.replace('/', ' ')}",
        vendor=shape.vendor,
        product=shape.product,
        bustype=evdev.ecodes.BUS_VIRTUAL,
        devnode=UINPUT,
        phys=f"{OURS}{place}",
        input_props=list(shape.properties),
    )
    fd = os.dup(device.fd)
    os.set_blocking(fd, False)
    if device.device is not None:
        device.device.close()
    device.fd = -1  # closing it would take the device away: the copy keeps it
    return fd


def sysname(fd: int) -> str:
    buffer = bytearray(64)
    fcntl.ioctl(fd, UI_GET_SYSNAME, buffer)
    return buffer.split(b"\0", 1)[0].decode()
