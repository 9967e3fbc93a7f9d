"""The input broker's main loop: follows the active terminal, hears real devices while it is a strict one."""

import errno
import os
import select
from collections.abc import Iterable
from dataclasses import replace
from typing import Protocol

from . import real
from .asking import SUSPENDED, Asking
from .clones import Clones
from .reopening import FirstWords, Openings
from .router import Delivery, Router
from .shapes import Routes, Shape, is_touch, routes_for, touch_shape


class Terminal(Protocol):
    """``terminal.ActiveTerminal`` on a seat."""

    vt: int

    def fileno(self) -> int: ...

    def moved(self) -> bool: ...

    def activate(self, vt: int) -> None: ...

    def starting(self) -> bool:
        """Whether a display server has its turn to start."""

    def graphic(self, vt: int) -> bool:
        """Whether that terminal is shown, and a desktop is what it shows."""

    def keys_off(self) -> bool:
        """Have the kernel's console not hear the keys that are typed at the terminal that is shown.

        Whether it hears none now.
        """


class Changes(Protocol):
    """``real.Monitor`` on a seat."""

    def fileno(self) -> int: ...

    def changes(self) -> Iterable[tuple[str, str]]: ...


class Devices(Protocol):
    """``real.Devices`` on a seat: what stands at a node of the kernel's."""

    def is_wanted(self, node: str) -> bool: ...

    def shape_of(self, node: str) -> Shape: ...

    def open(self, node: str) -> int: ...

    def deafen(self, fd: int, *, deaf: bool) -> None:
        """Whether the kernel tells this descriptor of Ctrl, Alt and function keys alone.

        Raises OSError where the device is gone.
        """

    def grab(self, fd: int, *, grabbed: bool) -> None:
        """Whether the kernel tells nobody but us what the device says, its own console not either.

        Raises OSError where the device is gone.
        """

    def slot(self, fd: int) -> int:
        """The multi-touch slot that the next contact is said to be of, if nothing else is said."""


