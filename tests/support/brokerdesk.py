"""What does the input broker work with where there are no devices? Sockets, in place of all of them."""

import os
import select
import socket
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from builder.broker.asking import HEARD
from builder.broker.clones import Clones
from builder.broker.codes import (
    ABS_MT_SLOT,
    ALT,
    EV_KEY,
    EV_LED,
    EV_REL,
    EVENT,
    FUNCTION_KEYS,
    REL_X,
    REL_Y,
    REPORT,
    Event,
)
from builder.broker.real import packed
from builder.broker.router import Router
from builder.broker.service import Broker
from builder.broker.shapes import Shape

FUNCTION_KEY = {vt: code for code, vt in FUNCTION_KEYS.items()}
TERMINALS = {8: "work", 9: "guest"}
BOARD = Shape({EV_KEY: tuple(range(1, 100))}, {})
MOUSE = Shape({EV_KEY: (0x110,), EV_REL: (REL_X, REL_Y)}, {})


class FakeTerminal:
    """Moves when it is told to, or by itself at the so-many-th time that it is asked."""

    def __init__(self, vt: int) -> None:
        self.vt = self.now = vt
        self.changed = False
        self.event = os.eventfd(0, os.EFD_NONBLOCK)
        self.asked: list[int] = []
        self.off: list[int] = []
        self.is_starting = self.is_graphic = self.keeps_out = False
        self.moves_when_asked: deque[int | None] = deque()

    def fileno(self) -> int:
        return self.event

    def go(self, vt: int) -> None:
        """Move, of which the broker knows when it asks next, also if we are back then."""
        self.changed |= vt != self.now
        self.now = vt

    def moved(self) -> bool:
        if self.moves_when_asked and (to := self.moves_when_asked.popleft()) is not None:
            self.go(to)
        moved, self.changed, self.vt = self.changed, False, self.now
        return moved

    def activate(self, vt: int) -> None:
        self.asked.append(vt)

    def starting(self) -> bool:
        return self.is_starting

    def graphic(self, vt: int) -> bool:
        return vt == self.now and self.is_graphic

    def keys_off(self) -> bool:
        self.off.append(self.vt)
        return not self.keeps_out


class FakeChanges:
    """udev's messages."""

    def __init__(self) -> None:
        self.event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_SEMAPHORE)
        self.pending: list[tuple[str, str]] = []

    def fileno(self) -> int:
        return self.event

    def tell(self, action: str, node: str) -> None:
        self.pending.append((action, node))
        os.eventfd_write(self.event, 1)

    def changes(self) -> Iterable[tuple[str, str]]:
        while self.pending:
            os.eventfd_read(self.event)
            yield self.pending.pop(0)


@dataclass
class FakeMaker:
    """Virtual devices whose readers are sockets."""

    readers: dict[str, socket.socket] = field(default_factory=dict)
    places: dict[int, str] = field(default_factory=dict)
    shapes: dict[str, Shape] = field(default_factory=dict)
    silent: dict[str, bool] = field(default_factory=dict)
    held: set[int] = field(default_factory=set)

    def make(self, place: str, shape: Shape) -> int:
        ours, reader = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        reader.setblocking(False)
        self.readers[place], self.shapes[place] = reader, shape
        fd = ours.detach()
        self.places[fd] = place
        return fd

    def hold(self, fd: int) -> None:
        self.held.add(fd)

    def silence(self, fd: int, *, silent: bool) -> None:
        self.silent[self.places[fd]] = silent

    def read(self, place: str) -> list[Event]:
        """What a reader has been told, without the ends of frames."""
        found = []
        while True:
            try:
                data = self.readers[place].recv(1 << 17)
            except BlockingIOError:
                return [event for event in found if event != REPORT]
            found += [Event(kind, code, value) for _, _, kind, code, value in EVENT.iter_unpack(data)]


