"""Has a desktop opened its input devices again since its terminal is shown? What is typed until then waits.

Desktops close their devices when their terminal is left, and open them anew when it is shown; what came in
between would be lost. A pause follows: libinput throws away what it finds in a device just after opening it,
and sway takes the keyboard from its windows with its devices, and has to give them another one.
"""

import contextlib
import ctypes
import errno
import os
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol

from .environments import LINKS
from .nodes import NODES

LONGEST = 5.0  # seconds; who has not opened a device by then is not going to
PAUSE = 0.2  # seconds from opening to the first word, at least; on slow machines as long as opening took
MOST = 1 << 16  # bytes that wait for one virtual device

IN_OPEN = 0x20  # linux/inotify.h
RECORD = struct.Struct(
    "@iIII"
)  # struct inotify_event; its last number is the length of the name that follows
BUFFER = 1 << 16

Clone = tuple[str, str]
"""Environment and name of a virtual device."""


class Openings(Protocol):
    """``Nodes`` on a seat."""

    def follow(self, environment: str | None) -> int | None:
        """This environment is in front: what becomes readable where one of its devices is opened.

        None where there is nothing to hear: no environment, or the kernel has no queue left for it.
        """

    def opened(self) -> Iterable[str]:
        """Which of its virtual devices were opened since this was last asked."""


class FirstWords:
    """What waits until a desktop has opened its devices, and is told then by ``tell``.

    Only those wait that have opened a device at an earlier visit: who keeps it open is told at once.
    """

    def __init__(
        self, tell: Callable[[Clone, bytes], None], now: Callable[[], float] = time.monotonic
    ) -> None:
        self.tell, self.now = tell, now
        self.front: str | None = None
        self.since = 0.0
        self.end: float | None = None
        """When everybody has opened his devices who is going to."""
        self.reopened: set[Clone] = set()
        self.due: dict[Clone, float] = {}
        self.words: dict[Clone, bytearray] = {}

    def enter(self, environment: str | None) -> None:
        """Another terminal is shown. What still waits for the environment that was left is nobody's."""
        self.since = self.now()
        end = self.since + LONGEST
        self.front, self.end = environment, None if environment is None else end
        self.words.clear()
        self.due = {clone: end for clone in self.reopened if clone[0] == environment}
        self.reopened.difference_update(self.due)  # until it does so this time

    def write(self, clone: Clone, data: bytes) -> None:
        if clone not in self.due:
            self.tell(clone, data)
            return
        waiting = self.words.setdefault(clone, bytearray())
        waiting += data
        if len(waiting) > MOST:
            self.flush(clone)

    def opened(self, device: str) -> None:
        """The environment in front has opened one of its virtual devices."""
        assert self.front is not None and self.end is not None
        clone = (self.front, device)
        self.reopened.add(clone)
        if clone in self.due:
            now = self.now()
            self.due[clone] = min(now + max(PAUSE, now - self.since), self.end)

    def timeout(self) -> float | None:
        """Seconds until something is to be told or the wait is over; None where it is."""
        return None if self.end is None else max(0.0, min([self.end, *self.due.values()]) - self.now())

    def tell_what_is_due(self) -> None:
        now = self.now()
        for clone in [clone for clone, at in self.due.items() if at <= now]:
            self.flush(clone)
        if self.end is not None and self.end <= now:
            self.end = None

    def flush(self, clone: Clone) -> None:
        del self.due[clone]
        if words := self.words.pop(clone, None):
            self.tell(clone, bytes(words))


class Nodes:
    """Device nodes of the environments, of which the kernel says when one is opened (inotify(7)).

    Each environment has a queue of its own: one that opens its nodes again and again fills no other's. It is
    made once and kept: root in a container's user namespace takes queues from those that the host's root may
    have, and can use all of them up (kernel/ucount.c). For whom there was none, there is nothing to hear.
    """

    def __init__(self, environments: Iterable[str], place: Path = NODES, links: Path = LINKS) -> None:
        self.place, self.links = place, links
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.environments = tuple(environments)
        self.queues: dict[str, int] = {}
        self.watches: dict[str, int] = {}
        self.front = -1
        self.devices: dict[str, str] = {}
        """Virtual devices of the environment in front, by node."""
        for environment in self.environments:
            self.watch(environment)

    def follow(self, environment: str | None) -> int | None:
        for other in self.environments:
            if other != environment:
                self.forget(other)
                self.watch(other)
        front = None if environment is None else self.watch(environment)
        if environment is None or front is None:
            return None
        self.front = front
        self.devices = {link.resolve().name: link.name for link in (self.links / environment).glob("*")}
        return self.front

    def opened(self) -> Iterator[str]:
        with contextlib.suppress(BlockingIOError):
            for name in names(os.read(self.front, BUFFER)):
                if name in self.devices:
                    yield self.devices[name]

    def forget(self, environment: str) -> None:
        """What it has opened until now. Meanwhile nothing is added, so that this ends."""
        queue = self.queues.get(environment)
        if queue is None:
            return
        if (watch := self.watches.pop(environment, None)) is not None:
            self.libc.inotify_rm_watch(queue, watch)  # fails where the kernel did so, with the directory
        with contextlib.suppress(BlockingIOError):
            while os.read(queue, BUFFER):
                pass

    def watch(self, environment: str) -> int | None:
        """Its queue; None where the kernel gives none. To watch a directory twice changes nothing, and each
        start of an environment makes another one."""
        queue = self.queues.get(environment)
        if queue is None:
            queue = int(self.libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
            if queue < 0:
                return None
            self.queues[environment] = queue
        path = os.fsencode(self.place / environment / "input")
        watch = int(self.libc.inotify_add_watch(queue, path, IN_OPEN))
        heard = watch >= 0 or ctypes.get_errno() == errno.ENOENT
        before = self.watches.pop(environment, watch)
        if before != watch:  # a container that still runs may keep its directory
            self.libc.inotify_rm_watch(queue, before)
        if watch >= 0:
            self.watches[environment] = watch
        return queue if heard else None


def names(records: bytes) -> Iterator[str]:
    """The names of what was opened, from whole records of inotify."""
    at = 0
    while at < len(records):
        length = RECORD.unpack_from(records, at)[3]
        at += RECORD.size + length
        yield records[at - length : at].rstrip(b"\0").decode(errors="replace")