class Broker:
    """Tells an environment what is typed while its terminal is shown, if somebody asked for it.

    Else the kernel tells us of Ctrl, Alt and function keys, and of nothing more: what was typed elsewhere is
    in no buffer. What is read is passed on only if the terminal has not moved until then.
    """

    def __init__(
        self,
        clones: Clones,
        router: Router,
        terminal: Terminal,
        devices: Devices,
        openings: Openings,
    ) -> None:
        self.clones, self.router, self.terminal, self.devices = clones, router, terminal, devices
        self.openings = openings
        self.opening: int | None = None
        self.first_words = FirstWords(clones.write)
        self.asking = Asking(graphic=lambda: self.terminal.graphic(self.shown))
        self.shown = terminal.vt
        self.leaving = self.grabbed = False
        self.known: dict[str, Routes] = {}
        """Real devices that are passed on, by node."""
        self.open: dict[str, int] = {}
        self.poll = select.epoll()
        self.readers: dict[int, str] = {}
        self.lights: dict[int, str] = {}
        self.watch_lights()

    def begin(self, monitor: Changes) -> None:
        """Take notice of the terminal and of devices; from the first ``turn`` on, events are passed on.

        Who is in front now was there before a restart.
        """
        self.poll.register(self.terminal.fileno(), select.EPOLLPRI)
        self.poll.register(monitor.fileno(), select.EPOLLIN)
        self.router.switch(self.terminal.vt)
        self.enter()

    def turn(self, monitor: Changes) -> None:
        """Wait until something is ready, and give everything that is one turn: a device that never falls
        silent gets no more than the others."""
        for fd, _ in self.poll.poll(self.timeout()):
            if fd in self.readers:
                self.pass_on(self.readers[fd], fd)
            elif self.terminal.moved():
                self.switch()
            elif fd == self.opening:
                self.opened()
            elif fd == monitor.fileno():
                self.hotplug(monitor)
            elif fd in self.lights:
                self.shine(fd)
        if self.timeout() == 0:
            if self.terminal.moved():
                self.switch()
            elif self.asking.timeout() == 0:
                self.send_back()
            else:
                self.first_words.tell_what_is_due()
        if self.opening is not None and self.timeout() is None:
            self.poll.unregister(self.opening)
            self.opening = None

    def timeout(self) -> float | None:
        """Seconds until something is to be done though nobody says anything."""
        times = (self.first_words.timeout(), self.asking.timeout())
        return min((at for at in times if at is not None), default=None)

    # --- terminals

    def switch(self) -> None:
        """Leave one environment and enter another; until both are done, nothing is read."""
        left, before = self.router.active, self.shown
        self.send(self.router.switch(self.terminal.vt))
        self.clones.silence_all(left, silent=True)
        for node in list(self.open):
            self.deafen(node)
        self.shown, self.leaving = self.terminal.vt, False
        if SUSPENDED not in self.router.terminals:  # else it is an environment's as others are
            self.asking.leave(before, self.shown)
        if self.router.active is None or self.asking.asked_for(self.shown):
            self.asking.admit()
            self.grab_all(grabbed=False)
            self.enter()
            return
        self.grab_all(grabbed=True)
        self.asking.hold_back(before)
        if self.terminal.keys_off():
            self.grab_all(grabbed=False)
        self.first_words.enter(None)
        self.follow(self.router.active)
        self.hear_all()

    def enter(self) -> None:
        """From here on, whose terminal is shown is told everything."""
        entered = self.router.active
        self.first_words.enter(entered)
        self.follow(entered)
        if entered is not None:
            self.terminal.keys_off()
            self.clones.silence_all(entered, silent=False)
            self.hear_all()

    def go(self, vt: int) -> None:
        """Somebody has asked for a terminal while an environment was in front.

        It is silent before it is left: it could type at who comes next. For its own terminal it is told
        again what is typed, as if it had been left and come back.
        """
        if vt != self.shown:
            self.clones.silence_all(self.router.active, silent=True)
            self.leaving = True
            self.terminal.activate(vt)
        elif self.leaving or self.asking.unasked:
            self.switch()

    def opened(self) -> None:
        for device in self.openings.opened():
            if self.asking.unasked and self.router.active is not None:
                self.asking.opened()
                self.first_words.reopened.add((self.router.active, device))
            else:
                self.first_words.opened(device)

    def send_back(self) -> None:
        """An environment that came by itself is left, once its display server has started."""
        if self.asking.is_due(starting=self.terminal.starting()):
            self.terminal.activate(self.asking.before)

    def hear_all(self) -> None:
        for node in list(self.open):
            self.hear(node)

    def grab_all(self, *, grabbed: bool) -> None:
        """Who came by itself hears nothing past us, until its console's keyboard is known to be off: it may
        keep us from opening its terminal. For longer a grab would be in the way: of SysRq, of desktops."""
        nodes = list(self.open) if grabbed or self.grabbed else []
        self.grabbed = grabbed
        for node in nodes:
            self.grab(node)

    def grab(self, node: str) -> None:
        try:
            self.devices.grab(self.open[node], grabbed=self.grabbed)
        except OSError as e:
            self.gone(node, e)

    def follow(self, environment: str | None) -> None:
        """Hear for a while whether the environment opens its devices."""
        if self.opening is not None:
            self.poll.unregister(self.opening)
        self.opening = self.openings.follow(environment)
        if self.opening is not None:
            self.poll.register(self.opening, select.EPOLLIN)

    def deafen(self, node: str) -> None:
        """Have the kernel say no more, and throw away what it has said, but for who is asked for."""
        try:
            self.devices.deafen(self.open[node], deaf=True)
            while data := real.read(self.open[node]):
                self.asking.hear(real.unpacked(data))
        except OSError as e:
            self.gone(node, e)

    def hear(self, node: str) -> None:
        """Be told by the kernel what a device says from here on."""
        fd, routes = self.open[node], self.known[node]
        self.router.add(node, replace(routes, slot=self.devices.slot(fd)) if routes.touch else routes)
        try:
            real.set_lights(fd, self.router.lights())
            self.devices.deafen(fd, deaf=False)
        except OSError as e:
            self.gone(node, e)

    # --- events

    def pass_on(self, node: str, fd: int) -> None:
        try:
            data = real.read(fd)
        except OSError as e:
            self.gone(node, e)
            return
        if self.terminal.moved():
            self.asking.hear(real.unpacked(data))
            self.switch()
            return
        if not self.asking.unasked and (clone := self.router.as_it_is(node, data)) is not None:
            self.first_words.write(clone, data)
            return
        events = real.unpacked(data)
        wanted = self.asking.hear(events)
        self.send(self.router.read(node, events))
        if wanted is not None and self.router.active is not None:
            self.go(wanted)

    def send(self, deliveries: list[Delivery]) -> None:
        if self.asking.unasked:
            return
        for delivery in deliveries:
            self.first_words.write((delivery.environment, delivery.clone), real.packed(delivery.events))

    def shine(self, fd: int) -> None:
        environment = self.lights[fd]
        for event in self.clones.lights(fd):
            if self.router.led(environment, event):
                for device in self.open.values():
                    real.set_lights(device, {event.code: event.value})

    # --- devices

    def hotplug(self, monitor: Changes) -> None:
        for action, node in monitor.changes():
            if action == "lost":
                self.look_around()
            elif action == "remove":
                self.unplug(node)
            else:
                self.plug(node)

    def look_around(self) -> None:
        now = set(real.present())
        for node in set(self.known) - now:
            self.unplug(node)
        for node in sorted(now):
            self.plug(node)

    def plug(self, node: str) -> None:
        if node in self.known or not self.devices.is_wanted(node):
            return
        try:
            shape = self.devices.shape_of(node)
        except OSError:
            return  # it is being unplugged; udev will say so
        routes = routes_for(shape, self.touch_clone(shape))
        if routes is None:
            return
        try:
            fd = self.devices.open(node)
        except OSError:
            return
        print(f"{node} is passed on", flush=True)
        self.known[node], self.open[node], self.readers[fd] = routes, fd, node
        self.poll.register(fd, select.EPOLLIN)
        self.deafen(node)
        if self.grabbed and node in self.open:
            self.grab(node)
        if self.router.active is not None and node in self.open:
            self.hear(node)

    def touch_clone(self, shape: Shape) -> str | None:
        if not is_touch(shape):
            return None
        active = None if self.asking.unasked else self.router.active
        clone = self.clones.touch(touch_shape(shape), active)
        self.watch_lights()
        return clone

    def unplug(self, node: str) -> None:
        if self.known.pop(node, None) is None:
            return
        print(f"{node} is gone", flush=True)
        fd = self.open.pop(node)
        del self.readers[fd]
        self.poll.unregister(fd)
        os.close(fd)
        self.asking.let_go()
        self.send(self.router.remove(node))

    def gone(self, node: str, error: OSError) -> None:
        if error.errno != errno.ENODEV:
            raise error
        self.unplug(node)

    def watch_lights(self) -> None:
        for (environment, _), fd in self.clones.fds.items():
            if fd not in self.lights:
                self.lights[fd] = environment
                self.poll.register(fd, select.EPOLLIN)