@dataclass
class FakeDevices:
    """Real devices, by node; ``ends`` is where their events are written."""

    shapes: dict[str, Shape] = field(default_factory=dict)
    ends: dict[str, socket.socket] = field(default_factory=dict)
    nodes: dict[int, str] = field(default_factory=dict)
    deaf: dict[str, bool] = field(default_factory=dict)
    grabbed: set[str] = field(default_factory=set)

    def is_wanted(self, node: str) -> bool:
        return node in self.shapes

    def shape_of(self, node: str) -> Shape:
        return self.shapes[node]

    def open(self, node: str) -> int:
        reading, end = socket.socketpair()
        reading.setblocking(False)
        end.setblocking(False)
        self.ends[node], fd = end, reading.detach()
        self.nodes[fd], self.deaf[node] = node, False
        return fd

    def deafen(self, fd: int, *, deaf: bool) -> None:
        self.deaf[self.nodes[fd]] = deaf

    def grab(self, fd: int, *, grabbed: bool) -> None:
        (self.grabbed.add if grabbed else self.grabbed.discard)(self.nodes[fd])

    def slot(self, fd: int) -> int:
        return self.shapes[self.nodes[fd]].axes[ABS_MT_SLOT][0]


class FakeOpenings:
    """What desktops open of their virtual devices."""

    def __init__(self) -> None:
        self.event = os.eventfd(0, os.EFD_NONBLOCK)
        self.front: str | None = None
        self.pending: list[str] = []

    def follow(self, environment: str | None) -> int | None:
        self.front = environment
        self.pending.clear()
        return None if environment is None else self.event

    def open(self, device: str) -> None:
        """The environment in front opens a device."""
        self.pending.append(device)
        os.eventfd_write(self.event, 1)

    def opened(self) -> Iterable[str]:
        os.eventfd_read(self.event)
        found, self.pending = self.pending, []
        return found


class Desk:
    """A broker with two environments and no kernel."""

    def __init__(self, vt: int = 8) -> None:
        self.terminal, self.monitor, self.maker = FakeTerminal(vt), FakeChanges(), FakeMaker()
        self.devices = FakeDevices()
        clones = Clones(list(TERMINALS.values()), {}, self.maker)
        self.openings = FakeOpenings()
        self.broker = Broker(clones, Router(TERMINALS), self.terminal, self.devices, self.openings)
        self.now = 0.0
        self.broker.first_words.now = self.broker.asking.now = lambda: self.now
        self.broker.begin(self.monitor)

    def plug(self, node: str, shape: Shape) -> None:
        self.devices.shapes[node] = shape
        self.monitor.tell("add", node)
        self.turn()

    def lights(self, node: str) -> dict[int, int]:
        """Which lights of a device the broker has switched since it was last asked."""
        try:
            data = self.devices.ends[node].recv(1 << 16)
        except BlockingIOError:
            return {}
        return {code: value for _, _, kind, code, value in EVENT.iter_unpack(data) if kind == EV_LED}

    def turn(self) -> None:
        self.broker.turn(self.monitor)

    def turn_if_ready(self) -> None:
        if select.select([self.broker.poll], [], [], 0)[0]:
            self.turn()

    def pull(self, node: str) -> None:
        """Pull a device out, with nothing left in it that the broker wrote."""
        self.lights(node)
        self.devices.ends.pop(node).close()

    def says(self, node: str, *events: Event) -> None:
        if self.devices.deaf[node]:
            events = tuple(event for event in events if event.kind == EV_KEY and event.code in HEARD)
        if events:
            self.devices.ends[node].sendall(packed((*events, REPORT)))

    def switch(self, vt: int) -> None:
        """Somebody presses the function key of a terminal, and it comes."""
        self.broker.asking.hear([Event(EV_KEY, code, 1) for code in (ALT[0], FUNCTION_KEY[vt])])
        self.broker.asking.hear([Event(EV_KEY, ALT[0], 0)])
        self.comes(vt)

    def comes(self, vt: int) -> None:
        """A terminal comes to the front, whether somebody asked for it or not."""
        self.terminal.go(vt)
        self.notice()

    def notice(self) -> None:
        """What the loop does when the kernel tells of another terminal."""
        if self.broker.terminal.moved():
            self.broker.switch()

    def close(self) -> None:
        for fd in [*self.broker.open.values(), *self.broker.clones.fds.values()]:
            os.close(fd)
        for end in [*self.devices.ends.values(), *self.maker.readers.values()]:
            end.close()
        self.broker.poll.close()
        os.close(self.terminal.event)
        os.close(self.monitor.event)
        os.close(self.openings.event)
