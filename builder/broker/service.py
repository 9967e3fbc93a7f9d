"""The input broker's main loop: follows the active terminal, reads real devices while it is a strict one."""

import os
import select
import sys

from . import real, sdnotify
from .clones import Clones
from .environments import load_environments
from .real import Monitor
from .router import Delivery, Router
from .shapes import Routes, Shape, is_touch, routes_for, touch_shape

ACTIVE = "/sys/class/tty/tty0/active"


class ActiveTerminal:
    """Which virtual terminal is active; the kernel tells of changes (sysfs_notify, drivers/tty/vt/vt.c)."""

    def __init__(self, path: str = ACTIVE) -> None:
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.changed = select.poll()
        self.changed.register(self.fd, select.POLLPRI)
        self.vt = self.read()

    def fileno(self) -> int:
        return self.fd

    def read(self) -> int:
        return int(os.pread(self.fd, 32, 0).strip().removeprefix(b"tty"))

    def moved(self) -> bool:
        """Whether the terminal changed since ``vt``, be it to another and back."""
        pending = bool(self.changed.poll(0))
        now = self.read()
        moved = pending or now != self.vt
        self.vt = now
        return moved


class Broker:
    """Real devices are open only while a strict environment is active, so what was typed elsewhere is in no
    buffer; what is read is passed on only if the terminal has not moved until after the reading."""

    def __init__(self, clones: Clones, router: Router, terminal: ActiveTerminal) -> None:
        self.clones, self.router, self.terminal = clones, router, terminal
        self.known: dict[str, Routes] = {}
        """Real devices that are passed on, by node."""
        self.open: dict[str, int] = {}
        self.poll = select.epoll()
        self.readers: dict[int, str] = {}
        self.lights: dict[int, str] = {}

    def run(self, monitor: Monitor) -> None:
        self.poll.register(self.terminal.fileno(), select.EPOLLPRI)
        self.poll.register(monitor.fileno(), select.EPOLLIN)
        self.switch()
        while True:
            for fd, _ in self.poll.poll():
                if self.terminal.moved():
                    self.switch()
                    break  # what else was ready belongs to the terminal that was left
                if fd == monitor.fileno():
                    self.hotplug(monitor)
                elif fd in self.lights:
                    self.shine(fd)
                elif fd in self.readers:
                    self.pass_on(self.readers[fd], fd)

    # --- terminals

    def switch(self) -> None:
        """Leave one environment and enter another; until both are done, nothing is read."""
        left = self.router.active
        self.send(self.router.switch(self.terminal.vt))
        self.clones.silence_all(left, silent=True)
        for node in list(self.open):
            self.close(node)
        entered = self.router.active
        if entered is None:
            return
        self.clones.silence_all(entered, silent=False)
        for node in self.known:
            self.begin(node)

    def begin(self, node: str) -> None:
        try:
            fd = real.open_device(node)
        except OSError:
            return  # it is being unplugged; udev will say so
        self.open[node] = fd
        self.readers[fd] = node
        self.router.add(node, self.known[node])
        real.set_lights(fd, self.router.leds.get(self.router.active or "", {}))
        self.poll.register(fd, select.EPOLLIN)

    def close(self, node: str) -> None:
        fd = self.open.pop(node, None)
        if fd is not None:
            del self.readers[fd]
            self.poll.unregister(fd)
            os.close(fd)

    # --- events

    def pass_on(self, node: str, fd: int) -> None:
        try:
            events = real.read_events(fd)
        except OSError:
            self.unplug(node)
            return
        if self.terminal.moved():
            self.switch()
            return
        self.send(self.router.read(node, events))

    def send(self, deliveries: list[Delivery]) -> None:
        for delivery in deliveries:
            self.clones.write(delivery)

    def shine(self, fd: int) -> None:
        environment = self.lights[fd]
        for event in self.clones.lights(fd):
            if self.router.led(environment, event):
                for device in self.open.values():
                    real.set_lights(device, {event.code: event.value})

    # --- devices

    def hotplug(self, monitor: Monitor) -> None:
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
        if node in self.known or not real.is_wanted(node):
            return
        try:
            shape = real.shape_of(node)
        except OSError:
            return
        routes = routes_for(shape, self.touch_clone(shape))
        if routes is None:
            return
        print(f"{node} is passed on", flush=True)
        self.known[node] = routes
        if self.router.active is not None:
            self.begin(node)

    def touch_clone(self, shape: Shape) -> str | None:
        if not is_touch(shape):
            return None
        clone = self.clones.touch(touch_shape(shape))
        self.watch_lights()
        return clone

    def unplug(self, node: str) -> None:
        if self.known.pop(node, None) is None:
            return
        print(f"{node} is gone", flush=True)
        self.close(node)
        self.send(self.router.remove(node))

    def watch_lights(self) -> None:
        for (environment, _), fd in self.clones.fds.items():
            if fd not in self.lights:
                self.lights[fd] = environment
                self.poll.register(fd, select.EPOLLIN)


def main() -> int:
    environments = [e for e in load_environments() if e.input]
    monitor = Monitor()  # listens before we look, so that nothing comes in between
    clones = Clones([e.name for e in environments], sdnotify.kept())
    broker = Broker(clones, Router({e.vt: e.name for e in environments}), ActiveTerminal())
    broker.watch_lights()
    broker.look_around()
    clones.wait_for_udev()
    sdnotify.notify("READY=1")
    try:
        broker.run(monitor)
    except KeyboardInterrupt:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
