"""How are the virtual devices of the environments kept over a restart, written to and silenced?"""

import os
import time
from typing import Protocol

from . import sdnotify
from .codes import Event
from .real import OURS, read, udev_properties, unpacked
from .shapes import FIXED, MOST_TOUCH, TOUCH, Shape, fixed_shape

UDEV_WAIT = 30.0


class Maker(Protocol):
    """Makes virtual devices: ``uinput.Uinput`` on a seat."""

    def make(self, place: str, shape: Shape) -> int:
        """A new virtual device, which lives as long as this file descriptor is open somewhere."""

    def hold(self, fd: int) -> None:
        """Keep a virtual device's node open, and hear nothing. A desktop that is left closes its devices one
        after the other, and the kernel waits longer where nobody else has one open (input_close_device in
        drivers/input/input.c): a switch with four took 70 ms more."""

    def silence(self, fd: int, *, silent: bool) -> None:
        """A silent device says nothing, whoever writes to it: a reader could inject keystrokes otherwise,
        and the kernel's console takes them as well, on whichever terminal is active."""


class Clones:
    """All virtual devices, by environment and name. A file descriptor held open is a device that exists."""

    def __init__(self, environments: list[str], kept: dict[str, int], maker: Maker) -> None:
        self.maker = maker
        self.fds: dict[tuple[str, str], int] = {}
        self.lost = 0
        """Frames that a virtual device did not take."""
        for word, fd in kept.items():
            environment, _, clone = word.partition(".")
            maker.silence(fd, silent=True)
            # One that is not of this seat any more may still run, and may open these numbers: a real device
            # that came next would have them. So its devices stay until the next boot.
            if environment in environments:
                self.fds[environment, clone] = fd
                maker.hold(fd)
        self.environments = environments
        for environment in environments:
            for clone in FIXED:
                self.ensure(environment, clone, fixed_shape(clone))

    def ensure(self, environment: str, clone: str, shape: Shape) -> bool:
        """Make a virtual device where it is not there from before, silent as yet; whether it was made."""
        if (environment, clone) in self.fds:
            return False
        fd = self.maker.make(f"{environment}/{clone}", shape)
        self.fds[environment, clone] = fd
        self.maker.silence(fd, silent=True)
        self.maker.hold(fd)
        sdnotify.keep(f"{environment}.{clone}", fd)
        return True

    def touch(self, shape: Shape, active: str | None) -> str | None:
        """The virtual device of this shape, which every environment has; None where there are too many."""
        name = f"{TOUCH}-{shape.signature}"
        others = {clone for _, clone in self.fds if clone.startswith(TOUCH) and clone != name}
        if len(others) >= MOST_TOUCH:
            return None
        for environment in self.environments:
            if self.ensure(environment, name, shape) and environment == active:
                self.maker.silence(self.fds[environment, name], silent=False)
        return name

    def write(self, clone: tuple[str, str], data: bytes) -> None:
        """Nobody waits here: where a reader is stuck, the kernel overwrites what it has not read, and what a
        virtual device does not take is lost."""
        try:
            os.write(self.fds[clone], data)
        except OSError as e:
            if not self.lost:
                print(f"{'/'.join(clone)} takes no events: {e.strerror}", flush=True)
            self.lost += 1

    def lights(self, fd: int) -> list[Event]:
        """What a reader has set on a virtual keyboard."""
        return unpacked(read(fd))

    def silence_all(self, environment: str | None, *, silent: bool) -> None:
        for (of, _), fd in self.fds.items():
            if of == environment:
                self.maker.silence(fd, silent=silent)

    def wait_for_udev(self) -> None:
        """Wait until udev has made the links in /dev/seatsmith."""
        deadline = time.monotonic() + UDEV_WAIT
        for environment, clone in self.fds:
            link = f"/dev/{OURS}{environment}/{clone}"
            while udev_properties(link) is None:
                if time.monotonic() > deadline:
                    raise SystemExit(f"udev has not made {link}: are Seatsmith's rules loaded?")
                time.sleep(0.02)
